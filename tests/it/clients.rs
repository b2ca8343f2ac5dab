//! Clients and their keys, from outside.

use beacon_relay::caller::KeyDigest;
use serde_json::Value;

use crate::refusals::problem;
use crate::support::{FakeUpstream, ORDER, RawClient, TestRelay, post};

/// Two clients: a till that may post orders of one publisher, and an app that may do all, and whose
/// key is being replaced.
pub(crate) fn clients() -> String {
    let digest = |key: &str| format!("{:x}", KeyDigest::of(key.as_bytes()));
    format!(
        "[[client]]\nname = \"till\"\nkey_sha256 = \"{}\"\nsources = [\"beacon-conversion\"]\n\
         publishers = [\"xxx\"]\n\
         [[client]]\nname = \"app\"\nkey_sha256 = [\"{}\", \"{}\"]\n",
        digest("till-key"),
        digest("app-old"),
        digest("app-new")
    )
}

const ORDERS: &str = "/v1/beacon/conversion";
const CLICK: &str = "/v1/beacon/click/1";

fn bearer(key: &str) -> String {
    format!("Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n")
}

fn api_key(key: &str) -> String {
    format!("Content-Type: application/json\r\nX-Api-Key: {key}\r\n")
}

#[tokio::test]
async fn with_clients_only_a_key_opens_the_door_and_each_to_its_own_rooms() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&clients(), &upstream).await;
    let event = r#"{"user_id":"u"}"#;
    for key in ["app-old", "app-new"] {
        for head in [bearer(key), api_key(key)] {
            assert_eq!(relay.post_with(CLICK, &head, event).await.status, 202, "{head}");
        }
    }
    assert_eq!(relay.post_with(ORDERS, &bearer("till-key"), ORDER).await.status, 202);
    for head in [String::new(), bearer("app"), bearer(""), api_key("APP-OLD"), bearer("app-older")]
    {
        for (target, body) in [(CLICK, event), (ORDERS, ORDER), ("/v1/validate/beacon", event)] {
            let answer = relay.post_with(target, &head, body).await;
            problem(&answer, 401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    for target in [CLICK, "/v1/validate/beacon"] {
        let answer = relay.post_with(target, &bearer("till-key"), event).await;
        problem(&answer, 403, "source_not_allowed");
    }
    let other = ORDER.replace(r#""xxx""#, r#""yyy""#);
    for target in [ORDERS, "/v1/validate/conversion"] {
        let answer = relay.post_with(target, &bearer("till-key"), &other).await;
        problem(&answer, 403, "publisher_not_allowed");
    }
    let page = relay.send(b"GET /openapi.yaml HTTP/1.1\r\nHost: r\r\n\r\n").await;
    assert_eq!(page.status, 200);
    relay.settled().await;
    let status = relay.status().await;
    let sums = |source: usize, sum: &str| status["sources"][source][sum].clone();
    // In the report's order of names: click, conversion. What had no key was no item.
    assert_eq!((sums(0, "received"), sums(1, "received")), (Value::from(4), Value::from(2)));
    assert_eq!(sums(1, "rejected"), 1);
    relay.finish().await;
}

#[tokio::test]
async fn who_has_no_key_is_told_before_the_body_is_sent() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&clients(), &upstream).await;
    let head = format!("POST {ORDERS} HTTP/1.1\r\nHost: r\r\nContent-Length: 100000\r\n\r\n");
    let answer = RawClient::connect(relay.addr()).await.exchange(head.as_bytes()).await;
    problem(&answer, 401, "unauthorized");
    relay.finish().await;
}

#[tokio::test]
async fn an_open_door_takes_strangers_and_still_knows_a_wrong_key() {
    let upstream = FakeUpstream::start().await;
    let config = format!("[server]\nauth = \"open\"\n{}", clients());
    let relay = TestRelay::start_with(&config, &upstream).await;
    assert_eq!(relay.post(CLICK, r#"{"user_id":"u"}"#).await.status, 202);
    let wrong = relay.post_with(CLICK, &bearer("nobody"), r#"{"user_id":"u"}"#).await;
    problem(&wrong, 401, "unauthorized");
    // Nor does the open door widen what a client may.
    let scoped = relay.post_with(CLICK, &bearer("till-key"), r#"{"user_id":"u"}"#).await;
    problem(&scoped, 403, "source_not_allowed");
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_key_works_over_one_connection_and_is_asked_for_at_each_request() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&clients(), &upstream).await;
    let mut connection = RawClient::connect(relay.addr()).await;
    let with = post(CLICK, &bearer("app-new"), r#"{"user_id":"u"}"#);
    let without = post(CLICK, "", r#"{"user_id":"u"}"#);
    let mut statuses = Vec::new();
    for request in [&with, &without, &with] {
        statuses.push(connection.exchange(request).await.status);
    }
    assert_eq!(statuses, [202, 401, 202]);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn of_many_orders_those_of_another_publisher_are_refused_alone() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&clients(), &upstream).await;
    let other = ORDER.replace(r#""xxx""#, r#""yyy""#);
    let body = format!("[{ORDER},{other}]");
    let answer = relay.post_with(ORDERS, &bearer("till-key"), body).await;
    assert_eq!(answer.status, 207);
    let results = &answer.json()["results"];
    assert_eq!((&results[0]["status"], &results[1]["status"]), (&202.into(), &403.into()));
    assert_eq!(results[1]["code"], "publisher_not_allowed");
    relay.settled().await;
    relay.finish().await;
}

/// An ad event names its publisher in the URL that the ad server gave.
#[tokio::test]
async fn an_ad_event_of_another_publisher_is_refused_wherever_its_url_says_so() {
    let upstream = FakeUpstream::start().await;
    let digest = format!("{:x}", KeyDigest::of(b"shop-key"));
    let shop =
        format!("[[client]]\nname = \"shop\"\nkey_sha256 = \"{digest}\"\npublishers = [\"a b\"]\n");
    let relay = TestRelay::start_with(&shop, &upstream).await;
    let event = r#"{"user_id":"u"}"#;
    for (query, status) in [
        ("", 202),
        ("?publisher_id=a%20b", 202),
        ("?x=1&publisher_id=a+b&publisher_id=", 202),
        ("?publisher_id=c", 403),
        ("?publisher_id=a%20b&publisher_id=c", 403),
        ("?publisher_id=%FF", 403),
    ] {
        let answer = relay.post_with(&format!("{CLICK}{query}"), &bearer("shop-key"), event).await;
        assert_eq!(answer.status, status, "{query}");
        let url = format!("https://events.newtail-media.newtail.com.br/v1/beacon/view/1{query}");
        let by_url = format!(r#"{{"event_url":"{url}","user_id":"u"}}"#);
        let answer = relay.post_with("/v1/events", &bearer("shop-key"), by_url).await;
        assert_eq!(answer.status, status, "{query} by URL");
    }
    relay.settled().await;
    relay.finish().await;
}

/// A partner's notification comes without a key of ours.
#[tokio::test]
async fn a_notification_needs_no_key() {
    let upstream = FakeUpstream::start().await;
    let hook = "[[source]]\nname = \"hook\"\nkind = \"notification\"\npath = \"/hook\"\n\
                schema = \"schemas/ad-event.json\"\nto = [\"events-api\"]\n\
                auth = { type = \"none\" }\n";
    let relay = TestRelay::start_with(&format!("{hook}{}", clients()), &upstream).await;
    assert_eq!(relay.post("/hook", r#"{"user_id":"u"}"#).await.status, 202);
    relay.settled().await;
    relay.finish().await;
}
