//! A forwarder over a scripted transport, with time that the runtime holds.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;

use super::request::{ByUrl, Lead, Route, Target};
use super::transport::{Again, Attempting, Transport};
use super::verdict::{Attempt, Sent};
use super::*;
use crate::clock::Timestamp;
use crate::event::{ClientHeaders, EventId, EventKind};
use crate::json::Node;
use crate::ledger::LeaseEnd;
use crate::origin::{Origin, Origins};
use crate::pii;
use crate::spool::memory::{self, Disk, Memory};
use crate::spool::{Batch, Cause, DeadFilter, DeadLetter, DeadQuery, Lane, NewEvent};

/// What an origin does with a request.
#[derive(Clone, Copy)]
enum Way {
    Takes,
    /// It answers 503 and asks for so many seconds.
    Asks(u64),
    /// It takes the request and says nothing for 10 s.
    Silent,
    /// Its name leads to a private address.
    Private,
    /// The connection is never made.
    Connecting,
}

#[derive(Default)]
struct Script {
    ways: Mutex<BTreeMap<&'static str, Way>>,
    sent: Mutex<Vec<(String, Timestamp)>>,
    /// Whether each might have been sent once more at its end.
    again: Mutex<Vec<bool>>,
}

struct Wire(Arc<Script>, Clock);

impl Transport for Wire {
    fn attempt<'a>(
        &'a self,
        request: Request<Full<Bytes>>,
        stop: &'a CancellationToken,
        again: Again<'a>,
    ) -> Attempting<'a> {
        let host = request.uri().host().unwrap().to_owned();
        let way = lock(&self.0.ways).get(host.as_str()).copied().unwrap_or(Way::Takes);
        lock(&self.0.sent).push((host, self.1.now()));
        Box::pin(async move {
            let answered = |status, seconds: Option<u64>| Attempt::Answered {
                status: StatusCode::from_u16(status).unwrap(),
                retry_after: seconds.map(Duration::from_secs),
                answer: Bytes::new(),
            };
            let unanswered = |sent, code| Attempt::Unanswered { sent, code };
            let (takes, end, cut) = match way {
                Way::Takes => (5, answered(202, None), Sent::Maybe),
                Way::Asks(seconds) => (5, answered(503, Some(seconds)), Sent::Maybe),
                Way::Silent => (10_000, unanswered(Sent::Maybe, "timeout"), Sent::Maybe),
                Way::Private => (1, unanswered(Sent::No, "private_address"), Sent::No),
                Way::Connecting => (10_000, unanswered(Sent::No, "timeout"), Sent::No),
            };
            let ended = stop.run_until_cancelled(tokio::time::sleep(Duration::from_millis(takes)));
            let ended = ended.await;
            lock(&self.0.again).push(again());
            if ended.is_some() { end } else { Attempt::Cut(cut) }
        })
    }
}

/// A destination with several origins, its spool and its forwarder.
struct Stage {
    clock: Clock,
    disk: Disk,
    spool: Arc<Memory>,
    ledger: Arc<Ledger>,
    script: Arc<Script>,
    forwarder: Arc<Forwarder>,
    tasks: TaskTracker,
    stop: Stop,
}

impl Stage {
    fn new(ways: &[(&'static str, Way)]) -> Self {
        let clock = Clock::following(Timestamp::from_millis(1_795_000_000_000));
        let script = Arc::<Script>::default();
        lock(&script.ways).extend(ways.iter().copied());
        Self::over(Disk::default(), script, clock)
    }

    fn over(disk: Disk, script: Arc<Script>, clock: Clock) -> Self {
        // What backoffs and spreads are drawn from: a run is like any other.
        fastrand::seed(1);
        let spool = Arc::new(Memory::open(&disk, memory::Settings::default(), clock.clone()));
        let name = DestinationName::new("pages");
        let ledger = Arc::new(Ledger::new([], [name.clone()]));
        let metrics = Arc::new(Metrics::new(&[], [], [name]));
        let wire = Arc::new(Wire(Arc::clone(&script), clock.clone()));
        let store = Arc::clone(&spool) as Arc<dyn Spool>;
        let forwarder =
            Forwarder::over(wire, settings(), store, Arc::clone(&ledger), metrics, clock.clone());
        let stop = Stop { leasing: CancellationToken::new(), attempts: CancellationToken::new() };
        let tasks = TaskTracker::new();
        tasks.spawn(Arc::clone(&forwarder).run(stop.clone()));
        Self { clock, disk, spool, ledger, script, forwarder, tasks, stop }
    }

    async fn store(&self, kind: EventKind, host: &str, count: usize) {
        let now = self.clock.now();
        let event = || Event {
            id: EventId::new(now),
            source: SourceName::new("pages"),
            kind,
            target: format!("https://{host}/pixel").into(),
            accepted_at: now,
            body: pii::passed(Bytes::from_static(b"{}"), &Node::Null),
            headers: ClientHeaders::default(),
            fault: None,
        };
        let new = || NewEvent {
            event: Arc::new(event()),
            to: vec![DestinationName::new("pages")],
            dedupe: None,
            lane: Lane::Live,
        };
        let events = std::iter::repeat_with(new).take(count).collect();
        self.spool.append(Batch { events, request: None }).await.unwrap();
    }

    /// Stops at once: what is under way is broken off.
    async fn restart(self) -> Self {
        self.stop.leasing.cancel();
        self.stop.attempts.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.spool.close().await.unwrap();
        lock(&self.script.sent).clear();
        Self::over(self.disk, self.script, self.clock)
    }

    fn sent(&self, host: &str) -> Vec<Timestamp> {
        let sent = lock(&self.script.sent);
        sent.iter().filter(|(to, _)| to == host).map(|(_, at)| *at).collect()
    }

    fn leased(&self) -> u64 {
        let (_, sums) = self.ledger.lease_sums().next().unwrap();
        let ends = [LeaseEnd::Delivered, LeaseEnd::PutBack, LeaseEnd::Dead, LeaseEnd::Lost];
        ends.into_iter().map(|end| sums.ended(end)).sum()
    }

    async fn letters(&self) -> Vec<DeadLetter> {
        let query = DeadQuery { after: None, max: 100, filter: DeadFilter::all() };
        self.spool.dead(query).await.unwrap().letters
    }
}

fn settings() -> Settings {
    let origins = ["https://pages.example", "https://one.example", "https://two.example"];
    let origins = origins.map(|text| Origin::parse(text).unwrap());
    let base = origins[0].clone();
    let by_url = ByUrl { origins: Origins::new(origins.into()), route: Route::Own };
    let lead = Lead::new(HeaderValue::from_static("beacon-relay/0"));
    Settings {
        name: DestinationName::new("pages"),
        shape: Shape::new(base.clone(), Target::Verbatim(by_url), lead),
        concurrency: 8,
        reserved_for_live: 2,
        limits: Limits {
            idle_connections_max: 8,
            pool_idle_timeout: Duration::from_secs(4),
            connection_max_age: Duration::from_secs(300),
            connect_within: Duration::from_secs(10),
            attempt_within: Duration::from_secs(10),
        },
        network: Network::open(base),
        backoff: Backoff {
            wait_first: Duration::from_secs(1),
            wait_max: Duration::from_secs(900),
            retry_after_max: Duration::from_secs(3600),
        },
        max_age: MaxAge::new([Duration::from_secs(86_400); EventKind::ALL.len()]),
        when_unsure: WhenUnsure::ByKind,
        when_unsure_of: BTreeMap::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_meets_a_stale_connection_may_not_go_again_where_the_origin_asked_meanwhile() {
    const HOST: &str = "one.example";
    let stage = Stage::new(&[(HOST, Way::Silent)]);
    for (asks, again) in [(false, vec![true, true]), (true, vec![true, false])] {
        lock(&stage.script.again).clear();
        lock(&stage.script.ways).insert(HOST, Way::Silent);
        stage.store(EventKind::View, HOST, 1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let way = if asks { Way::Asks(60) } else { Way::Takes };
        lock(&stage.script.ways).insert(HOST, way);
        stage.store(EventKind::Click, HOST, 1).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let mut seen = lock(&stage.script.again).clone();
        // The one that asks learns of it after its end.
        seen.sort_unstable_by_key(|again| !again);
        assert_eq!(seen, again, "{asks}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_closed_origin_is_not_leased_in_a_spin_for_another_ones_probe() {
    const WAITING: u64 = 20;
    const HOUR: u64 = 3600;
    let stage = Stage::new(&[("one.example", Way::Silent), ("two.example", Way::Asks(HOUR))]);
    // One shuts, and nothing is left for it: a view that may have arrived is not sent again.
    stage.store(EventKind::View, "one.example", 8).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(stage.forwarder.standing().gate.broken);
    assert_eq!(stage.letters().await.len(), 8);
    stage.store(EventKind::Click, "two.example", 1).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let asked = stage.sent("two.example");
    assert_eq!(asked.len(), 1);
    stage.store(EventKind::Click, "two.example", 20).await;
    let before = stage.leased();
    for _ in 0..20_000 {
        // While somebody runs, the clock stands.
        tokio::task::yield_now().await;
    }
    let at_once = stage.leased() - before;
    assert!(at_once <= 2 * WAITING, "{at_once} leases in no time");
    tokio::time::sleep(Duration::from_secs(HOUR - 120)).await;
    let leased = stage.leased() - before;
    // All of them every 3 s, to find out that one may be for the origin that is probed.
    assert!(leased <= WAITING * HOUR / 3, "{leased} leases in an hour");
    assert_eq!(stage.sent("two.example").len(), 1);
    lock(&stage.script.ways).insert("two.example", Way::Takes);
    tokio::time::sleep(Duration::from_secs(300)).await;
    let sent = stage.sent("two.example");
    assert_eq!(sent.len(), 22);
    assert!(sent[1] >= asked[0].after(Duration::from_secs(HOUR)), "never before it is asked for");
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_says_nothing_is_probed_alone_beside_others_that_work() {
    let stage = Stage::new(&[("one.example", Way::Silent)]);
    stage.store(EventKind::Conversion, "two.example", 1).await;
    stage.store(EventKind::Conversion, "one.example", 40).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(stage.forwarder.standing().gate.broken);
    let shut = stage.clock.now();
    for _ in 0..1200 {
        stage.store(EventKind::Conversion, "two.example", 1).await;
        stage.store(EventKind::Conversion, "one.example", 1).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let probes = stage.sent("one.example").into_iter().filter(|at| *at > shut);
    let probes: Vec<Timestamp> = probes.collect();
    for pair in probes.windows(2) {
        let between = pair[1].since(pair[0]);
        assert!(between >= Duration::from_secs(10), "one is under way when the next is sent");
        // It is found among what steps aside when the last has ended.
        assert!(between <= Duration::from_secs(20), "{between:?}");
    }
    assert!(probes.len() > 30, "{}", probes.len());
    assert_eq!(stage.sent("two.example").len(), 1201);
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_is_seen_first_while_the_known_ones_are_closed_is_sent_to_at_once() {
    const HOUR: u64 = 3600;
    let stage = Stage::new(&[("one.example", Way::Asks(HOUR))]);
    stage.store(EventKind::Conversion, "one.example", 1).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    for _ in 0..5 {
        stage.store(EventKind::Conversion, "one.example", 1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let before = stage.leased();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(stage.leased() - before <= 20, "what is fresh is looked at a few times");
    assert_eq!(stage.sent("one.example").len(), 1, "and is put back");
    stage.store(EventKind::Conversion, "one.example", 3).await;
    stage.store(EventKind::Conversion, "two.example", 1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((stage.sent("two.example").len(), stage.sent("one.example").len()), (1, 1));
    let asked = stage.sent("one.example")[0];
    lock(&stage.script.ways).clear();
    tokio::time::sleep(Duration::from_secs(HOUR)).await;
    let sent = stage.sent("one.example");
    assert!(sent.len() == 10 && sent[1] >= asked.after(Duration::from_secs(HOUR)), "{sent:?}");
    assert_eq!(stage.spool.stats().await.unwrap().spooled(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_leads_to_a_private_address_shuts_its_own_gate_alone() {
    let stage = Stage::new(&[("one.example", Way::Private)]);
    stage.store(EventKind::Conversion, "one.example", 20).await;
    stage.store(EventKind::Conversion, "two.example", 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(stage.forwarder.standing().gate.broken);
    for n in 0..100 {
        let now = stage.clock.now();
        stage.store(EventKind::Conversion, "two.example", 1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let sent = stage.sent("two.example");
        assert_eq!(sent.len(), n + 2, "it is sent at once");
        assert_eq!(sent.last(), Some(&now));
    }
    let stats = stage.spool.stats().await.unwrap();
    assert_eq!((stats.flow.delivered, stats.spooled(), stats.flow.dead), (101, 20, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_stop_breaks_off_is_known_to_have_been_sent_after_the_restart() {
    let stage = Stage::new(&[("one.example", Way::Silent), ("two.example", Way::Connecting)]);
    stage.store(EventKind::View, "one.example", 1).await;
    stage.store(EventKind::Conversion, "one.example", 1).await;
    stage.store(EventKind::View, "two.example", 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((stage.sent("one.example").len(), stage.sent("two.example").len()), (2, 1));
    lock(&stage.script.ways).clear();
    let stage = stage.restart().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    // The order may come twice, and the view that never left is as new.
    assert_eq!((stage.sent("one.example").len(), stage.sent("two.example").len()), (1, 1));
    let letters = stage.letters().await;
    let told: Vec<_> = letters.iter().map(|one| (one.event.kind, one.refusal.cause)).collect();
    assert_eq!(told, [(EventKind::View, Cause::UnknownOutcome)]);
    assert_eq!(letters[0].attempts, 1, "it was sent once");
    let stats = stage.spool.stats().await.unwrap();
    assert_eq!((stats.spooled(), stats.flow.delivered), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_view_that_may_have_arrived_is_a_dead_letter_of_one_attempt() {
    let stage = Stage::new(&[("one.example", Way::Silent)]);
    stage.store(EventKind::View, "one.example", 1).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    let letters = stage.letters().await;
    assert_eq!((letters[0].refusal.cause, letters[0].attempts), (Cause::UnknownOutcome, 1));
}

#[test]
fn the_more_step_aside_the_later_they_are_taken_for_a_probe_again() {
    assert_eq!(hasten_after(0), HASTEN_FIRST);
    assert_eq!(hasten_after(20), HASTEN_FIRST + Duration::from_secs(1));
    assert_eq!(hasten_after(200_000), HASTEN_MAX);
    assert_eq!(hasten_after(u32::MAX), HASTEN_MAX);
}
