//! Plain identity where nobody looks for it: under a name of the sender's own, or deeper in.
//!
//! Schemas and profiles name the members in which a person may be. What a shop calls `Email` or
//! `cpf`, or puts into a `customer`, passes them by, and would be stored and sent as it came.

use super::{Lint, Warnings, order};
use crate::json::Node;

/// Longest address that mail is delivered to, RFC 5321.
const EMAIL_BYTES_MAX: usize = 254;
/// Digits of an international number (E.164) that no date or price has behind a plus.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 10..=15;
/// Masks of a CPF and a CNPJ: `9` is a digit, `A` a digit or a letter.
const TAX_IDS: [&str; 2] = ["999.999.999-99", "AA.AAA.AAA/AAAA-99"];

/// Looks into every member but those that a schema judges by patterns of its own.
pub(super) fn lint(document: &Node<'_>, warnings: &mut Warnings) {
    let Node::Object(members) = document else { return };
    for (name, value) in members {
        let is_judged = name == "user_id" || name.ends_with("_hashed");
        if !is_judged && names_a_person(value) {
            warnings.add(Lint::PlainIdentity, order::place(name));
        }
    }
}

/// Nesting is bounded by the parser.
fn names_a_person(value: &Node<'_>) -> bool {
    match value {
        Node::Null | Node::Bool(_) | Node::Number(_) => false,
        Node::String(text) => is_email(text.trim()) || is_phone(text.trim()) || is_tax_id(text),
        Node::Array(items) => items.iter().any(names_a_person),
        Node::Object(members) => members.iter().any(|(_, value)| names_a_person(value)),
    }
}

/// Whether this is an address and nothing else: not a text that has one in it, nor a package with
/// its version.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let Some((host, top)) = domain.rsplit_once('.') else { return false };
    let fits = |c: char| !c.is_whitespace() && !r#"@/:;,?<>()[]""#.contains(c);
    text.len() <= EMAIL_BYTES_MAX
        && !local.is_empty()
        && !host.is_empty()
        && top.chars().count() >= 2
        && top.chars().all(char::is_alphabetic)
        && local.chars().chain(host.chars()).all(fits)
}

fn is_phone(text: &str) -> bool {
    let Some(number) = text.strip_prefix('+') else { return false };
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    PHONE_DIGITS.contains(&digits)
        && number.bytes().all(|byte| byte.is_ascii_digit() || b" ()-./".contains(&byte))
}

fn is_tax_id(text: &str) -> bool {
    let text = text.trim().as_bytes();
    let fits = |(sign, byte): (u8, &u8)| match sign {
        b'9' => byte.is_ascii_digit(),
        b'A' => byte.is_ascii_alphanumeric(),
        other => *byte == other,
    };
    TAX_IDS.iter().any(|mask| mask.len() == text.len() && mask.bytes().zip(text).all(fits))
}
