//! On the way to the upstream: TLS and HTTP/2, a proxy, connections that close, upstreams that lie.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use beacon_relay::clock::Clock;
use beacon_relay::sandbox::Limits;
use hyper::Version;

use crate::support::Farewell::{Abruptly, Refusing};
use crate::support::{CountedUpstream, FakeUpstream, TestRelay, TunnelProxy, any_json};

/// A configuration whose events-api is `upstream`, with `more` in the table.
fn to(upstream: &CountedUpstream, dir: &tempfile::TempDir, more: &str) -> String {
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, upstream.authority_pem()).unwrap();
    format!(
        "[[destination]]\nname = \"tls\"\nbase_url = \"{}\"\ntarget = \"verbatim\"\nca_file = {ca_file:?}\n\
         retry = {{ wait_first = \"20 ms\", wait_max = \"100 ms\" }}\n{more}\n\
         [[source]]\nname = \"beacon-view\"\nto = [\"tls\"]\n",
        upstream.url()
    )
}

/// Posts views, which may not be sent twice, and returns their paths.
async fn post_views(relay: &TestRelay, numbers: Range<usize>) -> HashSet<String> {
    let mut targets = HashSet::new();
    for n in numbers {
        let target = format!("/v1/beacon/view/{n}?t=a|b^c&p=%2e%2e//&d='%zz");
        assert_eq!(relay.post(&target, r#"{"user_id":"u"}"#).await.status, 202);
        targets.insert(target);
    }
    targets
}

async fn all_arrive_once(relay: TestRelay, upstream: &CountedUpstream, posted: HashSet<String>) {
    relay.settled().await;
    let status = relay.status().await;
    assert_eq!(status["ledger"]["store"]["delivered"], posted.len(), "{status:#}");
    let seen = upstream.seen();
    assert_eq!(seen.len(), posted.len(), "none arrives twice");
    let arrived: HashSet<String> = seen.into_iter().map(|one| one.target).collect();
    assert_eq!(arrived, posted);
    relay.finish().await;
}

#[tokio::test]
async fn http_2_is_spoken_where_it_is_offered() {
    let (unused, dir) = (FakeUpstream::start().await, tempfile::tempdir().unwrap());
    // One connection carries all of HTTP/2; HTTP/1.1 takes one for each request under way.
    for (protocols, version, connections_max) in
        [(&["h2", "http/1.1"][..], Version::HTTP_2, 1), (&["http/1.1"], Version::HTTP_11, 32)]
    {
        let upstream = CountedUpstream::start_tls(protocols, usize::MAX).await;
        let relay = TestRelay::start_with(&to(&upstream, &dir, ""), &unused).await;
        let mut posted = post_views(&relay, 0..1).await;
        relay.settled().await;
        posted.extend(post_views(&relay, 1..40).await);
        relay.settled().await;
        for one in upstream.seen() {
            assert_eq!((one.version, &one.body[..]), (version, &br#"{"user_id":"u"}"#[..]));
        }
        let connections = upstream.connections();
        assert!(connections <= connections_max, "{connections} connections for {version:?}");
        all_arrive_once(relay, &upstream, posted).await;
    }
}

#[tokio::test]
async fn an_upstream_that_lets_connections_go_loses_nothing() {
    let (unused, dir) = (FakeUpstream::start().await, tempfile::tempdir().unwrap());
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let upstream = CountedUpstream::start_tls(protocols, 3).await;
        let relay = TestRelay::start_with(&to(&upstream, &dir, ""), &unused).await;
        let posted = post_views(&relay, 0..40).await;
        relay.settled().await;
        // Requests that were on their way at the same time end on the old one.
        assert!(upstream.connections() >= 3, "connections did close");
        all_arrive_once(relay, &upstream, posted).await;
    }
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_not_believed() {
    let (unused, dir) = (FakeUpstream::start().await, tempfile::tempdir().unwrap());
    let (upstream, other) = (
        CountedUpstream::start_tls(&["h2"], usize::MAX).await,
        CountedUpstream::start_tls(&["h2"], usize::MAX).await,
    );
    let config = to(&other, &dir, "").replace(&other.url(), &upstream.url());
    let relay = TestRelay::start_with(&config, &unused).await;
    post_views(&relay, 0..1).await;
    relay.until(|status| status["destinations"][1]["retrying"] == 1).await;
    assert_eq!(upstream.seen(), []);
    let metrics = relay.metrics().await;
    let line = r#"beacon_relay_attempts_total{destination="tls",verdict="connect"}"#;
    assert!(metrics.contains(line), "{metrics}");
    relay.finish().await;
}

#[tokio::test]
async fn a_proxy_is_gone_through_in_a_tunnel() {
    let (unused, dir) = (FakeUpstream::start().await, tempfile::tempdir().unwrap());
    let (upstream, proxy) = (
        CountedUpstream::start_tls(&["h2", "http/1.1"], usize::MAX).await,
        TunnelProxy::start().await,
    );
    let more = format!("proxy = \"{}\"\nproxy_credentials_env = \"ADMIN_TOKEN\"", proxy.url());
    let relay = TestRelay::start_with(&to(&upstream, &dir, &more), &unused).await;
    let posted = post_views(&relay, 0..10).await;
    relay.settled().await;
    let heads = proxy.heads();
    assert_eq!(heads.len(), upstream.connections(), "every connection is a tunnel's");
    let head = &heads[0];
    assert!(head.starts_with(&format!("CONNECT localhost:{} ", upstream.addr().port())), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic aHVzaA==\r\n"), "{head}");
    all_arrive_once(relay, &upstream, posted).await;
}

/// Short waits, and attempts that a loaded machine still makes in time.
const QUICK: &str = "[[destination]]\nname = \"events-api\"\n\
    retry = { wait_first = \"20 ms\", wait_max = \"100 ms\" }\n";

#[tokio::test]
async fn an_upstream_that_closes_after_a_few_requests_costs_at_most_one_attempt_more_each() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(QUICK, &upstream).await;
    upstream.misbehave(r#"{"close_after":4}"#);
    let posted = post_views(&relay, 0..60).await;
    relay.settled().await;
    let (status, stats) = (relay.status().await, upstream.sandbox.stats());
    assert_eq!(status["ledger"]["store"]["delivered"], posted.len(), "{status:#}");
    assert!(stats.requests <= 2 * posted.len() as u64, "{} requests", stats.requests);
    relay.finish().await;
}

#[tokio::test]
async fn an_upstream_that_closes_idle_connections_soon_loses_nothing() {
    let limits = Limits { idle_max: Duration::from_millis(15), ..Limits::default() };
    let upstream = FakeUpstream::start_with(any_json(), Clock::system(), limits).await;
    let relay = TestRelay::start_with(QUICK, &upstream).await;
    let mut posted = HashSet::new();
    for n in 0..60 {
        posted.extend(post_views(&relay, n..n + 1).await);
        // Around the moment at which the other side closes, which is the worst of all.
        tokio::time::sleep(Duration::from_millis(8 + n as u64 % 12)).await;
    }
    relay.settled().await;
    let (status, stats) = (relay.status().await, upstream.sandbox.stats());
    assert_eq!(status["ledger"]["store"]["delivered"], posted.len(), "{status:#}");
    assert!(stats.requests <= 2 * posted.len() as u64, "{} requests", stats.requests);
    relay.finish().await;
}

#[tokio::test]
async fn a_connection_that_breaks_off_or_refuses_loses_no_view() {
    let (unused, dir) = (FakeUpstream::start().await, tempfile::tempdir().unwrap());
    for (protocols, end) in
        [(&["h2"][..], Abruptly), (&["http/1.1"], Abruptly), (&["h2"], Refusing)]
    {
        let upstream = CountedUpstream::start_ending(protocols, 4, end).await;
        let relay = TestRelay::start_with(&to(&upstream, &dir, ""), &unused).await;
        for n in 0..20 {
            post_views(&relay, n..n + 1).await;
            relay.settled().await;
        }
        let status = relay.status().await;
        let case = format!("{protocols:?} {end:?}");
        assert_eq!(status["ledger"]["store"]["delivered"], 20, "{case}: {status:#}");
        let metrics = relay.metrics().await;
        let once_more = r#"beacon_relay_possible_duplicates_total{destination="tls"} "#;
        let once_more = metrics.lines().find_map(|line| line.strip_prefix(once_more)).unwrap();
        assert!(once_more.parse::<u32>().unwrap() >= 5, "{case}: {once_more} were sent again");
        relay.finish().await;
    }
}

#[tokio::test]
async fn a_half_open_connection_of_http_2_is_found_out_before_an_attempt_ends() {
    let (unused, dir) = (FakeUpstream::start().await, tempfile::tempdir().unwrap());
    let upstream = CountedUpstream::start_tls(&["h2"], usize::MAX).await;
    let proxy = TunnelProxy::start().await;
    let more = format!("proxy = \"{}\"\nattempt_within = \"16 s\"", proxy.url());
    let config = to(&upstream, &dir, &more).replace("beacon-view", "beacon-click");
    let relay = TestRelay::start_with(&config, &unused).await;
    for n in 0..2 {
        let click = format!("/v1/beacon/click/{n}");
        assert_eq!(relay.post(&click, r#"{"user_id":"u"}"#).await.status, 202);
        if n == 0 {
            relay.settled().await;
            proxy.freeze();
        }
    }
    relay.settled().await;
    let targets: Vec<String> = upstream.seen().into_iter().map(|one| one.target).collect();
    assert_eq!(targets, ["/v1/beacon/click/0", "/v1/beacon/click/1"]);
    assert_eq!(upstream.connections(), 2);
    let metrics = relay.metrics().await;
    let verdict =
        |of| format!(r#"beacon_relay_attempts_total{{destination="tls",verdict="{of}"}}"#);
    assert!(metrics.contains(&verdict("broken")) && !metrics.contains(&verdict("timeout")));
    relay.finish().await;
}

#[tokio::test]
async fn an_events_own_url_is_followed_to_where_it_may_lead() {
    let (unused, base) = (FakeUpstream::start().await, CountedUpstream::start().await);
    let named = CountedUpstream::start().await;
    for (allow_private, arrives) in [("false", false), ("true", true)] {
        let config = format!(
            "[[destination]]\nname = \"own\"\nbase_url = \"{}\"\ntarget = \"verbatim\"\n\
             retry = {{ wait_first = \"20 ms\", wait_max = \"100 ms\" }}\n\
             origins = [\"{}\"]\nallow_private = {allow_private}\n\
             [[source]]\nname = \"beacon-view\"\nto = [\"own\"]\n",
            base.url(),
            named.url().to_uppercase(),
        );
        let relay = TestRelay::start_with(&config, &unused).await;
        let url = format!("{}/v1/beacon/view/1?t=a|b^c&p=%2e%2e//&d='%zz ü#top", named.url());
        let event = serde_json::json!({"event_url": url, "user_id": "u"}).to_string();
        let answer = relay.post("/v1/events", &event).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        if arrives {
            relay.settled().await;
            let seen = named.seen();
            assert_eq!(seen.len(), 1);
            assert_eq!(seen[0].target, "/v1/beacon/view/1?t=a|b^c&p=%2e%2e//&d='%zz%20%C3%BC");
            assert_eq!(seen[0].body, r#"{"user_id":"u"}"#);
        } else {
            relay.until(|status| status["destinations"][1]["retrying"] == 1).await;
            let metrics = relay.metrics().await;
            let line =
                r#"beacon_relay_attempts_total{destination="own",verdict="private_address"}"#;
            assert!(metrics.contains(line), "{metrics}");
            assert_eq!(named.connections(), 0);
        }
        relay.finish().await;
    }
    assert_eq!(base.connections(), 0);
}
