//! Partners' notifications, each with its whole answer and what arrives of it at a back office.
//!
//! Signatures in the corpus are written out, made by another program than ours.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::support::{CountedUpstream, FakeUpstream, TestRelay};

const LINES: &str = include_str!("../../corpus/edge/notifications.ndjson");

/// One line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    case: String,
    says: String,
    /// The last step of the source's path.
    source: String,
    #[serde(default = "post")]
    method: String,
    query: Option<String>,
    #[serde(default)]
    head: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
    status: u16,
    /// Of a problem document.
    code: Option<String>,
    warnings: Option<String>,
    /// What arrives, when it is not the body.
    arrives: Option<String>,
    /// Whether it is known, kept as a dead letter, or means nothing: then nothing arrives.
    #[serde(default)]
    repeat: bool,
    #[serde(default)]
    dead: bool,
    #[serde(default)]
    nothing: bool,
}

fn post() -> String {
    "POST".to_owned()
}

fn lines() -> impl Iterator<Item = Line> {
    (1..).zip(LINES.lines()).map(|(number, line)| match serde_json::from_str(line) {
        Ok(line) => line,
        Err(error) => panic!("line {number} of the corpus: {error}"),
    })
}

/// The cases, each with a status that it gives.
pub(crate) fn held() -> impl Iterator<Item = (String, u16)> {
    // What a store that cannot store is answered with is told in `webhooks/olx.rs`.
    lines().map(|line| (line.case, line.status)).chain([("70".to_owned(), 503)])
}

impl Line {
    fn request(&self) -> Vec<u8> {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let mut head: String =
            self.head.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        if self.method == "POST" {
            head += &format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                self.body.len()
            );
        }
        let (method, source) = (&self.method, &self.source);
        format!(
            "{method} /webhooks/{source}{query} HTTP/1.1\r\nHost: relay\r\n{head}\r\n{}",
            self.body
        )
        .into_bytes()
    }
}

#[tokio::test]
async fn a_notification_gets_its_written_answer_and_arrives_as_it_came() {
    let (backoffice, upstream) = (CountedUpstream::start().await, FakeUpstream::start().await);
    let config = format!(
        "[[destination]]\nname = \"backoffice\"\nbase_url = \"{}/hooks\"\n\
         [[source]]\nname = \"olx-adverts\"\nto = [\"backoffice\"]\n\
         [[source]]\nname = \"impact-events\"\nto = [\"backoffice\"]\n",
        backoffice.url()
    );
    let relay = TestRelay::start_with(&config, &upstream).await;
    let (mut wrong, mut dead) = (Vec::new(), 0);
    let mut expected: Vec<String> = Vec::new();
    for line in lines() {
        let place = format!("case {}, {}", line.case, line.says);
        let answer = relay.send(&line.request()).await;
        let code = (answer.header("content-type") == Some("application/problem+json"))
            .then(|| answer.json()["code"].as_str().unwrap().to_owned());
        let warnings = answer.header("beacon-relay-warnings").map(str::to_owned);
        let found = (answer.status, code, warnings);
        let written = (line.status, line.code.clone(), line.warnings.clone());
        if found != written {
            wrong.push(format!("{place}:\n  found   {found:?}\n  written {written:?}"));
            continue;
        }
        if line.status != 200 {
            continue;
        }
        if !answer.body.is_empty() {
            wrong.push(format!("{place}: an answer with a body"));
        }
        dead += u64::from(line.dead);
        if !(line.repeat || line.dead || line.nothing) {
            expected.push(line.arrives.clone().unwrap_or_else(|| line.body.clone()));
        }
    }
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
    relay.settled().await;
    let mut bodies: Vec<String> = Vec::new();
    for event in backoffice.seen() {
        assert_eq!((event.target.as_str(), event.method.as_str()), ("/hooks", "POST"));
        bodies.push(String::from_utf8(event.body.to_vec()).unwrap());
    }
    bodies.sort_unstable();
    expected.sort_unstable();
    assert_eq!(bodies, expected, "each once, byte for byte");
    assert_eq!(relay.status().await["ledger"]["store"]["dead"], dead);
    relay.finish().await;
}
