//! The gate in front of an origin: closed by its `Retry-After`, by failures one after another, or
//! because it refuses everything.
//!
//! While it is closed nothing is sent, so an outage costs one probe at a time and no storm, and a
//! misdeployed upstream does not turn a backlog into dead letters.

mod row;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::spool::DeliveryId;

use row::Row;

pub use row::Blame;

/// While the origin took something so lately, failures in a row must be a share of all besides:
/// where one in five fails, five fail in a row every few seconds of a drain.
const LATELY: Duration = Duration::from_millis(500);
/// That share. Of a third that fails it is never seen; nine of ten are as good as an outage, and to
/// send all that waits again and again would be a storm.
const SHARE_TO_OPEN: f64 = 0.7;
/// What one attempt counts of the share: it is that of some sixteen attempts, and nineteen failures
/// after nothing but successes.
const SHARE_OF_ONE: f64 = 1.0 / 16.0;
/// Refusals of the whole destination (401, 403, 404, 405) one after another before it counts as
/// broken, and not the events.
const REFUSALS_TO_CLOSE: u32 = 20;
/// Longest wait of a closed gate for its next probe: 3 s are promised. An event that comes in
/// meanwhile is to arrive within 5 s all the same, once the origin works.
pub const PROBE_EVERY: Duration = Duration::from_secs(2);
/// Wait before the first probe; doubled up to [`PROBE_EVERY`].
const PROBE_FIRST: Duration = Duration::from_millis(250);

/// Enough to reach [`PROBE_EVERY`].
const PROBE_DOUBLINGS_MAX: u32 = 8;

/// One origin's gate.
#[derive(Debug)]
pub struct Gate {
    origin: String,
    state: Mutex<State>,
    /// Shared by the gates of a destination.
    changed: Arc<Notify>,
    /// No probe takes longer.
    probe_within: Duration,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing is sent before: the origin's own word, which nothing undoes.
    asked_until: Option<Instant>,
    /// Of that so much is kept for a restart.
    kept_until: Option<Instant>,
    /// Nothing is sent before: the next probe, forgotten once the origin works.
    probe_at: Option<Instant>,
    row: Row,
    /// It was long enough.
    broken: bool,
    /// When the origin took something last.
    took_at: Option<Instant>,
    /// The share of attempts that fail, of late. Kept when the gate opens: one answer does not make
    /// an origin well that fails nine of ten.
    failing: f64,
    refusals: u32,
    /// The delivery that probes.
    probe: Option<DeliveryId>,
    /// Probes that failed since the gate closed.
    probes: u32,
    /// Deliveries put aside since the gate closed.
    aside: u32,
    closed_since: Option<Instant>,
}

impl State {
    const fn is_broken(&self) -> bool {
        self.broken
    }

    const fn is_refusing(&self) -> bool {
        self.refusals >= REFUSALS_TO_CLOSE
    }

    const fn is_shut(&self) -> bool {
        self.is_broken() || self.is_refusing()
    }

    fn passage(&self, now: Instant) -> Passage {
        match self.asked_until.max(self.probe_at) {
            Some(until) if until > now => Passage::Closed(until),
            Some(_) | None if self.is_shut() => Passage::Probe,
            Some(_) | None => Passage::Open,
        }
    }

    /// Notes a failed probe, or the failure that shuts the gate: answers whether it is that one.
    fn shut(&mut self, was_shut: bool, delivery: DeliveryId, now: Instant) -> Turn {
        // What was under way with the one that shut it tells nothing of the probe, which may be
        // under way still: the next must not come sooner for it.
        if !self.is_shut() || (was_shut && self.probe != Some(delivery)) {
            return Turn::None;
        }
        self.probe = None;
        self.probes += u32::from(was_shut && self.probes < PROBE_DOUBLINGS_MAX);
        let wait = PROBE_FIRST.saturating_mul(1 << self.probes).min(PROBE_EVERY);
        self.probe_at = now.checked_add(wait);
        self.closed_since.get_or_insert(now);
        if was_shut { Turn::None } else { Turn::Shut }
    }
}

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// As many as the concurrency allows.
    Open,
    /// One, whose end decides.
    Probe,
    /// None before then.
    Closed(Instant),
}

/// What an attempt's end did to its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing that anyone must hear of.
    None,
    /// The gate has shut: from now on it is probed.
    Shut,
    /// The origin works again, after so long.
    Opened(Duration),
}

/// What is to be told of a gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Failures have opened the breaker.
    pub broken: bool,
    /// Twenty refusals of the whole destination in a row.
    pub refusing: bool,
    /// Nothing is sent for so long.
    pub closed_for: Option<Duration>,
}

impl Gate {
    /// An open gate, which tells there when it may have closed. A probe that has not ended after
    /// `probe_within` is not waited for any more.
    #[must_use]
    pub fn new(origin: String, changed: Arc<Notify>, probe_within: Duration) -> Self {
        Self { origin, state: Mutex::default(), changed, probe_within }
    }

    /// Scheme and authority of whom it stands in front of.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The origin asked before the relay ran last to be left alone until then.
    pub fn asked(&self, until: Instant) {
        let mut state = self.state();
        state.asked_until = state.asked_until.max(Some(until));
        state.kept_until = state.asked_until;
    }

    /// Whether the origin asked to be left alone, and that time is not over.
    pub fn is_asked(&self, now: Instant) -> bool {
        self.state().asked_until.is_some_and(|until| until > now)
    }

    /// Until when it stays closed as the origin asked, and some time more, if that is to be kept for
    /// a restart and is not. What is answered counts as kept.
    pub fn to_keep(&self, beyond: Duration, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        let until = state.asked_until.filter(|until| *until > now)?;
        if state.kept_until.is_some_and(|kept| kept >= until) {
            return None;
        }
        state.kept_until = until.checked_add(beyond);
        state.kept_until
    }

    /// What may be sent at `now`.
    pub fn passage(&self, now: Instant) -> Passage {
        self.state().passage(now)
    }

    /// Whether a delivery may be sent now; a probe is the only one until its end.
    ///
    /// # Errors
    /// For how long the delivery is best put aside. The more were since the gate shut, the longer,
    /// so that about one of them comes back for each probe; where it only waits as it was asked to,
    /// all may come when that is over.
    pub fn enter(&self, delivery: DeliveryId, now: Instant) -> Result<(), Duration> {
        let mut state = self.state();
        match state.passage(now) {
            Passage::Open => Ok(()),
            Passage::Probe => {
                state.probe_at = now.checked_add(self.probe_within);
                state.probe = Some(delivery);
                Ok(())
            }
            Passage::Closed(until) if !state.is_shut() => Err(until - now),
            Passage::Closed(until) => {
                state.aside = state.aside.saturating_add(1);
                let spread = PROBE_EVERY.saturating_mul(state.aside).as_secs_f64();
                let wait = Duration::from_secs_f64(spread * fastrand::f64());
                Err((until - now).saturating_add(wait))
            }
        }
    }

    /// The origin works: an answer other than "not now" came for an event.
    pub fn succeeded(&self, now: Instant) -> Turn {
        let mut state = self.state();
        let since = state.closed_since;
        let State { asked_until, kept_until, .. } = *state;
        let (took_at, failing) = (Some(now), state.failing * (1.0 - SHARE_OF_ONE));
        *state = State { asked_until, kept_until, took_at, failing, ..State::default() };
        since.map_or(Turn::None, |since| Turn::Opened(now.saturating_duration_since(since)))
    }

    /// The origin said "not now" to `delivery`, or nothing at all. A hint closes the gate for all
    /// of the origin; without one, failures of different deliveries in a row open the breaker, so
    /// that a few poisoned events never do.
    pub fn failed(
        &self,
        delivery: DeliveryId,
        blame: Blame,
        hint: Option<Duration>,
        now: Instant,
    ) -> Turn {
        let mut state = self.state();
        let was_shut = state.is_shut();
        state.row.note(delivery, blame);
        state.failing += (1.0 - state.failing) * SHARE_OF_ONE;
        let is_lately = state.took_at.is_some_and(|at| now.saturating_duration_since(at) < LATELY);
        let is_most = !is_lately || state.failing >= SHARE_TO_OPEN;
        state.broken |= state.row.is_long() && is_most;
        let turn = state.shut(was_shut, delivery, now);
        let asked = hint.and_then(|hint| now.checked_add(hint));
        state.asked_until = state.asked_until.max(asked);
        drop(state);
        self.changed.notify_waiters();
        turn
    }

    /// The origin refused as one does that is not the right one, or does not know us: 401, 403,
    /// 404 or 405. Says besides whether the event is to be kept for later, for it is the
    /// destination that is broken.
    pub fn refused(&self, delivery: DeliveryId, now: Instant) -> (Turn, bool) {
        let mut state = self.state();
        let (was_shut, was_refusing) = (state.is_shut(), state.is_refusing());
        // An answer came, so what does not answer is not what is wrong.
        (state.row, state.broken) = (Row::default(), false);
        state.refusals = state.refusals.saturating_add(1);
        let turn = state.shut(was_shut, delivery, now);
        if !state.is_shut() {
            (state.probe_at, state.probe, state.probes, state.aside) = (None, None, 0, 0);
            let since = state.closed_since.take();
            let opened = since.map(|since| now.saturating_duration_since(since));
            return (opened.map_or(Turn::None, Turn::Opened), false);
        }
        drop(state);
        self.changed.notify_waiters();
        (turn, was_refusing)
    }

    /// How it stands.
    pub fn standing(&self, now: Instant) -> Standing {
        let state = self.state();
        let closed_for = match state.passage(now) {
            Passage::Closed(until) => Some(until - now),
            Passage::Open | Passage::Probe => None,
        };
        Standing { broken: state.is_broken(), refusing: state.is_refusing(), closed_for }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE_WITHIN: Duration = Duration::from_secs(10);

    fn gate() -> (Gate, Instant) {
        (Gate::new(String::new(), Arc::default(), PROBE_WITHIN), Instant::now())
    }

    fn fail(gate: &Gate, ids: std::ops::Range<u64>, now: Instant) -> Vec<Turn> {
        ids.map(|id| gate.failed(DeliveryId(id), Blame::Either, None, now)).collect()
    }

    #[test]
    fn failures_in_a_row_open_the_breaker_and_a_probe_closes_it() {
        let (gate, now) = gate();
        assert_eq!(fail(&gate, 0..4, now), [Turn::None; 4]);
        assert_eq!(gate.passage(now), Passage::Open);
        assert_eq!(fail(&gate, 4..6, now), [Turn::Shut, Turn::None]);
        let then = now + PROBE_FIRST;
        assert_eq!(gate.passage(now), Passage::Closed(then));
        assert_eq!(gate.passage(then), Passage::Probe);
        assert_eq!(gate.succeeded(then), Turn::Opened(PROBE_FIRST));
        assert_eq!((gate.passage(then), gate.succeeded(then)), (Passage::Open, Turn::None));
    }

    #[test]
    fn five_in_a_row_among_many_that_are_taken_do_not_open_the_breaker() {
        let (gate, now) = gate();
        gate.succeeded(now);
        assert_eq!(fail(&gate, 0..18, now), [Turn::None; 18]);
        assert_eq!(fail(&gate, 18..19, now), [Turn::Shut]);
        (0..100).for_each(|_| _ = gate.succeeded(now));
        assert_eq!(fail(&gate, 0..8, now), [Turn::None; 8]);
        // Nothing was taken for a while: those count that were before.
        assert_eq!(fail(&gate, 8..9, now + LATELY), [Turn::Shut]);
    }

    #[test]
    fn an_origin_that_fails_a_third_is_sent_on_and_one_that_fails_most_is_probed() {
        let mut random = fastrand::Rng::with_seed(5);
        for (share, openings) in [(0.3, 0..=0), (0.9, 100..=2_000)] {
            let (gate, now) = gate();
            let mut shut = 0;
            for id in 0..10_000 {
                if random.f64() >= share {
                    gate.succeeded(now);
                } else if gate.failed(DeliveryId(id), Blame::Either, None, now) == Turn::Shut {
                    shut += 1;
                }
            }
            assert!(openings.contains(&shut), "{share}: {shut}");
        }
    }

    #[test]
    fn an_open_breaker_probes_soon_enough_and_alone() {
        let (gate, mut now) = gate();
        fail(&gate, 0..5, now);
        for id in 5..40 {
            let Passage::Closed(until) = gate.passage(now) else { panic!("closed") };
            assert!(until - now <= PROBE_EVERY);
            assert!(gate.enter(DeliveryId(id), now).is_err());
            now = until;
            assert_eq!(gate.passage(now), Passage::Probe);
            assert_eq!(gate.enter(DeliveryId(id), now), Ok(()));
            assert!(gate.enter(DeliveryId(0), now).is_err(), "a second probe beside the first");
            fail(&gate, id..id + 1, now);
        }
    }

    #[test]
    fn what_was_under_way_before_a_probe_brings_no_other() {
        let (gate, now) = gate();
        fail(&gate, 0..5, now);
        let probed = now + PROBE_FIRST;
        assert_eq!(gate.enter(DeliveryId(5), probed), Ok(()));
        // They were sent with those that shut the gate, and took longer.
        let late = probed + PROBE_EVERY;
        assert_eq!(fail(&gate, 6..9, late), [Turn::None; 3]);
        assert_eq!(gate.passage(late), Passage::Closed(probed + PROBE_WITHIN));
        assert!(gate.enter(DeliveryId(9), late).is_err(), "the probe is under way still");
        fail(&gate, 5..6, late);
        assert_eq!(gate.passage(late), Passage::Closed(late + 2 * PROBE_FIRST), "one failed probe");
    }

    #[test]
    fn a_few_poisoned_events_never_open_it_together() {
        for poisoned in 1..5 {
            let (gate, now) = gate();
            for n in 0..100 {
                let turn = gate.failed(DeliveryId(n % poisoned), Blame::Either, None, now);
                assert_eq!(turn, Turn::None, "{poisoned}");
            }
            assert_eq!(gate.passage(now), Passage::Open);
            assert_eq!(gate.standing(now), Standing::default());
            // What fails beside them fills the row.
            let beside = 4 - poisoned;
            assert_eq!(fail(&gate, 200..200 + beside, now), vec![Turn::None; beside as usize]);
            assert_eq!(fail(&gate, 300..301, now), [Turn::Shut], "{poisoned}");
        }
    }

    #[test]
    fn an_origin_that_says_so_of_two_by_turns_is_away_and_of_one_for_ever_is_not() {
        let (gate, now) = gate();
        let told = |id| gate.failed(DeliveryId(id), Blame::Told, None, now);
        assert_eq!([(); 100].map(|()| told(7)), [Turn::None; 100]);
        assert_eq!([8, 7, 8].map(told), [Turn::None; 3]);
        assert_eq!(told(7), Turn::Shut);
    }

    #[test]
    fn a_delivery_that_finds_nobody_five_times_opens_it() {
        let (gate, now) = gate();
        let found_nobody = || gate.failed(DeliveryId(7), Blame::Origin, None, now);
        assert_eq!([(); 4].map(|()| found_nobody()), [Turn::None; 4]);
        assert_eq!(found_nobody(), Turn::Shut);
        assert!(gate.standing(now).broken);
    }

    #[test]
    fn a_retry_after_closes_the_gate_and_is_never_undercut() {
        let (gate, now) = gate();
        let minute = Duration::from_secs(60);
        gate.failed(DeliveryId(1), Blame::Either, Some(minute), now);
        gate.failed(DeliveryId(2), Blame::Either, Some(Duration::from_secs(1)), now);
        assert_eq!(gate.passage(now), Passage::Closed(now + minute));
        assert_eq!(gate.standing(now).closed_for, Some(minute));
        assert_eq!(gate.enter(DeliveryId(3), now), Err(minute), "it may come when that is over");
        // A success of what was under way does not undo what was asked for.
        gate.succeeded(now);
        assert_eq!(gate.passage(now), Passage::Closed(now + minute));
        assert_eq!(gate.passage(now + minute), Passage::Open);
    }

    #[test]
    fn what_was_asked_for_is_to_be_kept_once() {
        let (gate, now) = gate();
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(gate.to_keep(second, now), None);
        gate.failed(DeliveryId(1), Blame::Either, Some(Duration::ZERO), now);
        assert_eq!(gate.to_keep(second, now), None, "it asked for nothing");
        gate.failed(DeliveryId(1), Blame::Either, Some(minute), now);
        assert_eq!(gate.to_keep(second, now), Some(now + minute + second));
        gate.succeeded(now);
        let later = now + second;
        gate.failed(DeliveryId(2), Blame::Either, Some(minute), later);
        assert_eq!(gate.to_keep(second, later), None, "it is kept");
        gate.failed(DeliveryId(3), Blame::Either, Some(2 * minute), later);
        assert_eq!(gate.to_keep(second, later), Some(later + 2 * minute + second));
        let (gate, _) = self::gate();
        gate.asked(now + minute);
        assert_eq!(gate.passage(now), Passage::Closed(now + minute));
        assert_eq!(gate.to_keep(second, now), None);
    }

    #[test]
    fn a_retry_after_outranks_the_next_probe() {
        let (gate, now) = gate();
        let minute = Duration::from_secs(60);
        for id in 0..8 {
            gate.failed(DeliveryId(id), Blame::Either, Some(minute), now);
        }
        assert_eq!(gate.passage(now + PROBE_EVERY), Passage::Closed(now + minute));
        assert_eq!(gate.passage(now + minute), Passage::Probe);
    }

    #[test]
    fn twenty_refusals_in_a_row_are_a_broken_destination() {
        let (gate, now) = gate();
        for _ in 0..19 {
            assert_eq!(gate.refused(DeliveryId(1), now), (Turn::None, false));
        }
        gate.succeeded(now);
        for _ in 0..19 {
            assert_eq!(gate.refused(DeliveryId(1), now), (Turn::None, false));
        }
        assert_eq!(gate.passage(now), Passage::Open);
        assert_eq!(
            gate.refused(DeliveryId(1), now),
            (Turn::Shut, false),
            "the twentieth is a dead letter still"
        );
        assert_eq!(
            gate.refused(DeliveryId(1), now),
            (Turn::None, true),
            "what was under way with it is kept"
        );
        assert!(gate.standing(now).refusing && !gate.standing(now).broken);
        let later = now + PROBE_EVERY;
        assert_eq!(
            (gate.passage(later), gate.enter(DeliveryId(1), later)),
            (Passage::Probe, Ok(()))
        );
        assert_eq!(gate.refused(DeliveryId(1), later), (Turn::None, true));
        let Passage::Closed(until) = gate.passage(later) else { panic!("closed") };
        assert!(until - later <= PROBE_EVERY);
        assert_eq!(gate.succeeded(until), Turn::Opened(until - now));
        assert_eq!(gate.standing(until), Standing::default());
    }

    #[test]
    fn a_refusal_after_an_outage_says_that_the_origin_answers() {
        let (gate, now) = gate();
        fail(&gate, 0..5, now);
        let later = now + PROBE_EVERY;
        assert_eq!(gate.refused(DeliveryId(1), later), (Turn::Opened(PROBE_EVERY), false));
        assert_eq!(gate.passage(later), Passage::Open);
    }

    #[test]
    fn what_is_put_aside_comes_back_about_once_for_each_probe() {
        // The k-th waits evenly between none and k probes, so of 300 there should be back
        // T + T * ln(300 / T) after T probes, with a spread of less than 9.
        for seed in 1..=20 {
            fastrand::seed(seed);
            let (gate, now) = gate();
            fail(&gate, 0..5, now);
            let Passage::Closed(first) = gate.passage(now) else { panic!("closed") };
            let waits: Vec<Duration> =
                (0..300).map(|_| gate.enter(DeliveryId(9), now).expect_err("closed")).collect();
            for (probes, back) in [(10, 44.0), (60, 157.0), (150, 254.0), (300, 300.0)] {
                let until = first - now + probes * PROBE_EVERY;
                let came = waits.iter().filter(|wait| **wait <= until).count() as f64;
                assert!((came - back).abs() < 36.0, "{came} after {probes} probes, seed {seed}");
            }
        }
    }
}
