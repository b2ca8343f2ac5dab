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

/// Whether some text is nothing but a macro. As deep as documents are, which is bounded.
fn holds_macro(node: &Node<'_>) -> bool {
    match node {
        Node::Null | Node::Bool(_) | Node::Number(_) => false,
        Node::String(text) => is_macro(text),
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
        ] {
            assert!(fires(body), "{body}");
        }
        for body in [
            r#"{"{Payout}":"5.00"}"#,
            r#"{"items":"{\"sku\":1}"}"#,
            r#"{"a":"{}","b":"{ }","c":"{Payout} EUR","d":"Payout","e":null}"#,
        ] {
            assert!(!fires(body), "{body}");
        }
    }
}
