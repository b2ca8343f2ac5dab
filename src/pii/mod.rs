//! Raw identity ends here: what leaves this room may be stored, logged about and sent.
//!
//! A [`Profile`] says which members of a body name a person and becomes what: [`Profile::scrub`]
//! turns each into its digest, [`Profile::refuse`] turns away those of a caller who may not send
//! them, and [`passed`] vouches for what is left.

pub mod digest;
pub mod normalize;
mod phone;
mod profile;
mod tax_id;

pub use profile::{Profile, Rule, Scrub};

use std::borrow::Cow;

use bytes::Bytes;

use crate::event::Scrubbed;
use crate::json::Node;

/// How members that hold a digest are named.
const DIGEST_SUFFIX: &str = "_hashed";
/// Hexadecimal digits of a SHA-256.
const DIGEST_LEN: usize = 64;

/// Vouches for a body that its source's schema has passed, and of which `document` was read.
///
/// The shipped schemas refuse raw members (`false`) and plain identity in hashed members
/// (patterns), so a body that passed them holds none. `check` warns when a replaced schema does
/// not refuse them.
///
/// A top-level digest in capitals is turned to lower case, for the upstream matches digests as
/// texts and its guides write them so; every other byte stays. One that was spelled with escapes
/// stays as it came.
#[must_use]
pub fn passed(checked: Bytes, document: &Node<'_>) -> Scrubbed {
    let Node::Object(members) = document else { return Scrubbed::vouch(checked) };
    let mut mended: Option<Vec<u8>> = None;
    for (name, value) in members {
        let Node::String(Cow::Borrowed(digest)) = value else { continue };
        if !name.ends_with(DIGEST_SUFFIX) || !is_in_capitals(digest) {
            continue;
        }
        // The text is a slice of the body, unless the body that goes on is not what was read.
        let start = (digest.as_ptr() as usize).wrapping_sub(checked.as_ptr() as usize);
        let bytes = mended.get_or_insert_with(|| checked.to_vec());
        let slice = start.checked_add(digest.len()).and_then(|end| bytes.get_mut(start..end));
        if let Some(slice) = slice.filter(|slice| **slice == *digest.as_bytes()) {
            slice.make_ascii_lowercase();
        }
    }
    Scrubbed::vouch(mended.map_or(checked, Bytes::from))
}

/// Vouches for a body of which nobody knows what it holds: a partner's, which its source takes as
/// it comes and of which no member is known to name a person.
#[must_use]
pub const fn unread(body: Bytes) -> Scrubbed {
    Scrubbed::vouch(body)
}

fn is_in_capitals(text: &str) -> bool {
    text.len() == DIGEST_LEN
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        && text.bytes().any(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPITALS: &str = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";

    fn sent(body: &str) -> String {
        let body = Bytes::from(body.to_owned());
        let document = crate::json::parse(&body, 64).unwrap();
        let sent = passed(body.clone(), &document);
        String::from_utf8(sent.bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_digest_in_capitals_becomes_lower_case_and_every_other_byte_stays() {
        let body = format!(
            r#"{{ "user_id":"{CAPITALS}","price":1.00, "email_hashed" : "{CAPITALS}","phone_hashed":"XYZ"}}"#
        );
        let (head, tail) = body.split_at(body.find("price").unwrap());
        assert_eq!(
            sent(&body),
            format!("{head}{}", tail.replace(CAPITALS, &CAPITALS.to_lowercase()))
        );
    }

    #[test]
    fn a_body_without_one_is_the_same_bytes() {
        let body = Bytes::from(format!(r#"{{"email_hashed":"{}"}}"#, CAPITALS.to_lowercase()));
        let document = crate::json::parse(&body, 64).unwrap();
        assert_eq!(passed(body.clone(), &document).bytes().as_ptr(), body.as_ptr());
        assert_eq!(sent(r#"["email_hashed"]"#), r#"["email_hashed"]"#);
    }

    #[test]
    fn what_goes_on_is_not_touched_where_something_else_was_read() {
        let read = format!(r#"{{"email_hashed":"{CAPITALS}"}}"#);
        let document = crate::json::parse(read.as_bytes(), 64).unwrap();
        assert_eq!(passed(Bytes::new(), &document).bytes(), "");
    }
}
