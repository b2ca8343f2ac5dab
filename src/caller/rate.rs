//! How many items in how long, and keeping to it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::Timestamp;

/// So many items in so long; as many may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    items: u32,
    per: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    Second,
    Minute,
    Hour,
}

impl Span {
    const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }

    const fn nanos(self) -> u64 {
        match self {
            Self::Second => 1_000_000_000,
            Self::Minute => 60_000_000_000,
            Self::Hour => 3_600_000_000_000,
        }
    }
}

/// Why a text is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(r#"is no rate: write "50/s", "600/m" or "10000/h", from 1 to 1000000 items"#)]
pub struct RateFault;

/// The most that a rate lets through in its span; more is no limit.
const ITEMS_MAX: u32 = 1_000_000;

impl Rate {
    /// What one item takes of the time.
    #[must_use]
    pub const fn item_time(self) -> Duration {
        Duration::from_nanos(self.item_nanos())
    }

    /// What one item takes of the time.
    const fn item_nanos(self) -> u64 {
        self.per.nanos() / self.items as u64
    }

    /// The time that so many items take.
    #[must_use]
    pub fn time_of(self, items: usize) -> Duration {
        let items = u64::try_from(items).unwrap_or(u64::MAX);
        Duration::from_nanos(self.item_nanos().saturating_mul(items))
    }

    /// Items that so long a time is enough for.
    #[must_use]
    pub fn items_in(self, time: Duration) -> usize {
        let items = time.as_nanos() / u128::from(self.item_nanos().max(1));
        usize::try_from(items).unwrap_or(usize::MAX)
    }

    /// What as many items as may come at once take of it.
    const fn burst_nanos(self) -> u64 {
        self.item_nanos() * self.items as u64
    }
}

impl FromStr for Rate {
    type Err = RateFault;

    fn from_str(text: &str) -> Result<Self, RateFault> {
        let (items, span) = text.split_once('/').ok_or(RateFault)?;
        let items = items.trim();
        if !items.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(RateFault);
        }
        let items: u32 = items.parse().map_err(|_| RateFault)?;
        let per = Span::ALL.into_iter().find(|one| one.as_str() == span.trim()).ok_or(RateFault)?;
        if (1..=ITEMS_MAX).contains(&items) { Ok(Self { items, per }) } else { Err(RateFault) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.items, self.per.as_str())
    }
}

/// What one payer has taken: the generic cell rate algorithm, with debt.
///
/// A request of more items than may come at once is let in when nothing is owed, and what follows
/// waits until it is worked off. Refusing it for ever would only teach its client to cut it up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// The moment at which nothing is owed any more, in nanoseconds.
    settled: u64,
    /// When it was looked at last.
    seen: u64,
}

impl Bucket {
    /// Owes nothing.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { settled: nanos(now), seen: nanos(now) }
    }

    /// Whether nothing is owed: such a bucket is as good as a new one.
    pub(super) fn is_settled(&self, now: Timestamp) -> bool {
        self.settled <= nanos(now)
    }

    /// Takes `items`, all of them or none.
    ///
    /// # Errors
    /// How long to wait until as many would be let in, when nobody else takes any.
    pub(super) fn take(&mut self, rate: Rate, items: u32, now: Timestamp) -> Result<(), Duration> {
        self.wait(rate, items, now)?;
        let cost = rate.item_nanos().saturating_mul(u64::from(items));
        self.settled = self.settled.saturating_add(cost);
        Ok(())
    }

    /// Whether `items` would be let in, without taking them.
    ///
    /// # Errors
    /// As [`Bucket::take`].
    pub(super) fn wait(&mut self, rate: Rate, items: u32, now: Timestamp) -> Result<(), Duration> {
        let now = nanos(now);
        // A clock that was set back must not make what is owed grow.
        self.settled = self.settled.saturating_sub(self.seen.saturating_sub(now)).max(now);
        self.seen = now;
        let (owed, burst) = (self.settled - now, rate.burst_nanos());
        let cost = rate.item_nanos().saturating_mul(u64::from(items)).min(burst);
        match owed.saturating_add(cost).checked_sub(burst) {
            None | Some(0) => Ok(()),
            Some(over) => Err(Duration::from_nanos(over)),
        }
    }
}

const fn nanos(at: Timestamp) -> u64 {
    // Good until the year 2554.
    at.as_millis().saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_795_262_400_000);

    fn at(ms: u64) -> Timestamp {
        START.after(Duration::from_millis(ms))
    }

    #[test]
    fn a_rate_is_read_as_it_is_printed() {
        for text in ["50/s", "600/m", "10000/h", "1/h", "1000000/s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!(" 50 / s ".parse::<Rate>(), "50/s".parse());
        for text in ["", "50", "/s", "0/s", "+5/s", "5/d", "5/S", "-1/s", "1.5/s", "1000001/s"] {
            assert_eq!(text.parse::<Rate>(), Err(RateFault), "{text:?}");
        }
    }

    #[test]
    fn as_many_as_the_rate_come_at_once_and_then_one_at_a_time() {
        let (rate, mut bucket) = ("5/s".parse().unwrap(), Bucket::new(START));
        for _ in 0..5 {
            assert_eq!(bucket.take(rate, 1, START), Ok(()));
        }
        let wait = Err(Duration::from_millis(200));
        assert_eq!((bucket.take(rate, 1, START), bucket.take(rate, 1, START)), (wait, wait));
        assert_eq!(bucket.take(rate, 1, at(199)), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(rate, 1, at(200)), Ok(()));
        assert_eq!(bucket.take(rate, 1, at(200)), wait);
    }

    #[test]
    fn items_are_taken_all_or_none() {
        let (rate, mut bucket) = ("10/s".parse().unwrap(), Bucket::new(START));
        assert_eq!(bucket.take(rate, 7, START), Ok(()));
        assert_eq!(bucket.take(rate, 7, START), Err(Duration::from_millis(400)));
        assert_eq!(bucket.take(rate, 3, START), Ok(()));
        assert_eq!(bucket.wait(rate, 1, START), Err(Duration::from_millis(100)));
    }

    #[test]
    fn more_than_may_come_at_once_waits_for_nothing_owed_and_is_worked_off() {
        let (rate, mut bucket) = ("10/s".parse().unwrap(), Bucket::new(START));
        assert_eq!(bucket.take(rate, 1, START), Ok(()));
        assert_eq!(bucket.take(rate, 100, START), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(rate, 100, at(100)), Ok(()));
        // 100 items are ten seconds of this rate; the next one comes when nine are worked off.
        assert_eq!(bucket.take(rate, 1, at(100)), Err(Duration::from_millis(9100)));
        assert_eq!(bucket.take(rate, 1, at(9200)), Ok(()));
    }

    /// Whatever is asked for, what is let in never exceeds the rate by more than one request.
    #[test]
    fn in_the_long_run_the_rate_holds() {
        let seed = 7;
        let mut random = fastrand::Rng::with_seed(seed);
        let (rate, mut bucket) = ("100/s".parse().unwrap(), Bucket::new(START));
        let (mut taken, mut ms) = (0, 0);
        while ms < 60_000 {
            let items = random.u32(1..=40);
            if let Err(wait) = bucket.take(rate, items, at(ms)) {
                let told = bucket.take(rate, items, at(ms).after(wait));
                assert_eq!(told, Ok(()), "seed {seed}: the wait was too short");
            }
            taken += items;
            ms = ms.max(bucket.seen / 1_000_000 - START.as_millis()) + random.u64(0..300);
        }
        assert!((5_000..=6_140).contains(&taken), "seed {seed}: {taken}");
    }

    #[test]
    fn a_clock_set_back_costs_nobody_anything() {
        let (rate, mut bucket) = ("1/s".parse().unwrap(), Bucket::new(at(3_600_000)));
        assert_eq!(bucket.take(rate, 1, at(3_600_000)), Ok(()));
        assert_eq!(bucket.take(rate, 1, START), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(rate, 1, at(1000)), Ok(()));
    }
}
