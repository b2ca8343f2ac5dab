//! `test_values` in a source: what a partner's test notifications are known by.

use crate::json::Node;

/// A value that a partner's test notifications have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestValue {
    /// A JSON pointer to the text.
    pub at: Box<str>,
    /// Texts that it is.
    pub is: Vec<Box<str>>,
    /// Texts that it holds.
    pub holds: Vec<Box<str>>,
}

impl TestValue {
    /// Whether a document has it.
    pub(super) fn is_in(&self, document: &Node<'_>) -> bool {
        document.at(&self.at).and_then(Node::as_str).is_some_and(|text| {
            self.is.iter().any(|one| **one == *text)
                || self.holds.iter().any(|part| text.contains(&**part))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    #[test]
    fn a_test_is_known_by_what_a_text_is_or_holds() {
        let value = TestValue {
            at: "/data/url".into(),
            is: ["ID".into()].into(),
            holds: ["fake.".into()].into(),
        };
        for (body, is_test) in [
            (r#"{"data":{"url":"ID"}}"#, true),
            (r#"{"data":{"url":"http://a.fake.com/1"}}"#, true),
            (r#"{"data":{"url":"ID2"}}"#, false),
            (r#"{"data":{"url":5}}"#, false),
            (r#"{"url":"ID"}"#, false),
            (r#"{"data":null}"#, false),
            ("[]", false),
        ] {
            assert_eq!(value.is_in(&parse(body.as_bytes(), 64).unwrap()), is_test, "{body}");
        }
    }
}
