//! `openapi.yaml` against the relay, both ways: every documented status can be provoked, and
//! nothing is answered that is not documented.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use beacon_relay::caller::{KeyDigest, Limiter};
use beacon_relay::clock::Clock;
use beacon_relay::config::Layers;
use beacon_relay::forward::Forwarder;
use beacon_relay::http::admin::{Access, Admin, Jobs};
use beacon_relay::http::auth::Guard;
use beacon_relay::http::receive::{Door, Limits};
use beacon_relay::http::served::{Served, Serving};
use beacon_relay::http::status::Status;
use beacon_relay::http::{self, listener};
use beacon_relay::intake::Intake;
use beacon_relay::ledger::Ledger;
use beacon_relay::lookup::Lookups;
use beacon_relay::metrics::Metrics;
use beacon_relay::source::Source;
use beacon_relay::spool::Spool;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::{BrokenSpool, FakeUpstream, ORDER, RawAnswer, RawClient, TestRelay, post};

/// Path as documented, method, status.
type Answered = BTreeSet<(String, String, u16)>;

fn document() -> Value {
    serde_saphyr::from_str(http::OPENAPI).unwrap()
}

fn documented() -> Answered {
    let document = document();
    let mut all = Answered::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "delete"] {
            let Some(operation) = item.get(method) else { continue };
            for status in operation["responses"].as_object().unwrap().keys() {
                all.insert((path.clone(), method.to_owned(), status.parse().unwrap()));
            }
        }
    }
    all
}

const BY_URL: &str =
    r#"{"event_url":"https://events-api.ads.vtex.com/v1/beacon/view/1","user_id":"u"}"#;

const CONVERSION: &str = "/v1/conversions/{publisher_id}/{order_id}";

const EVENTS: [(&str, &str, &str); 5] = [
    ("/v1/beacon/conversion", "/v1/beacon/conversion", ORDER),
    ("/v1/events", "/v1/events", BY_URL),
    ("/{version}/beacon/impression/{ad_id}", "/v1/beacon/impression/1", r#"{"user_id":"u"}"#),
    ("/{version}/beacon/view/{ad_id}", "/v9/beacon/view/1?x", r#"{"user_id":"u"}"#),
    ("/{version}/beacon/click/{ad_id}", "/v1/beacon/click/a-b", r#"{"user_id":"u"}"#),
];

const ASKED: [(&str, &str, &str); 2] = [
    ("/v1/validate/conversion", "/v1/validate/conversion", ORDER),
    ("/v1/validate/beacon", "/v1/validate/beacon", r#"{"user_id":"u"}"#),
];

/// Notes an answer and holds its body against its documented media type.
fn note(seen: &mut Answered, document: &Value, path: &str, method: &str, answer: &RawAnswer) {
    let response = &document["paths"][path][method]["responses"][answer.status.to_string()];
    let response = match response["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => response,
    };
    let media = answer.header("content-type").map(|value| value.split(';').next().unwrap());
    match response.get("content").and_then(Value::as_object) {
        // One answer to one event, and another to many.
        Some(_) if media.is_none() && path == "/v1/events" => assert!(answer.body.is_empty()),
        Some(content) => {
            let media = media.unwrap_or("nothing");
            assert!(content.contains_key(media), "{method} {path} {} is {media}", answer.status);
            if media == "application/problem+json" {
                let codes = &document["components"]["schemas"]["Problem"]["properties"]["code"];
                let code = &answer.json()["code"];
                assert!(codes["enum"].as_array().unwrap().contains(code), "{code}");
            }
        }
        None => assert_eq!((media, answer.body.len()), (None, 0), "{method} {path}"),
    }
    seen.insert((path.to_owned(), method.to_owned(), answer.status));
}

#[tokio::test]
async fn every_documented_answer_is_given_and_no_other() {
    let document = document();
    let mut seen = Answered::new();
    let upstream = FakeUpstream::start().await;
    let limits = "[server]\nbody_max = \"2 KiB\"\nbody_within = \"500 ms\"";
    let relay = TestRelay::start_with(limits, &upstream).await;
    for (path, target, body) in EVENTS.into_iter().chain(ASKED) {
        let mut took = |answer: RawAnswer| note(&mut seen, &document, path, "post", &answer);
        took(relay.post(target, body).await);
        took(relay.post(target, "{").await);
        took(relay.post(target, "{}").await);
        took(relay.post(target, " ".repeat(3000)).await);
        took(relay.post_with(target, "Content-Type: image/png\r\n", body).await);
        let half = format!("POST {target} HTTP/1.1\r\nHost: r\r\nContent-Length: 9\r\n\r\n");
        took(relay.send(half.as_bytes()).await);
    }
    for (path, target, body) in EVENTS {
        if [ORDER, BY_URL].contains(&body) {
            let list = relay.post(target, format!("[{body},{{}}]")).await;
            note(&mut seen, &document, path, "post", &list);
        }
        let key = "Idempotency-Key: k\r\n";
        assert_eq!(relay.post_with(target, key, body).await.status, 202);
        let answer = relay.post_with(target, key, format!("{body} ")).await;
        note(&mut seen, &document, path, "post", &answer);
    }
    let answer = get(relay.addr(), "/openapi.yaml").await;
    assert_eq!(answer.text(), http::OPENAPI);
    note(&mut seen, &document, "/openapi.yaml", "get", &answer);
    for path in ["/metrics", "/healthz", "/readyz", "/api/status", "/api/dead", "/api/audit"] {
        note(&mut seen, &document, path, "get", &relay.admin(path, "").await);
    }
    let known = get(relay.addr(), "/v1/conversions/xxx/123").await;
    note(&mut seen, &document, CONVERSION, "get", &known);
    let unknown = get(relay.addr(), "/v1/conversions/xxx/1234").await;
    note(&mut seen, &document, CONVERSION, "get", &unknown);
    relay.settled().await;
    relay.finish().await;
    keyed(&mut seen, &document, &upstream).await;
    full(&mut seen, &document, &upstream).await;
    guarded(&mut seen, &document, &upstream).await;
    steered(&mut seen, &document, &upstream).await;
    partners(&mut seen, &document, &upstream).await;
    awaiting(&mut seen, &document, &upstream).await;
    broken(&mut seen, &document).await;
    overloaded(&mut seen, &document).await;
    assert_eq!(seen, documented());
}

/// A relay with clients.
async fn keyed(seen: &mut Answered, document: &Value, upstream: &FakeUpstream) {
    let elsewhere = "sources = [\"hook\"]\n[[source]]\nname = \"hook\"\nkind = \"click\"\n\
                     path = \"/hook\"\nschema = \"schemas/ad-event.json\"\nto = [\"events-api\"]";
    let (digest, slow) = (KeyDigest::of(b"key"), KeyDigest::of(b"slow"));
    let config = format!(
        "[[client]]\nname = \"c\"\nkey_sha256 = \"{digest:x}\"\n{elsewhere}\n\
                          [[client]]\nname = \"slow\"\nkey_sha256 = \"{slow:x}\"\nrate = \"1/h\""
    );
    let relay = TestRelay::start_with(&config, upstream).await;
    let slow = "X-Api-Key: slow\r\n";
    assert_eq!(relay.post_with("/v1/beacon/click/1", slow, "{}").await.status, 422);
    for (path, target, body) in EVENTS.into_iter().chain(ASKED) {
        note(seen, document, path, "post", &relay.post(target, body).await);
        note(seen, document, path, "post", &relay.post_with(target, slow, body).await);
        let answer = relay.post_with(target, "Authorization: Bearer key\r\n", body).await;
        note(seen, document, path, "post", &answer);
    }
    for key in ["", "X-Api-Key: key\r\n"] {
        let request = format!("GET /v1/conversions/xxx/1 HTTP/1.1\r\nHost: r\r\n{key}\r\n");
        note(seen, document, CONVERSION, "get", &relay.send(request.as_bytes()).await);
    }
    relay.finish().await;
}

/// A spool without room.
async fn full(seen: &mut Answered, document: &Value, upstream: &FakeUpstream) {
    upstream.misbehave(r#"{"status":503}"#);
    let config = format!("[spool]\nmax_bytes = \"4 MiB\"\n{PARTNERS}");
    let relay = TestRelay::start_with(&config, upstream).await;
    let body = format!(r#"{{"user_id":"{}"}}"#, "x".repeat(200_000));
    let mut fill = 0..60;
    while fill.next().is_some() && relay.post("/v1/beacon/view/1", &body).await.status == 202 {}
    // A body that still fits the last gap would be taken: these are as large as what did not fit.
    let long = format!("\"{}\"", "x".repeat(200_000));
    let order = ORDER.replace(r#""xxx""#, &long);
    let by_url = BY_URL.replace(r#""u""#, &long);
    for (path, target, small) in EVENTS {
        let body = match small {
            ORDER => &order,
            BY_URL => &by_url,
            _ => &body,
        };
        note(seen, document, path, "post", &relay.post(target, body).await);
    }
    let signed = signed(&format!(",\"x\":{long}"));
    note(seen, document, OLX, "post", &relay.post_with(OLX, SIGNATURE, signed).await);
    let posted = relay.post(IMPACT_TARGET, format!("{{\"x\":{long}}}")).await;
    note(seen, document, IMPACT, "post", &posted);
    // A query is never as large as what did not fit: the gap is filled first.
    for n in 0..20 {
        let query = format!("{IMPACT_TARGET}&n={n}&x={}", "x".repeat(50_000));
        note(seen, document, IMPACT, "get", &get(relay.addr(), &query).await);
    }
    upstream.misbehave("{}");
    relay.finish().await;
}

/// The sources of partners, switched on.
const PARTNERS: &str = "[[source]]\nname = \"olx-adverts\"\nto = [\"events-api\"]\n\
                        [[source]]\nname = \"impact-events\"\nto = [\"events-api\"]\n";

const OLX: &str = "/webhooks/olx";
const IMPACT: &str = "/webhooks/impact";
const IMPACT_TARGET: &str = "/webhooks/impact?token=impact-token";

/// What `signed` is signed with, by `test-secret`.
const SIGNATURE: &str = "X-Signature: f8e4392be361d8659adb3c34a30d879c3adbb4e5\r\n";

/// A notification with more members.
fn signed(more: &str) -> String {
    format!(
        "{{\"object_id\":\"4f5ee709-28d7-4b68-8716-dd912157919f\",\
         \"transaction_id\":\"b315c893-b42c-417a-9ecd-f060cb44cf13\"{more}}}"
    )
}

/// What partners' systems send.
async fn partners(seen: &mut Answered, document: &Value, upstream: &FakeUpstream) {
    let limits = "[server]\nbody_max = \"2 KiB\"\nbody_within = \"500 ms\"\n";
    let relay = TestRelay::start_with(&format!("{limits}{PARTNERS}"), upstream).await;
    let key = "Idempotency-Key: k\r\n";
    let image = "Content-Type: image/png\r\n";
    let coding = "Content-Encoding: rot13\r\n";
    for (head, body) in [
        (SIGNATURE, signed("")),
        (SIGNATURE, "{".to_owned()),
        ("", signed("")),
        (SIGNATURE, signed(",\"flow\":5")),
        (&format!("{SIGNATURE}{image}"), signed("")),
        (SIGNATURE, " ".repeat(3000)),
        (&format!("{SIGNATURE}{key}"), signed(",\"flow\":\"a\"")),
        (&format!("{SIGNATURE}{key}"), signed(",\"flow\":\"b\"")),
    ] {
        note(seen, document, OLX, "post", &relay.post_with(OLX, head, body).await);
    }
    for (head, body) in [
        ("", "{\"a\":1}".to_owned()),
        ("", "{".to_owned()),
        ("Content-Encoding: gzip\r\n", "{}".to_owned()),
        (coding, "{}".to_owned()),
        ("", " ".repeat(3000)),
        (key, "{\"a\":2}".to_owned()),
        (key, "{\"a\":3}".to_owned()),
    ] {
        note(seen, document, IMPACT, "post", &relay.post_with(IMPACT_TARGET, head, body).await);
    }
    note(seen, document, IMPACT, "post", &relay.post(IMPACT, "{}").await);
    note(seen, document, IMPACT, "get", &get(relay.addr(), IMPACT).await);
    note(seen, document, OLX, "get", &get(relay.addr(), OLX).await);
    for (more, head) in [
        ("a=1", ""),
        ("a=1&a=2", ""),
        ("a=1", "Idempotency-Key: \r\n"),
        ("a=4", "Idempotency-Key: g\r\n"),
        ("a=5", "Idempotency-Key: g\r\n"),
    ] {
        let request = format!("GET {IMPACT_TARGET}&{more} HTTP/1.1\r\nHost: r\r\n{head}\r\n");
        note(seen, document, IMPACT, "get", &relay.send(request.as_bytes()).await);
    }
    for (path, target) in [(OLX, OLX), (IMPACT, IMPACT_TARGET)] {
        let half = format!("POST {target} HTTP/1.1\r\nHost: r\r\nContent-Length: 9\r\n\r\n");
        note(seen, document, path, "post", &relay.send(half.as_bytes()).await);
    }
    relay.finish().await;
}

/// Every path of the operators' API.
const API: [(&str, &str, &str); 12] = [
    ("/api/status", "get", "/api/status"),
    ("/api/dead", "get", "/api/dead"),
    ("/api/dead/{id}", "get", "/api/dead/1"),
    ("/api/dead/replay", "post", "/api/dead/replay"),
    ("/api/dead/drop", "post", "/api/dead/drop"),
    ("/api/destinations/{name}/pause", "post", "/api/destinations/events-api/pause"),
    ("/api/destinations/{name}/resume", "post", "/api/destinations/events-api/resume"),
    ("/api/jobs/{id}", "delete", "/api/jobs/1"),
    ("/api/audit", "get", "/api/audit"),
    (AWAITED, "get", AWAITED),
    (AWAITED, "post", AWAITED),
    (AWAITED, "delete", AWAITED),
];

const AWAITED: &str = "/api/awaited";

/// A source that can be looked up; nothing is, for nothing is late.
const LOOKED_UP: &str = "[[source]]\nname = \"olx-adverts\"\nto = [\"events-api\"]\n\
    [source.lookup]\nurl = \"http://127.0.0.1:9/{id}\"\nawaited = \"body:/object_id\"\n\
    rate = \"1/s\"\nawaited_max = 1\nmembers = [{ to = \"object_id\", value = \"{id}\" }]\n";

/// What programs await, and operators forget.
async fn awaiting(seen: &mut Answered, document: &Value, upstream: &FakeUpstream) {
    let relay = TestRelay::start_with(LOOKED_UP, upstream).await;
    let entry = |source, id| format!(r#"{{"source":"{source}","id":"{id}","deadline":"1 h"}}"#);
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(70_000));
    let a = entry("olx-adverts", "a");
    for body in [&*a, &a, &entry("olx-adverts", "b"), &entry("other", "a"), "{}", "{", &long] {
        note(seen, document, AWAITED, "post", &relay.steer("POST", AWAITED, "", body).await);
    }
    let post = format!("POST {AWAITED} HTTP/1.1\r\nHost: localhost\r\n");
    for rest in [
        "Content-Type: image/png\r\nContent-Length: 2\r\n\r\n{}",
        "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n",
    ] {
        let mut client = RawClient::connect(relay.admin_addr()).await;
        let answer = client.exchange(format!("{post}{rest}").as_bytes()).await;
        note(seen, document, AWAITED, "post", &answer);
    }
    for query in ["", "?source=other", "?source=olx-adverts"] {
        let answer = relay.admin(&format!("{AWAITED}{query}"), "").await;
        note(seen, document, AWAITED, "get", &answer);
    }
    for query in ["", "?source=olx-adverts&id=a", "?source=olx-adverts&id=a"] {
        let answer = relay.steer("DELETE", &format!("{AWAITED}{query}"), "", "").await;
        note(seen, document, AWAITED, "delete", &answer);
    }
    relay.finish().await;
}

const ALL: &str = r#"{"all":true}"#;

fn upper(method: &str) -> String {
    method.to_uppercase()
}

/// What operators do.
async fn steered(seen: &mut Answered, document: &Value, upstream: &FakeUpstream) {
    let relay = TestRelay::start(upstream).await;
    upstream.misbehave(r#"{"status":400}"#);
    for number in 0..12 {
        relay.post(&format!("/v1/beacon/click/{number}"), r#"{"user_id":"u"}"#).await;
    }
    relay.until(|status| status["destinations"][0]["dead"] == 12).await;
    relay.settled().await;
    upstream.misbehave("{}");
    let letters = relay.admin("/api/dead", "").await.json();
    let letter = format!("/api/dead/{}", letters["letters"][0]["id"].as_str().unwrap());
    for (path, target) in [
        ("/api/dead/{id}", letter.as_str()),
        ("/api/dead/{id}", "/api/dead/999999999"),
        ("/api/dead/{id}", "/api/dead/x"),
        ("/api/dead", "/api/dead?limit=0"),
        ("/api/audit", "/api/audit?limit=0"),
    ] {
        note(seen, document, path, "get", &relay.admin(target, "").await);
    }
    let posts = API.into_iter();
    let posts = posts.filter(|(path, method, _)| *method == "post" && *path != AWAITED);
    for (path, _, target) in posts.clone() {
        let long = format!("{{\"x\":\"{}\"}}", "x".repeat(70_000));
        for body in [r#"{"x":1}"#, "{", &long] {
            note(seen, document, path, "post", &relay.steer("POST", target, "", body).await);
        }
        let typed = "Content-Type: image/png\r\n";
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\n{typed}Content-Length: 2\r\n\r\n{{}}"
        );
        let mut client = RawClient::connect(relay.admin_addr()).await;
        note(seen, document, path, "post", &client.exchange(request.as_bytes()).await);
        let other = target.replace("events-api", "other");
        let body = if other == target { ALL } else { "" };
        let dry = body.replace('}', ",\"dry_run\":true}");
        note(seen, document, path, "post", &relay.steer("POST", &other, "", &dry).await);
        if other != target {
            note(seen, document, path, "post", &relay.steer("POST", target, "", "").await);
        }
    }
    // All at once, for each waits as long as a body may take.
    let half = async |target: &str| {
        let request =
            format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n");
        RawClient::connect(relay.admin_addr()).await.exchange(request.as_bytes()).await
    };
    let targets: Vec<(&str, &str)> = posts.map(|(path, _, target)| (path, target)).collect();
    let [a, b, c, d] = targets[..] else { panic!("four paths are posted to") };
    let answers = tokio::join!(half(a.1), half(b.1), half(c.1), half(d.1));
    for (path, answer) in [(a.0, answers.0), (b.0, answers.1), (c.0, answers.2), (d.0, answers.3)] {
        note(seen, document, path, "post", &answer);
    }
    // One after the other fills the places: each waits long behind its first letter.
    let slow = r#"{"all":true,"rate":"1/h"}"#;
    for what in ["replay", "drop"].into_iter().cycle().take(10) {
        let path = format!("/api/dead/{what}");
        note(seen, document, &path, "post", &relay.steer("POST", &path, "", slow).await);
    }
    let jobs = relay.admin("/api/status", "").await.json()["jobs"].clone();
    let job = format!("/api/jobs/{}", jobs[0]["id"].as_str().unwrap());
    for _ in 0..2 {
        let answer = relay.steer("DELETE", &job, "", "").await;
        note(seen, document, "/api/jobs/{id}", "delete", &answer);
    }
    relay.finish().await;
}

/// An admin listener off loopback.
async fn guarded(seen: &mut Answered, document: &Value, upstream: &FakeUpstream) {
    for token in ["", "token_env = \"ADMIN_TOKEN\""] {
        let config = format!("[admin]\nlisten = \"0.0.0.0:9090\"\n{token}");
        let relay = TestRelay::start_with(&config, upstream).await;
        for (path, method, target) in API {
            note(seen, document, path, method, &relay.steer(&upper(method), target, "", "").await);
        }
        relay.finish().await;
    }
}

/// A store that has failed.
async fn broken(seen: &mut Answered, document: &Value) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    std::fs::write(&file, LOOKED_UP).unwrap();
    let environment = vec![("OLX_SECRET".to_owned(), "s".to_owned())];
    let layers = Layers { file: Some(file), environment, ..Layers::default() };
    let plan = layers.plan().unwrap();
    let names = || plan.destinations.iter().map(|one| one.name.clone());
    let ledger = Arc::new(Ledger::new([], names()));
    let metrics = Arc::new(Metrics::new(&[], [], names()));
    let forwarders = plan.destinations.iter().map(|settings| {
        let (ledger, metrics) = (Arc::clone(&ledger), Arc::clone(&metrics));
        let spool = Arc::new(BrokenSpool);
        Forwarder::new(settings.clone(), spool, ledger, metrics, Clock::system())
    });
    let forwarders: Vec<_> = forwarders.collect();
    let status = Status::new(
        Arc::new(BrokenSpool),
        Arc::clone(&ledger),
        Arc::clone(&metrics),
        forwarders.clone(),
        Clock::system(),
    );
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = door.local_addr().unwrap();
    let sources: Vec<_> =
        plan.sources.into_iter().map(|one| Arc::new(Source::new(one, 64))).collect();
    let spool = Arc::new(BrokenSpool) as Arc<dyn Spool>;
    let admin = Admin {
        lookups: Lookups::new(plan.lookups, &spool, &sources, &metrics, &Clock::system()),
        status: Arc::new(status),
        jobs: Jobs::new(
            Arc::new(BrokenSpool),
            forwarders,
            Clock::system(),
            CancellationToken::new(),
        ),
        access: Access { token: None, reveal: None, listen },
        draining: CancellationToken::new(),
    };
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let limits = Layers::default().plan().unwrap().server.connections;
    let router = http::admin(admin);
    tasks.spawn(listener::serve(door, plain(router, limits), stop.clone(), stop.clone()));
    for (path, method, target) in API {
        let method = upper(method);
        let body = if target.ends_with("/replay") || target.ends_with("/drop") { ALL } else { "" };
        // There is no job, and what is awaited is in memory.
        if path.contains("/jobs/") || (path == AWAITED && method != "DELETE") {
            continue;
        }
        let query = if path == AWAITED { "?source=olx-adverts&id=a" } else { "" };
        let request = format!(
            "{method} {target}{query} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = RawClient::connect(listen).await.exchange(request.as_bytes()).await;
        assert_eq!(answer.status, 503, "{target}");
        note(seen, document, path, &method.to_lowercase(), &answer);
    }
    for path in ["/metrics", "/readyz"] {
        note(seen, document, path, "get", &get(listen, path).await);
    }
    assert_eq!(get(listen, "/readyz").await.json()["reasons"][0], "spool_fault");
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

/// A door that has a place for no request.
async fn overloaded(seen: &mut Answered, document: &Value) {
    let plan = Layers::default().plan().unwrap();
    let sources = plan.sources.into_iter();
    let sources: Vec<_> = sources.map(|one| Arc::new(Source::new(one, 64))).collect();
    let metrics = Arc::new(Metrics::new(http::ROUTES, [], []));
    let ledger = Arc::new(Ledger::new([], []));
    let intake = Intake::new(Arc::new(BrokenSpool), ledger, Arc::clone(&metrics));
    let limits = Limits { requests_max: 0, ..plan.server.requests };
    let guard = Arc::new(Guard::new(plan.access, Arc::new(Limiter::new(1))));
    let door = Door::new(intake, guard, Arc::clone(&metrics), Clock::system(), limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = listener.local_addr().unwrap();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let router = http::public(&sources, door, metrics);
    let connections = plan.server.connections;
    tasks.spawn(listener::serve(listener, plain(router, connections), stop.clone(), stop.clone()));
    for (path, target, body) in ASKED {
        let answer = RawClient::connect(listen).await.exchange(&post(target, "", body)).await;
        assert_eq!(answer.json()["code"], "overloaded");
        assert_eq!(answer.header("retry-after"), Some("1"));
        note(seen, document, path, "post", &answer);
    }
    let answer = get(listen, "/v1/conversions/xxx/1").await;
    assert_eq!(answer.json()["code"], "store_unavailable");
    note(seen, document, CONVERSION, "get", &answer);
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

fn plain(router: axum::Router, limits: listener::Limits) -> Serving {
    Serving::new(Served { router, limits, tls: None })
}

async fn get(address: SocketAddr, path: &str) -> RawAnswer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    RawClient::connect(address).await.exchange(request.as_bytes()).await
}

#[test]
fn every_source_has_its_path_in_the_document_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    std::fs::write(&file, PARTNERS).unwrap();
    let secrets = ["OLX_SECRET", "IMPACT_TOKEN"].map(|name| (name.to_owned(), "s".to_owned()));
    let plan = Layers { file: Some(file), environment: secrets.into(), ..Layers::default() };
    let plan = plan.plan().unwrap();
    assert!(plan.off.is_empty(), "{:?}", plan.off);
    let mut sources: BTreeSet<String> = plan.sources.iter().map(|one| one.path.clone()).collect();
    sources.extend(ASKED.map(|(path, ..)| path.to_owned()));
    sources.insert(http::by_url::PATH.to_owned());
    let posts = documented().into_iter();
    let posts = posts.filter(|(path, method, _)| method == "post" && !path.starts_with("/api/"));
    assert_eq!(posts.map(|(path, ..)| path).collect::<BTreeSet<_>>(), sources);
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn walk(node: &Value, found: &mut Vec<String>) {
        match node {
            Value::Object(members) => {
                for (key, value) in members {
                    match (key.as_str(), value) {
                        ("$ref", Value::String(reference)) => found.push(reference.clone()),
                        (_, value) => walk(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let (document, mut found) = (document(), Vec::new());
    walk(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let leads = match reference.strip_prefix('#') {
            Some(pointer) => document.pointer(pointer).is_some(),
            None => std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(&reference).exists(),
        };
        assert!(leads, "{reference} leads nowhere");
    }
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}
