//! The real binary, killed and stopped under load: what was answered 202 must arrive.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "../it/support/mod.rs"]
mod support;

mod identity;
mod import;
mod kills;
mod program;
mod reload;
mod search;
mod secrets;
mod synced;
mod tools;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use beacon_relay::sandbox::Filter;
use tokio::task::JoinSet;

use program::Program;
use support::{FakeUpstream, ORDER, RawClient, post};

/// Connections that post at once.
const CALLERS: usize = 8;

/// The numbers of orders that were answered 202, while callers post until their relay is gone.
struct Load {
    callers: JoinSet<BTreeSet<usize>>,
}

impl Load {
    async fn on(program: &Program, next: &Arc<AtomicUsize>) -> Self {
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let client = RawClient::connect(program.listen).await;
            callers.spawn(caller(client, Arc::clone(next)));
        }
        Self { callers }
    }

    /// Waits until so many orders were sent.
    async fn of(&self, orders: usize, next: &AtomicUsize) {
        let enough = next.load(Ordering::Relaxed) + orders;
        let waiting = async {
            while next.load(Ordering::Relaxed) < enough {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(program::WITHIN, waiting).await.expect("a relay under load answers");
    }

    async fn accepted(self) -> BTreeSet<usize> {
        self.callers.join_all().await.into_iter().flatten().collect()
    }
}

async fn caller(mut client: RawClient, next: Arc<AtomicUsize>) -> BTreeSet<usize> {
    let mut accepted = BTreeSet::new();
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let order = ORDER.replace(r#""123""#, &format!("\"{n}\""));
        match client.try_exchange(&post("/v1/beacon/conversion", "", order)).await {
            Ok(answer) if answer.status == 202 => {
                accepted.insert(n);
            }
            // A relay that is stopping promises nothing.
            Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
            Err(_) => return accepted,
        }
    }
}

/// Waits until nothing is owed, and names what was promised and did not arrive.
async fn nothing_is_lost(program: &Program, upstream: &FakeUpstream, accepted: &BTreeSet<usize>) {
    program.settled().await;
    let events = upstream.sandbox.events(&Filter::default());
    let arrived = events.iter().filter_map(|event| event.order_id.as_deref()?.parse().ok());
    let arrived: BTreeSet<usize> = arrived.collect();
    let lost: Vec<&usize> = accepted.difference(&arrived).collect();
    let first = &lost[..lost.len().min(10)];
    let (count, all) = (lost.len(), accepted.len());
    assert!(lost.is_empty(), "{count} of {all} answered 202 were lost, the first {first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_in_an_outage_survives_a_kill_in_it() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"status":503}"#);
    let (dir, next) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(1000)));
    let program = Program::start(dir.path(), upstream.addr()).await;
    let load = Load::on(&program, &next).await;
    load.of(100, &next).await;
    program.killed().await;
    let accepted = load.accepted().await;
    let program = Program::start(dir.path(), upstream.addr()).await;
    upstream.misbehave("{}");
    nothing_is_lost(&program, &upstream, &accepted).await;
    let (code, _) = program.terminate().await;
    assert_eq!(code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_at_a_kill_is_sent_again_and_counted() {
    let mut upstream = FakeUpstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path(), upstream.addr()).await;
    let mut client = RawClient::connect(program.listen).await;
    let mut order = async |n: usize| {
        let order = ORDER.replace(r#""123""#, &format!("\"{n}\""));
        let answer = client.exchange(&post("/v1/beacon/conversion", "", order)).await;
        assert_eq!(answer.status, 202);
    };
    order(0).await;
    upstream.next_event().await;
    program.settled().await;
    // And what was delivered is written down.
    let log = dir.path().join("log");
    let written = || kills::newest(&log, ".ack").is_some_and(|it| it.metadata().unwrap().len() > 0);
    while !written() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // It arrives, and no answer comes.
    upstream.misbehave(r#"{"reset":"after"}"#);
    for n in 1..=3 {
        order(n).await;
        upstream.next_event().await;
    }
    upstream.misbehave(r#"{"delay":"1 m"}"#);
    for n in 4..=9 {
        order(n).await;
    }
    // Beside them, what was reset may be tried again.
    let mut awaited: BTreeSet<String> = (4..=9).map(|n: usize| n.to_string()).collect();
    while !awaited.is_empty() {
        let arrival = upstream.next_event().await;
        awaited.remove(arrival.order_id.as_deref().unwrap());
    }
    program.killed().await;
    upstream.misbehave("{}");
    let program = Program::start(dir.path(), upstream.addr()).await;
    program.settled().await;
    let metrics = program.admin("/metrics").await;
    // The three that were reset as well, for nothing of them was known but in memory.
    let line = r#"beacon_relay_possible_duplicates_total{destination="events-api"} 9"#;
    assert!(metrics.contains(line), "{metrics}");
    let (code, log) = program.terminate().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("under way when the relay was killed"), "{log}");
    // A stop leaves nothing of the kind.
    let program = Program::start(dir.path(), upstream.addr()).await;
    let (_, log) = program.terminate().await;
    assert!(!log.contains("under way"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_exits_0_and_loses_nothing() {
    let upstream = FakeUpstream::start().await;
    let (dir, next) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(1000)));
    let program = Program::start(dir.path(), upstream.addr()).await;
    let load = Load::on(&program, &next).await;
    load.of(100, &next).await;
    let (code, log) = program.terminate().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("\"stopped\""), "{log}");
    let accepted = load.accepted().await;
    let program = Program::start(dir.path(), upstream.addr()).await;
    nothing_is_lost(&program, &upstream, &accepted).await;
    let (code, log) = program.terminate().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_holds_a_body_value() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"status":400}"#);
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start_loud(dir.path(), upstream.addr()).await;
    let mut client = RawClient::connect(program.listen).await;
    let canary = "canary-51c2";
    for body in [
        ORDER.replace("12221", canary),
        ORDER.replace(r#""123""#, &format!("\"{canary}\"")).replace("2000.00", "\"x\""),
        format!(r#"{{"user_id":"{canary}@example.com"}}"#),
        format!("{{\"{canary}"),
    ] {
        client.exchange(&post("/v1/beacon/conversion", "", body)).await;
    }
    let target = format!("/v1/beacon/click/1?{canary}={canary}");
    client.exchange(&post(&target, "", format!(r#"{{"user_id":"{canary}"}}"#))).await;
    program.settled().await;
    let (code, log) = program.terminate().await;
    assert_eq!(code, Some(0));
    assert!(log.contains("dead letter"), "the log is loud: {log}");
    assert!(!log.contains(canary), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_does_not_touch_the_directory_of_the_first() {
    let upstream = FakeUpstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    let first = Program::start(dir.path(), upstream.addr()).await;
    let second = Program::refused(dir.path(), upstream.addr()).await;
    assert_eq!(second.0, Some(1));
    assert!(second.1.contains("cannot open the spool"), "{}", second.1);
    let (code, _) = first.terminate().await;
    assert_eq!(code, Some(0));
}
