//! `aliases` in a source: other names for what a known client sends, and members to fill in.
//!
//! The vendor's own Kotlin SDK names an item's sku `product_sku` and sends no promotional price.
//! With aliases such an order becomes what the vendor documents, before it is checked; so errors
//! speak of the documented names, which are also what is forwarded.

use std::borrow::Cow;

use bytes::Bytes;

use crate::json::Node;
use crate::json::edit::{Edits, Span, spans};

/// Aliases of a source, in groups that concern the same objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aliases(Vec<Group>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    /// From the root to the objects.
    path: Vec<Step>,
    /// In the order of the configuration.
    changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(Box<str>),
    /// Each item of an array.
    Each,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    from: Box<str>,
    to: Box<str>,
    kind: Kind,
}

/// What happens to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It gets another name.
    Rename,
    /// Its value is there a second time, under another name.
    Copy,
}

/// Why an alias cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AliasFault {
    /// Not a path of names and asterisks.
    #[error("is no path: write \"/items/*/product_sku\", an asterisk for each item of an array")]
    Path,
    /// A name with characters that would have to be escaped somewhere.
    #[error("is no name: write up to 64 ASCII letters, digits, underscores, dashes and dots")]
    Name,
}

impl Aliases {
    /// Adds what happens to the member that `path` leads to; the other name is `to`.
    ///
    /// # Errors
    /// [`AliasFault`], for the operator to mend.
    pub fn add(&mut self, kind: Kind, path: &str, to: &str) -> Result<(), AliasFault> {
        let mut steps = Vec::new();
        for step in path.strip_prefix('/').ok_or(AliasFault::Path)?.split('/') {
            match step {
                "*" => steps.push(Step::Each),
                step if is_name(step) => steps.push(Step::Member(step.into())),
                _ => return Err(AliasFault::Path),
            }
        }
        let Some(Step::Member(from)) = steps.pop() else { return Err(AliasFault::Path) };
        if !is_name(to) {
            return Err(AliasFault::Name);
        }
        let change = Change { from, to: to.into(), kind };
        match self.0.iter_mut().find(|group| group.path == steps) {
            Some(group) => group.changes.push(change),
            None => self.0.push(Group { path: steps, changes: vec![change] }),
        }
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(|group| group.changes.len()).sum()
    }

    /// `text`, of which `document` was read, as the aliases have it; nothing when none applies.
    ///
    /// A member that is there under its documented name stays, and so does the other one.
    pub(super) fn apply(&self, text: &Bytes, document: &Node<'_>) -> Option<Bytes> {
        let mut edits = Edits::of(text);
        for group in &self.0 {
            group.walk(&group.path, text, 0, document, &mut edits);
        }
        (!edits.is_empty()).then(|| edits.apply())
    }
}

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=64).contains(&text.len()) && text.chars().all(fits)
}

impl Group {
    /// Follows `path` from the value that begins at `start` of `text`.
    fn walk(
        &self,
        path: &[Step],
        text: &[u8],
        start: usize,
        node: &Node<'_>,
        edits: &mut Edits<'_>,
    ) {
        match (path, node) {
            ([], Node::Object(members)) => self.change(text, start, members, edits),
            ([Step::Each, rest @ ..], Node::Array(items)) => {
                for (span, item) in spans(text, start).iter().zip(items) {
                    self.walk(rest, text, span.value.start, item, edits);
                }
            }
            ([Step::Member(name), rest @ ..], Node::Object(members)) => {
                let Some(at) = members.iter().position(|(member, _)| *member == **name) else {
                    return;
                };
                if let (Some(span), Some((_, inner))) =
                    (spans(text, start).get(at), members.get(at))
                {
                    self.walk(rest, text, span.value.start, inner, edits);
                }
            }
            _ => {}
        }
    }

    fn change(
        &self,
        text: &[u8],
        start: usize,
        members: &[(Cow<'_, str>, Node<'_>)],
        edits: &mut Edits<'_>,
    ) {
        let concerns = |change: &Change| members.iter().any(|(name, _)| *name == *change.from);
        if !self.changes.iter().any(concerns) {
            return;
        }
        let mut spans: Vec<Span> = spans(text, start);
        let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
        debug_assert_eq!(spans.len(), names.len(), "two readings of one text");
        for Change { from, to, kind } in &self.changes {
            if names.contains(&&**to) {
                continue;
            }
            let Some(at) = names.iter().position(|name| **name == **from) else { continue };
            let Some(span) = spans.get(at).cloned() else { return };
            match kind {
                Kind::Rename => {
                    edits.replace(span.name, format!("\"{to}\""));
                    names[at] = to;
                }
                Kind::Copy => {
                    let value = text.get(span.value.clone()).unwrap_or_default();
                    let end = span.value.end;
                    edits.replace(end..end, [format!(",\"{to}\":").as_bytes(), value].concat());
                    // A copy of the copy is one of the original.
                    names.push(to);
                    spans.push(span);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `config/relay.toml` shows them.
    fn kotlin() -> Aliases {
        let mut aliases = Aliases::default();
        aliases.add(Kind::Rename, "/items/*/product_sku", "sku").unwrap();
        aliases.add(Kind::Copy, "/items/*/price", "promotional_price").unwrap();
        aliases
    }

    fn of(aliases: &Aliases, text: &str) -> Option<String> {
        let text = Bytes::from(text.to_owned());
        let document = crate::json::parse(&text, 64).unwrap();
        let applied = aliases.apply(&text, &document)?;
        crate::json::parse(&applied, 64).unwrap();
        Some(String::from_utf8(applied.to_vec()).unwrap())
    }

    #[test]
    fn items_of_the_vendors_kotlin_kit_become_what_the_vendor_documents() {
        let text = r#"{"a":1.00,"items":[ {"product_sku" : "s-1","quantity":1,"price":1899.00 ,"seller_id":null},{"price":1.5E3,"product_\u0073ku":"2"}],"price":7}"#;
        let expected = r#"{"a":1.00,"items":[ {"sku" : "s-1","quantity":1,"price":1899.00,"promotional_price":1899.00 ,"seller_id":null},{"price":1.5E3,"promotional_price":1.5E3,"sku":"2"}],"price":7}"#;
        assert_eq!(of(&kotlin(), text).as_deref(), Some(expected));
        assert_eq!(of(&kotlin(), expected), None);
    }

    #[test]
    fn a_documented_member_stays_whatever_it_holds() {
        for item in [
            r#"{"sku":null,"product_sku":"x","price":1,"promotional_price":0}"#,
            r#"{"quantity":1}"#,
            "null",
            "[]",
            r#""price""#,
        ] {
            assert_eq!(of(&kotlin(), &format!(r#"{{"items":[{item}]}}"#)), None, "{item}");
        }
        for body in [r#"{"items":{"product_sku":"x"}}"#, r#"[{"product_sku":"x"}]"#, "null", "{}"] {
            assert_eq!(of(&kotlin(), body), None, "{body}");
        }
    }

    #[test]
    fn aliases_work_on_each_other_in_their_order() {
        let mut aliases = Aliases::default();
        aliases.add(Kind::Rename, "/a", "b").unwrap();
        aliases.add(Kind::Copy, "/b", "c").unwrap();
        aliases.add(Kind::Copy, "/c", "d").unwrap();
        aliases.add(Kind::Rename, "/x", "b").unwrap();
        aliases.add(Kind::Rename, "/d/*/e", "f").unwrap();
        assert_eq!(aliases.count(), 5);
        assert_eq!(
            of(&aliases, r#"{"a":[1],"x":2}"#).as_deref(),
            Some(r#"{"b":[1],"c":[1],"d":[1],"x":2}"#)
        );
        assert_eq!(of(&aliases, r#"{"d":[{"e":1}]}"#).as_deref(), Some(r#"{"d":[{"f":1}]}"#));
    }

    #[test]
    fn a_path_that_leads_to_no_member_is_refused() {
        let mut aliases = Aliases::default();
        for path in ["", "a", "/", "/*", "/a/*", "//a", "/a//b", "/a b", "/a~1b"] {
            assert_eq!(aliases.add(Kind::Rename, path, "b"), Err(AliasFault::Path), "{path}");
        }
        for to in ["", "a/b", "\"", "é"] {
            assert_eq!(aliases.add(Kind::Copy, "/a", to), Err(AliasFault::Name), "{to}");
        }
        assert_eq!(aliases, Aliases::default());
    }
}
