//! Web pages as clients: known by their origin, and told by CORS that they may.

use crate::refusals::problem;
use crate::support::{FakeUpstream, RawAnswer, TestRelay};

const CLICK: &str = "/v1/beacon/click/1";
const EVENT: &str = r#"{"user_id":"u"}"#;
const PAGE: &str = "https://shop.example";

fn config() -> String {
    format!(
        "[server]\ncors_origins = [\"https://reader.example\"]\n{}\
         [[client]]\nname = \"page\"\norigins = [\"{PAGE}\", \"http://localhost:3000\"]\n\
         sources = [\"beacon-click\"]\nrate = \"4/h\"\n",
        crate::clients::clients()
    )
}

fn from(origin: &str) -> String {
    format!("Origin: {origin}\r\nContent-Type: application/json\r\n")
}

fn shared(answer: &RawAnswer, origin: &str) {
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("Beacon-Relay-Event-Id"), "{exposed}");
}

async fn preflight(relay: &TestRelay, path: &str, origin: &str) -> RawAnswer {
    let request = format!(
        "OPTIONS {path} HTTP/1.1\r\nHost: r\r\nOrigin: {origin}\r\n\
         Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n\r\n"
    );
    relay.send(request.as_bytes()).await
}

fn varies(answer: &RawAnswer) -> bool {
    let mut lines = answer.headers.iter().filter(|(name, _)| name == "vary");
    lines.any(|(_, value)| value == "origin")
}

#[tokio::test]
async fn a_page_posts_without_a_key_and_reads_its_answer() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&config(), &upstream).await;
    for origin in [PAGE, "http://localhost:3000"] {
        let answer = relay.post_with(CLICK, &from(origin), EVENT).await;
        assert_eq!(answer.status, 202);
        shared(&answer, origin);
        assert!(varies(&answer));
    }
    // Refusals are shared too, or the page would see nothing but a failure.
    let invalid = relay.post_with(CLICK, &from(PAGE), "{}").await;
    assert_eq!(invalid.status, 422);
    shared(&invalid, PAGE);
    let elsewhere = relay.post_with("/v1/beacon/view/1", &from(PAGE), EVENT).await;
    problem(&elsewhere, 403, "source_not_allowed");
    shared(&elsewhere, PAGE);
    let strange = relay.post_with(CLICK, &from("https://shop.example.evil"), EVENT).await;
    problem(&strange, 401, "unauthorized");
    assert_eq!(strange.header("access-control-allow-origin"), None);
    assert!(varies(&strange), "a cache must not give the page this answer");
    // Who may read answers may not post yet.
    let reader = relay.post_with(CLICK, &from("https://reader.example"), EVENT).await;
    problem(&reader, 401, "unauthorized");
    shared(&reader, "https://reader.example");
    let no_page = relay.post_with(CLICK, "Origin: null\r\n", EVENT).await;
    problem(&no_page, 401, "unauthorized");
    // The fourth item of this visitor's hour, and one too many.
    assert_eq!(relay.post_with(CLICK, &from(PAGE), EVENT).await.status, 202);
    problem(&relay.post_with(CLICK, &from(PAGE), EVENT).await, 429, "rate_limited");
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_page_is_told_beforehand_that_it_may_post() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&config(), &upstream).await;
    for origin in [PAGE, "https://reader.example"] {
        let answer = preflight(&relay, CLICK, origin).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        shared(&answer, origin);
        assert_eq!(answer.header("access-control-max-age"), Some("7200"));
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET, POST"));
        let headers = answer.header("access-control-allow-headers").unwrap();
        for name in ["content-type", "authorization", "x-api-key", "idempotency-key", "x-sent-at"] {
            assert!(headers.split(", ").any(|one| one == name), "{headers}");
        }
        assert!(varies(&answer));
    }
    let strange = preflight(&relay, CLICK, "https://evil.example").await;
    problem(&strange, 405, "method_not_allowed");
    assert_eq!(strange.header("access-control-allow-origin"), None);
    relay.finish().await;
}

/// Nothing of CORS where no origin is configured, and never on the admin listener.
#[tokio::test]
async fn no_page_is_answered_that_was_not_named() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    problem(&preflight(&relay, CLICK, PAGE).await, 405, "method_not_allowed");
    let answer = relay.post_with(CLICK, &from(PAGE), EVENT).await;
    assert_eq!((answer.status, answer.header("vary")), (202, None));
    relay.settled().await;
    relay.finish().await;
    let relay = TestRelay::start_with(&config(), &upstream).await;
    let status = relay.admin("/api/status", &format!("Origin: {PAGE}\r\n")).await;
    assert_eq!(status.header("access-control-allow-origin"), None);
    relay.finish().await;
}
