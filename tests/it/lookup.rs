//! A notification that never came: awaited over a restart, looked up once it is late, and never twice.

use beacon_relay::config::Layers;
use serde_json::json;

use crate::support::{
    CountedUpstream, FakeUpstream, FakeVendor, RawAnswer, SOON, TestRelay, TunnelProxy,
};

const PAGE: &str = include_str!("../../docs/partners/olx.md");
const ID: &str = "4f5ee709-28d7-4b68-8716-dd912157919f";

/// The lookup that the page tells users to write, against a fake of the API that it names; only
/// addresses, the rate and the waits are the test's own.
fn olx(vendor: &FakeVendor, backoffice: &CountedUpstream, more: &str) -> String {
    let (_, table) = PAGE.split_once("```toml\n[[source]]\n").unwrap();
    let table = table.split_once("```").unwrap().0;
    let table = table
        .replace("https://api.olxgroup.com", &vendor.url())
        .replace("rate = \"1/s\"", &format!("rate = \"200/s\"\n{more}"))
        .replace(
            "{ wait_first = \"1 m\", wait_max = \"1 h\" }",
            "{ wait_first = \"5 ms\", wait_max = \"20 ms\" }",
        );
    assert!(table.contains("5 ms") && table.contains("200/s"), "the page has them");
    let url = backoffice.url();
    format!("[[destination]]\nname = \"backoffice\"\nbase_url = \"{url}/olx\"\n[[source]]\n{table}")
}

async fn awaits(relay: &TestRelay, source: &str, id: &str, deadline: &str) -> RawAnswer {
    let body = json!({ "source": source, "id": id, "deadline": deadline }).to_string();
    relay.steer("POST", "/api/awaited", "", &body).await
}

async fn awaited(relay: &TestRelay) -> Vec<String> {
    let answer = relay.admin("/api/awaited?source=olx-adverts", "").await.json();
    let ids = answer["awaited"].as_array().unwrap().iter();
    ids.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

/// Waits until nothing is awaited of any source.
async fn nothing_awaited(relay: &TestRelay) {
    let waiting = async {
        loop {
            let status = relay.admin("/api/status", "").await.json();
            let counts = status["awaited"].as_array().unwrap().iter();
            if counts.map(|one| &one["count"]).all(|count| *count == 0) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap();
}

async fn has_metric(relay: &TestRelay, line: &str) {
    let text = relay.metrics().await;
    assert!(text.contains(line), "{line} is not in\n{text}");
}

const POSTED: &str = r#"{"transaction_id":"b315c893","message":"Advert status information",
    "data":{"uuid":"4f5ee709","last_action_status":"POSTED","last_action_at":"2018-05-03 14:04:15",
    "state":{"code":"active","visible_in_profile":"true","ttl":1.50},"last_error":null}}"#;

#[tokio::test]
async fn what_did_not_come_is_asked_for_until_it_is_told() {
    let (vendor, backoffice) = (FakeVendor::start().await, CountedUpstream::start().await);
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&olx(&vendor, &backoffice, ""), &upstream).await;
    let pending = POSTED.replace("POSTED", "TO_POST");
    vendor.answer(&[404, 500, 429, 401], &[&pending, POSTED]);
    assert_eq!(awaits(&relay, "olx-adverts", ID, "0 s").await.status, 201);
    nothing_awaited(&relay).await;
    relay.settled().await;
    let seen = backoffice.seen();
    let wanted = format!(
        "{{\"transaction_id\":\"b315c893\",\"object_id\":\"{ID}\",\"flow\":\"publish_advert\",\
         \"event_type\":\"advert_posted_success\",\
         \"data\":{{\"code\":\"active\",\"visible_in_profile\":\"true\",\"ttl\":1.50}},\
         \"looked_up\":true}}"
    );
    assert_eq!(seen.len(), 1);
    assert_eq!((&*seen[0].target, std::str::from_utf8(&seen[0].body).unwrap()), ("/olx", &*wanted));
    let (asked, tokens) = vendor.asked();
    // The token that was taken back was asked for anew, and the request made again, in one attempt.
    assert_eq!((asked.len(), tokens), (6, 2), "{asked:?}");
    assert!(asked.iter().all(|id| id == ID));
    for outcome in ["not_found", "failed", "throttled", "pending", "stored"] {
        let line =
            format!("beacon_relay_lookups_total{{source=\"olx-adverts\",outcome=\"{outcome}\"}} 1");
        has_metric(&relay, &line).await;
    }
    // The vendor tells the same again, in another transaction: that is a repeat.
    vendor.answer(&[], &[&POSTED.replace("b315c893", "06ba5533")]);
    assert_eq!(awaits(&relay, "olx-adverts", ID, "2020-01-01T00:00:00Z").await.status, 201);
    nothing_awaited(&relay).await;
    relay.settled().await;
    assert_eq!(backoffice.seen().len(), 1);
    has_metric(
        &relay,
        "beacon_relay_lookups_total{source=\"olx-adverts\",outcome=\"duplicate\"} 1",
    )
    .await;
    has_metric(&relay, "beacon_relay_awaited{source=\"olx-adverts\"} 0").await;
    relay.finish().await;
}

#[tokio::test]
async fn what_comes_is_awaited_no_longer_and_the_rest_outlives_a_restart() {
    let (vendor, backoffice) = (FakeVendor::start().await, CountedUpstream::start().await);
    let upstream = FakeUpstream::start().await;
    let mut relay =
        TestRelay::start_with(&olx(&vendor, &backoffice, "awaited_max = 2"), &upstream).await;
    for (id, deadline, status) in [
        (ID, "1 h", 201),
        ("other/1", "1 h", 201),
        ("other/1", "2 h", 200),
        ("third", "1 h", 503),
        ("..", "1 h", 400),
        ("x", "soon", 400),
    ] {
        let answer = awaits(&relay, "olx-adverts", id, deadline).await;
        assert_eq!(answer.status, status, "{id}: {}", answer.text());
    }
    assert_eq!(awaits(&relay, "beacon-click", "1", "1 h").await.status, 404);
    relay.restart().await;
    assert_eq!(awaited(&relay).await, [ID, "other/1"]);
    let signature = "X-Signature: f8e4392be361d8659adb3c34a30d879c3adbb4e5\r\n";
    let body = format!(
        "{{\"object_id\":\"{ID}\",\"transaction_id\":\"b315c893-b42c-417a-9ecd-f060cb44cf13\"}}"
    );
    assert_eq!(relay.post_with("/webhooks/olx", signature, &body).await.status, 200);
    assert_eq!(awaited(&relay).await, ["other/1"]);
    let path = "/api/awaited?source=olx-adverts&id=other%2F1";
    let statuses = [200, 404];
    for status in statuses {
        assert_eq!(relay.steer("DELETE", path, "", "").await.status, status);
    }
    let record = relay.admin("/api/audit", "").await.json();
    assert_eq!(record["entries"][0]["action"], "forget_awaited");
    relay.restart().await;
    assert_eq!(awaited(&relay).await, [""; 0]);
    assert_eq!(vendor.asked().0, [""; 0], "nothing was late");
    relay.settled().await;
    relay.finish().await;
}

/// By default both are delivered, for an advert may be published twice; or the first, as the page
/// shows.
#[tokio::test]
async fn a_real_one_that_comes_after_its_lookup_is_as_the_page_tells() {
    let (_, rule) = PAGE.split_once("```toml\ndedupe = ").unwrap();
    let rule = format!("dedupe = {}", rule.lines().next().unwrap());
    for (more, arrive) in [("", 2), (&*rule, 1)] {
        let (vendor, backoffice) = (FakeVendor::start().await, CountedUpstream::start().await);
        let upstream = FakeUpstream::start().await;
        let config = olx(&vendor, &backoffice, "");
        let config = config.replace("[source.lookup]", &format!("{more}\n[source.lookup]"));
        let relay = TestRelay::start_with(&config, &upstream).await;
        vendor.answer(&[], &[POSTED]);
        awaits(&relay, "olx-adverts", ID, "0 s").await;
        nothing_awaited(&relay).await;
        let signature = "X-Signature: f8e4392be361d8659adb3c34a30d879c3adbb4e5\r\n";
        let real = format!(
            "{{\"object_id\":\"{ID}\",\"event_type\":\"advert_posted_success\",\
             \"transaction_id\":\"b315c893-b42c-417a-9ecd-f060cb44cf13\",\"event_timestamp\":1572969379671}}"
        );
        for _ in 0..2 {
            let answer = relay.post_with("/webhooks/olx", signature, &real).await;
            assert_eq!(answer.status, 200, "{more}");
        }
        relay.settled().await;
        let seen = backoffice.seen();
        assert_eq!(seen.len(), arrive, "{more}");
        let is_looked_up = |body: &[u8]| body.ends_with(b",\"looked_up\":true}");
        assert_eq!(seen.iter().filter(|one| is_looked_up(&one.body)).count(), 1);
        relay.finish().await;
    }
}

/// Token and answer, with a certificate of the partner's own.
#[tokio::test]
async fn a_partner_behind_a_proxy_is_asked_in_a_tunnel() {
    let (vendor, backoffice) = (FakeVendor::start_tls().await, CountedUpstream::start().await);
    let (upstream, proxy) = (FakeUpstream::start().await, TunnelProxy::start().await);
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, vendor.authority_pem()).unwrap();
    let way = format!(
        "ca_file = {ca_file:?}\nproxy = \"{}\"\nproxy_credentials_env = \"ADMIN_TOKEN\"",
        proxy.url()
    );
    let relay = TestRelay::start_with(&olx(&vendor, &backoffice, &way), &upstream).await;
    vendor.answer(&[401], &[POSTED]);
    awaits(&relay, "olx-adverts", ID, "0 s").await;
    nothing_awaited(&relay).await;
    relay.settled().await;
    assert_eq!(backoffice.seen().len(), 1);
    assert_eq!(vendor.asked(), (vec![ID.to_owned(); 2], 2));
    let heads = proxy.heads();
    let host = vendor.url().replace("https://", "");
    assert!(!heads.is_empty());
    for head in heads {
        assert!(head.starts_with(&format!("CONNECT {host} ")), "{head}");
        // `hush`, of the environment of the tests.
        assert!(head.contains("Proxy-Authorization: Basic aHVzaA==\r\n"), "{head}");
    }
    relay.finish().await;
    // A proxy that is not there is a vendor that does not answer.
    let gone = way.replace(&proxy.url(), "http://127.0.0.1:1") + "\nattempts_max = 1";
    let relay = TestRelay::start_with(&olx(&vendor, &backoffice, &gone), &upstream).await;
    awaits(&relay, "olx-adverts", ID, "0 s").await;
    nothing_awaited(&relay).await;
    let line = "beacon_relay_lookups_total{source=\"olx-adverts\",outcome=\"failed\"} 1";
    has_metric(&relay, line).await;
    assert_eq!(vendor.asked().0.len(), 2);
    relay.finish().await;
}

#[tokio::test]
async fn what_nobody_tells_is_given_up() {
    let (vendor, backoffice) = (FakeVendor::start().await, CountedUpstream::start().await);
    let upstream = FakeUpstream::start().await;
    let config = olx(&vendor, &backoffice, "attempts_max = 3");
    let relay = TestRelay::start_with(&config, &upstream).await;
    vendor.answer(&[403, 302], &["<html>"]);
    awaits(&relay, "olx-adverts", ID, "0 s").await;
    nothing_awaited(&relay).await;
    for outcome in ["refused", "failed", "unusable", "gave_up"] {
        let line =
            format!("beacon_relay_lookups_total{{source=\"olx-adverts\",outcome=\"{outcome}\"}} 1");
        has_metric(&relay, &line).await;
    }
    assert_eq!(backoffice.seen().len(), 0);
    relay.finish().await;
}

/// A partner whose notification and answer have the same key.
#[tokio::test]
async fn one_that_came_before_makes_the_looked_up_a_duplicate() {
    let (vendor, upstream) = (FakeVendor::start().await, FakeUpstream::start().await);
    let backoffice = CountedUpstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    let schema = dir.path().join("s.json");
    std::fs::write(&schema, r#"{"type":"object","required":["id"]}"#).unwrap();
    let config = format!(
        "[[destination]]\nname = \"backoffice\"\nbase_url = \"{}/olx\"\n\
         [[source]]\nname = \"parcels\"\nkind = \"notification\"\npath = \"/webhooks/parcel\"\n\
         schema = {:?}\nauth = {{ type = \"none\" }}\nto = [\"backoffice\"]\n\
         dedupe = {{ key = [\"body:/id\", \"body:/state\"], window = \"1 h\" }}\n\
         [source.lookup]\nurl = \"{}/advert/v1/{{id}}/meta\"\nawaited = \"body:/id\"\n\
         rate = \"100/s\"\nheaders = [{{ name = \"x-api-key\", value = \"api-key\" }}, \
         {{ name = \"authorization\", value = \"Bearer t0\" }}]\n\
         members = [{{ to = \"id\", value = \"{{id}}\" }}, {{ to = \"state\", from = \"/s\" }}]\n",
        backoffice.url(),
        schema.display(),
        vendor.url()
    );
    let relay = TestRelay::start_with(&config, &upstream).await;
    vendor.answer(&[], &[r#"{"s":"delivered"}"#]);
    let real = r#"{"id":"P 1","state":"delivered","by":"Ana"}"#;
    assert_eq!(relay.post("/webhooks/parcel", real).await.status, 202);
    awaits(&relay, "parcels", "P 1", "0 s").await;
    nothing_awaited(&relay).await;
    has_metric(&relay, "beacon_relay_lookups_total{source=\"parcels\",outcome=\"duplicate\"} 1")
        .await;
    assert_eq!(vendor.asked(), (vec!["P 1".to_owned()], 0));
    relay.settled().await;
    assert_eq!(backoffice.seen().len(), 1);
    relay.finish().await;
}

#[tokio::test]
async fn a_person_asks_by_hand() {
    let (vendor, backoffice) = (FakeVendor::start().await, CountedUpstream::start().await);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    std::fs::write(&file, olx(&vendor, &backoffice, "")).unwrap();
    let run = async |args: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_beacon-relay"));
        command.args(args).arg("--config").arg(&file);
        for (name, value) in [
            ("OLX_SECRET", "s"),
            ("OLX_API_KEY", "api-key"),
            ("OLX_CLIENT_ID", "client"),
            ("OLX_CLIENT_SECRET", "hush"),
        ] {
            command.env(name, value);
        }
        let output = command.output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    vendor.answer(&[404], &[POSTED]);
    let (code, told, fault) = run(&["lookup", "olx-adverts", ID, "--json"]).await;
    assert_eq!((code, &*told), (Some(1), ""));
    assert!(fault.contains("not_found") && !fault.contains("hush"), "{fault}");
    let (code, told, fault) = run(&["lookup", "olx-adverts", ID, "--json"]).await;
    assert_eq!(code, Some(0), "{fault}");
    assert!(told.contains(ID) && told.contains("\"ttl\":1.50},\"looked_up\":true}"), "{told}");
    let (code, _, fault) = run(&["lookup", "impact-events", ID]).await;
    assert_eq!(code, Some(1));
    assert!(fault.contains("table; those that have: olx-adverts"), "{fault}");
    let (_, checked, _) = run(&["check"]).await;
    assert!(checked.contains("looked up when late: 200/s, 20 attempts"), "{checked}");
    // A running relay asks for it at once.
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&olx(&vendor, &backoffice, ""), &upstream).await;
    let url = format!("http://{}", relay.admin_addr());
    let (code, _, fault) = run(&["lookup", "olx-adverts", ID, "--send", "--url", &url]).await;
    assert_eq!(code, Some(0), "{fault}");
    nothing_awaited(&relay).await;
    relay.settled().await;
    assert_eq!(backoffice.seen().len(), 1);
    relay.finish().await;
}

#[tokio::test]
async fn a_proxy_never_reads_what_is_asked() {
    let (vendor, backoffice) = (FakeVendor::start().await, CountedUpstream::start().await);
    for (way, told) in [
        ("proxy = \"http://127.0.0.1:1\"", "would read what goes to a URL without TLS"),
        ("proxy = \"https://127.0.0.1:1\"", "is spoken to over TLS"),
        ("proxy_credentials_env = \"ADMIN_TOKEN\"", "stands without a proxy"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("relay.toml");
        std::fs::write(&file, olx(&vendor, &backoffice, way)).unwrap();
        let environment = ["OLX_SECRET", "OLX_API_KEY", "OLX_CLIENT_ID", "OLX_CLIENT_SECRET"]
            .into_iter()
            .chain(["ADMIN_TOKEN"])
            .map(|name| (name.to_owned(), "s".to_owned()));
        let layers =
            Layers { file: Some(file), environment: environment.collect(), ..Layers::default() };
        let faults = layers.plan().unwrap_err().to_string();
        assert!(faults.contains(told) && faults.contains("proxy"), "{faults}");
    }
}

#[test]
fn a_table_with_faults_is_refused_with_all_of_them() {
    let table = "[[source]]\nname = \"olx-adverts\"\nto = [\"events-api\"]\n[source.lookup]\n\
                 url = \"http://api.example.net/{id}\"\nawaited = \"payload\"\nrat = \"1/s\"\n\
                 members = [{ to = \"looked_up\", value = \"x\" }, { to = \"a\" }]\n\
                 headers = [{ name = \"x\", value_env = \"ABSENT\" }]\n\
                 [source.lookup.token]\nurl = \"https://api.example.net\"\n";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    std::fs::write(&file, table).unwrap();
    let environment = vec![("OLX_SECRET".to_owned(), "s".to_owned())];
    let layers = Layers { file: Some(file), environment, ..Layers::default() };
    let told = layers.plan().unwrap_err().to_string();
    for part in [
        "would send credentials in plain",
        "lookup.awaited is no id",
        "lookup.rate is missing",
        "did you mean \"rate\"",
        "is what the relay marks",
        "write one of from",
        "names the variable ABSENT",
        "client_id_env is missing",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
}
