//! Partners' notifications: written by machines that nobody here could mend, but for the template
//! that an operator gave them.

use super::{Lint, Place, Warnings};
use crate::json::Node;

/// Bytes that the name of a macro may have: more is a text in braces.
const MACRO_BYTES_MAX: usize = 64;

/// Looks over one notification.
pub(super) fn lint(document: &Node<'_>, warnings: &mut Warnings) {
    if holds_macro(document) {
        // Where is a name that the sender chose.
        warnings.add(Lint::UnresolvedMacro, Place::Root);
    }
}

/// Whether some text is nothing but a macro, or holds one that looks like no word of a person's. As
/// deep as documents are, which is bounded.
fn holds_macro(node: &Node<'_>) -> bool {
    match node {
        Node::Null | Node::Bool(_) | Node::Number(_) => false,
        Node::String(text) => is_macro(text) || has_macro(text),
        Node::Array(items) => items.iter().any(holds_macro),
        Node::Object(members) => members.iter().any(|(_, value)| holds_macro(value)),
    }
}

/// Whether a text is `{Payout}`, or `{{Payout}}`.
fn is_macro(text: &str) -> bool {
    let Some(once) = inside(text.trim()) else { return false };
    let name = inside(once).unwrap_or(once);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ' ' | '.');
    !name.trim().is_empty() && name.len() <= MACRO_BYTES_MAX && name.chars().all(fits)
}

/// Whether a text holds a macro among other things, as a URL does that a template was to fill in:
/// `ref-{SubId1}`. Only of the form that partners' own have, for texts hold braces of many kinds.
fn has_macro(text: &str) -> bool {
    text.split('{').skip(1).any(|rest| {
        let Some((name, _)) = rest.split_once('}') else { return false };
        let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_camel = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.contains(|c: char| c.is_ascii_lowercase());
        fits && is_camel && name.len() <= MACRO_BYTES_MAX
    })
}

fn inside(text: &str) -> Option<&str> {
    text.strip_prefix('{')?.strip_suffix('}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    #[test]
    fn a_macro_is_told_wherever_it_stands_and_nothing_else_is() {
        let fires = |body: &str| {
            let mut warnings = Warnings::default();
            lint(&parse(body.as_bytes(), 64).unwrap(), &mut warnings);
            warnings.lints().next() == Some(Lint::UnresolvedMacro)
        };
        for body in [
            r#"{"payout":"{Payout}"}"#,
            r#"{"a":{"b":[1,"{{SubId1}}"]}}"#,
            r#"{"a":" {Action Id} "}"#,
            r#""{X}""#,
            r#"{"c":"{Payout} EUR"}"#,
            r#"{"ref":"pub-1-{SubId1}","n":"{"}"#,
            r#"{"url":"https://shop.example/?a={{ActionId}}&b=1"}"#,
        ] {
            assert!(fires(body), "{body}");
        }
        for body in [
            r#"{"{Payout}":"5.00"}"#,
            r#"{"items":"{\"sku\":1}"}"#,
            r#"{"a":"{}","b":"{ }","d":"Payout","e":null}"#,
            r#"{"a":"hello {name}","b":"{A} or {B}","c":"{\"Sku\":1}","d":"{Sub Id}x","e":"{Sub"}"#,
        ] {
            assert!(!fires(body), "{body}");
        }
    }
}
