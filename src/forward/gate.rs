//! The gate in front of an origin: closed by its `Retry-After`, or by failures one after another.
//!
//! While it is closed nothing is leased, so an outage costs one probe at a time and no storm.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::spool::DeliveryId;

/// Different deliveries that fail one after another before the breaker opens.
const FAILURES_TO_OPEN: u32 = 5;
/// Longest wait of an open breaker for its next probe.
const PROBE_EVERY: Duration = Duration::from_secs(3);
/// Wait before the first probe; doubled up to [`PROBE_EVERY`].
const PROBE_FIRST: Duration = Duration::from_millis(250);

/// Enough to reach [`PROBE_EVERY`].
const PROBE_DOUBLINGS_MAX: u32 = 8;

/// One origin's gate.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    closing: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing is sent before: the origin's own word, which nothing undoes.
    asked_until: Option<Instant>,
    /// Nothing is sent before: the breaker's next probe, forgotten once the origin works.
    probe_at: Option<Instant>,
    /// Deliveries that failed one after another, each counted once in a row.
    failures: u32,
    last_failed: Option<DeliveryId>,
    /// Probes that failed since the breaker opened.
    probes: u32,
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

impl Gate {
    /// What may be sent at `now`.
    pub fn passage(&self, now: Instant) -> Passage {
        let state = self.state();
        match state.asked_until.max(state.probe_at) {
            Some(until) if until > now => Passage::Closed(until),
            Some(_) | None if state.failures >= FAILURES_TO_OPEN => Passage::Probe,
            Some(_) | None => Passage::Open,
        }
    }

    /// Whether failures have opened the breaker.
    pub fn is_broken(&self) -> bool {
        self.state().failures >= FAILURES_TO_OPEN
    }

    /// The origin works: an answer other than "not now" came.
    pub fn succeeded(&self) {
        let mut state = self.state();
        *state = State { asked_until: state.asked_until, ..State::default() };
    }

    /// The origin said "not now" to `delivery`, or nothing at all. A hint closes the gate for all
    /// of the origin; without one, failures of different deliveries in a row open the breaker, so
    /// that one poisoned event never does.
    pub fn failed(&self, delivery: DeliveryId, hint: Option<Duration>, now: Instant) {
        let mut state = self.state();
        let probing = state.failures >= FAILURES_TO_OPEN;
        if state.last_failed.replace(delivery) != Some(delivery) {
            state.failures = state.failures.saturating_add(1);
        }
        if state.failures >= FAILURES_TO_OPEN {
            state.probes += u32::from(probing && state.probes < PROBE_DOUBLINGS_MAX);
            let wait = PROBE_FIRST.saturating_mul(1 << state.probes).min(PROBE_EVERY);
            state.probe_at = state.probe_at.max(now.checked_add(wait));
        }
        let asked = hint.and_then(|hint| now.checked_add(hint));
        state.asked_until = state.asked_until.max(asked);
        drop(state);
        self.closing.notify_waiters();
    }

    /// Waits for the next failure, which may have closed the gate. One that comes after this call
    /// and before the first poll counts too.
    pub fn closing(&self) -> Notified<'_> {
        self.closing.notified()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(gate: &Gate, ids: std::ops::Range<u64>, now: Instant) {
        ids.for_each(|id| gate.failed(DeliveryId(id), None, now));
    }

    #[test]
    fn failures_in_a_row_open_the_breaker_and_a_probe_closes_it() {
        let (gate, now) = (Gate::default(), Instant::now());
        fail(&gate, 0..4, now);
        assert_eq!(gate.passage(now), Passage::Open);
        fail(&gate, 4..5, now);
        assert_eq!(gate.passage(now), Passage::Closed(now + PROBE_FIRST));
        assert_eq!(gate.passage(now + PROBE_FIRST), Passage::Probe);
        gate.succeeded();
        assert_eq!(gate.passage(now + PROBE_FIRST), Passage::Open);
    }

    #[test]
    fn an_open_breaker_probes_at_least_every_three_seconds() {
        let (gate, mut now) = (Gate::default(), Instant::now());
        fail(&gate, 0..5, now);
        for id in 5..40 {
            let Passage::Closed(until) = gate.passage(now) else { panic!("closed") };
            assert!(until - now <= PROBE_EVERY);
            now = until;
            assert_eq!(gate.passage(now), Passage::Probe);
            fail(&gate, id..id + 1, now);
        }
    }

    #[test]
    fn one_poisoned_event_never_opens_it() {
        let (gate, now) = (Gate::default(), Instant::now());
        (0..100).for_each(|_| gate.failed(DeliveryId(7), None, now));
        assert_eq!(gate.passage(now), Passage::Open);
        assert!(!gate.is_broken());
    }

    #[test]
    fn a_retry_after_closes_the_gate_and_is_never_undercut() {
        let (gate, now) = (Gate::default(), Instant::now());
        let minute = Duration::from_secs(60);
        gate.failed(DeliveryId(1), Some(minute), now);
        gate.failed(DeliveryId(2), Some(Duration::from_secs(1)), now);
        assert_eq!(gate.passage(now), Passage::Closed(now + minute));
        // A success of what was under way does not undo what was asked for.
        gate.succeeded();
        assert_eq!(gate.passage(now), Passage::Closed(now + minute));
        assert_eq!(gate.passage(now + minute), Passage::Open);
    }
}
