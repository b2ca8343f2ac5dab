//! What holds of any bytes that come to a partner's path, on a bounded number of made-up requests.
//!
//! Every run makes up the same ones; `PROPERTIES_SEED=n` others.

use beacon_relay::caller::Caller;
use beacon_relay::clock::Timestamp;
use beacon_relay::config::Layers;
use beacon_relay::event::ClientHeaders;
use beacon_relay::json;
use beacon_relay::source::media::Media;
use beacon_relay::source::sent_at::SentAt;
use beacon_relay::source::{Raw, Received, Reject, Source};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Requests of one run: about a second of a debug build.
const CASES: u32 = 1500;

/// What a run is made up from that asks for nothing else.
const SEED: u64 = 1;

fn holds<T: std::fmt::Debug>(made_up: impl Strategy<Value = T>, property: impl Fn(T)) {
    let given = std::env::var("PROPERTIES_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or(SEED);
    println!("PROPERTIES_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let told = runner.run(&made_up, |one| {
        property(one);
        Ok(())
    });
    if let Err(fault) = told {
        panic!("{fault}");
    }
}

/// The sources of both partners; their secrets are `hush`.
fn sources() -> [Source; 2] {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    let table = |name| format!("[[source]]\nname = \"{name}\"\nto = [\"events-api\"]\n");
    std::fs::write(&file, table("olx-adverts") + &table("impact-events")).unwrap();
    let environment = ["OLX_SECRET", "IMPACT_TOKEN"].map(|name| (name.to_owned(), "hush".into()));
    let layers = Layers { file: Some(file), environment: environment.into(), ..Layers::default() };
    let mut settings = layers.plan().unwrap().sources.into_iter().skip(4);
    [(); 2].map(|()| Source::new(settings.next().unwrap(), 64))
}

fn received(target: &str, signature: &[u8]) -> Received {
    Received {
        target: Bytes::copy_from_slice(target.as_bytes()),
        at: Timestamp::from_millis(1_700_000_000_000),
        caller: Caller::terminal(false),
        sent_at: SentAt::Unsaid,
        headers: ClientHeaders::collect(None, [("x-signature", signature)]),
    }
}

/// A pair that is not the secret's.
fn pair() -> impl Strategy<Value = String> {
    let text = "([a-zA-Z0-9_.+-]|%[2-7][0-9a-fA-F]|%|%4|é){0,6}";
    (text, select(&["=", "", "=="][..]), text)
        .prop_map(|(name, equals, value)| format!("{name}{equals}{value}"))
}

/// The secret's, in some of its spellings, or a wrong one.
fn secret() -> impl Strategy<Value = String> {
    let name = select(&["token", "%74oken", "tok%65n", "%74%6F%6b%65%6E"][..]);
    let value = select(&["=hush", "=hus%68", "=", "", "=wrong", "=hush=", "=%"][..]);
    (name, value).prop_map(|(name, value)| format!("{name}{value}"))
}

#[test]
fn whatever_a_query_is_its_secret_goes_and_every_other_byte_stays() {
    let [_, source] = sources();
    let auth = &source.settings().auth;
    let pairs = vec(
        prop_oneof![3 => pair().prop_map(|one| (one, false)), 1 => secret().prop_map(|one| (one, true))],
        0..8,
    );
    holds(pairs, |pairs| {
        let joined = |secrets: bool| {
            let kept = pairs.iter().filter(|(_, is_secret)| secrets || !is_secret);
            kept.map(|(pair, _)| pair.as_str()).collect::<Vec<_>>().join("&")
        };
        let target = format!("/webhooks/impact?{}", joined(true));
        let bare = auth.without_secrets(&target);
        let has_secret = pairs.iter().any(|(_, is_secret)| *is_secret);
        match (has_secret, joined(false)) {
            (false, _) => assert_eq!(bare, target),
            (true, rest) if rest.is_empty() => assert_eq!(bare, "/webhooks/impact"),
            (true, rest) => assert_eq!(bare, format!("/webhooks/impact?{rest}")),
        }
        assert_eq!(auth.without_secrets(&bare), bare);
        let knows = pairs.iter().any(|(pair, is_secret)| {
            *is_secret && (pair.ends_with("=hush") || pair.ends_with("=hus%68"))
        });
        assert_eq!(auth.admits(&target, [192, 0, 2, 1].into()), knows, "{target}");
    });
}

/// Bodies: documents, nearly documents, pairs, anything.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let member = (
        select(
            &["action_id", "ActionId", "payout", "items", "object_id", "transaction_id", "x"][..],
        ),
        select(
            &["\"1.00\"", "5.00", "null", "[{\"sku\":\"a\"}]", "\"{Payout}\"", "{", "1e400"][..],
        ),
    );
    let document = vec(member, 0..5).prop_map(|members| {
        let members = members.iter().map(|(name, value)| format!("\"{name}\":{value}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(",")).into_bytes()
    });
    prop_oneof![
        4 => document,
        3 => vec(pair(), 0..6).prop_map(|pairs| pairs.join("&").into_bytes()),
        2 => vec(any::<u8>(), 0..60),
    ]
}

#[test]
fn whatever_comes_is_an_item_or_kept_as_it_came_and_nothing_unsigned_comes_in() {
    let [signing, keeping] = sources();
    let media = select(&[Media::Json, Media::Form, Media::Query][..]);
    let signature =
        prop_oneof![vec(any::<u8>(), 0..50), "[0-9a-f]{40}".prop_map(String::into_bytes)];
    holds((body(), media, signature), |(body, media, signature)| {
        let raw = Raw { body: body.clone().into(), media };
        let admitted = keeping.admit(&received("/webhooks/impact", b""), &raw).unwrap();
        let event = &admitted.event.event;
        let sent = event.body.bytes();
        match (&event.fault, admitted.unusable) {
            (None, None) => {
                let object = json::parse(sent, 64).expect("it is what the schema passed");
                assert!(matches!(object, json::Node::Object(_)));
            }
            (Some(fault), Some(_)) => {
                assert_eq!(*sent, body, "as it came");
                assert!(!fault.is_empty() && admitted.event.dedupe.is_none());
            }
            (fault, reject) => panic!("{fault:?} beside {reject:?}"),
        }
        let refused = signing.admit(&received("/webhooks/olx", &signature), &raw).unwrap_err();
        assert!(
            matches!(refused, Reject::Unauthorized | Reject::Syntax(_) | Reject::Pairs(_)),
            "{refused:?}"
        );
    });
}
