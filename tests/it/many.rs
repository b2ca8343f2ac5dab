//! Many orders in one body: arrays, lines, a result for each, all or nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::refusals::problem;
use crate::support::{FakeUpstream, ORDER, RawAnswer, TestRelay};

const ORDERS: &str = "/v1/beacon/conversion";
const LINES: &str = "Content-Type: application/x-ndjson\r\n";

/// The vendor's own order under another id.
fn order(id: &str) -> String {
    ORDER.trim_end().replace(r#""order_id": "123""#, &format!(r#""order_id": "{id}""#))
}

fn sums(answer: &RawAnswer) -> (u16, [u64; 3]) {
    assert_eq!(answer.header("content-type"), Some("application/json"), "{}", answer.text());
    let body = answer.json();
    let sums = ["accepted", "duplicates", "rejected"].map(|name| body[name].as_u64().unwrap());
    let results = body["results"].as_array().unwrap();
    assert_eq!(results.len() as u64, sums.iter().sum::<u64>());
    for (index, result) in results.iter().enumerate() {
        assert_eq!(result["index"], index, "results come in order");
    }
    (answer.status, sums)
}

#[tokio::test]
async fn each_order_of_an_array_or_of_lines_is_one_event() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let array = format!("\u{feff} [ {} ,\n{}]\r\n", order("a"), order("b"));
    let answer = relay.post(ORDERS, &array).await;
    assert_eq!(sums(&answer), (202, [2, 0, 0]));
    assert_eq!(answer.header("beacon-relay-event-id"), None);
    let plain =
        relay.post_with(ORDERS, "Content-Type: text/plain\r\n", format!("[{}]", order("c")));
    assert_eq!(sums(&plain.await), (202, [1, 0, 0]));
    let line = |id| order(id).replace('\n', "");
    let lines = format!("{}\r\n\n \t\n{}", line("d"), line("e"));
    assert_eq!(sums(&relay.post_with(ORDERS, LINES, &lines).await), (202, [2, 0, 0]));
    let arrived = upstream.next_events(5).await;
    let bodies: BTreeSet<&[u8]> = arrived.iter().map(|event| &event.body[..]).collect();
    let sent = [order("a"), order("b"), order("c"), line("d"), line("e")];
    assert_eq!(bodies, sent.iter().map(String::as_bytes).collect(), "byte for byte");
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn one_bad_order_never_sinks_its_neighbours() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let items = [
        &order("good"),
        "{}",
        r#"{"order_id":1}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"price":1e400}"#,
        &format!(r#"{{"a":{}{}}}"#, "[".repeat(70), "]".repeat(70)),
        "null",
        "[]",
        &format!(r#"{{"x":"{}"}}"#, "x".repeat(256 << 10)),
        &order("good"),
        &order("better"),
    ];
    let answer = relay.post(ORDERS, format!("[{}]", items.join(","))).await;
    assert_eq!(sums(&answer), (207, [2, 1, 8]));
    let body = answer.json();
    let results = body["results"].as_array().unwrap();
    let brief = |result: &Value| {
        let errors = result["errors"].as_array().map(Vec::len);
        let code = result["code"].as_str().unwrap_or_default().to_owned();
        (result["status"].as_u64().unwrap(), code, errors.unwrap_or_default())
    };
    let found: Vec<_> = results.iter().map(brief).collect();
    let told = |status, code: &str, errors| (status, code.to_owned(), errors);
    assert_eq!(
        found,
        [
            told(202, "", 0),
            told(422, "", 8),
            told(422, "", 8),
            told(400, "duplicate_key", 0),
            told(400, "malformed_json", 0),
            told(400, "malformed_json", 0),
            told(422, "", 1),
            told(422, "", 1),
            told(413, "body_too_large", 0),
            told(202, "", 0),
            told(202, "", 0),
        ]
    );
    // As if it had been sent alone.
    assert_eq!(results[1]["errors"], relay.post(ORDERS, "{}").await.json());
    let members: Vec<&String> = results[9].as_object().unwrap().keys().collect();
    assert_eq!(members, ["index", "status", "duplicate", "warnings"]);
    assert_eq!(results[9]["duplicate"], true);
    let names = results[0]["warnings"].as_array().unwrap().iter().map(|one| &one["name"]);
    assert!(names.into_iter().any(|name| name == "created_at_too_old"));
    relay.settled().await;
    assert_eq!(upstream.sandbox.stats().requests, 2);
    relay.finish().await;
}

#[tokio::test]
async fn a_malformed_line_is_its_own_and_a_malformed_array_is_nobodys() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let good = order("good").replace('\n', "");
    let answer = relay.post_with(ORDERS, LINES, format!("{{\"a\":\n{good}\nNaN\n\u{1}")).await;
    assert_eq!(sums(&answer), (207, [1, 0, 3]));
    for index in [0, 2, 3] {
        let result = &answer.json()["results"][index];
        assert_eq!(*result, json!({"index": index, "status": 400, "code": "malformed_json"}));
    }
    for array in [
        format!("[{good},{{\"a\":}}]"),
        format!("[{good}"),
        format!("[{good},]"),
        format!("[{good}]x"),
    ] {
        problem(&relay.post(ORDERS, &array).await, 400, "malformed_json");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    problem(&relay.post(ORDERS, &deep).await, 400, "malformed_json");
    let all_bad = relay.post_with(ORDERS, LINES, "{}\n{").await;
    assert_eq!(sums(&all_bad), (422, [0, 0, 2]));
    relay.settled().await;
    assert_eq!(upstream.sandbox.stats().requests, 1);
    relay.finish().await;
}

#[tokio::test]
async fn no_orders_are_nothing_to_refuse() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let nothing = r#"{"accepted":0,"duplicates":0,"rejected":0,"results":[]}"#;
    for (head, body) in [("", "[]"), ("", " [\n] "), (LINES, ""), (LINES, "\n \r\n")] {
        let answer = relay.post_with(ORDERS, head, body).await;
        assert_eq!((answer.status, answer.text()), (202, nothing), "{body:?}");
    }
    let answer = relay.post(&format!("{ORDERS}?atomic=true"), "[]").await;
    assert_eq!((answer.status, answer.text()), (202, nothing));
    relay.finish().await;
}

#[tokio::test]
async fn all_or_nothing_stores_nothing_of_a_list_with_a_bad_item() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let atomic = format!("{ORDERS}?atomic=true&q=%20&lane=backlog");
    let wrong = order("2").replace(r#""order_id": "2""#, r#""order_id": 2"#);
    let items = [&order("0"), "{}", &wrong];
    let answer = relay.post(&atomic, format!("[{}]", items.join(","))).await;
    assert_eq!((answer.status, answer.header("content-type")), (422, Some("application/json")));
    let errors = answer.json();
    let errors = errors.as_array().unwrap();
    assert_eq!(errors.len(), 9);
    for error in &errors[..8] {
        let paths = (&error["instancePath"], &error["schemaPath"]);
        assert_eq!(paths, (&json!("/1"), &json!("#/items/required")));
    }
    let last = json!({
        "instancePath": "/2/order_id",
        "keyword": "type",
        "message": "must be string",
        "params": {"type": "string"},
        "schemaPath": "#/items/properties/order_id/type",
    });
    assert_eq!(errors[8], last);
    let answer = relay.post_with(&atomic, LINES, "{}\n{\n").await;
    problem(&answer, 400, "malformed_json");
    assert!(answer.json()["detail"].as_str().unwrap().starts_with("item 1: "), "{}", answer.text());
    let answer = relay.post(&atomic, format!("[{},{}]", order("0"), order("1"))).await;
    assert_eq!(sums(&answer), (202, [2, 0, 0]), "nothing of it was stored before");
    for event in upstream.next_events(2).await {
        assert_eq!(event.target, format!("{ORDERS}?q=%20"), "the relay's own members stay here");
    }
    // An item alone is answered alone.
    let answer = relay.post(&atomic, "{}").await;
    assert_eq!((answer.status, answer.json()[0]["schemaPath"].as_str()), (422, Some("#/required")));
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn the_backlog_lane_can_be_asked_for() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"status":503}"#);
    let relay =
        TestRelay::start_with("[[destination]]\nname = \"events-api\"\nconcurrency = 1", &upstream)
            .await;
    let orders: Vec<String> = (0..40).map(|n| order(&n.to_string())).collect();
    let target = format!("{ORDERS}?lane=backlog");
    assert_eq!(sums(&relay.post(&target, format!("[{}]", orders.join(","))).await).0, 202);
    let pending = |status: &Value| status["destinations"][0]["pending"].clone();
    let pending = pending(&relay.status().await);
    assert_eq!(pending["live"], 0, "{pending}");
    assert!(pending["backlog"].as_u64().unwrap() > 20, "{pending}");
    upstream.misbehave("{}");
    relay.finish().await;
}

#[tokio::test]
async fn bodies_and_items_are_bounded() {
    let upstream = FakeUpstream::start().await;
    let config = "[server]\nbody_max = \"2 KiB\"\nmany_max = \"16 KiB\"\nitems_max = 6";
    let relay = TestRelay::start_with(config, &upstream).await;
    let orders = |count: usize| (0..count).map(|n| order(&n.to_string())).collect::<Vec<_>>();
    assert!((2 << 10..16 << 10).contains(&orders(6).join(",").len()));
    assert_eq!(sums(&relay.post(ORDERS, format!("[{}]", orders(6).join(","))).await).0, 202);
    problem(&relay.post(ORDERS, "[1,2,3,4,5,6,7]").await, 413, "too_many_items");
    problem(&relay.post_with(ORDERS, LINES, "1\n2\n3\n4\n5\n6\n7").await, 413, "too_many_items");
    problem(
        &relay.post(ORDERS, format!("[{}]", " ".repeat(16 << 10))).await,
        413,
        "body_too_large",
    );
    // One order stays under the bound of one, however it comes.
    let large = order("large").replace("ecommerce", &"x".repeat(4 << 10));
    problem(&relay.post(ORDERS, &large).await, 413, "body_too_large");
    let declared = format!(
        "POST {ORDERS} HTTP/1.1\r\nHost: r\r\nContent-Length: 9000\r\n\r\n{{\"order_id\":\"1\",\"x\":"
    );
    problem(&relay.send(declared.as_bytes()).await, 413, "body_too_large");
    let spaced = format!("{}{large}", " ".repeat(4 << 10));
    problem(&relay.post(ORDERS, &spaced).await, 413, "body_too_large");
    let coded = |body: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, body.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let gzip = "Content-Encoding: gzip\r\n";
    problem(&relay.post_with(ORDERS, gzip, coded(&large)).await, 413, "body_too_large");
    let many = coded(&format!("[{}]", orders(6).join(",")));
    assert_eq!(sums(&relay.post_with(ORDERS, gzip, many).await), (202, [0, 6, 0]));
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn only_a_source_that_takes_many_takes_a_list() {
    let upstream = FakeUpstream::start().await;
    let one = "[[source]]\nname = \"beacon-conversion\"\nmany = false";
    let relay = TestRelay::start_with(one, &upstream).await;
    for target in [ORDERS, "/v1/beacon/click/1", "/v1/validate/conversion"] {
        assert_eq!(relay.post(target, "[]").await.json()[0]["schemaPath"], "#/type", "{target}");
        problem(&relay.post_with(target, LINES, "{}").await, 415, "unsupported_media_type");
    }
    relay.finish().await;
}

/// More than one thread may work on, and more than one commit holds.
#[tokio::test]
async fn ten_thousand_orders_are_one_request() {
    let upstream = FakeUpstream::start().await;
    upstream.misbehave(r#"{"status":503}"#);
    let relay = TestRelay::start(&upstream).await;
    let mut lines = String::new();
    let line = order("«»").replace('\n', "");
    for n in 0..10_000 {
        let _ = writeln!(lines, "{}", line.replace("«»", &n.to_string()));
    }
    let answer = relay.post_with(ORDERS, LINES, &lines).await;
    assert_eq!(sums(&answer), (202, [10_000, 0, 0]));
    let again = relay.post_with(ORDERS, LINES, &lines).await;
    assert_eq!(sums(&again), (202, [0, 10_000, 0]));
    problem(&relay.post_with(ORDERS, LINES, format!("{lines}{{}}")).await, 413, "too_many_items");
    relay.finish().await;
}

#[tokio::test]
async fn a_repeat_that_differs_is_told_by_the_names_of_its_members() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let first = order("1");
    assert_eq!(relay.post(ORDERS, &first).await.status, 202);
    let other = first.replace("1899", "1900").replacen('{', "{\"coupon\":\"canary-c0\",", 1);
    let answer = relay.post(ORDERS, format!("[{first},{other}]")).await;
    assert_eq!(sums(&answer), (202, [0, 2, 0]));
    let results = &answer.json()["results"];
    assert_eq!(results[0].get("conflict"), None);
    assert_eq!(results[1]["conflict"], json!(["items", "*"]));
    assert!(!answer.text().contains("canary"), "{}", answer.text());
    // Alone it is answered as an equal one is, and counted.
    assert_eq!(relay.post(ORDERS, &other).await.status, 202);
    let line = "beacon_relay_conflicts_total{source=\"beacon-conversion\"} 2";
    assert!(relay.metrics().await.contains(line));
    relay.settled().await;
    assert_eq!(upstream.sandbox.stats().requests, 1);
    relay.finish().await;
}
