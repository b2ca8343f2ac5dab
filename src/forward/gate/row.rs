//! Failures one after another: of different deliveries, or of no one's doing.
//!
//! A poisoned event fails for ever, and so do two of them by turns: where little is sent, nothing
//! else comes between. So each delivery counts once, however often it fails, unless it is the
//! origin's doing.

use super::super::verdict::Sent;
use crate::spool::DeliveryId;

/// So many before the breaker opens.
pub(super) const TO_OPEN: usize = 5;

/// Whose doing a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The origin's, whoever asks: nobody was there.
    Origin,
    /// The origin's by its own word, 429 or 503, which it may say of one delivery for ever: that one
    /// counts again only when another was told so in between.
    Told,
    /// The delivery's or the origin's.
    Either,
}

impl Blame {
    /// Whose doing it is that an attempt failed, of which so much is known and which is called so.
    #[must_use]
    pub fn of(sent: Sent, code: &str) -> Self {
        match sent {
            Sent::No => Self::Origin,
            Sent::Answered if matches!(code, "throttled" | "unavailable") => Self::Told,
            Sent::Maybe | Sent::Answered => Self::Either,
        }
    }
}

/// Failures since the origin answered an event last.
#[derive(Debug, Default)]
pub(super) struct Row {
    of_origin: usize,
    told_last: Option<DeliveryId>,
    /// Deliveries that failed by their own or the origin's doing; no more than matter.
    failed: [Option<DeliveryId>; TO_OPEN],
}

impl Row {
    /// Notes that an attempt of `delivery` failed.
    pub(super) fn note(&mut self, delivery: DeliveryId, blame: Blame) {
        match blame {
            Blame::Told if self.told_last.replace(delivery) == Some(delivery) => {}
            Blame::Origin | Blame::Told => self.of_origin = self.of_origin.saturating_add(1),
            Blame::Either if self.failed.contains(&Some(delivery)) => {}
            Blame::Either => {
                if let Some(free) = self.failed.iter_mut().find(|one| one.is_none()) {
                    *free = Some(delivery);
                }
            }
        }
    }

    /// Whether it is long enough to open the breaker.
    pub(super) fn is_long(&self) -> bool {
        let different = self.failed.iter().flatten().count();
        different.saturating_add(self.of_origin) >= TO_OPEN
    }
}
