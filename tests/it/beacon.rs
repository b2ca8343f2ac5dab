//! What apps and tills post, and what arrives upstream.

use beacon_relay::sandbox::Filter;

use crate::support::{FakeUpstream, ORDER, RawClient, TestRelay, post};

#[tokio::test]
async fn the_vendors_own_order_arrives_byte_for_byte() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let answer = relay.post("/v1/beacon/conversion", ORDER).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.text(), r#"{"messages":["conversion will be processed soon"]}"#);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("beacon-relay-event-id").map(str::len), Some(36));
    let arrived = upstream.next_event().await;
    assert_eq!(arrived.target, "/v1/beacon/conversion");
    assert_eq!(arrived.body, ORDER);
    assert_eq!(arrived.headers.get("content-type"), Some("application/json"));
    assert_eq!(arrived.headers.get("accept"), Some("application/json"));
    assert_eq!(arrived.headers.get("connection"), Some("keep-alive"));
    let agent = concat!("beacon-relay/", env!("CARGO_PKG_VERSION"));
    assert_eq!(arrived.headers.get("user-agent"), Some(agent));
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_signed_event_url_travels_byte_for_byte() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let targets = [
        "/v1/beacon/impression/4a94bc6e-7db1-425f-8430-cb4d17488b3b?pos=1",
        "/v134-beta/beacon/click/a'1?t={x}|^&p=%2e%2e//&q=%zz&cat_term=Daily%20Care%20%3E%20X&sign=0F",
        "/v2.1/beacon/view/%7Bid%7D?z=1&a=2&a=1&&empty=&flag",
    ];
    let body = r#"{ "session_id" : "s", "ads_sourcing_components":["X"], "n":1899.00 }"#;
    for target in targets {
        let answer = relay.post(target, body).await;
        assert_eq!((answer.status, answer.body.len()), (202, 0), "{target}");
        let arrived = upstream.next_event().await;
        assert_eq!((arrived.target.as_str(), &arrived.body[..]), (target, body.as_bytes()));
    }
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn json_comes_under_many_names_and_a_byte_order_mark_stays_behind() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let heads = [
        "",
        "Content-Type: application/json; charset=utf-8\r\n",
        "Content-Type: APPLICATION/JSON\r\n",
        "Content-Type: text/plain;charset=UTF-8\r\n",
        "Content-Encoding: identity\r\n",
    ];
    for head in heads {
        let answer = relay.post_with("/v1/beacon/view/1", head, r#"{"user_id":"u"}"#).await;
        assert_eq!(answer.status, 202, "{head}");
        upstream.next_event().await;
    }
    let marked = b"\xef\xbb\xbf{\"user_id\":\"u\"}";
    assert_eq!(relay.post("/v1/beacon/view/1", marked).await.status, 202);
    assert_eq!(upstream.next_event().await.body, &marked[3..]);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn an_order_is_forwarded_once() {
    let mut upstream = FakeUpstream::start().await;
    let mut relay = TestRelay::start(&upstream).await;
    let first = relay.post("/v1/beacon/conversion", ORDER).await;
    upstream.next_event().await;
    let again = relay.post("/v1/beacon/conversion", ORDER).await;
    assert_eq!((again.status, &again.body), (202, &first.body));
    let id = "beacon-relay-event-id";
    assert_eq!(again.header(id), first.header(id), "a repeat names the first");
    // Other content under the same key is a repeat too, and so it is after a restart.
    let changed = ORDER.replace("1899.00", "1.00");
    relay.restart().await;
    assert_eq!(relay.post("/v1/beacon/conversion", &changed).await.header(id), first.header(id));
    let other = ORDER.replace(r#""order_id": "123""#, r#""order_id": "124""#);
    assert_eq!(relay.post("/v1/beacon/conversion", &other).await.status, 202);
    assert_eq!(upstream.next_event().await.order_id.as_deref(), Some("124"));
    relay.settled().await;
    assert_eq!(upstream.sandbox.events(&Filter::default()).len(), 2);
    relay.finish().await;
}

#[tokio::test]
async fn twenty_identical_orders_at_once_make_one_delivery() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let answers = futures_join((0..20).map(|_| relay.post("/v1/beacon/conversion", ORDER))).await;
    let ids: std::collections::BTreeSet<_> =
        answers.iter().map(|answer| answer.header("beacon-relay-event-id")).collect();
    assert!(answers.iter().all(|answer| answer.status == 202));
    assert_eq!(ids.len(), 1, "all name the same event");
    upstream.next_event().await;
    relay.settled().await;
    assert_eq!(upstream.sandbox.stats().requests, 1);
    relay.finish().await;
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let mut client = RawClient::connect(relay.addr()).await;
    for n in 0..50 {
        let target = format!("/v1/beacon/click/{n}");
        let answer = client.exchange(&post(&target, "", r#"{"user_id":"u"}"#)).await;
        assert_eq!(answer.status, 202);
        relay.settled().await;
    }
    upstream.next_events(50).await;
    // One is under way at a time; the next may be just before the connection is free.
    let opened = upstream.sandbox.stats().connections_opened;
    assert!(opened <= 5, "{opened} connections for 50 events");
    relay.finish().await;
}

async fn futures_join<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in waiting.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}
