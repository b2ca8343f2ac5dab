//! Outages and what follows: lanes, probes, ramps, refusing upstreams, throttling ones, pauses.
//!
//! `BEACON_BACKLOG=200000` for what an hour's outage leaves of a large shop.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use beacon_relay::clock::{Clock, Timestamp};
use beacon_relay::forward::pause;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::support::{FakeUpstream, ORDER, TestRelay};

/// Waits short enough for a test. Attempts have the time that they have by default: these upstreams
/// all answer, and a busy machine may keep one from it for a while.
const QUICK: &str = r#"
[[destination]]
name = "events-api"
retry = { wait_first = "20 ms", wait_max = "100 ms" }
"#;

/// Waits that no test sees the end of.
const SLOW: &str = r#"
[[destination]]
name = "events-api"
retry = { wait_first = "10 m", wait_max = "20 m" }
"#;

/// Orders that came in while the upstream was away, in an ordinary run.
const BACKLOG: usize = 20_000;

const LINES: &str = "Content-Type: application/x-ndjson\r\n";

async fn click(relay: &TestRelay, n: usize) {
    let body = format!(r#"{{"session_id":"s-{n}"}}"#);
    assert_eq!(relay.post(&format!("/v1/beacon/click/{n}?pos=1"), body).await.status, 202);
}

fn orders(from: usize, count: usize) -> String {
    // One line each; the sample is written over many.
    let order = serde_json::from_str::<serde_json::Value>(ORDER).unwrap().to_string();
    let line = |n| order.replace(r#""order_id":"123""#, &format!(r#""order_id":"o-{n}""#)) + "\n";
    (from..from + count).map(line).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_event_overtakes_what_an_outage_left() {
    let mut upstream = FakeUpstream::start().await;
    let relay =
        TestRelay::start_with(&format!("{QUICK}[spool]\nmax_bytes = \"2 GiB\""), &upstream).await;
    upstream.misbehave(r#"{"status":503}"#);
    let backlog = std::env::var("BEACON_BACKLOG").map_or(BACKLOG, |count| count.parse().unwrap());
    for batch in 0..backlog / 5_000 {
        let body = orders(batch * 5_000, 5_000);
        assert_eq!(relay.post_with("/v1/beacon/conversion", LINES, body).await.status, 202);
    }
    relay.until(|status| status["destinations"][0]["breaker"] == "open").await;
    upstream.misbehave(r#"{"delay":"5 ms"}"#);
    click(&relay, 1).await;
    let posted = Clock::system().now();
    // How soon that is, `tests/sim` says by a clock that no machine slows down; here it counts how
    // many old ones go before it from when it was answered for.
    let mut before = 0;
    let took = loop {
        let event = upstream.next_event().await;
        if event.target.starts_with("/v1/beacon/click/1?")
            && event.status == Some(StatusCode::ACCEPTED)
        {
            break event.at.since(posted);
        }
        before += usize::from(event.at > posted);
        assert!(before < backlog / 10, "not among {before}: {:#}", relay.status().await);
    };
    println!("the fresh event came after {took:?}, {before} before it of {backlog}");
    // The rest is on its way, and how long it takes is told.
    relay
        .until(|status| {
            let drain = &status["destinations"][0]["drain"];
            drain["per_second"].as_f64().unwrap() > 1.0 && drain["eta_seconds"].is_u64()
        })
        .await;
    relay.finish().await;
}

#[tokio::test]
async fn an_upstream_that_refuses_everything_costs_twenty_dead_letters() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(QUICK, &upstream).await;
    upstream.misbehave(r#"{"status":404}"#);
    for n in 0..60 {
        click(&relay, n).await;
    }
    relay.until(|status| status["destinations"][0]["refusing"] == true).await;
    relay.until(|status| status["destinations"][0]["dead"] == 20).await;
    let metrics = relay.metrics().await;
    let line = r#"beacon_relay_refusing{destination="events-api"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    // It is tried, one at a time, and nothing more is given up.
    let before = upstream.sandbox.stats().requests;
    relay.until(|_| upstream.sandbox.stats().requests >= before + 2).await;
    assert_eq!(relay.status().await["destinations"][0]["dead"], 20);
    upstream.misbehave("{}");
    relay.settled().await;
    let status = relay.status().await;
    let own = &status["destinations"][0];
    assert_eq!((&own["dead"], &own["refusing"]), (&20.into(), &false.into()), "{status:#}");
    assert_eq!(status["ledger"]["store"]["delivered"], 40, "{status:#}");
    relay.finish().await;
}

#[tokio::test]
async fn what_waits_by_its_own_backoff_goes_when_the_origin_works_again() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(SLOW, &upstream).await;
    upstream.misbehave(r#"{"status":500}"#);
    for n in 0..8 {
        click(&relay, n).await;
    }
    relay.until(|status| status["destinations"][0]["breaker"] == "open").await;
    upstream.misbehave("{}");
    // Nothing is due for minutes, and nothing comes in.
    relay.settled().await;
    assert_eq!(upstream.sandbox.stats().accepted, 8);
    relay.finish().await;
}

#[tokio::test]
async fn what_was_told_to_wait_does_not_go_earlier_though_others_do() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(SLOW, &upstream).await;
    upstream.misbehave(r#"{"status":503,"retry_after":2}"#);
    click(&relay, 0).await;
    let told = upstream.next_event().await;
    // The relay has heard it too.
    relay.until(|status| status["destinations"][0]["retrying"] == 1).await;
    upstream.misbehave("{}");
    for n in 1..5 {
        click(&relay, n).await;
    }
    let first = upstream.next_event().await;
    let waited = first.at.since(told.at);
    assert!(waited >= Duration::from_millis(1990), "after {waited:?}");
    relay.finish().await;
}

#[tokio::test]
async fn retries_in_an_outage_are_few_beside_the_traffic() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(QUICK, &upstream).await;
    upstream.misbehave(r#"{"status":500}"#);
    for n in 0..10 {
        click(&relay, n).await;
    }
    relay.until(|status| status["destinations"][0]["breaker"] == "open").await;
    let opened = upstream.sandbox.stats().requests;
    let mut every = tokio::time::interval(Duration::from_millis(40));
    let (posted, started) = (150, Instant::now());
    for n in 0..posted {
        every.tick().await;
        click(&relay, 100 + n).await;
    }
    let sent = upstream.sandbox.stats().requests - opened;
    let took = started.elapsed();
    println!("{sent} requests while {posted} events came in, in {took:?}");
    // 40 ms apart they take six seconds, in which it is probed some eight times; where they take
    // longer, it is probed once more in each three seconds.
    let most = posted as u64 / 5 + took.as_secs();
    assert!(sent <= most, "{sent} requests for {posted} events in {took:?}");
    assert!(sent >= 1, "nobody looks whether it works again");
    relay.finish().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_is_shown() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(QUICK, &upstream).await;
    upstream.misbehave(r#"{"status":302}"#);
    click(&relay, 1).await;
    relay.until(|status| status["destinations"][0]["redirecting"] == true).await;
    let metrics = relay.metrics().await;
    for line in [
        r#"beacon_relay_redirecting{destination="events-api"} 1"#,
        r#"beacon_relay_attempts_total{destination="events-api",verdict="redirect"}"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    upstream.misbehave("{}");
    relay.settled().await;
    assert_eq!(upstream.sandbox.stats().accepted, 1);
    relay.finish().await;
}

#[tokio::test]
async fn a_pause_holds_everything_and_ends_by_itself() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(QUICK, &upstream).await;
    let forwarder = relay.forwarder("events-api");
    forwarder.pause(pause::FOR_EVER);
    click(&relay, 1).await;
    let metrics = relay.metrics().await;
    assert!(metrics.contains(r#"beacon_relay_paused{destination="events-api"} 1"#), "{metrics}");
    assert_eq!(upstream.sandbox.stats().requests, 0, "something went out in a pause");
    forwarder.resume();
    upstream.next_event().await;
    let until: Timestamp = Clock::system().now().after(Duration::from_millis(300));
    forwarder.pause(until);
    click(&relay, 2).await;
    let event = upstream.next_event().await;
    assert!(event.at >= until, "sent at {} in a pause until {until}", event.at);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn what_nears_its_age_is_told_before_it_is_given_up() {
    let upstream = FakeUpstream::start().await;
    let config = QUICK.replace("retry =", "max_age = { click = \"2 s\" }\nretry =");
    let relay = TestRelay::start_with(&config, &upstream).await;
    let forwarder = relay.forwarder("events-api");
    forwarder.pause(pause::FOR_EVER);
    // The order keeps its 14 days.
    assert_eq!(relay.post("/v1/beacon/conversion", ORDER).await.status, 202);
    let posted = Instant::now();
    click(&relay, 1).await;
    let answered = Instant::now();
    relay.until(|status| status["destinations"][0]["expiring"] == 1).await;
    let after = posted.elapsed();
    assert!(after >= Duration::from_millis(1_790), "told after {after:?}");
    let metrics = relay.metrics().await;
    let line = r#"beacon_relay_expiring{destination="events-api"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    // It was taken before it was answered for, however long before.
    tokio::time::sleep(Duration::from_millis(2_010).saturating_sub(answered.elapsed())).await;
    forwarder.resume();
    relay.settled().await;
    let own = &relay.status().await["destinations"][0];
    assert_eq!((&own["expiring"], &own["dead"]), (&0.into(), &1.into()), "{own:#}");
    let metrics = relay.metrics().await;
    let line = r#"beacon_relay_deliveries_total{destination="events-api",outcome="expired"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    assert_eq!(upstream.sandbox.stats().accepted, 1);
    relay.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_refuses_some_at_any_rate_is_not_taken_for_a_throttling_one() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(QUICK, &upstream).await;
    // As one of ten servers does behind a balancer.
    upstream.misbehave(r#"{"status":503,"share":0.1}"#);
    let (count, posted) = (3_000, Instant::now());
    let answer = relay.post_with("/v1/beacon/conversion", LINES, orders(0, count)).await;
    assert_eq!(answer.status, 202);
    while relay.status().await["ledger"]["store"]["spooled"] != 0 {
        // By the third second of lowered rates it would be some ten a second.
        let late = posted.elapsed() > Duration::from_secs(150);
        assert!(!late, "{:#}", relay.status().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stats = upstream.sandbox.stats();
    println!("{count} in {:?}, {} requests", posted.elapsed(), stats.requests);
    assert_eq!(stats.accepted, count as u64);
    relay.finish().await;
}

/// An upstream that takes so many requests a second and answers 429 to the rest. What was not sent
/// in half a second, as where a machine is busy, may come later.
#[derive(Debug)]
struct Throttling {
    sustained: f64,
    bucket: f64,
    at: Instant,
    started: Instant,
    /// Taken and refused, by second.
    curve: Vec<(u32, u32)>,
}

impl Throttling {
    fn answer(&mut self) -> StatusCode {
        let now = Instant::now();
        let passed = now.duration_since(self.at).as_secs_f64();
        self.bucket = (self.bucket + passed * self.sustained).min(self.sustained / 2.0);
        self.at = now;
        let second = usize::try_from(now.duration_since(self.started).as_secs()).unwrap();
        self.curve.resize(self.curve.len().max(second + 1), (0, 0));
        let (taken, refused) = &mut self.curve[second];
        if self.bucket < 1.0 {
            *refused += 1;
            return StatusCode::TOO_MANY_REQUESTS;
        }
        self.bucket -= 1.0;
        *taken += 1;
        StatusCode::ACCEPTED
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttling_upstream_is_sent_about_what_it_sustains() {
    let (upstream, now) = (FakeUpstream::start().await, Instant::now());
    let (sustained, bucket) = (100.0, 10.0);
    let state = Throttling { sustained, bucket, at: now, started: now, curve: Vec::new() };
    let state = Arc::new(Mutex::new(state));
    let answering = Arc::clone(&state);
    let app =
        Router::new().fallback(move || std::future::ready(answering.lock().unwrap().answer()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = TaskTracker::new().spawn(async move { axum::serve(listener, app).await });
    let config = format!(
        "[[destination]]\nname = \"throttling\"\nbase_url = \"http://{address}\"\n\
         target = \"verbatim\"\nretry = {{ wait_first = \"100 ms\", wait_max = \"1 s\" }}\n\
         [[source]]\nname = \"beacon-conversion\"\nto = [\"throttling\"]"
    );
    let relay = TestRelay::start_with(&config, &upstream).await;
    state.lock().unwrap().started = Instant::now();
    let answer = relay.post_with("/v1/beacon/conversion", LINES, orders(0, 1_000)).await;
    assert_eq!(answer.status, 202);
    let until = Instant::now() + Duration::from_secs(150);
    while relay.status().await["ledger"]["store"]["spooled"] != 0 {
        assert!(Instant::now() < until, "{:?}", state.lock().unwrap().curve);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let curve = state.lock().unwrap().curve.clone();
    println!("taken and refused each second: {curve:?}");
    let sum = |of: fn(&(u32, u32)) -> u32| curve.iter().map(of).sum::<u32>();
    let (taken, refused) = (sum(|second| second.0), sum(|second| second.1));
    assert_eq!(taken, 1_000, "each once");
    assert!(f64::from(refused) <= 0.25 * f64::from(taken), "{refused} refused: {curve:?}");
    relay.finish().await;
    serving.abort();
}
