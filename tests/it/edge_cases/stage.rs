//! A relay under a clock that stands still, in front of a fake upstream.

use std::collections::HashSet;
use std::time::Duration;

use beacon_relay::app::Relay;
use beacon_relay::clock::{Clock, Timestamp};
use beacon_relay::config::Layers;
use beacon_relay::event::EventKind;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::corpus::Line;
use crate::support::{FakeUpstream, RawAnswer, RawClient, SOON, patient};

/// 2026-11-21T12:00:00Z
const NOON: Timestamp = Timestamp::from_millis(1_795_262_400_000);

/// The relay of one group.
pub(crate) struct Stage {
    relay: Relay,
    upstream: FakeUpstream,
    clock: Clock,
    schema: Value,
    /// The ids of the events that were stored.
    stored: HashSet<String>,
    _dir: TempDir,
}

impl Stage {
    /// A relay with `config`, beside which `schema` lies as `own.json`.
    pub(crate) async fn open(config: &str, schema: &str) -> Self {
        let (dir, upstream) = (TempDir::new().unwrap(), FakeUpstream::start().await);
        let file = dir.path().join("relay.toml");
        std::fs::write(&file, config).unwrap();
        std::fs::write(dir.path().join("own.json"), schema).unwrap();
        let data = dir.path().join("data").display().to_string();
        let anywhere = || "127.0.0.1:0".to_owned();
        let layers = Layers {
            file: Some(file),
            environment: Vec::new(),
            flags: vec![
                ("--listen", &["server", "listen"], anywhere()),
                ("--admin-listen", &["admin", "listen"], anywhere()),
                ("--data-dir", &["spool", "path"], data),
            ],
            upstream: Some(upstream.url("")),
        };
        let mut plan = layers.plan().unwrap_or_else(|faults| panic!("{faults}"));
        patient(&mut plan);
        let clock = Clock::held(NOON);
        let relay = Relay::start(plan, clock.clone()).await.unwrap();
        let schema = serde_json::from_str(schema).unwrap();
        Self { relay, upstream, clock, schema, stored: HashSet::new(), _dir: dir }
    }

    /// Sends a line as an event of `kind`, and tells what is not as it is written.
    pub(crate) async fn hold(&mut self, line: &Line<'_>, kind: EventKind, n: usize) -> Vec<String> {
        if line.ask.after_s > 0 {
            // What is under way would come to be as old.
            self.until_settled().await;
            self.clock.advance(Duration::from_secs(line.ask.after_s));
        }
        let target = line.ask.target(match kind {
            EventKind::Conversion => "/v1/beacon/conversion".to_owned(),
            EventKind::Impression | EventKind::View | EventKind::Click => {
                format!("/v1/beacon/{}/ad-{n}", kind.as_str())
            }
            EventKind::Notification => unreachable!("no group has any"),
        });
        let body = line.ask.body(&format!("edge-{n}"));
        let request = line.ask.request(&target, &body);
        let mut faults = Vec::new();
        let mut accepted = None;
        for answer in self.send(request, line.ask.at_once.unwrap_or(1)).await {
            let found = line.answer.of(&answer, &self.schema);
            if found != line.answer {
                faults.push(format!("{target}:\n  found   {found:?}\n  written {:?}", line.answer));
            }
            if let Some(results) = &found.results {
                for (at, _) in results.iter().enumerate().filter(|(_, result)| *result == "202") {
                    self.upstream.next_event().await;
                    self.stored.insert(format!("line {n}, item {at}"));
                }
            } else if answer.status == 202 {
                faults.extend(said(&answer, kind));
                let id = answer.header("beacon-relay-event-id").map(str::to_owned);
                if accepted.is_some() && accepted != id {
                    faults.push(format!("{target}: at once, and two events"));
                }
                accepted = id;
            }
        }
        let Some(id) = accepted else { return faults };
        let is_repeat = !self.stored.insert(id);
        if is_repeat != line.answer.repeat {
            faults.push(format!("{target}: a repeat: {is_repeat}"));
        }
        if is_repeat {
            return faults;
        }
        let arrival = self.upstream.next_event().await;
        let expected = (target.as_str(), line.answer.arrives(&line.ask, &body));
        if (arrival.target.as_str(), &arrival.body[..]) != expected {
            faults.push(format!("{} arrived for {target}, or another body", arrival.target));
        }
        faults
    }

    async fn send(&self, request: Vec<u8>, callers: usize) -> Vec<RawAnswer> {
        let (addr, mut sending) = (self.relay.listen(), JoinSet::new());
        for _ in 0..callers {
            let request = request.clone();
            sending.spawn(async move { RawClient::connect(addr).await.exchange(&request).await });
        }
        sending.join_all().await
    }

    async fn until_settled(&self) {
        let waiting = async {
            while self.report().await["ledger"]["store"]["spooled"] != 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(SOON, waiting).await.is_ok(), "not settled within {SOON:?}");
    }

    async fn report(&self) -> Value {
        self.relay.status().report().await.unwrap()
    }

    /// Checks that nothing arrived beside what was awaited, and the sums; and stops.
    pub(crate) async fn close(self) {
        self.until_settled().await;
        assert!(!self.stored.is_empty(), "nothing was accepted");
        assert_eq!(self.upstream.sandbox.stats().requests, self.stored.len() as u64);
        let report = self.report().await;
        for sum in ["items", "leases", "store", "letters"] {
            assert_eq!(report["ledger"]["differences"][sum], 0, "{sum}: {report:#}");
        }
        self.relay.stop().await.unwrap();
    }
}

/// What is wrong with the body of a 202.
fn said(answer: &RawAnswer, kind: EventKind) -> Option<String> {
    let (body, media) = match kind {
        EventKind::Conversion => {
            (r#"{"messages":["conversion will be processed soon"]}"#, Some("application/json"))
        }
        EventKind::Impression | EventKind::View | EventKind::Click | EventKind::Notification => {
            ("", None)
        }
    };
    let found = (answer.text(), answer.header("content-type"));
    (found != (body, media)).then(|| format!("202 with {found:?}"))
}
