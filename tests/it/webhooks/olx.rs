//! OLX: every flow of the corpus, and an answer within the vendor's two seconds whatever happens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use beacon_relay::caller::Limiter;
use beacon_relay::clock::Clock;
use beacon_relay::config::Layers;
use beacon_relay::http::auth::Guard;
use beacon_relay::http::receive::Door;
use beacon_relay::http::served::{Served, Serving};
use beacon_relay::http::{self, listener};
use beacon_relay::intake::Intake;
use beacon_relay::ledger::Ledger;
use beacon_relay::metrics::Metrics;
use beacon_relay::source::Source;
use beacon_relay::source::keep::Keep;
use beacon_relay::spool::Spool;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::{
    BrokenSpool, CountedUpstream, FakeUpstream, LateSpool, ORDER, RawAnswer, RawClient, TestRelay,
    post,
};

/// The vendor gives a notification up that is not answered in this time.
const VENDOR_WAITS: Duration = Duration::from_secs(2);

/// How long sources wait for the store that have no shorter time of their own: what was answered
/// sooner did not wait like them. A busy machine may take seconds of it.
const OTHERS_WAIT: Duration = Duration::from_secs(5);

/// A notification of the corpus: its signature by `test-secret`, and its body byte for byte.
fn notification(text: &str) -> (String, String) {
    let (head, body) = text.split_once('\n').unwrap();
    let head: serde_json::Value = serde_json::from_str(head).unwrap();
    (format!("X-Signature: {}\r\n", head["x-signature"].as_str().unwrap()), body.to_owned())
}

/// Every flow, by the name of its file.
fn flows() -> Vec<(String, String, String)> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/olx");
    let mut flows = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let (head, body) = notification(&std::fs::read_to_string(&path).unwrap());
        flows.push((path.file_stem().unwrap().to_str().unwrap().to_owned(), head, body));
    }
    flows.sort_unstable();
    flows
}

const FLOWS: [&str; 18] = [
    "activate-success",
    "deactivate-success",
    "delete-failure",
    "delete-success",
    "edit-failure",
    "edit-success",
    "lifecycle-moderated",
    "lifecycle-outdated",
    "message",
    "message-object",
    "publish-failure",
    "publish-failure-bare",
    "publish-image-failure",
    "publish-success",
    "test-of-app-manager",
    "vas-expired",
    "vas-publish-failure",
    "vas-success",
];

const PATH: &str = "/webhooks/olx";

#[tokio::test]
async fn every_flow_arrives_once_at_each_of_two_back_offices() {
    let (crm, books) = (CountedUpstream::start().await, CountedUpstream::start().await);
    let upstream = FakeUpstream::start().await;
    let config = format!(
        "[[destination]]\nname = \"crm\"\nbase_url = \"{}/olx\"\n\
         [[destination]]\nname = \"books\"\nbase_url = \"{}/hooks?from=relay\"\n\
         retry = {{ wait_first = \"20 ms\", wait_max = \"50 ms\" }}\n\
         [[source]]\nname = \"olx-adverts\"\nto = [\"crm\", \"books\"]\n",
        crm.url(),
        books.url()
    );
    let relay = TestRelay::start_with(&config, &upstream).await;
    // One of both is away for a while, which the other does not notice.
    books.answer(503);
    let flows = flows();
    let names: Vec<&str> = flows.iter().map(|(name, ..)| &**name).collect();
    assert_eq!(names, FLOWS);
    for (name, head, body) in &flows {
        for _ in 0..2 {
            let answer = relay.post_with(PATH, head, body).await;
            assert_eq!((answer.status, answer.text()), (200, ""), "{name}");
        }
    }
    let delivered = |status: &serde_json::Value, index: usize| {
        status["destinations"][index]["leases"]["delivered"].as_u64().unwrap()
    };
    relay.until(|status| delivered(status, 1) == 18).await;
    assert_eq!(delivered(&relay.status().await, 2), 0);
    books.answer(200);
    relay.settled().await;

    let mut wanted: Vec<&str> = flows.iter().map(|(.., body)| &**body).collect();
    wanted.sort_unstable();
    let mut arrived: Vec<String> = Vec::new();
    for seen in crm.seen() {
        assert_eq!(seen.target, "/olx");
        arrived.push(String::from_utf8(seen.body.to_vec()).unwrap());
    }
    arrived.sort_unstable();
    assert_eq!(arrived, wanted, "each once, byte for byte");
    assert_eq!(delivered(&relay.status().await, 2), 18);
    assert!(books.seen().iter().all(|seen| seen.target == "/hooks?from=relay"));
    relay.finish().await;
}

/// Answers one request in front of a store that does not store; its last byte comes after `pause`.
async fn in_front_of(
    spool: Arc<dyn Spool>,
    more: &str,
    request: Vec<u8>,
    pause: Duration,
) -> (RawAnswer, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    let written = format!("[[source]]\nname = \"olx-adverts\"\nto = [\"events-api\"]\n{more}\n");
    std::fs::write(&file, written).unwrap();
    let environment = vec![("OLX_SECRET".to_owned(), "test-secret".to_owned())];
    let plan = Layers { file: Some(file), environment, ..Layers::default() }.plan().unwrap();
    let sources = plan.sources.into_iter();
    let sources: Vec<_> = sources.map(|one| Arc::new(Source::new(one, 64))).collect();
    let names = || sources.iter().map(|source| source.settings().name.clone());
    let metrics = Arc::new(Metrics::new(http::ROUTES, names(), []));
    let intake = Intake::new(spool, Arc::new(Ledger::new(names(), [])), Arc::clone(&metrics));
    let guard = Arc::new(Guard::new(plan.access, Arc::new(Limiter::new(1))));
    let limits = plan.server.requests;
    let door = Door::new(intake, guard, Arc::clone(&metrics), Clock::system(), limits);
    let door = door.keeping(Keep::default().and(sources.iter().flat_map(|one| one.reads())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = listener.local_addr().unwrap();
    let router = http::public(&sources, door, metrics);
    let serving = Serving::new(Served { router, limits: plan.server.connections, tls: None });
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    tasks.spawn(listener::serve(listener, serving, stop.clone(), stop.clone()));
    let (most, last) = request.split_at(request.len() - 1);
    let mut client = RawClient::connect(listen).await;
    let since = Instant::now();
    client.send(most).await;
    // A late byte is late on purpose.
    let early = tokio::time::timeout(pause, client.answer()).await;
    let answer = match early {
        Ok(answer) => answer.unwrap(),
        Err(_elapsed) => client.exchange(last).await,
    };
    let took = since.elapsed();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    (answer, took)
}

#[tokio::test]
async fn a_store_that_fails_or_does_not_answer_is_told_in_the_vendors_time() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    std::fs::write(&file, "[[source]]\nname = \"olx-adverts\"\nto = [\"events-api\"]\n").unwrap();
    let environment = vec![("OLX_SECRET".to_owned(), "test-secret".to_owned())];
    let plan = Layers { file: Some(file), environment, ..Layers::default() }.plan().unwrap();
    let within = |name: &str| {
        let source = plan.sources.iter().find(|one| one.name.as_str() == name);
        source.unwrap().answer_within
    };
    assert_eq!(within("beacon-conversion"), OTHERS_WAIT);
    assert!(2 * within("olx-adverts") <= VENDOR_WAITS, "half of its time is for the way");
    let stores: [(Arc<dyn Spool>, Duration); 2] = [
        (Arc::new(BrokenSpool), Duration::ZERO),
        (Arc::new(LateSpool(Duration::MAX)), Duration::from_secs(1)),
    ];
    for (spool, least) in stores {
        let (_, head, body) = flows().swap_remove(0);
        let request = post(PATH, &head, body);
        let (answer, took) = in_front_of(spool, "", request, Duration::ZERO).await;
        assert_eq!((answer.status, &answer.json()["code"]), (503, &"store_unavailable".into()));
        assert!(answer.header("retry-after").is_some());
        assert!((least..OTHERS_WAIT).contains(&took), "answered after {took:?}");
    }
}

/// Body and store are each within the time for an answer, and together they are not.
#[tokio::test]
async fn a_partners_time_runs_from_its_head_to_the_answer() {
    // Two seconds are left to a busy machine.
    let (within, late) = ("answer_within = \"5 s\"", Duration::from_secs(3));
    let (_, head, body) = flows().swap_remove(0);
    let request = || post(PATH, &head, &body);
    let store = |after| Arc::new(LateSpool(after));
    let quick = Duration::ZERO;
    let (answer, _) = in_front_of(store(quick), within, request(), late).await;
    assert_eq!(answer.status, 200, "a late body alone: {}", answer.text());
    let (answer, _) = in_front_of(store(late), within, request(), quick).await;
    assert_eq!(answer.status, 200, "a late store alone: {}", answer.text());
    // The store would have answered, had it been waited for.
    let (answer, _) = in_front_of(store(late), within, request(), late).await;
    assert_eq!((answer.status, &answer.json()["code"]), (503, &"store_unavailable".into()));
    // No body within the time is told in time too.
    let (answer, took) = in_front_of(store(quick), within, request(), 10 * late).await;
    assert_eq!((answer.status, &answer.json()["code"]), (408, &"body_timeout".into()));
    assert!(took < 5 * late, "answered after {took:?}");
}

/// Who is on a slow line has the time of a body for it, and the store has its own behind it.
#[tokio::test]
async fn the_time_of_a_client_on_a_slow_line_is_its_own() {
    let within = "[[source]]\nname = \"beacon-conversion\"\nanswer_within = \"3 s\"";
    let late = Duration::from_secs(4);
    let json = "Content-Type: application/json\r\n";
    let order = || post("/v1/beacon/conversion", json, ORDER);
    let store = |after| Arc::new(LateSpool(after));
    let (answer, _) = in_front_of(store(Duration::ZERO), within, order(), late).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let (answer, took) = in_front_of(store(Duration::MAX), within, order(), late).await;
    assert_eq!((answer.status, &answer.json()["code"]), (503, &"store_unavailable".into()));
    assert!(took >= late + Duration::from_secs(3), "answered after {took:?}");
}

#[tokio::test]
async fn a_store_without_room_is_told_at_once_so_that_the_vendor_sends_it_again() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"status":503}"#);
    let config = "[spool]\nmax_bytes = \"4 MiB\"\n\
                  [[source]]\nname = \"olx-adverts\"\nto = [\"events-api\"]\n";
    let relay = TestRelay::start_with(config, &upstream).await;
    let large = format!(r#"{{"user_id":"{}"}}"#, "x".repeat(200_000));
    let mut fill = 0..60;
    while fill.next().is_some() && relay.post("/v1/beacon/view/1", &large).await.status == 202 {}
    let (_, head, body) = flows().swap_remove(0);
    let body = body.replacen('{', &format!("{{\"x\":\"{}\",", "x".repeat(200_000)), 1);
    let since = Instant::now();
    let answer = relay.post_with(PATH, &head, &body).await;
    assert!(since.elapsed() < OTHERS_WAIT, "answered after {:?}", since.elapsed());
    assert_eq!((answer.status, &answer.json()["code"]), (503, &"spool_full".into()));
    assert!(answer.header("retry-after").is_some());
    upstream.misbehave("{}");
    relay.finish().await;
}

/// As many connections as clients keep at it, for so long.
const CLIENTS: usize = 64;
const LOADED_FOR: Duration = Duration::from_secs(4);

/// How long processors have worked for this process, all its threads together.
fn worked() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name of the program stands in brackets, and may hold anything.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|it| it.parse::<u64>().unwrap()).sum();
    // A hundred a second on every Linux.
    Duration::from_millis(ticks * 10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_full_load_every_notification_is_answered_in_the_vendors_time() {
    let upstream = FakeUpstream::start().await;
    let config =
        "[[source]]\nname = \"olx-adverts\"\nto = [\"events-api\"]\nanswer_within = \"1 s\"\n";
    let relay = Arc::new(TestRelay::start_with(config, &upstream).await);
    let (addr, started, worked) = (relay.addr(), Instant::now(), worked());
    let end = started + LOADED_FOR;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(async move {
            let (mut connection, mut orders) = (RawClient::connect(addr).await, 0_u32);
            let json = "Content-Type: application/json\r\n";
            while Instant::now() < end {
                let order = ORDER.replace(r#""123""#, &format!("\"{client}-{orders}\""));
                let answer = connection.exchange(&post("/v1/beacon/conversion", json, order)).await;
                assert!([202, 503].contains(&answer.status), "{}", answer.text());
                orders += 1;
            }
            orders
        });
    }
    let (mut connection, mut took) = (RawClient::connect(addr).await, Vec::new());
    let flows = flows();
    while Instant::now() < end {
        let (_, head, body) = &flows[took.len() % flows.len()];
        let since = Instant::now();
        let answer = connection.exchange(&post(PATH, head, body)).await;
        took.push(since.elapsed());
        assert!([200, 503].contains(&answer.status), "{}", answer.text());
    }
    let orders: u32 = clients.join_all().await.into_iter().sum();
    // Two threads that are always busy: what they did not get was given to other programs, and made
    // everything here that much longer.
    let share = (self::worked() - worked).div_duration_f64(2 * started.elapsed()).min(1.0);
    took.sort_unstable();
    let longest = *took.last().unwrap();
    println!(
        "{} notifications beside {orders} orders: {longest:?} at most, with {share:.2} of the machine",
        took.len()
    );
    assert!(longest.mul_f64(share) < VENDOR_WAITS, "answered after {longest:?}");
    assert!(orders > 100, "{orders} orders are no load");
    // What is stored is delivered, however long that takes here.
    let relay = Arc::into_inner(relay).unwrap();
    relay.finish().await;
}
