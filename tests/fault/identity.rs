//! The real binary at its loudest: raw identity that a client sends is found nowhere afterwards.

use beacon_relay::caller::KeyDigest;
use beacon_relay::sandbox::Filter;

use crate::program::Program;
use crate::search::search;
use crate::support::{FakeUpstream, RawClient, post};

const KEY: &str = "Content-Type: application/json\r\nX-Api-Key: till-key\r\n";

/// What is searched for. Each stands in no other word, and in no digest: not all are hexadecimal, and
/// those of digits alone are longer than chance makes a sum of seconds or an id.
const CANARIES: [&str; 7] =
    ["qxcanary", "Qxkanarie", "qxkanarie", "97331-733", "973317331", "73317331733", "733.173.317"];

/// The raw members of bodies: sound, each unsound in one way, of wrong types, escaped, cut off.
fn bodies() -> Vec<String> {
    let sound = [
        ("email", r#"" Qxcanary@qxcanary.example""#),
        ("phone", r#""(11) 97331-7331""#),
        ("social_id", r#""733.173.317-33""#),
        ("first_name", r#""Qxkanarie""#),
        ("last_name", r#""q\u0078kanarie da Silva""#),
    ];
    let unsound = [
        r#""qxcanary""#,
        r#""+55 11 97331-7331 qxcanary""#,
        r#"["qxcanary",{"qxcanary":73317331733}]"#,
        r#"{"qxcanary":"qxkanarie"}"#,
        "7331733173317331733",
        r#""qxcanary\u0000\ud83d\ude00é""#,
        "null",
    ];
    let order = |n: usize, raw: &str| {
        format!(
            r#"{{"user_id":"u","order_id":"o-{n}","publisher_id":"p","session_id":"s","channel":"pos",{raw}"items":[{{"sku":"s","quantity":1,"price":1,"promotional_price":1}}],"created_at":"2026-11-21T11:00:00Z"}}"#
        )
    };
    let members = |changed: Option<(usize, &str)>| {
        let value = |at: usize, own: &'static str| match changed {
            Some((place, other)) if place == at => other.to_owned(),
            _ => own.to_owned(),
        };
        let members = sound.iter().enumerate();
        members
            .map(|(at, (name, own))| format!("\"{name}\":{},", value(at, own)))
            .collect::<String>()
    };
    let mut bodies = vec![order(0, &members(None))];
    for place in 0..sound.len() {
        for other in unsound {
            bodies.push(order(bodies.len(), &members(Some((place, other)))));
        }
    }
    // Refused for another reason, with sound identity; and no JSON at all, in the middle of it.
    let whole = order(bodies.len(), &members(None));
    bodies.push(whole.replace(r#""quantity":1"#, r#""quantity":"1""#));
    for end in [r#""phone""#, "97331", "kanarie", r#""items""#] {
        bodies.push(whole[..whole.find(end).unwrap() + end.len()].to_owned());
    }
    bodies.push(whole.replacen(r#""phone""#, r#""email""#, 1));
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_identity_reaches_no_log_no_file_no_metric_no_answer_and_no_upstream() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"status":400,"share":0.5}"#);
    let dir = tempfile::tempdir().unwrap();
    let (config, data) = (dir.path().join("relay.toml"), dir.path().join("data"));
    let text = format!(
        "[spool]\nmax_bytes = \"8 MiB\"\n\
         [[source]]\nname = \"beacon-conversion\"\nanswer_within = \"60 s\"\n[[client]]\nname = \"till\"\nkey_sha256 = \"{:x}\"\n",
        KeyDigest::of(b"till-key")
    );
    std::fs::write(&config, text).unwrap();
    let program = Program::start_loud_with(&config, &data, upstream.addr()).await;
    let limits = program.proc_file("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");

    let (mut said, mut accepted) = (String::new(), 0);
    for body in bodies() {
        for target in ["/v1/validate/conversion", "/v1/beacon/conversion"] {
            let mut client = RawClient::connect(program.listen).await;
            let answer = client.exchange(&post(target, KEY, &body)).await;
            assert!([200, 202, 422, 400].contains(&answer.status), "{}", answer.text());
            accepted += usize::from(answer.status == 202);
            said += answer.text();
        }
        // And as two of many, one a line.
        let head = KEY.replace("application/json", "application/x-ndjson");
        let lines = format!("{body}\n{}\n", body.replace("o-", "m-"));
        let mut client = RawClient::connect(program.listen).await;
        said += client.exchange(&post("/v1/beacon/conversion", &head, lines)).await.text();
    }
    assert!(accepted >= 1, "the sound one at least");
    program.settled().await;
    for page in ["/metrics", "/api/status"] {
        said += &program.admin(page).await;
    }
    for sent in upstream.sandbox.events(&Filter::default()) {
        said += std::str::from_utf8(&sent.body).unwrap();
    }
    let (code, log) = program.terminate().await;
    assert_eq!(code, Some(0));
    assert!(log.contains("dead letter"), "the log is loud: {log}");
    for canary in CANARIES {
        assert!(!said.contains(canary), "{canary} was said");
        assert!(!log.contains(canary), "{canary} was logged");
    }
    assert!(search(&data, &CANARIES) > 10_000);
}
