//! What the upstream answers, and what becomes of the event. `faults` are the sandbox's, in force
//! until one attempt has met them.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use beacon_relay::clock::{Clock, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::support::{FakeUpstream, ORDER, TestRelay};

const LINES: &str = include_str!("../../corpus/edge/upstream.ndjson");

/// Waits short enough for a test.
const QUICK: &str = r#"
[[destination]]
name = "events-api"
retry = { wait_first = "20 ms", wait_max = "100 ms" }
attempt_within = "2 s"
"#;

/// One line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    case: String,
    says: String,
    kind: String,
    faults: Value,
    /// What the attempts must have come to; how often is chance.
    verdicts: BTreeSet<String>,
    /// Whether it ends as a dead letter, and not delivered.
    #[serde(default)]
    is_dead: bool,
    /// Least between the first arrival and the last; where a date is asked for, that decides.
    #[serde(default)]
    waits_ms: u64,
    /// Whether the relay is stopped and started before it is sent again.
    #[serde(default)]
    restarts: bool,
}

fn lines() -> impl Iterator<Item = Line> {
    LINES.lines().map(|line| serde_json::from_str(line).unwrap())
}

/// The cases, each with a status of the upstream.
pub(crate) fn held() -> impl Iterator<Item = (String, u16)> {
    lines().map(|line| {
        let status = line.faults["status"].as_u64().unwrap_or(202);
        (line.case, u16::try_from(status).unwrap())
    })
}

/// The whole second that is two seconds from now or a part of one less.
fn soon() -> Timestamp {
    Timestamp::from_millis(Clock::system().now().as_millis() / 1000 * 1000 + 2000)
}

/// As the header writes it.
fn http_date(at: Timestamp) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(at.as_millis()))
}

async fn hold(line: &Line) {
    let mut upstream = FakeUpstream::start().await;
    let mut relay = TestRelay::start_with(QUICK, &upstream).await;
    let (written, date) = (line.faults.to_string(), soon());
    upstream.misbehave(&written.replace("«date»", &http_date(date)));
    let (target, body) = match line.kind.as_str() {
        "conversion" => ("/v1/beacon/conversion".to_owned(), ORDER),
        kind => (format!("/v1/beacon/{kind}/1?pos=1"), r#"{"user_id":"u"}"#),
    };
    assert_eq!(relay.post(&target, body).await.status, 202, "{}", line.says);
    let first = upstream.next_event().await;
    upstream.misbehave("{}");
    if line.restarts {
        // Told to wait, so that it is the next process that sends.
        relay.until(|status| status["destinations"][0]["retrying"] == 1).await;
        relay.restart().await;
        assert_eq!(relay.status().await["ledger"]["store"]["recovered"], 1);
    }
    relay.settled().await;

    let arrivals = upstream.sandbox.events(&Default::default());
    for arrival in &arrivals {
        let expected = (target.as_str(), body.as_bytes());
        assert_eq!((arrival.target.as_str(), &arrival.body[..]), expected, "{}", line.says);
    }
    let last = arrivals.last().unwrap().at;
    if written.contains("«date»") {
        assert!(last >= date, "{}: sent again {:?} too soon", line.says, date.since(last));
    } else {
        let waited = last.since(first.at);
        // Less than a clock of milliseconds tells.
        let least = Duration::from_millis(line.waits_ms.saturating_sub(10));
        assert!(waited >= least, "{}: sent again after {waited:?}", line.says);
    }
    let status = relay.status().await;
    let ended = ["dead", "delivered"].map(|end| status["ledger"]["store"][end] == 1);
    assert_eq!(ended, [line.is_dead, !line.is_dead], "{}: {status:#}", line.says);
    assert_eq!(verdicts(&relay.metrics().await), line.verdicts, "{}", line.says);
    relay.finish().await;
}

/// The verdicts that attempts came to.
fn verdicts(metrics: &str) -> BTreeSet<String> {
    let start = r#"beacon_relay_attempts_total{destination="events-api",verdict=""#;
    let counts = metrics.lines().filter_map(|line| line.strip_prefix(start)?.split_once("\"} "));
    counts.filter(|(_, count)| *count != "0").map(|(verdict, _)| verdict.to_owned()).collect()
}

#[tokio::test]
async fn an_upstreams_answer_has_its_written_end() {
    for line in lines().filter(|line| line.waits_ms == 0) {
        hold(&line).await;
    }
}

#[tokio::test]
async fn an_upstream_that_asks_to_wait_is_waited_for() {
    for line in lines().filter(|line| line.waits_ms > 0) {
        hold(&line).await;
    }
}
