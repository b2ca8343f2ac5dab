//! What operators do by the admin API: dead letters, pauses, the record of both, and who may.

use serde_json::{Value, json};

use crate::support::{FakeUpstream, ORDER, RawClient, TestRelay};

const REVEALING: &str = "[admin]\nreveal_token_env = \"ADMIN_TOKEN\"";
const REVEAL: &str = "Authorization: Bearer hush\r\n";

/// A relay with so many dead orders, `o0` and on, whose upstream is well again.
async fn with_dead(config: &str, upstream: &FakeUpstream, orders: usize) -> TestRelay {
    let relay = TestRelay::start_with(config, upstream).await;
    upstream.misbehave(r#"{"status":400}"#);
    for number in 0..orders {
        assert_eq!(relay.post("/v1/beacon/conversion", order(number)).await.status, 202);
    }
    relay.until(|status| status["destinations"][0]["dead"] == orders).await;
    relay.settled().await;
    upstream.misbehave("{}");
    relay
}

fn order(number: usize) -> String {
    ORDER.replace(r#""123""#, &format!(r#""o{number}""#))
}

async fn letters(relay: &TestRelay, query: &str) -> Vec<Value> {
    let answer = relay.admin(&format!("/api/dead{query}"), "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["letters"].as_array().unwrap().clone()
}

async fn moved(relay: &TestRelay, what: &str, body: &Value) -> Value {
    let answer = relay.steer("POST", &format!("/api/dead/{what}"), "", &body.to_string()).await;
    assert!([200, 202].contains(&answer.status), "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn a_letter_of_an_ad_event_is_found_by_the_publisher_of_its_url() {
    let upstream = FakeUpstream::start().await;
    let relay = with_dead(REVEALING, &upstream, 1).await;
    upstream.misbehave(r#"{"status":400}"#);
    let click = "/v1/beacon/click/1?publisher_id=p%202&sign=s";
    assert_eq!(relay.post(click, r#"{"user_id":"u"}"#).await.status, 202);
    relay.until(|status| status["destinations"][0]["dead"] == 2).await;
    let found = letters(&relay, "?publisher=p%202").await;
    assert_eq!((found.len(), &found[0]["kind"]), (1, &"click".into()));
    for (query, count) in [("?publisher=p", 0), ("?publisher=xxx", 1), ("?order_id=o0", 1)] {
        assert_eq!(letters(&relay, query).await.len(), count, "{query}");
    }
    assert_eq!(letters(&relay, "?publisher=p%202&order_id=o0").await.len(), 0);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn letters_are_listed_by_what_is_asked_for_and_masked() {
    let upstream = FakeUpstream::start().await;
    let relay = with_dead(REVEALING, &upstream, 3).await;
    let all = letters(&relay, "").await;
    assert_eq!(all.len(), 3);
    for (query, count) in [
        ("?order_id=o1", 1),
        ("?order_id=o9", 0),
        ("?publisher=xxx&kind=conversion&reason=refused&destination=events-api", 3),
        ("?kind=view", 0),
        ("?reason=expired", 0),
        ("?publisher=other", 0),
        ("?since=2020-01-01T00:00:00Z&until=2999-01-01T00:00:00%2B03:00", 3),
        ("?until=2020-01-01T00:00:00Z", 0),
        ("?limit=2", 2),
    ] {
        assert_eq!(letters(&relay, query).await.len(), count, "{query}");
    }
    let first = relay.admin("/api/dead?limit=2", "").await.json();
    let next = first["next"].as_str().unwrap();
    let rest = letters(&relay, &format!("?after={next}")).await;
    assert_eq!(rest, all[2..]);
    let id = all[1]["id"].as_str().unwrap();
    let path = format!("/api/dead/{id}");
    let one = relay.admin(&path, "").await;
    assert_eq!(one.json(), all[1]);
    assert_eq!((&all[1]["status"], &all[1]["attempts"]), (&json!(400), &json!(1)));
    assert_eq!(all[1]["body"]["order_id"], "***");
    assert!(!one.text().contains("\"o1\""), "no value is shown");
    // Values are shown to one token alone, and that goes on the record.
    let revealing = format!("{path}?reveal=true");
    let refused = relay.admin(&revealing, "").await;
    assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("reveal_not_allowed")));
    let revealed = relay.admin(&revealing, REVEAL).await;
    assert!(revealed.text().contains(order(1).trim()), "byte for byte");
    let record = relay.admin("/api/audit", "").await.json();
    assert_eq!(record["entries"][0]["action"], "reveal");
    assert_eq!(record["entries"][0]["who"], "reveal_token from 127.0.0.1");
    relay.finish().await;
}

#[tokio::test]
async fn a_replay_says_first_and_then_does() {
    let mut upstream = FakeUpstream::start().await;
    let relay = with_dead("", &upstream, 3).await;
    // The order is free again once it is dead: a corrected one is a new event, and the letter stays.
    assert_eq!(relay.post("/v1/beacon/conversion", order(2)).await.status, 202);
    relay.settled().await;
    let plan = moved(&relay, "replay", &json!({ "all": true, "dry_run": true })).await;
    let counts = |answer: &Value| {
        ["matched", "replayed", "duplicates", "expired"].map(|name| answer[name].as_u64().unwrap())
    };
    assert_eq!((counts(&plan), &plan["complete"]), ([3, 2, 1, 0], &json!(true)));
    assert_eq!(letters(&relay, "").await.len(), 3, "asking moves nothing");
    let ids: Vec<Value> = letters(&relay, "").await.iter().map(|one| one["id"].clone()).collect();
    let one = moved(&relay, "replay", &json!({ "ids": [ids[0], "999999999"] })).await;
    assert_eq!((counts(&one), &one["missing"]), ([1, 1, 0, 0], &json!(1)));
    let rest = moved(&relay, "replay", &json!({ "filter": { "reason": "refused" } })).await;
    assert_eq!((counts(&rest), &rest["state"]), ([2, 1, 1, 0], &json!("done")));
    relay.settled().await;
    let mut arrived = Vec::new();
    for _ in 0..6 {
        arrived.push(upstream.next_event().await.body.clone());
    }
    for number in 0..3 {
        let wanted = order(number);
        assert!(arrived.iter().any(|body| body == wanted.as_bytes()), "{number}");
    }
    let dropped = moved(&relay, "drop", &json!({ "filter": { "order_id": "o2" } })).await;
    assert_eq!(dropped["dropped"], 1);
    assert!(letters(&relay, "").await.is_empty());
    let record = relay.admin("/api/audit", "").await;
    let entries = record.json()["entries"].as_array().unwrap().clone();
    let actions: Vec<&str> = entries.iter().map(|one| one["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["replay", "replay", "drop"], "a dry run is no action");
    assert!(entries.iter().all(|one| one["who"] == "loopback from 127.0.0.1"));
    assert_eq!(entries[1]["outcome"]["duplicates"], 1);
    assert!(!record.text().contains("\"o2\""), "no value is on the record");
    let after = format!("/api/audit?limit=1&after={}", entries[0]["id"].as_str().unwrap());
    assert_eq!(relay.admin(&after, "").await.json()["entries"][0], entries[1]);
    relay.finish().await;
}

#[tokio::test]
async fn what_is_too_old_is_not_replayed() {
    let upstream = FakeUpstream::start().await;
    let config = "[[destination]]\nname = \"events-api\"\nmax_age = { conversion = \"1 s\" }";
    let relay = with_dead(config, &upstream, 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    for dry_run in [true, false] {
        let answer = moved(&relay, "replay", &json!({ "all": true, "dry_run": dry_run })).await;
        assert_eq!((&answer["replayed"], &answer["expired"]), (&json!(0), &json!(1)));
    }
    assert_eq!(letters(&relay, "").await[0]["expired"], true);
    relay.finish().await;
}

#[tokio::test]
async fn a_paced_replay_goes_on_after_a_restart_and_can_be_stopped() {
    let upstream = FakeUpstream::start().await;
    let mut relay = with_dead("", &upstream, 20).await;
    // One goes each two seconds, so that the job is not at its end before the test is.
    let dead = |status: &Value| status["destinations"][0]["dead"].as_u64().unwrap();
    let slow = json!({ "filter": { "kind": "conversion" }, "rate": "30/m" });
    let answer = moved(&relay, "replay", &slow).await;
    assert_eq!((&answer["state"], &answer["complete"]), (&json!("running"), &json!(false)));
    relay.until(|status| dead(status) < 20).await;
    relay.restart().await;
    let before = dead(&relay.status().await);
    let jobs = relay.admin("/api/status", "").await.json()["jobs"].clone();
    assert_eq!((&jobs[0]["id"], &jobs[0]["rate"]), (&answer["id"], &json!("30/m")));
    relay.until(|status| dead(status) < before).await;
    let path = format!("/api/jobs/{}", answer["id"].as_str().unwrap());
    let stopped = relay.steer("DELETE", &path, "", "").await.json();
    assert_eq!(stopped["state"], "stopped");
    assert!(stopped["replayed"].as_u64().unwrap() >= 1, "{stopped}");
    assert_eq!(relay.steer("DELETE", &path, "", "").await.status, 404);
    assert_eq!(relay.admin("/api/status", "").await.json()["jobs"], json!([]));
    let record = relay.admin("/api/audit", "").await.json();
    assert_eq!(record["entries"][0]["outcome"]["state"], "stopped");
    assert_eq!(record["entries"][1]["action"], "stop_job");
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_letter_that_dies_again_is_replayed_once_by_a_job() {
    let upstream = FakeUpstream::start().await;
    let relay = with_dead("", &upstream, 3).await;
    upstream.misbehave(r#"{"status":400}"#);
    let answer = moved(&relay, "replay", &json!({ "all": true })).await;
    assert_eq!((&answer["replayed"], &answer["state"]), (&json!(3), &json!("done")));
    relay.until(|status| status["destinations"][0]["dead"] == 3).await;
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn what_is_not_meant_exactly_is_refused_and_moves_nothing() {
    let upstream = FakeUpstream::start().await;
    let relay = with_dead("", &upstream, 1).await;
    for (body, said) in [
        ("{}", "\"all\": true"),
        (r#"{"filter":{}}"#, "\"all\": true"),
        (r#"{"filter":{"kind":"view"},"all":true}"#, "say which letters"),
        (r#"{"ids":[]}"#, "1 to 1000"),
        (r#"{"ids":["x"]}"#, "id of a dead letter"),
        (r#"{"ids":[1],"filter":{"kind":"view"}}"#, "exclude"),
        (r#"{"ids":[1],"rate":"1/s"}"#, "rate"),
        (r#"{"filter":{"destinaton":"x"}}"#, "did you mean \"destination\""),
        (r#"{"filter":{"destination":"x"}}"#, "events-api"),
        (r#"{"filter":{"kind":"order"}}"#, "conversion, impression"),
        (r#"{"filter":{"since":"yesterday"}}"#, "2026-11-21T09:30:00Z"),
        (r#"{"all":true,"rate":"fast"}"#, "50/s"),
        (r#"{"all":true,"dryrun":true}"#, "did you mean \"dry_run\""),
        (r#"{"all":"true"}"#, "neither true nor false"),
        ("[]", "not a JSON object"),
    ] {
        for what in ["replay", "drop"] {
            let answer = relay.steer("POST", &format!("/api/dead/{what}"), "", body).await;
            assert_eq!(answer.status, 400, "{body}");
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains(said), "{body}: {detail}");
        }
    }
    for (query, said) in [
        ("?limit=0", "1 to 1000"),
        ("?limit=1001", "1 to 1000"),
        ("?reson=expired", "did you mean \"reason\""),
        ("?kind=view&kind=view", "twice"),
        ("?after=x", "id of a dead letter"),
        ("?reveal=yes", "neither true nor false"),
    ] {
        let answer = relay.admin(&format!("/api/dead{query}"), "").await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(said), "{query}");
    }
    assert_eq!(letters(&relay, "").await.len(), 1);
    assert_eq!(relay.admin("/api/audit", "").await.json()["entries"], json!([]));
    relay.finish().await;
}

#[tokio::test]
async fn a_pause_holds_over_a_restart_until_it_is_taken_back() {
    let mut upstream = FakeUpstream::start().await;
    let mut relay = TestRelay::start(&upstream).await;
    let pause = "/api/destinations/events-api/pause";
    let resume = "/api/destinations/events-api/resume";
    assert_eq!(relay.steer("POST", pause, "", "").await.json()["paused"], json!({ "until": null }));
    relay.post("/v1/beacon/conversion", ORDER).await;
    relay.restart().await;
    let status = relay.admin("/api/status", "").await.json();
    assert_eq!(status["destinations"][0]["paused"], json!({ "until": null }));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(relay.status().await["ledger"]["store"]["spooled"], 1, "nothing is sent");
    assert_eq!(relay.steer("POST", resume, "", "").await.json()["paused"], Value::Null);
    upstream.next_event().await;
    relay.settled().await;
    relay.restart().await;
    assert_eq!(relay.status().await["destinations"][0]["paused"], Value::Null);
    // One with an end ends by itself.
    let until = relay.steer("POST", pause, "", r#"{"for":"300 ms"}"#).await.json();
    assert!(until["paused"]["until"].is_string());
    relay.post("/v1/beacon/click/1", r#"{"user_id":"u"}"#).await;
    upstream.next_event().await;
    let unknown = relay.steer("POST", "/api/destinations/other/pause", "", "").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("events-api"), "the names are told");
    assert_eq!(relay.steer("POST", pause, "", r#"{"for":"10"}"#).await.status, 400);
    let record = relay.admin("/api/audit", "").await.json();
    let entries = record["entries"].as_array().unwrap();
    let actions: Vec<&str> = entries.iter().map(|one| one["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["pause", "resume", "pause"]);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_web_page_cannot_steer_a_relay_on_loopback() {
    let upstream = FakeUpstream::start().await;
    let relay = with_dead("", &upstream, 1).await;
    let all = r#"{"all":true}"#;
    for head in ["Origin: https://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        let refused = relay.steer("POST", "/api/dead/drop", head, all).await;
        assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("cross_site")));
    }
    let rebound = "GET /api/dead HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    let mut client = RawClient::connect(relay.admin_addr()).await;
    assert_eq!(client.exchange(rebound.as_bytes()).await.json()["code"], "cross_site");
    // What a form can send without asking first.
    let form = format!(
        "POST /api/dead/drop HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n{all}",
        all.len()
    );
    let mut client = RawClient::connect(relay.admin_addr()).await;
    assert_eq!(client.exchange(form.as_bytes()).await.status, 415);
    assert_eq!(letters(&relay, "").await.len(), 1);
    relay.finish().await;
}
