//! A delivery in somebody's hands, how it came there and how it ends.

use std::sync::Arc;

use super::lane::Lane;
use super::refusal::{Cause, Refusal};
use crate::clock::Timestamp;
use crate::event::Event;

/// How many deliveries a lease may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// All together.
    pub max: usize,
    /// Of them, from lanes other than the live one.
    pub others: usize,
}

impl Want {
    /// Up to `max`, of whichever lane.
    #[must_use]
    pub const fn any(max: usize) -> Self {
        Self { max, others: max }
    }
}

/// Names one event owed to one destination; the order of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub u64);

/// One delivery, held until [`Lease::until`].
#[derive(Debug)]
pub struct Lease {
    /// The delivery.
    pub id: DeliveryId,
    /// What is to be sent.
    pub event: Arc<Event>,
    /// Attempts made before this one.
    pub attempts: u32,
    /// When it was first sent without an answer, if it was: since then it may have arrived.
    pub sent_at: Option<Timestamp>,
    /// The lane it came from.
    pub lane: Lane,
    /// When the hold ends by itself.
    pub until: Timestamp,
    /// It was in somebody's hands when the process before this one was killed: it may have arrived.
    pub interrupted: bool,
    /// The delivery whose dead letter this one replays.
    pub replay_of: Option<DeliveryId>,
    /// Proof of the hold, of meaning to the store alone.
    pub token: u64,
}

/// How a lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The destination has it.
    Delivered,
    /// Not now: due again then and never before, with one attempt more.
    RetryAt(Timestamp),
    /// Not now, by a wait that the relay chose by itself.
    Later(Later),
    /// Back in line without having been attempted.
    PutBack,
    /// Given up after an attempt, kept for an operator.
    DeadLetter(Refusal),
    /// Given up without an attempt, kept for an operator.
    GivenUp(Cause),
}

/// A wait that nobody asked for: it ends early when the destination is known to work again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Later {
    /// When it ends by itself.
    pub due: Timestamp,
    /// Whether an attempt was made, which is then counted.
    pub attempted: bool,
    /// When it was sent without an answer, so that it may have arrived. The first time is kept.
    pub sent_at: Option<Timestamp>,
}

impl Settlement {
    /// The wait that it asks for: until when, whether it may end early, and the attempts made.
    pub(crate) const fn wait(&self) -> Option<(Later, bool)> {
        match self {
            Self::RetryAt(due) => {
                Some((Later { due: *due, attempted: true, sent_at: None }, false))
            }
            Self::Later(later) => Some((*later, true)),
            Self::Delivered | Self::PutBack | Self::DeadLetter(_) | Self::GivenUp(_) => None,
        }
    }
}
