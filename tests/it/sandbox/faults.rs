//! Each fault, as a client on a socket meets it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use beacon_relay::clock::{Clock, Timestamp};
use beacon_relay::sandbox::{Filter, Limits, Outcome};
use serde_json::{Value, json};

use crate::support::{End, FakeUpstream, RawAnswer, RawClient, any_json, post};

const CLICK: &str = "/v1/beacon/click/a";

fn order(n: usize) -> Vec<u8> {
    post("/v1/beacon/conversion", "", format!(r#"{{"order_id":"o{n}"}}"#))
}

async fn put_faults(upstream: &FakeUpstream, faults: &str) -> (u16, Value) {
    let put = reqwest::Client::new().put(upstream.url("/_sandbox/faults"));
    let answer = put.body(faults.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn one_answer(upstream: &FakeUpstream) -> RawAnswer {
    RawClient::connect(upstream.addr()).await.exchange(&order(1)).await
}

#[tokio::test]
async fn a_share_of_requests_gets_the_status_exactly() {
    let upstream = FakeUpstream::start().await;
    let asked = r#"{"status":503,"share":0.2,"retry_after":5}"#;
    assert_eq!(put_faults(&upstream, asked).await, (200, asked.parse().unwrap()));
    let mut client = RawClient::connect(upstream.addr()).await;
    for n in 1..=20 {
        let answer = client.exchange(&order(n)).await;
        let hit = n % 5 == 0;
        assert_eq!(answer.status, if hit { 503 } else { 202 }, "{n}");
        assert_eq!(answer.header("retry-after"), hit.then_some("5"), "{n}");
    }
    let stats = upstream.sandbox.stats();
    assert_eq!((stats.accepted, stats.unique_events, stats.faults_injected), (16, 16, 4));
    assert_eq!(stats.by_fault, BTreeMap::from([("status", 4)]));
    assert_eq!(stats.by_status, BTreeMap::from([(202, 16), (503, 4)]));
    let hits = upstream.sandbox.events(&Filter::default());
    let hits = hits.iter().filter(|it| it.outcome == Outcome::Faulted && it.faults == ["status"]);
    assert_eq!(hits.map(|it| it.n).collect::<Vec<_>>(), [5, 10, 15, 20]);
}

#[tokio::test]
async fn an_empty_object_takes_all_back() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"status":500,"html":true,"delay":"1 h","close_after":1}"#);
    assert_eq!(put_faults(&upstream, "{}").await, (200, json!({})));
    let answer = one_answer(&upstream).await;
    assert_eq!((answer.status, answer.header("connection")), (202, None));
    assert_eq!(upstream.sandbox.stats().faults_injected, 0);
}

#[tokio::test]
async fn wrong_faults_are_refused_by_name_and_change_nothing() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"status":418}"#);
    for (faults, named) in [
        (r#"{"status":500,"statu":1}"#, "statu"),
        (r#"{"status":500,"delay":"7 parsecs"}"#, "7 parsecs"),
        (r#"{"status":500,"share":2}"#, "share cannot be 2"),
        ("[]", "one JSON object"),
        ("\u{0}", "one JSON object"),
    ] {
        let (status, answer) = put_faults(&upstream, faults).await;
        let error = answer["error"].as_str().unwrap();
        assert!(status == 400 && error.contains(named), "{faults}: {status} {error}");
    }
    let too_long = format!(r#"{{"status":500{}}}"#, " ".repeat(20_000));
    assert_eq!(put_faults(&upstream, &too_long).await.0, 400);
    let shown = reqwest::get(upstream.url("/_sandbox/faults")).await.unwrap();
    assert_eq!(shown.json::<Value>().await.unwrap(), json!({ "status": 418 }));
}

#[tokio::test]
async fn a_date_is_sent_as_written() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"status":429,"retry_after":"Sat, 21 Nov 2026 09:30:00 GMT"}"#);
    let answer = one_answer(&upstream).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), Some("Sat, 21 Nov 2026 09:30:00 GMT"));
}

#[tokio::test]
async fn another_status_of_success_takes_the_event() {
    let upstream = FakeUpstream::start().await;
    let mut client = RawClient::connect(upstream.addr()).await;
    let cases = [
        (r#"{"status":200}"#, 200, r#"{"messages":["conversion will be processed soon"]}"#),
        (r#"{"status":204,"html":true}"#, 204, ""),
    ];
    for (n, (faults, status, body)) in cases.into_iter().enumerate() {
        upstream.misbehave(faults);
        let answer = client.exchange(&order(n)).await;
        assert_eq!((answer.status, answer.text()), (status, body));
    }
    assert_eq!(client.exchange(&post("/v1/beacon/click/a", "", "{")).await.status, 400);
    assert_eq!(upstream.sandbox.stats().unique_events, 2);
}

#[tokio::test]
async fn a_redirect_points_where_a_follower_would_be_seen() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"status":307,"share":0.5}"#);
    let url = upstream.url(CLICK);
    let client = reqwest::Client::new();
    assert_eq!(client.post(&url).body("{}").send().await.unwrap().status(), 202);
    // This client follows, and meets what is no event.
    assert_eq!(client.post(&url).body("{}").send().await.unwrap().status(), 404);
    let arrivals = upstream.sandbox.events(&Filter::default());
    let paths: Vec<&str> = arrivals.iter().map(|it| it.path()).collect();
    assert_eq!(paths, [CLICK, CLICK, "/redirected-by-the-sandbox"]);
}

#[tokio::test]
async fn drifted_schemas_answer_an_array() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"status":422}"#);
    let answer = one_answer(&upstream).await;
    assert_eq!((answer.status, &answer.json()[0]["keyword"]), (422, &json!("required")));
    assert_eq!(upstream.sandbox.stats().accepted, 0);
}

#[tokio::test]
async fn html_comes_with_its_status() {
    let upstream = FakeUpstream::start().await;
    for (faults, status) in [(r#"{"html":true}"#, 502), (r#"{"html":true,"status":504}"#, 504)] {
        upstream.misbehave(faults);
        let answer = one_answer(&upstream).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(answer.text().starts_with("<!DOCTYPE html>"));
    }
}

#[tokio::test]
async fn a_delay_holds_the_answer_back_and_not_the_arrival() {
    let mut upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"delay":"150 ms"}"#);
    let mut client = RawClient::connect(upstream.addr()).await;
    let sent = Instant::now();
    client.send(&order(1)).await;
    assert_eq!(upstream.next_event().await.outcome, Outcome::Accepted);
    assert_eq!(upstream.sandbox.stats().in_hand, 1);
    assert_eq!(client.answer().await.unwrap().status, 202);
    assert!(sent.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_reset_before_the_body_takes_nothing() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"reset":"before"}"#);
    let mut client = RawClient::connect(upstream.addr()).await;
    // The head alone is enough.
    client.send(b"POST /v1/beacon/click/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let stats = upstream.stop().await.stats();
    assert_eq!((stats.requests, stats.unanswered, stats.events_kept), (1, 1, 0));
    assert_eq!(stats.by_fault, BTreeMap::from([("reset", 1)]));
}

#[tokio::test]
async fn a_reset_after_the_body_takes_the_event() {
    let mut upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"reset":"after"}"#);
    for outcome in [Outcome::Accepted, Outcome::Duplicate] {
        let mut client = RawClient::connect(upstream.addr()).await;
        client.send(&order(1)).await;
        assert_eq!(client.answer().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let arrival = upstream.next_event().await;
        assert_eq!((arrival.outcome, arrival.status), (outcome, None));
    }
    let stats = upstream.stop().await.stats();
    assert_eq!((stats.unique_events, stats.unanswered, stats.connections_open), (1, 2, 0));
}

#[tokio::test]
async fn a_trickle_pauses_after_each_byte() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"trickle":"2 ms"}"#);
    let mut client = RawClient::connect(upstream.addr()).await;
    let sent = Instant::now();
    let answer = client.exchange(&order(1)).await;
    let took = sent.elapsed();
    assert_eq!(answer.status, 202);
    // Status line, headers and 50 bytes of body are well over 150 bytes.
    assert!(took >= Duration::from_millis(2 * 150), "{took:?}");
    upstream.misbehave("{}");
    client.exchange(&order(2)).await;
    client.exchange(&order(3)).await;
    let trickled = BTreeMap::from([("trickle", 1)]);
    assert_eq!(upstream.sandbox.stats().by_fault, trickled, "the trickle has ended");
}

#[tokio::test]
async fn a_connection_closes_after_its_number_of_requests() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"close_after":3}"#);
    for _ in 0..2 {
        let mut client = RawClient::connect(upstream.addr()).await;
        for n in 1..=3 {
            // What the sandbox itself is asked does not count.
            client.exchange(b"GET /_sandbox/stats HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let answer = client.exchange(&order(n)).await;
            let close = (n == 3).then_some("close");
            assert_eq!((answer.status, answer.header("connection")), (202, close), "{n}");
        }
        assert_eq!(client.end().await, End::Closed);
    }
    let stats = upstream.sandbox.stats();
    assert_eq!((stats.connections_opened, stats.requests), (2, 6));
    assert_eq!(stats.by_fault, BTreeMap::from([("close_after", 2)]));
}

#[tokio::test]
async fn an_outage_ends_by_itself() {
    let clock = Clock::held(Timestamp::from_millis(1_000));
    let upstream = FakeUpstream::start_with(any_json(), clock.clone(), Limits::default()).await;
    upstream.misbehave(r#"{"outage":"20 s","share":0.5,"status":500,"retry_after":7}"#);
    let mut client = RawClient::connect(upstream.addr()).await;
    for n in 1..=2 {
        let answer = client.exchange(&order(n)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("7")));
    }
    clock.advance(Duration::from_millis(19_999));
    assert_eq!(client.exchange(&order(1)).await.status, 503);
    let shown = reqwest::get(upstream.url("/_sandbox/faults")).await.unwrap();
    assert_eq!(shown.json::<Value>().await.unwrap()["outage"], "1 ms");
    clock.advance(Duration::from_millis(1));
    let statuses =
        [client.exchange(&order(1)).await.status, client.exchange(&order(2)).await.status];
    assert_eq!(statuses, [500, 202]);
    assert_eq!(upstream.sandbox.stats().by_fault, BTreeMap::from([("outage", 3), ("status", 1)]));
}

#[tokio::test]
async fn faults_never_touch_the_sandbox_itself() {
    let upstream = FakeUpstream::start().await;
    let faults = r#"{"status":500,"delay":"1 h","reset":"before","trickle":"1 s","close_after":1,
        "html":true,"outage":"1 h","retry_after":1}"#;
    assert_eq!(put_faults(&upstream, faults).await.0, 200);
    let mut client = RawClient::connect(upstream.addr()).await;
    for path in ["events", "stats", "faults"] {
        let request = format!("GET /_sandbox/{path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.exchange(request.as_bytes()).await;
        assert_eq!((answer.status, answer.header("connection")), (200, None));
    }
    assert_eq!(put_faults(&upstream, "{}").await.0, 200);
}
