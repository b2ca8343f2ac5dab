//! The wire between the relay and its origins: everything that is sent passes here and is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use beacon_relay::clock::{Clock, Timestamp};
use beacon_relay::event::EventKind;
use beacon_relay::forward::client::Limits;
use beacon_relay::forward::transport::{Again, Attempting, Transport};
use beacon_relay::forward::verdict::{Attempt, Sent, retry_after};
use bytes::Bytes;
use fastrand::Rng;
use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::upstream::{Fate, Hint, PROBE_WITHIN, Upstream};

/// One line of what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    at_ms: u128,
    what: &'static str,
    whom: Arc<str>,
    n: u64,
}

/// One event owed to one destination, as the wire saw it.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    pub(crate) taken: u32,
    /// When first, and when last.
    pub(crate) taken_at: Duration,
    taken_last: Duration,
    /// It may have been taken without the relay's knowing, so it may come again.
    pub(crate) unsure: bool,
    /// When it was first sent without an answer, as the relay knows: from then on it may be sent
    /// again for as long as its kind allows.
    pub(crate) unsure_from: Option<Duration>,
    /// It was accepted more than once, as its key was free again: there are several deliveries.
    pub(crate) repeated: bool,
    /// Every status but 2xx that it was ever answered with.
    pub(crate) refused: BTreeSet<u16>,
    not_before: Duration,
    pub(crate) attempts: u32,
}

/// Everything that an observer knows.
pub(crate) struct Seen {
    started: Instant,
    pub(crate) random: Rng,
    pub(crate) origins: BTreeMap<Arc<str>, Upstream>,
    pub(crate) owed: BTreeMap<(Arc<str>, u64), Owed>,
    pub(crate) kinds: BTreeMap<u64, EventKind>,
    /// Since when and until when a destination is paused.
    pub(crate) paused: BTreeMap<Arc<str>, (Duration, Duration)>,
    pub(crate) trace: Vec<Step>,
    pub(crate) fault: Option<String>,
    /// Answers of each second by whether they were 2xx.
    pub(crate) answers: BTreeMap<u64, (u32, u32)>,
}

#[derive(Clone)]
pub(crate) struct Wire {
    seen: Arc<Mutex<Seen>>,
    pub(crate) clock: Clock,
}

impl Wire {
    pub(crate) fn new(origins: BTreeMap<Arc<str>, Upstream>, random: Rng) -> Self {
        let seen = Seen {
            started: Instant::now(),
            random,
            origins,
            owed: BTreeMap::new(),
            kinds: BTreeMap::new(),
            paused: BTreeMap::new(),
            trace: Vec::new(),
            fault: None,
            answers: BTreeMap::new(),
        };
        // A whole second, so that dates of answers lose nothing.
        let clock = Clock::following(Timestamp::from_millis(1_767_225_600_000));
        Self { seen: Arc::new(Mutex::new(seen)), clock }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// A destination's end of the wire, until `life` is cancelled.
    pub(crate) fn end(&self, to: &str, limits: Limits, life: CancellationToken) -> End {
        End { wire: self.clone(), to: to.into(), within: limits.attempt_within, life }
    }
}

/// What a destination sends through.
pub(crate) struct End {
    wire: Wire,
    to: Arc<str>,
    within: Duration,
    life: CancellationToken,
}

impl Transport for End {
    fn attempt<'a>(
        &'a self,
        request: Request<Full<Bytes>>,
        stop: &'a CancellationToken,
        _: Again<'a>,
    ) -> Attempting<'a> {
        Box::pin(async move {
            if self.life.is_cancelled() {
                return LOST;
            }
            let origin: Arc<str> = request.uri().host().unwrap().into();
            let n = request.uri().query().unwrap().strip_prefix("n=").unwrap().parse().unwrap();
            let (mut under_way, wait, hint) = self.begin(origin, n);
            let wait = match under_way.fate {
                Fate::Silence(_) => self.within,
                Fate::Taken | Fate::Answered(_) | Fate::NotConnected | Fate::Broken(_) => {
                    Duration::from_millis(wait)
                }
            };
            let sleep = tokio::time::sleep(wait);
            // All are cancel-safe, and looked at in this order so that a seed is lived the same.
            tokio::select! {
                biased;
                // A killed relay hears of nothing.
                () = self.life.cancelled() => LOST,
                () = stop.cancelled() => under_way.cut(),
                () = sleep => under_way.end(hint),
            }
        })
    }
}

const LOST: Attempt = Attempt::Unanswered { sent: Sent::Maybe, code: "killed" };

/// An attempt under way. Dropped before its end, it may have been taken.
struct UnderWay<'a> {
    of: &'a End,
    origin: Arc<str>,
    n: u64,
    began: Duration,
    fate: Fate,
    was_probe: bool,
    ended: bool,
}

impl End {
    fn begin(&self, origin: Arc<str>, n: u64) -> (UnderWay<'_>, u64, Hint) {
        let mut seen = self.wire.seen();
        let seen = &mut *seen;
        let now = seen.now();
        seen.note("sent", &origin, n);
        if let Some((since, until)) = seen.paused.get(&self.to)
            && *since < now
            && now < *until
        {
            seen.fail(format!("sent {n} to {} while it is paused", self.to));
        }
        let owed = seen.owed.entry((Arc::clone(&self.to), n)).or_default();
        owed.attempts += 1;
        let fault = if owed.taken > 0 && !owed.unsure {
            Some("sent again though it was taken".to_owned())
        } else if let Some(from) = owed.unsure_from
            && !owed.repeated
            && let Some(kind) = seen.kinds.get(&n)
            && again_for(*kind).is_some_and(|most| now > from + most)
        {
            Some(format!("{kind:?} sent again that may have arrived since {from:?}"))
        } else if now < owed.not_before && !owed.repeated {
            Some(format!("sent before its own Retry-After at {:?}", owed.not_before))
        } else {
            None
        };
        let upstream = seen.origins.get_mut(&origin).unwrap();
        let (early, was_probe) = upstream.watched.starts(now);
        let (fate, wait, hint) = upstream.meet(n, now, &mut seen.random);
        for fault in fault.into_iter().chain(early) {
            seen.fail(format!("{n} to {origin}: {fault}"));
        }
        let ended = false;
        (UnderWay { of: self, origin, n, began: now, fate, was_probe, ended }, wait, hint)
    }
}

impl UnderWay<'_> {
    /// The relay breaks it off, and knows whether it may have left.
    fn cut(&mut self) -> Attempt {
        if matches!(self.fate, Fate::NotConnected) {
            return Attempt::Cut(Sent::No);
        }
        let mut seen = self.of.wire.seen();
        let owed = seen.owed.entry((Arc::clone(&self.of.to), self.n)).or_default();
        owed.unsure_from.get_or_insert(self.began);
        Attempt::Cut(Sent::Maybe)
    }

    fn end(&mut self, hint: Hint) -> Attempt {
        self.ended = true;
        let wire = &self.of.wire;
        let (mut seen, clock) = (wire.seen(), wire.clock.now());
        let seen = &mut *seen;
        let (now, n) = (seen.now(), self.n);
        let (value, asked) = match hint {
            Hint::None => (None, None),
            Hint::Seconds(seconds) => (Some(seconds.to_string()), Some(seconds)),
            Hint::Date(ahead) => {
                let seconds = clock.as_millis() / 1000 + ahead;
                let date = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
                (Some(httpdate::fmt_http_date(date)), Some(ahead))
            }
        };
        let until = asked.map(|seconds| match hint {
            // A date has no fraction of a second: it lies up to one earlier.
            Hint::Date(_) => {
                now + Duration::from_secs(seconds)
                    - Duration::from_millis(clock.as_millis() % 1000)
                    - Duration::from_nanos(u64::from(now.subsec_nanos()) % 1_000_000)
            }
            Hint::None | Hint::Seconds(_) => now + Duration::from_secs(seconds),
        });
        let owed = seen.owed.entry((Arc::clone(&self.of.to), n)).or_default();
        // Only a wall clock's milliseconds are kept over a restart.
        owed.not_before = until.unwrap_or_default().saturating_sub(Duration::from_millis(1));
        match self.fate {
            Fate::Taken => owed.take(now),
            Fate::Answered(status) => {
                owed.refused.insert(status);
            }
            Fate::NotConnected => {}
            Fate::Broken(taken) | Fate::Silence(taken) => {
                owed.unsure = true;
                owed.unsure_from.get_or_insert(self.began);
                if taken {
                    owed.take(now);
                }
            }
        }
        let second = seen.answers.entry(now.as_secs()).or_default();
        if self.fate == Fate::Taken {
            second.0 += 1
        } else {
            second.1 += 1
        }
        let watched = &mut seen.origins.get_mut(&self.origin).unwrap().watched;
        watched.ends(self.was_probe, now);
        watched.learns(n, self.fate, until, now);
        let retry_after = value.and_then(|value| retry_after(value.as_bytes(), clock));
        let answered = |status| Attempt::Answered {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after,
            answer: Bytes::from_static(b"as the script says"),
        };
        let (what, attempt) = match self.fate {
            Fate::Taken => ("taken", answered(202)),
            Fate::Answered(status) => ("answered", answered(status)),
            Fate::NotConnected => {
                ("not connected", Attempt::Unanswered { sent: Sent::No, code: "connect" })
            }
            Fate::Broken(_) => ("broken", Attempt::Unanswered { sent: Sent::Maybe, code: "reset" }),
            Fate::Silence(_) => {
                ("silence", Attempt::Unanswered { sent: Sent::Maybe, code: "timeout" })
            }
        };
        seen.note(what, &self.origin, n);
        attempt
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut seen = self.of.wire.seen();
        let seen = &mut *seen;
        let (now, is_taken) = (seen.now(), seen.random.bool());
        seen.note("broken off", &self.origin, self.n);
        let owed = seen.owed.entry((Arc::clone(&self.of.to), self.n)).or_default();
        owed.unsure = true;
        if is_taken && !matches!(self.fate, Fate::Answered(_) | Fate::NotConnected) {
            owed.take(now);
        }
        if !self.of.life.is_cancelled() {
            let watched = &mut seen.origins.get_mut(&self.origin).unwrap().watched;
            watched.ends(self.was_probe, now);
        }
    }
}

/// For how long what may have arrived may be sent again; nothing is for ever (the vendor's windows,
/// `docs/DELIVERY.md`).
fn again_for(kind: EventKind) -> Option<Duration> {
    match kind {
        EventKind::Conversion | EventKind::Notification => None,
        EventKind::Impression => Some(Duration::from_secs(60)),
        EventKind::Click => Some(Duration::from_secs(3600)),
        EventKind::View => Some(Duration::ZERO),
    }
}

impl Owed {
    fn take(&mut self, now: Duration) {
        if self.taken == 0 {
            self.taken_at = now;
        }
        self.taken += 1;
        self.taken_last = now;
    }
}

impl Seen {
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn note(&mut self, what: &'static str, whom: &Arc<str>, n: u64) {
        let at_ms = self.now().as_millis();
        self.trace.push(Step { at_ms, what, whom: Arc::clone(whom), n });
    }

    /// Keeps the first fault, and when it was.
    pub(crate) fn fail(&mut self, fault: String) {
        let now = self.now();
        self.fault.get_or_insert_with(|| format!("at {now:?}: {fault}"));
    }

    /// The relay was killed or stopped: what it knew by heart is gone.
    pub(crate) fn forget(&mut self) {
        self.paused.clear();
        for upstream in self.origins.values_mut() {
            upstream.watched.forget();
        }
    }

    /// The last second's acknowledgements never reached the disk.
    pub(crate) fn forget_acks(&mut self) {
        let from = self.now().saturating_sub(Duration::from_millis(1_001));
        for owed in self.owed.values_mut().filter(|owed| owed.taken_last >= from) {
            owed.unsure = true;
        }
    }

    /// Whether an origin that does not work goes without a probe although something waits.
    pub(crate) fn look_for_probe(&mut self, origin: &str, waits_since: Duration) {
        let now = self.now();
        let watched = &self.origins[origin].watched;
        let Some(shut) = watched.shut.filter(|shut| shut.under_way == 0) else { return };
        let from = shut.since.max(shut.last_end).max(watched.asked_until).max(waits_since);
        // A second for the looks of this observer, and the pause's end.
        if now > from + PROBE_WITHIN + Duration::from_secs(1) {
            self.fail(format!("no probe of {origin} since {from:?}"));
        }
    }

    /// How long those waited for their second attempt whose first was answered "not now".
    pub(crate) fn first_waits(&self) -> Vec<Duration> {
        let mut steps = BTreeMap::<u64, Vec<&Step>>::new();
        for step in self.trace.iter().filter(|step| step.what != "posted") {
            steps.entry(step.n).or_default().push(step);
        }
        let waits = steps.values().filter_map(|steps| match steps[..] {
            [_sent, answered, again, ..] if answered.what == "answered" => {
                Some(Duration::from_millis(u64::try_from(again.at_ms - answered.at_ms).unwrap()))
            }
            _ => None,
        });
        waits.collect()
    }

    /// The end of the trace, for whoever reads a failure.
    pub(crate) fn tail(&self) -> String {
        let from = self.trace.len().saturating_sub(40);
        let line =
            |step: &Step| format!("{:>10} {} {} {}\n", step.at_ms, step.what, step.whom, step.n);
        self.trace[from..].iter().map(line).collect()
    }
}
