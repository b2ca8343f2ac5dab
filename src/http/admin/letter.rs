//! A dead letter as operators see it: names stay, values are masked unless they may be revealed.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::json::mask;
use crate::spool::{Cause, DeadLetter};

/// Whether values of bodies are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    Masked,
    Revealed,
}

#[derive(Debug, Serialize)]
pub(super) struct Shown {
    id: String,
    destination: String,
    source: String,
    kind: &'static str,
    event_id: String,
    /// Why it was given up.
    reason: &'static str,
    /// Status of the last answer.
    status: Option<u16>,
    attempts: u32,
    accepted_at: String,
    died_at: String,
    /// Whether it is too old to be replayed.
    expired: bool,
    target: String,
    body_bytes: usize,
    body: Body,
    answer: Body,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Body {
    Value(Value),
    /// Byte for byte.
    Raw(Box<RawValue>),
}

impl Shown {
    pub(super) fn of(letter: &DeadLetter, expired: bool, values: Values) -> Self {
        let (event, refusal) = (&letter.event, &letter.refusal);
        let bytes = event.body.bytes();
        let (target, body, answer) = match values {
            Values::Masked => {
                let answer = match refusal.cause {
                    // The relay's own words, which hold no value.
                    Cause::Invalid => own_words(event.fault.as_deref().unwrap_or_default()),
                    Cause::Refused | Cause::Expired | Cause::UnknownOutcome | Cause::Unsendable => {
                        masked_answer(&refusal.answer)
                    }
                };
                (mask::target(&event.target), Body::Value(mask::body(bytes)), Body::Value(answer))
            }
            Values::Revealed => {
                let target = String::from_utf8_lossy(&event.target).into_owned();
                let answer = match refusal.cause {
                    Cause::Invalid => event.fault.as_ref().unwrap_or(&refusal.answer),
                    Cause::Refused | Cause::Expired | Cause::UnknownOutcome | Cause::Unsendable => {
                        &refusal.answer
                    }
                };
                (target, Body::whole(bytes), Body::whole(answer))
            }
        };
        Self {
            id: letter.id.0.to_string(),
            destination: letter.to.as_str().to_owned(),
            source: event.source.as_str().to_owned(),
            kind: event.kind.as_str(),
            event_id: event.id.to_string(),
            reason: refusal.cause.as_str(),
            status: refusal.status,
            attempts: letter.attempts,
            accepted_at: event.accepted_at.to_string(),
            died_at: letter.died_at.to_string(),
            expired,
            target,
            body_bytes: bytes.len(),
            body,
            answer,
        }
    }
}

impl Body {
    /// All of it: JSON as it is, anything else as text.
    fn whole(bytes: &[u8]) -> Self {
        match serde_json::from_slice::<Box<RawValue>>(bytes) {
            Ok(raw) => Self::Raw(raw),
            Err(_) => Self::Value(String::from_utf8_lossy(bytes).into()),
        }
    }
}

/// What is wrong with an event that was kept for it: errors without values, or a sentence.
fn own_words(bytes: &[u8]) -> Value {
    let mut masked = masked_answer(bytes);
    let Value::Array(shown) = &mut masked else {
        return String::from_utf8_lossy(bytes).into();
    };
    // Messages are made of the schema alone; a path may hold a name that the sender chose.
    let errors = serde_json::from_slice::<Vec<Value>>(bytes).unwrap_or_default();
    for (shown, mut error) in shown.iter_mut().zip(errors) {
        shown["message"] = error["message"].take();
    }
    masked
}

/// An upstream's answer may quote the body, so its values are masked too. Of Ajv's errors that much
/// is kept which says where and what is wrong, and holds names alone.
fn masked_answer(bytes: &[u8]) -> Value {
    let mut masked = mask::body(bytes);
    let Ok(Value::Array(errors)) = serde_json::from_slice::<Value>(bytes) else { return masked };
    for (index, error) in errors.iter().enumerate() {
        let is_pointer = |text: &&str| {
            let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-/#$".contains(&byte);
            text.len() <= 200 && text.bytes().all(word) && !text.contains("//")
        };
        let text = |name: &str| error.get(name).and_then(Value::as_str).filter(is_pointer);
        let place = text("instancePath").filter(|path| path.is_empty() || path.starts_with('/'));
        let schema = text("schemaPath").filter(|path| path.starts_with("#/"));
        let (Some(place), Some(keyword), Some(schema)) = (place, text("keyword"), schema) else {
            continue;
        };
        // The schema's path ends with the keyword, or the answer is not Ajv's.
        if schema.rsplit('/').next() != Some(keyword) {
            continue;
        }
        masked[index]["instancePath"] = json!(place);
        masked[index]["keyword"] = json!(keyword);
        masked[index]["schemaPath"] = json!(schema);
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_answer_places_and_keywords_stay() {
        let answer = br##"[{"instancePath":"/items/0/sku","keyword":"type","message":"is u1",
            "params":{"type":"string"},"schemaPath":"#/properties/items/type"},"u1",
            {"instancePath":"u1@example.com","keyword":"type","schemaPath":"#/type"}]"##;
        let masked = masked_answer(answer).to_string();
        assert!(masked.contains("/items/0/sku") && masked.contains("#/properties/items/type"));
        assert!(!masked.contains("u1"), "{masked}");
        assert_eq!(masked_answer(b"<html>u1</html>"), "15 bytes");
    }

    #[test]
    fn the_relays_own_words_say_what_is_wrong() {
        let fault = br##"[{"instancePath":"/items","keyword":"type","message":"must be array",
            "params":{"type":"array"},"schemaPath":"#/properties/items/type"},
            {"instancePath":"/ana@example.com","keyword":"type","message":"must be string",
            "params":{"type":"string"},"schemaPath":"#/type"}]"##;
        let told = own_words(fault);
        assert_eq!(
            (&told[0]["instancePath"], &told[0]["message"]),
            (&json!("/items"), &json!("must be array"))
        );
        assert_eq!(told[1]["message"], "must be string");
        assert!(!told.to_string().contains("ana@"), "{told}");
        assert_eq!(own_words(b"the body is not JSON: line 1"), "the body is not JSON: line 1");
    }

    #[test]
    fn a_revealed_body_is_byte_for_byte() {
        let whole = |bytes| serde_json::to_string(&Body::whole(bytes)).unwrap();
        assert_eq!(whole(br#"{"price":1899.00}"#), r#"{"price":1899.00}"#);
        assert_eq!(whole(b"not json"), r#""not json""#);
    }
}
