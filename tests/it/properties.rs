//! The properties that `fuzz/` looks for faults of, on a bounded number of made-up requests.
//!
//! Every run makes up the same ones; `PROPERTIES_SEED=n` others, and `fuzz/` goes on looking.

#[path = "../../fuzz/properties.rs"]
mod held;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use beacon_relay::source::media::Media;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use held::Request;

/// Requests of one run: about a second of a debug build.
const CASES: u32 = 1500;

/// What a run is made up from that asks for nothing else: a change fails by what it changes, not by
/// the run that it happens to meet.
const SEED: u64 = 1;

fn holds(requests: impl Strategy<Value = Request>, property: Property) {
    let given = std::env::var("PROPERTIES_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or(SEED);
    println!("PROPERTIES_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let told = runner.run(&requests, |request| {
        property(&request);
        Ok(())
    });
    if let Err(fault) = told {
        panic!("{fault}");
    }
}

const NAMES: [&str; 20] = [
    "user_id",
    "session_id",
    "order_id",
    "publisher_id",
    "items",
    "created_at",
    "channel",
    "email_hashed",
    "email",
    "sku",
    "quantity",
    "price",
    "promotional_price",
    "seller_id",
    "gender",
    "is_company",
    "phone_hashed",
    "a/b~c",
    "\\u007a",
    "",
];

/// Numbers as people and machines spell them.
const NUMBERS: [&str; 10] = [
    "0",
    "-0.0",
    "1899.00",
    "1E+2",
    "12345678901234567890123",
    "1e308",
    "0.1",
    "5e-324",
    "-1",
    "9007199254740993",
];

/// What a lenient parser may take, and this one must not.
const NO_VALUES: [&str; 6] = ["NaN", "1e400", "01", "1.", "\"\\ud800\"", "'a'"];

/// As headers have them.
const ENCODINGS: [&str; 9] =
    ["", "", "gzip", "br", "zstd", "deflate", "deflate, gzip", "br, zstd", "x"];

/// JSON text, of the kinds that the schemas know, in spellings that a parser might change.
fn json_text() -> impl Strategy<Value = String> {
    let string = "([a-zA-Z0-9@+. -]|\\\\u00e9|\\\\n|\\\\ud83d\\\\ude00|é){0,12}";
    let leaf = prop_oneof![
        8 => select(&["null", "true", "false", "\"2023-01-01T09:20:00Z\""][..])
            .prop_map(str::to_owned),
        10 => select(&NUMBERS[..]).prop_map(str::to_owned),
        20 => string.prop_map(|text| format!("\"{text}\"")),
        1 => select(&NO_VALUES[..]).prop_map(str::to_owned),
    ];
    let space = || select(&["", "", " ", "\n\t", "\r\n"][..]);
    leaf.prop_recursive(4, 40, 8, move |inner| {
        let item = (space(), inner.clone()).prop_map(|(space, value)| format!("{space}{value}"));
        let member = (select(&NAMES[..]), space(), inner)
            .prop_map(|(name, space, value)| format!("\"{name}\"{space}:{space}{value}"));
        let known = vec(member.clone(), 1..5)
            .prop_map(|members| format!("{{\"session_id\":\"s\" ,{}}}", members.join(",")));
        prop_oneof![
            1 => vec(item, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            2 => vec(member, 0..8).prop_map(|members| format!("{{{}}}", members.join(","))),
            3 => known,
        ]
    })
}

/// A form, or a query: names, escapes sound and broken, bytes of any kind.
fn pairs() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        6 => select(&NAMES[..4]).prop_map(|name| name.as_bytes().to_vec()),
        4 => "([a-z+]|%[0-7][0-9a-fA-F]|%C3%A9|%|%4|é){0,8}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..4),
    ];
    let pair = (text.clone(), select(&["=", "", "=="][..]), text)
        .prop_map(|(key, equals, value)| [&key, equals.as_bytes(), &value].concat());
    (vec(pair, 0..8), select(&["", "&session_id=s", "&user_id=u"][..])).prop_map(|(pairs, who)| {
        let mut joined = pairs.join(&b'&');
        joined.extend(who.as_bytes());
        joined
    })
}

fn requests() -> impl Strategy<Value = Request> {
    let json = json_text().prop_map(|text| (Media::Json, text.into_bytes()));
    let marked =
        json_text().prop_map(|text| (Media::Json, ["\u{feff}", &text].concat().into_bytes()));
    let media_and_body = prop_oneof![
        4 => json,
        1 => marked,
        3 => pairs().prop_map(|form| (Media::Form, form)),
        1 => select(&[Media::Json, Media::Form][..]).prop_map(|media| (media, Vec::new())),
        1 => vec(any::<u8>(), 0..300).prop_map(|bytes| (Media::Json, bytes)),
    ];
    (prop::bool::weighted(0.25), select(&ENCODINGS[..]), pairs(), media_and_body).prop_map(
        |(is_order, encoding, query, (media, body))| {
            let encoding = encoding.as_bytes().to_vec();
            Request { is_order, media, encoding, query, body }
        },
    )
}

/// Coded bodies with some bytes changed, which get deeper into a decoder than any random ones.
fn damaged() -> impl Strategy<Value = Request> {
    let coded: [(&str, &[u8]); 6] = [
        ("gzip", include_bytes!("../corpus/coded/order.gz")),
        ("br", include_bytes!("../corpus/coded/order.br")),
        ("zstd", include_bytes!("../corpus/coded/order.zst")),
        ("zstd", include_bytes!("../corpus/coded/order-stream.zst")),
        ("deflate", include_bytes!("../corpus/coded/order.zlib")),
        ("deflate", include_bytes!("../corpus/coded/order.deflate")),
    ];
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    let cut = any::<prop::sample::Index>();
    (select(coded.to_vec()), changes, cut, any::<bool>()).prop_map(
        |((encoding, coded), changes, cut, cuts)| {
            let mut body = coded.to_vec();
            for (at, byte) in changes {
                let at = at.index(body.len());
                body[at] = byte;
            }
            if cuts {
                body.truncate(cut.index(body.len()));
            }
            let encoding = encoding.as_bytes().to_vec();
            Request { is_order: true, media: Media::Json, encoding, query: Vec::new(), body }
        },
    )
}

#[test]
fn no_bytes_make_the_relay_panic_or_inflate_beyond_a_limit() {
    holds(prop_oneof![requests(), damaged()], held::decode);
}

#[test]
fn no_violation_quotes_a_value() {
    holds(requests(), held::ajv);
}

#[test]
fn nothing_of_raw_identity_is_stored_sent_or_answered() {
    holds(requests(), held::identity);
}

#[test]
fn what_is_forwarded_is_the_document_that_was_received() {
    holds(requests(), held::forward);
}

#[test]
fn made_up_requests_come_to_every_end() {
    let mut ends = BTreeMap::new();
    let mut runner = TestRunner::deterministic();
    for _ in 0..CASES {
        let request = requests().new_tree(&mut runner).unwrap().current();
        *ends.entry(held::end(&request)).or_insert(0) += 1;
    }
    println!("{ends:?}");
    for (end, least) in [
        ("empty", 20),
        ("form", 20),
        ("json", 100),
        ("malformed", 100),
        ("duplicate key", 20),
        ("repeated key", 20),
        ("not UTF-8", 20),
        ("invalid", 100),
    ] {
        assert!(ends.get(end).is_some_and(|count| *count >= least), "{end}: {ends:?}");
    }
}

#[test]
fn a_fuzzers_bytes_become_a_request() {
    let request = Request::of(b"\x03\x01a=1\nbody").unwrap();
    assert!(request.is_order && request.media == Media::Form);
    let parts = [&request.encoding[..], &request.query, &request.body];
    assert_eq!(parts, [&b"gzip"[..], b"a=1", b"body"]);
    assert!(Request::of(b"\x00\x00no line feed").is_none());
}

type Property = fn(&Request);

/// What `fuzz/fuzz_targets` looks for faults of.
const TARGETS: [(&str, Property); 4] = [
    ("ajv", held::ajv),
    ("decode", held::decode),
    ("forward", held::forward),
    ("identity", held::identity),
];

fn fuzz(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
}

fn entries(path: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fuzz(path)).unwrap();
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

#[test]
fn what_a_fuzzer_begins_with_breaks_no_property() {
    let seeds = entries("seeds");
    assert!(seeds.len() >= 16, "{seeds:?}");
    for seed in seeds {
        let bytes = std::fs::read(&seed).unwrap();
        assert!(Request::of(&bytes).is_some(), "{}", seed.display());
        println!("{}", seed.display());
        for (_, property) in TARGETS {
            // Whole, and broken off.
            for part in [8, 7, 5, 3] {
                held::hold(property, &bytes[..bytes.len() * part / 8]);
            }
        }
    }
}

/// The fuzzer's own crate is compiled on a nightly toolchain alone. So a target holds one line that
/// could be wrong, and all that it calls is compiled and run here.
#[test]
fn each_fuzz_target_is_one_line_around_a_property_of_its_name() {
    let manifest = std::fs::read_to_string(fuzz("Cargo.toml")).unwrap();
    let mut expected = Vec::new();
    for (name, _) in TARGETS {
        let path = fuzz(&format!("fuzz_targets/{name}.rs"));
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, code) = text.split_once('\n').unwrap();
        assert!(head.starts_with("//! "), "{name} says what must hold");
        let line = format!(
            "#![no_main]\n\n#[path = \"../properties.rs\"]\nmod properties;\n\n\
             libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::hold(properties::{name}, bytes));\n"
        );
        assert_eq!(code, line, "{name}");
        let built = format!("[[bin]]\nname = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(manifest.contains(&built), "{name} is not in fuzz/Cargo.toml");
        expected.push(path);
    }
    assert_eq!(entries("fuzz_targets"), expected);
}
