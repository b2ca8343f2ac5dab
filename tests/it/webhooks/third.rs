//! A further partner is a table and a schema: `docs/partners/your-own.md`, as it is printed there.

use crate::support::{CountedUpstream, FakeUpstream, TestRelay};

const PAGE: &str = include_str!("../../../docs/partners/your-own.md");

/// The block of the page behind this fence.
fn block(fence: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("```{fence}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

#[tokio::test]
async fn a_table_and_a_schema_take_in_a_further_partner() {
    let (backoffice, upstream) = (CountedUpstream::start().await, FakeUpstream::start().await);
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("schemas")).unwrap();
    std::fs::write(dir.path().join("schemas/parcel.json"), block("json")).unwrap();
    // Only the addresses and the variable are the test's own.
    let config = block("toml")
        .replace("https://backoffice.example.net", &backoffice.url())
        .replace("PARCEL_SECRET", "ADMIN_TOKEN")
        .replace("schemas/parcel.json", dir.path().join("schemas/parcel.json").to_str().unwrap());
    let relay = TestRelay::start_with(&config, &upstream).await;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"hush");
    let sign = |body: &str| {
        let tag = ring::hmac::sign(&key, body.as_bytes());
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("X-Parcel-Signature: sha256={hex}\r\n")
    };
    let body = r#"{"parcel":"P-1","state":"delivered","at":"2026-11-21T12:00:00Z"}"#;
    for _ in 0..2 {
        assert_eq!(relay.post_with("/webhooks/parcel", &sign(body), body).await.status, 200);
    }
    let wrong = r#"{"parcel":"P-1","state":5}"#;
    assert_eq!(relay.post_with("/webhooks/parcel", &sign(body), wrong).await.status, 401);
    let refused = relay.post_with("/webhooks/parcel", &sign(wrong), wrong).await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json()[0]["instancePath"], "/state");
    relay.settled().await;
    let seen = backoffice.seen();
    assert_eq!(seen.len(), 1, "the same twice is one");
    assert_eq!((&*seen[0].target, &seen[0].body[..]), ("/hooks/parcel", body.as_bytes()));
    relay.finish().await;
}
