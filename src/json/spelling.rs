//! How the numbers of a document were written, for the few readers to whom a double says too little.
//!
//! Nothing is kept while a document is parsed: a text is walked through again when somebody asks.

use std::cell::OnceCell;
use std::collections::HashMap;

use super::items::Scan;
use super::{Node, without_boms};

/// A document and the text that it was read of.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// The document. The names of its members may have changed since, their order not.
    pub root: &'a Node<'a>,
    /// Its text.
    pub text: &'a [u8],
}

/// The spellings of all numbers of a document, looked for once, when the first is asked for.
#[derive(Debug)]
pub struct Spellings<'a> {
    written: Written<'a>,
    found: OnceCell<HashMap<*const Node<'a>, &'a [u8]>>,
}

impl<'a> Written<'a> {
    /// How its numbers were written.
    #[must_use]
    pub const fn spellings(self) -> Spellings<'a> {
        Spellings { written: self, found: OnceCell::new() }
    }
}

impl<'a> Spellings<'a> {
    /// How a number of the document was written; nothing of any other node.
    #[must_use]
    pub fn of(&self, number: &Node<'a>) -> Option<&'a [u8]> {
        let found = self.found.get_or_init(|| {
            let mut nodes = Vec::new();
            push_numbers(self.written.root, &mut nodes);
            nodes.into_iter().map(std::ptr::from_ref).zip(numbers(self.written.text)).collect()
        });
        found.get(&std::ptr::from_ref(number)).copied()
    }
}

/// The decimal digits that a number comes to, the same for every spelling of one number: `12e3`,
/// `12000` and `12000.0` are `12e3`. Nothing of what is no number of JSON.
#[must_use]
pub fn exactly(number: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(number).ok()?;
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{part}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = all.trim_start_matches('0').trim_end_matches('0');
    if digits.is_empty() {
        return Some("0".to_owned());
    }
    let zeros = all.len() - all.trim_end_matches('0').len();
    let shift = i64::try_from(zeros).ok()?.checked_sub(i64::try_from(part.len()).ok()?)?;
    let exponent = exponent.checked_add(shift)?;
    Some(format!("{sign}{digits}e{exponent}"))
}

/// The numbers of a document in the order of its text.
fn push_numbers<'n, 'a>(node: &'n Node<'a>, to: &mut Vec<&'n Node<'a>>) {
    match node {
        Node::Number(_) => to.push(node),
        Node::Array(items) => items.iter().for_each(|item| push_numbers(item, to)),
        Node::Object(members) => members.iter().for_each(|(_, value)| push_numbers(value, to)),
        Node::Null | Node::Bool(_) | Node::String(_) => {}
    }
}

/// The numbers of a text that is JSON, as they stand in it.
fn numbers(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = without_boms(text);
    let mut scan = Scan::of(text);
    std::iter::from_fn(move || {
        loop {
            let start = scan.position();
            match scan.next()? {
                b'"' => scan.pass_text(),
                b'-' | b'0'..=b'9' => {
                    while scan.peek().is_some_and(is_of_number) {
                        scan.next();
                    }
                    return Some(&text[start..scan.position()]);
                }
                _ => {}
            }
        }
    })
}

const fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    /// The spelling of the number at a pointer.
    fn spelling(text: &str, pointer: &str) -> Option<String> {
        let root = parse(text.as_bytes(), 64).unwrap();
        let written = Written { root: &root, text: text.as_bytes() };
        let node = root.at(pointer).unwrap();
        let found = written.spellings().of(node)?.to_vec();
        Some(String::from_utf8(found).unwrap())
    }

    #[test]
    fn a_number_is_found_as_it_was_written_wherever_it_stands() {
        let text = "\u{feff} {\"1\":-0 ,\"a\\\"2\":[1.50,\"3\\\\\",{\"b\":12345678901234567890}],\
                    \"c\":true,\"d\":1e+3}\n";
        for (pointer, told) in [
            ("/1", Some("-0")),
            ("/a\"2/0", Some("1.50")),
            ("/a\"2/2/b", Some("12345678901234567890")),
            ("/d", Some("1e+3")),
            ("/c", None),
            ("/a\"2", None),
            ("/a\"2/1", None),
        ] {
            assert_eq!(spelling(text, pointer).as_deref(), told, "{pointer}");
        }
        for text in ["7", " 7 ", "-1.5E-7"] {
            assert_eq!(spelling(text, "").as_deref(), Some(text.trim()));
        }
    }

    #[test]
    fn a_node_of_another_document_was_not_written_here() {
        let (one, other) = (parse(b"[1]", 64).unwrap(), parse(b"[1]", 64).unwrap());
        let written = Written { root: &one, text: b"[1]" };
        assert_eq!(written.spellings().of(other.at("/0").unwrap()), None);
    }

    #[test]
    fn one_number_has_one_exact_form() {
        for (exact, spellings) in [
            ("12e3", &["12000", "12e3", "1.2E+4", "12000.00", "0.12e5", "12000000e-3"][..]),
            ("9007199254740993e0", &["9007199254740993", "9007199254740993.0"]),
            ("-12345678901234567891e0", &["-12345678901234567891", "-1.2345678901234567891e19"]),
            ("1e300", &["1e300", "10e299", "0.1e301", "1E0000300"]),
            ("5e-1", &["0.5", "5e-1", "0.50"]),
            ("0", &["0", "-0", "0.0", "0e7"]),
        ] {
            for spelling in spellings {
                assert_eq!(exactly(spelling.as_bytes()).as_deref(), Some(exact), "{spelling}");
            }
        }
        for text in ["", "-", "e1", "1e", "1e99999999999999999999", "1x", "NaN", "1.2.3"] {
            assert_eq!(exactly(text.as_bytes()), None, "{text}");
        }
    }

    /// Every number of a document has the spelling that reads as its value.
    #[test]
    fn every_number_of_a_document_has_its_own_spelling() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..500 {
            let text = value(&mut random, 4);
            let root = parse(text.as_bytes(), 64).unwrap();
            let mut nodes = Vec::new();
            push_numbers(&root, &mut nodes);
            let spellings = Written { root: &root, text: text.as_bytes() }.spellings();
            for node in nodes {
                let told = std::str::from_utf8(spellings.of(node).unwrap()).unwrap();
                assert_eq!(&parse(told.as_bytes(), 1).unwrap(), node, "{text}");
            }
        }
    }

    fn value(random: &mut fastrand::Rng, depth: usize) -> String {
        let count = random.usize(0..5);
        match random.u8(if depth == 0 { 2..6 } else { 0..6 }) {
            0 => format!("[{}]", joined(count, |_| value(random, depth - 1))),
            1 => format!(
                "{{{}}}",
                joined(count, |at| { format!("\"{at}-1\\\"\" :{}", value(random, depth - 1)) })
            ),
            2 => random.i64(..).to_string(),
            3 => format!("{}.{}e-{}", random.i32(..), random.u8(..), random.u8(..20)),
            4 => ["null", "true", "false"][random.usize(..3)].to_owned(),
            _ => format!("\"{}\\\\\"", random.u16(..)),
        }
    }

    fn joined(count: usize, of: impl FnMut(usize) -> String) -> String {
        (0..count).map(of).collect::<Vec<_>>().join(" , ")
    }
}
