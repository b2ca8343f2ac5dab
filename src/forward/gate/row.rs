//! Failures one after another: of different deliveries, or of no one's doing.
//!
//! A poisoned event fails for ever, and so do two of them by turns: where little is sent, nothing
//! else comes between. So each delivery counts once, however often it fails, unless there was no
//! connection: that is the origin's doing, whoever asks.

use super::super::verdict::Sent;
use crate::spool::DeliveryId;

/// So many before the breaker opens.
pub(super) const TO_OPEN: usize = 5;

/// Failures since the origin answered an event last.
#[derive(Debug, Default)]
pub(super) struct Row {
    unconnected: usize,
    /// Deliveries that failed on a connection; no more than matter.
    failed: [Option<DeliveryId>; TO_OPEN],
}

impl Row {
    /// Notes that an attempt of `delivery` failed.
    pub(super) fn note(&mut self, delivery: DeliveryId, sent: Sent) {
        match sent {
            Sent::No => self.unconnected = self.unconnected.saturating_add(1),
            Sent::Maybe | Sent::Answered if self.failed.contains(&Some(delivery)) => {}
            Sent::Maybe | Sent::Answered => {
                if let Some(free) = self.failed.iter_mut().find(|one| one.is_none()) {
                    *free = Some(delivery);
                }
            }
        }
    }

    /// Whether it is long enough to open the breaker.
    pub(super) fn is_long(&self) -> bool {
        let different = self.failed.iter().flatten().count();
        different.saturating_add(self.unconnected) >= TO_OPEN
    }
}
