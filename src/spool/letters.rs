//! What was given up, and how it is asked for.

use std::fmt;
use std::sync::Arc;

use super::{DeliveryId, Refusal};
use crate::clock::Timestamp;
use crate::event::{DestinationName, Event};

/// A delivery that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The delivery.
    pub id: DeliveryId,
    /// Whom it was owed to.
    pub to: DestinationName,
    /// What was to be sent.
    pub event: Arc<Event>,
    /// Attempts made.
    pub attempts: u32,
    /// When it was given up.
    pub died_at: Timestamp,
    /// Why.
    pub refusal: Refusal,
}

/// Which dead letters are wanted, a page at a time.
#[derive(Clone, Debug)]
pub struct DeadQuery {
    /// The last letter that was seen; the page begins behind it.
    pub after: Option<DeliveryId>,
    /// Letters of one page.
    pub max: usize,
    /// What a letter must meet.
    pub filter: DeadFilter,
}

impl DeadQuery {
    /// The first `max` letters behind `after`, whatever they are.
    #[must_use]
    pub fn all(after: Option<DeliveryId>, max: usize) -> Self {
        Self { after, max, filter: DeadFilter::all() }
    }
}

/// Tells the letters that are wanted from the others. Called while a store reads, so it must not
/// wait.
#[derive(Clone)]
pub struct DeadFilter(Option<Wanted>);

type Wanted = Arc<dyn Fn(&DeadLetter) -> bool + Send + Sync>;

impl DeadFilter {
    /// Takes every letter.
    #[must_use]
    pub const fn all() -> Self {
        Self(None)
    }

    /// Takes the letters that are `wanted`.
    pub fn new(wanted: impl Fn(&DeadLetter) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(wanted)))
    }

    /// Whether a letter is wanted.
    #[must_use]
    pub fn takes(&self, letter: &DeadLetter) -> bool {
        self.0.as_ref().is_none_or(|wanted| wanted(letter))
    }
}

impl fmt::Debug for DeadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "DeadFilter(…)" } else { "DeadFilter(all)" })
    }
}

/// Some of the letters that are wanted, oldest delivery first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadPage {
    /// The letters; perhaps fewer than were asked for, or none, though there are more.
    pub letters: Vec<DeadLetter>,
    /// Where the next page begins behind; nothing when all were seen.
    pub next: Option<DeliveryId>,
}

/// What became of letters that were to be put back in line. Each is counted once, however often
/// it was named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// In line again.
    pub replayed: usize,
    /// Not there, or not any more.
    pub missing: usize,
    /// Left as they are: a later event has their dedupe key, and both would be one event twice.
    pub duplicates: usize,
}

impl std::ops::AddAssign for Replayed {
    fn add_assign(&mut self, other: Self) {
        self.replayed += other.replayed;
        self.missing += other.missing;
        self.duplicates += other.duplicates;
    }
}
