//! From an item's bytes to its verdict: decode, alias, turn to UTC, scrub, check.
//!
//! Each step changes the text that the one before left, and most change nothing: then one parse
//! serves them all. Scrubbing comes before checking: behind it there is no raw identity that could
//! be stored, logged or quoted.

use bytes::Bytes;

use super::decode::Decoded;
use super::{Raw, Received, Reject, Source, utc};
use crate::json::Node;
use crate::schema::lint::Warnings;

impl Source {
    /// Judges one item; what passes is handed to `then` with what is sent on and its document.
    pub(super) fn judge<T>(
        &self,
        received: &Received,
        raw: &Raw,
        then: impl FnOnce(Bytes, &Node<'_>, Warnings) -> T,
    ) -> Result<T, Reject> {
        let Decoded { checked, sent } = self.decoded(received, raw)?;
        let document = self.parsed(&checked)?;
        if sent != checked {
            // It was read of the URL, which is signed and travels as it is.
            return self.unscrubbed(received, sent, &document, then);
        }
        let aliases = self.settings.aliases.as_ref();
        match aliases.and_then(|aliases| aliases.apply(&checked, &document)) {
            Some(text) => self.aliased(received, &text, &self.parsed(&text)?, then),
            None => self.aliased(received, &checked, &document, then),
        }
    }

    fn aliased<T>(
        &self,
        received: &Received,
        text: &Bytes,
        document: &Node<'_>,
        then: impl FnOnce(Bytes, &Node<'_>, Warnings) -> T,
    ) -> Result<T, Reject> {
        match if self.settings.utc { utc::in_utc(text, document) } else { None } {
            Some(text) => self.timed(received, &text, &self.parsed(&text)?, then),
            None => self.timed(received, text, document, then),
        }
    }

    fn timed<T>(
        &self,
        received: &Received,
        text: &Bytes,
        document: &Node<'_>,
        then: impl FnOnce(Bytes, &Node<'_>, Warnings) -> T,
    ) -> Result<T, Reject> {
        let profile = self.settings.pii.as_deref().filter(|_| received.caller.raw_identity);
        let Some(scrub) = profile.and_then(|profile| profile.scrub(text, document)) else {
            return self.unscrubbed(received, text.clone(), document, then);
        };
        let document = self.parsed(&scrub.body)?;
        let tell = |violations: &mut _| scrub.tell(violations);
        let mut warnings = self.checked(received, &document, tell)?;
        scrub.warn(&mut warnings);
        Ok(then(scrub.body.clone(), &document, warnings))
    }

    /// Judges a document in which raw members have no business.
    fn unscrubbed<T>(
        &self,
        received: &Received,
        sent: Bytes,
        document: &Node<'_>,
        then: impl FnOnce(Bytes, &Node<'_>, Warnings) -> T,
    ) -> Result<T, Reject> {
        let refuse = |violations: &mut _| {
            if let Some(profile) = &self.settings.pii {
                profile.refuse(document, violations);
            }
        };
        let warnings = self.checked(received, document, refuse)?;
        Ok(then(sent, document, warnings))
    }
}
