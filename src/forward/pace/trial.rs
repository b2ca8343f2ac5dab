//! Is the rate to blame? An origin that throttles refuses less once it is sent less; one of whose
//! servers is ill refuses the same share at any rate, and slowing down only makes us late.
//!
//! So each time the rate was lowered is a trial: the share refused before it against the share
//! refused of what was sent after it.

use std::time::Duration;

use tokio::time::Instant;

/// How far the rate is lowered for a trial, and how its answers are read.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// What the lowered rate is of the one before.
    back: f64,
    /// Where the share that is found must lie, between what a throttling origin would refuse, 0, and
    /// what was refused before, 1, for the rate not to be to blame.
    beyond: f64,
}

impl Step {
    const SMALL: Self = Self { back: 0.7, beyond: 0.5 };
    /// Large shares lie so near to each other that a small step would take hundreds of answers to
    /// tell them apart, most of them refusals. One that lets one in so many milliseconds pass may
    /// refuse two of three and then every other, which is nearer to the first than it should be.
    const DEEP: Self = Self { back: 0.5, beyond: 2.0 / 3.0 };
}

impl Default for Step {
    fn default() -> Self {
        Self::SMALL
    }
}

/// Beyond this share a step is deep.
const SHARE_DEEP: f64 = 0.45;
/// Beyond this share nobody can be asked what it would be at another rate: it is lowered at once.
const SHARE_MAX: f64 = 0.65;
/// A refusal among many answers says by itself that the rate has become too much, not so one of a few.
const MUCH: f64 = 0.3;
/// So many answers are few: it takes about as many refusals alone to be beyond [`SHARE_MAX`].
const FEW: f64 = 10.0;
/// So much more than what is believed to be refused at any rate has another reason.
const BELIEVED_BEYOND: f64 = 0.15;
/// What is believed weighs as much as so many answers, so that the first few of them do not end it.
const BELIEVED_ANSWERS: f64 = 30.0;
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

    /// The share, if so many answers before had that one.
    fn share_after(&self, share: f64, answers: f64) -> f64 {
        (self.refused + share * answers) / (self.answers + answers)
    }

    /// Whether there is no use in a trial. The first few answers do not tell.
    fn is_far_too_much(&self) -> bool {
        self.share_after(SHARE_DEEP, FEW) > SHARE_MAX
    }
}

/// The trial that runs, what was found out last, and the answers that tell.
#[derive(Debug, Default)]
pub(super) struct Trial {
    lowered_at: Option<Instant>,
    step: Step,
    running: bool,
    before: Tally,
    after: Tally,
    /// Answers since the last refusal, of those after.
    clean: f64,
    believed: Option<Belief>,
}

/// That this share is refused at any rate.
#[derive(Clone, Copy, Debug)]
struct Belief {
    share: f64,
    until: Instant,
}

impl Belief {
    /// Whether it holds in view of those answers.
    fn holds(&self, answers: &Tally, now: Instant) -> bool {
        let share = answers.share_after(self.share, BELIEVED_ANSWERS);
        now < self.until && share <= like(self.share).min(self.share + BELIEVED_BEYOND)
    }
}

/// The largest share that is like another; more is no sign that the rate does not matter.
fn like(share: f64) -> f64 {
    1.5 * share + 0.05
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
        if self.running && self.before.is_far_too_much() {
            self.running = false;
        }
        if self.running && (self.after.answers >= self.needed() || self.is_over()) {
            self.running = false;
            if self.is_not_the_rate() {
                self.believed = Some(Belief { share: self.after.share(), until: now + BELIEF });
                return Finding::NotTheRate;
            }
            self.believed = None;
        }
        if !refused || is_before || self.running || self.believes(now) {
            return Finding::None;
        }
        if self.is_counting() { Finding::None } else { Finding::TooMuch }
    }

    /// Whether much of the first few answers since the rate was lowered was refused: a trial is of no
    /// use before the share is known that it starts from.
    fn is_counting(&self) -> bool {
        let Tally { answers, refused } = self.after;
        self.lowered_at.is_some()
            && answers < *ANSWERS.start()
            && refused > MUCH * answers
            && !self.after.is_far_too_much()
    }

    /// Whether something was taken since the rate was lowered last, or ever.
    pub(super) fn took_some(&self) -> bool {
        self.after.refused < self.after.answers
    }

    /// Whether it is being found out; the rate must stay as it is then.
    pub(super) fn is_running(&self) -> bool {
        self.running || self.is_counting()
    }

    /// The rate is lowered now, to see what comes of it: answers to what share of it.
    pub(super) fn begin(&mut self, now: Instant) -> f64 {
        self.step = if self.after.share() > SHARE_DEEP { Step::DEEP } else { Step::SMALL };
        (self.before, self.after, self.clean) = (self.after, Tally::default(), 0.0);
        (self.lowered_at, self.running) = (Some(now), true);
        self.step.back
    }

    /// Nothing is to be learned from the answers to come.
    pub(super) const fn end(&mut self) {
        self.running = false;
    }

    /// Whether it is known that the rate is not to blame.
    pub(super) fn believes(&self, now: Instant) -> bool {
        self.believed.is_some_and(|belief| belief.holds(&self.after, now))
    }

    /// The origin had an outage: what it did before tells nothing.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Answers that a trial needs. The two shares that it must tell apart are so far from each other
    /// that twice the spread of that many answers lies between them.
    fn needed(&self) -> f64 {
        let share = self.before.share();
        // In parts of what is taken.
        let gap = (1.0 / self.step.back - 1.0) * (1.0 - self.step.beyond);
        let apart = 4.0 * share / ((1.0 - share).max(0.1) * gap * gap);
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
        let throttling = (1.0 - (1.0 - before) / self.step.back).max(0.0);
        let beyond = throttling + (before - throttling) * self.step.beyond;
        // A share of a handful of answers is none.
        self.before.answers >= *ANSWERS.start() && after > beyond && after <= like(before)
    }
}
