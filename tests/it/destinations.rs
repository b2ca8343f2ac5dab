//! What a destination of the operator's own receives, and that each is served for itself.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use hyper::Method;
use sha2::Sha256;

use crate::support::{CountedUpstream, FakeUpstream, ORDER, TestRelay};

/// A back office that orders go to beside the events API.
fn backoffice(base_url: &str, more: &str) -> String {
    format!(
        "[[destination]]\nname = \"backoffice\"\nbase_url = \"{base_url}\"\n\
         retry = {{ wait_first = \"20 ms\", wait_max = \"100 ms\" }}\n{more}\n\
         [[source]]\nname = \"beacon-conversion\"\nto = [\"events-api\", \"backoffice\"]\n"
    )
}

#[tokio::test]
async fn a_back_office_can_tell_who_sent_an_order() {
    let (mut events_api, hooks) = (FakeUpstream::start().await, CountedUpstream::start().await);
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let more = format!(
        "method = \"PUT\"\nheaders = {{ x-shop = \"12\", x-api-key = {{ env = \"ADMIN_TOKEN\" }} }}\n\
         auth = {{ type = \"bearer\", token_env = \"ADMIN_TOKEN\" }}\n\
         sign = {{ type = \"standard-webhooks\", secret_file = {secret:?} }}"
    );
    let config = backoffice(&format!("{}/hooks/orders?shop=12", hooks.url()), &more);
    let relay = TestRelay::start_with(&config, &events_api).await;
    hooks.answer(503);
    let answer = relay.post("/v1/beacon/conversion", ORDER).await;
    assert_eq!(answer.status, 202);
    let id = answer.header("beacon-relay-event-id").unwrap().to_owned();
    relay.until(|_| hooks.seen().len() >= 2).await;
    hooks.answer(204);
    relay.settled().await;

    let seen = hooks.seen();
    for one in &seen {
        let header = |name: &str| one.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!((&one.method, &one.target[..]), (&Method::PUT, "/hooks/orders?shop=12"));
        assert_eq!(one.body, ORDER);
        assert_eq!(header("content-type"), Some("application/json"));
        assert_eq!((header("x-shop"), header("x-api-key")), (Some("12"), Some("hush")));
        assert_eq!(header("authorization"), Some("Bearer hush"));
        // A receiver tells repeats by the id, and checks what it received.
        assert_eq!(header("webhook-id"), Some(&id[..]), "over attempts too");
        let key = BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        let timestamp = header("webhook-timestamp").unwrap();
        mac.update(format!("{id}.{timestamp}.{ORDER}").as_bytes());
        let expected = format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()));
        assert_eq!(header("webhook-signature"), Some(&expected[..]));
    }
    let order = events_api.next_event().await;
    for name in ["authorization", "x-api-key", "webhook-signature"] {
        assert_eq!(order.headers.get(name), None, "{name} is the back office's alone");
    }
    relay.finish().await;
}

#[tokio::test]
async fn of_two_destinations_each_is_settled_for_itself() {
    let (mut events_api, hooks) = (FakeUpstream::start().await, CountedUpstream::start().await);
    let relay = TestRelay::start_with(&backoffice(&hooks.url(), ""), &events_api).await;
    hooks.answer(503);
    for n in 0..20 {
        let order = ORDER.replace(r#""123""#, &format!("\"{n}\""));
        assert_eq!(relay.post("/v1/beacon/conversion", &order).await.status, 202);
    }
    events_api.next_events(20).await;
    let one = |status: &serde_json::Value, index: usize| status["destinations"][index].clone();
    relay.until(|status| one(status, 0)["leases"]["delivered"] == 20).await;
    let status = relay.status().await;
    assert_eq!(one(&status, 1)["leases"]["delivered"], 0, "{status:#}");

    let refused = hooks.seen().len();
    hooks.answer(200);
    relay.settled().await;
    let delivered = &hooks.seen()[refused..];
    let mut bodies: Vec<_> = delivered.iter().map(|one| one.body.clone()).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 20, "each arrives there too");
    assert_eq!(events_api.sandbox.stats().accepted, 20, "and once where it had arrived");
    assert_eq!(events_api.sandbox.stats().requests, 20);
    relay.finish().await;
}

#[tokio::test]
async fn what_one_destination_refuses_another_still_gets() {
    let (mut events_api, hooks) = (FakeUpstream::start().await, CountedUpstream::start().await);
    let relay = TestRelay::start_with(&backoffice(&hooks.url(), ""), &events_api).await;
    hooks.answer(410);
    assert_eq!(relay.post("/v1/beacon/conversion", ORDER).await.status, 202);
    assert_eq!(events_api.next_event().await.body, ORDER);
    relay.settled().await;
    let status = relay.status().await;
    let dead: Vec<_> =
        status["destinations"].as_array().unwrap().iter().map(|one| &one["dead"]).collect();
    assert_eq!(dead, [0, 1], "{status:#}");
    assert_eq!(hooks.seen().len(), 1);
    relay.finish().await;
}

#[tokio::test]
async fn a_destination_is_told_of_the_client_what_it_asks_for() {
    let (mut events_api, hooks) = (FakeUpstream::start().await, CountedUpstream::start().await);
    let more = "forward_headers = [\"user-agent\", \"accept-language\"]\n\
                client_ip_header = \"x-forwarded-for\"";
    let config = backoffice(&hooks.url(), more);
    let mut relay = TestRelay::start_with(&config, &events_api).await;
    hooks.answer(503);
    let head = "Content-Type: application/json\r\nUser-Agent: Shop/3 (till)\r\n\
                Accept-Language: pt-BR\r\nX-Other: 1\r\nX-Forwarded-For: 8.8.8.8\r\n";
    assert_eq!(relay.post_with("/v1/beacon/conversion", head, ORDER).await.status, 202);
    let order = events_api.next_event().await;
    relay.until(|status| status["destinations"][1]["retrying"] == 1).await;
    relay.restart().await;
    hooks.answer(204);
    relay.settled().await;

    for one in hooks.seen() {
        let header = |name: &str| one.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("user-agent"), Some("Shop/3 (till)"));
        assert_eq!(header("accept-language"), Some("pt-BR"));
        assert_eq!(
            header("x-forwarded-for"),
            Some("127.0.0.1"),
            "what the client says is not believed"
        );
        assert_eq!(header("x-other"), None);
    }
    let own = concat!("beacon-relay/", env!("CARGO_PKG_VERSION"));
    assert_eq!(order.headers.get("user-agent"), Some(own), "who did not ask is not told");
    assert_eq!(order.headers.get("x-forwarded-for"), None);
    relay.finish().await;
}
