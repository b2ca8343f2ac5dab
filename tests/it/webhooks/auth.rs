//! Whoever does not show what a source asks for is turned away, and no secret is kept.

use beacon_relay::caller::KeyDigest;

use crate::support::{CountedUpstream, FakeUpstream, RawAnswer, TestRelay};

/// A source of a partner's that goes to a back office as it came in. Its secret is `hush`.
fn hook(upstream: &FakeUpstream, path: &str, auth: &str) -> String {
    let url = upstream.url("");
    format!(
        "[admin]\nreveal_token_env = \"ADMIN_TOKEN\"\n\
         [[destination]]\nname = \"backoffice\"\nbase_url = \"{url}\"\ntarget = \"verbatim\"\n\
         [[source]]\nname = \"hook\"\nkind = \"notification\"\npath = \"{path}\"\n\
         schema = \"schemas/ad-event.json\"\nto = [\"backoffice\"]\nauth = {auth}\n"
    )
}

fn is_unauthorized(answer: &RawAnswer) {
    assert_eq!((answer.status, &answer.json()["code"]), (401, &"unauthorized".into()));
}

const BODY: &str = r#"{"user_id":"u"}"#;

#[tokio::test]
async fn a_signed_body_is_taken_and_no_other() {
    let mut backoffice = FakeUpstream::start().await;
    let auth = "{ type = \"hmac\", digest = \"sha256\", header = \"X-Signature\", \
                over = [\"header:/x-time\", \"path:/shop\", \"payload\"], join = \".\", \
                secret_env = \"ADMIN_TOKEN\" }";
    let config = hook(&backoffice, "/hooks/{shop}", auth);
    let relay = TestRelay::start_with(&config, &backoffice).await;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"hush");
    let sign = |text: &str| -> String {
        let tag = ring::hmac::sign(&key, text.as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let signed = sign(&format!("7.a1.{BODY}"));
    let head =
        |time: &str, signature: &str| format!("X-Time: {time}\r\nX-Signature: {signature}\r\n");
    let post = |path: &'static str, head: String, body: &'static str| {
        let relay = &relay;
        async move { relay.post_with(path, &head, body).await }
    };
    assert_eq!(post("/hooks/a1", head("7", &signed), BODY).await.status, 202);
    let upper = format!("sha256={}", signed.to_uppercase());
    assert_eq!(post("/hooks/a1?x=1", head("7", &upper), BODY).await.status, 202);
    for (path, head, body) in [
        ("/hooks/a1", String::new(), BODY),
        ("/hooks/a1", format!("X-Signature: {signed}\r\n"), BODY),
        ("/hooks/a1", head("8", &signed), BODY),
        ("/hooks/a2", head("7", &signed), BODY),
        ("/hooks/a1", head("7", &signed), r#"{"user_id": "u"}"#),
        ("/hooks/a1", head("7", &sign("")), BODY),
        ("/hooks/a1", head("7", ""), BODY),
    ] {
        is_unauthorized(&post(path, head, body).await);
    }
    // Whether the sender is right is asked before what it says is.
    is_unauthorized(&post("/hooks/a1", head("7", &signed), "{}").await);
    is_unauthorized(&post("/hooks/a1", head("7", &signed), "{").await);
    let empty = sign("7.a1.{}");
    assert_eq!(post("/hooks/a1", head("7", &empty), "{}").await.status, 422);
    relay.settled().await;
    let targets: Vec<String> =
        backoffice.next_events(2).await.iter().map(|event| event.target.clone()).collect();
    assert_eq!(targets, ["/hooks/a1", "/hooks/a1?x=1"]);
    let rejected = "beacon_relay_items_total{source=\"hook\",outcome=\"rejected\"} 10";
    let metrics = relay.metrics().await;
    assert!(metrics.contains(rejected), "{metrics}");
    assert!(metrics.contains("requests_total{route=\"hook\",status=\"401\"} 9"), "{metrics}");
    relay.finish().await;
}

#[tokio::test]
async fn a_token_in_the_url_is_asked_for_and_goes_no_further() {
    let mut backoffice = FakeUpstream::start().await;
    let auth = "{ type = \"url-token\", query = \"token\", secret_env = \"ADMIN_TOKEN\" }";
    let relay = TestRelay::start_with(&hook(&backoffice, "/hook", auth), &backoffice).await;
    for target in ["/hook", "/hook?token=", "/hook?token=hus", "/hook?a=hush", "/hook?token=hush2"]
    {
        let answer = relay.post(target, BODY).await;
        is_unauthorized(&answer);
        assert!(!answer.text().contains("hus"), "{}", answer.text());
    }
    backoffice.misbehave(r#"{"status":400}"#);
    let with_key = "Idempotency-Key: k\r\n";
    let answer = relay.post_with("/hook?a=1&token=hush&b=%zz", with_key, BODY).await;
    assert_eq!(answer.status, 202);
    assert_eq!(backoffice.next_event().await.target, "/hook?a=1&b=%zz");
    relay.settled().await;
    // A token that replaced the other is no other request.
    assert_eq!(relay.post_with("/hook?a=1&b=%zz&%74oken=hush", with_key, BODY).await.status, 202);
    for path in ["/api/dead?reveal=true", "/api/status", "/metrics"] {
        let token = "Authorization: Bearer hush\r\n";
        let told = relay.admin(path, token).await;
        assert_eq!(told.status, 200, "{}", told.text());
        assert!(!told.text().contains("hush"), "{path}: {}", told.text());
    }
    let listed = relay.admin("/api/dead", "").await.json();
    assert_eq!(listed["letters"][0]["target"], "/hook?a=***&b=***");
    relay.finish().await;
}

#[tokio::test]
async fn a_partner_may_be_known_by_its_address_alone_or_beside() {
    let backoffice = CountedUpstream::start().await;
    let upstream = FakeUpstream::start().await;
    let auth = "[{ type = \"network\", allow = [\"203.0.113.0/24\", \"2001:db8::/32\"] }, \
                { type = \"url-token\", query = \"t\", secret_env = \"ADMIN_TOKEN\" }]";
    let config = format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n{}",
        hook(&upstream, "/hook", auth).replace(&upstream.url(""), &backoffice.url())
    );
    let relay = TestRelay::start_with(&config, &upstream).await;
    for (from, target, status) in [
        ("203.0.113.9", "/hook?t=hush", 202),
        ("2001:db8::1", "/hook?t=hush", 202),
        ("203.0.113.9", "/hook", 401),
        ("203.0.114.9", "/hook?t=hush", 401),
        ("203.0.113.9, 198.51.100.1", "/hook?t=hush", 401),
    ] {
        let head = format!("X-Forwarded-For: {from}\r\n");
        let answer = relay.post_with(target, &head, BODY).await;
        assert_eq!(answer.status, status, "{from} {target}");
    }
    assert_eq!(
        relay.post("/hook?t=hush", BODY).await.status,
        401,
        "the proxy itself is no partner"
    );
    relay.settled().await;
    assert_eq!(backoffice.seen().len(), 2);
    relay.finish().await;
}

#[tokio::test]
async fn a_partner_that_can_be_given_a_key_is_a_client() {
    let backoffice = FakeUpstream::start().await;
    let client = format!(
        "[[client]]\nname = \"partner\"\nkey_sha256 = \"{:x}\"\nsources = [\"hook\"]\n",
        KeyDigest::of(b"a-key")
    );
    let config = hook(&backoffice, "/hook", "{ type = \"clients\" }") + &client;
    let relay = TestRelay::start_with(&config, &backoffice).await;
    is_unauthorized(&relay.post("/hook", BODY).await);
    is_unauthorized(&relay.post_with("/hook", "X-Api-Key: other\r\n", BODY).await);
    let answer = relay.post_with("/hook", "Authorization: Bearer a-key\r\n", BODY).await;
    assert_eq!(answer.status, 202);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_source_that_is_off_is_nobodys_path() {
    let upstream = FakeUpstream::start().await;
    let auth = "{ type = \"url-token\", query = \"t\", secret_env = \"NOT_SET\" }";
    let off = hook(&upstream, "/hook", auth).replace("to = [\"backoffice\"]", "to = []");
    let relay = TestRelay::start_with(&off, &upstream).await;
    assert_eq!(relay.post("/hook?t=x", BODY).await.status, 404);
    assert!(!relay.metrics().await.contains("\"hook\""));
    relay.finish().await;
}
