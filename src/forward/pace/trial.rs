//! Is the rate to blame? An origin that throttles refuses less once it is sent less; one of whose
//! servers is ill refuses the same share at any rate, and slowing down only makes us late.
//!
//! So each time the rate was lowered is a trial: the share refused before it against the share
//! refused of what was sent after it.

use std::time::Duration;

use tokio::time::Instant;

/// What a lowered rate is of the one before.
pub(super) const BACK: f64 = 0.7;
/// Beyond this share nobody can be asked what it would be at another rate: it is lowered at once.
const SHARE_MAX: f64 = 0.45;
/// A trial looks at so many answers, by how large the share is.
const ANSWERS: std::ops::RangeInclusive<f64> = 30.0..=300.0;
/// Refusals that a trial should meet if the share stays, so that none of them tells something.
const REFUSALS: f64 = 3.0;
/// Refusals that so many answers without one should have met if the share stays: that they met none
/// is chance once in 150 times.
const CLEAN: f64 = 5.0;
/// Answers from before a trial that are looked at; older ones count half.
const LOOK_BACK: f64 = 128.0;
/// How long it is believed that the rate is not to blame; then it is tried anew.
const BELIEF: Duration = Duration::from_secs(60);

/// Answers, and how many of them were refusals.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    answers: f64,
    refused: f64,
}

impl Tally {
    fn count(&mut self, refused: bool, look_back: f64) {
        if self.answers >= look_back {
            (self.answers, self.refused) = (self.answers / 2.0, self.refused / 2.0);
        }
        self.answers += 1.0;
        self.refused += f64::from(u8::from(refused));
    }

    fn share(&self) -> f64 {
        if self.answers > 0.0 { self.refused / self.answers } else { 0.0 }
    }
}

/// The trial that runs, what was found out last, and the answers that tell.
#[derive(Debug, Default)]
pub(super) struct Trial {
    lowered_at: Option<Instant>,
    running: bool,
    before: Tally,
    after: Tally,
    /// Answers since the last refusal, of those after.
    clean: f64,
    /// This share is refused at any rate, it is believed until then.
    believed: Option<(f64, Instant)>,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing yet, or nothing new.
    None,
    /// The rate is too much: lower it.
    TooMuch,
    /// The rate was not to blame: undo what was done to it last.
    NotTheRate,
}

impl Trial {
    /// Weighs one answer to an attempt that started then.
    pub(super) fn weigh(&mut self, refused: bool, started: Instant, now: Instant) -> Finding {
        let is_before = self.lowered_at.is_some_and(|at| started <= at);
        let tally = if is_before { &mut self.before } else { &mut self.after };
        if !is_before {
            self.clean = if refused { 0.0 } else { self.clean + 1.0 };
        }
        // A trial needs every answer that came since it began.
        tally.count(refused, if self.running { f64::INFINITY } else { LOOK_BACK });
        if self.running && self.before.share() > SHARE_MAX {
            self.running = false;
        }
        if self.running && (self.after.answers >= self.needed() || self.is_over()) {
            self.running = false;
            if self.is_not_the_rate() {
                let share = (1.5 * self.before.share() + 0.05).min(SHARE_MAX);
                self.believed = Some((share, now + BELIEF));
                return Finding::NotTheRate;
            }
            self.believed = None;
        }
        let is_believed =
            self.believed.is_some_and(|(share, until)| now < until && self.after.share() <= share);
        if !refused || is_before || self.running || is_believed {
            return Finding::None;
        }
        Finding::TooMuch
    }

    /// Whether something was taken since the rate was lowered last, or ever.
    pub(super) fn took_some(&self) -> bool {
        self.after.refused < self.after.answers
    }

    /// Whether it is being found out; the rate must stay as it is then.
    pub(super) const fn is_running(&self) -> bool {
        self.running
    }

    /// The rate is lowered now, to see what comes of it.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.before, self.after, self.clean) = (self.after, Tally::default(), 0.0);
        (self.lowered_at, self.running) = (Some(now), true);
    }

    /// The origin was away: what it did before tells nothing, unless it was but a moment; then what
    /// was found out holds.
    pub(super) fn forget(&mut self, is_blip: bool) {
        let believed = self.believed.filter(|_| is_blip);
        *self = Self { believed, ..Self::default() };
    }

    /// Answers that a trial needs. The two shares that it must tell apart are so far from each other
    /// that twice the spread of that many answers lies between them.
    fn needed(&self) -> f64 {
        let share = self.before.share();
        let apart = 87.0 * share / (1.0 - share).max(0.1);
        let met = REFUSALS / share.max(0.001);
        apart.max(met).clamp(*ANSWERS.start(), *ANSWERS.end())
    }

    /// Whether nothing is refused any more, which fewer answers tell: at a low rate an origin that
    /// is well again would be kept waiting for the rest of them.
    fn is_over(&self) -> bool {
        self.clean >= CLEAN / self.before.share().max(0.001)
    }

    /// Of a throttling origin the share that is left is what is still beyond what it takes.
    fn is_not_the_rate(&self) -> bool {
        let (before, after) = (self.before.share(), self.after.share());
        let throttling = (1.0 - (1.0 - before) / BACK).max(0.0);
        // More than before is no sign that it does not matter.
        after > f64::midpoint(before, throttling) && after <= 1.5 * before + 0.05
    }
}
