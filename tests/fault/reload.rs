//! SIGHUP: the configuration is read again by the real binary, whole or not at all.

use std::path::Path;

use beacon_relay::caller::KeyDigest;
use tempfile::TempDir;

use crate::program::Program;
use crate::support::{FakeUpstream, RawAnswer, RawClient, post};

fn client(name: &str, key: &str, more: &str) -> String {
    let digest = KeyDigest::of(key.as_bytes());
    format!("[[client]]\nname = \"{name}\"\nkey_sha256 = \"{digest:x}\"\n{more}\n")
}

async fn posted(program: &Program, key: &str, body: &str) -> u16 {
    ask(program, key, body).await.status
}

async fn ask(program: &Program, key: &str, body: &str) -> RawAnswer {
    let head = format!("Content-Type: application/json\r\nX-Api-Key: {key}\r\n");
    let request = post("/v1/beacon/click/1", &head, body);
    RawClient::connect(program.listen).await.exchange(&request).await
}

const EVENT: &str = r#"{"user_id":"u"}"#;
const SCHEMA: &str = include_str!("../../config/schemas/ad-event.json");

fn write(dir: &Path, config: &str) {
    std::fs::write(dir.join("relay.toml"), config).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_limits_and_schemas_are_read_again_and_the_rest_is_told_to_need_a_restart() {
    let (dir, upstream) = (TempDir::new().unwrap(), FakeUpstream::start().await);
    let source =
        "[[source]]\nname = \"beacon-click\"\nschema = \"own.json\"\nanswer_within = \"60 s\"\n";
    std::fs::write(dir.path().join("own.json"), SCHEMA).unwrap();
    write(dir.path(), &format!("{source}{}", client("old", "old-key", "")));
    let file = dir.path().join("relay.toml");
    let mut program = Program::start_with(&dir.path().join("data"), upstream.addr(), &file).await;
    // A connection that is open meets what is new like any other.
    let mut open = RawClient::connect(program.listen).await;
    let request = post("/v1/beacon/click/1", "X-Api-Key: old-key\r\n", EVENT);
    assert_eq!(open.exchange(&request).await.status, 202);
    assert_eq!(posted(&program, "new-key", EVENT).await, 401);

    let stricter = SCHEMA.replacen(
        "\"type\": \"object\"",
        "\"type\": \"object\", \"required\": [\"extra\"]",
        1,
    );
    assert_ne!(stricter, SCHEMA);
    std::fs::write(dir.path().join("own.json"), stricter).unwrap();
    let server =
        "[server]\nbody_max = \"64 B\"\nlisten = \"127.0.0.1:1\"\n[spool]\nmax_bytes = \"1 GiB\"\n";
    let new = client("new", "new-key", "rate = \"9/s\"");
    write(dir.path(), &format!("{server}{source}{new}"));
    program.hang_up();
    let told = program.until_logged("the configuration was read again").await;
    let changed = told["changed"].as_str().unwrap();
    for part in ["client \"new\" added", "client \"old\" removed", "server.body_max", "own.json"] {
        assert!(changed.contains(part), "{changed}");
    }
    let told = program.until_logged("a restart is needed for some settings").await;
    assert_eq!(told["settings"], "spool.max_bytes");
    assert_eq!(open.exchange(&request).await.status, 401);
    assert_eq!(posted(&program, "new-key", EVENT).await, 422, "the schema asks for more");
    assert_eq!(posted(&program, "new-key", r#"{"user_id":"u","extra":1}"#).await, 202);
    let large = format!(r#"{{"user_id":"{}","extra":1}}"#, "u".repeat(64));
    assert_eq!(posted(&program, "new-key", &large).await, 413);

    program.settled().await;
    let (code, log) = program.terminate().await;
    assert_eq!(code, Some(0));
    for secret in ["old-key", "new-key", &format!("{:x}", KeyDigest::of(b"new-key"))] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_changes_nothing() {
    let (dir, upstream) = (TempDir::new().unwrap(), FakeUpstream::start().await);
    write(dir.path(), &client("old", "old-key", ""));
    let file = dir.path().join("relay.toml");
    let mut program = Program::start_with(&dir.path().join("data"), upstream.addr(), &file).await;
    // One good change and one fault.
    write(dir.path(), &format!("{}[server]\nbody_max = \"lots\"\n", client("new", "new-key", "")));
    program.hang_up();
    let told = program.until_logged("the configuration was read again and refused").await;
    let fault = told["fault"].as_str().unwrap();
    assert!(fault.contains("server.body_max is not a quantity"), "{fault}");
    program.until_logged("nothing was changed").await;
    assert_eq!(posted(&program, "new-key", EVENT).await, 401);
    assert_eq!(posted(&program, "old-key", EVENT).await, 202);
    // Mended, it is read.
    write(dir.path(), &client("new", "new-key", ""));
    program.hang_up();
    program.until_logged("the configuration was read again").await;
    assert_eq!(posted(&program, "new-key", EVENT).await, 202);
    program.settled().await;
    assert_eq!(program.terminate().await.0, Some(0));
}
