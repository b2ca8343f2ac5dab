//! The items of a list, as slices of the bytes that were received: nothing is built of them, so a
//! list of 32 MiB costs its own size and 32 bytes an item.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{JsonFault, without_boms};

/// What one list may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Items.
    pub items_max: usize,
    /// Bytes of an item that is looked into. A larger one is only passed over.
    pub item_bytes_max: usize,
    /// Levels of nesting that the list may open with, itself counted.
    pub depth_max: usize,
}

/// Why a list has no items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemsFault {
    /// It is not JSON.
    #[error(transparent)]
    Json(#[from] JsonFault),
    /// It has more items than it may.
    #[error("more than {most} items")]
    TooMany {
        /// Items that are allowed.
        most: usize,
    },
}

/// Whether `text`, behind a byte-order mark and white space, begins as an array does.
#[must_use]
pub fn is_list(text: &[u8]) -> bool {
    without_boms(text).iter().find(|byte| !is_space(**byte)) == Some(&b'[')
}

/// The same of a text of which this is the start, which may be too short to tell.
#[must_use]
pub fn may_be_list(start: &[u8]) -> bool {
    let behind = without_boms(start);
    start.len() < START_BYTES || is_list(behind) || behind.iter().all(|byte| is_space(*byte))
}

/// A start that may end within a byte-order mark tells nothing.
const START_BYTES: usize = 16;

/// The items of the JSON array `text`, each without the white space around it.
///
/// The whole is JSON when this answers, but for items of over [`Bounds::item_bytes_max`] bytes.
/// What an item alone decides is left to whoever parses it: its depth, keys that it repeats,
/// numbers beyond a double, halves of surrogate pairs.
///
/// # Errors
/// [`ItemsFault`]: the sender must mend the body.
pub fn array(text: &Bytes, bounds: Bounds) -> Result<Vec<Bytes>, ItemsFault> {
    let mut scan = Scan::of(without_boms(text));
    let opened = scan.text.iter().filter(|byte| !is_space(**byte));
    if opened.take_while(|byte| **byte == b'[').take(bounds.depth_max + 1).count()
        > bounds.depth_max
    {
        return Err(JsonFault::TooDeep { limit: bounds.depth_max }.into());
    }
    scan.skip_space();
    if scan.next() != Some(b'[') {
        return Err(scan.malformed().into());
    }
    let mut items = Vec::new();
    scan.skip_space();
    if scan.peek() == Some(b']') {
        scan.next();
    } else {
        loop {
            let start = scan.at;
            scan.pass_value();
            let slice = without_space(&scan.text[start..scan.at]);
            if items.len() == bounds.items_max {
                return Err(ItemsFault::TooMany { most: bounds.items_max });
            }
            if slice.len() <= bounds.item_bytes_max {
                scan.validate(start, slice)?;
            }
            items.push(text.slice_ref(slice));
            match scan.next() {
                Some(b',') => scan.skip_space(),
                Some(b']') => break,
                Some(_) | None => return Err(scan.malformed().into()),
            }
        }
    }
    scan.skip_space();
    if scan.at < scan.text.len() {
        scan.next();
        return Err(scan.malformed().into());
    }
    Ok(items)
}

/// The lines of `text` that hold more than white space, without the white space around them.
///
/// # Errors
/// [`ItemsFault::TooMany`]; whether a line is JSON is told by whoever parses it.
pub fn lines(text: &Bytes, bounds: Bounds) -> Result<Vec<Bytes>, ItemsFault> {
    let mut items = Vec::new();
    for line in without_boms(text).split(|byte| *byte == b'\n') {
        let line = without_space(line);
        if line.is_empty() {
            continue;
        }
        if items.len() == bounds.items_max {
            return Err(ItemsFault::TooMany { most: bounds.items_max });
        }
        items.push(text.slice_ref(line));
    }
    Ok(items)
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// JSON's own white space, which is less than ASCII's.
fn without_space(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_space(*byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_space(*byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// A place in a text that is walked through.
pub(super) struct Scan<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Scan<'t> {
    pub(super) const fn of(text: &'t [u8]) -> Self {
        Self { text, at: 0 }
    }

    pub(super) const fn position(&self) -> usize {
        self.at
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    pub(super) fn skip_space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    /// Goes to the comma or closing bracket behind a value. Brackets are counted and not matched: whether
    /// it is one value is for the parser of the slice to say, and if every slice is, so is the list.
    pub(super) fn pass_value(&mut self) {
        let mut open = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.at += 1;
                    self.pass_text();
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' if open > 0 => open -= 1,
                b',' | b']' | b'}' if open == 0 => return,
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Goes behind the quotation mark that ends a text.
    pub(super) fn pass_text(&mut self) {
        while let Some(byte) = self.next() {
            match byte {
                b'"' => return,
                // Whatever is escaped ends nothing.
                b'\\' => self.at += 1,
                _ => {}
            }
        }
        // An escape may have been the last byte.
        self.at = self.text.len();
    }

    fn validate(&self, start: usize, slice: &[u8]) -> Result<(), JsonFault> {
        let parsed = serde_json::from_slice::<&RawValue>(slice);
        parsed.map(drop).map_err(|error| {
            let (line, column) = self.place(start);
            match error.line() {
                0 | 1 => JsonFault::Malformed { line, column: column + error.column() },
                more => JsonFault::Malformed { line: line + more - 1, column: error.column() },
            }
        })
    }

    /// A fault at the byte that was read last.
    fn malformed(&self) -> JsonFault {
        let (line, column) = self.place(self.at);
        JsonFault::Malformed { line, column }
    }

    /// The line of `at`, and how many of its bytes stand in front.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..at];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        (line, at - start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    const BOUNDS: Bounds = Bounds { items_max: 5, item_bytes_max: 64, depth_max: 8 };

    fn slices(text: &str) -> Result<Vec<String>, ItemsFault> {
        let items = array(&Bytes::from(text.to_owned()), BOUNDS)?;
        Ok(items.iter().map(|item| String::from_utf8(item.to_vec()).unwrap()).collect())
    }

    #[test]
    fn items_are_slices_of_what_was_received() {
        let text = Bytes::from_static(b"\xef\xbb\xbf \n[ {\"a\":\"],\\\"\"} ,[1, 2],null\r\n]\n");
        let items = array(&text, BOUNDS).unwrap();
        assert_eq!(items, ["{\"a\":\"],\\\"\"}", "[1, 2]", "null"]);
        let own = text.as_ptr_range();
        assert!(items.iter().all(|item| own.contains(&item.as_ptr())));
        assert_eq!(slices("[]"), Ok(vec![]));
        assert_eq!(slices(" [ \t] "), Ok(vec![]));
    }

    #[test]
    fn what_is_no_array_as_a_whole_is_told_with_its_place() {
        let malformed = |line, column| Err(JsonFault::Malformed { line, column }.into());
        assert_eq!(slices("[1,\n {\"a\":nul},2]"), malformed(2, 10));
        assert_eq!(slices("[1,\n\n2"), malformed(3, 1));
        assert_eq!(slices("[1 2]"), malformed(1, 4));
        assert_eq!(slices("[1]\n x"), malformed(2, 2));
        for text in [
            "[", "[,]", "[1,]", "[1,,2]", "[}]", "[1}", "[1\u{c}]", "[\"a]", "[\"\\", "[NaN]",
            "[1]]",
        ] {
            assert!(slices(text).is_err(), "{text}");
        }
        assert!(array(&Bytes::from_static(b"[\"\xff\"]"), BOUNDS).is_err());
    }

    #[test]
    fn what_an_item_alone_decides_is_left_to_it() {
        for item in ["1e400", "{\"a\":1,\"a\":2}", "\"\\ud800\"", "{\"a\":[[[[[[[[[[1]]]]]]]]]]}"] {
            assert_eq!(slices(&format!("[{item},2]")), Ok(vec![item.to_owned(), "2".to_owned()]));
            assert!(parse(item.as_bytes(), 8).is_err(), "{item}");
        }
    }

    #[test]
    fn a_list_is_bounded() {
        assert_eq!(slices("[1,2,3,4,5]").map(|items| items.len()), Ok(5));
        assert_eq!(slices("[1,2,3,4,5,6"), Err(ItemsFault::TooMany { most: 5 }));
        let deep = |levels: usize| slices(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
        assert!(deep(8).is_ok());
        assert_eq!(deep(9), Err(JsonFault::TooDeep { limit: 8 }.into()));
        // Not looked into, and so not found to be no JSON.
        let large = format!("[{{{}}},2]", "x".repeat(64));
        assert_eq!(slices(&large).map(|items| items.len()), Ok(2));
    }

    #[test]
    fn a_list_is_told_by_its_first_byte() {
        for (start, is, may) in [
            (&b"\xef\xbb\xbf\n ["[..], true, true),
            (b" {[             ", false, false),
            (b" {[", false, true),
            (b"\xef\xbb", false, true),
            (b"\xef\xbb\xbf\xef\xbb\xbf[", true, true),
            (b"", false, true),
            (b"\xef\xbb\xbf \n", false, true),
            (b"[", true, true),
        ] {
            assert_eq!((is_list(start), may_be_list(start)), (is, may), "{start:?}");
        }
    }

    #[test]
    fn a_line_is_an_item_unless_it_is_empty() {
        let text = Bytes::from_static(b"\xef\xbb\xbf{\"a\":1}\r\n\n \t\r\n [2 \n{");
        assert_eq!(lines(&text, BOUNDS).unwrap(), ["{\"a\":1}", "[2", "{"]);
        assert_eq!(lines(&Bytes::new(), BOUNDS).unwrap(), [""; 0]);
        let six = Bytes::from_static(b"1\n2\n3\n4\n5\n6");
        assert_eq!(lines(&six, BOUNDS), Err(ItemsFault::TooMany { most: 5 }));
    }

    /// The array is JSON if and only if a parser of the whole says so.
    #[test]
    fn the_scan_and_a_parser_of_the_whole_agree() {
        let parts = ["[", "]", "{", "}", ",", "\"", "\\", ":", "1", " ", "\"a\":", "null", "\\\""];
        let mut random = fastrand::Rng::with_seed(1);
        let bounds = Bounds { items_max: 1000, item_bytes_max: 1000, depth_max: 100 };
        let mut sound = 0;
        for _ in 0..20_000 {
            let length = random.usize(0..8);
            let inner: String = (0..length).map(|_| parts[random.usize(..parts.len())]).collect();
            let text = format!("[{inner}]");
            let whole = serde_json::from_str::<Vec<&RawValue>>(&text);
            let found = array(&Bytes::from(text.clone()), bounds);
            assert_eq!(found.is_ok(), whole.is_ok(), "{text}");
            if let (Ok(found), Ok(whole)) = (found, whole) {
                let whole: Vec<&str> = whole.iter().map(|item| item.get()).collect();
                assert_eq!(found, whole, "{text}");
                sound += 1;
            }
        }
        assert!(sound > 100, "{sound}");
    }
}
