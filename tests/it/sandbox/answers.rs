//! What it answers, lists and counts.

use std::sync::Arc;

use beacon_relay::event::EventKind;
use beacon_relay::json;
use beacon_relay::sandbox::{Judge, Judgement, Limits, Outcome};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{FakeUpstream, RawClient, post};
use beacon_relay::clock::{Clock, Timestamp};

const VIOLATIONS: &str = r##"[{"instancePath":"","keyword":"required"}]"##;
const ORDER: &str = r#"{"order_id":"o1","total":1899.00}"#;

/// Finds fault with `{}`, and with what is no JSON.
fn strict() -> Judge {
    Arc::new(|_: EventKind, body: &[u8]| match json::parse(body, 64) {
        Ok(json::Node::Object(members)) if members.is_empty() => {
            Judgement::Invalid(Bytes::from_static(VIOLATIONS.as_bytes()))
        }
        Ok(_) => Judgement::Valid,
        Err(_) => Judgement::Malformed,
    })
}

async fn strict_upstream() -> FakeUpstream {
    let clock = Clock::held(Timestamp::from_millis(1_672_564_800_250));
    FakeUpstream::start_with(strict(), clock, Limits::default()).await
}

#[tokio::test]
async fn each_request_is_answered_as_the_events_api_does() {
    let mut upstream = strict_upstream().await;
    let mut client = RawClient::connect(upstream.addr()).await;
    let will_be = r#"{"messages":["conversion will be processed soon"]}"#;
    let (order, ad) = ("/v1/beacon/conversion", "/v9-beta/beacon/click/a1?pos=1");
    let cases = [
        (order, ORDER, 202, will_be, Outcome::Accepted),
        (order, ORDER, 202, will_be, Outcome::Duplicate),
        (order, "{}", 422, VIOLATIONS, Outcome::Invalid),
        (order, "{", 400, r#"{"error":"malformed JSON"}"#, Outcome::Malformed),
        (order, "", 400, r#"{"error":"malformed JSON"}"#, Outcome::Malformed),
        (ad, r#"{"user_id":"u"}"#, 202, "", Outcome::Accepted),
        (ad, "{}", 422, VIOLATIONS, Outcome::Invalid),
        ("/v1/beacon/view/a?session_id=s", "", 202, "", Outcome::Accepted),
        ("/v1/beacon/impression/a", r#"{"user_id":"u"}"#, 202, "", Outcome::Accepted),
        ("/v1/beacon/foo/a", "{}", 404, r#"{"error":"no such path"}"#, Outcome::Unroutable),
        ("/", "", 404, r#"{"error":"no such path"}"#, Outcome::Unroutable),
    ];
    for (target, body, status, answer, outcome) in cases {
        let answered = client.exchange(&post(target, "", body)).await;
        assert_eq!((answered.status, answered.text()), (status, answer), "{target} {body}");
        let is_json = answered.header("content-type") == Some("application/json");
        assert_eq!(is_json, !answer.is_empty(), "{target} {body}");
        let arrival = upstream.next_event().await;
        assert_eq!(arrival.outcome, outcome, "{target} {body}");
        assert_eq!(arrival.status.map(|status| status.as_u16()), Some(status));
        assert_eq!((arrival.target.as_str(), &arrival.body[..]), (target, body.as_bytes()));
    }
    let get = format!("GET {order} HTTP/1.1\r\nHost: a\r\n\r\n");
    let answered = client.exchange(get.as_bytes()).await;
    assert_eq!((answered.status, answered.header("allow")), (405, Some("POST")));
    let stats = upstream.sandbox.stats();
    assert_eq!(
        (stats.requests, stats.accepted, stats.unique_events, stats.duplicates),
        (12, 5, 4, 1)
    );
    let by_status = [(202, 5), (400, 2), (404, 2), (405, 1), (422, 2)];
    assert_eq!(stats.by_status.into_iter().collect::<Vec<_>>(), by_status);
    assert_eq!((stats.connections_opened, stats.connections_open), (1, 1));
}

#[tokio::test]
async fn a_target_is_listed_byte_for_byte() {
    let upstream = FakeUpstream::start().await;
    let mut client = RawClient::connect(upstream.addr()).await;
    let targets = [
        "/v1/beacon/click/a'b?x='&y={}&z=|^",
        "/v1/beacon/click/{a}|^%2e%2e?%zz=%ZZ&&=",
        "/v1/beacon/click/%2e%2e/../x//y?//",
        "/v1//beacon/click/./%2F?a=b?c=d",
        "/v1/beacon/click/a?",
        "/v1/beacon/click/a\"?q=`\\[]+%20~é",
        "//v1/beacon/click/a;b,c@d:e!$*()",
    ];
    for target in targets {
        client.exchange(&post(target, "", "{}")).await;
    }
    let listed: Vec<Value> =
        reqwest::get(upstream.url("/_sandbox/events")).await.unwrap().json().await.unwrap();
    for (arrival, target) in listed.iter().zip(targets) {
        assert_eq!(arrival["target"], target);
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        assert_eq!((&arrival["path"], &arrival["query"]), (&json!(path), &json!(query)));
    }
    assert_eq!(listed.len(), targets.len());
}

#[tokio::test]
async fn an_arrival_is_listed_whole() {
    let upstream = strict_upstream().await;
    let mut client = RawClient::connect(upstream.addr()).await;
    let head = "X-Two: 1\r\nUser-Agent: till/3\r\nx-two: 2\r\n";
    client.exchange(&post("/v1/beacon/conversion?a=b", head, ORDER)).await;
    let listed = client.exchange(b"GET /_sandbox/events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let expected = json!([{
        "n": 1,
        "at": "2023-01-01T09:20:00.250Z",
        "connection": 1,
        "method": "POST",
        "version": "HTTP/1.1",
        "target": "/v1/beacon/conversion?a=b",
        "path": "/v1/beacon/conversion",
        "query": "a=b",
        "headers": {
            "host": "upstream",
            "x-two": "1, 2",
            "user-agent": "till/3",
            "content-length": ORDER.len().to_string(),
        },
        "body": ORDER,
        "body_bytes": ORDER.len(),
        "kind": "conversion",
        "order_id": "o1",
        "outcome": "accepted",
        "status": 202,
        "faults": [],
    }]);
    assert_eq!(listed.json(), expected);
    assert_eq!(listed.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_body_comes_back_byte_for_byte() {
    let upstream = FakeUpstream::start().await;
    let body: Vec<u8> = (0..=255).collect();
    let mut client = RawClient::connect(upstream.addr()).await;
    client.exchange(&post("/v1/beacon/click/a", "", &body)).await;
    let get = |n: u64| reqwest::get(upstream.url(&format!("/_sandbox/events/{n}/body")));
    assert_eq!(get(1).await.unwrap().bytes().await.unwrap(), body);
    assert_eq!(get(2).await.unwrap().status(), 404);
    let listed: Value =
        reqwest::get(upstream.url("/_sandbox/events")).await.unwrap().json().await.unwrap();
    let digest = "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880";
    assert_eq!(listed[0]["body_sha256"], digest);
    assert_eq!((&listed[0]["body"], &listed[0]["body_bytes"]), (&Value::Null, &json!(256)));
}

#[tokio::test]
async fn a_list_is_filtered_and_paged() {
    let upstream = FakeUpstream::start().await;
    let client = reqwest::Client::new();
    for id in ["o1", "o2", "o1"] {
        let order = client.post(upstream.url("/v1/beacon/conversion"));
        let status = order.json(&json!({ "order_id": id })).send().await.unwrap().status();
        assert_eq!(status, 202);
    }
    client.post(upstream.url("/v1/beacon/click/a?pos=1")).body("{}").send().await.unwrap();
    let cases = [
        ("", vec![1, 2, 3, 4]),
        ("?order_id=o1", vec![1, 3]),
        ("?order_id=o1&after=1", vec![3]),
        ("?after=1&limit=2", vec![2, 3]),
        ("?after=4", vec![]),
        ("?path=/v1/beacon/click/a", vec![4]),
        ("?path=/v1/beacon/click/a%3Fpos=1", vec![4]),
        ("?path=/v1/beacon/click", vec![]),
        ("?path=/v1/*&limit=1", vec![1]),
    ];
    for (query, expected) in cases {
        let url = upstream.url(&format!("/_sandbox/events{query}"));
        let listed: Vec<Value> = client.get(url).send().await.unwrap().json().await.unwrap();
        let numbers: Vec<u64> = listed.iter().filter_map(|it| it["n"].as_u64()).collect();
        assert_eq!(numbers, expected, "{query}");
    }
    for query in ["?pth=/", "?after=x", "?limit=-1"] {
        let url = upstream.url(&format!("/_sandbox/events{query}"));
        assert_eq!(client.get(url).send().await.unwrap().status(), 400, "{query}");
    }
}

#[tokio::test]
async fn a_long_list_arrives_whole() {
    let upstream = FakeUpstream::start().await;
    let mut client = RawClient::connect(upstream.addr()).await;
    let body = format!(r#"{{"text":"{}"}}"#, "\\n".repeat(20_000));
    for _ in 0..10 {
        client.exchange(&post("/v1/beacon/view/a", "", &body)).await;
    }
    let listed = client.exchange(b"GET /_sandbox/events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let listed = listed.json();
    let bodies: Vec<&Value> = listed.as_array().unwrap().iter().map(|it| &it["body"]).collect();
    assert_eq!(bodies, vec![&json!(body); 10]);
}

#[tokio::test]
async fn stats_count_events_and_only_their_connections() {
    let upstream = FakeUpstream::start().await;
    let mut client = RawClient::connect(upstream.addr()).await;
    client.exchange(&post("/v1/beacon/conversion", "", ORDER)).await;
    client.exchange(&post("/v1/beacon/conversion", "", ORDER)).await;
    // A connection that only asks is nobody's upstream connection.
    let mut asking = RawClient::connect(upstream.addr()).await;
    let stats = b"GET /_sandbox/stats HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut shown = asking.exchange(stats).await.json();
    let kept = shown["bytes_kept"].take();
    assert!(kept.as_u64().is_some_and(|kept| kept > 0));
    let expected = json!({
        "requests": 2, "accepted": 2, "unique_events": 1, "duplicates": 1,
        "by_kind": { "conversion": { "accepted": 2, "unique_events": 1, "duplicates": 1 } },
        "by_status": { "202": 2 }, "unanswered": 0, "in_hand": 0,
        "faults_injected": 0, "by_fault": {},
        "connections_opened": 1, "connections_open": 1, "connections_open_max": 1,
        "events_kept": 2, "bytes_kept": null, "forgotten": 0,
    });
    assert_eq!(shown, expected);
    let forgotten = asking.exchange(b"DELETE /_sandbox/events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((forgotten.status, forgotten.body.len()), (204, 0));
    let shown = asking.exchange(stats).await.json();
    let zeroed = ["requests", "unique_events", "duplicates", "connections_opened", "events_kept"];
    assert!(zeroed.iter().all(|count| shown[count] == 0), "{shown}");
    assert_eq!(shown["connections_open"], 1);
    client.exchange(&post("/v1/beacon/conversion", "", ORDER)).await;
    let arrivals = upstream.sandbox.events(&Default::default());
    assert_eq!(arrivals.len(), 1);
    assert_eq!((arrivals[0].n, arrivals[0].outcome), (3, Outcome::Accepted));
}

#[tokio::test]
async fn what_the_sandbox_itself_does_not_have_is_refused() {
    let upstream = FakeUpstream::start().await;
    let client = reqwest::Client::new();
    let cases = [
        ("GET", "/_sandbox", 404, None),
        ("GET", "/_sandbox/event", 404, None),
        ("GET", "/_sandbox/events/x/body", 404, None),
        ("POST", "/_sandbox/events", 405, Some("GET, DELETE")),
        ("DELETE", "/_sandbox/stats", 405, Some("GET")),
        ("POST", "/_sandbox/faults", 405, Some("GET, PUT")),
        ("PUT", "/_sandbox/events/1/body", 405, Some("GET")),
    ];
    for (method, path, status, allow) in cases {
        let request = client.request(method.parse().unwrap(), upstream.url(path));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        let allowed = answer.headers().get("allow").map(|value| value.to_str().unwrap());
        assert_eq!(allowed, allow, "{method} {path}");
        assert!(answer.json::<Value>().await.unwrap()["error"].is_string());
    }
    assert_eq!(upstream.sandbox.stats(), Default::default());
}
