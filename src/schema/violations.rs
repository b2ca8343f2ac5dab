//! What a body breaks, in Ajv's order, and the answer's bytes made of it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::ajv::{self, Words};

/// Every violation of one body, in Ajv's order.
#[derive(Clone, Default)]
pub struct Violations {
    /// The instance paths, one behind the other.
    paths: String,
    found: Vec<Found>,
}

#[derive(Clone)]
struct Found {
    words: Arc<Words>,
    path: Range<usize>,
    /// Takes the place of the words' own when the body decides message or params.
    head: Option<Box<str>>,
    /// The name that broke `propertyNames`.
    name: Option<Box<str>>,
    /// Bytes of the body's names in this and all before it.
    bytes: usize,
}

/// One violation.
#[derive(Clone, Copy)]
pub struct Violation<'v> {
    of: &'v Violations,
    found: &'v Found,
}

/// The number of violations kept of one body; the verdict does not depend on it.
///
/// A body within the size limit can break a rule some hundred thousand times, each with 150 bytes
/// of answer. Nobody mends more than this at a time.
pub const VIOLATIONS_MAX: usize = 65_536;

/// The bytes of the body's own names, in paths and params, behind which no violation is kept.
///
/// A long name above a long list would be written out once for each item.
pub const NAME_BYTES_MAX: usize = 8 << 20;

impl Violations {
    /// Whether the body breaks nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many are kept, at most [`VIOLATIONS_MAX`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// The violations in Ajv's order.
    pub fn iter(&self) -> impl Iterator<Item = Violation<'_>> {
        self.found.iter().map(|found| Violation { of: self, found })
    }

    /// The bare JSON array that answers a 422, compact.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        let mut out = String::with_capacity(2 + 160 * self.found.len());
        out.push('[');
        self.write(&mut out);
        out.push(']');
        Bytes::from(out)
    }

    /// Appends the errors, each behind the comma that parts it from one before.
    pub fn write(&self, out: &mut String) {
        self.write_at(out, None);
    }

    /// The same as Ajv gives them for a list whose items must meet the schema, in which the body stood at `index`.
    pub fn write_of_item(&self, out: &mut String, index: usize) {
        self.write_at(out, Some(index));
    }

    fn write_at(&self, out: &mut String, index: Option<usize>) {
        for found in &self.found {
            if out.ends_with('}') {
                out.push(',');
            }
            out.push_str("{\"instancePath\":");
            let start = out.len();
            ajv::write_quoted(out, &self.paths[found.path.clone()]);
            if let Some(index) = index {
                out.insert_str(start + 1, &format!("/{index}"));
            }
            out.push_str(found.head.as_deref().unwrap_or(&found.words.head));
            if let Some(name) = &found.name {
                out.push_str(",\"propertyName\":");
                ajv::write_quoted(out, name);
            }
            match (index, found.words.tail.strip_prefix(ajv::TAIL_START)) {
                (Some(_), Some(rest)) => {
                    out.push_str(ajv::TAIL_START);
                    out.push_str("/items");
                    out.push_str(rest);
                }
                (None, _) | (_, None) => out.push_str(&found.words.tail),
            }
            out.push('}');
        }
    }

    /// Withdraws all but the first `count`, and of these all behind the first that makes the
    /// body's own names in them more than `bytes`; the very first stays.
    pub fn keep(&mut self, count: usize, bytes: usize) {
        let within = self.found.iter().skip(1).take_while(|found| found.bytes <= bytes).count();
        self.truncate(count.min(1 + within));
        self.found.shrink_to_fit();
        self.paths.shrink_to_fit();
    }

    /// Bytes of the body's own names in paths and params.
    #[must_use]
    pub fn name_bytes(&self) -> usize {
        self.found.last().map_or(0, |last| last.bytes)
    }

    /// Adds a violation that another room found.
    ///
    /// `schema_path` ends with the keyword, `params` is JSON; neither they nor `message` may hold
    /// a value of the body, and `field` may hold names of the schema only.
    pub fn push(
        &mut self,
        instance_path: &str,
        keyword: &str,
        message: &str,
        params: &str,
        schema_path: &str,
        field: &str,
    ) {
        let words = Words {
            keyword: keyword.into(),
            field: field.into(),
            head: ajv::head(keyword, message, params),
            tail: format!(",\"schemaPath\":{}", ajv::quoted(schema_path)).into(),
        };
        self.add(&Arc::new(words), None, None, |paths| paths.push_str(instance_path));
    }

    pub(super) fn add(
        &mut self,
        words: &Arc<Words>,
        head: Option<Box<str>>,
        name: Option<&str>,
        write_path: impl FnOnce(&mut String),
    ) {
        let bytes = self.name_bytes();
        if self.found.len() == VIOLATIONS_MAX || bytes > NAME_BYTES_MAX {
            return;
        }
        let start = self.paths.len();
        write_path(&mut self.paths);
        let path = start..self.paths.len();
        let head_len = head.as_deref().map_or(0, str::len);
        let bytes = bytes + path.len() + head_len + name.map_or(0, str::len);
        let (words, name) = (words.clone(), name.map(Into::into));
        self.found.push(Found { words, path, head, name, bytes });
    }

    /// Withdraws all but the first `keep`.
    pub(super) fn truncate(&mut self, keep: usize) {
        if let Some(first) = self.found.get(keep) {
            self.paths.truncate(first.path.start);
            self.found.truncate(keep);
        }
    }
}

/// Prints keywords and fields, no path: a path can hold names chosen by the sender.
impl fmt::Debug for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|v| format!("{} {}", v.field(), v.keyword())))
            .finish()
    }
}

impl<'v> Violation<'v> {
    /// The keyword that was broken, as `required` or `false schema`.
    #[must_use]
    pub fn keyword(&self) -> &'v str {
        &self.found.words.keyword
    }

    /// A JSON Pointer to the place in the body. Its steps are names the sender chose.
    #[must_use]
    pub fn instance_path(&self) -> &'v str {
        &self.of.paths[self.found.path.clone()]
    }

    /// The schema's property at fault, as `items/price`: as many as the schema has, so that it
    /// may label a metric. Empty at the root, `*` where the schema does not name the property.
    #[must_use]
    pub fn field(&self) -> &'v str {
        &self.found.words.field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_of_another_room_has_the_same_shape() {
        let mut violations = Violations::default();
        violations.push("/a~1\"b", "pii", "must go", "{\"kind\":\"email\"}", "#/x/pii", "x");
        assert_eq!(
            violations.to_json(),
            r##"[{"instancePath":"/a~1\"b","keyword":"pii","message":"must go","params":{"kind":"email"},"schemaPath":"#/x/pii"}]"##
        );
        let only = violations.iter().next().unwrap();
        assert_eq!((only.keyword(), only.instance_path(), only.field()), ("pii", "/a~1\"b", "x"));
        assert_eq!(format!("{violations:?}"), "[\"x pii\"]");
    }

    #[test]
    fn in_a_list_paths_lead_through_the_item() {
        let (mut first, mut second) = (Violations::default(), Violations::default());
        first.push("", "required", "m", "{}", "#/required", "");
        first.push("/a\"", "k", "m", "{}", "#/x/k", "");
        second.push("/b", "k", "m", "{}", "#/k", "");
        let mut out = "[".to_owned();
        first.write_of_item(&mut out, 0);
        second.write_of_item(&mut out, 12);
        let told: serde_json::Value = serde_json::from_str(&format!("{out}]")).unwrap();
        let paths = |n: usize| (told[n]["instancePath"].as_str(), told[n]["schemaPath"].as_str());
        assert_eq!(paths(0), (Some("/0"), Some("#/items/required")));
        assert_eq!(paths(1), (Some("/0/a\""), Some("#/items/x/k")));
        assert_eq!(paths(2), (Some("/12/b"), Some("#/items/k")));
    }

    #[test]
    fn of_many_items_less_is_kept_but_never_nothing() {
        let mut violations = Violations::default();
        for _ in 0..4 {
            violations.push("/four", "k", "m", "{}", "#", "");
        }
        assert_eq!(violations.name_bytes(), 20);
        violations.keep(9, 15);
        assert_eq!(violations.len(), 3);
        violations.keep(2, 15);
        assert_eq!(violations.len(), 2);
        violations.keep(1, 0);
        assert_eq!((violations.len(), violations.name_bytes()), (1, 5));
    }

    #[test]
    fn violations_are_kept_up_to_the_bound() {
        let mut violations = Violations::default();
        for _ in 0..=VIOLATIONS_MAX {
            violations.push("", "k", "m", "{}", "#", "");
        }
        assert_eq!(violations.len(), VIOLATIONS_MAX);
        violations.truncate(3);
        let long = "/n".repeat(NAME_BYTES_MAX / 8);
        for _ in 0..10 {
            violations.push(&long, "k", "m", "{}", "#", "");
        }
        assert_eq!(violations.len(), 3 + 5);
    }
}
