//! Raw identity of clients becomes digests at the door, from outside.

use std::path::Path;
use std::sync::Arc;

use beacon_relay::config::Layers;
use beacon_relay::event::EventKind;
use beacon_relay::pii::digest::sha256_hex;
use beacon_relay::sandbox::{Arrival, Filter};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::clients::clients;
use crate::support::{FakeUpstream, TestRelay};

const ORDERS: &str = "/v1/beacon/conversion";

/// An order without any identity; `with` is put in front of its last member.
fn order(id: &str, with: &str) -> String {
    format!(
        r#"{{"user_id":"u-1","order_id":"{id}" , "publisher_id":"xxx","items":[{{"sku":"s","quantity":1,"price":1899.00,"promotional_price":1.5E3}}],"created_at":"2023-01-01T09:20:00Z","session_id":"s-1",{with}"channel":"ecommerce" }}"#
    )
}

fn arrived(upstream: &FakeUpstream) -> Vec<Arc<Arrival>> {
    upstream.sandbox.events(&Filter::default())
}

fn head(key: &str) -> String {
    format!("Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n")
}

/// Raw members and the digests that they become, as the vendor's own pages and recomputation have
/// them. The plain values differ from their normal form in every way that a till would do it.
const RAW: &str = r#""email" : " Customer@EXAMPLE.com ", "phone":"(0xx11) 98765-4321","social_id":"529.982.247-25","first_name":" MARIA ","last_name":"Al\u006can","#;
const HASHED: &str = r#""email_hashed" : "e233d4a29013e9d87150c6237c6777bedf379ebf1acdc5d6126fec7e8bb74fb5", "phone_hashed":"38225ec3dccec4189659c110ddc4f3dc9c27539850cb6a9ddae31ae03a5cf441","social_id_hashed":"7281dfb5e8becca0a1c5e77c1268baacb0f983572b8c204fd8df72b24175b231","first_name_hashed":"94aec9fbed989ece189a7e172c9cf41669050495152bc4c1dbf2a38d7fd85627","last_name_hashed":"5fd726bc56c3e86906cba8814a9b97d97f2ab209c48d2441ca5ac9e52b09e630","#;

#[tokio::test]
async fn raw_identity_of_a_client_is_forwarded_as_digests_and_every_other_byte_as_it_came() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&clients(), &upstream).await;
    let answer = relay.post_with(ORDERS, &head("till-key"), order("o-1", RAW)).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(
        answer.header("beacon-relay-warnings"),
        Some("created_at_too_old, placeholder_value, recommended_missing")
    );
    let sent = upstream.next_event().await;
    assert_eq!(std::str::from_utf8(&sent.body).unwrap(), order("o-1", HASHED));
    relay.finish().await;
}

#[tokio::test]
async fn an_order_is_one_whether_its_identity_came_raw_or_hashed() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&clients(), &upstream).await;
    let first = relay.post_with(ORDERS, &head("till-key"), order("o-1", RAW)).await;
    let again = relay.post_with(ORDERS, &head("app-new"), order("o-1", HASHED)).await;
    assert_eq!((first.status, again.status), (202, 202));
    let id = |answer: &crate::support::RawAnswer| {
        answer.header("beacon-relay-event-id").map(str::to_owned)
    };
    assert_eq!(id(&first), id(&again));
    relay.settled().await;
    assert_eq!(arrived(&upstream).len(), 1);
    relay.finish().await;
}

#[tokio::test]
async fn raw_identity_of_a_stranger_is_a_violation_even_under_a_schema_that_forgot_it() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let with = r#""email_hashed":"x","email":"canary@example.com","phone":7,"#;
    let answer = relay.post(ORDERS, order("o-1", with)).await;
    let expected = json!([
        {
            "instancePath": "/email", "keyword": "false schema", "message": "boolean schema is false",
            "params": {}, "schemaPath": "#/properties/email/false schema"
        },
        {
            "instancePath": "/phone", "keyword": "false schema", "message": "boolean schema is false",
            "params": {}, "schemaPath": "#/properties/phone/false schema"
        }
    ]);
    assert_eq!((answer.status, answer.json()), (422, expected.clone()));
    relay.finish().await;

    let dir = TempDir::new().unwrap();
    let file = dir.path().join("own.json");
    std::fs::write(&file, r#"{"type":"object"}"#).unwrap();
    let own = format!("[[source]]\nname = \"beacon-conversion\"\nschema = {file:?}\n");
    let relay = TestRelay::start_with(&own, &upstream).await;
    let answer = relay.post(ORDERS, order("o-1", with)).await;
    assert_eq!((answer.status, answer.json()), (422, expected));
    relay.finish().await;
    assert!(arrived(&upstream).is_empty());
}

#[tokio::test]
async fn a_value_without_a_normal_form_is_told_beside_what_else_is_wrong() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&clients(), &upstream).await;
    let with = r#""email":"canary at example.com","phone":["canary"],"first_name":null,"uf":1,"#;
    for target in [ORDERS, "/v1/validate/conversion"] {
        let answer = relay.post_with(target, &head("till-key"), order("o-1", with)).await;
        assert_eq!(answer.status, 422);
        let errors = answer.json();
        let told: Vec<(&str, &str, &str)> = errors
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                let text = |key: &str| one[key].as_str().unwrap();
                (text("instancePath"), text("keyword"), text("schemaPath"))
            })
            .collect();
        assert_eq!(
            told,
            [
                ("/uf", "type", "#/properties/uf/type"),
                ("/email", "format", "#/properties/email/format"),
                ("/phone", "type", "#/properties/phone/type"),
                ("/first_name", "type", "#/properties/first_name/type"),
            ]
        );
        assert!(!answer.text().contains("canary"));
    }
    let metrics = relay.metrics().await;
    let counted = r#"beacon_relay_violations_total{source="beacon-conversion",keyword="format",field="email"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    relay.finish().await;
}

#[tokio::test]
async fn a_digest_of_the_senders_own_gives_way_with_a_warning() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&clients(), &upstream).await;
    let with = r#""email_hashed":"Canary@example.com","email":"customer@example.com","social_id":"111.111.111-11","#;
    let answer = relay.post_with(ORDERS, &head("till-key"), order("o-1", with)).await;
    let warnings = answer.header("beacon-relay-warnings").unwrap_or_default();
    assert!(warnings.starts_with("hash_differs, tax_id_doubtful, "), "{warnings}");
    let sent: Value = serde_json::from_slice(&upstream.next_event().await.body).unwrap();
    assert_eq!(
        sent["email_hashed"],
        "e233d4a29013e9d87150c6237c6777bedf379ebf1acdc5d6126fec7e8bb74fb5"
    );
    assert_eq!(sent.get("email"), None);
    relay.finish().await;
}

#[tokio::test]
async fn no_file_of_the_spool_ever_holds_a_raw_value() {
    let upstream = FakeUpstream::start().await;
    let relay =
        TestRelay::start_with(&format!("[spool]\nmax_bytes = \"8 MiB\"\n{}", clients()), &upstream)
            .await;
    // Half of what is accepted ends as dead letters, which have files of their own.
    upstream.misbehave(r#"{"status":400,"share":0.5}"#);
    let (mut accepted, mut bodies) = (0, Vec::new());
    for n in 0..40 {
        // Half of them are refused for something else, and some of those for the value itself.
        let with = format!(
            r#""email":"canary{n}{}","first_name":"Kanarie{n}","last_name":"k\u0061narie{n}","social_id":"7331733{n:04}","phone":"(11) 97331-73{n:02}",{}"#,
            if n % 8 == 7 { "" } else { "@raw.example" },
            if n % 2 == 0 { "" } else { r#""uf":1,"# }
        );
        bodies.push(order(&format!("o-{n}"), &with));
    }
    for body in &bodies {
        accepted += u32::from(relay.post_with(ORDERS, &head("till-key"), body).await.status == 202);
    }
    assert_eq!(accepted, 20);
    relay.settled().await;
    let metrics = relay.metrics().await;
    let status = relay.status().await.to_string();
    let data = relay.data_dir();
    let searched = search(&data, &["canary", "anarie", "7331733", "97331"]);
    assert!(searched > 20 * 400, "only {searched} bytes were searched");
    // Eleven digits, for a sum of seconds may have any seven.
    let numbers = (0..bodies.len()).map(|n| format!("7331733{n:04}"));
    for canary in numbers.chain(["canary".to_owned(), "anarie".to_owned()]) {
        assert!(!metrics.contains(&canary) && !status.contains(&canary));
    }
    for sent in arrived(&upstream) {
        let text = String::from_utf8(sent.body.to_vec()).unwrap();
        assert!(!text.contains("canary") && !text.contains("anarie") && !text.contains("7331"));
    }
    relay.finish().await;
}

#[test]
fn the_guides_examples_are_what_the_default_profile_makes_of_them() {
    let plan = Layers::default().plan().unwrap();
    let order = plan.sources.iter().find(|source| source.kind == EventKind::Conversion).unwrap();
    let profile = order.pii.as_ref().unwrap();
    let rows = include_str!("../../docs/IDENTITY.md").lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let text = |cell: &&str| cell.strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
        let [raw, normal, digest] = &cells[..] else { return None };
        text(digest).filter(|digest| digest.len() == 64).zip(text(raw).zip(text(normal)))
    });
    let mut held = 0;
    for (digest, (raw, normal)) in rows {
        assert_eq!(sha256_hex(&normal), digest, "{normal}");
        let by_any = profile.rules.iter().any(|rule| {
            rule.form.normal(&raw).is_ok_and(|found| found.text == normal && !found.doubtful)
        });
        assert!(by_any, "{raw} becomes {normal} by no form");
        held += 1;
    }
    assert_eq!(held, 11);
}

/// Looks for `canaries` in every file under `dir`; how many bytes were read.
pub(crate) fn search(dir: &Path, canaries: &[&str]) -> usize {
    let mut searched = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            searched += search(&path, canaries);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        // Segments are laid out ahead of time: most of their bytes are zero yet.
        for written in bytes.split(|byte| *byte == 0).filter(|written| !written.is_empty()) {
            let text = String::from_utf8_lossy(written);
            for canary in canaries {
                assert!(!text.contains(canary), "{canary} stands in {}", path.display());
            }
            searched += written.len();
        }
    }
    searched
}
