//! The closed set of keywords.

use std::borrow::Cow;

use super::super::rules::Kind;
use super::{At, Compiler, members};
use crate::json::Node;

/// The dialects that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Draft {
    Seven,
    TwentyTwenty,
}

impl Draft {
    /// The dialect that `$schema` names, the newer when it is not there.
    pub(in super::super) fn of(document: &Node<'_>) -> Option<Self> {
        match document.get("$schema") {
            None => Some(Self::TwentyTwenty),
            Some(uri) => match uri.as_str()?.trim_end_matches('#') {
                "http://json-schema.org/draft-07/schema" => Some(Self::Seven),
                "https://json-schema.org/draft/2020-12/schema" => Some(Self::TwentyTwenty),
                _ => None,
            },
        }
    }
}

/// Keywords that say nothing about a value.
const ANNOTATIONS: [&str; 9] = [
    "$schema",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
];

const ANY: [&str; 12] = [
    "type", "nullable", "$ref", "const", "enum", "not", "anyOf", "oneOf", "allOf", "if", "then",
    "else",
];
const NUMBER: [&str; 6] =
    ["maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum", "multipleOf", "format"];
const STRING: [&str; 4] = ["maxLength", "minLength", "pattern", "format"];
const ARRAY: [&str; 5] = ["maxItems", "minItems", "items", "contains", "uniqueItems"];
const ARRAY_SEVEN: [&str; 1] = ["additionalItems"];
const ARRAY_TWENTY: [&str; 3] = ["prefixItems", "minContains", "maxContains"];
const OBJECT: [&str; 8] = [
    "maxProperties",
    "minProperties",
    "required",
    "propertyNames",
    "additionalProperties",
    "dependencies",
    "properties",
    "patternProperties",
];
const OBJECT_TWENTY: [&str; 2] = ["dependentRequired", "dependentSchemas"];

/// The keywords of one schema.
#[derive(Clone, Copy)]
pub(super) struct Keywords<'t>(pub(super) &'t [(Cow<'t, str>, Node<'t>)]);

impl<'t> Keywords<'t> {
    pub(super) fn get(self, keyword: &str) -> Option<&'t Node<'t>> {
        self.0.iter().find(|(key, _)| key == keyword).map(|(_, value)| value)
    }

    /// The value of a keyword that is a number.
    pub(super) fn number(self, keyword: &str) -> Option<f64> {
        match self.get(keyword)? {
            Node::Number(number) => Some(*number),
            Node::Null | Node::Bool(_) | Node::String(_) | Node::Array(_) | Node::Object(_) => None,
        }
    }

    /// Whether a keyword of the type's own group is here.
    pub(super) fn has_group(self, kind: Kind, draft: Draft) -> bool {
        let groups: [&[&str]; 2] = match (kind, draft) {
            (Kind::Number, _) => [&NUMBER, &[]],
            (Kind::String, _) => [&STRING, &[]],
            (Kind::Array, Draft::Seven) => [&ARRAY, &ARRAY_SEVEN],
            (Kind::Array, Draft::TwentyTwenty) => [&ARRAY, &ARRAY_TWENTY],
            (Kind::Object, Draft::Seven) => [&OBJECT, &[]],
            (Kind::Object, Draft::TwentyTwenty) => [&OBJECT, &OBJECT_TWENTY],
            (Kind::Null | Kind::Boolean | Kind::Integer, _) => return false,
        };
        self.0.iter().any(|(key, _)| groups.iter().any(|group| group.contains(&key.as_ref())))
    }

    /// Whether nothing but `$ref` is asked here.
    pub(super) fn is_bare_reference(self) -> bool {
        self.get("$ref").is_some() && !self.0.iter().any(|(key, _)| key != "$ref" && is_rule(key))
    }
}

/// Whether Ajv takes the schema for one that every value fits.
pub(super) fn is_idle(node: &Node<'_>) -> bool {
    *node == Node::Bool(true)
        || matches!(node, Node::Object(members) if !members.iter().any(|(key, _)| is_rule(key)))
}

/// Whether Ajv has a definition of the keyword: of `$comment` too, of no other annotation.
fn is_rule(key: &str) -> bool {
    key == "$comment" || is_asking(key)
}

/// Whether a keyword asks something of a value, in either draft.
fn is_asking(key: &str) -> bool {
    let groups: [&[&str]; 8] =
        [&ANY, &NUMBER, &STRING, &ARRAY, &ARRAY_SEVEN, &ARRAY_TWENTY, &OBJECT, &OBJECT_TWENTY];
    groups.iter().any(|group| group.contains(&key))
}

impl<'t> Compiler<'t> {
    /// Refuses keywords outside of the closed set, and looks into definitions.
    pub(super) fn lint(&mut self, keywords: Keywords<'t>, at: &At) {
        for (key, value) in keywords.0 {
            let key = key.as_ref();
            let newer = ARRAY_TWENTY.contains(&key) || OBJECT_TWENTY.contains(&key);
            let is_known = match self.draft {
                Draft::Seven => !newer && is_asking(key),
                Draft::TwentyTwenty => is_asking(key) && !ARRAY_SEVEN.contains(&key),
            };
            let place = at.part(key).place;
            if matches!(key, "$defs" | "definitions") {
                for (name, definition) in members(value) {
                    self.schema(definition, &at.keyword(key).part(name));
                }
            } else if key == "$id" {
                if !at.place.is_empty() {
                    let remedy = "refer to the place by its pointer";
                    self.refuse(&place, "$id inside of a schema is not supported", remedy);
                }
            } else if newer && self.draft == Draft::Seven {
                let reason = format!("the keyword `{key}` is not one of draft-07");
                self.refuse(&place, reason, "set $schema to draft 2020-12");
            } else if !is_known && !ANNOTATIONS.contains(&key) && !key.starts_with("x-") {
                let reason = format!("the keyword `{key}` is not supported");
                let remedy = "say it with other keywords, or call it `x-…` when it is a note";
                self.refuse(&place, reason, remedy);
            }
        }
    }
}
