//! The one caller of the system clock; everything else is handed a [`Clock`] or a [`Timestamp`].

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// The moment `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it lies ahead, as after a clock was set back.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The moment `wait` later, to the millisecond above, so that nothing is due early.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let millis = wait.as_nanos().div_ceil(1_000_000);
        Self(self.0.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX)))
    }

    /// The moment that a clock reads when so much has passed: to the millisecond below.
    fn after_whole(self, passed: Duration) -> Self {
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// ISO 8601 in UTC with milliseconds, as `2026-11-21T09:30:00.250Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil(days);
        let (h, m, s, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
    }
}

/// Year, month and day of the proleptic Gregorian calendar, `days` after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years are counted from 1 March of year 0, so that a leap day ends its year.
    let day = days + 719_468;
    let era = day / 146_097;
    let of_era = day % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Where the time comes from.
#[derive(Clone, Debug)]
pub struct Clock {
    hand: Hand,
    /// Clones share it, as they share the hand.
    calendar: Arc<Mutex<Calendar>>,
}

/// A clock that is this far ahead of what was last believed has leapt, or nobody ran for long.
const LEAP: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a clock must go on from where it leapt to before it is believed.
const TRUST_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Which time is believed when something is given up for its age.
#[derive(Clone, Copy, Debug)]
struct Calendar {
    /// What was last believed, and when by the steady clock.
    believed: Timestamp,
    at: Timestamp,
    /// When the clock leapt, by the steady one.
    leapt_at: Option<Timestamp>,
}

impl Calendar {
    fn believe(&mut self, now: Timestamp, steady: Timestamp) -> Timestamp {
        let expected = self.believed.after(steady.since(self.at));
        if now.since(expected) > LEAP {
            let leapt_at = *self.leapt_at.get_or_insert_with(|| {
                tracing::warn!(
                    %now, %expected,
                    "the clock leapt; nothing is given up for its age by it until it went on for a day"
                );
                steady
            });
            if steady.since(leapt_at) < TRUST_AFTER {
                return expected;
            }
        }
        (self.leapt_at, self.believed, self.at) = (None, now.max(self.believed), steady);
        self.believed
    }
}

#[derive(Clone, Debug)]
enum Hand {
    System(Steady),
    Held(Arc<Held>),
    /// What it said at a moment of the runtime's timers.
    Following {
        at: Timestamp,
        since: tokio::time::Instant,
    },
}

/// When the machine's clock was first asked, by both of its clocks.
#[derive(Clone, Copy, Debug)]
struct Steady {
    wall: Timestamp,
    at: Instant,
}

/// The hands of a clock that a test moves.
#[derive(Debug)]
struct Held {
    wall: AtomicU64,
    steady: AtomicU64,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        let steady = Steady { wall: system_time(), at: Instant::now() };
        Self::with(Hand::System(steady), steady.wall)
    }

    /// A clock that stands at `at` until [`Clock::advance`] moves it; clones share the hand.
    #[must_use]
    pub fn held(at: Timestamp) -> Self {
        let (wall, steady) = (AtomicU64::new(at.0), AtomicU64::new(at.0));
        Self::with(Hand::Held(Arc::new(Held { wall, steady })), at)
    }

    /// A clock that reads `at` now and goes on as the timers of the runtime do, so that a paused
    /// one holds both together. Nobody sets it.
    #[must_use]
    pub fn following(at: Timestamp) -> Self {
        Self::with(Hand::Following { at, since: tokio::time::Instant::now() }, at)
    }

    /// Whether it stands until somebody moves it, so that no timer tells when it has moved.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        match self.hand {
            Hand::Held(_) => true,
            Hand::System(_) | Hand::Following { .. } => false,
        }
    }

    fn with(hand: Hand, now: Timestamp) -> Self {
        let calendar = Calendar { believed: now, at: now, leapt_at: None };
        Self { hand, calendar: Arc::new(Mutex::new(calendar)) }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.hand {
            Hand::System(_) => system_time(),
            Hand::Held(held) => Timestamp(held.wall.load(Ordering::SeqCst)),
            Hand::Following { at, since } => at.after_whole(since.elapsed()),
        }
    }

    /// Now by a clock that nobody sets: it began with [`Clock::now`] and only goes on. What is
    /// waited for inside one process is measured by it, for the other may leap either way.
    #[must_use]
    pub fn steady(&self) -> Timestamp {
        match &self.hand {
            Hand::System(Steady { wall, at }) => wall.after(at.elapsed()),
            Hand::Held(held) => Timestamp(held.steady.load(Ordering::SeqCst)),
            Hand::Following { at, since } => at.after_whole(since.elapsed()),
        }
    }

    /// The time by which things are given up for their age: that of a clock that goes on, and not,
    /// for a day, that of one that was set ahead by more than a week. It never goes back.
    #[must_use]
    pub fn believed(&self) -> Timestamp {
        let (now, steady) = (self.now(), self.steady());
        self.calendar.lock().unwrap_or_else(PoisonError::into_inner).believe(now, steady)
    }

    /// Says what was believed last before this process began, for [`Clock::believed`].
    pub fn believe_from(&self, believed: Timestamp) {
        let at = self.steady();
        let calendar = Calendar { believed, at, leapt_at: None };
        *self.calendar.lock().unwrap_or_else(PoisonError::into_inner) = calendar;
    }

    /// What [`Clock::steady`] will say when it is `at`, if nobody sets the clock; never early.
    #[must_use]
    pub fn steady_at(&self, at: Timestamp) -> Timestamp {
        // In this order, for what passes in between must not be taken off the wait.
        let wait = at.since(self.now());
        self.steady().after(wait)
    }

    /// What [`Clock::now`] will say when the steady clock says `steady`; never early.
    #[must_use]
    pub fn wall_at(&self, steady: Timestamp) -> Timestamp {
        let wait = steady.since(self.steady());
        self.now().after(wait)
    }

    /// Moves a held clock forward; the others move by themselves and ignore this.
    pub fn advance(&self, by: Duration) {
        if let Hand::Held(held) = &self.hand {
            held.wall.store(self.now().after(by).0, Ordering::SeqCst);
            held.steady.store(self.steady().after(by).0, Ordering::SeqCst);
        }
    }

    /// Sets a held clock, as an operator or a time server does: nothing passes meanwhile.
    pub fn leap(&self, to: Timestamp) {
        if let Hand::Held(held) = &self.hand {
            held.wall.store(to.0, Ordering::SeqCst);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the Clock that the lint points to")]
fn system_time() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    Timestamp(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_as_iso_8601() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_672_564_800_250, "2023-01-01T09:20:00.250Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ];
        for (millis, text) in cases {
            assert_eq!(Timestamp::from_millis(millis).to_string(), text);
        }
    }

    #[test]
    fn a_wait_is_rounded_up() {
        let start = Timestamp::from_millis(10);
        assert_eq!(start.after(Duration::from_nanos(1)), Timestamp::from_millis(11));
    }

    #[test]
    fn a_held_clock_moves_only_when_told() {
        let clock = Clock::held(Timestamp::from_millis(5));
        let twin = clock.clone();
        clock.advance(Duration::from_millis(7));
        assert_eq!(twin.now(), Timestamp::from_millis(12));
    }

    #[tokio::test(start_paused = true)]
    async fn a_following_clock_goes_as_the_timers_do() {
        let clock = Clock::following(Timestamp::from_millis(5));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.now(), Timestamp::from_millis(3_600_005));
        assert_eq!(clock.steady(), clock.now());
    }

    #[test]
    fn a_steady_clock_goes_on_when_the_other_is_set() {
        let clock = Clock::held(Timestamp::from_millis(1_000_000));
        clock.leap(Timestamp::from_millis(5));
        clock.advance(Duration::from_millis(10));
        assert_eq!(clock.now(), Timestamp::from_millis(15));
        assert_eq!(clock.steady(), Timestamp::from_millis(1_000_010));
        assert_eq!(clock.steady_at(Timestamp::from_millis(20)), Timestamp::from_millis(1_000_015));
        assert_eq!(clock.wall_at(Timestamp::from_millis(1_000_012)), Timestamp::from_millis(17));
        let system = Clock::system();
        let (before, at) = (system.steady(), system.now());
        assert!(system.steady_at(at) >= before && system.steady() >= before);
        assert!(at.since(before) < Duration::from_secs(60));
    }

    #[test]
    fn a_leap_is_believed_after_a_day_and_a_step_back_ages_nothing() {
        const DAY: Duration = Duration::from_secs(86_400);
        let start = Timestamp::from_millis(1_795_000_000_000);
        let clock = Clock::held(start);
        clock.advance(DAY * 30);
        let now = clock.now();
        assert_eq!(clock.believed(), now, "time that passes is no leap");
        clock.leap(start);
        assert_eq!(clock.believed(), now, "set back");
        clock.leap(now.after(DAY * 3650));
        assert_eq!(clock.believed(), now, "ten years ahead");
        clock.advance(DAY / 2);
        assert_eq!(clock.believed(), now.after(DAY / 2), "it goes on meanwhile");
        clock.advance(DAY);
        assert_eq!(clock.believed(), clock.now(), "it went on for a day");
        // As at a start after years: the last note stands.
        clock.believe_from(start);
        assert_eq!(clock.believed(), start);
        clock.believe_from(clock.now());
        assert_eq!(clock.believed(), clock.now());
    }
}
