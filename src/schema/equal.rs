//! Equality of JSON values as JavaScript's fast-deep-equal has it, and the search for twins.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::rules::{Kind, Kinds};
use crate::json::Node;

/// Objects of up to this many members are compared without sorting them.
const COMPARED_IN_LINE: usize = 16;

/// Whether two values are the same, whatever the order of their members.
pub(super) fn is_equal(a: &Node<'_>, b: &Node<'_>) -> bool {
    match (a, b) {
        (Node::Null, Node::Null) => true,
        (Node::Bool(a), Node::Bool(b)) => a == b,
        (Node::Number(a), Node::Number(b)) => a == b,
        (Node::String(a), Node::String(b)) => a == b,
        (Node::Array(a), Node::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b))
        }
        (Node::Object(a), Node::Object(b)) => a.len() == b.len() && has_equal_members(a, b),
        (
            Node::Null
            | Node::Bool(_)
            | Node::Number(_)
            | Node::String(_)
            | Node::Array(_)
            | Node::Object(_),
            _,
        ) => false,
    }
}

type Member<'a> = (std::borrow::Cow<'a, str>, Node<'a>);

fn has_equal_members(a: &[Member<'_>], b: &[Member<'_>]) -> bool {
    if a.len() <= COMPARED_IN_LINE {
        return a.iter().all(|(key, value)| {
            let twin = b.iter().find(|(name, _)| name == key);
            twin.is_some_and(|(_, twin)| is_equal_member(key, value, twin))
        });
    }
    let sorted = |members: &[Member<'_>]| {
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_unstable_by(|x, y| members[*x].0.cmp(&members[*y].0));
        order
    };
    sorted(a).into_iter().zip(sorted(b)).all(|(x, y)| {
        let ((key, value), (name, twin)) = (&a[x], &b[y]);
        key == name && is_equal_member(key, value, twin)
    })
}

/// fast-deep-equal takes a member called `constructor` for the class of the object and compares
/// it by identity, so that two equal objects in it are two classes.
fn is_equal_member(key: &str, value: &Node<'_>, twin: &Node<'_>) -> bool {
    is_equal(value, twin)
        && (key != "constructor" || !matches!(value, Node::Array(_) | Node::Object(_)))
}

/// The pair `i`, `j` that Ajv names for `uniqueItems`, if two items are equal.
///
/// When the items' type is known and neither object nor array, Ajv looks at items of that type
/// alone and finds `i` before `j`; else it finds `j` before `i`. Takes linear time: items are
/// compared only where their hashes, seeded anew each time, are equal.
pub(super) fn twins(items: &[Node<'_>], kinds: Option<Kinds>) -> Option<(usize, usize)> {
    let seed = RandomState::new();
    let mut seen: HashMap<u64, Vec<usize>> = HashMap::with_capacity(items.len());
    if let Some(kinds) = kinds {
        let only_strings = kinds == Kinds::default().with(Kind::String);
        for (i, item) in items.iter().enumerate().rev().filter(|(_, item)| kinds.hold(item)) {
            if only_strings && item.as_str() == Some("__proto__") {
                // Ajv keeps the strings it has seen as keys of an object, where this one is lost.
                continue;
            }
            let alike = seen.entry(hash(item, &seed)).or_default();
            if let Some(j) = alike.iter().find(|j| is_equal(item, &items[**j])) {
                return Some((i, *j));
            }
            alike.push(i);
        }
        return None;
    }
    let mut last = None;
    for (i, item) in items.iter().enumerate() {
        let alike = seen.entry(hash(item, &seed)).or_default();
        match alike.iter_mut().find(|j| is_equal(item, &items[**j])) {
            Some(j) => {
                last = Some((i, *j));
                *j = i;
            }
            None => alike.push(i),
        }
    }
    last
}

/// A hash that is the same for equal values.
fn hash(value: &Node<'_>, seed: &RandomState) -> u64 {
    match value {
        Node::Null => seed.hash_one(0u8),
        Node::Bool(truth) => seed.hash_one((1u8, truth)),
        // Adding zero makes -0 the 0 that it equals.
        Node::Number(number) => seed.hash_one((2u8, (number + 0.0).to_bits())),
        Node::String(text) => seed.hash_one((3u8, text)),
        Node::Array(items) => items
            .iter()
            .fold(seed.hash_one(4u8), |sum, item| seed.hash_one((sum, hash(item, seed)))),
        Node::Object(members) => members.iter().fold(seed.hash_one(5u8), |sum, (key, value)| {
            sum.wrapping_add(seed.hash_one((key, hash(value, seed))))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    fn twins_of(text: &str, kinds: Option<Kinds>) -> Option<(usize, usize)> {
        let Node::Array(items) = parse(text.as_bytes(), 64).unwrap() else { panic!("an array") };
        twins(&items, kinds)
    }

    #[test]
    fn the_pair_is_the_one_that_ajv_names() {
        let numbers = Some(Kinds::default().with(Kind::Number));
        assert_eq!(twins_of("[1,2,1,2,3]", None), Some((3, 1)));
        assert_eq!(twins_of("[1,2,1,2,3]", numbers), Some((1, 3)));
        assert_eq!(twins_of("[1,1,1]", None), Some((2, 1)));
        assert_eq!(twins_of("[1,1,1]", numbers), Some((1, 2)));
        assert_eq!(twins_of("[\"a\",\"a\"]", numbers), None);
        assert_eq!(twins_of("[0,-0]", None), Some((1, 0)));
        assert_eq!(twins_of("[1,\"1\",true,[1],{}]", None), None);
        assert_eq!(twins_of("[[{\"a\":1,\"b\":[]}],[{\"b\":[],\"a\":1.0}]]", None), Some((1, 0)));
    }

    #[test]
    fn the_quirks_of_javascript_are_kept() {
        let strings = Some(Kinds::default().with(Kind::String));
        assert_eq!(twins_of("[\"__proto__\",\"__proto__\"]", strings), None);
        assert_eq!(twins_of("[\"__proto__\",\"__proto__\"]", None), Some((1, 0)));
        assert_eq!(twins_of("[{\"constructor\":{}},{\"constructor\":{}}]", None), None);
        assert_eq!(twins_of("[{\"constructor\":1},{\"constructor\":1}]", None), Some((1, 0)));
    }

    #[test]
    fn large_lists_and_objects_take_linear_time() {
        let items: Vec<String> = (0..50_000).map(|n| format!("{{\"k\":{n}}}")).collect();
        assert_eq!(twins_of(&format!("[{}]", items.join(",")), None), None);
        let keys: Vec<String> = (0..2_000).map(|n| format!("\"k{n}\":0")).collect();
        let turned: Vec<String> = keys.iter().rev().cloned().collect();
        let text = format!("[{{{}}},{{{}}}]", keys.join(","), turned.join(","));
        assert_eq!(twins_of(&text, None), Some((1, 0)));
    }
}
