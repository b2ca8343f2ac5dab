use super::*;
use crate::json;

const HASH: &str = "5fd726bc56c3e86906cba8814a9b97d97f2ab209c48d2441ca5ac9e52b09e630";
/// 2026-11-21T12:00:00Z
const NOW: Timestamp = Timestamp::from_millis(1_795_262_400_000);

/// An order that nobody has a word about.
fn order() -> String {
    format!(
        r#"{{"channel":"app","publisher_id":"6d0f","user_id":"c-19","session_id":"s-1",
        "order_id":"A-1","email_hashed":"{HASH}","items":[
        {{"sku":"1","quantity":1,"price":20,"promotional_price":18.5}},
        {{"sku":"2","seller_id":null,"quantity":2,"price":500.00,"promotional_price":400.00}}],
        "created_at":"2026-11-21T11:59:00Z","is_company":false,"gender":null,"uf":"SP",
        "city":"x","phone_hashed":"{HASH}","social_id_hashed":"{HASH}",
        "first_name_hashed":"{HASH}","last_name_hashed":"{HASH}"}}"#
    )
}

fn found(kind: EventKind, body: &str, target: &str) -> Vec<(&'static str, String)> {
    let document = json::parse(body.as_bytes(), 64).unwrap();
    let warnings = lint(kind, &document, target, NOW);
    warnings.iter().map(|one| (one.lint().as_str(), one.instance_path())).collect()
}

fn of_order(body: &str) -> Vec<(&'static str, String)> {
    found(EventKind::Conversion, body, "/v1/beacon/conversion")
}

/// What the order gives with one part replaced by another.
fn changed(from: &str, to: &str) -> Vec<(&'static str, String)> {
    let order = order();
    assert!(order.contains(from), "{from} is not in the order");
    of_order(&order.replacen(from, to, 1))
}

fn one(name: &'static str, path: &str) -> Vec<(&'static str, String)> {
    vec![(name, path.to_owned())]
}

#[test]
fn an_order_as_it_should_be_gives_no_warning() {
    assert_eq!(of_order(&order()), []);
    assert_eq!(changed(HASH, &HASH.to_uppercase()), []);
}

#[test]
fn a_sale_above_the_list_price_is_told() {
    let path = "/items/0/promotional_price";
    assert_eq!(changed("18.5", "20.01"), one("promotional_above_list", path));
    assert_eq!(changed("18.5", "20.0"), []);
}

#[test]
fn a_line_total_is_told_where_it_stands() {
    let (name, item) = ("price_looks_like_line_total", "\"price\":500.00");
    assert_eq!(
        changed("500.00,\"promotional_price\":400", "39.98,\"promotional_price\":39.98,\"x\":0"),
        one(name, "/items/1/price")
    );
    assert_eq!(changed(item, "\"price\":500.01"), []);
    // The same product twice, priced by quantity: both warnings, each once.
    let twice = r#""items":[{"sku":"1","quantity":2,"price":40,"promotional_price":37},
        {"sku":"1","quantity":1,"price":20,"promotional_price":18.5},
        {"sku":"1","quantity":3,"price":60,"promotional_price":55.5}],"old":["#;
    let expected = [
        ("sku_repeated", "/items/1/sku"),
        (name, "/items/0/price"),
        ("sku_repeated", "/items/2/sku"),
        (name, "/items/2/price"),
    ];
    let expected = expected.map(|(name, path)| (name, path.to_owned()));
    assert_eq!(changed("\"items\":[", twice), expected);
}

#[test]
fn a_sku_on_two_lines_is_told_in_small_and_large_orders() {
    assert_eq!(changed(r#""sku":"2""#, r#""sku":"1""#), one("sku_repeated", "/items/1/sku"));
    for (items, repeat) in [(24, 0), (25, 0), (25, 24), (100, 60)] {
        let item =
            |sku| format!(r#"{{"sku":"k{sku}","quantity":1,"price":1,"promotional_price":1}}"#);
        let mut list: Vec<String> = (0..items).map(item).collect();
        let of = |list: &[String]| {
            of_order(&order().replacen(
                "\"items\":[",
                &format!("\"items\":[{}],\"old\":[", list.join(",")),
                1,
            ))
        };
        assert_eq!(of(&list), []);
        list.push(item(repeat));
        assert_eq!(of(&list), one("sku_repeated", &format!("/items/{items}/sku")));
    }
}

#[test]
fn what_is_no_digest_is_told_by_its_shape() {
    for (value, name) in [
        ("xyz", "placeholder_value"),
        ("{{email}}", "placeholder_value"),
        ("X7cmvFbD6GkGy6iBSpuX2X8qsgnEjSRBylrJ5SsJ5jA=", "hash_not_sha256"),
        (&HASH[1..], "hash_not_sha256"),
        (&HASH.replace('5', "g"), "hash_not_sha256"),
        ("", "hash_not_sha256"),
        (&HASH[..32], "hash_md5_or_sha1"),
        (&HASH[..40], "hash_md5_or_sha1"),
        ("E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "hash_of_empty"),
    ] {
        for member in [
            "email_hashed",
            "phone_hashed",
            "social_id_hashed",
            "first_name_hashed",
            "last_name_hashed",
        ] {
            let told =
                changed(&format!(r#""{member}":"{HASH}""#), &format!(r#""{member}":"{value}""#));
            assert_eq!(told, one(name, &format!("/{member}")), "{value}");
        }
    }
}

#[test]
fn an_advertising_id_that_everyone_has_is_told() {
    let name = "advertising_id_all_zero";
    for zero in ["00000000-0000-0000-0000-000000000000", "00000000000000000000000000000000"] {
        assert_eq!(changed("s-1", zero), one(name, "/session_id"));
        assert_eq!(changed("c-19", zero), one(name, "/user_id"));
        let body = format!(r#"{{"user_id":"u","session_id":"{zero}"}}"#);
        assert_eq!(found(EventKind::Click, &body, "/"), one(name, "/session_id"));
    }
    for id in ["00000000-0000-0000-0000-000000000001", "0", "0000", &"-".repeat(32)] {
        assert_eq!(changed("s-1", id), [], "{id}");
    }
}

#[test]
fn a_bare_number_as_a_customer_is_told() {
    let name = "user_id_bare_digits";
    for number in ["26119121", "52998224725", "1"] {
        assert_eq!(changed("c-19", number), one(name, "/user_id"));
        let body = format!(r#"{{"user_id":"{number}","session_id":"1"}}"#);
        assert_eq!(found(EventKind::View, &body, "/"), one(name, "/user_id"));
    }
    assert_eq!(changed("c-19", "26119121-0"), []);
}

#[test]
fn the_time_of_an_order_is_held_against_the_clock() {
    let told = |text| changed("2026-11-21T11:59:00Z", text);
    let path = "/created_at";
    for fine in [
        "2026-11-21T12:10:00Z",
        "2026-11-07T12:00:00Z",
        "2026-11-21 09:00:00.5-0300",
        "2026-11-21T12:00:00.999+00",
        // A leap second, which the schemas' format takes.
        "2016-12-31T23:59:60Z",
    ] {
        assert_eq!(told(fine), [], "{fine}");
    }
    for (text, name) in [
        ("2026-11-21T12:10:01Z", "created_at_in_future"),
        ("2026-11-21T12:10:01+00:00", "created_at_in_future"),
        ("9999-12-31T23:59:59Z", "created_at_in_future"),
        ("2026-11-07T11:59:59Z", "created_at_too_old"),
        ("0001-01-01T00:00:00Z", "created_at_too_old"),
        ("2026-11-21T12:00:00", "created_at_without_zone"),
        ("yesterday", "created_at_unreadable"),
        ("1795262400", "created_at_unreadable"),
        ("2026-11-21", "created_at_unreadable"),
    ] {
        assert_eq!(told(text), one(name, path), "{text}");
    }
    let both = ["created_at_without_zone", "created_at_too_old"];
    assert_eq!(told("2023-01-01T09:20:00"), both.map(|name| (name, path.to_owned())));
}

#[test]
fn what_was_copied_from_a_page_is_told() {
    let name = "placeholder_value";
    for (own, copied, path) in [
        ("\"app\"", "site|msite|app", "/channel"),
        ("\"6d0f\"", "xxx", "/publisher_id"),
        ("\"c-19\"", "6f92d1e9-00b6-4f8b-9645-faeab321e1cc", "/user_id"),
        ("\"c-19\"", "user-123", "/user_id"),
        ("\"s-1\"", "session-456", "/session_id"),
        ("\"A-1\"", "{order_id}", "/order_id"),
        ("\"A-1\"", "${order.id}", "/order_id"),
        ("\"A-1\"", "string", "/order_id"),
        ("\"A-1\"", "<ORDER>", "/order_id"),
        ("\"1\"", "{{ sku }}", "/items/0/sku"),
    ] {
        assert_eq!(changed(own, &format!("\"{copied}\"")), one(name, path), "{copied}");
    }
    for fine in ["xxx-1", "strings", "a{b}", "{", "<", "$"] {
        assert_eq!(changed("\"A-1\"", &format!("\"{fine}\"")), [], "{fine}");
    }
    let body = r#"{"user_id":"u","session_id":"s"}"#;
    for target in [
        "/v1/beacon/click/%7Bad_id%7D?pos=1",
        "/v1/beacon/click/{AD_EVENT_TOKEN}",
        "/v1/beacon/click/:ad_id",
        "/v2/beacon/view/4a94bc6e-7db1-425f-8430-cb4d17488b3b?a=1/2",
    ] {
        assert_eq!(found(EventKind::Click, body, target), one(name, ""), "{target}");
    }
    for target in
        ["/v1/beacon/click/1", "/v1/beacon/123456", "/", "", "123456", "/v1/validate/beacon"]
    {
        assert_eq!(found(EventKind::Click, body, target), [], "{target}");
    }
}

#[test]
fn a_blank_text_is_told() {
    for blank in ["", " ", "\\t\u{a0}"] {
        for (own, path) in [
            ("\"app\"", "/channel"),
            ("\"6d0f\"", "/publisher_id"),
            ("\"c-19\"", "/user_id"),
            ("\"s-1\"", "/session_id"),
            ("\"A-1\"", "/order_id"),
            ("\"1\"", "/items/0/sku"),
        ] {
            let told = changed(own, &format!("\"{blank}\""));
            assert_eq!(told, one("blank_value", path), "{blank:?}");
        }
    }
    // What nobody must say is not asked for, and an ad event's blank id is a missing one.
    assert_eq!(changed("\"x\"", "\"\""), []);
    let body = r#"{"user_id":"u","session_id":" "}"#;
    assert_eq!(found(EventKind::Click, body, "/"), one("session_id_missing", ""));
    assert_eq!(found(EventKind::Click, body, "/?session_id=s"), []);
}

#[test]
fn an_ad_event_without_one_of_its_ids_is_told_unless_the_url_has_it() {
    let (session, user) = (one("session_id_missing", ""), one("user_id_missing", ""));
    for kind in [EventKind::Impression, EventKind::View, EventKind::Click] {
        assert_eq!(found(kind, r#"{"user_id":"u"}"#, "/?pos=1"), session);
        assert_eq!(found(kind, r#"{"user_id":"u","session_id":" "}"#, "/"), session);
        assert_eq!(found(kind, r#"{"session_id":"s"}"#, "/?user_id=&xuser_id=1"), user);
        assert_eq!(found(kind, r#"{"session_id":"s"}"#, "/?a=1&user_id=u"), []);
        assert_eq!(found(kind, r#"{"session_id":"s","user_id":"u"}"#, "/"), []);
        assert_eq!(found(kind, "{}", "/?session_id=s"), user);
    }
}

#[test]
fn what_the_vendor_recommends_is_told_in_one_warning() {
    let body = order().replace("\"city\":\"x\",", "").replace("\"uf\":\"SP\",", "");
    let document = json::parse(body.as_bytes(), 64).unwrap();
    let warnings = lint(EventKind::Conversion, &document, "/", NOW);
    let told: Vec<_> = warnings.iter().map(|one| (one.lint(), one.message())).collect();
    let message = "recommended members are missing: uf, city";
    assert_eq!(told, [(Lint::RecommendedMissing, message.into())]);
    assert_eq!(
        warnings.to_json(),
        format!(r#"[{{"name":"recommended_missing","instancePath":"","message":"{message}"}}]"#)
    );
}

#[test]
fn a_notification_is_nobodys_to_mend() {
    assert_eq!(found(EventKind::Notification, r#"{"user_id":"1"}"#, "/"), []);
}

#[test]
fn nothing_of_any_shape_breaks_a_lint() {
    let bodies = [
        "null",
        "[]",
        "5",
        "{}",
        r#"{"items":{"sku":1},"created_at":5,"user_id":null,"email_hashed":[]}"#,
        r#"{"items":[null,[],{"sku":5,"quantity":"2","price":null},{"quantity":2}]}"#,
        r#"{"items":[{"quantity":1e308,"price":-1e308,"promotional_price":1e308}]}"#,
    ];
    for kind in EventKind::ALL {
        for body in bodies {
            let told = found(kind, body, "?");
            assert!(told.iter().all(|(name, _)| !name.is_empty()), "{body}");
        }
    }
}

#[test]
fn warnings_are_bounded_and_every_lint_that_fired_is_named() {
    let item = r#"{"sku":"1","quantity":1,"price":1,"promotional_price":2}"#;
    let body = format!(r#"{{"items":[{}]}}"#, [item; 4000].join(","));
    let document = json::parse(body.as_bytes(), 64).unwrap();
    let warnings = lint(EventKind::Conversion, &document, "/", NOW);
    assert_eq!(warnings.iter().count(), 2 * PLACES_MAX + 1);
    let lints = [Lint::PromotionalAboveList, Lint::SkuRepeated, Lint::RecommendedMissing];
    assert_eq!(warnings.lints().collect::<Vec<_>>(), lints);
}

#[test]
fn names_and_sentences_are_words_that_json_and_headers_take() {
    for (at, lint) in Lint::ALL.into_iter().enumerate() {
        assert_eq!(lint as usize, at);
        let (name, message) = (lint.as_str(), lint.message());
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(name.bytes().all(fits), "{name}");
        assert!(!message.contains(['"', '\\', '.']) && message.is_ascii(), "{message}");
    }
}

#[test]
fn a_person_under_a_name_of_the_senders_own_is_told_without_the_name() {
    let name = "plain_identity";
    let with = |member: &str| changed("\"uf\":", &format!("{member},\"uf\":"));
    for member in [
        r#""Email":"Maria@Example.com""#,
        r#""e-mail":" maria+x@mail.example.com.br ""#,
        r#""cpf":"529.982.247-25""#,
        r#""cnpj":"12.ABC.345/01DE-35""#,
        r#""telefone":"+55 (11) 98765-4321""#,
        r#""customer":{"contact":[null,{"mail":"m@x.io"}]}"#,
    ] {
        assert_eq!(with(member), one(name, ""), "{member}");
    }
    assert_eq!(changed("\"s-1\"", "\"m@x.io\""), one(name, "/session_id"));
    assert_eq!(changed("\"sku\":\"2\"", "\"sku\":\"m@x.io\""), one(name, "/items"));
    for member in [
        r#""note":"ask maria@example.com""#,
        r#""package":"left-pad@1.3.0""#,
        r#""handle":"@maria.silva""#,
        r#""image":"https://u@cdn.example.com/x""#,
        r#""offset":"+03:00""#,
        r#""document":"52998224725""#,
        r#""discount":"+10.00""#,
        r#""version":"529.982.247-2""#,
        r#""at":"2026-11-21T11:59:00Z""#,
    ] {
        assert_eq!(with(member), [], "{member}");
    }
    let event = r#"{"user_id":"u","session_id":"s","mail":"m@x.io"}"#;
    assert_eq!(found(EventKind::View, event, "/v1/beacon/view/1"), one(name, ""));
}
