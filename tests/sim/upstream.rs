//! An origin with a script: what it answers when, and what the relay must do about it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;

/// How an origin behaves for a time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mood {
    /// It takes everything.
    Well,
    /// Nobody listens.
    Gone,
    /// It reads requests and never answers; some of them arrived.
    Silent,
    /// Connections break for a share of requests, half of them after the request was taken.
    Resets(f64),
    /// Each request meets something else.
    Mixed,
    /// A share of requests gets this answer, the rest is taken.
    Says(u16, f64, Hint),
    /// Some events are answered 500 whenever they come, the rest is taken: those of the numbers 1 to
    /// this one of each [`CHOKES_OF`].
    Chokes(u64),
    /// So many a second are taken, the rest gets this answer.
    Sustains(f64, u16, Hint),
}

/// A `Retry-After`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hint {
    None,
    Seconds(u64),
    /// A date so many seconds ahead.
    Date(u64),
}

/// A mood from a time on, and how long answers take.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) from: Duration,
    pub(crate) mood: Mood,
    pub(crate) latency_ms: Range<u64>,
}

/// What one attempt will meet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    Taken,
    /// A status that is not 2xx.
    Answered(u16),
    NotConnected,
    /// No answer; whether the request was taken.
    Broken(bool),
    /// No answer until the time of the attempt is over; whether the request was taken.
    Silence(bool),
}

/// Events whose number is a multiple are refused by everyone, always.
pub(crate) const POISON: u64 = 97;
/// A choking origin chokes on a few of so many.
pub(crate) const CHOKES_OF: u64 = 400;

#[derive(Debug)]
pub(crate) struct Upstream {
    script: Vec<Phase>,
    /// What is left of what is sustained, and when that was.
    bucket: (f64, Duration),
    pub(crate) watched: Watched,
}

impl Upstream {
    pub(crate) fn new(script: Vec<Phase>) -> Self {
        Self { script, bucket: (0.0, Duration::ZERO), watched: Watched::default() }
    }

    /// Phases of made-up moods until `end`, from when on it is well.
    pub(crate) fn made_up(random: &mut Rng, end: Duration) -> Self {
        let (mut script, mut from) = (Vec::new(), Duration::ZERO);
        while from < end {
            // One trouble may follow another.
            let is_well = script
                .last()
                .is_none_or(|last: &Phase| !matches!(last.mood, Mood::Well) && random.u8(..3) > 0);
            let mood = if is_well { Mood::Well } else { made_up_mood(random) };
            let latency_ms = if random.u8(..8) == 0 { 500..9_000 } else { 5..80 };
            script.push(Phase { from, mood, latency_ms });
            // A few outages last for hours, most for minutes.
            let longest = if random.u8(..6) == 0 { 9_000 } else { 900 };
            from += Duration::from_secs(random.u64(20..longest));
        }
        script.push(Phase { from: end, mood: Mood::Well, latency_ms: 5..80 });
        Self::new(script)
    }

    /// What an attempt meets that starts now, after how many milliseconds, and the answer's hint.
    pub(crate) fn meet(&mut self, n: u64, now: Duration, random: &mut Rng) -> (Fate, u64, Hint) {
        let phase = self.script.iter().rev().find(|phase| phase.from <= now);
        let phase = phase.expect("a script begins at zero");
        let wait = random.u64(phase.latency_ms.clone());
        let taken = if n.is_multiple_of(POISON) { Fate::Answered(400) } else { Fate::Taken };
        match phase.mood {
            Mood::Well => (taken, wait, Hint::None),
            Mood::Gone => (Fate::NotConnected, 1, Hint::None),
            Mood::Silent => (Fate::Silence(random.bool()), 0, Hint::None),
            Mood::Resets(share) if random.f64() < share => {
                (Fate::Broken(random.bool()), wait, Hint::None)
            }
            Mood::Says(status, share, hint) if random.f64() < share => {
                (Fate::Answered(status), wait, hint)
            }
            Mood::Mixed => {
                let fate = match random.u8(..6) {
                    0 => Fate::Answered(500),
                    1 => Fate::Answered(503),
                    2 => Fate::Broken(random.bool()),
                    3 => Fate::NotConnected,
                    _ => taken,
                };
                (fate, wait, Hint::None)
            }
            Mood::Chokes(few) if (1..=few).contains(&(n % CHOKES_OF)) => {
                (Fate::Answered(500), wait, Hint::None)
            }
            Mood::Resets(_) | Mood::Says(..) | Mood::Chokes(_) => (taken, wait, Hint::None),
            Mood::Sustains(rate, status, hint) => {
                let (left, at) = self.bucket;
                let passed = now.saturating_sub(at).as_secs_f64();
                let left = (left + passed * rate).min((rate / 10.0).max(1.0));
                let is_taken = left >= 1.0;
                self.bucket = (if is_taken { left - 1.0 } else { left }, now);
                if is_taken { (taken, wait, Hint::None) } else { (Fate::Answered(status), 3, hint) }
            }
        }
    }
}

fn made_up_mood(random: &mut Rng) -> Mood {
    let hint = match random.u8(..4) {
        0 => Hint::Seconds(random.u64(0..120)),
        1 => Hint::Date(random.u64(1..600)),
        _ => Hint::None,
    };
    let busy = if random.bool() { 429 } else { 503 };
    match random.u8(..10) {
        0 => Mood::Gone,
        1 => Mood::Silent,
        2 => Mood::Resets(random.f64()),
        3 => Mood::Says(busy, random.f64(), hint),
        4 => Mood::Says(busy, 1.0, hint),
        5 => Mood::Says(500, random.f64(), Hint::None),
        6 => Mood::Says(404, 1.0, Hint::None),
        7 => Mood::Mixed,
        8 => Mood::Chokes(random.u64(1..9)),
        _ => Mood::Sustains(2.0 + 60.0 * random.f64(), busy, hint),
    }
}

/// What an observer of the wire knows of an origin: what it asked for, and whether the relay must
/// have noticed by now that it does not work.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// Nothing may be sent before.
    pub(crate) asked_until: Duration,
    /// Attempts in a row that found nobody,
    unconnected: usize,
    /// and the events that failed in it otherwise.
    failed: BTreeSet<u64>,
    /// When something was taken last.
    took_at: Option<Duration>,
    refusals: u32,
    pub(crate) refusal_runs: u32,
    pub(crate) shut: Option<Shut>,
}

/// Since an origin is known not to work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shut {
    pub(crate) since: Duration,
    pub(crate) probes: u32,
    pub(crate) under_way: u32,
    pub(crate) last_end: Duration,
}

/// Different deliveries that fail in a row before probes begin, or attempts that find nobody
/// (`docs/DELIVERY.md`).
const FAILURES_TO_SHUT: usize = 5;
/// As many as this do even within half a second of something that was taken, for by then they are
/// far more than seven in ten.
const FAILURES_TO_SHUT_LATELY: usize = 30;
const LATELY: Duration = Duration::from_millis(500);
/// Refusals in a row before the destination counts as broken (`docs/DELIVERY.md`).
const REFUSALS_TO_SHUT: u32 = 20;
/// A shut origin is probed at least as often as this, which is promised.
pub(crate) const PROBE_WITHIN: Duration = Duration::from_secs(3);
/// And no more often than this, once the waits have grown (`docs/DELIVERY.md`).
const PROBE_EVERY: Duration = Duration::from_secs(2);

impl Watched {
    /// What a relay forgets that is killed or stopped: all but what it was asked for.
    pub(crate) fn forget(&mut self) {
        let Self { refusal_runs, asked_until, .. } = *self;
        *self = Self { refusal_runs, asked_until, ..Self::default() };
    }

    /// An attempt starts: what is wrong with that, and whether it is a probe.
    pub(crate) fn starts(&mut self, now: Duration) -> (Option<String>, bool) {
        if now < self.asked_until {
            let until = self.asked_until;
            return (Some(format!("sent before the Retry-After at {until:?}")), false);
        }
        let Some(shut) = &mut self.shut else { return (None, false) };
        let in_company = shut.under_way > 0;
        shut.probes += 1;
        shut.under_way += 1;
        // The waits before the first probes double up to the longest.
        let most = 5 + (now - shut.since).as_secs() / PROBE_EVERY.as_secs();
        let fault = if in_company {
            Some("a probe beside another".to_owned())
        } else if u64::from(shut.probes) > most {
            Some(format!("{} probes since {:?}", shut.probes, shut.since))
        } else {
            None
        };
        (fault, true)
    }

    /// An attempt was broken off or ended.
    pub(crate) fn ends(&mut self, was_probe: bool, now: Duration) {
        if let Some(shut) = &mut self.shut {
            shut.last_end = now;
            shut.under_way = shut.under_way.saturating_sub(u32::from(was_probe));
        }
    }

    /// What the relay learns from an attempt's end. Shuts no earlier than the relay must.
    pub(crate) fn learns(
        &mut self,
        n: u64,
        fate: Fate,
        asked_until: Option<Duration>,
        now: Duration,
    ) {
        self.asked_until = self.asked_until.max(asked_until.unwrap_or_default());
        match fate {
            Fate::Taken => self.works(now),
            Fate::Answered(401 | 403 | 404 | 405) => {
                self.refusal_runs += u32::from(self.refusals == 0);
                (self.unconnected, self.failed) = (0, BTreeSet::new());
                self.refusals += 1;
                if self.refusals < REFUSALS_TO_SHUT {
                    self.shut = None;
                }
            }
            Fate::Answered(status @ 400..500) if !matches!(status, 408 | 425 | 429) => {
                self.works(now)
            }
            Fate::NotConnected => self.unconnected += 1,
            Fate::Answered(_) | Fate::Broken(_) | Fate::Silence(_) => {
                self.failed.insert(n);
            }
        }
        let is_lately = self.took_at.is_some_and(|at| now - at < LATELY);
        let enough = if is_lately { FAILURES_TO_SHUT_LATELY } else { FAILURES_TO_SHUT };
        if self.unconnected + self.failed.len() >= enough || self.refusals >= REFUSALS_TO_SHUT {
            let (probes, under_way) = (0, 0);
            self.shut.get_or_insert(Shut { since: now, probes, under_way, last_end: now });
        }
    }

    fn works(&mut self, now: Duration) {
        self.took_at = Some(now);
        (self.unconnected, self.failed) = (0, BTreeSet::new());
        (self.refusals, self.shut) = (0, None);
    }
}
