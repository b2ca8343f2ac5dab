//! The product schemas' promises.

use super::Schema;
use crate::json::parse;

const DOCUMENTED: &str = include_str!("../../config/schemas/conversion-documented.json");
const WIRE: &str = include_str!("../../config/schemas/conversion-wire.json");
const AD_EVENT: &str = include_str!("../../config/schemas/ad-event.json");
const AD_EVENT_SESSION: &str = include_str!("../../config/schemas/ad-event-session.json");

/// The vendor's own example of an order.
const ORDER: &str = r#"{"channel":"ecommerce","publisher_id":"xxx",
    "user_id":"6f92d1e9-00b6-4f8b-9645-faeab321e1cc",
    "session_id":"5898b8d1-c250-4bb5-931b-8b9d0ee7b499","order_id":"123","email_hashed":"xyz",
    "items":[{"sku":"12221","seller_id":"1234","product_id":"4567","quantity":1,"price":2000.00,
    "promotional_price":1899.00},{"sku":"12222","seller_id":null,"product_id":"4568","quantity":2,
    "price":500.00,"promotional_price":400.00}],"created_at":"2023-01-01T09:20:00Z"}"#;

fn compiled(text: &str) -> Schema {
    match Schema::compile("schema.json", text) {
        Ok(schema) => schema,
        Err(fault) => panic!("{fault}"),
    }
}

/// The answer's bytes; makes sure that the verdict agrees.
fn answer(schema: &Schema, body: &str) -> String {
    let node = parse(body.as_bytes(), 64).unwrap();
    let violations = schema.check(&node);
    assert_eq!(schema.is_valid(&node), violations.is_empty(), "{body}");
    String::from_utf8(violations.to_json().to_vec()).unwrap()
}

/// Each violation as `instancePath keyword field`.
fn told(schema: &Schema, body: &str) -> Vec<String> {
    let node = parse(body.as_bytes(), 64).unwrap();
    let told =
        |v: super::Violation<'_>| format!("{} {} {}", v.instance_path(), v.keyword(), v.field());
    schema.check(&node).iter().map(told).collect()
}

/// [`ORDER`] with one member more, or another value in its place.
fn order_with(member: &str, value: &str) -> String {
    let mut order: serde_json::Value = serde_json::from_str(ORDER).unwrap();
    order[member] = serde_json::from_str(value).unwrap();
    order.to_string()
}

fn required(name: &str) -> String {
    format!(
        r##"{{"instancePath":"","keyword":"required","message":"must have required property '{name}'","params":{{"missingProperty":"{name}"}},"schemaPath":"#/required"}}"##
    )
}

#[test]
fn the_published_answer_to_five_missing_members_is_given() {
    let body = r#"{"session_id":"s","channel":"app","email_hashed":"xyz"}"#;
    let published = ["user_id", "order_id", "publisher_id", "items", "created_at"].map(required);
    let published = format!("[{}]", published.join(","));
    assert_eq!(answer(&compiled(DOCUMENTED), body), published);
    assert_eq!(answer(&compiled(WIRE), "{}"), published);
}

#[test]
fn an_empty_order_misses_all_eight() {
    let eight = [
        "user_id",
        "order_id",
        "publisher_id",
        "items",
        "created_at",
        "session_id",
        "channel",
        "email_hashed",
    ]
    .map(required);
    assert_eq!(answer(&compiled(DOCUMENTED), "{}"), format!("[{}]", eight.join(",")));
}

#[test]
fn the_vendors_own_order_passes() {
    assert_eq!(answer(&compiled(DOCUMENTED), ORDER), "[]");
    assert_eq!(answer(&compiled(WIRE), ORDER), "[]");
}

#[test]
fn a_body_of_another_type_gives_one_error() {
    let one = r##"[{"instancePath":"","keyword":"type","message":"must be object","params":{"type":"object"},"schemaPath":"#/type"}]"##;
    for schema in [DOCUMENTED, WIRE, AD_EVENT, AD_EVENT_SESSION] {
        for body in ["null", "5", "\"x\"", "[]", "true"] {
            assert_eq!(answer(&compiled(schema), body), one);
        }
    }
}

#[test]
fn an_ad_event_needs_either_id() {
    let schema = compiled(AD_EVENT);
    let published = r##"[{"instancePath":"","keyword":"required","message":"must have required property 'user_id'","params":{"missingProperty":"user_id"},"schemaPath":"#/anyOf/0/required"},{"instancePath":"","keyword":"required","message":"must have required property 'session_id'","params":{"missingProperty":"session_id"},"schemaPath":"#/anyOf/1/required"},{"instancePath":"","keyword":"anyOf","message":"must match a schema in anyOf","params":{},"schemaPath":"#/anyOf"}]"##;
    assert_eq!(answer(&schema, "{}"), published);
    for body in [r#"{"user_id":"u"}"#, r#"{"session_id":"s","ads_sourcing_components":["x"]}"#] {
        assert_eq!(answer(&schema, body), "[]");
    }
    assert_eq!(told(&schema, r#"{"session_id":5}"#), ["/session_id type session_id"]);
    assert_eq!(told(&schema, r#"{"session_id":"s","user_id":null}"#), ["/user_id type user_id"]);
    let schema = compiled(AD_EVENT_SESSION);
    assert_eq!(told(&schema, r#"{"user_id":"u"}"#), [" required session_id"]);
    assert_eq!(answer(&schema, r#"{"session_id":"s"}"#), "[]");
}

#[test]
fn each_member_of_an_order_has_its_rule() {
    let schema = compiled(DOCUMENTED);
    let cases: [(&str, &str, &[&str]); 24] = [
        ("items", "[]", &["/items minItems items"]),
        ("items", "{}", &["/items type items"]),
        ("items", "[null]", &["/items/0 type items"]),
        (
            "items",
            "[{\"product_sku\":\"1\",\"quantity\":1,\"price\":1}]",
            &["/items/0 required items/sku", "/items/0 required items/promotional_price"],
        ),
        (
            "items",
            r#"[{"sku":"","quantity":0,"price":-1,"promotional_price":"2","seller_id":12}]"#,
            &[
                "/items/0/sku minLength items/sku",
                "/items/0/quantity exclusiveMinimum items/quantity",
                "/items/0/price minimum items/price",
                "/items/0/promotional_price type items/promotional_price",
                "/items/0/seller_id type items/seller_id",
            ],
        ),
        (
            "items",
            r#"[{"sku":"a","quantity":0.35,"price":0,"promotional_price":0,"product_id":null}]"#,
            &[],
        ),
        ("user_id", "26119121", &["/user_id type user_id"]),
        ("user_id", "null", &["/user_id type user_id"]),
        ("user_id", "\"\"", &["/user_id minLength user_id"]),
        ("gender", "null", &[]),
        ("gender", "\"f\"", &["/gender enum gender"]),
        ("gender", "1", &["/gender type gender", "/gender enum gender"]),
        ("is_company", "\"true\"", &["/is_company type is_company"]),
        ("is_company", "null", &["/is_company type is_company"]),
        ("phone_hashed", "null", &["/phone_hashed type phone_hashed"]),
        ("created_at", "\"2023-01-01T06:20:00-03:00\"", &[]),
        ("created_at", "\"2023-01-01T09:20:00\"", &[]),
        ("created_at", "\"2023-02-30T09:20:00Z\"", &["/created_at format created_at"]),
        ("created_at", "1672564800", &["/created_at type created_at"]),
        ("channel", "\"loja física\"", &[]),
        ("channel", "\"\"", &["/channel minLength channel"]),
        ("utm", "{\"a\":[1]}", &[]),
        ("email", "\"a@b.example\"", &["/email false schema email"]),
        ("first_name", "null", &["/first_name false schema first_name"]),
    ];
    for (member, value, expected) in cases {
        let body = order_with(member, value);
        assert_eq!(told(&schema, &body), *expected, "{member} {value}");
        answer(&schema, &body);
    }
}

#[test]
fn what_a_digest_must_not_be_is_refused() {
    let documented = compiled(DOCUMENTED);
    let wire = compiled(WIRE);
    let digest = "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f";
    let upper = digest.to_uppercase();
    let passing = [
        "xyz",
        digest,
        &upper,
        &digest[..40],
        "0",
        "123456789",
        "123456789012345",
        "+8dK4/1==",
        "customerhash01",
    ];
    let plain = [
        "a@b.example",
        "+5511987654321",
        " +1 (555) 123-4567",
        "+55 11",
        "11987654321",
        "5511987654321",
        "(11) 98765-4321",
        "(+55) 11 98765-4321",
        "1134567890",
        "52998224725",
        "529.982.247-25",
        "11222333000181",
        "11.222.333/0001-81",
        "12.ABC.345/01DE-35",
        "12ABC34501DE35",
        "12abc34501de35",
    ];
    let members = [
        "email_hashed",
        "phone_hashed",
        "social_id_hashed",
        "first_name_hashed",
        "last_name_hashed",
    ];
    for member in members {
        for (value, is_plain) in
            passing.map(|v| (v, false)).into_iter().chain(plain.map(|v| (v, true)))
        {
            let body = order_with(member, &format!("\"{value}\""));
            let expected =
                if is_plain { vec![format!("/{member} pattern {member}")] } else { vec![] };
            assert_eq!(told(&documented, &body), expected, "{value}");
            assert_eq!(told(&wire, &body), expected, "{value}");
        }
    }
}

#[test]
fn a_user_id_that_is_identity_is_refused_and_a_customer_number_is_not() {
    let passing = [
        "26119121",
        "52998224725",
        "11222333000181",
        "5511987654321",
        "6f92d1e9-00b6-4f8b-9645-faeab321e1cc",
        "cus_+1",
        "12-34",
        " ",
    ];
    let plain = [
        "ana@loja.example",
        "@",
        "529.982.247-25",
        "529982247-25",
        " 529.982.247-25 ",
        "11.222.333/0001-81",
        "12.ABC.345/01DE-35",
        "+5511987654321",
        "+55 (11) 98765-4321",
        "(+55) 11987654321",
    ];
    let ad_event = compiled(AD_EVENT);
    let session = compiled(AD_EVENT_SESSION);
    let conversions = [compiled(DOCUMENTED), compiled(WIRE)];
    for (value, is_plain) in passing.map(|v| (v, false)).into_iter().chain(plain.map(|v| (v, true)))
    {
        let expected = if is_plain { vec!["/user_id pattern user_id"] } else { vec![] };
        let body = format!(r#"{{"session_id":"s","user_id":"{value}"}}"#);
        assert_eq!(told(&ad_event, &body), expected, "{value}");
        assert_eq!(told(&session, &body), expected, "{value}");
        for schema in &conversions {
            let body = order_with("user_id", &format!("\"{value}\""));
            assert_eq!(told(schema, &body), expected, "{value}");
        }
    }
}

#[test]
fn members_are_named_in_the_schemas_order() {
    assert_eq!(
        compiled(DOCUMENTED).members().join(" "),
        "channel brand publisher_id user_id session_id order_id email_hashed items created_at \
         is_company gender uf city phone_hashed social_id_hashed first_name_hashed \
         last_name_hashed email phone social_id first_name last_name"
    );
}

#[test]
fn a_schema_is_shared_between_threads() {
    const fn shared<T: Send + Sync>() {}
    shared::<Schema>();
}
