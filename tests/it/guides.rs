//! What `docs/clients` tells integrators, held against the answers that are really given, and the
//! clients in `examples/clients` that can run here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use axum::response::IntoResponse;
use beacon_relay::caller::KeyDigest;
use beacon_relay::http::problem::{Code, Problem};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::{FakeUpstream, ORDER, RawAnswer, TestRelay};

const ORDERS: &str = "/v1/beacon/conversion";
/// What is tried again, in the order in which every client names it.
const AGAIN: [u16; 6] = [408, 429, 500, 502, 503, 504];

/// Each guide and its file.
const GUIDES: [(&str, &str); 5] = [
    ("curl.md", "send.sh"),
    ("python.md", "outbox.py"),
    ("dotnet.md", "TillOutbox.cs"),
    ("swift.md", "BeaconUploads.swift"),
    ("kotlin.md", "BeaconWorker.kt"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The table: what a client does at a status and a code.
fn table() -> BTreeMap<(u16, String), String> {
    let text = read("docs/clients/README.md");
    let (_, rows) = text.split_once("| status | `code` | client |\n|---|---|---|\n").unwrap();
    let rows = rows.lines().take_while(|line| line.starts_with('|'));
    let mut table = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let &[status, code, client] = &cells[..] else { panic!("{row}") };
        let Ok(status) = status.parse() else {
            assert_eq!((status, client), ("no answer", "again"));
            continue;
        };
        let word = client.split(' ').next().unwrap().to_owned();
        let key = (status, code.trim_matches('`').to_owned());
        assert!(table.insert(key, word).is_none(), "{row} stands twice");
    }
    table
}

/// Every code that a client of the public listener may get.
const CODES: [Code; 21] = [
    Code::MalformedJson,
    Code::DuplicateKey,
    Code::BadEncoding,
    Code::Unauthorized,
    Code::RateLimited,
    Code::SourceNotAllowed,
    Code::PublisherNotAllowed,
    Code::EventUrlNotAllowed,
    Code::BadIdempotencyKey,
    Code::NotFound,
    Code::MethodNotAllowed,
    Code::BodyTimeout,
    Code::IdempotencyKeyReused,
    Code::BodyTooLarge,
    Code::TooManyItems,
    Code::UnsupportedMediaType,
    Code::Internal,
    Code::SpoolFull,
    Code::StoreUnavailable,
    Code::Overloaded,
    Code::Draining,
];

#[test]
fn every_code_has_its_row_and_is_tried_again_where_its_answer_says_so() {
    let mut table = table();
    for code in CODES {
        let answer = Problem::new(code, "").into_response();
        let status = answer.status().as_u16();
        let word = table.remove(&(status, code.as_str().to_owned()));
        let word = word.unwrap_or_else(|| panic!("{} has no row", code.as_str()));
        assert_eq!(word == "again", AGAIN.contains(&status), "{}", code.as_str());
        if answer.headers().contains_key("retry-after") {
            assert_eq!(word, "again", "{} says when to come back", code.as_str());
        }
    }
    let rest: Vec<_> = table.into_iter().map(|((status, _), word)| (status, word)).collect();
    assert_eq!(rest, [(202, "done".into()), (207, "each".into()), (422, "mend".into())]);
}

#[test]
fn no_code_of_the_document_is_missing() {
    let document = read("openapi.yaml");
    let (_, codes) = document.split_once("description: A stable word to branch on").unwrap();
    let codes = codes.lines().skip(2).map(str::trim).map_while(|line| line.strip_prefix("- "));
    let mut written: Vec<&str> = codes.collect();
    // Of the admin listener alone.
    let admin =
        ["bad_request", "reveal_not_allowed", "cross_site", "too_many_jobs", "token_not_set"];
    written.retain(|code| !admin.contains(code));
    let mut known: Vec<&str> = CODES.iter().map(|code| code.as_str()).collect();
    written.sort_unstable();
    known.sort_unstable();
    assert_eq!(written, known);
}

#[tokio::test]
async fn the_answers_really_given_are_those_of_the_table() {
    let table = table();
    let is_told = |answer: &RawAnswer, status: u16, code: &str| {
        assert_eq!(answer.status, status, "{code}: {}", answer.text());
        let json = serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap_or_default();
        assert_eq!(json["code"].as_str().unwrap_or_default(), code);
        assert!(table.contains_key(&(status, code.to_owned())), "{status} {code}");
    };
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with("[server]\nitems_max = 2\n", &upstream).await;
    let with = |head: &'static str, body: &'static str| relay.post_with(ORDERS, head, body);
    is_told(&relay.post(ORDERS, ORDER).await, 202, "");
    is_told(&relay.post(ORDERS, "{}").await, 422, "");
    is_told(&relay.post(ORDERS, format!("[{ORDER},{{}}]")).await, 207, "");
    is_told(&relay.post(ORDERS, "{").await, 400, "malformed_json");
    is_told(&relay.post(ORDERS, r#"{"a":1,"a":2}"#).await, 400, "duplicate_key");
    is_told(&with("Content-Encoding: gzip\r\n", "{}").await, 400, "bad_encoding");
    is_told(&with("Idempotency-Key: \r\n", "{}").await, 400, "bad_idempotency_key");
    is_told(&with("Content-Type: image/png\r\n", "{}").await, 415, "unsupported_media_type");
    is_told(&relay.post("/v1/nothing", "{}").await, 404, "not_found");
    let get = relay.send(b"GET /v1/beacon/conversion HTTP/1.1\r\nHost: r\r\n\r\n").await;
    is_told(&get, 405, "method_not_allowed");
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(300 << 10));
    is_told(&relay.post(ORDERS, large).await, 413, "body_too_large");
    is_told(&relay.post(ORDERS, "[1,2,3]").await, 413, "too_many_items");
    let elsewhere = r#"{"event_url":"https://x.example/v1/beacon/click/1","session_id":"s"}"#;
    is_told(&relay.post("/v1/events", elsewhere).await, 403, "event_url_not_allowed");
    let again = "Idempotency-Key: k\r\n";
    is_told(&relay.post_with(ORDERS, again, ORDER).await, 202, "");
    let other = relay.post_with(ORDERS, again, order("other")).await;
    is_told(&other, 409, "idempotency_key_reused");
    relay.finish().await;

    let digest = format!("{:x}", KeyDigest::of(b"a-key-of-this-test"));
    let config = format!(
        "[[client]]\nname = \"till\"\nkey_sha256 = \"{digest}\"\nrate = \"3/h\"\n\
         sources = [\"beacon-conversion\"]\npublishers = [\"xxx\"]\n"
    );
    let relay = TestRelay::start_with(&config, &upstream).await;
    let key = "X-Api-Key: a-key-of-this-test\r\n";
    is_told(&relay.post(ORDERS, ORDER).await, 401, "unauthorized");
    let click = relay.post_with("/v1/beacon/click/1", key, r#"{"session_id":"s"}"#).await;
    is_told(&click, 403, "source_not_allowed");
    let foreign = ORDER.replace("\"xxx\"", "\"yyy\"");
    is_told(&relay.post_with(ORDERS, key, foreign).await, 403, "publisher_not_allowed");
    let mut limited = relay.post_with(ORDERS, key, ORDER).await;
    for _ in 0..3 {
        limited = relay.post_with(ORDERS, key, ORDER).await;
    }
    is_told(&limited, 429, "rate_limited");
    assert!(limited.header("retry-after").is_some());
    relay.finish().await;
}

#[test]
fn a_guide_shows_its_file_and_the_file_tries_again_what_the_table_says() {
    for (guide, file) in GUIDES {
        let (text, code) =
            (read(&format!("docs/clients/{guide}")), read(&format!("examples/clients/{file}")));
        assert!(text.contains(&format!("\n{code}```\n")), "{guide} is not as {file} is");
        let plain: String = code.replace(" or ", "").replace([' ', ',', '|'], "");
        let again: String = AGAIN.iter().map(u16::to_string).collect();
        assert!(plain.contains(&again), "{file} does not try again {AGAIN:?}");
        assert!(read("docs/clients/README.md").contains(&format!("]({guide})")), "{guide}");
    }
}

/// Runs a client with something on its standard input; none where the machine has not its language.
async fn client(
    program: &str,
    args: &[&str],
    input: &str,
    relay: &str,
    dir: &Path,
) -> Option<Option<i32>> {
    let spawned = Command::new(program)
        .args(args)
        .current_dir(dir)
        .env("RELAY", relay)
        .env_remove("RELAY_KEY")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = spawned else {
        assert!(std::env::var_os("CI").is_none(), "{program} is missing");
        eprintln!("NOT RUN: {program} is missing");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    Some(child.wait().await.unwrap().code())
}

fn order(id: &str) -> String {
    ORDER.replace(r#""123""#, &format!("\"{id}\""))
}

#[tokio::test]
async fn the_curl_client_sends_an_order_and_says_what_is_refused() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let dir = tempfile::tempdir().unwrap();
    let script = root().join("examples/clients/send.sh");
    let url = format!("http://{}", relay.addr());
    let args = [script.to_str().unwrap()];
    let Some(sent) = client("bash", &args, &order("c-1"), &url, dir.path()).await else { return };
    assert_eq!(sent, Some(0));
    assert_eq!(upstream.next_event().await.body, order("c-1"));
    assert_eq!(client("bash", &args, "{}", &url, dir.path()).await, Some(Some(1)));
    relay.finish().await;
}

#[tokio::test]
async fn the_python_outbox_keeps_what_cannot_be_sent_and_sets_aside_what_is_refused() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let dir = tempfile::tempdir().unwrap();
    let script = root().join("examples/clients/outbox.py");
    let script = script.to_str().unwrap();
    let url = format!("http://{}", relay.addr());
    let kept = |folder: &str| {
        let names = fs::read_dir(dir.path().join(folder)).map(|files| files.count());
        names.unwrap_or_default()
    };
    let orders = [order("p-1"), "{}".to_owned(), order("p-2")];
    for input in &orders {
        let put = client("python3", &[script, "put", "out"], input, &url, dir.path()).await;
        let Some(code) = put else { return };
        assert_eq!(code, Some(0));
    }
    assert_eq!(kept("out"), 3);
    let send = [script, "send", "out"];
    let wrong = format!("{url}/nowhere");
    assert_eq!(client("python3", &send, "", &wrong, dir.path()).await, Some(Some(1)));
    assert_eq!(kept("out"), 3, "nothing is wrong with the orders");
    assert_eq!(client("python3", &send, "", &url, dir.path()).await, Some(Some(0)));
    assert_eq!((kept("out"), kept("out/refused")), (1, 2), "the refused order and its answer");
    let arrived = upstream.next_events(2).await;
    let ids: Vec<bool> = ["p-1", "p-2"]
        .iter()
        .map(|id| arrived.iter().any(|event| String::from_utf8_lossy(&event.body).contains(id)))
        .collect();
    assert_eq!(ids, [true, true]);
    relay.finish().await;
}
