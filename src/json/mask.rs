//! What may be shown of a body or a URL to somebody who need not know what they say: names stay,
//! values go.

use serde_json::Value;

/// What stands for a value.
const MASKED: &str = "***";

/// A JSON body with every text, number and truth value masked; for other bytes their number.
#[must_use]
pub fn body(bytes: &[u8]) -> Value {
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else {
        return Value::String(format!("{} bytes", bytes.len()));
    };
    mask(&mut value);
    value
}

fn mask(value: &mut Value) {
    match value {
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) => *value = MASKED.into(),
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Object(members) => members.values_mut().for_each(mask),
    }
}

/// A path and query with the values of the query masked.
#[must_use]
pub fn target(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let Some((path, query)) = text.split_once('?') else { return text.into_owned() };
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if !value.is_empty() => format!("{name}={MASKED}"),
        Some(_) => pair.to_owned(),
        // A value without a name looks like a name.
        None if pair.is_empty() => String::new(),
        None => MASKED.to_owned(),
    };
    let pairs: Vec<String> = query.split('&').map(pair).collect();
    format!("{path}?{}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_and_values_go() {
        let masked =
            body(br#"{"user_id":"u1","n":1.50,"yes":true,"none":null,"items":[{"sku":"s"}]}"#);
        let wanted =
            r#"{"user_id":"***","n":"***","yes":"***","none":null,"items":[{"sku":"***"}]}"#;
        assert_eq!(masked.to_string(), wanted);
        assert_eq!(body(b"not json"), "8 bytes");
        assert_eq!(body(b""), "0 bytes");
    }

    #[test]
    fn a_query_keeps_its_names() {
        assert_eq!(target(b"/v1/beacon/click/a1"), "/v1/beacon/click/a1");
        assert_eq!(target(b"/c/a1?pos=1&e=&u1&&x=a=b"), "/c/a1?pos=***&e=&***&&x=***");
    }
}
