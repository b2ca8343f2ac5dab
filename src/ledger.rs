//! What became of everything: one outcome an item, one end a lease, and sums that must balance.
//!
//! Loss cannot be silent here: what nobody decided is booked by a drop guard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::{DestinationName, SourceName};

/// The one thing that became of a received item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durable.
    Accepted,
    /// Its key was taken inside its window.
    Duplicate,
    /// Refused; sending it again changes nothing.
    Rejected,
    /// Not stored; sending it again is right.
    Unavailable,
    /// Its caller left before the answer; the write may have landed.
    Abandoned,
}

impl Outcome {
    /// Every outcome, in the order of the sums.
    pub const ALL: [Self; 5] =
        [Self::Accepted, Self::Duplicate, Self::Rejected, Self::Unavailable, Self::Abandoned];

    /// The stable word for metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
            Self::Unavailable => "unavailable",
            Self::Abandoned => "abandoned",
        }
    }
}

/// How a hold on a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    /// The destination has it.
    Delivered,
    /// It waits for another attempt.
    PutBack,
    /// Given up.
    Dead,
    /// The hold ended without a settlement; the delivery returns by itself.
    Lost,
}

impl LeaseEnd {
    const ALL: [Self; 4] = [Self::Delivered, Self::PutBack, Self::Dead, Self::Lost];
}

/// Sums of items by source and of leases by destination, since the process began.
#[derive(Debug)]
pub struct Ledger {
    sources: BTreeMap<SourceName, Arc<Account<5>>>,
    destinations: BTreeMap<DestinationName, Arc<Account<4>>>,
}

/// One received sum, its parts, and what is in hand.
#[derive(Debug)]
struct Account<const N: usize> {
    received: AtomicU64,
    booked: [AtomicU64; N],
    in_hand: AtomicU64,
}

impl<const N: usize> Account<N> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            received: AtomicU64::new(0),
            booked: std::array::from_fn(|_| AtomicU64::new(0)),
            in_hand: AtomicU64::new(0),
        })
    }

    fn take(&self, count: usize) {
        let count = count as u64;
        self.received.fetch_add(count, Ordering::SeqCst);
        self.in_hand.fetch_add(count, Ordering::SeqCst);
    }

    fn book(&self, part: usize, count: usize) {
        let count = count as u64;
        self.booked[part].fetch_add(count, Ordering::SeqCst);
        self.in_hand.fetch_sub(count, Ordering::SeqCst);
    }

    fn read(&self) -> Sums<N> {
        Sums {
            received: self.received.load(Ordering::SeqCst),
            booked: std::array::from_fn(|part| self.booked[part].load(Ordering::SeqCst)),
            in_hand: self.in_hand.load(Ordering::SeqCst),
        }
    }

    /// Reads until two readings agree, so that a busy relay does not look out of balance; after
    /// a few tries a reading that moves is as good as any.
    fn sums(&self) -> Sums<N> {
        let mut last = self.read();
        for _ in 0..64 {
            let next = self.read();
            if next == last && next.difference() == 0 {
                return next;
            }
            last = next;
            std::hint::spin_loop();
        }
        last
    }
}

/// What one account says: `received = booked + in hand`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums<const N: usize> {
    /// Everything that came.
    pub received: u64,
    /// What became of it, in the order of the enum's `ALL`.
    pub booked: [u64; N],
    /// What is undecided.
    pub in_hand: u64,
}

impl<const N: usize> Sums<N> {
    /// What is missing from the parts; 0 unless there is a bug.
    #[must_use]
    pub fn difference(&self) -> i64 {
        let parts = self.booked.iter().sum::<u64>() + self.in_hand;
        self.received.cast_signed().wrapping_sub(parts.cast_signed())
    }
}

/// An item account's sums.
pub type ItemSums = Sums<5>;
/// A lease account's sums.
pub type LeaseSums = Sums<4>;

impl Ledger {
    /// A ledger with an account for each name.
    pub fn new(
        sources: impl IntoIterator<Item = SourceName>,
        destinations: impl IntoIterator<Item = DestinationName>,
    ) -> Self {
        Self {
            sources: sources.into_iter().map(|name| (name, Account::new())).collect(),
            destinations: destinations.into_iter().map(|name| (name, Account::new())).collect(),
        }
    }

    /// Takes `count` items of `source` in hand.
    ///
    /// # Panics
    /// When the source was not named to [`Ledger::new`].
    #[must_use]
    pub fn items(&self, source: &SourceName, count: usize) -> Tally {
        let account = self.sources.get(source).expect("every source has an account from the start");
        account.take(count);
        Tally { account: Arc::clone(account), open: count }
    }

    /// Notes that a lease on a delivery to `destination` was taken.
    ///
    /// # Panics
    /// When the destination was not named to [`Ledger::new`].
    #[must_use]
    pub fn lease(&self, destination: &DestinationName) -> Held {
        let account = self.destinations.get(destination);
        let account = account.expect("every destination has an account from the start");
        account.take(1);
        Held { account: Arc::clone(account), open: true }
    }

    /// Sums by source.
    pub fn item_sums(&self) -> impl Iterator<Item = (&SourceName, ItemSums)> {
        self.sources.iter().map(|(name, account)| (name, account.sums()))
    }

    /// Sums by destination.
    pub fn lease_sums(&self) -> impl Iterator<Item = (&DestinationName, LeaseSums)> {
        self.destinations.iter().map(|(name, account)| (name, account.sums()))
    }
}

/// The items of one request; what is still open when it is dropped was abandoned.
#[derive(Debug)]
pub struct Tally {
    account: Arc<Account<5>>,
    open: usize,
}

impl Tally {
    /// Books one item.
    pub fn book(&mut self, outcome: Outcome) {
        self.book_many(outcome, 1);
    }

    /// Books `count` items at once; no more than are open.
    pub fn book_many(&mut self, outcome: Outcome, count: usize) {
        let count = count.min(self.open);
        self.open -= count;
        self.account.book(outcome as usize, count);
    }

    /// Books all that are open.
    pub fn book_rest(&mut self, outcome: Outcome) {
        self.book_many(outcome, self.open);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if self.open > 0 {
            self.book_rest(Outcome::Abandoned);
        }
    }
}

/// One lease in hand; dropped without an end it was lost.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account<4>>,
    open: bool,
}

impl Held {
    /// Books the end of the lease.
    pub fn end(mut self, end: LeaseEnd) {
        self.open = false;
        self.account.book(end as usize, 1);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.open {
            self.account.book(LeaseEnd::Lost as usize, 1);
        }
    }
}

impl LeaseSums {
    /// Leases that ended so.
    #[must_use]
    pub fn ended(&self, end: LeaseEnd) -> u64 {
        debug_assert_eq!(LeaseEnd::ALL[end as usize], end);
        self.booked[end as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (Ledger, SourceName, DestinationName) {
        let (till, api) = (SourceName::new("till"), DestinationName::new("api"));
        (Ledger::new([till.clone()], [api.clone()]), till, api)
    }

    #[test]
    fn what_nobody_booked_was_abandoned() {
        let (ledger, till, _) = ledger();
        let mut tally = ledger.items(&till, 5);
        tally.book(Outcome::Accepted);
        tally.book_many(Outcome::Rejected, 2);
        let sums = ledger.item_sums().next().unwrap().1;
        assert_eq!((sums.in_hand, sums.difference()), (2, 0));
        drop(tally);
        let sums = ledger.item_sums().next().unwrap().1;
        assert_eq!(sums, ItemSums { received: 5, booked: [1, 0, 2, 0, 2], in_hand: 0 });
        assert_eq!(sums.difference(), 0);
    }

    #[test]
    fn a_lease_that_nobody_ended_was_lost() {
        let (ledger, _, api) = ledger();
        ledger.lease(&api).end(LeaseEnd::Delivered);
        drop(ledger.lease(&api));
        let sums = ledger.lease_sums().next().unwrap().1;
        assert_eq!((sums.ended(LeaseEnd::Delivered), sums.ended(LeaseEnd::Lost)), (1, 1));
        assert_eq!(sums.difference(), 0);
    }

    #[test]
    fn a_part_that_is_missing_shows() {
        let sums = ItemSums { received: 3, booked: [1, 0, 0, 0, 0], in_hand: 1 };
        assert_eq!(sums.difference(), 1);
    }
}
