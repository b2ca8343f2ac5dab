//! Ajv's words: for each keyword the message, the params and the paths that Ajv 8 gives.
//!
//! Keys of an error come in alphabetical order, as in the publisher's samples, and so do those of
//! its `params`. Nothing here is ever given a value of the body, only names and numbers of the
//! schema, positions, and (for `additionalProperties` and `propertyNames`) a member's name.

use std::fmt::Write;
use std::sync::Arc;

use crate::json::Node;

/// What is known of an error before any body is seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// Ajv's keyword.
    pub(super) keyword: Box<str>,
    /// The properties that lead to the place, as `items/price`.
    pub(super) field: Box<str>,
    /// `,"keyword":…,"message":…,"params":…`, unless a body decides them.
    pub(super) head: Box<str>,
    /// `,"schemaPath":…`
    pub(super) tail: Box<str>,
}

impl Words {
    /// The words of a violation of `keyword` at `schema_path`, which ends before the keyword.
    ///
    /// `params` is JSON.
    pub(super) fn new(
        keyword: &str,
        message: &str,
        params: &str,
        schema_path: &str,
        field: &str,
    ) -> Arc<Self> {
        Arc::new(Self {
            keyword: keyword.into(),
            field: field.into(),
            head: head(keyword, message, params),
            tail: format!(",\"schemaPath\":{}", quoted(&format!("{schema_path}/{keyword}"))).into(),
        })
    }
}

/// How every [`Words::tail`] starts.
pub(super) const TAIL_START: &str = ",\"schemaPath\":\"#";

/// The part of an error between its `instancePath` and its `schemaPath`.
pub(super) fn head(keyword: &str, message: &str, params: &str) -> Box<str> {
    let (keyword, message) = (quoted(keyword), quoted(message));
    format!(",\"keyword\":{keyword},\"message\":{message},\"params\":{params}").into()
}

/// `text` as a JSON string, escaped as `JSON.stringify` does.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_quoted(&mut out, text);
    out
}

/// Appends what [`quoted`] gives.
pub(super) fn write_quoted(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            0x0c => "\\f",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        plain = at + 1;
        out.push_str(escape);
        if escape.is_empty() {
            // A String takes every write.
            let _ = write!(out, "\\u{byte:04x}");
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// A number as JavaScript prints it.
pub(super) fn number(value: f64) -> String {
    ryu_js::Buffer::new().format(value).to_owned()
}

/// A value of the schema as `JSON.stringify` prints it.
pub(super) fn json(value: &Node<'_>) -> String {
    match value {
        Node::Null => "null".to_owned(),
        Node::Bool(truth) => truth.to_string(),
        Node::Number(value) => number(*value),
        Node::String(text) => quoted(text),
        Node::Array(items) => {
            let items: Vec<String> = items.iter().map(json).collect();
            format!("[{}]", items.join(","))
        }
        Node::Object(members) => {
            let members: Vec<String> = in_js_order(members)
                .into_iter()
                .map(|(key, value)| format!("{}:{}", quoted(key), json(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
    }
}

/// The position of `key` among the elements of a JavaScript object, when it names one.
fn element(key: &str) -> Option<u32> {
    let digits = key.as_bytes();
    let canonical = match digits {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.len() < 10 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if canonical { key.parse().ok().filter(|at| *at < u32::MAX) } else { None }
}

/// The order in which JavaScript walks an object, where it is not that of the text: array indices
/// first, ascending.
pub(super) fn js_order<K: AsRef<str>, V>(members: &[(K, V)]) -> Option<Vec<usize>> {
    let place = |at: usize| element(members[at].0.as_ref()).map_or((1, 0), |index| (0, index));
    if (0..members.len()).all(|at| place(at) == (1, 0)) {
        return None;
    }
    let mut order: Vec<usize> = (0..members.len()).collect();
    // Stable, so that names keep the order of the text behind the indices.
    order.sort_by_key(|at| place(*at));
    Some(order)
}

/// Members as JavaScript walks them.
pub(super) fn in_js_order<K: AsRef<str>, V>(members: &[(K, V)]) -> Vec<(&str, &V)> {
    let order = js_order(members).unwrap_or_else(|| (0..members.len()).collect());
    order.into_iter().map(|at| (members[at].0.as_ref(), &members[at].1)).collect()
}

/// Ajv's message of `oneOf`.
pub(super) const ONE_OF: &str = "must match exactly one schema in oneOf";

/// The head of `uniqueItems`.
pub(super) fn twins_head(i: usize, j: usize) -> Box<str> {
    let message = format!("must NOT have duplicate items (items ## {j} and {i} are identical)");
    head("uniqueItems", &message, &format!("{{\"i\":{i},\"j\":{j}}}"))
}

/// The head of `additionalProperties`.
pub(super) fn additional_head(key: &str) -> Box<str> {
    let params = format!("{{\"additionalProperty\":{}}}", quoted(key));
    head("additionalProperties", "must NOT have additional properties", &params)
}

/// The head of `propertyNames`.
pub(super) fn name_head(key: &str) -> Box<str> {
    let params = format!("{{\"propertyName\":{}}}", quoted(key));
    head("propertyNames", "property name must be valid", &params)
}

/// A name as a step of a JSON Pointer (RFC 6901).
pub(super) fn write_step(out: &mut String, name: &str) {
    out.push('/');
    let mut plain = 0;
    for (at, byte) in name.bytes().enumerate() {
        let escape = match byte {
            b'~' => "~0",
            b'/' => "~1",
            _ => continue,
        };
        out.push_str(&name[plain..at]);
        out.push_str(escape);
        plain = at + 1;
    }
    out.push_str(&name[plain..]);
}

/// A name of the schema as a step of a `schemaPath`: pointer-escaped, then `encodeURIComponent`.
pub(super) fn fragment_step(name: &str) -> String {
    let mut step = String::new();
    write_step(&mut step, name);
    let mut out = String::with_capacity(step.len());
    for byte in step.bytes().skip(1) {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')' => {
                out.push(char::from(byte));
            }
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_in_javascript() {
        let printed = [5.0, 1e21, 1e-6, 1e-7, -0.0, 123_456_789_012_345_680_000.0, 0.1, -2.5];
        let expected =
            ["5", "1e+21", "0.000001", "1e-7", "0", "123456789012345680000", "0.1", "-2.5"];
        assert_eq!(printed.map(number), expected);
    }

    #[test]
    fn text_is_escaped_as_by_json_stringify() {
        assert_eq!(
            quoted("a\"\\/\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}é\u{2028}"),
            "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}é\u{2028}\""
        );
    }

    #[test]
    fn indices_come_before_names() {
        let members: Vec<(String, u8)> =
            ["b", "10", "4294967295", "a", "2", "01", "4294967294", "0"]
                .map(|k| (k.into(), 0))
                .into();
        let order: Vec<&str> = in_js_order(&members).into_iter().map(|(key, _)| key).collect();
        assert_eq!(order, ["0", "2", "10", "4294967294", "b", "4294967295", "a", "01"]);
    }

    #[test]
    fn a_name_of_the_schema_is_encoded_for_a_fragment() {
        assert_eq!(fragment_step("a/b~c é^'()*!\""), "a~1b~0c%20%C3%A9%5E'()*!%22");
    }
}
