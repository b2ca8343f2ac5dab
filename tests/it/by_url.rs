//! `POST /v1/events`: ad events that name their URL.

use serde_json::{Value, json};

use crate::clients::clients;
use crate::refusals::problem;
use crate::support::{FakeUpstream, ORDER, RawAnswer, TestRelay};

const EVENTS: &str = "/v1/events";
const CLICK: &str = "https://events.newtail-media.newtail.com.br/v1/beacon/click/a1?pos=1&sign=0F";

fn event(url: &str, rest: &str) -> String {
    format!(r#"{{"event_url":{}{rest}}}"#, json!(url))
}

fn statuses(answer: &RawAnswer) -> Vec<(u64, String)> {
    let body = answer.json();
    let brief = |result: &Value| {
        let code = result["code"].as_str().unwrap_or_default().to_owned();
        (result["status"].as_u64().unwrap(), code)
    };
    body["results"].as_array().unwrap().iter().map(brief).collect()
}

#[tokio::test]
async fn an_event_goes_to_the_path_of_its_url_and_the_rest_is_its_body() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let own = upstream.url("/v9/beacon/view/%7Bx%7D?a=%zz&b='(|)&&session_id=s");
    for (url, rest, target, body) in [
        (CLICK, r#","user_id":"u""#, "/v1/beacon/click/a1?pos=1&sign=0F", r#"{"user_id":"u"}"#),
        (
            "HTTPS://Events-API.ads.vtex.com:443/v1/beacon/impression/é?cat=A > \"B\"#part",
            r#", "z":1.00,  "user_id":"u","n":[ ]"#,
            "/v1/beacon/impression/%C3%A9?cat=A%20%3E%20%22B%22",
            r#"{"z":1.00,  "user_id":"u","n":[ ]}"#,
        ),
        (&own, "", "/v9/beacon/view/%7Bx%7D?a=%zz&b='(|)&&session_id=s", ""),
        (
            &own,
            r#","user_id":"u""#,
            "/v9/beacon/view/%7Bx%7D?a=%zz&b='(|)&&session_id=s",
            r#"{"user_id":"u"}"#,
        ),
    ] {
        let answer = relay.post(EVENTS, event(url, rest)).await;
        assert_eq!((answer.status, answer.text()), (202, ""), "{url}");
        assert!(answer.header("beacon-relay-event-id").is_some());
        let arrived = upstream.next_event().await;
        assert_eq!(
            (arrived.target.as_str(), &arrived.body[..]),
            (target, body.as_bytes()),
            "{url}"
        );
    }
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn an_event_is_judged_as_if_it_had_come_to_its_own_path() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let published = relay.post("/v1/beacon/click/a1", "{}").await;
    for rest in ["", r#","channel":"site""#] {
        let answer = relay.post(EVENTS, event(CLICK, rest)).await;
        assert_eq!((answer.status, answer.json()), (422, published.json()), "{rest}");
    }
    let answer = relay.post(EVENTS, event(CLICK, r#","user_id":5"#)).await;
    assert_eq!((answer.status, &answer.json()[0]["instancePath"]), (422, &json!("/user_id")));
    for (body, keyword, path) in [
        ("{}", "required", "#/required"),
        (r#"{"event_url":5}"#, "type", "#/properties/event_url/type"),
        ("5", "type", "#/type"),
    ] {
        let answer = relay.post(EVENTS, body).await;
        let error = &answer.json()[0];
        assert_eq!(answer.status, 422, "{body}");
        assert_eq!((&error["keyword"], &error["schemaPath"]), (&json!(keyword), &json!(path)));
    }
    problem(&relay.post(EVENTS, "{").await, 400, "malformed_json");
    problem(&relay.post(EVENTS, event(CLICK, r#","event_url":"x""#)).await, 400, "duplicate_key");
    relay.finish().await;
}

#[tokio::test]
async fn a_url_that_leads_elsewhere_is_not_allowed() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let host = "events.newtail-media.newtail.com.br";
    let hostile = [
        "https://evil.example/v1/beacon/click/a1".to_owned(),
        format!("http://{host}/v1/beacon/click/a1"),
        format!("https://{host}:8443/v1/beacon/click/a1"),
        format!("https://user@{host}/v1/beacon/click/a1"),
        format!("https://user:pass@{host}/v1/beacon/click/a1"),
        format!("https://{host}@evil.example/v1/beacon/click/a1"),
        format!("https://{host}.evil.example/v1/beacon/click/a1"),
        format!("https://{host}./v1/beacon/click/a1"),
        format!("https://evil.example\\@{host}/v1/beacon/click/a1"),
        format!("https://evil.example#@{host}/v1/beacon/click/a1"),
        format!("https:\\\\{host}/v1/beacon/click/a1"),
        format!("https:/{host}/v1/beacon/click/a1"),
        format!("//{host}/v1/beacon/click/a1"),
        "/v1/beacon/click/a1".to_owned(),
        "javascript:alert(1)".to_owned(),
        "file:///v1/beacon/click/a1".to_owned(),
        "ftp://127.0.0.1/v1/beacon/click/a1".to_owned(),
        "https://127.0.0.1/v1/beacon/click/a1".to_owned(),
        "https://2130706433/v1/beacon/click/a1".to_owned(),
        "https://0x7f.1/v1/beacon/click/a1".to_owned(),
        "https://[::1]/v1/beacon/click/a1".to_owned(),
        "https://169.254.169.254/v1/beacon/click/a1".to_owned(),
        "https://еvents.newtail-media.newtail.com.br/v1/beacon/click/a1".to_owned(),
        format!("https://{host}/v1/beacon/click/a1\r\nX: y"),
        format!("https://{host}/v1/beacon/click/a1\n"),
        format!("https://{host}/v1/beacon/cl\tick/a1"),
        format!("https://{host}/v1/beacon/click/"),
        format!("https://{host}/v1/beacon/conversion"),
        format!("https://{host}/v1/beacon/foo/a1"),
        format!("https://{host}/v1/beacon/click/a1/b"),
        format!("https://{host}/v1/beacon/click/.."),
        format!("https://{host}/v1/beacon/click/%2e%2e"),
        format!("https://{host}/v1/beacon/click/a%2f..%2f..%2fadmin"),
        format!("https://{host}/v1/../beacon/click/a1"),
        format!("https://{host}/admin?/v1/beacon/click/a1"),
        format!("https://{host}\\v1\\beacon\\click\\a1"),
        String::new(),
    ];
    for url in &hostile {
        let answer = relay.post(EVENTS, event(url, r#","user_id":"canary-u1""#)).await;
        problem(&answer, 403, "event_url_not_allowed");
        assert!(!answer.text().contains("evil") && !answer.text().contains("canary"), "{url}");
    }
    assert_eq!(upstream.sandbox.stats().requests, 0);
    let status = relay.status().await;
    let events = status["sources"].as_array().unwrap().iter().find(|one| one["name"] == "events");
    assert_eq!(events.unwrap()["rejected"], hostile.len());
    relay.finish().await;
}

#[tokio::test]
async fn many_events_get_a_result_each() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let view = "https://newtail-media.newtail.com.br/v1/beacon/view/v1?user_id=u";
    let items = [
        event(CLICK, r#","session_id":"s""#),
        event(view, ""),
        event("https://evil.example/v1/beacon/click/1", ""),
        event(CLICK, ""),
        "7".to_owned(),
        format!("{{\"event_url\":\"{CLICK}\",\"x\":\"{}\"}}", "x".repeat(256 << 10)),
    ];
    let answer = relay.post(EVENTS, format!("[{}]", items.join(","))).await;
    let expected = [
        (202, ""),
        (202, ""),
        (403, "event_url_not_allowed"),
        (422, ""),
        (422, ""),
        (413, "body_too_large"),
    ];
    assert_eq!(answer.status, 207);
    let expected = expected.map(|(status, code)| (status, code.to_owned()));
    assert_eq!(statuses(&answer), expected);
    upstream.next_events(2).await;
    let atomic = format!("{EVENTS}?atomic=true");
    let answer = relay.post(&atomic, format!("[{},{}]", items[0], items[3])).await;
    assert_eq!(
        (answer.status, &answer.json()[0]["schemaPath"]),
        (422, &json!("#/items/anyOf/0/required"))
    );
    let answer = relay.post(&atomic, format!("[{},{}]", items[0], items[2])).await;
    problem(&answer, 403, "event_url_not_allowed");
    let lines = format!("{}\n{{\n", event(view, r#","session_id":"s""#));
    let answer = relay.post_with(EVENTS, "Content-Type: application/x-ndjson\r\n", &lines).await;
    assert_eq!(statuses(&answer), [(202, String::new()), (400, "malformed_json".to_owned())]);
    assert_eq!(upstream.next_event().await.target, "/v1/beacon/view/v1?user_id=u");
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_client_posts_by_url_only_where_it_may_post() {
    let upstream = FakeUpstream::start().await;
    let config = clients().replace("beacon-conversion", "beacon-click");
    let relay = TestRelay::start_with(&config, &upstream).await;
    let click = event(CLICK, r#","user_id":"u""#);
    let view = event(&CLICK.replace("click", "view"), r#","user_id":"u""#);
    problem(&relay.post(EVENTS, &click).await, 401, "unauthorized");
    let key = |key: &str| format!("X-Api-Key: {key}\r\n");
    for (body, app, till) in [(&click, 202, 202), (&view, 202, 403)] {
        assert_eq!(relay.post_with(EVENTS, &key("app-new"), body).await.status, app);
        assert_eq!(relay.post_with(EVENTS, &key("till-key"), body).await.status, till);
    }
    let answer = relay.post_with(EVENTS, &key("till-key"), format!("[{click},{view}]")).await;
    let expected = [(202, ""), (403, "source_not_allowed")];
    assert_eq!(statuses(&answer), expected.map(|(status, code)| (status, code.to_owned())));
    relay.settled().await;
    relay.finish().await;
    let relay = TestRelay::start_with(&clients(), &upstream).await;
    let answer = relay.post_with(EVENTS, &key("till-key"), &click).await;
    problem(&answer, 403, "source_not_allowed");
    relay.finish().await;
}

#[tokio::test]
async fn a_request_with_a_known_key_is_answered_as_before() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let key = |key: &str| format!("Content-Type: application/json\r\nIdempotency-Key: {key}\r\n");
    let orders = "/v1/beacon/conversion";
    let list = format!("[{ORDER},{{}},{ORDER}]");
    for (target, body) in [
        ("/v1/beacon/view/1", r#"{"user_id":"u"}"#.to_owned()),
        (EVENTS, event(&CLICK.replace("click", "view"), r#","user_id":"u""#)),
        (orders, list),
    ] {
        let id = |answer: &RawAnswer| answer.header("beacon-relay-event-id").map(str::to_owned);
        let first = relay.post_with(target, &key("k1"), &body).await;
        assert!([202, 207].contains(&first.status), "{}", first.text());
        upstream.next_event().await;
        for _ in 0..2 {
            let again = relay.post_with(target, &key("k1"), &body).await;
            assert_eq!((again.status, again.text()), (first.status, first.text()), "{target}");
            assert_eq!(id(&again), id(&first));
        }
        let other = body.replace("user_id", "session_id");
        if target != orders {
            problem(
                &relay.post_with(target, &key("k1"), &other).await,
                409,
                "idempotency_key_reused",
            );
            let fresh = relay.post_with(target, &key("k2"), &body).await;
            assert_ne!(id(&fresh), id(&first));
            upstream.next_event().await;
        }
    }
    let elsewhere = relay.post_with("/v1/beacon/view/2", &key("k1"), r#"{"user_id":"u"}"#).await;
    problem(&elsewhere, 409, "idempotency_key_reused");
    for bad in ["", &"k".repeat(256), "a\r\nIdempotency-Key: b"] {
        let answer = relay.post_with("/v1/beacon/view/1", &key(bad), r#"{"user_id":"u"}"#).await;
        problem(&answer, 400, "bad_idempotency_key");
    }
    relay.settled().await;
    assert_eq!(upstream.sandbox.stats().requests, 5);
    relay.finish().await;
}

/// Nothing was stored, so there is nothing to be known by: a client mends the body and keeps the key.
#[tokio::test]
async fn a_refused_request_leaves_its_key_free_for_the_mended_one() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let orders = "/v1/beacon/conversion";
    let order = |id: &str| ORDER.replace(r#""123""#, &format!("\"{id}\""));
    let cases = [
        (orders, "{}".to_owned(), order("1")),
        (orders, "[{},{}]".to_owned(), format!("[{},{{}}]", order("2"))),
        (
            "/v1/beacon/conversion?atomic=true",
            format!("[{},{{}}]", order("3")),
            format!("[{}]", order("3")),
        ),
        ("/v1/beacon/view/1", "{".to_owned(), r#"{"user_id":"u"}"#.to_owned()),
    ];
    for (at, (target, wrong, mended)) in cases.iter().enumerate() {
        let head = format!("Idempotency-Key: \"k{at}\"\r\n");
        for _ in 0..2 {
            let refused = relay.post_with(target, &head, wrong).await;
            assert!([400, 422].contains(&refused.status), "{target}: {}", refused.text());
        }
        let taken = relay.post_with(target, &head, mended).await;
        assert!([202, 207].contains(&taken.status), "{target}: {}", taken.text());
        let again = relay.post_with(target, &head, mended).await;
        assert_eq!((again.status, again.text()), (taken.status, taken.text()));
        // With another body it is another request, whatever would become of that.
        for other in [format!("{mended} "), wrong.clone()] {
            let other = relay.post_with(target, &head, other).await;
            problem(&other, 409, "idempotency_key_reused");
        }
    }
    relay.settled().await;
    assert_eq!(upstream.sandbox.stats().requests, 4);
    relay.finish().await;
}

/// Whether a key is known is told to nobody who has not signed.
#[tokio::test]
async fn a_stranger_learns_nothing_of_a_partners_keys() {
    let upstream = FakeUpstream::start().await;
    let config = "[[source]]\nname = \"olx-adverts\"\nto = [\"events-api\"]\n";
    let relay = TestRelay::start_with(config, &upstream).await;
    let body = r#"{"transaction_id":"b315c893-b42c-417a-9ecd-f060cb44cf13",
        "object_id":"4f5ee709-28d7-4b68-8716-dd912157919f"}"#;
    let signed = "Idempotency-Key: k\r\nX-Signature: f8e4392be361d8659adb3c34a30d879c3adbb4e5\r\n";
    assert_eq!(relay.post_with("/webhooks/olx", signed, body).await.status, 200);
    let unsigned = "Idempotency-Key: k\r\n";
    for body in [body, "{}"] {
        let answer = relay.post_with("/webhooks/olx", unsigned, body).await;
        problem(&answer, 401, "unauthorized");
    }
    let other = format!("{body} ");
    let answer = relay.post_with("/webhooks/olx", signed, &other).await;
    problem(&answer, 409, "idempotency_key_reused");
    relay.settled().await;
    relay.finish().await;
}

/// Two strangers, and two visitors of one page, who happen upon one key or try out another's.
#[tokio::test]
async fn who_is_not_known_meets_no_keys_of_another_address() {
    let upstream = FakeUpstream::start().await;
    let config = "[server]\nauth = \"open\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
                  [[client]]\nname = \"page\"\norigins = [\"https://shop.example\"]\n";
    let relay = TestRelay::start_with(config, &upstream).await;
    let (here, there, page) = ("192.0.2.1", "192.0.2.2", "Origin: https://shop.example\r\n");
    let (own, other) = (r#"{"user_id":"u"}"#, r#"{"user_id":"v"}"#);
    let mut ids = Vec::new();
    for (from, more, body, status) in [
        (here, "", own, 202),
        (there, "", other, 202),
        (here, page, other, 202),
        (there, page, own, 202),
        // Each of them has its own.
        (here, "", own, 202),
        (there, page, own, 202),
        (here, "", other, 409),
        (there, page, other, 409),
    ] {
        let head = format!("X-Forwarded-For: {from}\r\nIdempotency-Key: 1\r\n{more}");
        let answer = relay.post_with("/v1/beacon/view/1", &head, body).await;
        assert_eq!(answer.status, status, "{from} {more} {body}: {}", answer.text());
        ids.push(answer.header("beacon-relay-event-id").map(str::to_owned));
    }
    assert_eq!((&ids[4], &ids[5]), (&ids[0], &ids[3]));
    relay.settled().await;
    // The store wanted for nothing.
    let refused = "beacon_relay_items_total{source=\"beacon-view\",outcome=\"rejected\"} 2";
    let metrics = relay.metrics().await;
    assert!(metrics.contains(refused), "{metrics}");
    assert_eq!(upstream.sandbox.stats().requests, 4);
    relay.finish().await;
}

#[tokio::test]
async fn requests_with_one_key_at_once_store_once() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let head = "Idempotency-Key: k\r\n";
    let body = r#"{"user_id":"u"}"#;
    let post = || relay.post_with("/v1/beacon/view/1", head, body);
    let (a, b, c, d) = tokio::join!(post(), post(), post(), post());
    let ids = [a, b, c, d].map(|answer| {
        assert_eq!(answer.status, 202);
        answer.header("beacon-relay-event-id").unwrap().to_owned()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    relay.settled().await;
    assert_eq!(upstream.sandbox.stats().requests, 1);
    relay.finish().await;
}
