//! The admin listener: health, readiness, metrics and the API's token.

use crate::support::{FakeUpstream, ORDER, SOON, TestRelay};

#[tokio::test]
async fn a_running_relay_is_alive_and_ready() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    assert_eq!(relay.admin("/healthz", "").await.text(), r#"{"alive":true}"#);
    let ready = relay.admin("/readyz", "").await;
    assert_eq!((ready.status, ready.text()), (200, r#"{"ready":true,"reasons":[]}"#));
    relay.finish().await;
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    relay.post("/v1/beacon/conversion", ORDER).await;
    relay.post("/v1/beacon/conversion", ORDER).await;
    relay.post("/v1/beacon/conversion", "{}").await;
    relay.post("/v1/nothing", "{}").await;
    upstream.next_event().await;
    relay.settled().await;
    let metrics = relay.metrics().await;
    for line in [
        r#"beacon_relay_items_total{source="beacon-conversion",outcome="accepted"} 1"#,
        r#"beacon_relay_items_total{source="beacon-conversion",outcome="duplicate"} 1"#,
        r#"beacon_relay_items_total{source="beacon-conversion",outcome="rejected"} 1"#,
        r#"beacon_relay_requests_total{route="beacon-conversion",status="202"} 2"#,
        r#"beacon_relay_requests_total{route="beacon-conversion",status="422"} 1"#,
        r#"beacon_relay_requests_total{route="unmatched",status="404"} 1"#,
        r#"beacon_relay_violations_total{source="beacon-conversion",keyword="required",field="order_id"} 1"#,
        r#"beacon_relay_deliveries_total{destination="events-api",outcome="delivered"} 1"#,
        r#"beacon_relay_ledger_difference{sum="items"} 0"#,
        r#"beacon_relay_ledger_difference{sum="leases"} 0"#,
        r#"beacon_relay_ledger_difference{sum="store"} 0"#,
        r#"beacon_relay_pending{destination="events-api",lane="live"} 0"#,
        r#"beacon_relay_upstream_connections_opened_total{destination="events-api"} 1"#,
        r#"beacon_relay_commit_seconds_count 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn every_metric_that_is_shown_is_documented() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    relay.post("/v1/beacon/conversion", ORDER).await;
    upstream.next_event().await;
    relay.settled().await;
    let documented = include_str!("../../docs/METRICS.md");
    for line in relay.metrics().await.lines() {
        let Some(rest) = line.strip_prefix("# TYPE ") else { continue };
        let name = rest.split(' ').next().unwrap();
        assert!(documented.contains(&format!("`{name}")), "{name} is not in docs/METRICS.md");
    }
    relay.finish().await;
}

#[tokio::test]
async fn the_api_asks_for_its_token_off_loopback() {
    let upstream = FakeUpstream::start().await;
    let config = "[admin]\nlisten = \"0.0.0.0:9090\"\ntoken_env = \"ADMIN_TOKEN\"";
    let relay = TestRelay::start_with(config, &upstream).await;
    assert_eq!(relay.admin("/api/status", "").await.json()["code"], "unauthorized");
    let wrong = relay.admin("/api/status", "Authorization: Bearer other\r\n").await;
    assert_eq!(wrong.status, 401);
    let right = relay.admin("/api/status", "Authorization: Bearer hush\r\n").await;
    assert_eq!(right.status, 200);
    assert_eq!(relay.admin("/metrics", "").await.status, 200);
    relay.finish().await;

    let relay = TestRelay::start_with("[admin]\nlisten = \"0.0.0.0:9090\"", &upstream).await;
    let refused = relay.admin("/api/status", "").await;
    assert_eq!((refused.status, &refused.json()["code"]), (403, &"token_not_set".into()));
    assert!(refused.text().contains("admin.token_env"), "the remedy is named");
    relay.finish().await;
}

#[tokio::test]
async fn a_full_spool_says_so_and_recovers_by_itself() {
    let upstream = FakeUpstream::start().await;
    let config = "[spool]\nmax_bytes = \"4 MiB\"\n[[destination]]\nname = \"events-api\"\n\
                  retry = { wait_first = \"20 ms\", wait_max = \"100 ms\" }";
    let relay = TestRelay::start_with(config, &upstream).await;
    upstream.misbehave(r#"{"status":503}"#);
    let body = format!(r#"{{"session_id":"{}"}}"#, "x".repeat(100_000));
    let mut refused = None;
    for n in 0..60 {
        let answer = relay.post(&format!("/v1/beacon/click/{n}"), &body).await;
        if answer.status != 202 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("4 MiB do not hold 60 bodies of 100 kB");
    assert_eq!((refused.status, &refused.json()["code"]), (503, &"spool_full".into()));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(relay.admin("/readyz", "").await.status, 503);
    upstream.misbehave("{}");
    relay.settled().await;
    let recovered = async {
        while relay.post("/v1/beacon/click/x", &body).await.status != 202 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, recovered).await.expect("room comes back");
    assert_eq!(relay.admin("/readyz", "").await.status, 200);
    relay.settled().await;
    relay.finish().await;
}
