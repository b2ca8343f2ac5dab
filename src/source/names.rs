//! `names` in a source: how the members of its documents may be spelled.
//!
//! Where a partner's customers name the members themselves, `ActionId`, `actionId` and `action_id`
//! are one. Members at the root alone are looked at; the schema's own spelling is the right one.

use std::borrow::Cow;

use bytes::Bytes;

use crate::json::Node;
use crate::json::edit::{Edits, spans};

/// How members may be spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// As the schema has them.
    #[default]
    Exact,
    /// In any case, with or without underscores, dashes, dots and spaces; sent on as they came.
    AnyCase,
    /// The same, but sent on as the schema has them.
    Rewritten,
}

impl Names {
    /// Names the members of a document as the schema does, whose own are `members`.
    pub(super) fn read(self, document: &mut Node<'_>, members: &[String]) {
        match self {
            Self::Exact => return,
            Self::AnyCase | Self::Rewritten => {}
        }
        let Node::Object(found) = document else { return };
        for at in 0..found.len() {
            if let Some(name) = meant(found, at, members) {
                found[at].0 = Cow::Owned(name.to_owned());
            }
        }
    }

    /// `text`, of which `document` was read as it is spelled, as the schema names its members;
    /// nothing when there is nothing to change.
    pub(super) fn rewrite(
        self,
        text: &Bytes,
        document: &Node<'_>,
        members: &[String],
    ) -> Option<Bytes> {
        match self {
            Self::Exact | Self::AnyCase => return None,
            Self::Rewritten => {}
        }
        let Node::Object(found) = document else { return None };
        let (mut found, spans) = (found.clone(), spans(text, 0));
        let mut edits = Edits::of(text);
        for at in 0..found.len() {
            let Some(name) = meant(&found, at, members) else { continue };
            // A schema's name may hold anything that JSON escapes.
            edits.replace(spans.get(at)?.name.clone(), serde_json::Value::from(name).to_string());
            found[at].0 = Cow::Owned(name.to_owned());
        }
        (!edits.is_empty()).then(|| edits.apply())
    }
}

/// The schema's name of a member that is spelled otherwise, unless another member has it.
fn meant<'m>(
    found: &[(Cow<'_, str>, Node<'_>)],
    at: usize,
    members: &'m [String],
) -> Option<&'m str> {
    let written = &*found.get(at)?.0;
    if members.iter().any(|member| member == written) {
        return None;
    }
    let name = members.iter().find(|member| letters(member).eq(letters(written)))?;
    let is_taken = found.iter().any(|(other, _)| other == name.as_str());
    (!is_taken).then_some(name)
}

fn letters(name: &str) -> impl Iterator<Item = char> {
    let kept = name.chars().filter(|c| !matches!(c, '_' | '-' | '.' | ' '));
    kept.map(|c| c.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    fn members() -> Vec<String> {
        ["action_id", "status"].map(str::to_owned).into()
    }

    #[test]
    fn a_member_is_known_in_any_usual_spelling() {
        for (text, names) in [
            (r#"{"ActionId":1,"STATUS":2,"x":3}"#, &["action_id", "status", "x"][..]),
            (r#"{"action-id":1,"Status":2}"#, &["action_id", "status"]),
            (r#"{"Action Id":1,"action.ID":2}"#, &["action_id", "action.ID"]),
            (r#"{"ActionId":1,"action_id":2}"#, &["ActionId", "action_id"]),
            (r#"{"ActionIds":1,"":2}"#, &["ActionIds", ""]),
        ] {
            for (how, expected) in [(Names::AnyCase, names), (Names::Rewritten, names)] {
                let mut document = parse(text.as_bytes(), 64).unwrap();
                how.read(&mut document, &members());
                let Node::Object(found) = &document else { panic!("{text}") };
                let found: Vec<&str> = found.iter().map(|(name, _)| &**name).collect();
                assert_eq!(found, expected, "{text}");
            }
            let mut document = parse(text.as_bytes(), 64).unwrap();
            let as_it_was = document.clone();
            Names::Exact.read(&mut document, &members());
            assert_eq!(document, as_it_was);
        }
    }

    #[test]
    fn what_is_rewritten_keeps_every_byte_but_the_names() {
        let rewritten = |how: Names, text: &str| {
            let text = Bytes::from(text.to_owned());
            let document = parse(&text, 64).unwrap();
            let text = how.rewrite(&text, &document, &members())?;
            Some(String::from_utf8(text.to_vec()).unwrap())
        };
        let text = r#"{ "Action\u0049d" : "1.00","p":5.00,"Status":{"Status":1} }"#;
        let own = r#"{ "action_id" : "1.00","p":5.00,"status":{"Status":1} }"#;
        assert_eq!(rewritten(Names::Rewritten, text).as_deref(), Some(own));
        assert_eq!(rewritten(Names::Rewritten, own), None);
        assert_eq!(rewritten(Names::AnyCase, text), None);
        assert_eq!(rewritten(Names::Rewritten, "[1]"), None);
    }
}
