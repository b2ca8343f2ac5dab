//! Changes single members of a JSON text and leaves every other byte as it came.
//!
//! Through a parsed value `1899.00` would leave as `1899.0`; so a changed text is made of slices
//! of the one that was received. Everything here takes a text that [`super::parse`] has taken: of
//! any other it finds less or nothing, and panics at none.

use std::ops::Range;

use bytes::Bytes;

/// Where a member of an object, or an item of an array, stands in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its name with the quotes; empty for an item.
    pub name: Range<usize>,
    /// Its value.
    pub value: Range<usize>,
}

/// The members or items of the value that begins at `start` of `text`, in order; none of a scalar.
#[must_use]
pub fn spans(text: &[u8], start: usize) -> Vec<Span> {
    let mut cursor = Cursor { text, at: start };
    let mut spans = Vec::new();
    cursor.pass_space();
    let is_object = match cursor.take() {
        Some(b'{') => true,
        Some(b'[') => false,
        Some(_) | None => return spans,
    };
    loop {
        cursor.pass_space();
        if matches!(cursor.peek(), Some(b'}' | b']') | None) {
            return spans;
        }
        let mut name = cursor.at..cursor.at;
        if is_object {
            cursor.pass_value();
            name.end = cursor.at;
            cursor.pass_space();
            if cursor.take() != Some(b':') {
                return spans;
            }
            cursor.pass_space();
        }
        let begin = cursor.at;
        cursor.pass_value();
        if cursor.at == begin {
            return spans;
        }
        spans.push(Span { name, value: begin..cursor.at });
        cursor.pass_space();
        if cursor.take() != Some(b',') {
            return spans;
        }
    }
}

struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn pass_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn pass_value(&mut self) {
        let mut open = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => self.pass_string(),
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' if open > 0 => {
                    open -= 1;
                    self.at += 1;
                }
                b'}' | b']' | b',' | b':' if open == 0 => return,
                b' ' | b'\t' | b'\n' | b'\r' if open == 0 => return,
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            if open == 0 {
                return;
            }
        }
    }

    fn pass_string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.take() {
            match byte {
                b'"' => return,
                b'\\' => self.at += 1,
                _ => {}
            }
        }
        self.at = self.text.len();
    }
}

/// Changes of one text, applied together.
#[derive(Debug)]
pub struct Edits<'t> {
    text: &'t [u8],
    changes: Vec<(Range<usize>, Vec<u8>)>,
}

impl<'t> Edits<'t> {
    /// No change of `text` yet.
    #[must_use]
    pub const fn of(text: &'t [u8]) -> Self {
        Self { text, changes: Vec::new() }
    }

    /// Whether nothing is to change.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Puts `bytes` where `range` is; no two ranges may overlap.
    pub fn replace(&mut self, range: Range<usize>, bytes: impl Into<Vec<u8>>) {
        self.changes.push((range, bytes.into()));
    }

    /// Takes the members away that stand at `gone` of `all`, the spans of one object or array.
    pub fn remove(&mut self, all: &[Span], gone: impl Fn(usize) -> bool) {
        let mut kept_end = None;
        for (at, span) in all.iter().enumerate() {
            if !gone(at) {
                kept_end = Some(span.value.end);
                continue;
            }
            let from = start(span);
            match all.get(at + 1) {
                // Up to the next one, comma and space included.
                Some(next) => self.replace(from..start(next), []),
                // The last goes with the comma before, which may stand far back by now.
                None => match kept_end {
                    Some(end) => {
                        let inside = end..span.value.end;
                        self.changes.retain(|(range, _)| !inside.contains(&range.start));
                        self.replace(end..span.value.end, []);
                    }
                    None => self.replace(from..span.value.end, []),
                },
            }
        }
    }

    /// The changed text.
    #[must_use]
    pub fn apply(mut self) -> Bytes {
        self.changes.sort_by_key(|(range, _)| range.start);
        let added: usize = self.changes.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut out = Vec::with_capacity(self.text.len() + added);
        let mut at = 0;
        for (range, bytes) in &self.changes {
            out.extend_from_slice(self.text.get(at..range.start).unwrap_or_default());
            out.extend_from_slice(bytes);
            at = at.max(range.end);
        }
        out.extend_from_slice(self.text.get(at..).unwrap_or_default());
        out.into()
    }
}

/// Where a member begins.
const fn start(span: &Span) -> usize {
    span.name.start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Node, parse};

    fn values(text: &str, start: usize) -> Vec<(&str, &str)> {
        let spans = spans(text.as_bytes(), start);
        spans.into_iter().map(|span| (&text[span.name], &text[span.value])).collect()
    }

    #[test]
    fn members_and_items_are_found_as_they_are_spelled() {
        let text = r#" { "a" : 1.00 ,"b\"":"}\\" , "":[1,{"c":[]}], "d":{}}"#;
        let members = values(text, 0);
        assert_eq!(
            members,
            [
                (r#""a""#, "1.00"),
                (r#""b\"""#, r#""}\\""#),
                (r#""""#, r#"[1,{"c":[]}]"#),
                (r#""d""#, "{}")
            ]
        );
        let list = text.find("[1").unwrap();
        assert_eq!(values(text, list), [("", "1"), ("", r#"{"c":[]}"#)]);
        assert_eq!(values("[ ]", 0), []);
        assert_eq!(values("17", 0), []);
    }

    #[test]
    fn what_is_no_json_is_passed_over_without_a_panic() {
        for text in
            ["", "{", "{\"a", "{\"a\"", "{\"a\":", "[1", "{\"\\", "{,}", "[,]", "{:1}", "[}"]
        {
            let _ = values(text, 0);
            let _ = values(text, 9);
        }
    }

    #[test]
    fn any_members_can_be_taken_away() {
        let text = r#"{ "a":1 , "b":[2] ,"c" : "3" }"#;
        let all = spans(text.as_bytes(), 0);
        for gone in 0..8_usize {
            let mut edits = Edits::of(text.as_bytes());
            edits.remove(&all, |at| gone >> at & 1 == 1);
            assert_eq!(edits.is_empty(), gone == 0);
            let left = edits.apply();
            let Node::Object(members) = parse(&left, 64).unwrap() else { panic!("an object") };
            let names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
            let kept: Vec<&str> = ["a", "b", "c"]
                .into_iter()
                .enumerate()
                .filter(|(at, _)| gone >> at & 1 == 0)
                .map(|(_, name)| name)
                .collect();
            assert_eq!(names, kept, "{gone}");
        }
    }

    #[test]
    fn what_is_not_changed_stays_as_it_came() {
        let text = r#"{ "a":1.50 , "b":[2] ,"c" : "3" }"#;
        let all = spans(text.as_bytes(), 0);
        let mut edits = Edits::of(text.as_bytes());
        edits.replace(all[1].value.clone(), *b"null");
        edits.replace(all[0].name.clone(), *b"\"x\"");
        edits.remove(&all, |at| at == 2);
        assert_eq!(edits.apply(), r#"{ "x":1.50 , "b":null }"#);
    }
}
