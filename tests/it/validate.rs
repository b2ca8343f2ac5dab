//! What is only asked about: over HTTP, and in files from the command line. And what is warned of.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use beacon_relay::schema::lint::Lint;
use serde_json::{Value, json};

use crate::support::{FakeUpstream, ORDER, TestRelay};

/// An order without a fault, of no publisher in particular.
fn order(publisher: &str) -> Value {
    let mut order: Value = serde_json::from_str(ORDER).unwrap();
    order["publisher_id"] = publisher.into();
    order
}

#[tokio::test]
async fn an_order_that_is_asked_about_is_judged_and_not_stored() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let answer = relay.post("/v1/validate/conversion", ORDER).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let sample = "this is a sample value of the documentation or an unfilled template";
    let warning = |name: &str, path: &str, message: &str| json!({"name": name, "instancePath": path, "message": message});
    let missing = "recommended members are missing: is_company, gender, uf, city, phone_hashed, \
                   social_id_hashed, first_name_hashed, last_name_hashed";
    let expected = json!({"valid": true, "errors": [], "warnings": [
        warning("placeholder_value", "/publisher_id", sample),
        warning("placeholder_value", "/user_id", sample),
        warning("placeholder_value", "/session_id", sample),
        warning("placeholder_value", "/email_hashed", sample),
        warning(
            "created_at_too_old",
            "/created_at",
            "the order is older than any attribution window",
        ),
        warning("recommended_missing", "", missing),
    ]});
    assert_eq!(answer.text(), expected.to_string());

    let refused = relay.post("/v1/validate/conversion", "{}").await;
    let real = relay.post("/v1/beacon/conversion", "{}").await;
    assert_eq!((refused.status, &refused.body), (422, &real.body));

    let status = relay.status().await;
    let sum = |part: &str| -> u64 {
        let sources = status["sources"].as_array().unwrap().iter();
        sources.map(|source| source[part].as_u64().unwrap()).sum()
    };
    assert_eq!((sum("received"), sum("accepted"), sum("rejected")), (1, 0, 1));
    assert_eq!(status["ledger"]["store"]["stored"], 0);
    let metrics = relay.metrics().await;
    for line in [
        r#"beacon_relay_requests_total{route="validate",status="200"} 1"#,
        r#"beacon_relay_requests_total{route="validate",status="422"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("beacon_relay_warnings_total{"), "nothing was accepted");
    relay.finish().await;
}

#[tokio::test]
async fn an_ad_event_that_is_asked_about_may_bring_the_query_of_its_url() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let names = |answer: &Value| -> Vec<String> {
        let warnings = answer["warnings"].as_array().unwrap().iter();
        warnings.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let alone = relay.post("/v1/validate/beacon", r#"{"user_id":"12345678901"}"#).await;
    assert_eq!(names(&alone.json()), ["user_id_bare_digits", "session_id_missing"]);
    let beside = relay.post("/v1/validate/beacon?session_id=s", r#"{"user_id":"u"}"#).await;
    assert_eq!(beside.text(), r#"{"valid":true,"errors":[],"warnings":[]}"#);
    let refused = relay.post("/v1/validate/beacon", "{}").await;
    assert_eq!((refused.status, refused.json()[2]["keyword"].as_str()), (422, Some("anyOf")));
    let get = relay.send(b"GET /v1/validate/beacon HTTP/1.1\r\nHost: r\r\n\r\n").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    relay.finish().await;
}

#[tokio::test]
async fn an_accepted_event_names_the_lints_that_fired_on_it() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let names = "created_at_too_old, placeholder_value, recommended_missing";
    let first = relay.post("/v1/beacon/conversion", ORDER).await;
    assert_eq!((first.status, first.header("beacon-relay-warnings")), (202, Some(names)));
    let again = relay.post("/v1/beacon/conversion", ORDER).await;
    assert_eq!((again.status, again.header("beacon-relay-warnings")), (202, Some(names)));
    assert_eq!(upstream.next_event().await.body, ORDER);
    let fine = r#"{"user_id":"u","session_id":"s"}"#;
    let click = relay.post("/v1/beacon/click/1", fine).await;
    assert_eq!((click.status, click.header("beacon-relay-warnings")), (202, None));
    let half = relay.post("/v1/beacon/view/1?user_id=u", r#"{"user_id":"u"}"#).await;
    assert_eq!(half.header("beacon-relay-warnings"), Some("session_id_missing"));
    relay.settled().await;
    let metrics = relay.metrics().await;
    for (source, rule) in [
        ("beacon-conversion", "created_at_too_old"),
        ("beacon-conversion", "placeholder_value"),
        ("beacon-conversion", "recommended_missing"),
        ("beacon-view", "session_id_missing"),
    ] {
        let line = format!("beacon_relay_warnings_total{{source=\"{source}\",rule=\"{rule}\"}} 1");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn a_publisher_of_several_sites_must_say_which() {
    let upstream = FakeUpstream::start().await;
    let config = "[[source]]\nname = \"beacon-conversion\"\nmulti_site = [\"pub-8\", \"pub-9\"]";
    let relay = TestRelay::start_with(config, &upstream).await;
    for path in ["/v1/beacon/conversion", "/v1/validate/conversion"] {
        let refused = relay.post(path, order("pub-9").to_string()).await;
        assert_eq!(refused.status, 422);
        assert_eq!(
            refused.text(),
            r##"[{"instancePath":"","keyword":"required","message":"must have required property 'brand'","params":{"missingProperty":"brand"},"schemaPath":"#/required"}]"##
        );
        let body = r#"{"publisher_id":"pub-8","user_id":5}"#;
        let errors = relay.post(path, body).await.json();
        let brief = |one: &Value| {
            let missing = one["params"]["missingProperty"].as_str().unwrap_or_default();
            format!("{}{missing}", one["instancePath"].as_str().unwrap())
        };
        let errors: Vec<String> = errors.as_array().unwrap().iter().map(brief).collect();
        let expected =
            ["order_id", "items", "created_at", "session_id", "channel", "email_hashed", "brand"];
        assert_eq!(errors[..7], expected);
        assert_eq!(errors[7..], ["/user_id"]);

        let mut with = order("pub-9");
        with["brand"] = "site-b".into();
        assert!(relay.post(path, with.to_string()).await.status < 300);
        assert!(relay.post(path, order("pub-1").to_string()).await.status < 300);
    }
    relay.settled().await;
    relay.finish().await;
}

#[test]
fn the_page_of_lints_and_the_code_name_the_same() {
    let page = include_str!("../../docs/LINTS.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let named: Vec<&str> = rows.map(|(name, _)| name).collect();
    assert_eq!(named, Lint::ALL.map(Lint::as_str));
}

fn run(args: &[&str], input: &[u8], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beacon-relay"));
    let command = command.arg("validate").args(args).envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that refuses its call does not read.
    let _unread = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A directory with a file of two lines, of which the second is refused, and the vendor's order.
fn files() -> (tempfile::TempDir, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let (lines, one) = (dir.path().join("orders.ndjson"), dir.path().join("order.json"));
    let good = order("p").to_string();
    std::fs::write(&lines, format!("{good}\n\n{{\"user_id\":\"canary\"\n{{}}\n")).unwrap();
    std::fs::write(&one, ORDER).unwrap();
    (dir, lines.display().to_string(), one.display().to_string())
}

#[test]
fn a_file_is_judged_line_by_line() {
    let (_dir, lines, one) = files();
    let valid = run(&[&one], b"", &[]);
    assert_eq!(valid.status.code(), Some(0), "{}", text(&valid.stderr));
    let told = text(&valid.stdout);
    for line in [
        format!("{one}:3: warning /publisher_id this is a sample value"),
        format!("{one}:26: warning /created_at the order is older"),
        format!("{one}:1: warning recommended members are missing: is_company"),
        "1 document: 1 valid, 0 invalid, 6 warnings\n".to_owned(),
    ] {
        assert!(told.contains(&line), "{line} is not in\n{told}");
    }

    let mixed = run(&[&lines, &one], b"", &[]);
    assert_eq!(mixed.status.code(), Some(1));
    let told = text(&mixed.stdout);
    for line in [
        format!("{lines}:1: warning /user_id"),
        format!("{lines}:3:19: error the document is not JSON (malformed_json)\n"),
        format!("{lines}:4: error must have required property 'user_id' (#/required)\n"),
        "4 documents: 2 valid, 2 invalid,".to_owned(),
    ] {
        assert!(told.contains(&line), "{line} is not in\n{told}");
    }
    assert!(!told.contains("canary"), "a value is shown");
    assert!(!told.contains('\u{1b}'), "a pipe is coloured");
}

#[test]
fn colours_go_where_they_are_wanted() {
    let (_dir, lines, _) = files();
    let forced = run(&[&lines], b"", &[("CLICOLOR_FORCE", "1")]);
    assert!(text(&forced.stdout).contains("\u{1b}[31merror"), "{}", text(&forced.stdout));
    let both = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
    assert!(!text(&run(&[&lines], b"", &both).stdout).contains('\u{1b}'));
    let programs = run(&["--json", &lines], b"", &[("CLICOLOR_FORCE", "1")]);
    assert!(!text(&programs.stdout).contains('\u{1b}'));
}

#[test]
fn programs_get_one_object_a_document() {
    let (_dir, lines, _) = files();
    let output = run(&["--json", &lines], b"", &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap());
    let told: Vec<Value> = told.collect();
    let brief: Vec<Value> = told
        .iter()
        .map(|one| {
            let count = |list: &str| one[list].as_array().unwrap().len();
            json!([one["line"], one["valid"], one["code"], count("errors"), count("warnings")])
        })
        .collect();
    assert_eq!(
        brief,
        [
            json!([1, true, null, 0, 5]),
            json!([3, false, "malformed_json", 0, 0]),
            json!([4, false, null, 8, 0]),
        ]
    );
    assert!(told.iter().all(|one| one["file"] == lines.as_str()));
    assert_eq!(told[2]["errors"][0]["schemaPath"], "#/required");
    assert_eq!(told[0]["warnings"][0]["name"], "placeholder_value");
}

#[test]
fn standard_input_and_arrays_are_taken() {
    let array = format!("[{},\n{}]", order("p"), order("q"));
    let output = run(&["-"], array.as_bytes(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("stdin:2: warning /user_id"));
    let event = br#"{"session_id":"s"}"#;
    let output = run(&["--kind", "beacon", "-"], event, &[]);
    assert_eq!(
        text(&output.stdout),
        "stdin:1: warning user_id is neither in the body nor in the URL (user_id_missing)\n\
         1 document: 1 valid, 0 invalid, 1 warning\n"
    );
    assert_eq!(run(&["-"], b"[]", &[]).status.code(), Some(0));
    let nothing = run(&["-"], b"", &[]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(text(&nothing.stdout).starts_with("stdin:1:1: error there is no document"));
}

#[test]
fn a_document_over_the_limit_is_told_and_its_neighbours_are_judged() {
    let large = format!("{{\"a\":\"{}\"}}\n{{}}\n", "x".repeat(1 << 20));
    let output = run(&["--json", "-"], large.as_bytes(), &[]);
    let told: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((told.len(), told[0]["code"].as_str()), (2, Some("body_too_large")));
    assert_eq!(told[1]["errors"].as_array().unwrap().len(), 8);
    let raised = [("BEACON_RELAY_SERVER__BODY_MAX", "2 MiB")];
    let output = run(&["--json", "-"], large.as_bytes(), &raised);
    assert!(!text(&output.stdout).contains("body_too_large"));
}

/// As the relay of this configuration would: raw identity is hashed for a client with a key alone.
#[test]
fn raw_identity_is_judged_as_the_configured_source_would() {
    let dir = tempfile::tempdir().unwrap();
    let mut raw = order("p");
    raw["email"] = "canary@example.com".into();
    let judged = |args: &[&str]| {
        let output = run(args, raw.to_string().as_bytes(), &[]);
        let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(!told.contains("canary"), "a value is shown: {told}");
        (output.status.code(), told)
    };
    let (code, told) = judged(&["-"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("error /email boolean schema is false"), "{told}");
    assert!(told.contains("raw identity is refused") && told.contains("--with-key"), "{told}");
    let (code, told) = judged(&["--with-key", "-"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("(hash_differs)"), "{told}");
    for (sources, expected) in [("beacon-click", Some(1)), ("beacon-conversion", Some(0))] {
        let config = dir.path().join("relay.toml");
        let digest = "0".repeat(64);
        let client = format!(
            "[[client]]\nname = \"c\"\nkey_sha256 = \"{digest}\"\nsources = [\"{sources}\"]\n"
        );
        std::fs::write(&config, client).unwrap();
        let (code, told) = judged(&["--config", config.to_str().unwrap(), "-"]);
        assert_eq!(code, expected, "{sources}: {told}");
    }
    raw["email"] = "canary".into();
    let output = run(&["--with-key", "-"], raw.to_string().as_bytes(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!text(&output.stderr).contains("raw identity is refused"));
}

#[test]
fn a_call_that_cannot_be_answered_says_why() {
    let (dir, _, one) = files();
    let none = dir.path().join("none.json").display().to_string();
    let output = run(&[&none, &one], b"", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with(&format!("cannot read {none}: ")));
    assert!(text(&output.stdout).contains("1 document: 1 valid"), "the other file is judged");
    assert_eq!(run(&[], b"", &[]).status.code(), Some(2));
    assert_eq!(run(&["--kind", "parcel", &one], b"", &[]).status.code(), Some(2));
    let directory = dir.path().display().to_string();
    assert_eq!(run(&[&directory], b"", &[]).status.code(), Some(2));
    let wrong = dir.path().join("relay.toml");
    std::fs::write(&wrong, "surprise = 1").unwrap();
    let output = run(&["--config", wrong.to_str().unwrap(), &one], b"", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("surprise is not a setting"));
}
