//! How long to wait before the next attempt, and when to stop trying.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::EventKind;

/// Waits between the attempts of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the wait after the first attempt; doubled for each attempt more.
    pub wait_first: Duration,
    /// The bound is never above this.
    pub wait_max: Duration,
    /// A destination's `Retry-After` is heeded up to this.
    pub retry_after_max: Duration,
}

impl Backoff {
    /// The wait after `attempts` attempts: anywhere up to the bound (full jitter), so that what
    /// failed together does not come back together; never under the destination's `hint`.
    #[must_use]
    pub fn wait(
        &self,
        attempts: u32,
        hint: Option<Duration>,
        random: &mut fastrand::Rng,
    ) -> Duration {
        let doublings = attempts.saturating_sub(1).min(63);
        let bound = self.wait_first.as_secs_f64() * 2_f64.powi(doublings.cast_signed());
        let bound = bound.min(self.wait_max.as_secs_f64());
        let own = Duration::try_from_secs_f64(bound * random.f64()).unwrap_or(self.wait_max);
        hint.map_or(own, |hint| own.max(hint.min(self.retry_after_max)))
    }
}

/// How old an event of each kind may be and still be worth sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxAge([Duration; EventKind::ALL.len()]);

impl MaxAge {
    /// Ages in the order of [`EventKind::ALL`].
    #[must_use]
    pub const fn new(ages: [Duration; EventKind::ALL.len()]) -> Self {
        Self(ages)
    }

    /// The age of a kind.
    #[must_use]
    pub const fn of(&self, kind: EventKind) -> Duration {
        self.0[kind.code() as usize]
    }

    /// What of `kind` was accepted before is within a tenth of its age at `now`, or past it.
    #[must_use]
    pub fn nears(&self, kind: EventKind, now: Timestamp) -> Timestamp {
        let nine_tenths = self.of(kind).mul_f64(0.9).as_millis();
        let millis = u64::try_from(nine_tenths).unwrap_or(u64::MAX);
        Timestamp::from_millis(now.as_millis().saturating_sub(millis))
    }

    /// Whether an event of `kind` accepted at `accepted` is too old at `now`.
    #[must_use]
    pub fn has_passed(&self, kind: EventKind, accepted: Timestamp, now: Timestamp) -> bool {
        now.since(accepted) > self.of(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        wait_first: Duration::from_secs(1),
        wait_max: Duration::from_secs(900),
        retry_after_max: Duration::from_secs(3600),
    };

    #[test]
    fn waits_spread_below_a_bound_that_doubles_to_its_cap() {
        let mut random = fastrand::Rng::with_seed(1);
        for (attempts, bound) in [(1, 1), (2, 2), (5, 16), (10, 512), (11, 900), (4_000_000, 900)] {
            let waits: Vec<f64> = (0..2_000)
                .map(|_| BACKOFF.wait(attempts, None, &mut random).as_secs_f64())
                .collect();
            let (bound, most) = (f64::from(bound), waits.iter().copied().fold(0.0, f64::max));
            assert!(most <= bound && most > 0.99 * bound, "{attempts}: {most}");
            let mean = waits.iter().sum::<f64>() / 2_000.0;
            assert!((0.45..0.55).contains(&(mean / bound)), "{attempts}: {mean}");
        }
    }

    #[test]
    fn a_hint_is_never_undercut_and_is_capped() {
        let mut random = fastrand::Rng::with_seed(2);
        let hint = Some(Duration::from_secs(30));
        for attempts in 1..20 {
            assert!(BACKOFF.wait(attempts, hint, &mut random) >= Duration::from_secs(30));
        }
        let forever = Some(Duration::from_secs(u64::MAX));
        assert_eq!(BACKOFF.wait(1, forever, &mut random), BACKOFF.retry_after_max);
    }

    #[test]
    fn an_event_nears_its_end_in_the_last_tenth_of_its_age() {
        let ages = MaxAge::new([10, 1, 1, 1, 7].map(Duration::from_secs));
        let now = Timestamp::from_millis(15_000);
        assert_eq!(ages.nears(EventKind::Conversion, now), Timestamp::from_millis(6_000));
        assert_eq!(ages.nears(EventKind::View, now), Timestamp::from_millis(14_100));
        assert_eq!(ages.nears(EventKind::View, Timestamp::EPOCH), Timestamp::EPOCH);
    }

    #[test]
    fn an_event_is_too_old_only_past_its_kinds_age() {
        let ages = MaxAge::new([10, 1, 1, 1, 7].map(Duration::from_secs));
        let (then, now) = (Timestamp::from_millis(5_000), Timestamp::from_millis(15_000));
        assert!(!ages.has_passed(EventKind::Conversion, then, now));
        assert!(ages.has_passed(EventKind::Conversion, then, Timestamp::from_millis(15_001)));
        assert!(ages.has_passed(EventKind::View, then, now));
    }
}
