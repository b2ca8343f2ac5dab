//! Rates of clients and addresses, from outside. Rates are by the hour, so that no machine is slow
//! enough to see one refill.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

use crate::clients::clients;
use crate::refusals::problem;
use crate::support::{FakeUpstream, ORDER, RawAnswer, TestRelay, post};

const CLICK: &str = "/v1/beacon/click/1";
const EVENT: &str = r#"{"user_id":"u"}"#;

fn key(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

/// Statuses of as many posts.
async fn statuses(relay: &TestRelay, head: &str, posts: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..posts {
        statuses.push(relay.post_with(CLICK, head, EVENT).await.status);
    }
    statuses
}

fn limited(answer: &RawAnswer, waits: std::ops::RangeInclusive<u64>) {
    problem(answer, 429, "rate_limited");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(waits.contains(&wait), "{wait} s");
}

#[tokio::test]
async fn a_client_has_its_own_rate_under_both_of_its_keys_and_is_told_how_long_to_wait() {
    let upstream = FakeUpstream::start().await;
    // The last table is the app's.
    let relay = TestRelay::start_with(&format!("{}rate = \"3/h\"\n", clients()), &upstream).await;
    assert_eq!(statuses(&relay, &key("app-old"), 2).await, [202, 202]);
    assert_eq!(statuses(&relay, &key("app-new"), 2).await, [202, 429]);
    let answer = relay.post_with(CLICK, &key("app-new"), EVENT).await;
    // One of three in an hour comes each 20 minutes.
    limited(&answer, 1100..=1200);
    // Asking is as much work as posting, and counts as much.
    limited(&relay.post_with("/v1/validate/beacon", &key("app-old"), EVENT).await, 1100..=1200);
    // What is refused is refused before its body is read, and nothing of it is counted.
    let half =
        format!("POST {CLICK} HTTP/1.1\r\nHost: r\r\n{}Content-Length: 9\r\n\r\n", key("app-old"));
    limited(&relay.send(half.as_bytes()).await, 1100..=1200);
    let other = relay.post_with("/v1/beacon/conversion", &key("till-key"), "{}").await;
    assert_eq!(other.status, 422, "the till has no rate");
    relay.settled().await;
    relay.finish().await;
}

/// As many orders in one body.
fn orders(names: std::ops::Range<usize>) -> String {
    let order = |n: usize| ORDER.replace(r#""123""#, &format!("\"{n}\""));
    format!("[{}]", names.map(order).collect::<Vec<_>>().join(","))
}

#[tokio::test]
async fn items_count_not_requests_and_a_request_counts_whole_or_not_at_all() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&format!("{}rate = \"5/h\"\n", clients()), &upstream).await;
    let post = async |body: String| {
        let head = format!("Content-Type: application/json\r\n{}", key("app-new"));
        relay.post_with("/v1/beacon/conversion", &head, body).await
    };
    assert_eq!(post(orders(0..3)).await.json()["accepted"], 3);
    // Three more are one too many: none is taken, so two still are.
    limited(&post(orders(3..6)).await, 600..=720);
    assert_eq!(post(orders(3..5)).await.json()["accepted"], 2);
    limited(&post(orders(5..6)).await, 600..=720);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn more_items_than_the_rate_names_are_taken_when_nothing_is_owed() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&format!("{}rate = \"5/h\"\n", clients()), &upstream).await;
    let head = format!("Content-Type: application/json\r\n{}", key("app-new"));
    let post = async |body: String| relay.post_with("/v1/beacon/conversion", &head, body).await;
    assert_eq!(post(orders(0..10)).await.json()["accepted"], 10);
    // Ten are two hours of the rate; the next one comes when six are worked off.
    limited(&post(orders(10..11)).await, 4200..=4320);
    relay.settled().await;
    relay.finish().await;
}

/// Posts from one of this machine's own addresses.
async fn from(relay: &TestRelay, source: [u8; 4], head: &str) -> u16 {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((source, 0))).unwrap();
    let stream = socket.connect(relay.addr()).await.unwrap();
    let request = post(CLICK, head, EVENT);
    crate::support::RawClient::over(stream).exchange(&request).await.status
}

#[tokio::test]
async fn each_stranger_address_has_the_same_rate_and_a_client_is_no_stranger() {
    let upstream = FakeUpstream::start().await;
    let open = "[server]\nauth = \"open\"\nrate_per_address = \"2/h\"\n";
    let relay = TestRelay::start_with(&format!("{open}{}", clients()), &upstream).await;
    let mut seen = Vec::new();
    for source in [[127, 0, 0, 1], [127, 0, 0, 1], [127, 0, 0, 1], [127, 0, 0, 2]] {
        // What a stranger says of itself changes nothing.
        seen.push(from(&relay, source, "X-Forwarded-For: 192.0.2.9\r\n").await);
    }
    assert_eq!(seen, [202, 202, 429, 202]);
    assert_eq!(statuses(&relay, &key("app-old"), 4).await, [202; 4]);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_its_callers_have_rates_of_their_own() {
    let upstream = FakeUpstream::start().await;
    let config = "[server]\nauth = \"open\"\nrate_per_address = \"1/h\"\n\
                  trusted_proxies = [\"127.0.0.1\"]\n";
    let relay = TestRelay::start_with(config, &upstream).await;
    let said = |by: &str| format!("X-Forwarded-For: {by}\r\n");
    let mut seen = Vec::new();
    for (source, by) in [
        ([127, 0, 0, 1], "192.0.2.1"),
        ([127, 0, 0, 1], "192.0.2.1"),
        ([127, 0, 0, 1], "192.0.2.2"),
        // A caller who writes the line itself stands in front of what the proxy adds.
        ([127, 0, 0, 1], "198.51.100.1, 192.0.2.1"),
        // No proxy of ours.
        ([127, 0, 0, 2], "192.0.2.3"),
        ([127, 0, 0, 2], "192.0.2.4"),
    ] {
        seen.push(from(&relay, source, &said(by)).await);
    }
    assert_eq!(seen, [202, 429, 202, 429, 202, 429]);
    relay.settled().await;
    relay.finish().await;
}
