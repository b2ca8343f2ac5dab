//! What a store knows of requests and events that it took: answers given before, ends.

use super::Appended;
use crate::clock::Timestamp;
use crate::event::EventId;

/// What a batch was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// One answer for each event of the batch, in order. When `repeated`, the answers of the first
    /// request: as many as that had events, which is another number only if the rules that admit
    /// items have changed between the two.
    pub appended: Vec<Appended>,
    /// The request was known by its key, with the same body: nothing was stored by this one.
    pub repeated: bool,
}

/// How many dedupe keys are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyStats {
    /// Kept, of `limit`. Those of the last second may not be counted yet.
    pub kept: u64,
    /// Kept at most; beyond it the oldest are forgotten before their windows are over.
    pub limit: u64,
    /// Forgotten so since the store was opened.
    pub dropped: u64,
}

/// The event that took a key last, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The event; its first 48 bits are when it was accepted.
    pub id: EventId,
    /// The state of the destination that is worst off.
    pub state: EndState,
    /// When the last delivery was given up; nothing while none was. When one was delivered is
    /// written nowhere, for that would cost a write an event.
    pub at: Option<Timestamp>,
}

/// How far an event came. The worst of its destinations decides, and [`EndState::Dead`] is worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndState {
    /// Every destination has it.
    Delivered,
    /// Waiting for a destination that has not got it yet, and none has given up.
    Pending,
    /// It became too old for a destination.
    Expired,
    /// It was given up for a destination, and may since have been dropped by an operator.
    Dead,
}

impl EndState {
    /// Every state, best first.
    pub const ALL: [Self; 4] = [Self::Delivered, Self::Pending, Self::Expired, Self::Dead];

    /// The stable word for answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Pending => "pending",
            Self::Expired => "expired",
            Self::Dead => "dead",
        }
    }
}
