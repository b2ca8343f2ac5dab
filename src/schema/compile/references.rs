//! `$ref`, within the file alone.

use super::super::rules::AnyRule;
use super::keywords::Keywords;
use super::{At, Compiler, items, members};
use crate::json::Node;

/// The longest row of schemas that are nothing but references to the next.
const HOPS_MAX: usize = 64;

impl<'t> Compiler<'t> {
    pub(super) fn reference(&mut self, node: &Node<'_>, at: &At) -> Option<AnyRule> {
        let text = node.as_str()?;
        let place = at.keyword("$ref").place;
        if matches!(text, "#" | "#/") {
            return Some(AnyRule::Call(self.function(self.document, "", "")));
        }
        if !text.starts_with("#/") {
            let reason = "a reference that does not stay within the file";
            self.refuse(&place, reason, "write `#/$defs/…`, a JSON Pointer behind `#`");
            return None;
        }
        let Some((target, pointer)) = self.target(text) else {
            self.refuse(&place, "a reference that leads nowhere", "name a schema of this file");
            return None;
        };
        if !has_reference(target) {
            // Ajv compiles such a schema where the reference stands, and shows the reference.
            let at = At { place: pointer, path: text.to_owned(), field: at.field.clone() };
            return Some(AnyRule::Inline(self.schema(target, &at)));
        }
        Some(AnyRule::Call(self.function(target, &pointer, &at.field)))
    }

    /// The schema that a reference names, and its pointer; what merely refers on is passed over.
    fn target(&self, text: &str) -> Option<(&'t Node<'t>, String)> {
        let mut text = text.to_owned();
        for _ in 0..HOPS_MAX {
            let pointer = percent_decoded(text.strip_prefix('#')?)?;
            let node = self.document.at(&pointer)?;
            if !matches!(node, Node::Object(_) | Node::Bool(_)) {
                return None;
            }
            let keywords = Keywords(members(node));
            match keywords.get("$ref").and_then(Node::as_str) {
                // A reference to the root stays one: Ajv does not pass it over.
                Some(next) if keywords.is_bare_reference() && !matches!(next, "#" | "#/") => {
                    text = next.to_owned();
                }
                _ => return Some((node, pointer)),
            }
        }
        None
    }
}

/// Whether a key that Ajv takes for a reference stands anywhere within.
fn has_reference(node: &Node<'_>) -> bool {
    const REFERENCES: [&str; 5] =
        ["$ref", "$recursiveRef", "$recursiveAnchor", "$dynamicRef", "$dynamicAnchor"];
    items(node).iter().any(has_reference)
        || members(node)
            .iter()
            .any(|(key, value)| REFERENCES.contains(&key.as_ref()) || has_reference(value))
}

/// JavaScript's `decodeURIComponent`.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        (rest, _) = match (first, behind) {
            (b'%', [high, low, behind @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = digit(*high)? * 16 + digit(*low)?;
                (behind, bytes.push(u8::try_from(value).ok()?))
            }
            (b'%', _) => return None,
            _ => (behind, bytes.push(*first)),
        };
    }
    String::from_utf8(bytes).ok()
}
