//! The system's own record of calls: the order is on the disk before its 202 is sent.

use std::time::{Duration, Instant};

use crate::program::Program;
use crate::support::{FakeUpstream, ORDER, RawClient, post};

/// Longest that the tracer may take to write its record down.
const WITHIN: Duration = Duration::from_secs(20);

/// Where `line` of the record ends the call that began at line `from`: there, or where the same
/// thread goes on.
fn ended(lines: &[&str], from: usize) -> Option<usize> {
    if !lines[from].contains("<unfinished") {
        return Some(from);
    }
    let thread = lines[from].split_whitespace().next()?;
    let goes_on =
        |line: &&str| line.split_whitespace().next() == Some(thread) && line.contains("resumed>");
    Some(from + 1 + lines[from + 1..].iter().position(goes_on)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sync_comes_before_the_answer() {
    if std::env::var_os("BEACON_STRACE").is_none() {
        eprintln!("NOT RUN: BEACON_STRACE is not set; tests/run sets it where strace may trace");
        return;
    }
    let upstream = FakeUpstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (data, record) = (dir.path().join("data"), dir.path().join("calls"));
    let program = Program::start_traced(&data, upstream.addr(), &record).await;
    let mut client = RawClient::connect(program.listen).await;
    let order = ORDER.replace(r#""123""#, "\"order-77f3\"");
    let answer = client.exchange(&post("/v1/beacon/conversion", "", order)).await;
    assert_eq!(answer.status, 202);
    program.settled().await;
    let (code, log) = program.terminate().await;
    assert_eq!(code, Some(0), "{log}");
    let until = Instant::now() + WITHIN;
    let text = loop {
        let bytes = std::fs::read(&record).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if text.contains("+++ exited with 0 +++") {
            break text;
        }
        assert!(Instant::now() < until, "the record has no end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let lines: Vec<&str> = text.lines().collect();
    let is_write = |line: &&str| line.contains("pwrite64(") && line.contains("order-77f3");
    let written = lines.iter().position(is_write).expect("the order is written");
    let path = lines[written].split(['<', '>']).nth(1).expect("its file is named");
    assert!(path.contains("/log/"), "{path}");
    let is_sync = |line: &&str| line.contains("fdatasync(") && line.contains(path);
    let sync = written + lines[written..].iter().position(is_sync).expect("and synced");
    let synced = ended(&lines, sync).expect("to the end");
    assert!(lines[synced].trim_end().ends_with("= 0"), "{}", lines[synced]);
    let answered = lines.iter().position(|line| line.contains("HTTP/1.1 202")).expect("answered");
    assert!(synced < answered, "answered at call {answered}, synced at {synced}");
}
