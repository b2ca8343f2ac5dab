//! `beacon-relay spool` and `check` on the directory of a relay that ran: what a person sees, what a
//! program reads, and the exit codes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::Program;
use crate::support::{FakeUpstream, ORDER, RawClient, post};

const CLICK: &str = r#"{"session_id":"s-81c4"}"#;

fn run(args: &[&str], data: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beacon-relay"));
    command.arg("spool").args(args).arg("--data-dir").arg(data).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The directory of a relay that took three orders and two clicks, delivered none and was stopped.
async fn stopped() -> TempDir {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"status":503}"#);
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start_small(dir.path(), upstream.addr()).await;
    fill(&program).await;
    let (code, log) = program.terminate().await;
    assert_eq!(code, Some(0), "{log}");
    dir
}

async fn fill(program: &Program) {
    let mut client = RawClient::connect(program.listen).await;
    for n in 0..3 {
        let order = ORDER.replace(r#""123""#, &format!("\"order-{n}\""));
        let answer = client.exchange(&post("/v1/beacon/conversion", "", order)).await;
        assert_eq!(answer.status, 202);
    }
    for n in 0..2 {
        let target = format!("/v1/beacon/click/a1?pos={n}");
        assert_eq!(client.exchange(&post(&target, "", CLICK)).await.status, 202);
    }
}

fn picture(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let changed = entry.metadata().unwrap().modified().unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(picture(&entry.path()));
            files.insert(entry.path(), (Vec::new(), changed));
        } else {
            files.insert(entry.path(), (fs::read(entry.path()).unwrap(), changed));
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tools_tell_what_a_stopped_relay_owes_and_write_nothing() {
    let dir = stopped().await;
    let before = picture(dir.path());
    let stat = run(&["stat"], dir.path());
    assert_eq!(stat.status.code(), Some(0), "{}", text(&stat.stderr));
    for part in ["events-api", "quarantine", "format 1", "sound"] {
        assert!(text(&stat.stdout).contains(part), "{}", text(&stat.stdout));
    }
    assert!(!text(&stat.stdout).contains('\u{1b}'), "no colours where no terminal is");
    assert_eq!(text(&stat.stderr), "", "and no bar");
    let stat = lines(&run(&["stat", "--json"], dir.path())).remove(0);
    let to = &stat["destinations"][0];
    assert_eq!(to["pending"].as_u64().unwrap() + to["retrying"].as_u64().unwrap(), 5);
    assert_eq!((&stat["sound"], &stat["keys"]["rows"]), (&json!(true), &json!(5)));

    let verify = run(&["verify"], dir.path());
    assert_eq!(verify.status.code(), Some(0), "{}", text(&verify.stdout));

    let list = run(&["list"], dir.path());
    assert_eq!(list.status.code(), Some(0));
    assert!(text(&list.stdout).contains("5 in all"), "{}", text(&list.stdout));
    let listed = lines(&run(&["list", "--json"], dir.path()));
    assert_eq!(listed.len(), 5);
    for secret in ["order-1", "s-81c4", "pos=0", "1899"] {
        assert!(!text(&list.stdout).contains(secret), "{secret} is shown");
        assert!(listed.iter().all(|line| !line.to_string().contains(secret)), "{secret}");
    }
    let revealed = text(&run(&["list", "--reveal"], dir.path()).stdout);
    assert!(revealed.contains("order-1") && revealed.contains("/v1/beacon/click/a1?pos=0"));
    let limited = text(&run(&["list", "--limit", "2"], dir.path()).stdout);
    assert!(limited.contains("2 shown, there are more"), "{limited}");
    let dead = run(&["list", "--json", "--stage", "dead"], dir.path());
    assert!(dead.stdout.is_empty());
    let nobody = run(&["list", "--json", "--destination", "nobody"], dir.path());
    assert!(nobody.stdout.is_empty());
    assert_eq!(picture(dir.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_can_be_sent_again() {
    let dir = stopped().await;
    let events = lines(&run(&["export"], dir.path()));
    assert_eq!(events.len(), 5);
    let orders = run(&["export", "--form", "orders"], dir.path());
    let mut sent: Vec<String> = text(&orders.stdout).lines().map(str::to_owned).collect();
    sent.sort_unstable();
    let wanted = |n| ORDER.replace(r#""123""#, &format!("\"order-{n}\"")).replace('\n', " ");
    assert_eq!(sent, [0, 1, 2].map(wanted), "byte for byte, but on one line");
    assert!(text(&orders.stderr).contains("2 are of another kind"), "{}", text(&orders.stderr));
    let args = ["export", "--form", "urls", "--base-url", "https://events.example"];
    let mut urls = lines(&run(&args, dir.path()));
    urls.sort_by_key(|line| line["event_url"].to_string());
    let url = |n| format!("https://events.example/v1/beacon/click/a1?pos={n}");
    let wanted = [0, 1].map(|n| json!({"event_url": url(n), "session_id": "s-81c4"}));
    assert_eq!(urls, wanted);
    assert_eq!(run(&["export", "--form", "urls"], dir.path()).status.code(), Some(2));
    // A fresh relay takes the orders and delivers them.
    let upstream = FakeUpstream::start().await;
    let fresh = tempfile::tempdir().unwrap();
    let program = Program::start_small(fresh.path(), upstream.addr()).await;
    let mut client = RawClient::connect(program.listen).await;
    for order in sent {
        assert_eq!(client.exchange(&post("/v1/beacon/conversion", "", order)).await.status, 202);
    }
    program.settled().await;
    assert_eq!(program.terminate().await.0, Some(0));
}

/// The only segment of `log/`, and where each of its pending records begins.
fn records(data: &Path) -> (PathBuf, Vec<u64>) {
    let listed = lines(&run(&["export"], data));
    let logged = listed.iter().filter(|line| line["file"].as_str().unwrap().starts_with("log/"));
    let (mut file, mut offsets) = (PathBuf::new(), Vec::new());
    for line in logged {
        file = data.join(line["file"].as_str().unwrap());
        offsets.push(line["offset"].as_u64().unwrap());
    }
    offsets.sort_unstable();
    (file, offsets)
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_named_exits_1_and_is_repaired() {
    let upstream = FakeUpstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    // No attempt ends before the kill, so all five stay in log/.
    upstream.misbehave(r#"{"delay":"1 h"}"#);
    let program = Program::start_small(dir.path(), upstream.addr()).await;
    fill(&program).await;
    program.killed().await;
    let (file, offsets) = records(dir.path());
    assert_eq!(offsets.len(), 5, "{offsets:?}");
    let log = fs::OpenOptions::new().write(true).open(&file).unwrap();
    log.write_all_at(b"~~~~", offsets[1] + 200).unwrap();

    let verify = run(&["verify", "--json"], dir.path());
    assert_eq!(verify.status.code(), Some(1));
    let found = lines(&verify).remove(0);
    let damage = &found["findings"][0];
    assert_eq!(
        (&damage["code"], &damage["offset"]),
        (&json!("damaged_records"), &json!(offsets[1]))
    );
    assert!(damage["sequences"].is_array() && file.ends_with(damage["file"].as_str().unwrap()));
    let told = text(&run(&["verify"], dir.path()).stdout);
    assert!(told.contains("damage log/") && told.contains("1 piece is damaged"), "{told}");
    let before = lines(&run(&["export"], dir.path())).len();

    let repair = run(&["repair"], dir.path());
    assert_eq!(repair.status.code(), Some(0), "{}", text(&repair.stdout));
    assert_eq!(run(&["verify"], dir.path()).status.code(), Some(0));
    assert_eq!(lines(&run(&["export"], dir.path())).len(), before, "the others are there");
    assert_eq!(fs::read_dir(dir.path().join("quarantine")).unwrap().count(), 1);

    let rekey = run(&["repair", "--rekey", "--json"], dir.path());
    assert_eq!(rekey.status.code(), Some(0), "{}", text(&rekey.stderr));
    assert_eq!(lines(&rekey).remove(0)["rekeyed"], true);
    upstream.misbehave("{}");
    let program = Program::start_small(dir.path(), upstream.addr()).await;
    program.settled().await;
    assert_eq!(program.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_exits_1_and_a_relay_starts_on_it_all_the_same() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"delay":"1 h"}"#);
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start_small(dir.path(), upstream.addr()).await;
    fill(&program).await;
    program.killed().await;
    let (file, _) = records(dir.path());
    let log = fs::OpenOptions::new().write(true).open(&file).unwrap();
    let size = log.metadata().unwrap().len();
    log.write_all_at(&[0x5a; 77], size).unwrap();
    let verify = run(&["verify"], dir.path());
    assert_eq!(verify.status.code(), Some(1));
    assert!(text(&verify.stdout).contains(&format!("offset {size} (77 bytes): torn tail")));
    let data = dir.path().to_str().unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_beacon-relay"))
        .arg("check")
        .env("BEACON_RELAY_SPOOL__PATH", data)
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stderr));
    assert!(
        text(&check.stdout).contains("1 piece is damaged: 5 waiting"),
        "{}",
        text(&check.stdout)
    );
    upstream.misbehave("{}");
    let program = Program::start_small(dir.path(), upstream.addr()).await;
    program.settled().await;
    assert_eq!(upstream.sandbox.stats().unique_events, 5);
    assert_eq!(program.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn salvage_reads_what_lost_its_header() {
    let dir = stopped().await;
    let all = lines(&run(&["export"], dir.path())).len();
    for entry in fs::read_dir(dir.path().join("log")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "seg") {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&[0; 8192], 0).unwrap();
        }
    }
    let export = run(&["export"], dir.path());
    assert_eq!(export.status.code(), Some(1));
    assert!(text(&export.stderr).contains("--salvage"), "{}", text(&export.stderr));
    let salvaged = run(&["export", "--salvage"], dir.path());
    assert_eq!(salvaged.status.code(), Some(1));
    assert!(lines(&salvaged).len() >= all, "{}", text(&salvaged.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_use_is_refused_with_the_process_that_holds_it() {
    let upstream = FakeUpstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start_small(dir.path(), upstream.addr()).await;
    for args in [&["stat"][..], &["verify"], &["list"], &["export"], &["repair"]] {
        let refused = run(args, dir.path());
        assert_eq!(refused.status.code(), Some(1), "{args:?}");
        let holder = format!("process {}", program.id());
        assert!(text(&refused.stderr).contains(&holder), "{}", text(&refused.stderr));
    }
    let check = Command::new(env!("CARGO_BIN_EXE_beacon-relay"))
        .arg("check")
        .env("BEACON_RELAY_SPOOL__PATH", dir.path())
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(0));
    assert!(text(&check.stdout).contains("not looked into"), "{}", text(&check.stdout));
    assert_eq!(program.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_directory_is_refused_by_all_with_both_numbers() {
    let dir = stopped().await;
    fs::write(dir.path().join("FORMAT"), "beacon-relay spool format 9\n").unwrap();
    for args in [&["stat"][..], &["verify"], &["list"], &["export"], &["repair"]] {
        let refused = run(args, dir.path());
        assert_eq!(refused.status.code(), Some(1));
        let told = text(&refused.stderr);
        assert!(told.contains("format 9") && told.contains("up to 1"), "{told}");
    }
    let check = Command::new(env!("CARGO_BIN_EXE_beacon-relay"))
        .arg("check")
        .env("BEACON_RELAY_SPOOL__PATH", dir.path())
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(2));
    let told = text(&check.stderr);
    assert!(told.contains("format 9") && told.contains("up to 1"), "{told}");
    let (code, told) = Program::refused(dir.path(), "127.0.0.1:9".parse().unwrap()).await;
    assert_eq!(code, Some(1));
    assert!(told.contains("format 9") && told.contains("up to 1"), "{told}");
}

#[test]
fn what_is_no_spool_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for place in [dir.path().to_owned(), dir.path().join("nothing")] {
        let refused = run(&["verify"], &place);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("--data-dir"), "{}", text(&refused.stderr));
    }
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
}
