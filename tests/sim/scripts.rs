//! Written lives: an outage of an hour with 200,000 events behind it, and storms of 429 and 503.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use beacon_relay::spool::Lane;
use beacon_relay::spool::memory::Disk;
use fastrand::Rng;
use tokio::time::sleep;

use crate::lives::on_held_time;
use crate::relay::{Relay, Site};
use crate::upstream::{Hint, Mood, POISON, Phase, Upstream};
use crate::wire::Wire;

const NAME: &str = "events-api";
const SITE: &str = "[[destination]]\nname = \"events-api\"\nbase_url = \"http://api.sim\"\n";

/// One destination, whose origin does as it is written.
struct Play {
    relay: Relay,
    wire: Wire,
    /// When each event was posted, by its number.
    posted: Vec<Duration>,
}

impl Play {
    fn new(script: &[(u64, Mood)]) -> Self {
        const SEED: u64 = 7;
        fastrand::seed(SEED);
        let phase = |&(from, mood): &(u64, Mood)| {
            let from = Duration::from_secs(from);
            Phase { from, mood, latency_ms: 5..40 }
        };
        let script = script.iter().map(phase).collect();
        let origins = BTreeMap::from([(Arc::from("api.sim"), Upstream::new(script))]);
        let wire = Wire::new(origins, Rng::with_seed(SEED));
        let relay = Relay::start(&Site::new(SITE), &Disk::default(), &wire);
        Self { relay, wire, posted: Vec::new() }
    }

    async fn post(&mut self, count: usize, lane: Lane) {
        let (from, now) = (self.posted.len(), self.now());
        self.posted.resize(from + count, now);
        let targets = (from..from + count).map(|n| format!("/v1/beacon/click/a?n={n}"));
        self.relay.import(NAME, lane, targets).await;
    }

    fn now(&self) -> Duration {
        self.wire.seen().now()
    }

    /// `per_second` fresh events come in each second, until then.
    async fn until(&mut self, end: u64, per_second: usize) {
        while self.now() < Duration::from_secs(end) {
            self.second(per_second).await;
        }
    }

    async fn second(&mut self, per_second: usize) {
        self.post(per_second, Lane::Live).await;
        sleep(Duration::from_secs(1)).await;
        let fault = self.wire.seen().fault.take();
        assert_eq!(fault, None);
    }

    /// Fresh events come until everything is delivered: how many seconds that took.
    async fn drained(&mut self, per_second: usize, within: u64) -> u64 {
        let from = self.now();
        while self.relay.spooled().await > 100 {
            assert!(self.now() < from + Duration::from_secs(within), "it takes too long");
            self.second(per_second).await;
        }
        let took = self.now() - from;
        // What waits by its own backoff waits no longer either.
        for _ in 0..30 {
            self.second(0).await;
        }
        assert_eq!(self.relay.spooled().await, 0);
        self.relay.check_sums(true).await;
        took.as_secs()
    }

    /// The longest that one of those took that were posted from then on. What is not taken yet has
    /// waited until now; none was taken twice.
    fn slowest(&self, from: u64) -> Duration {
        let (seen, from, to) = (self.wire.seen(), Duration::from_secs(from), Arc::from(NAME));
        let posted = (0..).zip(&self.posted).filter(|(n, at)| is_sound(*n) && **at >= from);
        let lags = posted.map(|(n, posted)| {
            let owed = seen.owed.get(&(Arc::clone(&to), n)).filter(|owed| owed.taken > 0);
            assert!(owed.is_none_or(|owed| owed.taken == 1), "{n} was taken twice");
            owed.map_or(seen.now(), |owed| owed.taken_at) - *posted
        });
        lags.max().unwrap_or_default()
    }

    /// What was taken, and what was not, in each second of a stretch.
    fn curve(&self, seconds: std::ops::Range<u64>) -> Vec<(u32, u32)> {
        let seen = self.wire.seen();
        seconds.map(|at| seen.answers.get(&at).copied().unwrap_or_default()).collect()
    }
}

/// Whether an event of that number is one that anybody takes.
fn is_sound(n: u64) -> bool {
    !n.is_multiple_of(POISON)
}

fn sent(curve: &[(u32, u32)]) -> u32 {
    curve.iter().map(|(taken, not)| taken + not).sum()
}

#[test]
fn an_hours_outage_costs_nothing_but_time() {
    const NORMAL: usize = 56;
    const HOUR: u64 = 3600;
    let (begins, ends) = (60, 60 + HOUR);
    on_held_time(async {
        let script = [(0, Mood::Well), (begins, Mood::Gone), (ends, Mood::Well)];
        let mut play = Play::new(&script);
        play.until(begins, NORMAL).await;
        assert_eq!(play.relay.spooled().await, 0, "what is normal is delivered at once");
        play.until(ends, NORMAL).await;
        let backlog = play.relay.spooled().await;
        assert!(backlog >= 200_000, "{backlog}");
        let took = play.drained(NORMAL, 1_800).await;
        let normal = sent(&play.curve(0..begins)) * u32::try_from(HOUR / begins).unwrap();
        let outage = sent(&play.curve(begins..ends));
        let back = play.curve(ends..ends + 10);
        let ramp = back.iter().skip_while(|one| sent(&[**one]) < 10);
        for (doublings, second) in (0..5).zip(ramp) {
            let most = 150 << doublings;
            assert!(sent(&[*second]) <= most, "a stampede: {second:?} and not {most}");
        }
        let slowest = play.slowest(ends);
        let letters = play.relay.dead().await.len();
        let unsound = (0..play.posted.len() as u64).filter(|n| !is_sound(*n)).count();
        assert_eq!(letters, unsound, "everything else was taken, and once");
        println!("taken and refused in the seconds of its return: {back:?}");
        println!(
            "{backlog} events were drained in {took} s, the slowest fresh event meanwhile took \
             {slowest:?}, {outage} requests in the outage where {normal} are normal"
        );
        assert!(slowest <= Duration::from_secs(5), "{slowest:?}");
        assert!(outage * 5 <= normal, "{outage} of {normal}");
        assert!(outage > 1_200, "it was probed every 3 s at least: {outage}");
    });
}

#[test]
fn what_waits_for_its_time_finds_out_that_the_origin_is_back() {
    const HOUR: u64 = 3600;
    // Nobody there is no event's doing, so a single one that waits is enough; of failures of another
    // kind there must be several.
    for (mood, waiting) in
        [(Mood::Gone, 1), (Mood::Gone, 11), (Mood::Says(500, 1.0, Hint::None), 11)]
    {
        on_held_time(async {
            let mut play = Play::new(&[(0, mood), (HOUR, Mood::Well)]);
            play.post(waiting, Lane::Live).await;
            play.until(HOUR, 0).await;
            // By then each has failed often enough to wait for a quarter of an hour.
            play.until(HOUR + 5, 0).await;
            assert_eq!(play.relay.spooled().await, 0, "{mood:?} {waiting}");
        });
    }
}

#[test]
fn a_few_poisoned_events_on_a_quiet_origin_delay_nobody() {
    const HOURS: u64 = 6 * 3600;
    const EVERY: u64 = 300;
    for few in [2, 4] {
        on_held_time(async {
            let mut play = Play::new(&[(0, Mood::Chokes(few))]);
            play.post(few as usize + 1, Lane::Live).await;
            while play.now() < Duration::from_secs(HOURS) {
                let until = play.now().as_secs() + EVERY;
                while play.now() < Duration::from_secs(until) {
                    play.second(0).await;
                    let standing = play.relay.forwarder(NAME).standing();
                    assert!(!standing.gate.broken, "{few} poisoned, at {:?}", play.now());
                }
                play.second(1).await;
            }
            let slowest = play.slowest(1);
            assert!(slowest < Duration::from_millis(100), "{few} poisoned: {slowest:?}");
            assert_eq!(play.relay.spooled().await, few, "they are kept, and tried again");
        });
    }
}

#[test]
fn an_origin_that_says_it_is_away_is_found_back_by_a_probe_however_few_orders_wait() {
    const HOUR: u64 = 3600;
    on_held_time(async {
        let mut play = Play::new(&[(0, Mood::Says(503, 1.0, Hint::None)), (HOUR, Mood::Well)]);
        play.post(2, Lane::Live).await;
        play.until(HOUR, 0).await;
        assert!(play.relay.forwarder(NAME).standing().gate.broken);
        play.until(HOUR + 5, 0).await;
        assert_eq!(play.relay.spooled().await, 0);
    });
}

#[test]
fn a_probe_is_a_fresh_event_where_one_waits_beside_what_failed_before() {
    const HOURS: u64 = 3 * 3600;
    on_held_time(async {
        // So many poisoned ones open the breaker while nothing else is sent.
        const POISONED: u64 = 12;
        let mut play = Play::new(&[(0, Mood::Chokes(POISONED))]);
        play.post(POISONED as usize + 1, Lane::Live).await;
        let mut broken = 0;
        while play.now() < Duration::from_secs(HOURS) {
            play.until(play.now().as_secs() + 60, 0).await;
            broken += u32::from(play.relay.forwarder(NAME).standing().gate.broken);
            play.second(1).await;
        }
        let slowest = play.slowest(1);
        println!("broken at {broken} looks, the slowest fresh event took {slowest:?}");
        assert!(broken > 0, "a test of nothing");
        // The next probe is 2 s away at most, and it is this event.
        assert!(slowest < Duration::from_millis(2_100), "{slowest:?}");
    });
}

#[test]
fn an_origin_that_fails_nine_of_ten_is_probed_and_not_stormed() {
    const NORMAL: usize = 2;
    const HOUR: u64 = 3600;
    on_held_time(async {
        let mut play = Play::new(&[(0, Mood::Says(500, 0.9, Hint::None)), (HOUR, Mood::Well)]);
        play.until(HOUR, NORMAL).await;
        let (requests, waiting) = (sent(&play.curve(0..HOUR)), play.relay.spooled().await);
        let normal = u32::try_from(HOUR).unwrap() * u32::try_from(NORMAL).unwrap();
        println!("{requests} requests where {normal} are normal, {waiting} wait");
        assert!(requests < normal, "a storm: {requests} and not {normal}");
        play.until(HOUR + 120, NORMAL).await;
        assert!(play.slowest(HOUR) <= Duration::from_secs(5));
        assert!(play.relay.spooled().await < 10, "its return ends that");
    });
}

#[test]
fn the_end_of_a_storm_that_took_the_rate_down_is_noticed_soon() {
    const BACK: u64 = 600;
    for share in [0.5, 0.6, 0.7, 1.0] {
        on_held_time(async {
            let mut play =
                Play::new(&[(0, Mood::Says(503, share, Hint::None)), (BACK, Mood::Well)]);
            play.until(BACK + 70, 30).await;
            let back = play.curve(BACK..BACK + 35);
            let taken: Vec<u32> = back.iter().map(|(taken, _)| *taken).collect();
            println!("{share} of 503, then none, taken in each second: {taken:?}");
            // At one a second it takes a while to see that nothing is refused any more.
            let slowest = play.slowest(BACK + 35);
            assert!(slowest <= Duration::from_secs(5), "{share}: {slowest:?}");
        });
    }
}

#[test]
fn what_failed_together_does_not_come_together() {
    on_held_time(async {
        let mut play = Play::new(&[(0, Mood::Says(500, 0.3, Hint::None))]);
        play.post(300, Lane::Live).await;
        play.until(60, 0).await;
        let waits = play.wire.seen().first_waits();
        let mut tenths = [0_usize; 11];
        for wait in &waits {
            // The first bound is a second.
            tenths[usize::try_from(wait.as_millis() / 100).unwrap().min(10)] += 1;
        }
        println!("{} waits, by tenths of a second: {tenths:?}", waits.len());
        assert!(waits.len() > 50, "{}", waits.len());
        let most = tenths.iter().max().unwrap();
        assert!(most * 3 < waits.len(), "they come together");
    });
}

#[test]
fn a_storm_settles_to_the_rate_that_is_sustained() {
    const SECONDS: u64 = 90;
    const SETTLED: u64 = 30;
    for (sustained, status, hint) in
        [(100.0, 429, Hint::None), (20.0, 503, Hint::None), (300.0, 503, Hint::None)]
    {
        on_held_time(async {
            let mut play = Play::new(&[(0, Mood::Sustains(sustained, status, hint))]);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "few")]
            let backlog = (sustained * 1.2 * SECONDS as f64) as usize;
            play.post(backlog, Lane::Backlog).await;
            play.until(SECONDS, 2).await;
            let curve = play.curve(0..SECONDS);
            println!("{sustained} a second are taken, {status} to the rest: taken, refused");
            print_curve(&curve, sustained);
            let settled = &curve[SETTLED as usize..];
            let taken: u32 = settled.iter().map(|(taken, _)| taken).sum();
            let refused: u32 = settled.iter().map(|(_, refused)| refused).sum();
            let share = f64::from(taken) / (sustained * settled.len() as f64);
            println!(
                "settled: {:.0} % of it is used, {refused} of {} refused",
                100.0 * share,
                taken + refused
            );
            assert!(share > 0.75, "{share}");
            assert!(f64::from(refused) < 0.05 * f64::from(taken), "{refused} of {taken}");
            let slowest = play.slowest(SETTLED);
            assert!(slowest <= Duration::from_secs(5), "{slowest:?}");
        });
    }
}

#[test]
fn an_origin_that_refuses_a_share_at_any_rate_gets_everything() {
    const SECONDS: u64 = 240;
    const SETTLED: u64 = 30;
    for share in [0.3, 0.5, 0.6] {
        on_held_time(async {
            let mut play = Play::new(&[(0, Mood::Says(503, share, Hint::None))]);
            play.post(40_000, Lane::Backlog).await;
            play.until(SECONDS, 10).await;
            let curve = play.curve(0..SECONDS);
            println!("503 to {share} of what comes, at any rate: taken, refused");
            print_curve(&curve, 400.0);
            let taken: u32 = curve[SETTLED as usize..].iter().map(|(taken, _)| taken).sum();
            let rate = f64::from(taken) / (SECONDS - SETTLED) as f64;
            let left = play.relay.spooled().await;
            println!("{rate:.0} a second, {left} wait still");
            assert!(rate > 60.0, "{share}: {rate}");
        });
    }
}

/// The first seconds one by one, the rest in steps.
fn print_curve(curve: &[(u32, u32)], sustained: f64) {
    const FIRST: usize = 15;
    const STEP: usize = 15;
    let bar = |count: u32, mark: &str| {
        let width = (40.0 * f64::from(count) / sustained).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bar")]
        mark.repeat(width as usize)
    };
    let line = |from: usize, of: &[(u32, u32)]| {
        let count = u32::try_from(of.len()).unwrap();
        let taken = of.iter().map(|(taken, _)| taken).sum::<u32>() / count;
        let refused = of.iter().map(|(_, refused)| refused).sum::<u32>().div_ceil(count);
        println!("{from:>4} s {taken:>5} {refused:>5}  {}{}", bar(taken, "#"), bar(refused, "!"));
    };
    for at in 0..FIRST {
        line(at, &curve[at..=at]);
    }
    for at in (FIRST..curve.len()).step_by(STEP) {
        line(at, &curve[at..curve.len().min(at + STEP)]);
    }
}
