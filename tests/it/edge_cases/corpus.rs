//! Lines of the corpus: one request and its whole answer.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::support::RawAnswer;

/// One line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line<'l> {
    /// The number of its case.
    pub(crate) case: &'l str,
    /// The request in short.
    pub(crate) says: String,
    #[serde(borrow)]
    pub(crate) ask: Ask<'l>,
    pub(crate) answer: Answer,
}

/// A request: a JSON body in full, or the base order with changes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask<'l> {
    method: Option<String>,
    pub(crate) target: Option<String>,
    /// Behind the group's own target.
    query: Option<String>,
    /// Header lines in place of a JSON content type.
    head: Option<Vec<String>>,
    /// The body as text, JSON as it is written here, bytes in hexadecimal digits, or a file.
    text: Option<String>,
    #[serde(borrow)]
    json: Option<&'l RawValue>,
    hex: Option<String>,
    file: Option<String>,
    /// Members of the order, spelled as here.
    #[serde(borrow, default)]
    with: BTreeMap<String, &'l RawValue>,
    #[serde(default)]
    without: Vec<String>,
    /// Members of the order's one item.
    #[serde(borrow, default)]
    item: BTreeMap<String, &'l RawValue>,
    #[serde(default)]
    item_without: Vec<String>,
    /// What stands in front of the body and is not forwarded.
    #[serde(default)]
    before: String,
    /// A length for a body that does not come.
    declares: Option<usize>,
    /// Seconds by which the clock goes forward before.
    #[serde(default)]
    pub(crate) after_s: u64,
    /// How many callers send it at once.
    pub(crate) at_once: Option<usize>,
}

/// What is answered.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Each error as `instancePath | keyword | params | schemaPath`.
    #[serde(default)]
    errors: Vec<String>,
    /// How many there are, when only the first are written.
    count: Option<usize>,
    /// Of a problem document.
    code: Option<String>,
    allow: Option<String>,
    warnings: Option<String>,
    /// Of many items: each one's status, its code or the number of its errors, and what else.
    pub(crate) results: Option<Vec<String>>,
    /// What is forwarded, when it is not the body.
    #[serde(default, skip_serializing)]
    arrives: Option<String>,
    /// Whether it is known, and so not forwarded again.
    #[serde(default)]
    pub(crate) repeat: bool,
}

/// An order that no rule and no lint has a word about, but for its `order_id`.
const ORDER: &str = include_str!("../../corpus/edge/order.json");

/// The lines of a file.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    (1..).zip(text.lines()).map(|(number, line)| match serde_json::from_str(line) {
        Ok(line) => line,
        Err(error) => panic!("line {number} of the corpus: {error}"),
    })
}

impl Ask<'_> {
    /// The body as it is sent.
    pub(crate) fn body(&self, order_id: &str) -> Vec<u8> {
        let written = if let Some(hex) = &self.hex {
            return unhex(hex);
        } else if let Some(file) = &self.file {
            std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
        } else if let Some(text) = &self.text {
            text.clone()
        } else if let Some(json) = self.json {
            json.get().to_owned()
        } else {
            self.order(order_id)
        };
        format!("{}{}", self.before, repeated(&written)).into_bytes()
    }

    fn order(&self, order_id: &str) -> String {
        let mut order: BTreeMap<String, &RawValue> = serde_json::from_str(ORDER).unwrap();
        let [item]: [BTreeMap<String, &RawValue>; 1] =
            serde_json::from_str(order["items"].get()).unwrap();
        let item = changed(item, &self.item, &self.item_without);
        let items = RawValue::from_string(format!("[{}]", object(&item))).unwrap();
        let id = RawValue::from_string(format!("\"{order_id}\"")).unwrap();
        order.insert("items".to_owned(), &items);
        order.insert("order_id".to_owned(), &id);
        object(&changed(order, &self.with, &self.without))
    }

    /// The request's target in a group whose own is `target`.
    pub(crate) fn target(&self, target: String) -> String {
        match (&self.target, &self.query) {
            (Some(own), _) => own.clone(),
            (None, Some(query)) => format!("{target}?{query}"),
            (None, None) => target,
        }
    }

    /// The whole request.
    pub(crate) fn request(&self, target: &str, body: &[u8]) -> Vec<u8> {
        let method = self.method.as_deref().unwrap_or("POST");
        let json = ["Content-Type: application/json".to_owned()];
        let head: String = self
            .head
            .as_deref()
            .unwrap_or(&json)
            .iter()
            .map(|line| format!("{line}\r\n"))
            .collect();
        let length = self.declares.unwrap_or(body.len());
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: relay\r\n{head}Content-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    }
}

impl Answer {
    /// What must arrive upstream of an accepted `body`.
    pub(crate) fn arrives<'b>(&'b self, ask: &Ask<'_>, body: &'b [u8]) -> &'b [u8] {
        let own = self.arrives.as_deref().map(str::as_bytes);
        own.unwrap_or_else(|| body.strip_prefix(ask.before.as_bytes()).unwrap())
    }

    /// The same shape of a real answer, as far as `self` writes it out.
    pub(crate) fn of(&self, answer: &RawAnswer, schema: &Value) -> Self {
        let header = |name| answer.header(name).map(str::to_owned);
        let is_problem = answer.header("content-type") == Some("application/problem+json");
        let mut errors = Vec::new();
        let many = answer.body.starts_with(b"{\"accepted\"").then(|| answer.json());
        let results = many
            .as_ref()
            .map(|many| many["results"].as_array().unwrap().iter().map(result_in_brief).collect());
        if answer.status == 422 && many.is_none() {
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let found = answer.json();
            errors = found.as_array().unwrap().iter().map(|one| brief(one, schema)).collect();
        }
        let count = self.count.map(|_| errors.len());
        if count.is_some() {
            errors.truncate(self.errors.len());
        }
        Self {
            status: answer.status,
            errors,
            count,
            code: is_problem.then(|| answer.json()["code"].as_str().unwrap().to_owned()),
            allow: header("allow"),
            warnings: header("beacon-relay-warnings"),
            results,
            // Held against what arrives, not against the answer.
            arrives: self.arrives.clone(),
            repeat: self.repeat,
        }
    }
}

/// One result of many as the corpus writes it.
fn result_in_brief(result: &Value) -> String {
    let mut brief = word(&result["status"]);
    if let Some(code) = result.get("code") {
        brief += &format!(" {}", word(code));
    }
    if let Some(errors) = result["errors"].as_array() {
        brief += &format!(" {} errors", errors.len());
    }
    if result["duplicate"] == true {
        brief += " duplicate";
    }
    if let Some(members) = result.get("conflict") {
        brief += &format!(" in conflict: {}", word(members));
    }
    brief
}

/// An error as the corpus writes it.
fn brief(error: &Value, schema: &Value) -> String {
    let members: Vec<&str> = error.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["instancePath", "keyword", "message", "params", "schemaPath"]);
    let [path, keyword, message, schema_path] =
        ["instancePath", "keyword", "message", "schemaPath"]
            .map(|name| error[name].as_str().unwrap());
    assert!(!message.is_empty(), "{error}");
    let params = error["params"].as_object().unwrap();
    let mut params: Vec<String> = params.values().map(word).collect();
    // Too long to write out at every place.
    let written = schema.pointer(schema_path.trim_start_matches('#'));
    if keyword == "pattern" && written.and_then(Value::as_str) == Some(&params[0]) {
        params = vec!["the schema's".to_owned()];
    }
    format!("{path} | {keyword} | {} | {schema_path}", params.join(" "))
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(","),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

type Members<'m> = BTreeMap<String, &'m RawValue>;

fn changed<'m>(mut members: Members<'m>, with: &Members<'m>, without: &[String]) -> Members<'m> {
    members.extend(with.iter().map(|(name, value)| (name.clone(), *value)));
    members.retain(|name, _| !without.contains(name));
    members
}

fn object(members: &Members<'_>) -> String {
    let members = members.iter().map(|(name, value)| format!("{}:{value}", Value::from(&**name)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// The text with each `«part*times»` written out.
fn repeated(text: &str) -> String {
    let Some((before, rest)) = text.split_once('«') else { return text.to_owned() };
    let (part, rest) = rest.split_once('»').unwrap();
    let (part, times) = part.rsplit_once('*').unwrap();
    format!("{before}{}{}", part.repeat(times.parse().unwrap()), repeated(rest))
}

fn unhex(digits: &str) -> Vec<u8> {
    let bytes = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}
