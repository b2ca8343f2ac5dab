//! Lives made up from seeds: whatever happens, every promise holds at every step, and in the end
//! everything accepted was delivered or is kept as a dead letter with its true cause.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use beacon_relay::clock::Timestamp;
use beacon_relay::event::{DestinationName, EventKind};
use beacon_relay::forward::pause::FOR_EVER;
use beacon_relay::spool::memory::Disk;
use beacon_relay::spool::{Cause, Lane};
use fastrand::Rng;
use tokio::time::sleep;

use crate::relay::{Relay, Site, number};
use crate::upstream::Upstream;
use crate::wire::{Step, Wire};

/// Three destinations: one of four kinds, one that is narrow, and one with origins of its events' own.
const SITE: &str = r#"
[[destination]]
name = "events-api"
base_url = "http://api.sim"
max_age = { view = "40 m", impression = "2 h" }
[[destination]]
name = "shop"
base_url = "http://shop.sim"
target = "verbatim"
concurrency = 3
[[destination]]
name = "pages"
base_url = "http://pages.sim"
target = "verbatim"
origins = ["http://one.sim", "http://two.sim"]
allow_private = true
[[source]]
name = "beacon-conversion"
to = ["events-api", "shop"]
[[source]]
name = "beacon-click"
to = ["events-api", "shop"]
"#;

const ORIGINS: [&str; 5] = ["api.sim", "shop.sim", "pages.sim", "one.sim", "two.sim"];
/// Origins of destinations that have no other.
const ALONE: [(&str, &str); 2] = [("events-api", "api.sim"), ("shop", "shop.sim")];
const KINDS: [EventKind; 4] =
    [EventKind::Conversion, EventKind::Click, EventKind::View, EventKind::Impression];
/// How long callers post and origins fail.
const HORIZON: Duration = Duration::from_secs(4 * 3600);
/// How long everything may take from then on: the longest backoff, and the longest Retry-After.
const SETTLED_WITHIN: Duration = Duration::from_secs(2 * 3600);
/// Lives of an ordinary run: a few seconds of a debug build.
const RUNS: u64 = 4;
/// The first of their seeds.
const FIRST: u64 = 1;
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One life as it is lived.
struct Life {
    site: Site,
    disk: Disk,
    wire: Wire,
    random: Rng,
    relay: Relay,
    next: u64,
    /// What was accepted, and whom it is owed to.
    accepted: BTreeMap<u64, (EventKind, Vec<DestinationName>)>,
    /// Since when a destination has had something to probe with.
    waits_since: BTreeMap<DestinationName, Duration>,
    kills: u32,
}

impl Life {
    fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        let mut random = Rng::with_seed(seed ^ 0x5eed);
        let site = Site::new(SITE);
        let upstreams =
            ORIGINS.map(|origin| (origin.into(), Upstream::made_up(&mut random, HORIZON)));
        let wire = Wire::new(upstreams.into(), random.fork());
        let disk = Disk::default();
        let relay = Relay::start(&site, &disk, &wire);
        let (accepted, waits_since) = (BTreeMap::new(), BTreeMap::new());
        Self { site, disk, wire, random, relay, next: 1, accepted, waits_since, kills: 0 }
    }

    /// Something happens with this probability.
    fn chance(&mut self, of: f64) -> bool {
        self.random.f64() < of
    }

    async fn live(mut self) -> Vec<Step> {
        while self.wire.seen().now() < HORIZON {
            self.callers().await;
            self.operators().await;
            if self.chance(0.0004) {
                self = self.crash().await;
            }
            self.look().await;
        }
        for (name, _) in ALONE {
            self.relay.forwarder(name).resume();
        }
        self.relay.forwarder("pages").resume();
        self.wire.seen().paused.clear();
        while self.relay.spooled().await > 0 {
            let now = self.wire.seen().now();
            if now > HORIZON + SETTLED_WITHIN {
                let standing = self.relay.standing().await;
                self.wire.seen().fail(format!("not settled: {standing:?}"));
            }
            self.look().await;
        }
        self.judge().await;
        self.look().await;
        self.relay.check_sums(true).await;
        let mut seen = self.wire.seen();
        std::mem::take(&mut seen.trace)
    }

    async fn callers(&mut self) {
        let burst = match self.random.u16(..1000) {
            0..300 => self.random.u64(1..4),
            300..304 => self.random.u64(100..600),
            _ => 0,
        };
        for _ in 0..burst {
            let kind = KINDS[self.random.usize(..KINDS.len())];
            let n = self.next;
            self.next += 1;
            if kind == EventKind::Impression && self.random.bool() {
                self.by_url(n).await;
            } else {
                self.wire.seen().kinds.insert(n, kind);
                assert!(self.relay.post(&self.site, kind, n).await, "{n} is new");
                self.accepted.insert(n, (kind, self.site.owed(kind).to_vec()));
            }
            let from = Arc::from("caller");
            self.wire.seen().note("posted", &from, n);
        }
        if self.chance(0.05) {
            self.repeat().await;
        }
    }

    /// An event that names its URL.
    async fn by_url(&mut self, n: u64) {
        let origin = ["pages.sim", "one.sim", "two.sim"][self.random.usize(..3)];
        let target = format!("http://{origin}/pixel?n={n}");
        self.relay.import("pages", Lane::Live, [target].into_iter()).await;
        let to = vec![DestinationName::new("pages")];
        self.accepted.insert(n, (EventKind::Notification, to));
    }

    /// A caller who did not hear the answer posts once more.
    async fn repeat(&mut self) {
        let n = self.random.u64(..self.next).max(1);
        let Some((kind, to)) = self.accepted.get(&n).cloned() else { return };
        if kind == EventKind::Notification || !self.relay.post(&self.site, kind, n).await {
            return;
        }
        // Its key was free: the window is over, or every delivery is a dead letter.
        let mut seen = self.wire.seen();
        for to in to {
            let owed = seen.owed.entry((to.as_str().into(), n)).or_default();
            (owed.unsure, owed.repeated) = (true, true);
        }
    }

    async fn operators(&mut self) {
        for name in ["events-api", "shop", "pages"] {
            if self.chance(0.0004) {
                let minutes = Duration::from_secs(self.random.u64(5..1_200));
                let for_ever = self.random.bool();
                let until = if for_ever { FOR_EVER } else { self.clock_in(minutes) };
                self.relay.forwarder(name).pause(until);
                let now = self.wire.seen().now();
                let end = if for_ever { Duration::MAX } else { now + minutes };
                self.wire.seen().paused.insert(name.into(), (now, end));
            }
            if self.chance(0.003) {
                self.relay.forwarder(name).resume();
                self.wire.seen().paused.remove(name);
            }
        }
        if self.chance(0.001) {
            self.relay.replay().await;
        }
    }

    fn clock_in(&self, wait: Duration) -> Timestamp {
        self.wire.clock.now().after(wait)
    }

    /// The relay ends, by force or not, and starts again.
    async fn crash(mut self) -> Self {
        self.kills += 1;
        let Self { relay, .. } = self;
        if self.random.bool() {
            relay.kill(&self.disk);
        } else {
            relay.stop(Duration::from_secs(self.random.u64(..12))).await;
        }
        sleep(Duration::from_millis(self.random.u64(..120_000))).await;
        self.relay = Relay::start(&self.site, &self.disk, &self.wire);
        self.waits_since.clear();
        self
    }

    /// A second passes, after which everything must be as promised.
    async fn look(&mut self) {
        sleep(LOOK_EVERY).await;
        self.relay.check_sums(false).await;
        let standing = self.relay.standing().await;
        let mut seen = self.wire.seen();
        let now = seen.now();
        for (name, origin) in ALONE {
            let name = DestinationName::new(name);
            let stats = standing.iter().find(|one| one.name == name);
            let waits = stats.is_some_and(|one| one.live + one.backlog > 0);
            let paused = seen.paused.get(name.as_str()).is_some_and(|(_, until)| now <= *until);
            if waits && !paused {
                let since = *self.waits_since.entry(name).or_insert(now);
                seen.look_for_probe(origin, since);
            } else {
                self.waits_since.remove(&name);
            }
        }
        if let Some(fault) = seen.fault.take() {
            let tail = seen.tail();
            drop(seen);
            panic!("{fault}\n{tail}");
        }
    }

    /// Everything that was accepted has an end, and the end its reason.
    async fn judge(&self) {
        let letters = self.relay.dead().await;
        let mut seen = self.wire.seen();
        let mut dead = BTreeSet::new();
        let mut broken = BTreeMap::<Arc<str>, u32>::new();
        for letter in &letters {
            let (to, n): (Arc<str>, u64) = (letter.to.as_str().into(), number(&letter.event));
            let owed = seen.owed.entry((Arc::clone(&to), n)).or_default();
            let settings = self.site.destinations().find(|one| one.name == letter.to);
            let age = letter.died_at.since(letter.event.accepted_at);
            let true_cause = match letter.refusal.cause {
                Cause::Refused => {
                    letter.refusal.status.is_some_and(|status| owed.refused.contains(&status))
                }
                Cause::Expired => age > settings.unwrap().max_age.of(letter.event.kind),
                Cause::UnknownOutcome => owed.unsure,
                Cause::Unsendable | Cause::Invalid => false,
            };
            if letter.refusal.status == Some(404) {
                *broken.entry(Arc::clone(&to)).or_default() += 1;
            }
            if !true_cause {
                let refusal = &letter.refusal;
                seen.fail(format!("{n} to {to} is dead for no reason: {refusal:?}, {age:?} old"));
            }
            dead.insert((to, n));
        }
        for (to, origin) in ALONE {
            let most = 20 * seen.origins[origin].watched.refusal_runs;
            let there = broken.get(to).copied().unwrap_or_default();
            if there > most {
                seen.fail(format!("{there} dead letters of a broken {to}, and not {most}"));
            }
        }
        let mut lost = Vec::new();
        for (n, (_, to)) in &self.accepted {
            for to in to {
                let key = (Arc::from(to.as_str()), *n);
                let taken = seen.owed.get(&key).is_some_and(|owed| owed.taken > 0);
                if !taken && !dead.contains(&key) {
                    lost.push(key);
                }
            }
        }
        if !lost.is_empty() {
            seen.fail(format!("{} were lost: {:?}", lost.len(), &lost[..lost.len().min(10)]));
        }
        let sent: u32 = seen.owed.values().map(|owed| owed.attempts).sum();
        let (events, letters, kills) = (self.accepted.len(), letters.len(), self.kills);
        println!("{events} events, {sent} requests, {letters} dead letters, {kills} restarts");
    }
}

/// Lives through a seed on a runtime of its own.
fn live(seed: u64) -> Vec<Step> {
    println!("SIM_SEED={seed}");
    on_held_time(async { Life::new(seed).live().await })
}

/// Runs what sleeps for hours in no time.
pub(crate) fn on_held_time<T>(what: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(what)
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn nothing_is_lost_and_every_promise_holds_whatever_happens() {
    if let Some(seed) = setting("SIM_SEED") {
        live(seed);
        return;
    }
    let seeds = setting("SIM_SEEDS").map_or(FIRST..FIRST + RUNS, |count| 0..count);
    seeds.for_each(|seed| {
        live(seed);
    });
}

#[test]
fn a_seed_is_lived_through_the_same_twice() {
    let seed = setting("SIM_SEED").unwrap_or(7);
    let (first, second) = (live(seed), live(seed));
    let differs = first.iter().zip(&second).position(|(one, other)| one != other);
    assert_eq!(differs, None, "{:?}", differs.map(|at| (&first[at], &second[at])));
    assert_eq!(first.len(), second.len());
    assert!(first.len() > 1_000, "something happens in a life: {} steps", first.len());
}
