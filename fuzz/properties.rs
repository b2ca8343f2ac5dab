//! What holds for every request, whoever made it up. Each property panics where it does not hold.
#![allow(dead_code, reason = "each fuzz target uses the property that it is named for")]

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Write;
use std::sync::LazyLock;

use beacon_relay::caller::Caller;
use beacon_relay::clock::Timestamp;
use beacon_relay::config::Layers;
use beacon_relay::event::ClientHeaders;
use beacon_relay::json::{self, JsonFault, Node};
use beacon_relay::source::coding::{Coding, Codings};
use beacon_relay::source::inflate::{InflateFault, inflate};
use beacon_relay::source::media::Media;
use beacon_relay::source::sent_at::SentAt;
use beacon_relay::source::{PairsFault, Raw, Received, Reject, Source};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::Value;

/// What a made-up request consists of.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// An order, or else a click.
    pub(crate) is_order: bool,
    /// What its body is said to be.
    pub(crate) media: Media,
    /// A `Content-Encoding`.
    pub(crate) encoding: Vec<u8>,
    /// Behind the path of a click.
    pub(crate) query: Vec<u8>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// Codings that a fuzzer reaches with one byte.
const ENCODINGS: [&str; 8] =
    ["", "gzip", "br", "zstd", "deflate", "deflate, gzip", "br, zstd", "gzip;x"];

/// Levels of nesting, and bytes of a body, as the configuration has them.
const DEPTH_MAX: usize = 64;
const BODY_MAX: usize = 256 << 10;

struct Sources {
    order: Source,
    click: Source,
}

static SOURCES: LazyLock<Sources> = LazyLock::new(|| {
    let plan = Layers::default().plan().expect("the compiled-in configuration is sound");
    let mut sources = plan.sources.into_iter();
    let mut named = |name: &str| {
        let settings = sources.find(|source| source.name.as_str() == name);
        Source::new(settings.expect("it is built in"), DEPTH_MAX)
    };
    Sources { order: named("beacon-conversion"), click: named("beacon-click") }
});

impl Request {
    /// The request that a fuzzer's bytes stand for: two bytes of choices, a query up to a line
    /// feed, and the body.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let [kind, encoding, rest @ ..] = bytes else { return None };
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        Some(Self {
            is_order: kind & 1 == 1,
            media: if kind & 2 == 2 { Media::Form } else { Media::Json },
            encoding: ENCODINGS[usize::from(*encoding) % ENCODINGS.len()].into(),
            query: rest[..end].to_vec(),
            body: rest[end + 1..].to_vec(),
        })
    }

    fn source(&self) -> &'static Source {
        if self.is_order { &SOURCES.order } else { &SOURCES.click }
    }

    fn received(&self) -> Received {
        let target = [b"/v1/beacon/click/1?", &self.query[..]].concat();
        let at = Timestamp::from_millis(1_700_000_000_000);
        let (caller, headers) = (Caller::terminal(false), ClientHeaders::default());
        Received { target: target.into(), at, caller, sent_at: SentAt::Unsaid, headers }
    }

    fn raw(&self, body: impl Into<Bytes>) -> Raw {
        Raw { body: body.into(), media: self.media }
    }
}

/// Holds `property` against what a fuzzer made up.
pub(crate) fn hold(property: fn(&Request), bytes: &[u8]) {
    if let Some(request) = Request::of(bytes) {
        property(&request);
    }
}

/// No bytes make the relay panic, or inflate beyond their limit.
pub(crate) fn decode(request: &Request) {
    let _ = Media::of([&request.encoding[..]]);
    let Some(codings) = Codings::of([&request.encoding[..]]) else { return };
    for most in [0, 1000, BODY_MAX] {
        match inflate(codings, &request.body, most) {
            Ok(body) if codings.is_identity() => assert_eq!(body, request.body),
            Ok(body) => {
                assert!(body.len() <= most, "{} bytes where {most} are allowed", body.len());
                let _ = request.source().admit(&request.received(), &request.raw(body));
            }
            Err(InflateFault::TooLarge { most: told }) => assert_eq!(told, most),
            Err(InflateFault::Corrupt) => {}
            Err(InflateFault::NoRoom) => unreachable!("there is always room"),
        }
    }
    let _ = request.source().admit(&request.received(), &request.raw(request.body.clone()));
}

/// What becomes of a request, for a test of the tests: made-up requests must reach every end.
pub(crate) fn end(request: &Request) -> &'static str {
    let raw = request.raw(request.body.clone());
    match request.source().admit(&request.received(), &raw) {
        Ok(admitted) if admitted.event.event.body.bytes().is_empty() => "empty",
        Ok(_) if request.media == Media::Form => "form",
        Ok(_) => "json",
        Err(Reject::Syntax(JsonFault::Malformed { .. })) => "malformed",
        Err(Reject::Syntax(JsonFault::TooDeep { .. })) => "too deep",
        Err(Reject::Syntax(JsonFault::DuplicateKey { .. })) => "duplicate key",
        Err(Reject::Pairs(PairsFault::RepeatedKey(_))) => "repeated key",
        Err(Reject::Pairs(PairsFault::NotUtf8(_))) => "not UTF-8",
        Err(Reject::TooLarge { .. }) => "too large",
        Err(Reject::Invalid(_)) => "invalid",
        Err(Reject::Unauthorized | Reject::Publisher | Reject::SourceNotAllowed) => {
            unreachable!("whoever asks speaks for all")
        }
        Err(Reject::EventUrl(_)) => {
            unreachable!("no URL is named")
        }
    }
}

/// What stands in every value of a marked document, and must not stand in an answer.
const CANARY: &str = "canary-7f3a";
const CANARY_NUMBER: &str = "73317331.25";

/// No violation quotes a value of the body, and the checked verdict is the violations' own.
pub(crate) fn ajv(request: &Request) {
    let Ok(document) = json::parse(&request.body, DEPTH_MAX) else { return };
    let mut marked = String::new();
    mark(&document, &mut marked);
    if String::from_utf8_lossy(&request.body).contains("canary") {
        return; // a key may be quoted
    }
    let raw = Raw { body: marked.into(), media: Media::Json };
    for source in [&SOURCES.order, &SOURCES.click] {
        let Err(Reject::Invalid(violations)) = source.admit(&request.received(), &raw) else {
            continue;
        };
        assert!(!violations.is_empty(), "refused without saying why");
        let answer = violations.to_json();
        let told = String::from_utf8(answer.to_vec()).expect("JSON is UTF-8");
        for canary in [CANARY, "73317331"] {
            assert!(!told.contains(canary), "a value is quoted: {told}");
        }
        for violation in violations.iter() {
            assert!(!violation.field().contains(CANARY), "a value is a label");
        }
        let parsed: Value = serde_json::from_slice(&answer).expect("the answer is JSON");
        assert!(parsed.as_array().is_some_and(|errors| !errors.is_empty()));
    }
}

/// Writes `node` as JSON with a canary in each text and for each number; keys stay.
fn mark(node: &Node<'_>, out: &mut String) {
    let quoted = |text: &str| Value::from(text).to_string();
    match node {
        Node::Null => out.push_str("null"),
        Node::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Node::Number(_) => out.push_str(CANARY_NUMBER),
        Node::String(text) => out.push_str(&quoted(&format!("{CANARY}{text}{CANARY}"))),
        Node::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                out.push_str(if n == 0 { "" } else { "," });
                mark(item, out);
            }
            out.push(']');
        }
        Node::Object(members) => {
            out.push('{');
            for (n, (key, value)) in members.iter().enumerate() {
                out.push_str(if n == 0 { "" } else { "," });
                out.push_str(&quoted(key));
                out.push(':');
                mark(value, out);
            }
            out.push('}');
        }
    }
}

/// Members of an order that name a person.
const RAW: [&str; 5] = ["email", "phone", "social_id", "first_name", "last_name"];

/// Whatever a client writes into the members that name a person, no word of it is in what is
/// stored, sent or answered; and a normal form is its own.
pub(crate) fn identity(request: &Request) {
    let (tail, head) =
        (String::from_utf8_lossy(&request.query), String::from_utf8_lossy(&request.body));
    let mut marked = format!("\"{CANARY}\"");
    if let Ok(document) = json::parse(&request.body, DEPTH_MAX - 1) {
        marked.clear();
        mark(&document, &mut marked);
    }
    if [&tail, &head].iter().any(|text| text.contains("canary") || text.contains("73317331")) {
        return; // the marks would not be ours
    }
    for form in SOURCES.order.settings().pii.iter().flat_map(|profile| &profile.rules) {
        for text in [&*tail, &*head] {
            if let Ok(first) = form.form.normal(text) {
                let again = form.form.normal(&first.text);
                assert_eq!(
                    again.map(|again| again.text),
                    Ok(first.text),
                    "a normal form has another"
                );
            }
        }
    }
    let quoted = |text: String| Value::from(text).to_string();
    let sound = [
        format!("{CANARY}@{CANARY}.example"),
        "(11) 97331-7331".to_owned(),
        "73317331000".to_owned(),
        CANARY.to_owned(),
        CANARY.to_owned(),
    ];
    let joined = |with: &dyn Fn(&str) -> String| sound.clone().map(|own| quoted(with(&own)));
    let plainly = joined(&|own| own.to_owned());
    for values in [
        plainly.clone(),
        joined(&|own| format!("{own}{tail}")),
        joined(&|own| format!("{head}{own}")),
        [0; 5].map(|_| marked.clone()),
    ] {
        let raw: String =
            RAW.iter().zip(&values).map(|(name, value)| format!("\"{name}\":{value},")).collect();
        let order = format!(
            r#"{{"user_id":"u","order_id":"o","publisher_id":"p",{raw}"items":[{{"sku":"s","quantity":1,"price":1.00,"promotional_price":1}}],"created_at":"2023-01-01T09:20:00Z","session_id":"s","channel":"c"}}"#
        );
        for raw_identity in [true, false] {
            let mut received = request.received();
            received.caller.raw_identity = raw_identity;
            let raw = Raw { body: order.clone().into(), media: Media::Json };
            let end = SOURCES.order.admit(&received, &raw);
            let mut told = format!("{end:?}");
            assert!(end.is_ok() || !raw_identity || values != plainly, "sound values are refused");
            match end {
                Ok(admitted) => {
                    assert!(raw_identity, "a stranger's raw identity was taken");
                    let sent = admitted.event.event.body.bytes();
                    told += std::str::from_utf8(sent).expect("JSON is UTF-8");
                    told += &admitted.warnings.to_json();
                    let sent: Value = serde_json::from_slice(sent).expect("it is JSON");
                    for name in RAW {
                        assert!(sent.get(name).is_none(), "{name} was sent");
                        assert_eq!(sent[format!("{name}_hashed")].as_str().map(str::len), Some(64));
                    }
                }
                Err(Reject::Invalid(violations)) => {
                    told += std::str::from_utf8(&violations.to_json()).expect("JSON is UTF-8");
                }
                Err(Reject::Syntax(fault)) => told += &fault.to_string(),
                Err(other) => panic!("refused for something else: {other:?}"),
            }
            for canary in [CANARY, "73317331", "97331-7331"] {
                assert!(!told.contains(canary), "{canary} is told: {told}");
            }
        }
    }
}

/// What is forwarded is the document that was received, whatever was done to it on its way.
pub(crate) fn forward(request: &Request) {
    if request.is_order && request.media == Media::Form {
        return; // never gets this far: 415
    }
    let inflated = there_and_back(request);
    let (received, raw) = (request.received(), request.raw(inflated));
    let body = json::without_bom(&request.body);
    match request.source().admit(&received, &raw) {
        Ok(admitted) => {
            let sent = admitted.event.event.body.bytes();
            assert_eq!(admitted.event.event.target, received.target);
            match request.media {
                _ if body.is_empty() => assert!(sent.is_empty() && !request.is_order),
                Media::Json | Media::Lines => assert_eq!(sent, body),
                Media::Form => assert_eq!(members(sent), pairs(body)),
                Media::Query => unreachable!("none is made up"),
            }
            // Another parser of JSON sees one document there too, and no repeated key.
            if !sent.is_empty() {
                let other: Value = serde_json::from_slice(sent).expect("it was checked");
                let own = json::parse(sent, DEPTH_MAX).expect("it was checked");
                assert!(same(&own, &other), "two parsers read two documents");
            }
        }
        Err(Reject::Pairs(fault)) => {
            let pairs = if body.is_empty() { pairs(&request.query) } else { pairs(body) };
            let mut keys = HashSet::new();
            match fault {
                PairsFault::RepeatedKey(_) => {
                    assert!(pairs.iter().any(|(key, _)| !keys.insert(key)), "no key is repeated");
                }
                PairsFault::NotUtf8(_) => {
                    let replaced = |text: &str| text.contains('\u{fffd}');
                    assert!(pairs.iter().any(|(key, value)| replaced(key) || replaced(value)));
                }
            }
        }
        Err(Reject::Syntax(_) | Reject::TooLarge { .. } | Reject::Invalid(_)) => {}
        Err(Reject::Unauthorized | Reject::Publisher | Reject::SourceNotAllowed) => {
            unreachable!("whoever asks speaks for all")
        }
        Err(Reject::EventUrl(_)) => {
            unreachable!("no URL is named")
        }
    }
}

/// The body, coded as the request says and inflated again.
fn there_and_back(request: &Request) -> Vec<u8> {
    let Some(codings) = Codings::of([&request.encoding[..]]) else { return request.body.clone() };
    let outermost_first: Vec<Coding> = codings.outermost_first().collect();
    let coded = outermost_first.iter().rev().fold(request.body.clone(), |body, coding| {
        if body.is_empty() { body } else { code(*coding, &body) }
    });
    let most = request.body.len() * 2 + 1000;
    let inflated = inflate(codings, &coded, most).expect("what was coded comes back");
    assert_eq!(inflated, request.body);
    inflated
}

fn code(coding: Coding, body: &[u8]) -> Vec<u8> {
    let coded = match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(body).and_then(|()| encoder.finish())
        }
        // Both of its forms, by a choice that the body makes.
        Coding::Deflate if body.len().is_multiple_of(2) => {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(body).and_then(|()| encoder.finish())
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(body).and_then(|()| encoder.finish())
        }
        Coding::Brotli => {
            let params = brotli::enc::BrotliEncoderParams { quality: 2, ..Default::default() };
            let mut coded = Vec::new();
            brotli::BrotliCompress(&mut &*body, &mut coded, &params).map(|_| coded)
        }
        Coding::Zstd => Ok(compress_to_vec(body, CompressionLevel::Fastest)),
    };
    coded.expect("memory takes it")
}

/// The members of a JSON object of texts, in order.
fn members(object: &[u8]) -> Vec<(String, String)> {
    let object: serde_json::Map<String, Value> =
        serde_json::from_slice(object).expect("a form becomes an object");
    let text = |value: Value| value.as_str().expect("of texts").to_owned();
    object.into_iter().map(|(key, value)| (key, text(value))).collect()
}

/// The pairs of a form as the URL standard's own parser reads them.
fn pairs(form: &[u8]) -> Vec<(String, String)> {
    let owned = |(key, value): (Cow<'_, str>, Cow<'_, str>)| (key.into(), value.into());
    form_urlencoded::parse(form).map(owned).collect()
}

fn same(own: &Node<'_>, other: &Value) -> bool {
    match (own, other) {
        (Node::Null, Value::Null) => true,
        (Node::Bool(own), Value::Bool(other)) => own == other,
        (Node::Number(own), Value::Number(other)) => Some(*own) == other.as_f64(),
        (Node::String(own), Value::String(other)) => own == other,
        (Node::Array(own), Value::Array(other)) => {
            own.len() == other.len() && own.iter().zip(other).all(|(own, other)| same(own, other))
        }
        (Node::Object(own), Value::Object(other)) => {
            let mut both = own.iter().zip(other);
            own.len() == other.len()
                && both.all(|((key, own), (name, other))| key == name && same(own, other))
        }
        (
            Node::Null
            | Node::Bool(_)
            | Node::Number(_)
            | Node::String(_)
            | Node::Array(_)
            | Node::Object(_),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_),
        ) => false,
    }
}
