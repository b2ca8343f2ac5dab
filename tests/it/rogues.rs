//! Upstreams that break HTTP: nothing hangs, nothing is lost, and all is well without a restart.

use std::time::Duration;

use crate::support::{FakeUpstream, ORDER, Rogue, RogueUpstream, TestRelay};

/// Orders to the rogue: attempts are short, waits shorter.
fn config(rogue: &RogueUpstream, more: &str) -> String {
    format!(
        "[[destination]]\nname = \"rogue\"\nbase_url = \"{}\"\n\
         retry = {{ wait_first = \"20 ms\", wait_max = \"100 ms\" }}\n\
         attempt_within = \"2 s\"\n{more}\n\
         [[source]]\nname = \"beacon-conversion\"\nto = [\"rogue\"]\n\
         [[source]]\nname = \"beacon-view\"\nto = [\"rogue\"]\n",
        rogue.url()
    )
}

async fn post_order(relay: &TestRelay, n: usize) -> String {
    let order = ORDER.replace(r#""123""#, &format!("\"{n}\""));
    assert_eq!(relay.post("/v1/beacon/conversion", &order).await.status, 202);
    order
}

/// The rogue's line of the report.
fn line(status: &serde_json::Value) -> &serde_json::Value {
    &status["destinations"][1]
}

#[tokio::test]
async fn an_order_survives_every_upstream_that_does_not_take_it() {
    let (unused, rogue) = (FakeUpstream::start().await, RogueUpstream::start().await);
    let relay = TestRelay::start_with(&config(&rogue, ""), &unused).await;
    let html = "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 16\r\n\r\n\
                <html>bad</html>";
    for (n, way) in [
        Rogue::HalfOpen,
        Rogue::ResetsAtOnce,
        Rogue::ResetsInBody,
        Rogue::ResetsAfter,
        Rogue::DiesInHead,
        Rogue::Trickles,
        Rogue::Answers(html),
        Rogue::Answers("HTTP/1.1 503 Unavailable\r\ncontent-length: 1000\r\n\r\nno"),
        Rogue::Answers("SSH-2.0-OpenSSH_9.7\r\n"),
        Rogue::Answers("HTTP/1.1 202 Accepted\r\ncontent-length: -5\r\n\r\n"),
        Rogue::Answers("HTTP/1.1 20x Accepted\r\n\r\n"),
        Rogue::DiesInBody("HTTP/1.1 500 Oops\r\ncontent-length: 1000\r\n\r\n<html>"),
    ]
    .into_iter()
    .enumerate()
    {
        rogue.turn(way);
        let order = post_order(&relay, n).await;
        relay.until(|status| line(status)["retrying"] == 1).await;
        rogue.turn(Rogue::Behaves);
        relay.settled().await;
        let status = relay.status().await;
        assert_eq!(line(&status)["dead"], 0, "{way:?}: {status:#}");
        assert!(rogue.accepted().contains(&order), "{way:?}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn a_status_decides_however_its_body_ends() {
    let (unused, rogue) = (FakeUpstream::start().await, RogueUpstream::start().await);
    let relay = TestRelay::start_with(&config(&rogue, ""), &unused).await;
    for (n, way) in [
        Rogue::DiesInBody("HTTP/1.1 202 Accepted\r\ncontent-length: 1000\r\n\r\n{\"mess"),
        Rogue::DiesInBody("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        Rogue::DiesInBody("HTTP/1.1 200 OK\r\n\r\n<html>until the end"),
        Rogue::Answers("HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}and more"),
        Rogue::Answers("HTTP/1.1 202 Accepted\r\ncontent-length: 1000\r\n\r\n{\"mess"),
        Rogue::Answers("HTTP/1.1 204 No Content\r\n\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        rogue.turn(way);
        post_order(&relay, n).await;
        relay.settled().await;
        let status = relay.status().await;
        assert_eq!(status["ledger"]["store"]["delivered"], n + 1, "{way:?}: {status:#}");
    }
    assert_eq!(rogue.accepted().len(), 0, "none was sent again");
    relay.finish().await;
}

#[tokio::test]
async fn a_view_is_sent_again_only_when_it_cannot_have_arrived() {
    let (unused, rogue) = (FakeUpstream::start().await, RogueUpstream::start().await);
    let relay = TestRelay::start_with(&config(&rogue, ""), &unused).await;
    let mut dead = 0;
    for (n, way) in [Rogue::HalfOpen, Rogue::ResetsAfter, Rogue::DiesInHead].into_iter().enumerate()
    {
        // A connection that has never answered: whether the request arrived is anyone's guess.
        rogue.turn(way);
        let answer = relay.post(&format!("/v1/beacon/view/{n}"), r#"{"user_id":"u"}"#).await;
        assert_eq!(answer.status, 202);
        relay.settled().await;
        dead += 1;
        let status = relay.status().await;
        assert_eq!(line(&status)["dead"], dead, "{way:?}: {status:#}");
    }
    assert!(rogue.connections() <= 4, "{} connections", rogue.connections());
    relay.finish().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_upstream_that_never_answers() {
    let (unused, rogue) = (FakeUpstream::start().await, RogueUpstream::start().await);
    let slow = config(&rogue, "").replace("attempt_within = \"2 s\"", "attempt_within = \"60 s\"");
    let mut relay =
        TestRelay::start_with(&format!("{slow}[server]\ngrace = \"200 ms\"\n"), &unused).await;
    rogue.turn(Rogue::HalfOpen);
    let order = post_order(&relay, 0).await;
    relay.until(|status| line(status)["leases"]["in_hand"] == 1).await;
    let started = tokio::time::Instant::now();
    relay.restart().await;
    assert!(started.elapsed() < Duration::from_secs(30), "the grace is over sooner");
    rogue.turn(Rogue::Behaves);
    relay.settled().await;
    assert_eq!(rogue.accepted(), [order]);
    relay.finish().await;
}
