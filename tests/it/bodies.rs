//! Every body an app or till sends, and those that no app would.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::task::JoinSet;

use crate::refusals::problem;
use crate::support::{FakeUpstream, ORDER, RawClient, SOON, TestRelay, post};

const ORDERS: &str = "/v1/beacon/conversion";
const CLICK: &str = "/v1/beacon/click/a1?pos=1&sign=0F";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded;charset=UTF-8\r\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let coded = encoder.write_all(bytes).and_then(|()| encoder.finish());
    coded.expect("memory takes it")
}

#[tokio::test]
async fn what_other_programs_coded_arrives_as_it_was_written() {
    // By gzip 1.12, zstd 1.5.4 (level 19 with size and sum; a stream of unknown size without) and
    // Node.js 20's zlib and brotli.
    let coded: [(&str, &[u8]); 6] = [
        ("gzip", include_bytes!("../corpus/coded/order.gz")),
        ("br", include_bytes!("../corpus/coded/order.br")),
        ("zstd", include_bytes!("../corpus/coded/order.zst")),
        ("ZSTD, identity", include_bytes!("../corpus/coded/order-stream.zst")),
        ("deflate", include_bytes!("../corpus/coded/order.zlib")),
        ("deflate", include_bytes!("../corpus/coded/order.deflate")),
    ];
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with(
        "[[source]]\nname = \"beacon-conversion\"\ndedupe = false",
        &upstream,
    )
    .await;
    for (name, body) in coded {
        let answer = relay.post_with(ORDERS, &format!("Content-Encoding: {name}\r\n"), body).await;
        assert_eq!(answer.status, 202, "{name}: {}", answer.text());
        let arrived = upstream.next_event().await;
        assert_eq!(arrived.body, ORDER, "{name}");
        assert_eq!(arrived.headers.get("content-encoding"), None);
    }
    let twice = gzip(coded[1].1);
    for lines in
        ["Content-Encoding: br, gzip\r\n", "Content-Encoding: br\r\nContent-Encoding: gzip\r\n"]
    {
        assert_eq!(relay.post_with(ORDERS, lines, &twice).await.status, 202);
        assert_eq!(upstream.next_event().await.body, ORDER);
    }
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_byte_order_mark_inside_a_coding_stays_behind() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let coded = gzip(b"\xef\xbb\xbf{\"user_id\":\"u\"}");
    assert_eq!(relay.post_with(CLICK, "Content-Encoding: gzip\r\n", coded).await.status, 202);
    assert_eq!(upstream.next_event().await.body, r#"{"user_id":"u"}"#);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_body_that_inflates_beyond_a_limit_is_refused_quickly() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let zeros = gzip(&vec![b' '; 1 << 20]);
    assert!(zeros.len() < 2000, "{}", zeros.len());
    let nested = gzip(&gzip(&vec![b' '; 64 << 20]));
    // 100 KiB that came in 200 bytes: under the size, over the ratio.
    let regular = gzip(&vec![b' '; 100 << 10]);
    let bombs = [("gzip", zeros), ("gzip, gzip", nested), ("gzip", regular)];
    for (name, bomb) in bombs {
        let begun = Instant::now();
        let head = format!("Content-Encoding: {name}\r\n");
        problem(&relay.post_with(CLICK, &head, bomb).await, 413, "body_too_large");
        // A release build takes about a millisecond, a debug build on a busy machine a second: what
        // takes as long as this does work for all that the bytes claim to hold.
        assert!(begun.elapsed() < Duration::from_secs(15), "{name} took {:?}", begun.elapsed());
    }
    // What is small may compress as well as it can.
    let small = format!(r#"{{"session_id":"{}"}}"#, "u".repeat(60_000));
    let coded = gzip(small.as_bytes());
    assert!(small.len() / coded.len() > 300, "{}", coded.len());
    assert_eq!(relay.post_with(CLICK, "Content-Encoding: gzip\r\n", coded).await.status, 202);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn the_inflation_ratio_is_the_operators() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with("[server]\ninflate_ratio_max = 2000", &upstream).await;
    let large = format!(r#"{{"session_id":"{}"}}"#, "u".repeat(200_000));
    let coded = gzip(large.as_bytes());
    assert_eq!(relay.post_with(CLICK, "Content-Encoding: gzip\r\n", coded).await.status, 202);
    assert_eq!(upstream.next_event().await.body, large);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_body_that_is_not_what_its_coding_says_is_told_so() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let order = gzip(ORDER.as_bytes());
    let damaged = [order[..40].to_vec(), vec![0xff; 8], order[48..].to_vec()].concat();
    let cases: [(&str, &[u8]); 6] = [
        ("gzip", ORDER.as_bytes()),
        ("gzip", &order[..order.len() - 1]),
        ("gzip", &damaged),
        ("gzip", &[&order[..], b"{}"].concat()),
        ("br", &order),
        ("zstd", b"\x28\xb5\x2f\xfd"),
    ];
    for (name, body) in cases {
        let head = format!("Content-Encoding: {name}\r\n");
        problem(&relay.post_with(ORDERS, &head, body).await, 400, "bad_encoding");
    }
    // A coding around what is no JSON changes nothing about it.
    let answer = relay.post_with(ORDERS, "Content-Encoding: gzip\r\n", gzip(b"{")).await;
    problem(&answer, 400, "malformed_json");
    for name in ["compress", "gzip, gzip, gzip", "br;q=1"] {
        let head = format!("Content-Encoding: {name}\r\n");
        let answer = relay.post_with(ORDERS, &head, &order).await;
        problem(&answer, 415, "unsupported_media_type");
        assert_eq!(answer.header("accept-encoding"), Some("gzip, br, zstd, deflate"));
    }
    let answer = relay.post_with(ORDERS, "Content-Type: image/png\r\n", ORDER).await;
    assert_eq!(answer.header("accept-encoding"), None);
    relay.finish().await;
}

#[tokio::test]
async fn a_form_is_forwarded_as_json_in_its_order() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let cases = [
        ("session_id=a&user_id=b", r#"{"session_id":"a","user_id":"b"}"#),
        ("z=%7B%22%7D&session_id=Caf%C3%A9+1%2B1", r#"{"z":"{\"}","session_id":"Café 1+1"}"#),
        ("\u{feff}user_id=u&n=1899.00&x", r#"{"user_id":"u","n":"1899.00","x":""}"#),
    ];
    for event in ["impression", "view", "click"] {
        for (form, json) in cases {
            let target = format!("/v1/beacon/{event}/1?x=a+b&y=%zz");
            let answer = relay.post_with(&target, FORM, form).await;
            assert_eq!((answer.status, answer.body.len()), (202, 0), "{form}");
            let arrived = upstream.next_event().await;
            assert_eq!((arrived.target.as_str(), &arrived.body[..]), (&*target, json.as_bytes()));
            assert_eq!(arrived.headers.get("content-type"), Some("application/json"));
        }
    }
    let head = format!("{FORM}Content-Encoding: gzip\r\n");
    assert_eq!(relay.post_with(CLICK, &head, gzip(b"user_id=u")).await.status, 202);
    assert_eq!(upstream.next_event().await.body, r#"{"user_id":"u"}"#);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_form_that_is_no_ad_event_is_refused() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    problem(&relay.post_with(CLICK, FORM, "user_id=a&user_id=b").await, 400, "duplicate_key");
    problem(&relay.post_with(CLICK, FORM, "user_id=a&%75ser_id=a").await, 400, "duplicate_key");
    problem(&relay.post_with(CLICK, FORM, "user_id=%FF").await, 400, "bad_encoding");
    problem(&relay.post_with(CLICK, FORM, b"user_id=caf\xe9").await, 400, "bad_encoding");
    problem(&relay.post_with(CLICK, FORM, "").await, 400, "malformed_json");
    let answer = relay.post_with(CLICK, FORM, "pos=1").await;
    assert_eq!((answer.status, answer.json().as_array().map(Vec::len)), (422, Some(3)));
    let answer = relay.post_with(CLICK, FORM, "user_id=ana%40example.com").await;
    assert_eq!((answer.status, &answer.json()[0]["instancePath"]), (422, &"/user_id".into()));
    // Orders hold items, which no form can.
    problem(&relay.post_with(ORDERS, FORM, "order_id=1").await, 415, "unsupported_media_type");
    let mixed = format!("Content-Type: application/json\r\n{FORM}");
    problem(&relay.post_with(CLICK, &mixed, "{}").await, 415, "unsupported_media_type");
    let status = relay.status().await;
    let sources = status["sources"].as_array().unwrap();
    let clicks = sources.iter().find(|source| source["name"] == "beacon-click").unwrap();
    assert_eq!(clicks["rejected"], 7, "each is an item, and counted");
    relay.finish().await;
}

#[tokio::test]
async fn an_empty_body_is_an_event_when_the_query_says_who() {
    let mut upstream = FakeUpstream::start().await;
    let each = ["impression", "view", "click"];
    let each = each.map(|kind| format!("[[source]]\nname = \"beacon-{kind}\"\ndedupe = false\n"));
    let relay = TestRelay::start_with(&each.concat(), &upstream).await;
    let targets = [
        "/v1/beacon/impression/1?publisher_id=p&user_id=u%20x&requested_at=1&requested_at=2",
        "/v1/beacon/view/1?session_id=s&x=%FF&user_id=",
        "/v2/beacon/click/1?user_id=u&session_id=s&sign=%2f",
    ];
    let heads = ["", FORM, "Content-Type: text/plain\r\n", "Content-Encoding: gzip\r\n"];
    for (target, head) in targets.into_iter().flat_map(|target| heads.map(|head| (target, head))) {
        let answer = relay.post_with(target, head, "").await;
        assert_eq!((answer.status, answer.body.len()), (202, 0), "{target} {head}");
        let arrived = upstream.next_event().await;
        assert_eq!((arrived.target.as_str(), arrived.body.len()), (target, 0));
        assert_eq!(arrived.headers.get("content-type"), Some("application/json"));
        assert_eq!(arrived.headers.get("content-length"), Some("0"));
    }
    // A request without a length has no body either.
    let bare = "POST /v1/beacon/click/1?user_id=u HTTP/1.1\r\nHost: r\r\n\r\n";
    assert_eq!(relay.send(bare.as_bytes()).await.status, 202);
    upstream.next_event().await;
    relay.settled().await;
    assert_eq!(upstream.sandbox.stats().accepted, 13);
    relay.finish().await;
}

#[tokio::test]
async fn an_empty_body_without_identity_is_no_event() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    for target in ["/v1/beacon/click/1", "/v1/beacon/click/1?user_id=&pos=1&xuser_id=u"] {
        problem(&relay.post(target, "").await, 400, "malformed_json");
    }
    let twice = "/v1/beacon/click/1?user_id=a&user_id=b";
    problem(&relay.post(twice, "").await, 400, "duplicate_key");
    problem(&relay.post("/v1/beacon/click/1?user_id=%FF", "").await, 400, "bad_encoding");
    let answer = relay.post("/v1/beacon/click/1?user_id=ana%40example.com", "").await;
    assert_eq!((answer.status, &answer.json()[0]["instancePath"]), (422, &"/user_id".into()));
    assert!(!answer.text().contains("ana"));
    problem(&relay.post("/v1/beacon/conversion?user_id=u", "").await, 400, "malformed_json");
    // White space is no empty body, nor does a query mend a body that is not JSON.
    problem(&relay.post("/v1/beacon/click/1?user_id=u", " ").await, 400, "malformed_json");
    relay.finish().await;
}

#[tokio::test]
async fn what_cannot_be_told_apart_from_another_document_is_refused() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let deep = format!(r#"{{"user_id":"u","x":{}1{}}}"#, "[".repeat(64), "]".repeat(64));
    let malformed: [&[u8]; 11] = [
        b"{\"user_id\":\"u\"} {}",
        b"{\"user_id\":\"u\"}\0",
        b"{\"user_id\":\"u\",\"n\":NaN}",
        b"{\"user_id\":\"u\",\"n\":-Infinity}",
        b"{\"user_id\":\"u\",\"n\":1e400}",
        b"{\"user_id\":\"\\ud800\"}",
        b"{\"user_id\":\"\\udc00\\ud800\"}",
        b"{\"user_id\":\"\xff\"}",
        b"{\"user_id\":\"\xed\xa0\x80\"}",
        b"\xff\xfe{\0}\0",
        deep.as_bytes(),
    ];
    for body in malformed {
        problem(&relay.post(CLICK, body).await, 400, "malformed_json");
    }
    let charset = "Content-Type: application/json; charset=utf-16\r\n";
    problem(&relay.post_with(CLICK, charset, b"{\0}\0").await, 400, "malformed_json");
    for twice in [r#"{"user_id":"a","user_id":"b"}"#, r#"{"user_id":"a","x":{"y":1,"\u0079":1}}"#] {
        problem(&relay.post(CLICK, twice).await, 400, "duplicate_key");
    }
    relay.finish().await;
}

#[tokio::test]
async fn numbers_order_and_spaces_survive_byte_for_byte() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let body = "{\n\t\"z\":1899.00, \"a\" : 1E+2,\"big\":12345678901234567890123,\"e\":-0.0,\
                \"user_id\":\"\\u0041\\/\\n\",\"\\u007a2\":[ ],\"__proto__\":{},\"\":null}\r\n ";
    for charset in ["utf-8", "UTF8", "\"utf-8\"", "iso-8859-1"] {
        let head = format!("Content-Type: Application/JSON; Charset={charset}\r\n");
        let answer = relay.post_with("/v1/beacon/view/1", &head, body).await;
        assert_eq!(answer.status, 202, "{charset}: {}", answer.text());
        assert_eq!(upstream.next_event().await.body, body);
    }
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_length_that_lies_makes_no_event_of_another() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with("[server]\nbody_within = \"1 s\"", &upstream).await;
    let whole = r#"{"user_id":"u"}"#;
    // Longer than what comes: waited for and given up, with the connection.
    let head = format!("POST {CLICK} HTTP/1.1\r\nHost: r\r\nContent-Length: 99\r\n\r\n{whole}");
    let mut client = RawClient::connect(relay.addr()).await;
    problem(&client.exchange(head.as_bytes()).await, 408, "body_timeout");
    client.end().await;
    // Shorter: what is left over is no request, and what was taken no document.
    let head = format!("POST {CLICK} HTTP/1.1\r\nHost: r\r\nContent-Length: 5\r\n\r\n{whole}");
    let mut client = RawClient::connect(relay.addr()).await;
    problem(&client.exchange(head.as_bytes()).await, 400, "malformed_json");
    client.end().await;
    // Two lengths, or a length beside chunks, are two readings of one request.
    for lines in [
        "Content-Length: 5\r\nContent-Length: 15\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 15\r\nTransfer-Encoding: xchunked\r\n",
    ] {
        let request = format!("POST {CLICK} HTTP/1.1\r\nHost: r\r\n{lines}\r\n{whole}");
        let mut client = RawClient::connect(relay.addr()).await;
        assert_eq!(client.exchange(request.as_bytes()).await.status, 400, "{lines}");
        client.end().await;
    }
    // In chunks of one byte, with a coding inside: the same event.
    let coded = gzip(whole.as_bytes());
    let mut request = format!(
        "POST {CLICK} HTTP/1.1\r\nHost: r\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for byte in &coded {
        request.extend([b"1\r\n", &[*byte][..], b"\r\n"].concat());
    }
    request.extend(b"0\r\n\r\n");
    assert_eq!(relay.send(&request).await.status, 202);
    assert_eq!(upstream.next_event().await.body, whole);
    relay.settled().await;
    assert_eq!(upstream.sandbox.stats().requests, 1);
    relay.finish().await;
}

#[tokio::test]
async fn a_connection_goes_on_after_a_refused_coding() {
    let mut upstream = FakeUpstream::start().await;
    let relay = TestRelay::start(&upstream).await;
    let mut client = RawClient::connect(relay.addr()).await;
    let head = "Content-Encoding: gzip\r\n";
    let bad = client.exchange(&post(CLICK, head, "not gzip")).await;
    problem(&bad, 400, "bad_encoding");
    let good = client.exchange(&post(CLICK, head, gzip(br#"{"user_id":"u"}"#))).await;
    assert_eq!(good.status, 202);
    upstream.next_event().await;
    relay.settled().await;
    relay.finish().await;
}

/// More callers at once than there is memory for: each is taken whole or told to come again.
#[tokio::test]
async fn bodies_under_way_have_a_bound_together() {
    const CALLERS: usize = 20;
    let upstream = FakeUpstream::start().await;
    let bounds = "[server]\nmany_max = \"1 MiB\"\nbodies_max = \"2 MiB\"";
    let relay = TestRelay::start_with(bounds, &upstream).await;
    let (addr, mut callers) = (relay.addr(), JoinSet::new());
    let go_on = Arc::new(tokio::sync::Semaphore::new(0));
    let (refused, mut told) = tokio::sync::mpsc::channel(CALLERS);
    for n in 0..CALLERS {
        let body = format!(r#"{{"session_id":"{}"}}"#, "s".repeat(255_000));
        let request = post(&format!("/v1/beacon/view/{n}"), "", body);
        let (go_on, refused) = (Arc::clone(&go_on), refused.clone());
        callers.spawn(async move {
            let mut client = RawClient::connect(addr).await;
            let (most, last) = request.split_at(request.len() - 1);
            client.send(most).await;
            tokio::select! {
                // Nobody polls for an answer again that was half read: it is the last one.
                answer = client.answer() => {
                    refused.send(()).await.unwrap();
                    return answer.unwrap();
                }
                _ = go_on.acquire() => {}
            }
            client.exchange(last).await
        });
    }
    // Eight bodies fill it; nobody else is let in while none of them ends.
    for _ in 0..CALLERS - 8 {
        tokio::time::timeout(SOON, told.recv()).await.expect("is told at once").unwrap();
    }
    go_on.close();
    let answers = callers.join_all().await;
    let taken = answers.iter().filter(|answer| answer.status == 202).count();
    assert!((2..=8).contains(&taken), "{taken} were taken");
    for answer in answers.iter().filter(|answer| answer.status != 202) {
        problem(answer, 503, "overloaded");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    // All of it is free again: four times over.
    for n in 0..32 {
        let body = format!(r#"{{"session_id":"{}"}}"#, "s".repeat(255_000));
        assert_eq!(relay.post(&format!("/v1/beacon/view/again-{n}"), body).await.status, 202);
    }
    // Inflated bytes count too.
    let inflating = gzip(format!(r#"{{"session_id":"{}"}}"#, "s".repeat(60_000)).as_bytes());
    let answer =
        relay.post_with("/v1/beacon/view/z", "Content-Encoding: gzip\r\n", inflating).await;
    assert_eq!(answer.status, 202);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_slow_body_takes_the_place_of_a_request() {
    let upstream = FakeUpstream::start().await;
    let relay = TestRelay::start_with("[server]\nrequests_max = 1", &upstream).await;
    let request = post("/v1/beacon/view/1", "", r#"{"user_id":"u"}"#);
    let (most, last) = request.split_at(request.len() - 1);
    let mut slow = RawClient::connect(relay.addr()).await;
    slow.send(most).await;
    // Until its head is read the place is free.
    let full = async {
        while relay.post("/v1/beacon/view/2", r#"{"user_id":"u"}"#).await.status == 202 {}
    };
    tokio::time::timeout(SOON, full).await.expect("the place is taken");
    problem(&relay.post("/v1/beacon/view/2", "{").await, 503, "overloaded");
    assert_eq!(slow.exchange(last).await.status, 202);
    assert_eq!(relay.post("/v1/beacon/view/2", r#"{"user_id":"u"}"#).await.status, 202);
    relay.settled().await;
    relay.finish().await;
}
