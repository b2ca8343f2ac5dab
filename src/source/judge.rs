//! From an item's bytes to its verdict: decode, name, alias, turn to UTC, scrub, check.
//!
//! Each step changes the text that the one before left, and most change nothing: then one parse
//! serves them all. Scrubbing comes before checking: behind it there is no raw identity that could
//! be stored, logged or quoted.

use bytes::Bytes;

use super::decode::Decoded;
use super::names::Names;
use super::{Raw, Received, Reject, Selector, Source, utc};
use crate::json::Node;
use crate::json::spelling::Written;
use crate::schema::lint::Warnings;

/// What an item is judged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be stored: then whoever must sign has signed.
    Store,
    /// To know what would become of it.
    Ask,
}

impl Source {
    /// Judges one item; what passes is handed to `then` with what is sent on and its document.
    pub(super) fn judge<T>(
        &self,
        received: &Received,
        raw: &Raw,
        purpose: Purpose,
        then: impl FnOnce(Bytes, &Node<'_>, Warnings) -> T,
    ) -> Result<T, Reject> {
        // Whoever has not signed is told nothing about the body, unless members of it are signed.
        let is_of_document = self.settings.auth.selectors().any(Selector::is_of_document);
        let is_unsigned = |document: Option<Written<'_>>| {
            let parts = self.parts(received, raw, document);
            purpose == Purpose::Store && !self.settings.auth.is_signed(&parts)
        };
        if !is_of_document && is_unsigned(None) {
            return Err(Reject::Unauthorized);
        }
        let Decoded { checked, sent } = self.decoded(received, raw)?;
        let document = self.parsed(&checked)?;
        let written = Written { root: &document, text: &checked };
        if is_of_document && is_unsigned(Some(written)) {
            return Err(Reject::Unauthorized);
        }
        if sent != checked {
            // It was read of the URL, which is signed and travels as it is.
            return self.unscrubbed(received, sent, &document, then);
        }
        match self.renamed(&checked)? {
            Some(text) => self.named(received, &text, &self.parsed(&text)?, then),
            None => self.named(received, &checked, &document, then),
        }
    }

    /// The text with its members named as the schema does, where that is asked for.
    fn renamed(&self, text: &Bytes) -> Result<Option<Bytes>, Reject> {
        let names = self.settings.names;
        if names != Names::Rewritten {
            return Ok(None);
        }
        let document = self.parsed_as_written(text)?;
        Ok(names.rewrite(text, &document, self.settings.schema.members()))
    }

    fn named<T>(
        &self,
        received: &Received,
        text: &Bytes,
        document: &Node<'_>,
        then: impl FnOnce(Bytes, &Node<'_>, Warnings) -> T,
    ) -> Result<T, Reject> {
        let aliases = self.settings.aliases.as_ref();
        match aliases.and_then(|aliases| aliases.apply(text, document)) {
            Some(text) => self.aliased(received, &text, &self.parsed(&text)?, then),
            None => self.aliased(received, text, document, then),
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
