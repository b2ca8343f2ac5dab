//! How fast attempts may follow each other, once the origin had trouble: a ramp that begins low,
//! doubles each second up to what was known to be too much, and feels its way on from there; and
//! none where what is refused has nothing to do with how fast it is sent ([`trial`]).
//!
//! An origin that comes back after an outage has cold caches and every other client at its door.
//! One that throttles answers fast, so a bound on what is under way at once does not slow us down.
//! Without trouble there is no bound.

mod trial;

use std::f64::consts::LN_2;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use trial::{Finding, Trial};

/// Attempts a second with which a ramp begins.
pub const RAMP_FIRST: f64 = 100.0;
/// The rate never falls below: slower than this is the breaker's business.
pub const RATE_MIN: f64 = 1.0;
/// Beyond this rate the bound is dropped: it was found by the doubling alone.
const RATE_FREE: f64 = 20_000.0;
/// Without trouble for so long the bound is dropped.
const FREE_AFTER: Duration = Duration::from_secs(60);
/// The same while a trial holds the rate where it is: at a few answers a second it may take that long.
const FREE_AFTER_TRIAL: Duration = Duration::from_secs(300);
/// How much of a rate that was too much is added a second, once it is near.
const FEEL: f64 = 0.05;
/// So far beyond a rate that was too much, it is forgotten and the doubling goes on.
const FELT: f64 = 1.25;
/// Attempts that may go at once are those of so much time.
const BURST: f64 = 0.1;
/// An origin that was away for longer had an outage, which tells nothing about rates.
pub const BLIP: Duration = Duration::from_secs(5);
/// The same of one that refuses a share at any rate, where a few probes fail by chance.
const BLIP_BELIEVED: Duration = Duration::from_secs(20);
/// Over how long the rate of attempts is measured.
const MEASURED_OVER: f64 = 1.0;

/// The pace of one origin.
#[derive(Debug)]
pub struct Pace {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Attempts a second; none is no bound.
    rate: Option<f64>,
    /// Up to this rate it doubles each second.
    known: f64,
    /// Whether the rate is to blame for what is refused,
    trial: Trial,
    /// and what rate and the known one were before it was lowered last.
    undone: (Option<f64>, f64),
    tokens: f64,
    filled_at: Instant,
    troubled_at: Instant,
    sent: Meter,
}

/// Events a second, of late.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    value: f64,
    at: Instant,
    over: f64,
}

impl Meter {
    /// A meter that looks back over so many seconds, about.
    #[must_use]
    pub const fn new(over_seconds: f64, now: Instant) -> Self {
        Self { value: 0.0, at: now, over: over_seconds }
    }

    /// Events a second as of `now`.
    #[must_use]
    pub fn rate(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.value * (-passed / self.over).exp()
    }

    /// Counts events.
    pub fn add(&mut self, count: f64, now: Instant) {
        self.value = self.rate(now) + count / self.over;
        self.at = now;
    }
}

impl Pace {
    /// No bound yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let state = State {
            rate: None,
            known: RATE_FREE,
            trial: Trial::default(),
            undone: (None, RATE_FREE),
            tokens: 0.0,
            filled_at: now,
            troubled_at: now,
            sent: Meter::new(MEASURED_OVER, now),
        };
        Self { state: Mutex::new(state) }
    }

    /// How many attempts may start now; when none, from when on one may.
    ///
    /// # Errors
    /// That moment.
    pub fn ready(&self, now: Instant) -> Result<usize, Instant> {
        let mut state = self.state();
        let free_after = if state.trial.is_running() { FREE_AFTER_TRIAL } else { FREE_AFTER };
        if now.saturating_duration_since(state.troubled_at) >= free_after {
            state.rate = None;
        }
        let Some(rate) = state.rate else { return Ok(usize::MAX) };
        let passed = now.saturating_duration_since(state.filled_at).as_secs_f64();
        state.tokens = (state.tokens + passed * rate).min((rate * BURST).max(1.0));
        state.filled_at = now;
        if state.tokens >= 1.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "1 to 2000"
            )]
            return Ok(state.tokens as usize);
        }
        // A millisecond is the timer's grain; rounded up, so that nobody looks again too early.
        let wait = Duration::from_secs_f64((1.0 - state.tokens) / rate);
        Err(now + wait.max(Duration::from_millis(1)))
    }

    /// Attempts start.
    pub fn started(&self, count: usize, now: Instant) {
        #[expect(clippy::cast_precision_loss, reason = "at most the concurrency")]
        let count = count as f64;
        let mut state = self.state();
        state.sent.add(count, now);
        state.tokens = (state.tokens - count).max(0.0);
    }

    /// The origin took an attempt that started then.
    pub fn answered(&self, started: Instant, now: Instant) {
        let mut state = self.state();
        let was_held = state.trial.is_running();
        let finding = state.trial.weigh(false, started, now);
        state.heed(finding);
        if was_held && !state.trial.is_running() {
            // Without trouble is only what was not held back.
            state.troubled_at = now;
        }
        let Some(rate) = state.rate.filter(|_| !state.trial.is_running()) else { return };
        if rate > FELT * state.known {
            // What was too much then is not any more.
            state.known = RATE_FREE;
        }
        // So much for each answer doubles the rate each second.
        let more = if rate < state.known { LN_2 } else { state.known * FEEL / rate };
        state.rate = Some(rate + more).filter(|rate| *rate < RATE_FREE);
    }

    /// The origin refused an attempt that started then, as if it had too much. Says whether it has:
    /// at the rate of late, or at the bound that there is, which is then lowered once for all that
    /// was under way together. One that took nothing since it said so last may simply be away, which
    /// tells no rate; and one that refuses the same share at any rate is not helped by another.
    pub fn throttled(&self, started: Instant, now: Instant) -> bool {
        let mut state = self.state();
        state.troubled_at = now;
        let finding = state.trial.weigh(true, started, now);
        state.heed(finding);
        if finding != Finding::TooMuch || state.rate.is_some() && !state.trial.took_some() {
            return false;
        }
        let back = state.trial.begin(now);
        let rate = match state.rate {
            None => {
                let lower = state.sent.rate(now) * back;
                if lower < RAMP_FIRST {
                    // Not lowered in truth, so what comes of it tells nothing.
                    state.trial.end();
                }
                lower.max(RAMP_FIRST)
            }
            Some(rate) => (rate * back).max(RATE_MIN),
        };
        state.undone = (state.rate, state.known);
        (state.rate, state.known) = (Some(rate), rate);
        (state.tokens, state.filled_at) = (0.0, now);
        true
    }

    /// The origin works again after so long: everything starts anew from a low rate. After a moment
    /// it may have been too much for it, so the rate is half of what it was; unless it is known that
    /// the rate is not to blame.
    pub fn restart(&self, after: Duration, now: Instant) {
        let mut state = self.state();
        let believes = state.trial.believes(now);
        let is_blip = after < if believes { BLIP_BELIEVED } else { BLIP };
        (state.tokens, state.filled_at, state.troubled_at) = (1.0, now, now);
        if is_blip && believes {
            return;
        }
        if !(is_blip && state.trial.took_some()) {
            state.known = RATE_FREE;
        }
        let half = state.rate.filter(|_| is_blip).map_or(RAMP_FIRST, |rate| rate / 2.0);
        state.rate = Some(half.clamp(RATE_MIN, RAMP_FIRST));
        if !is_blip {
            state.trial.forget();
        }
    }

    /// Attempts a second that are allowed, unless there is no bound.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.state().rate
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes back what was done to a rate that was not to blame.
    fn heed(&mut self, finding: Finding) {
        match finding {
            Finding::None | Finding::TooMuch => {}
            Finding::NotTheRate => {
                let (rate, known) = self.undone;
                self.known = known;
                self.rate = rate.map(|rate| rate.max(self.rate.unwrap_or(rate)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Sends as fast as the pace allows, up to 6,400 a second, to an origin that takes `sustained`
    /// a second and refuses `share` of them without a reason, and that answers after 20 ms. Answers
    /// what went through and what did not, each second.
    fn run(
        pace: &Pace,
        mut now: Instant,
        seconds: u32,
        (sustained, share): (f64, f64),
    ) -> Vec<(u32, u32)> {
        let (tick, mut random) = (Duration::from_millis(5), fastrand::Rng::with_seed(7));
        let (most, mut curve) = ((sustained / 10.0).max(1.0), Vec::new());
        let (mut bucket, mut under_way) = (most, VecDeque::new());
        for _ in 0..seconds {
            let (mut taken, mut refused) = (0, 0);
            for _ in 0..200 {
                now += tick;
                bucket = (bucket + sustained * tick.as_secs_f64()).min(most);
                if under_way.len() > 3 {
                    let (started, count) = under_way.pop_front().unwrap();
                    for _ in 0..count {
                        if bucket >= 1.0 && random.f64() >= share {
                            bucket -= 1.0;
                            taken += 1;
                            pace.answered(started, now);
                        } else {
                            refused += 1;
                            pace.throttled(started, now);
                        }
                    }
                }
                let count = pace.ready(now).map_or(0, |count| count.min(32));
                pace.started(count, now);
                under_way.push_back((now, count));
            }
            curve.push((taken, refused));
        }
        curve
    }

    #[test]
    fn without_trouble_nothing_is_held_back() {
        let now = Instant::now();
        let pace = Pace::new(now);
        assert_eq!((pace.ready(now), pace.rate()), (Ok(usize::MAX), None));
    }

    #[test]
    fn a_ramp_begins_low_and_doubles_each_second() {
        let now = Instant::now();
        let pace = Pace::new(now);
        pace.restart(BLIP, now);
        let curve = run(&pace, now, 6, (1e9, 0.0));
        assert!(f64::from(curve[0].0) <= 2.0 * RAMP_FIRST, "{curve:?}");
        for pair in curve.windows(2) {
            let growth = f64::from(pair[1].0) / f64::from(pair[0].0);
            assert!((1.5..3.0).contains(&growth), "{curve:?}");
        }
        assert!(curve[5].0 > 1_000, "{curve:?}");
    }

    #[test]
    fn a_throttling_origin_is_sent_what_it_sustains() {
        let now = Instant::now();
        for sustained in [2.0, 5.0, 7.0, 20.0, 100.0, 1_000.0] {
            let pace = Pace::new(now);
            let curve = run(&pace, now, 240, (sustained, 0.0));
            // Ten a second and more are found soon; fewer answers take longer to tell something.
            let settled = if sustained < 10.0 { 60 } else { 20 };
            let (share, wasted) = settling(&curve[settled..], sustained);
            assert!(share > 0.7, "{sustained}: {share} in {curve:?}");
            assert!(wasted < 0.02, "{sustained}: {wasted} in {curve:?}");
        }
    }

    /// How much of what is sustained was used, and which share was refused.
    #[expect(clippy::cast_precision_loss, reason = "few")]
    fn settling(curve: &[(u32, u32)], sustained: f64) -> (f64, f64) {
        let sum = |of: fn(&(u32, u32)) -> u32| f64::from(curve.iter().map(of).sum::<u32>());
        let (taken, refused) = (sum(|one| one.0), sum(|one| one.1));
        (taken / (sustained * curve.len() as f64), refused / (taken + refused))
    }

    #[test]
    fn an_origin_that_refuses_a_share_at_any_rate_is_not_sent_less_and_less() {
        let now = Instant::now();
        for share in [0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6] {
            let pace = Pace::new(now);
            let curve = run(&pace, now, 120, (1e9, share));
            let taken: u32 = curve[20..].iter().map(|(taken, _)| taken).sum();
            let rate = f64::from(taken) / 100.0;
            assert!(rate > 500.0, "{share}: {rate} in {curve:?}");
        }
    }

    #[test]
    fn an_origin_that_throttles_and_is_ill_is_sent_about_what_it_sustains() {
        let now = Instant::now();
        for ill in [0.05, 0.3, 0.5] {
            let pace = Pace::new(now);
            let curve = run(&pace, now, 120, (200.0, ill));
            let (share, refused) = settling(&curve[20..], 200.0);
            assert!(share > 0.6, "{ill}: {share} in {curve:?}");
            assert!(refused < ill + 0.15, "{ill}: {refused} in {curve:?}");
        }
    }

    #[test]
    fn a_bound_is_forgotten_after_a_minute_without_trouble() {
        let now = Instant::now();
        let pace = Pace::new(now);
        pace.started(10, now);
        pace.throttled(now, now);
        assert!(pace.rate().is_some());
        assert_eq!(pace.ready(now + FREE_AFTER), Ok(usize::MAX));
    }

    #[test]
    fn a_meter_tells_events_a_second() {
        let start = Instant::now();
        let mut meter = Meter::new(10.0, start);
        for n in 0..5_000 {
            meter.add(1.0, start + Duration::from_millis(10) * n);
        }
        let end = start + Duration::from_secs(50);
        assert!((95.0..105.0).contains(&meter.rate(end)), "{}", meter.rate(end));
        assert!(meter.rate(end + Duration::from_secs(60)) < 1.0);
    }
}
