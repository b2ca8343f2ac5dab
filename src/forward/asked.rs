//! What an origin asked for with `Retry-After` holds over a restart, also one that nobody planned.
//!
//! A wait that a delivery was told is kept with it; this is the origin's, for every other one.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Forwarder;
use super::gate::Gate;
use crate::clock::Timestamp;
use crate::spool::Shelf;

/// So much more than was asked for is kept, so that answers that ask alike one after another need
/// one note. It is what a restart may make of a wait.
const BEYOND: Duration = Duration::from_secs(1);

impl Forwarder {
    /// Keeps until when an origin is to be left alone, unless that is kept. A note that fails is told
    /// and not tried again: nothing but a restart needs it.
    pub(super) async fn keep_asked(&self, gate: &Gate, now: Instant) {
        let Some(until) = gate.to_keep(BEYOND, now) else { return };
        let until = self.clock.now().after(until.saturating_duration_since(now));
        let value = Bytes::from(until.as_millis().to_string());
        let key = self.asked_key(gate.origin());
        if let Err(error) = self.spool.note(Shelf::Asked, key, Some(value)).await {
            let destination = &self.settings.name;
            tracing::warn!(%destination, %error, "a restart would not know of a Retry-After");
        }
    }

    /// Closes the gates of origins that asked for it before the relay ran last.
    pub(super) async fn recall_asked(&self) {
        let destination = &self.settings.name;
        let notes = match self.spool.notes(Shelf::Asked, None, Shelf::Asked.notes_max()).await {
            Ok(notes) => notes,
            Err(fault) => {
                return tracing::error!(%destination, %fault, "no Retry-After is known of before");
            }
        };
        let (now, clock) = (Instant::now(), self.clock.now());
        let prefix = self.asked_key("");
        for (key, value) in notes {
            let Some(origin) = key.strip_prefix(prefix.as_ref()) else { continue };
            let Ok(origin) = std::str::from_utf8(origin) else { continue };
            let until = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
            let left = until.map_or(Duration::ZERO, |until| {
                // The clock may have been set since.
                let most = self.settings.backoff.retry_after_max + BEYOND;
                Timestamp::from_millis(until).since(clock).min(most)
            });
            // Another configuration may have gone elsewhere, and a gate there would be waited for.
            if !left.is_zero() && self.settings.shape.may_go_to(origin) {
                self.gates.named(origin).asked(now + left);
            }
        }
    }

    fn asked_key(&self, origin: &str) -> Bytes {
        Bytes::from(format!("{} {origin}", self.settings.name))
    }
}
