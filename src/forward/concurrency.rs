//! How many attempts may be under way at once: halved when the origin says that it has too much,
//! grown back by one. A share of them is kept for fresh events.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::spool::{Lane, Want};

/// The slots of one destination.
#[derive(Debug)]
pub struct Concurrency {
    cap: usize,
    reserved: usize,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    limit: usize,
    /// Attempts under way, and those of them that are of a lane other than the live one.
    taken: usize,
    others: usize,
    probing: bool,
    /// Answers since the limit last grew.
    answers: usize,
    halved_at: Option<Instant>,
}

/// What a slot is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A fresh event.
    Live,
    /// Any other.
    Other,
    /// The one that tells whether the origin works again.
    Probe,
}

impl Use {
    /// The use of a delivery of that lane, or of a probe.
    #[must_use]
    pub const fn of(lane: Lane, probing: bool) -> Self {
        match lane {
            _ if probing => Self::Probe,
            Lane::Live => Self::Live,
            Lane::Backlog | Lane::Retry => Self::Other,
        }
    }
}

/// One attempt's place; given back when it is dropped.
#[derive(Debug)]
pub struct Slot {
    of: Arc<Concurrency>,
    used: Use,
    started: Instant,
}

impl Concurrency {
    /// `cap` slots, `reserved` of them for fresh events alone.
    #[must_use]
    pub fn new(cap: usize, reserved: usize) -> Arc<Self> {
        let state =
            State { limit: cap, taken: 0, others: 0, probing: false, answers: 0, halved_at: None };
        Arc::new(Self { cap, reserved, state: Mutex::new(state), freed: Notify::new() })
    }

    /// What may be leased now.
    #[must_use]
    pub fn want(&self) -> Want {
        let state = self.state();
        let max = state.limit.saturating_sub(state.taken);
        let for_others = state.limit - self.reserved_of(state.limit);
        Want { max, others: for_others.saturating_sub(state.others).min(max) }
    }

    /// What may be leased for a probe, which is the only one of its kind.
    #[must_use]
    pub fn want_probe(&self) -> Want {
        Want::any(usize::from(!self.state().probing))
    }

    /// The share of a lowered limit that is kept for fresh events; one slot is for everyone.
    fn reserved_of(&self, limit: usize) -> usize {
        (self.reserved * limit).div_ceil(self.cap).min(limit - 1)
    }

    /// Takes a slot for an attempt that starts now.
    #[must_use]
    pub fn take(self: &Arc<Self>, used: Use, now: Instant) -> Slot {
        let mut state = self.state();
        state.taken += 1;
        match used {
            Use::Live => {}
            Use::Other => state.others += 1,
            Use::Probe => state.probing = true,
        }
        drop(state);
        Slot { of: Arc::clone(self), used, started: now }
    }

    /// The origin took an attempt: after as many as the limit is, one more may be under way.
    pub fn answered(&self) {
        let mut state = self.state();
        state.answers += 1;
        if state.answers >= state.limit {
            state.answers = 0;
            state.limit = (state.limit + 1).min(self.cap);
        }
    }

    /// The origin has too much. Halves the limit, once for all that was under way together: says
    /// whether it did.
    pub fn throttled(&self, started: Instant, now: Instant) -> bool {
        let mut state = self.state();
        if state.halved_at.is_some_and(|at| started <= at) {
            return false;
        }
        state.halved_at = Some(now);
        state.limit = (state.limit / 2).max(1);
        state.answers = 0;
        true
    }

    /// An outage is over, which told nothing about how much at once is too much.
    pub fn restore(&self) {
        self.state().limit = self.cap;
    }

    /// Attempts that may be under way, and their cap.
    #[must_use]
    pub fn limit(&self) -> (usize, usize) {
        (self.state().limit, self.cap)
    }

    /// Waits for a slot to be given back; one that was since the last wait counts.
    pub fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// When it was taken.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// What for.
    #[must_use]
    pub const fn used(&self) -> Use {
        self.used
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.of.state();
        state.taken -= 1;
        match self.used {
            Use::Live => {}
            Use::Other => state.others -= 1,
            Use::Probe => state.probing = false,
        }
        drop(state);
        self.of.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_backlog_leaves_the_reserved_slots_to_fresh_events() {
        let (slots, now) = (Concurrency::new(8, 2), Instant::now());
        assert_eq!(slots.want(), Want { max: 8, others: 6 });
        let held: Vec<Slot> = (0..6).map(|_| slots.take(Use::Other, now)).collect();
        assert_eq!(slots.want(), Want { max: 2, others: 0 });
        let live = [slots.take(Use::Live, now), slots.take(Use::Live, now)];
        assert_eq!(slots.want(), Want { max: 0, others: 0 });
        drop(held);
        // Fresh events may have more than their share.
        assert_eq!(slots.want(), Want { max: 6, others: 6 });
        drop(live);
        assert_eq!(slots.want(), Want { max: 8, others: 6 });
    }

    #[test]
    fn the_limit_halves_once_for_what_was_under_way_together_and_grows_by_one() {
        let slots = Concurrency::new(32, 8);
        let start = Instant::now();
        let later = start + Duration::from_millis(10);
        assert!(slots.throttled(start, later));
        for _ in 0..31 {
            assert!(!slots.throttled(start, later));
        }
        assert_eq!(slots.limit(), (16, 32));
        assert_eq!(slots.want(), Want { max: 16, others: 12 });
        for n in 1..10_u64 {
            slots.throttled(start + Duration::from_secs(n), later + Duration::from_secs(n));
        }
        assert_eq!(slots.limit(), (1, 32));
        // The last slot is for every lane.
        assert_eq!(slots.want(), Want { max: 1, others: 1 });
        slots.answered();
        assert_eq!(slots.limit(), (2, 32));
        (0..1_000).for_each(|_| slots.answered());
        assert_eq!(slots.limit(), (32, 32));
    }

    #[test]
    fn a_probe_goes_alone() {
        let (slots, now) = (Concurrency::new(4, 1), Instant::now());
        let hung: Vec<Slot> = (0..4).map(|_| slots.take(Use::Other, now)).collect();
        assert_eq!(slots.want_probe(), Want::any(1), "what hangs from before does not keep it");
        let probe = slots.take(Use::of(Lane::Live, true), now);
        assert_eq!(slots.want_probe(), Want::any(0));
        drop(probe);
        assert_eq!(slots.want_probe(), Want::any(1));
        drop(hung);
    }
}
