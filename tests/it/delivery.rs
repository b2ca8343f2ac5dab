//! From the spool to the upstream: retries, outages, dead letters, restarts.

use std::time::{Duration, Instant};

use crate::support::{FakeUpstream, ORDER, TestRelay};

/// Waits short enough for a test.
const QUICK: &str = r#"
[[destination]]
name = "events-api"
retry = { wait_first = "20 ms", wait_max = "100 ms" }
"#;

/// And an answer is not waited for long, though longer than a busy machine takes to give one.
const IMPATIENT: &str = r#"
[[destination]]
name = "events-api"
retry = { wait_first = "20 ms", wait_max = "100 ms" }
attempt_within = "2 s"
"#;

fn click(n: usize) -> (String, String) {
    (format!("/v1/beacon/click/{n}?pos=1"), format!(r#"{{"session_id":"s-{n}"}}"#))
}

#[tokio::test]
async fn what_came_in_an_outage_arrives_after_it() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(QUICK, &upstream).await;
    upstream.misbehave(r#"{"outage":"700 ms"}"#);
    for n in 0..30 {
        let (target, body) = click(n);
        assert_eq!(relay.post(&target, &body).await.status, 202);
    }
    relay.settled().await;
    let stats = upstream.sandbox.stats();
    assert_eq!(stats.accepted, 30);
    relay.finish().await;
}

#[tokio::test]
async fn an_outage_costs_probes_and_no_storm() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(QUICK, &upstream).await;
    upstream.misbehave(r#"{"status":503}"#);
    let started = Instant::now();
    for n in 0..100 {
        let (target, body) = click(n);
        assert_eq!(relay.post(&target, &body).await.status, 202);
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let during = upstream.sandbox.stats().requests;
    let took = started.elapsed();
    // 32 may be under way when the breaker opens; then it is probed after 250 ms, after twice that
    // and so on, up to once in three seconds.
    let most = 32 + 8 + took.as_secs();
    assert!(during <= most, "{during} requests in an outage of {took:?}");
    assert_eq!(relay.status().await["destinations"][0]["breaker"], "open");
    upstream.misbehave("{}");
    relay.settled().await;
    assert_eq!(relay.status().await["destinations"][0]["breaker"], "closed");
    relay.finish().await;
}

#[tokio::test]
async fn a_retry_after_is_not_undercut() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(QUICK, &upstream).await;
    upstream.misbehave(r#"{"status":429,"retry_after":1}"#);
    let (target, body) = click(1);
    relay.post(&target, &body).await;
    let first = upstream.next_event().await;
    relay.until(|status| status["destinations"][0]["retrying"] == 1).await;
    upstream.misbehave("{}");
    let (target, body) = click(2);
    relay.post(&target, &body).await;
    // Neither the event that was told to wait nor any other of the origin goes before.
    for _ in 0..2 {
        let next = upstream.next_event().await;
        let waited = next.at.since(first.at);
        assert!(waited >= Duration::from_millis(990), "sent again after {waited:?}");
    }
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn what_upstream_refuses_becomes_a_dead_letter() {
    let mut upstream = FakeUpstream::start().await;
    let mut relay = TestRelay::start_with(QUICK, &upstream).await;
    upstream.misbehave(r#"{"status":422}"#);
    assert_eq!(relay.post("/v1/beacon/conversion", ORDER).await.status, 202);
    upstream.next_event().await;
    relay.settled().await;
    let destination = &relay.status().await["destinations"][0];
    assert_eq!(destination["dead"], 1, "{destination:#}");
    let metrics = relay.metrics().await;
    for line in [
        r#"beacon_relay_schema_drift_total{destination="events-api"} 1"#,
        r#"beacon_relay_deliveries_total{destination="events-api",outcome="dead"} 1"#,
        r#"beacon_relay_attempts_total{destination="events-api",verdict="schema_refused"} 1"#,
        r#"beacon_relay_dead_letters{destination="events-api"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    // The key is free again: a corrected order is a new one, over a restart too.
    upstream.misbehave("{}");
    relay.restart().await;
    assert_eq!(relay.status().await["destinations"][0]["dead"], 1);
    assert_eq!(relay.post("/v1/beacon/conversion", ORDER).await.status, 202);
    assert_eq!(upstream.next_event().await.body, ORDER);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_the_attempt() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(IMPATIENT, &upstream).await;
    upstream.misbehave(r#"{"delay":"1 h"}"#);
    assert_eq!(relay.post("/v1/beacon/conversion", ORDER).await.status, 202);
    let view = relay.post("/v1/beacon/view/1", r#"{"session_id":"s"}"#).await;
    assert_eq!(view.status, 202);
    upstream.next_events(2).await;
    upstream.misbehave("{}");
    // An order may arrive twice, upstream knows it; a view may not, and is kept for a person.
    assert_eq!(upstream.next_event().await.body, ORDER);
    relay.settled().await;
    let destination = &relay.status().await["destinations"][0];
    assert_eq!(destination["dead"], 1, "{destination:#}");
    let metrics = relay.metrics().await;
    let line = r#"beacon_relay_possible_duplicates_total{destination="events-api"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    relay.finish().await;
}

#[tokio::test]
async fn resets_and_closes_lose_nothing() {
    for faults in [
        r#"{"reset":"before","share":0.3}"#,
        r#"{"reset":"after","share":0.3}"#,
        r#"{"close_after":3}"#,
        r#"{"html":true,"share":0.3}"#,
        r#"{"status":301,"share":0.3}"#,
    ] {
        let upstream = FakeUpstream::start().await;
        let relay = TestRelay::start_with(QUICK, &upstream).await;
        upstream.misbehave(faults);
        for n in 0..20 {
            let order = ORDER.replace(r#""123""#, &format!("\"{n}\""));
            assert_eq!(relay.post("/v1/beacon/conversion", &order).await.status, 202);
        }
        relay.settled().await;
        let status = relay.status().await;
        assert_eq!(status["destinations"][0]["dead"], 0, "{faults}");
        assert_eq!(status["ledger"]["store"]["delivered"], 20, "{faults}");
        relay.finish().await;
    }
}

#[tokio::test]
async fn what_was_not_delivered_is_delivered_after_a_restart() {
    let mut upstream = FakeUpstream::start().await;
    let mut relay = TestRelay::start_with(QUICK, &upstream).await;
    upstream.misbehave(r#"{"status":503}"#);
    for n in 0..10 {
        let (target, body) = click(n);
        assert_eq!(relay.post(&target, &body).await.status, 202);
    }
    upstream.next_event().await;
    relay.restart().await;
    assert_eq!(relay.status().await["ledger"]["store"]["recovered"], 10);
    upstream.misbehave("{}");
    relay.settled().await;
    assert_eq!(upstream.sandbox.stats().accepted, 10);
    relay.finish().await;
}

#[tokio::test]
async fn what_an_upstream_asked_for_holds_over_a_restart_for_every_event() {
    // So long that a busy machine stops and starts a relay meanwhile.
    const ASKED: Duration = Duration::from_secs(15);
    let mut upstream = FakeUpstream::start().await;
    let mut relay = TestRelay::start_with(QUICK, &upstream).await;
    upstream.misbehave(r#"{"status":503,"retry_after":15}"#);
    let (target, body) = click(1);
    assert_eq!(relay.post(&target, &body).await.status, 202);
    let asked = upstream.next_event().await.at;
    upstream.misbehave("{}");
    relay.until(|status| !status["destinations"][0]["closed_for_seconds"].is_null()).await;
    // A stop takes the attempt to its end, and with it the note.
    relay.restart().await;
    relay.until(|status| !status["destinations"][0]["closed_for_seconds"].is_null()).await;
    let (target, body) = click(2);
    assert_eq!(relay.post(&target, &body).await.status, 202);
    for event in upstream.next_events(2).await {
        assert!(event.at.since(asked) >= ASKED, "after {:?}", event.at.since(asked));
    }
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn an_event_past_its_age_is_kept_as_expired() {
    let upstream = FakeUpstream::start().await;
    let config = format!("{QUICK}max_age = {{ click = \"150 ms\" }}\n");
    let relay = TestRelay::start_with(&config, &upstream).await;
    upstream.misbehave(r#"{"status":503}"#);
    let (target, body) = click(1);
    relay.post(&target, &body).await;
    relay.settled().await;
    let metrics = relay.metrics().await;
    let line = r#"beacon_relay_deliveries_total{destination="events-api",outcome="expired"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    relay.finish().await;
}

#[tokio::test]
async fn a_dead_destination_does_not_slow_another() {
    let (dead, mut healthy) = (FakeUpstream::start().await, FakeUpstream::start().await);
    dead.misbehave(r#"{"delay":"1 h"}"#);
    let config = format!(
        "{IMPATIENT}\n[[destination]]\nname = \"healthy\"\nbase_url = \"http://{}\"\n\
         target = \"verbatim\"\n[[source]]\nname = \"beacon-click\"\nto = [\"events-api\", \"healthy\"]",
        healthy.addr()
    );
    let relay = TestRelay::start_with(&config, &dead).await;
    for n in 0..100 {
        let (target, body) = click(n);
        assert_eq!(relay.post(&target, &body).await.status, 202);
    }
    healthy.next_events(100).await;
    dead.misbehave("{}");
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_reused_connection_that_closes_costs_no_event() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(QUICK, &upstream).await;
    assert_eq!(relay.post("/v1/beacon/view/0", r#"{"user_id":"u"}"#).await.status, 202);
    relay.settled().await;
    // Every other request meets a connection that closes on it; a view may not be tried again.
    upstream.misbehave(r#"{"reset":"before","share":0.5}"#);
    for n in 1..=10 {
        let answer = relay.post(&format!("/v1/beacon/view/{n}"), r#"{"user_id":"u"}"#).await;
        assert_eq!(answer.status, 202);
        relay.settled().await;
    }
    assert!(upstream.sandbox.stats().faults_injected >= 5, "connections did close");
    let status = relay.status().await;
    assert_eq!(status["destinations"][0]["dead"], 0, "{status:#}");
    assert_eq!(status["ledger"]["store"]["delivered"], 11);
    relay.finish().await;
}

#[tokio::test]
async fn a_status_decides_though_its_body_never_ends() {
    let upstream = FakeUpstream::start().await;
    let slow = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = slow.local_addr().unwrap();
    let requests = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&requests);
    let tasks = tokio_util::task::TaskTracker::new();
    let serving = tasks.spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = slow.accept().await.unwrap();
            let mut request = [0; 2048];
            tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap();
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let head = b"HTTP/1.1 202 Accepted\r\ncontent-length: 10\r\n\r\n{";
            tokio::io::AsyncWriteExt::write_all(&mut stream, head).await.unwrap();
            open.push(stream);
        }
    });
    let config = format!(
        "{QUICK}\n[[destination]]\nname = \"slow\"\nbase_url = \"http://{address}\"\n\
         target = \"verbatim\"\nattempt_within = \"2 s\"\n\
         [[source]]\nname = \"beacon-view\"\nto = [\"slow\"]"
    );
    let relay = TestRelay::start_with(&config, &upstream).await;
    assert_eq!(relay.post("/v1/beacon/view/1", r#"{"user_id":"u"}"#).await.status, 202);
    relay.settled().await;
    let status = relay.status().await;
    assert_eq!(status["ledger"]["store"]["delivered"], 1, "{status:#}");
    assert_eq!(requests.load(std::sync::atomic::Ordering::SeqCst), 1);
    relay.finish().await;
    serving.abort();
}
