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
const NAME_BYTES_MAX: usize = 8 << 20;

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
        for (at, found) in self.found.iter().enumerate() {
            out.push_str(if at == 0 { "{\"instancePath\":" } else { ",{\"instancePath\":" });
            ajv::write_quoted(&mut out, &self.paths[found.path.clone()]);
            out.push_str(found.head.as_deref().unwrap_or(&found.words.head));
            if let Some(name) = &found.name {
                out.push_str(",\"propertyName\":");
                ajv::write_quoted(&mut out, name);
            }
            out.push_str(&found.words.tail);
            out.push('}');
        }
        out.push(']');
        Bytes::from(out)
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
        let bytes = self.found.last().map_or(0, |last| last.bytes);
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
