//! The commands that act on a running relay, as a person types them.

use std::process::Output;

use tokio::process::Command;

use crate::support::{FakeUpstream, TestRelay};

/// Runs the binary against a relay's admin listener.
async fn run(relay: &TestRelay, args: &[&str]) -> Output {
    let url = format!("http://{}", relay.admin_addr());
    run_at(&url, args).await
}

async fn run_at(url: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beacon-relay"));
    command.args(args).args(["--url", url]).stdin(std::process::Stdio::null());
    command.output().await.unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn an_operator_sees_replays_drops_and_pauses() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    upstream.misbehave(r#"{"status":400}"#);
    for number in 0..3 {
        relay.post(&format!("/v1/beacon/click/{number}"), r#"{"user_id":"u1"}"#).await;
    }
    relay.until(|status| status["destinations"][0]["dead"] == 3).await;
    relay.settled().await;
    upstream.misbehave("{}");

    let status = said(&run(&relay, &["status"]).await);
    assert!(status.contains("the sums balance") && status.contains("events-api"), "{status}");
    assert!(!status.contains('\x1b'), "no colours where there is no terminal");
    let json = said(&run(&relay, &["status", "--json"]).await);
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());

    let list = said(&run(&relay, &["dead", "list", "--kind", "click", "--limit", "2"]).await);
    assert!(list.lines().next().unwrap().starts_with("ID"), "{list}");
    assert!(list.contains("refused") && list.contains("--after "), "{list}");
    let id = list.lines().nth(1).unwrap().split_whitespace().next().unwrap();
    let shown = said(&run(&relay, &["dead", "show", id]).await);
    assert!(shown.contains("user_id") && !shown.contains("u1"), "{shown}");
    let hidden = refused(&run(&relay, &["dead", "show", id, "--reveal"]).await);
    assert!(hidden.contains("admin.reveal_token_env"), "{hidden}");

    let dry = said(&run(&relay, &["dead", "replay", "--reason", "refused", "--dry-run"]).await);
    assert_eq!(dry.trim(), "3 would be replayed");
    assert_eq!(said(&run(&relay, &["dead", "replay", id]).await).trim(), "1 replayed");
    let nothing = refused(&run(&relay, &["dead", "drop"]).await);
    assert!(nothing.contains("say which letters"), "{nothing}");
    let unasked = refused(&run(&relay, &["dead", "drop", "--all"]).await);
    assert!(unasked.contains("--yes"), "{unasked}");
    let dropped = said(&run(&relay, &["dead", "drop", "--kind", "click", "--yes"]).await);
    assert_eq!(dropped.trim(), "2 dropped");
    assert_eq!(said(&run(&relay, &["dead", "list"]).await).trim(), "no dead letters");
    let wrong = refused(&run(&relay, &["dead", "list", "--kind", "order"]).await);
    assert!(wrong.contains("conversion, impression"), "{wrong}");

    assert!(said(&run(&relay, &["pause", "events-api", "--for", "10m"]).await).contains("until 2"));
    assert!(said(&run(&relay, &["status"]).await).contains("paused until"));
    let resumed = said(&run(&relay, &["resume", "events-api"]).await);
    assert_eq!(resumed.trim(), "events-api is sent to");
    let unknown = refused(&run(&relay, &["pause", "other"]).await);
    assert!(unknown.contains("events-api"), "{unknown}");
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn where_no_relay_answers_it_says_what_to_look_at() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for args in [&["status"][..], &["dead", "list"], &["resume", "events-api"]] {
        let error = refused(&run_at(&format!("http://{free}"), args).await);
        assert!(error.contains("nothing answers on") && error.contains("--url"), "{error}");
    }
}
