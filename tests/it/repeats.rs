//! Repeats: of orders at once, of ad events in their windows; and what became of an order.

use serde_json::json;
use tokio::task::JoinSet;

use crate::clients::clients;
use crate::refusals::problem;
use crate::support::{FakeUpstream, ORDER, RawAnswer, RawClient, TestRelay, post};

const ORDERS: &str = "/v1/beacon/conversion";

fn id(answer: &RawAnswer) -> &str {
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.header("beacon-relay-event-id").unwrap()
}

#[tokio::test]
async fn twenty_equal_orders_at_once_make_one_upstream_call() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let (addr, mut posting) = (relay.addr(), JoinSet::new());
    for _ in 0..20 {
        let request = post(ORDERS, "", ORDER);
        posting.spawn(async move { RawClient::connect(addr).await.exchange(&request).await });
    }
    let ids: Vec<String> =
        posting.join_all().await.iter().map(|answer| id(answer).to_owned()).collect();
    assert_eq!(ids.len(), 20);
    assert!(ids.iter().all(|one| *one == ids[0]), "{ids:?}");
    relay.settled().await;
    assert_eq!(upstream.sandbox.stats().requests, 1);
    relay.finish().await;
}

/// Whether the second of two posts is known as a repeat of the first.
async fn repeats(relay: &TestRelay, one: (&str, &str), other: (&str, &str)) -> bool {
    let first = relay.post(one.0, one.1).await;
    let second = relay.post(other.0, other.1).await;
    id(&first) == id(&second)
}

#[tokio::test]
async fn an_ad_event_is_told_by_its_event_id_or_by_all_of_its_url() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let (u, v) = (r#"{"user_id":"u"}"#, r#"{"user_id":"v"}"#);
    for (n, kind) in ["impression", "view", "click"].into_iter().enumerate() {
        let at = |ad: &str, query: &str| format!("/v1/beacon/{kind}/{n}-{ad}{query}");
        let with = |ad, pos: u8| at(ad, &format!("?pos={pos}&event_id=e-1"));
        // With an event_id the rest of the query does not matter, and who it was does.
        assert!(repeats(&relay, (&with("a", 1), u), (&with("a", 2), u)).await, "{kind}");
        assert!(!repeats(&relay, (&with("b", 1), u), (&with("b", 1), v)).await, "{kind}");
        assert!(!repeats(&relay, (&with("c", 1), u), (&with("d", 1), u)).await, "{kind}");
        let (e1, e2) = (r#"{"user_id":"u","event_id":"1"}"#, r#"{"user_id":"u","event_id":"2"}"#);
        assert!(repeats(&relay, (&at("e", "?pos=1"), e1), (&at("e", ""), e1)).await, "{kind}");
        assert!(!repeats(&relay, (&at("f", ""), e1), (&at("f", ""), e2)).await, "{kind}");
        // Without one the whole URL counts; of views no window is published.
        let bare = at("g", "?pos=1");
        assert_eq!(repeats(&relay, (&bare, u), (&bare, u)).await, kind != "view", "{kind}");
        assert!(!repeats(&relay, (&at("h", "?pos=1"), u), (&at("h", "?pos=2"), u)).await, "{kind}");
        assert!(!repeats(&relay, (&at("i", ""), u), (&at("i", ""), v)).await, "{kind}");
        // A pixel's, whose query says it all.
        let pixel = with("j", 1) + "&session_id=s";
        assert!(repeats(&relay, (&pixel, ""), (&pixel, "")).await, "{kind}");
    }
    // Of one kind a repeat, of another none.
    let of = |kind: &str| format!("/v1/beacon/{kind}/z?event_id=e-2");
    assert!(!repeats(&relay, (&of("impression"), u), (&of("view"), u)).await);
    // However it came in.
    let url =
        format!(r#"{{"event_url":"https://events-api.ads.vtex.com{}","user_id":"u"}}"#, of("view"));
    assert!(repeats(&relay, (&of("view"), u), ("/v1/events", &url)).await);
    relay.settled().await;
    let status = relay.status().await;
    let sources = status["sources"].as_array().unwrap();
    let duplicates: u64 = sources.iter().map(|one| one["duplicate"].as_u64().unwrap()).sum();
    assert_eq!(duplicates, 3 * 3 + 2 + 2);
    relay.finish().await;
}

async fn get(relay: &TestRelay, target: &str, head: &str) -> RawAnswer {
    let request = format!("GET {target} HTTP/1.1\r\nHost: r\r\n{head}\r\n");
    RawClient::connect(relay.addr()).await.exchange(request.as_bytes()).await
}

#[tokio::test]
async fn a_till_learns_what_became_of_its_order() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let order =
        |id: &str| ORDER.replace(r#""order_id": "123""#, &format!(r#""order_id": {}"#, json!(id)));
    let status = |id: &str| format!("/v1/conversions/xxx/{id}");
    problem(&get(&relay, &status("1"), "").await, 404, "not_found");
    upstream.misbehave(r#"{"status":503}"#);
    let accepted = relay.post(ORDERS, order("1")).await;
    let answer = get(&relay, &status("1"), "").await;
    let body = answer.json();
    assert_eq!((answer.status, &body["status"]), (200, &json!("pending")), "{body}");
    assert_eq!(body["event_id"], id(&accepted));
    assert!(body["accepted_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(body.get("given_up_at"), None);
    upstream.misbehave("{}");
    relay.settled().await;
    assert_eq!(get(&relay, &status("1"), "").await.json()["status"], "delivered");
    upstream.misbehave(r#"{"status":400}"#);
    id(&relay.post(ORDERS, order("2")).await);
    relay.settled().await;
    let body = get(&relay, &status("2"), "").await.json();
    assert_eq!(body["status"], "dead");
    assert!(body["given_up_at"].as_str().is_some());
    upstream.misbehave("{}");
    for (order_id, encoded) in
        [("a/b c", "a%2Fb%20c"), ("é+", "%C3%A9+"), ("%41", "%2541"), ("Ab", "Ab")]
    {
        id(&relay.post(ORDERS, order(order_id)).await);
        assert_eq!(get(&relay, &status(encoded), "").await.status, 200, "{order_id}");
    }
    for unknown in ["ab", "a/b%20c", "%ff", "Ab%20", "1?x=1&order_id=2"] {
        let answer = get(&relay, &status(unknown), "").await;
        if unknown.starts_with('1') {
            assert_eq!(answer.json()["event_id"], id(&accepted), "a query says nothing");
        } else {
            problem(&answer, 404, "not_found");
        }
    }
    problem(&get(&relay, "/v1/conversions/yyy/1", "").await, 404, "not_found");
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn only_who_may_post_an_order_may_ask_about_it() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&clients(), &upstream).await;
    let (till, app) = ("X-Api-Key: till-key\r\n", "X-Api-Key: app-new\r\n");
    id(&relay.post_with(ORDERS, till, ORDER).await);
    problem(&get(&relay, "/v1/conversions/xxx/123", "").await, 401, "unauthorized");
    for key in [till, app] {
        assert_eq!(get(&relay, "/v1/conversions/xxx/123", key).await.status, 200);
    }
    let other = get(&relay, "/v1/conversions/yyy/123", till).await;
    problem(&other, 403, "publisher_not_allowed");
    problem(&get(&relay, "/v1/conversions/yyy/123", app).await, 404, "not_found");
    relay.settled().await;
    relay.finish().await;
}

/// Order numbers can be counted through, and an origin claimed.
#[tokio::test]
async fn a_shops_sales_are_not_counted_by_asking() {
    let upstream = FakeUpstream::start().await;
    let config = "[server]\nauth = \"open\"\nrate_per_address = \"3/h\"\n\
                  [[client]]\nname = \"page\"\norigins = [\"https://shop.example\"]\n";
    let relay = TestRelay::start_with(config, &upstream).await;
    let page = "Origin: https://shop.example\r\n";
    id(&relay.post_with(ORDERS, page, ORDER).await);
    problem(&get(&relay, "/v1/conversions/xxx/123", page).await, 403, "source_not_allowed");
    assert_eq!(get(&relay, "/v1/conversions/xxx/123", "").await.status, 200);
    for unknown in 0..2 {
        let answer = get(&relay, &format!("/v1/conversions/xxx/{unknown}"), "").await;
        problem(&answer, 404, "not_found");
    }
    problem(&get(&relay, "/v1/conversions/xxx/123", "").await, 429, "rate_limited");
    relay.settled().await;
    relay.finish().await;
}
