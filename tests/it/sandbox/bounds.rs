//! Its limits, its end, and HTTP/2.

use std::time::Duration;

use beacon_relay::clock::Clock;
use beacon_relay::sandbox::{Filter, Limits, Outcome};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::support::{End, FakeUpstream, RawClient, SOON, any_json, post};

const CLICK: &str = "/v1/beacon/click/a";

async fn limited(limits: Limits) -> FakeUpstream {
    FakeUpstream::start_with(any_json(), Clock::system(), limits).await
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_not_kept() {
    let upstream = limited(Limits { body_bytes_max: 100, ..Limits::default() }).await;
    let mut client = RawClient::connect(upstream.addr()).await;
    assert_eq!(client.exchange(&post(CLICK, "", [b' '; 100])).await.status, 400);
    assert_eq!(client.exchange(&post(CLICK, "", [b' '; 101])).await.status, 413);
    assert_eq!(upstream.sandbox.stats().events_kept, 1);
}

#[tokio::test]
async fn bodies_in_hand_have_one_limit_together() {
    let limits = Limits { body_bytes_in_hand_max: 100, ..Limits::default() };
    let upstream = limited(limits).await;
    let mut client = RawClient::connect(upstream.addr()).await;
    assert_eq!(client.exchange(&post(CLICK, "", [b' '; 101])).await.status, 503);
    // What was taken is given back, also by those that were refused.
    for _ in 0..3 {
        let mut client = RawClient::connect(upstream.addr()).await;
        assert_eq!(client.exchange(&post(CLICK, "", [b' '; 100])).await.status, 400);
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let upstream = limited(Limits { body_within: Duration::from_millis(50), ..Limits::default() });
    let upstream = upstream.await;
    let mut client = RawClient::connect(upstream.addr()).await;
    let head = format!("POST {CLICK} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{{");
    assert_eq!(client.exchange(head.as_bytes()).await.status, 408);
    assert_eq!(client.end().await, End::Closed);
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let upstream = FakeUpstream::start().await;
    let mut client = RawClient::connect(upstream.addr()).await;
    let head = format!("X-Long: {}\r\n", "x".repeat(70_000));
    assert_eq!(client.exchange(&post(CLICK, &head, "{}")).await.status, 431);
    assert_eq!(upstream.sandbox.stats().requests, 0);
}

#[tokio::test]
async fn a_quiet_connection_is_closed_and_a_busy_one_is_not() {
    let upstream = limited(Limits { idle_max: Duration::from_millis(60), ..Limits::default() });
    let upstream = upstream.await;
    upstream.misbehave(r#"{"delay":"200 ms"}"#);
    let mut busy = RawClient::connect(upstream.addr()).await;
    assert_eq!(busy.exchange(&post(CLICK, "", "{}")).await.status, 202);
    assert_eq!(busy.end().await, End::Closed);
    // Neither silence nor half a request line keeps one open.
    for start in [&b""[..], b"P", b"POST /v1/bea"] {
        let mut quiet = RawClient::connect(upstream.addr()).await;
        quiet.send(start).await;
        assert_eq!(quiet.end().await, End::Closed);
    }
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_their_turn() {
    let upstream = limited(Limits { connections_max: 1, ..Limits::default() }).await;
    let mut first = RawClient::connect(upstream.addr()).await;
    first.exchange(&post(CLICK, "", "{}")).await;
    let mut second = RawClient::connect(upstream.addr()).await;
    second.send(&post(CLICK, "", "{}")).await;
    // The first is answered once more, and the second not while the first is open.
    first.exchange(&post(CLICK, "", "{}")).await;
    assert_eq!(upstream.sandbox.stats().connections_opened, 1);
    drop(first);
    assert_eq!(second.answer().await.unwrap().status, 202);
    assert_eq!(upstream.sandbox.stats().connections_open_max, 1);
}

#[tokio::test]
async fn the_oldest_arrivals_make_room() {
    let mut upstream = limited(Limits { events_max: 2, ..Limits::default() }).await;
    let mut client = RawClient::connect(upstream.addr()).await;
    for _ in 0..5 {
        client.exchange(&post(CLICK, "", "{}")).await;
        upstream.next_event().await;
    }
    let kept = upstream.sandbox.events(&Filter::default());
    assert_eq!(kept.iter().map(|it| it.n).collect::<Vec<_>>(), [4, 5]);
    let stats = upstream.sandbox.stats();
    assert_eq!((stats.forgotten, stats.events_kept, stats.accepted), (3, 2, 5));
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_as_unanswered() {
    let mut upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"delay":"1 h"}"#);
    let mut client = RawClient::connect(upstream.addr()).await;
    client.send(&post(CLICK, "", "{}")).await;
    assert_eq!(upstream.next_event().await.outcome, Outcome::Accepted);
    drop(client);
    let stats = upstream.stop().await.stats();
    assert_eq!((stats.requests, stats.unanswered, stats.in_hand), (1, 1, 0));
}

#[tokio::test]
async fn stopping_closes_every_connection() {
    let mut upstream = FakeUpstream::start().await;
    let mut idle = RawClient::connect(upstream.addr()).await;
    idle.exchange(&post(CLICK, "", "{}")).await;
    upstream.next_event().await;
    upstream.misbehave(r#"{"delay":"1 h"}"#);
    let mut held = RawClient::connect(upstream.addr()).await;
    held.send(&post(CLICK, "", "{}")).await;
    upstream.next_event().await;
    let (mut h2, driven) = http2(&upstream).await;
    let waiting = h2.send_request(h2_post(&upstream));
    let held_h2 = TaskTracker::new().spawn(waiting);
    upstream.next_event().await;
    let addr = upstream.addr();
    let gone = upstream.stopped().await;
    assert_eq!((idle.end().await, held.end().await), (End::Closed, End::Closed));
    assert!(timeout(SOON, held_h2).await.expect("ends soon").unwrap().is_err());
    assert!(timeout(SOON, driven).await.is_ok());
    assert!(TcpStream::connect(addr).await.is_err());
    let stats = gone.again().await.stop().await.stats();
    assert_eq!((stats.in_hand, stats.connections_open, stats.unanswered), (0, 0, 2));
}

async fn http2(
    upstream: &FakeUpstream,
) -> (SendRequest<Full<Bytes>>, JoinHandle<Result<(), hyper::Error>>) {
    let stream = TcpStream::connect(upstream.addr()).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, TaskTracker::new().spawn(connection))
}

fn h2_post(upstream: &FakeUpstream) -> Request<Full<Bytes>> {
    let target = upstream.url("/v1/beacon/click/{a}%2e|?x='&%zz");
    Request::post(target).body(Full::from(r#"{"user_id":"u"}"#)).unwrap()
}

async fn answer(
    sender: &mut SendRequest<Full<Bytes>>,
    upstream: &FakeUpstream,
) -> hyper::Result<Response<Incoming>> {
    timeout(SOON, sender.send_request(h2_post(upstream))).await.expect("ends soon")
}

#[tokio::test]
async fn http2_without_tls_is_served_on_the_same_port() {
    let mut upstream = FakeUpstream::start().await;
    let (mut sender, _driven) = http2(&upstream).await;
    upstream.misbehave(r#"{"status":503,"share":0.5,"retry_after":3,"trickle":"1 ms"}"#);
    assert_eq!(answer(&mut sender, &upstream).await.unwrap().status(), 202);
    let faulted = answer(&mut sender, &upstream).await.unwrap();
    assert_eq!(
        (faulted.status().as_u16(), &faulted.headers()["retry-after"]),
        (503, &"3".parse().unwrap())
    );
    let [first, second] = [upstream.next_event().await, upstream.next_event().await];
    assert_eq!(
        (first.version, first.target.as_str()),
        (http::Version::HTTP_2, "/v1/beacon/click/{a}%2e|?x='&%zz")
    );
    assert_eq!((second.connection, second.outcome), (first.connection, Outcome::Faulted));
}

#[tokio::test]
async fn http2_connections_end_after_their_number_of_requests() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"close_after":2}"#);
    let (mut sender, driven) = http2(&upstream).await;
    for _ in 0..2 {
        assert_eq!(answer(&mut sender, &upstream).await.unwrap().status(), 202);
    }
    assert!(timeout(SOON, driven).await.expect("ends soon").unwrap().is_ok());
    assert_eq!(upstream.sandbox.stats().by_status[&202], 2);
}

#[tokio::test]
async fn http2_connections_are_reset() {
    for (reset, kept) in [("before", 0), ("after", 1)] {
        let upstream = FakeUpstream::start().await;
        upstream.misbehave(&format!(r#"{{"reset":"{reset}"}}"#));
        let (mut sender, _driven) = http2(&upstream).await;
        assert!(answer(&mut sender, &upstream).await.is_err());
        let stats = upstream.stop().await.stats();
        assert_eq!((stats.events_kept, stats.unanswered, stats.in_hand), (kept, 1, 0), "{reset}");
    }
}
