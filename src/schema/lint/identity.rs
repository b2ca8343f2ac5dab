//! Ids and hashes: what stands in for a person, and what was copied from a page.

use super::{Lint, Place, Warnings};

/// What the vendor's pages show where a customer's id belongs.
pub(super) const SAMPLE_USERS: &[&str] = &["6f92d1e9-00b6-4f8b-9645-faeab321e1cc", "user-123"];

/// What the vendor's pages show where a session's id belongs.
pub(super) const SAMPLE_SESSIONS: &[&str] =
    &["5898b8d1-c250-4bb5-931b-8b9d0ee7b499", "session-456"];

/// What the vendor's pages show where a digest belongs.
const SAMPLE_HASHES: &[&str] = &["xyz"];

/// SHA-256 of the empty text.
const DIGEST_OF_EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Looks at the id of a customer.
pub(super) fn user(text: &str, warnings: &mut Warnings) {
    let place = Place::Member("user_id");
    if is_all_zero(text) {
        warnings.add(Lint::AdvertisingIdAllZero, place);
    } else if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        warnings.add(Lint::UserIdBareDigits, place);
    } else {
        own(place, text, SAMPLE_USERS, warnings);
    }
}

/// Looks at the id of a session.
pub(super) fn session(text: &str, warnings: &mut Warnings) {
    let place = Place::Member("session_id");
    if is_all_zero(text) {
        warnings.add(Lint::AdvertisingIdAllZero, place);
    } else {
        own(place, text, SAMPLE_SESSIONS, warnings);
    }
}

/// Looks at a digest. One that cannot be one gets one warning, the most telling.
pub(super) fn hash(member: &'static str, text: &str, warnings: &mut Warnings) {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lint = match (is_hex, text.len()) {
        (true, 64) if text.eq_ignore_ascii_case(DIGEST_OF_EMPTY) => Lint::HashOfEmpty,
        (true, 64) => return,
        (true, 32 | 40) => Lint::HashMd5OrSha1,
        _ if is_placeholder(text, SAMPLE_HASHES) => Lint::PlaceholderValue,
        _ => Lint::HashNotSha256,
    };
    warnings.add(lint, Place::Member(member));
}

/// Looks at a text that should be the sender's own.
pub(super) fn own(place: Place, text: &str, samples: &[&str], warnings: &mut Warnings) {
    if is_blank(text) {
        warnings.add(Lint::BlankValue, place);
    } else if is_placeholder(text, samples) {
        warnings.add(Lint::PlaceholderValue, place);
    }
}

/// Whether there is nothing to read in `text`.
pub(super) fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Whether `text` is one of `samples`, or shows where a value should have been filled in:
/// `{order_id}`, `${order_id}`, `{{ order_id }}`, `<order_id>`, or `string`, which the form of an
/// API reference holds until one types over it.
pub(super) fn is_placeholder(text: &str, samples: &[&str]) -> bool {
    let is_template = match text.as_bytes() {
        [b'{', .., b'}'] | [b'<', .., b'>'] | [b'$', b'{', .., b'}'] => true,
        [..] => text == "string",
    };
    is_template || samples.contains(&text)
}

/// Whether this is the advertising id of a device whose owner withholds it: 32 zeros, with or
/// without dashes.
fn is_all_zero(text: &str) -> bool {
    let digits = text.bytes().filter(|byte| *byte != b'-');
    matches!(text.len(), 32 | 36) && digits.clone().all(|byte| byte == b'0') && digits.count() == 32
}
