//! The files around the program, held against each other: image, demonstration, CI.
//!
//! `tests/container` proves that they work; this proves in a moment that they agree.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::documents::resolve;
use crate::rust_source::{Kind, tokens};
use crate::tree::{self, File};

fn file(path: &str) -> String {
    let found = tree::files().into_iter().find(|file| file.path == path);
    found.unwrap_or_else(|| panic!("{path} is missing")).text
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&file(path)).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

/// The text at `pointer`, which must be there.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no text at {pointer}"))
}

/// The texts of the list at `pointer`, which must be there.
fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    let list = list.unwrap_or_else(|| panic!("no list at {pointer}"));
    list.iter().filter_map(Value::as_str).collect()
}

fn services(compose: &Value) -> impl Iterator<Item = (&String, &Value)> {
    compose["services"].as_object().into_iter().flatten()
}

/// What follows `word` in the lines of Dockerfile that begin with it.
fn instructions<'a>(dockerfile: &'a str, word: &str) -> Vec<&'a str> {
    dockerfile.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ')).collect()
}

/// The value of a variable that Dockerfile sets.
fn image_variable<'a>(dockerfile: &'a str, name: &str) -> &'a str {
    let (_, after) = dockerfile.split_once(name).unwrap_or_else(|| panic!("{name} is not set"));
    let value = after.strip_prefix('=').and_then(|value| value.split_whitespace().next());
    value.unwrap_or_else(|| panic!("{name} has no value"))
}

#[test]
fn every_yaml_file_can_be_read() {
    let read: Vec<(String, Result<Value, String>)> = tree::files()
        .into_iter()
        .filter(|File { path, .. }| path.ends_with(".yml") || path.ends_with(".yaml"))
        .map(|File { path, text }| {
            let value = serde_saphyr::from_str(&text).map_err(|fault| fault.to_string());
            (path, value)
        })
        .collect();
    assert!(read.len() >= 4, "only {} YAML files were found", read.len());
    let unread: Vec<String> = read
        .into_iter()
        .filter_map(|(path, value)| Some(format!("{path}: {}", value.err()?)))
        .collect();
    tree::none(&unread);
}

#[test]
fn the_image_is_built_with_the_toolchain_of_the_repository() {
    let (dockerfile, toolchain) = (file("Dockerfile"), file("rust-toolchain.toml"));
    let channel = toolchain.split_once("channel = \"").and_then(|(_, rest)| rest.split_once('"'));
    let (channel, _) = channel.expect("rust-toolchain.toml names a channel");
    let minor = channel.rsplit_once('.').map_or(channel, |(minor, _)| minor);
    let bases = instructions(&dockerfile, "FROM");
    assert_eq!(bases[0], format!("rust:{minor}-slim-bookworm AS build"));
    assert!(file("Cargo.toml").contains(&format!("rust-version = \"{minor}\"")));
}

#[test]
fn the_image_says_the_version_of_the_package() {
    let version = format!("ARG VERSION={}", env!("CARGO_PKG_VERSION"));
    assert!(file("Dockerfile").lines().any(|line| line == version), "no line {version}");
}

#[test]
fn the_image_opens_what_it_listens_on_and_keeps_what_it_stores() {
    let dockerfile = file("Dockerfile");
    let ports: Vec<&str> = ["BEACON_RELAY_SERVER__LISTEN", "BEACON_RELAY_ADMIN__LISTEN"]
        .map(|name| image_variable(&dockerfile, name).trim_start_matches("0.0.0.0:"))
        .to_vec();
    assert_eq!(instructions(&dockerfile, "EXPOSE"), [ports.join(" ")]);
    let data = image_variable(&dockerfile, "BEACON_RELAY_SPOOL__PATH");
    assert_eq!(instructions(&dockerfile, "VOLUME"), [data]);
    assert_eq!(instructions(&dockerfile, "STOPSIGNAL"), ["SIGTERM"]);
    let user = instructions(&dockerfile, "USER");
    let numeric = user[0].split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0));
    assert!(numeric, "{} is not a numbered user other than root", user[0]);
}

#[test]
fn the_build_sees_every_file_that_is_compiled_in() {
    let ignore = file(".dockerignore");
    let sent: BTreeSet<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignore.lines().any(|line| line == "*"), ".dockerignore must list what is sent");
    let unseen = unseen(&tree::sources(), &sent);
    tree::none(&unseen);
}

/// Files that `sources` compile in and the build does not see.
fn unseen(sources: &[(String, String)], sent: &BTreeSet<&str>) -> Vec<String> {
    let mut unseen = Vec::new();
    for (path, source) in sources {
        let tokens = tokens(source);
        let literals = tokens.windows(4).filter(|window| {
            (window[0].is("include_str") || window[0].is("include_bytes"))
                && window[3].kind == Kind::Text
        });
        for literal in literals.map(|window| window[3]) {
            let included = resolve(path, literal.text);
            let top = included.split('/').next().unwrap_or_default();
            if !literal.in_tests && !sent.contains(top) {
                unseen.push(format!("{path}:{}: {included} is not sent", literal.line));
            }
        }
    }
    unseen
}

#[test]
fn a_compiled_in_file_that_is_not_sent_is_told() {
    let source = "const A: &str = include_str!(\"../../docs/A.md\");\n\
                  const B: &[u8] = include_bytes!(\"page.html\");";
    let sources = [("src/http/mod.rs".to_owned(), source.to_owned())];
    assert_eq!(
        unseen(&sources, &BTreeSet::from(["src", "config"])),
        ["src/http/mod.rs:1: docs/A.md is not sent"]
    );
}

#[test]
fn the_demonstration_is_wired_to_itself() {
    let (compose, dockerfile) = (yaml("docker-compose.yml"), file("Dockerfile"));
    let upstream = texts(&compose, "/services/relay/command");
    let sandbox = texts(&compose, "/services/sandbox/command");
    assert_eq!(upstream, ["serve", "--upstream", "http://sandbox:8090"]);
    assert_eq!(sandbox, ["sandbox", "--listen", "0.0.0.0:8090"]);
    assert_eq!(text(&compose, "/services/relay/environment/BEACON_RELAY_SERVER__AUTH"), "open");

    let scraped = yaml("config/prometheus.yml");
    let targets = texts(&scraped, "/scrape_configs/0/static_configs/0/targets");
    let admin = image_variable(&dockerfile, "BEACON_RELAY_ADMIN__LISTEN");
    assert_eq!(targets, [admin.replace("0.0.0.0", "relay")]);

    let volumes = texts(&compose, "/services/relay/volumes");
    let data = image_variable(&dockerfile, "BEACON_RELAY_SPOOL__PATH");
    assert_eq!(volumes, [format!("relay-data:{data}")]);
}

#[test]
fn the_demonstration_names_only_what_is_there() {
    let compose = yaml("docker-compose.yml");
    let files = tree::files();
    let mut missing = Vec::new();
    for (name, service) in services(&compose) {
        let needed = service["depends_on"].as_object().into_iter().flatten();
        let needed = needed.filter(|(other, _)| compose["services"].get(other).is_none());
        missing.extend(needed.map(|(other, _)| format!("{name} waits for {other}")));
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let from = volume.as_str().and_then(|text| text.split(':').next()).unwrap_or_default();
            let known = match from.strip_prefix("./") {
                Some(path) => files.iter().any(|file| file.path == path),
                None => compose["volumes"].get(from).is_some(),
            };
            if !known {
                missing.push(format!("{name} mounts {from}"));
            }
        }
    }
    tree::none(&missing);
}

#[test]
fn every_service_of_the_demonstration_is_confined() {
    let compose = yaml("docker-compose.yml");
    assert_eq!(services(&compose).count(), 3);
    for (name, service) in services(&compose) {
        assert_eq!(service["read_only"], Value::Bool(true), "{name}");
        assert_eq!(texts(service, "/cap_drop"), ["ALL"], "{name}");
        assert_eq!(texts(service, "/security_opt"), ["no-new-privileges:true"], "{name}");
        assert!(service["mem_limit"].is_string() && service["pids_limit"].is_u64(), "{name}");
        // Anyone may send to it, so nobody but this machine may reach it.
        for port in texts(service, "/ports") {
            assert!(port.starts_with("127.0.0.1:"), "{name} is reachable at {port}");
        }
    }
}

#[test]
fn the_relay_may_drain_before_it_is_killed() {
    let compose = yaml("docker-compose.yml");
    let grace = text(&compose, "/services/relay/stop_grace_period").trim_end_matches('s');
    let grace: u64 = grace.parse().expect("the grace period is in seconds");
    assert!(grace > 10, "the relay's own grace is 10 s, the engine's is {grace} s");
}

#[test]
fn every_step_that_is_spoken_of_exists() {
    let script = file("tests/run");
    let mut unknown = Vec::new();
    for File { path, text } in tree::files() {
        if path.ends_with(".md") || path.ends_with(".yml") || path.ends_with(".yaml") {
            let told =
                unknown_steps(&script, &text).map(|step| format!("{path}: tests/run {step}"));
            unknown.extend(told);
        }
    }
    tree::none(&unknown);
}

/// The words behind `tests/run`, where `text` writes it as a command, that are no step of `script`.
fn unknown_steps<'a>(script: &str, text: &'a str) -> impl Iterator<Item = &'a str> {
    let commands = text.split("tests/run ").skip(1).map(|after| {
        let line = after.lines().next().unwrap_or_default();
        line.split(['`', '#', '"', '\'', ',', ';', '|', '&']).next().unwrap_or_default()
    });
    commands
        .flat_map(str::split_whitespace)
        .filter(move |step| !script.contains(&format!("step_{step}() {{")))
}

#[test]
fn a_step_that_does_not_exist_is_told() {
    let text = "Run `tests/run fmt lint`.\n    tests/run fmt  # all\n- run: tests/run tset\n";
    let told: Vec<&str> = unknown_steps("step_fmt() { cargo fmt; }", text).collect();
    assert_eq!(told, ["lint", "tset"]);
}
