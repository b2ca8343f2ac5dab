//! How an event is told from its repeats: selectors make a key, members make a fingerprint.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::selector::{EXACT, Parts, Selector, part};
use crate::event::{Dedupe, DedupeKey, Fingerprint, SourceName};
use crate::json::Node;
use crate::json::spelling::{self, Spellings, Written};

/// How repeats are told: by the first of some ways that an event has all parts of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupeRule(pub Vec<Way>);

/// Which parts of an event make its key, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The parts, in order.
    pub key: Vec<Selector>,
    /// From the first acceptance.
    pub window: Duration,
}

impl DedupeRule {
    /// Key and fingerprint of a request, whose schema names `members` at the root of its document.
    ///
    /// Nothing when every way lacks a part: what cannot be told apart is never a repeat.
    #[must_use]
    pub fn of(&self, source: &SourceName, parts: &Parts<'_>, members: &[String]) -> Option<Dedupe> {
        let of = |way: &Way| Some((way.of(source, parts)?, way.window));
        let (key, window) = self.0.iter().find_map(of)?;
        Some(Dedupe { key, window, fingerprint: fingerprint(parts.document?, members) })
    }

    /// The selectors of every way.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        self.0.iter().flat_map(|way| &way.key)
    }
}

impl Way {
    fn of(&self, source: &SourceName, parts: &Parts<'_>) -> Option<DedupeKey> {
        let mut hash = Sha256::new();
        part(&mut hash, source.as_str().as_bytes());
        for selector in &self.key {
            // So that two ways never make one key.
            part(&mut hash, selector.to_string().as_bytes());
            selector.add(&mut hash, parts)?;
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Some(DedupeKey(key))
    }
}

/// What stands for members that the schema does not name.
pub const OTHER_MEMBERS: &str = "*";

/// The names of the members in which two documents of one key differ, [`OTHER_MEMBERS`] for those
/// that are not among `members`: a name that the sender chose may be anything, also a value.
#[must_use]
pub fn conflict<'m>(one: &Fingerprint, other: &Fingerprint, members: &'m [String]) -> Vec<&'m str> {
    if one == other {
        return Vec::new();
    }
    let differ = |slot: &usize| one.members[*slot] != other.members[*slot];
    let own = members.iter().take(OWN_SLOTS).map(String::as_str);
    let mut names: Vec<&str> =
        own.zip(0..).filter(|(_, slot)| differ(slot)).map(|it| it.0).collect();
    // Two bytes a slot may agree by chance where the whole does not.
    if (OWN_SLOTS..Fingerprint::SLOTS).any(|slot| differ(&slot)) || names.is_empty() {
        names.push(OTHER_MEMBERS);
    }
    names
}

/// Slots of a fingerprint beyond the schema's own members, shared by all others.
const SHARED_SLOTS: usize = 8;
/// Slots that one member of the schema has for itself.
const OWN_SLOTS: usize = Fingerprint::SLOTS - SHARED_SLOTS;

/// What a document looks like: the same for any order and spacing of its members.
fn fingerprint(body: Written<'_>, members: &[String]) -> Fingerprint {
    let mut print = Fingerprint { body: [0; 8], members: [0; Fingerprint::SLOTS] };
    let Node::Object(found) = body.root else { return print };
    let spellings = body.spellings();
    let mut whole = 0_u64;
    for (name, value) in found {
        let name_sum = crc32c::crc32c(name.as_bytes());
        let value_sum = digest(value, name_sum, &spellings);
        whole = whole.wrapping_add(u64::from(name_sum) << 32 | u64::from(value_sum));
        // Folded to two bytes, never zero: zero is a slot without a member.
        let [a, b, c, d] = value_sum.to_be_bytes();
        let folded = u16::from_be_bytes([a ^ c, b ^ d]).max(1);
        let slot = &mut print.members[slot(name, name_sum, members)];
        *slot = slot.wrapping_add(folded).max(1);
    }
    print.body = whole.to_be_bytes();
    print
}

/// The slot of a member: the schema's own have one each, others share the last ones.
fn slot(name: &str, name_sum: u32, members: &[String]) -> usize {
    let known = members.iter().take(OWN_SLOTS).position(|member| member == name);
    known.unwrap_or_else(|| OWN_SLOTS + name_sum as usize % SHARED_SLOTS)
}

/// A checksum of a value, the same for any order of an object's members, and for any spelling of a
/// number.
fn digest<'a>(node: &Node<'a>, seed: u32, spellings: &Spellings<'a>) -> u32 {
    match node {
        Node::Null => crc32c::crc32c_append(seed, b"n"),
        Node::Bool(value) => crc32c::crc32c_append(seed, if *value { b"t" } else { b"f" }),
        Node::Number(double) if double.abs() >= EXACT => {
            let exactly = spellings.of(node).and_then(spelling::exactly).unwrap_or_default();
            crc32c::crc32c_append(crc32c::crc32c_append(seed, b"D"), exactly.as_bytes())
        }
        Node::Number(value) => {
            // 0 and -0 are one number.
            let bits = if *value == 0.0 { 0 } else { value.to_bits() };
            crc32c::crc32c_append(crc32c::crc32c_append(seed, b"d"), &bits.to_be_bytes())
        }
        Node::String(text) => {
            crc32c::crc32c_append(crc32c::crc32c_append(seed, b"s"), text.as_bytes())
        }
        Node::Array(items) => {
            let open = crc32c::crc32c_append(seed, b"[");
            let inside = items.iter().fold(open, |sum, item| digest(item, sum, spellings));
            crc32c::crc32c_append(inside, b"]")
        }
        Node::Object(members) => {
            let sums = members.iter().map(|(name, value)| {
                digest(value, crc32c::crc32c_append(seed, name.as_bytes()), spellings)
            });
            let sum = sums.fold(0_u32, u32::wrapping_add);
            crc32c::crc32c_append(crc32c::crc32c_append(seed, b"{"), &sum.to_be_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    fn of(body: &str) -> Option<Dedupe> {
        let key = vec!["body:/publisher_id".parse().unwrap(), "body:/order_id".parse().unwrap()];
        let rule = DedupeRule(vec![Way { key, window: Duration::from_secs(60) }]);
        let members = ["publisher_id".to_owned(), "order_id".to_owned(), "items".to_owned()];
        of_rule(&rule, "till", "/", body, &members)
    }

    fn of_rule(
        rule: &DedupeRule,
        source: &str,
        target: &str,
        body: &str,
        members: &[String],
    ) -> Option<Dedupe> {
        let document = parse(body.as_bytes(), 64).unwrap();
        let parts = Parts {
            pattern: "/c/{ad}",
            target: target.as_bytes(),
            headers: &crate::event::ClientHeaders::default(),
            document: Some(Written { root: &document, text: body.as_bytes() }),
            bytes: body.as_bytes(),
        };
        rule.of(&SourceName::new(source), &parts, members)
    }

    #[test]
    fn a_key_is_made_of_its_parts_alone() {
        let first = of(r#"{"publisher_id":"p","order_id":"1","items":[1]}"#).unwrap();
        let again = of(r#"{"order_id":"1", "items":[2], "publisher_id":"p"}"#).unwrap();
        assert_eq!(first.key, again.key);
        assert_ne!(first.fingerprint, again.fingerprint);
        let longer = of(r#"{"publisher_id":"p","order_id":"12","items":[1]}"#).unwrap();
        let shifted = of(r#"{"publisher_id":"p1","order_id":"2","items":[1]}"#).unwrap();
        assert_ne!(longer.key, shifted.key);
        assert_eq!(of(r#"{"publisher_id":"p","order_id":""}"#), None);
        assert_eq!(of(r#"{"publisher_id":"p"}"#), None);
    }

    #[test]
    fn a_fingerprint_names_what_differs_and_nothing_else() {
        let print = |body: &str| of(body).unwrap().fingerprint;
        let first = print(r#"{"publisher_id":"p","order_id":"1","items":[{"a":1,"b":2}],"x":1}"#);
        let same =
            print(r#"{"x":1.0,"order_id":"1","publisher_id":"p","items":[{"b":2,"a":1e0}]}"#);
        assert_eq!(first, same);
        let other = print(r#"{"publisher_id":"p","order_id":"1","items":[{"a":2,"b":1}],"x":1}"#);
        let differ = (0..Fingerprint::SLOTS).filter(|n| first.members[*n] != other.members[*n]);
        assert_eq!(differ.collect::<Vec<_>>(), [2]);
        assert_ne!(first.body, other.body);
        // Numbers of more digits than a double holds, alone and within.
        for of in ["{}", "[7,{\"a\":{}}]"] {
            let print = |n: &str| {
                let items = of.replace("{}", n);
                print(&format!(r#"{{"publisher_id":"p","order_id":"1","n":{n},"items":{items}}}"#))
            };
            let (one, next) = (print("12345678901234567890"), print("12345678901234567891"));
            assert_ne!(one, next);
            assert_ne!(one.members[2], next.members[2]);
            assert_eq!(one, print("1234567890123456789e1"));
        }
    }

    #[test]
    fn a_conflict_names_the_schemas_members_and_no_others() {
        let members = ["publisher_id".to_owned(), "order_id".to_owned(), "items".to_owned()];
        let print = |body| of(body).unwrap().fingerprint;
        let first = print(r#"{"publisher_id":"p","order_id":"1","items":[1],"x":1}"#);
        for (body, names) in [
            (r#"{"x":1e0,"order_id":"1","items":[1],"publisher_id":"p"}"#, &[][..]),
            (r#"{"publisher_id":"p","order_id":"1","items":[2],"x":1}"#, &["items"]),
            (r#"{"publisher_id":"p","order_id":"1","x":1}"#, &["items"]),
            (r#"{"publisher_id":"p","order_id":"1","items":[1],"x":2}"#, &["*"]),
            (r#"{"publisher_id":"p","order_id":"1","items":[2],"x":1,"y":1}"#, &["items", "*"]),
        ] {
            assert_eq!(conflict(&first, &print(body), &members), names, "{body}");
        }
        let chance = Fingerprint { body: [9; 8], ..first };
        assert_eq!(conflict(&first, &chance, &members), ["*"]);
    }

    #[test]
    fn the_first_way_with_all_its_parts_counts() {
        let way = |key: &[&str], secs| Way {
            key: key.iter().map(|part| part.parse().unwrap()).collect(),
            window: Duration::from_secs(secs),
        };
        let rule = DedupeRule(vec![
            way(&["path", "query:/event_id", "payload"], 3),
            way(&["path", "body:/event_id", "payload"], 2),
            way(&["path", "query", "body:/user_id"], 1),
        ]);
        let of = |target: &str, body: &str| of_rule(&rule, "s", target, body, &[]);
        let told = |target, body| of(target, body).map(|it: Dedupe| (it.key, it.window.as_secs()));
        let first = told("/c/1?event_id=e&pos=1", r#"{"user_id":"u"}"#).unwrap();
        assert_eq!(first.1, 3);
        assert_eq!(told("/c/1?pos=2&event_id=e", r#"{"user_id":"u"}"#), Some(first));
        assert_ne!(told("/c/1?event_id=e", r#"{"user_id":"v"}"#), Some(first));
        assert_ne!(told("/c/2?event_id=e", r#"{"user_id":"u"}"#), Some(first));
        assert_eq!(told("/c/1", r#"{"event_id":"e"}"#).unwrap().1, 2);
        let third = told("/c/1?pos=1", r#"{"user_id":"u"}"#).unwrap();
        assert_eq!(third.1, 1);
        assert_ne!(told("/c/1?pos=2", r#"{"user_id":"u"}"#), Some(third));
        assert_eq!(of("/c/1", "{}"), None);
    }
}
