//! The names that a schema speaks of, and how a body's member finds its own.

/// Names, each with its slot, found by length and then by content.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Names in the order of their slots.
    slots: Vec<Box<str>>,
    /// For each length the stretch of `entries` that holds it.
    by_length: Vec<(u32, u32)>,
    /// Ordered by length and signature.
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    signature: Signature,
    slot: usize,
}

/// The first and the last eight bytes, which are all of a name of up to 16.
type Signature = (u64, u64);

/// Stretches of up to this many names are searched one by one.
const SEARCHED_IN_LINE: usize = 8;

impl Names {
    /// The slot of `name`, which is added when it is new. Call [`Names::settle`] afterwards.
    pub(super) fn slot(&mut self, name: &str) -> usize {
        match self.slots.iter().position(|known| **known == *name) {
            Some(slot) => slot,
            None => {
                self.slots.push(name.into());
                self.slots.len() - 1
            }
        }
    }

    /// Makes ready for [`Names::find`].
    pub(super) fn settle(&mut self) {
        let mut order: Vec<(usize, Signature, usize)> = self
            .slots
            .iter()
            .enumerate()
            .map(|(slot, name)| (name.len(), signature(name.as_bytes()), slot))
            .collect();
        order.sort_unstable();
        self.by_length.clear();
        for (at, (length, ..)) in (0..).zip(&order) {
            if self.by_length.len() <= *length {
                self.by_length.resize(length + 1, (at, at));
            }
            self.by_length[*length].1 = at + 1;
        }
        self.entries =
            order.into_iter().map(|(_, signature, slot)| Entry { signature, slot }).collect();
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The name of a slot.
    pub(super) fn name(&self, slot: usize) -> &str {
        &self.slots[slot]
    }

    /// The slot of a body's `name`.
    #[inline]
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let (start, end) = *self.by_length.get(name.len())?;
        let mut stretch = &self.entries[start as usize..end as usize];
        let signature = signature(name.as_bytes());
        if stretch.len() > SEARCHED_IN_LINE {
            stretch = &stretch[stretch.partition_point(|entry| entry.signature < signature)..];
        }
        let is_it = |entry: &&Entry| {
            entry.signature == signature && (name.len() <= 16 || *self.slots[entry.slot] == *name)
        };
        let mut near = stretch.iter().take_while(|entry| entry.signature <= signature);
        near.find(is_it).map(|entry| entry.slot)
    }
}

/// Both halves of a name; they overlap in one of fewer than 16 bytes.
#[inline]
fn signature(name: &[u8]) -> Signature {
    if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        return (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into());
    }
    let byte = |at: usize| u64::from(name.get(at).copied().unwrap_or(0));
    (byte(0), byte(1) << 8 | byte(2))
}

/// Names that every JavaScript object inherits, so that Ajv never finds them missing.
pub(super) const INHERITED: [&str; 12] = [
    "__defineGetter__",
    "__defineSetter__",
    "__lookupGetter__",
    "__lookupSetter__",
    "__proto__",
    "constructor",
    "hasOwnProperty",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "toLocaleString",
    "toString",
    "valueOf",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_no_other_is_found() {
        let mut names = Names::default();
        let words: Vec<String> = (0..40).map(|n| format!("{n:02}")).collect();
        let long = ["a-name-of-19-bytes1", "a-name-+++-9-bytes1", "eight-by", "nine-byte"];
        for word in words.iter().map(String::as_str).chain(["", "a", "abc", "a"]).chain(long) {
            names.slot(word);
        }
        names.settle();
        assert_eq!(names.len(), 47);
        assert_eq!(long.map(|name| names.find(name)), [43, 44, 45, 46].map(Some));
        assert_eq!(names.find("a-name-of-19-bytes2"), None);
        assert_eq!(names.find("a-name-o*-19-bytes1"), None);
        assert_eq!(names.find("seven--"), None);
        for (slot, word) in words.iter().enumerate() {
            assert_eq!(names.find(word), Some(slot));
        }
        assert_eq!(
            [names.find(""), names.find("a"), names.find("abc")],
            [Some(40), Some(41), Some(42)]
        );
        assert_eq!([names.find("b"), names.find("99"), names.find("abcd")], [None; 3]);
    }
}
