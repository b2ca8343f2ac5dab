//! What is refused at start, and the bounds that hold at run time.

use super::super::Schema;
use crate::json::{Node, parse};

/// The places and reasons of a schema's faults.
fn faults(text: &str) -> Vec<String> {
    let fault = Schema::compile("s.json", text).expect_err(text);
    fault.faults.iter().map(|fault| format!("{} {}", fault.place, fault.reason)).collect()
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    let seven = "http://json-schema.org/draft-07/schema#";
    let cases: [(&str, &[&str]); 25] = [
        (
            r##"{"unevaluatedProperties":false,"properties":{"a":{"$dynamicRef":"#x"}}}"##,
            &[
                "/properties/a/$dynamicRef the keyword `$dynamicRef` is not supported",
                "/unevaluatedProperties the keyword `unevaluatedProperties` is not supported",
            ],
        ),
        (r#"{"$defs":{"x/y":{"foo":1}}}"#, &["/$defs/x~1y/foo the keyword `foo` is not supported"]),
        (r#"{"items":{"$id":"x"}}"#, &["/items/$id $id inside of a schema is not supported"]),
        (
            r#"{"additionalItems":false}"#,
            &["/additionalItems the keyword `additionalItems` is not supported"],
        ),
        (
            &format!(r#"{{"$schema":"{seven}","prefixItems":[true],"dependentRequired":{{}}}}"#),
            &[
                "/dependentRequired the keyword `dependentRequired` is not one of draft-07",
                "/prefixItems the keyword `prefixItems` is not one of draft-07",
            ],
        ),
        (r#"{"format":"hostname"}"#, &["/format the format `hostname` is not supported"]),
        (r#"{"nullable":true}"#, &[" nullable without type"]),
        (r#"{"type":"null","nullable":false}"#, &[" nullable: false contradicts type null"]),
        (r#"{"type":"null","nullable":1}"#, &["/nullable nullable is no boolean"]),
        (r#"{"enum":[]}"#, &["/enum an empty enum"]),
        (&format!(r#"{{"$schema":"{seven}","enum":[1,1.0]}}"#), &["/enum an enum with twins"]),
        (
            r#"{"items":{"$ref":"other.json"}}"#,
            &["/items/$ref a reference that does not stay within the file"],
        ),
        (
            r##"{"items":{"$ref":"#anchor"}}"##,
            &["/items/$ref a reference that does not stay within the file"],
        ),
        (r##"{"items":{"$ref":"#/$defs/x"}}"##, &["/items/$ref a reference that leads nowhere"]),
        (
            r##"{"items":{"$ref":"#/x-a"},"x-a":5}"##,
            &["/items/$ref a reference that leads nowhere"],
        ),
        (
            r##"{"items":{"$ref":"#/x-a"},"x-a":{"b":1}}"##,
            &["/x-a/b the keyword `b` is not supported"],
        ),
        (r##"{"$ref":"#"}"##, &[" a reference that comes back to itself on the same value"]),
        (
            r##"{"$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},"b":{"not":{"$ref":"#/$defs/a"}}}}"##,
            &["/$defs/b a reference that comes back to itself on the same value"],
        ),
        (
            r#"{"required":["toString"]}"#,
            &["/required the name `toString` is one that JavaScript's objects inherit"],
        ),
        (
            r#"{"const":{"a":[{"valueOf":1}]}}"#,
            &["/const the name `valueOf` is one that JavaScript's objects inherit"],
        ),
        (
            r#"{"$schema":"http://json-schema.org/draft-04/schema#"}"#,
            &["/$schema this dialect is not supported"],
        ),
        ("[1", &[" the file is not JSON: line 1, column 2"]),
        (r#"{"a":1,"a":2}"#, &[" an object in the file names a key twice: line 1, column 10"]),
        (r#"{"minimum":1e400}"#, &[" the file is not JSON: line 1, column 16"]),
        ("5", &[" 5 is not of types \"boolean\", \"object\"", " this is no schema"]),
    ];
    for (text, expected) in cases {
        assert_eq!(faults(text), expected, "{text}");
    }
}

#[test]
fn what_the_meta_schema_refuses_is_refused() {
    for text in [
        r#"{"type":"strnig"}"#,
        r#"{"type":[]}"#,
        r#"{"items":[true]}"#,
        r#"{"required":["a","a"]}"#,
        r#"{"minLength":-1}"#,
        r#"{"multipleOf":0}"#,
        r#"{"properties":{"a":1}}"#,
        r#"{"anyOf":[]}"#,
        r#"{"pattern":5}"#,
    ] {
        assert!(!faults(text).is_empty());
    }
    assert!(faults(r#"{"pattern":"("}"#)[0].starts_with("/pattern not a pattern: "));
}

#[test]
fn faults_print_one_a_line_with_file_place_and_remedy() {
    let fault = Schema::compile("s.json", r#"{"foo":1,"format":"ipv4"}"#).unwrap_err();
    let lines = fault.to_string();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        lines[0],
        "s.json#/foo: the keyword `foo` is not supported \
         (say it with other keywords, or call it `x-…` when it is a note)"
    );
}

#[test]
fn notes_are_ignored() {
    let text = r#"{"$id":"https://example.net/a","title":"t","description":"d","default":1,
        "examples":[1],"deprecated":true,"readOnly":true,"writeOnly":true,"$comment":"c",
        "x-shop":{"unknown":1},"$defs":{"a":{"type":"null"}}}"#;
    let schema = Schema::compile("s.json", text).unwrap();
    assert!(schema.is_valid(&Node::Null));
}

/// Works in a thread with so much stack; a worker of the runtime has 2 MiB.
fn on_a_stack(kibibytes: usize, work: impl FnOnce() + Send + 'static) {
    let worker = std::thread::Builder::new().stack_size(kibibytes << 10).spawn(work).unwrap();
    worker.join().unwrap();
}

#[test]
fn the_deepest_body_leaves_a_quarter_of_the_stack() {
    on_a_stack(1536, || {
        // As many schemas on one value as may be, at each of as many levels as may be.
        let chain = super::CHAIN_MAX as usize - 2;
        let leaf = r##"{"items":{"$ref":"#"},"properties":{"a":{"$ref":"#"}}}"##;
        for (open, close) in [("{\"oneOf\":[", "]}"), ("{\"not\":", "}")] {
            let text = format!("{}{leaf}{}", open.repeat(chain), close.repeat(chain));
            let schema = Schema::compile("s.json", &text).unwrap();
            let objects = format!("{}1{}", "{\"a\":".repeat(64), "}".repeat(64));
            let arrays = format!("{}1{}", "[".repeat(64), "]".repeat(64));
            for body in [objects, arrays] {
                let body = parse(body.as_bytes(), 64).unwrap();
                assert!(schema.is_valid(&body));
                assert!(schema.check(&body).is_empty());
            }
            let over = chain + 3;
            let text = format!("{}{leaf}{}", open.repeat(over), close.repeat(over));
            assert!(faults(&text)[0].contains("ask the same value"));
        }
    });
}

#[test]
fn a_schema_file_may_be_nested_to_its_bound() {
    on_a_stack(2048, || {
        let nested =
            |levels: usize| format!("{}{{}}{}", "{\"items\":".repeat(levels), "}".repeat(levels));
        assert!(Schema::compile("s.json", &nested(99)).is_ok());
        assert_eq!(faults(&nested(100)), [" the file is nested deeper than 100 levels"]);
    });
}

#[test]
fn a_body_deeper_than_all_bounds_is_given_up() {
    on_a_stack(2048, || {
        let schema = Schema::compile("s.json", r##"{"items":{"$ref":"#"}}"##).unwrap();
        let mut body = Node::Null;
        for _ in 0..2_000 {
            body = Node::Array(vec![body]);
        }
        assert!(!schema.is_valid(&body));
        assert_eq!(schema.check(&body).len(), 1);
    });
}

#[test]
fn alternatives_without_end_are_given_up() {
    let half = r##"{"properties":{"a":{"$ref":"#"}},"required":["b"]}"##;
    let schema = Schema::compile("s.json", &format!("{{\"anyOf\":[{half},{half}]}}")).unwrap();
    let body = format!("{}1{}", "{\"a\":".repeat(60), "}".repeat(60));
    let body = parse(body.as_bytes(), 64).unwrap();
    let violations = schema.check(&body);
    assert!(!schema.is_valid(&body));
    assert_eq!(violations.iter().map(|v| v.keyword()).collect::<Vec<_>>(), ["$ref"]);
}
