//! The commands as a person types them: output, errors and exit codes of the real binary.

use std::process::{Command, Output};

use crate::support::{FakeUpstream, KeptPort, ORDER, TestRelay};

fn run(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beacon-relay"));
    command.args(args).envs(environment.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_command_has_help_with_an_example() {
    let commands = ["serve", "check", "validate", "sandbox", "key", "spool", "health", "status"];
    for command in commands.into_iter().chain(["pause", "resume"]) {
        let help = run(&[command, "--help"], &[]);
        assert_eq!(help.status.code(), Some(0));
        assert!(text(&help.stdout).contains("Example: beacon-relay"), "{command}");
    }
    assert_eq!(run(&["--version"], &[]).status.code(), Some(0));
    assert_eq!(run(&["serve", "--no-such-flag"], &[]).status.code(), Some(2));
}

#[test]
fn check_prints_the_plan_or_every_fault() {
    let fine = run(&["check"], &[]);
    assert_eq!(fine.status.code(), Some(0), "{}", text(&fine.stderr));
    let plan = text(&fine.stdout);
    for part in ["127.0.0.1:8080", "/v1/beacon/conversion", "events-api", "no fault found"] {
        assert!(plan.contains(part), "{plan}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, "[server]\nlisen = \"x\"\nbody_max = \"lots\"").unwrap();
    for args in [["check", "--config"], ["serve", "--config"]] {
        let refused = run(&[args[0], args[1], file.to_str().unwrap()], &[]);
        assert_eq!(refused.status.code(), Some(2));
        let faults = text(&refused.stderr);
        assert!(faults.contains("bad.toml:2:1: server.lisen is not a setting"), "{faults}");
        assert!(faults.contains("bad.toml:3:1: server.body_max is not a quantity"), "{faults}");
        assert!(refused.stdout.is_empty());
    }
    let file = [("BEACON_RELAY_CONFIG", file.to_str().unwrap())];
    assert_eq!(run(&["check"], &file).status.code(), Some(2));
}

#[test]
fn a_relay_that_cannot_start_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let refused = run(
        &["serve", "--listen", &address, "--admin-listen", "127.0.0.1:0", "--data-dir", data],
        &[],
    );
    assert_eq!(refused.status.code(), Some(1));
    let error = text(&refused.stderr);
    assert!(
        error.contains(&format!("cannot listen on {address}, set by server.listen")),
        "{error}"
    );
}

#[test]
fn a_new_key_fits_its_table_and_no_two_are_alike() {
    let [one, other] = [(); 2].map(|()| {
        let made = run(&["key", "new", "till-7", "--json"], &[]);
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
        serde_json::from_slice::<serde_json::Value>(&made.stdout).unwrap()
    });
    assert_ne!(one["key"], other["key"]);
    let key = one["key"].as_str().unwrap();
    assert!(key.starts_with("brk_") && key.len() == 68, "{key}");
    let digest = format!("{:x}", beacon_relay::caller::KeyDigest::of(key.as_bytes()));
    assert_eq!(one["key_sha256"], digest);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    std::fs::write(&file, one["table"].as_str().unwrap()).unwrap();
    let checked = run(&["check", "--config", file.to_str().unwrap()], &[]);
    let plan = text(&checked.stdout);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    assert!(plan.contains("till-7") && !plan.contains(&digest) && !plan.contains(key), "{plan}");
    let shown = text(&run(&["key", "new", "till-7"], &[]).stdout);
    assert!(shown.contains("\nbrk_") && shown.contains("[[client]]"), "{shown}");
    assert_eq!(run(&["key", "new", "till 7"], &[]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_ready_from_not() {
    let upstream = FakeUpstream::start().await;
    // Nobody else is to answer there when the relay is gone.
    let kept = KeptPort::any();
    let config = format!("[admin]\nlisten = \"{}\"\n", kept.addr());
    let relay = TestRelay::start_with(&config, &upstream).await;
    let url = format!("http://{}", kept.addr());
    let ready = run(&["health", "--url", &url], &[]);
    assert_eq!(ready.status.code(), Some(0), "{}", text(&ready.stderr));
    let address = relay.admin_addr().to_string();
    let configured = run(&["health"], &[("BEACON_RELAY_ADMIN__LISTEN", address.as_str())]);
    assert_eq!(configured.status.code(), Some(0), "{}", text(&configured.stderr));
    relay.finish().await;
    let gone = run(&["health", "--url", &url], &[]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stderr).contains("nothing answers on http:"));
}

#[tokio::test]
async fn an_encrypted_spool_without_its_key_is_refused_like_a_bad_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "5a".repeat(32)).unwrap();
    let upstream = FakeUpstream::start().await;
    let config = format!("[spool]\nencryption_key_file = {:?}", key.display().to_string());
    let relay = TestRelay::start_with(&config, &upstream).await;
    assert_eq!(relay.post("/v1/beacon/conversion", ORDER).await.status, 202);
    // What a backup without the key would be.
    let copy = dir.path().join("copy/log");
    std::fs::create_dir_all(&copy).unwrap();
    for entry in std::fs::read_dir(relay.data_dir().join("log")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            let bytes = std::fs::read(&path).unwrap();
            let name: &[u8] = b"/v1/beacon/conversion";
            assert!(!bytes.windows(name.len()).any(|of| of == name), "it is not encrypted");
            std::fs::write(copy.join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
    relay.settled().await;
    relay.finish().await;
    let data = dir.path().join("copy").display().to_string();
    let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let refused = run(&[&["serve", "--data-dir", &data][..], &listen].concat(), &[]);
    let error = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(error.contains("spool.encryption_key_env"), "{error}");
    assert!(!std::path::Path::new(&data).join("LOCK").exists(), "something was touched");
}
