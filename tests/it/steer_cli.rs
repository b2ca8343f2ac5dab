//! The commands that act on a running relay, as a person types them.

use std::process::Output;

use tokio::process::Command;

use crate::support::{CountedUpstream, FakeUpstream, KeptPort, TestRelay};

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
    assert_eq!(resumed.trim(), "events-api is not paused");
    let unknown = refused(&run(&relay, &["pause", "other"]).await);
    assert!(unknown.contains("events-api"), "{unknown}");
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn over_tls_a_proxy_is_asked_whose_authority_is_named() {
    let proxy = CountedUpstream::start_tls(&["http/1.1"], usize::MAX).await;
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, proxy.authority_pem()).unwrap();
    let doubted = refused(&run_at(&proxy.url(), &["status"]).await);
    assert!(doubted.contains("no TLS with") && doubted.contains("--ca"), "{doubted}");
    assert_eq!(proxy.seen().len(), 0);
    let asked = refused(&run_at(&proxy.url(), &["status", "--ca", ca.to_str().unwrap()]).await);
    // It answers as no relay does.
    assert!(asked.contains("is no admin listener of a relay"), "{asked}");
    assert_eq!(proxy.seen()[0].target, "/api/status");
}

#[tokio::test]
async fn a_token_is_asked_for_in_words_that_name_its_setting() {
    let upstream = FakeUpstream::start().await;
    let config = "[admin]\nlisten = \"0.0.0.0:0\"\ntoken_env = \"ADMIN_TOKEN\"\n";
    let relay = TestRelay::start_with(config, &upstream).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    // Nothing of what only the relay needs is there.
    let of_relay = "[[destination]]\nname = \"events-api\"\nauth = { type = \"bearer\", \
        token_env = \"NOT_HERE\" }\n";
    std::fs::write(&file, format!("{config}reveal_token_env = \"NOR_HERE\"\n{of_relay}")).unwrap();
    let ask = async |token: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_beacon-relay"));
        command.args(["status", "--url", &format!("http://{}", relay.admin_addr())]);
        command.env("BEACON_RELAY_CONFIG", &file).env_remove("ADMIN_TOKEN");
        command.envs(token.map(|token| ("ADMIN_TOKEN", token))).output().await.unwrap()
    };
    assert!(said(&ask(Some("hush")).await).contains("the sums balance"));
    let none = refused(&ask(None).await);
    assert!(none.contains("asks for a token") && none.contains("admin.token_env"), "{none}");
    let wrong = refused(&ask(Some("hash")).await);
    assert!(wrong.contains("knows no such token"), "{wrong}");
    let public = refused(&run_at(&format!("http://{}", relay.addr()), &["status"]).await);
    assert!(public.contains("is no admin listener"), "{public}");
    let nothing = refused(&run_at("127.0.0.1:9090", &["status"]).await);
    assert!(nothing.contains("write it as http://"), "{nothing}");
    relay.finish().await;
}

#[tokio::test]
async fn where_no_relay_answers_it_says_what_to_look_at() {
    let kept = KeptPort::any();
    let free = kept.addr();
    for args in [&["status"][..], &["dead", "list"], &["resume", "events-api"]] {
        let error = refused(&run_at(&format!("http://{free}"), args).await);
        assert!(error.contains("nothing answers on") && error.contains("--url"), "{error}");
    }
}
