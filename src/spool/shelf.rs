//! Small notes that must outlive a restart, by shelf and key: which notifications are awaited,
//! what operators did, which destinations are paused, what goes on in the background, and what origins
//! asked for.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::AppendError;

/// What notes are about; each shelf has its own bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shelf {
    /// Notifications that a vendor owes, until they came or were looked up.
    Awaited,
    /// What operators did. When it is full the first in key order goes, so keys begin with a time.
    Audit,
    /// Destinations that an operator paused.
    Paused,
    /// Replays and drops of many letters that are under way.
    Jobs,
    /// Until when origins asked to be left alone. When it is full the first goes: an origin that is
    /// not asked any more leaves its last note behind.
    Asked,
}

impl Shelf {
    /// Every shelf, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::Awaited, Self::Audit, Self::Paused, Self::Jobs, Self::Asked];

    /// Bytes that a key may have.
    pub const KEY_BYTES_MAX: usize = 512;

    /// Bytes that a value may have.
    pub const VALUE_BYTES_MAX: usize = 4096;

    /// Bytes of keys and values that one shelf holds, all of them in memory.
    pub const BYTES_MAX: usize = 4 << 20;

    /// Notes that the shelf holds.
    #[must_use]
    pub const fn notes_max(self) -> usize {
        match self {
            Self::Awaited => 16_384,
            Self::Audit => 4_096,
            // More than a configuration has destinations.
            Self::Paused | Self::Asked => 1_024,
            Self::Jobs => 64,
        }
    }

    /// Whether a new note takes the place of the first when there is no room.
    const fn is_ring(self) -> bool {
        match self {
            Self::Audit | Self::Asked => true,
            Self::Awaited | Self::Paused | Self::Jobs => false,
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    pub(super) const fn code(self) -> u8 {
        self as u8
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// The notes of every shelf, and what of them makes room.
#[derive(Debug, Default)]
pub(super) struct Notes {
    shelves: [BTreeMap<Bytes, Bytes>; Shelf::ALL.len()],
    bytes: [usize; Shelf::ALL.len()],
}

impl Notes {
    /// The keys that have to go before the note fits, which for most are none.
    ///
    /// # Errors
    /// [`AppendError::TooLarge`], and [`AppendError::Full`] of a shelf on which nothing may go.
    pub(super) fn make_way(
        &self,
        shelf: Shelf,
        key: &Bytes,
        value: &Bytes,
    ) -> Result<Vec<Bytes>, AppendError> {
        for (bytes, limit) in
            [(key.len(), Shelf::KEY_BYTES_MAX), (value.len(), Shelf::VALUE_BYTES_MAX)]
        {
            if bytes > limit {
                let (bytes, limit_bytes) = (bytes as u64, limit as u64);
                return Err(AppendError::TooLarge { bytes, limit_bytes });
            }
        }
        let notes = &self.shelves[shelf.index()];
        let old = notes.get(key).map(|old| key.len() + old.len());
        let mut count = notes.len() + usize::from(old.is_none());
        let mut bytes = self.bytes[shelf.index()] - old.unwrap_or(0) + key.len() + value.len();
        let mut gone = Vec::new();
        let mut others = notes.iter().filter(|(of, _)| *of != key);
        while count > shelf.notes_max() || bytes > Shelf::BYTES_MAX {
            let first = others.next().filter(|_| shelf.is_ring());
            let Some((key, value)) = first else {
                let used_bytes = self.bytes[shelf.index()] as u64;
                return Err(AppendError::Full { used_bytes, limit_bytes: Shelf::BYTES_MAX as u64 });
            };
            count -= 1;
            bytes -= key.len() + value.len();
            gone.push(key.clone());
        }
        Ok(gone)
    }

    /// Puts a note on its shelf, or takes it off.
    pub(super) fn put(&mut self, shelf: Shelf, key: Bytes, value: Option<Bytes>) {
        let (notes, bytes) = (&mut self.shelves[shelf.index()], &mut self.bytes[shelf.index()]);
        let size = key.len();
        let old = match value {
            Some(value) => {
                *bytes += size + value.len();
                notes.insert(key, value)
            }
            None => notes.remove(&key),
        };
        *bytes -= old.map_or(0, |old| size + old.len());
    }

    /// Notes after `after`, in key order.
    pub(super) fn list(
        &self,
        shelf: Shelf,
        after: Option<Bytes>,
        max: usize,
    ) -> Vec<(Bytes, Bytes)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let notes = self.shelves[shelf.index()].range((from, Bound::Unbounded));
        notes.take(max).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Every note.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Shelf, &Bytes, &Bytes)> {
        Shelf::ALL.into_iter().flat_map(|shelf| {
            self.shelves[shelf.index()].iter().map(move |(key, value)| (shelf, key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: impl Into<String>) -> Bytes {
        Bytes::from(text.into())
    }

    /// Puts a note where the bounds let it.
    fn put(notes: &mut Notes, shelf: Shelf, key: &Bytes, value: &Bytes) -> Result<(), AppendError> {
        for gone in notes.make_way(shelf, key, value)? {
            notes.put(shelf, gone, None);
        }
        notes.put(shelf, key.clone(), Some(value.clone()));
        Ok(())
    }

    #[test]
    fn a_full_shelf_refuses_or_lets_the_first_go() {
        let mut notes = Notes::default();
        for shelf in Shelf::ALL {
            for number in 0..shelf.notes_max() {
                put(&mut notes, shelf, &bytes(format!("{number:06}")), &bytes("v")).unwrap();
            }
            // One that is there already needs no room of its own.
            put(&mut notes, shelf, &bytes("000001"), &bytes("w")).unwrap();
            let more = put(&mut notes, shelf, &bytes("999999"), &bytes("v"));
            let first = notes.list(shelf, None, 1).remove(0).0;
            match shelf {
                Shelf::Audit | Shelf::Asked => {
                    assert_eq!((more.is_ok(), first), (true, bytes("000001")))
                }
                Shelf::Awaited | Shelf::Paused | Shelf::Jobs => {
                    assert!(matches!(more, Err(AppendError::Full { .. })), "{more:?}");
                    assert_eq!(first, bytes("000000"));
                    notes.put(shelf, first, None);
                    put(&mut notes, shelf, &bytes("999999"), &bytes("v")).unwrap();
                }
            }
            assert_eq!(notes.list(shelf, None, usize::MAX).len(), shelf.notes_max());
        }
    }

    #[test]
    fn bytes_are_bounded_too_and_given_back() {
        let mut notes = Notes::default();
        let large = bytes("v".repeat(Shelf::VALUE_BYTES_MAX));
        let mut stored = 0;
        while put(&mut notes, Shelf::Awaited, &bytes(format!("{stored:06}")), &large).is_ok() {
            stored += 1;
        }
        assert_eq!(stored, Shelf::BYTES_MAX / (Shelf::VALUE_BYTES_MAX + 6));
        put(&mut notes, Shelf::Awaited, &bytes("000000"), &bytes("small")).unwrap();
        put(&mut notes, Shelf::Awaited, &bytes("more"), &bytes("v".repeat(4000))).unwrap();
        for (key, _) in notes.list(Shelf::Awaited, None, usize::MAX) {
            notes.put(Shelf::Awaited, key, None);
        }
        assert_eq!(notes.bytes, [0; Shelf::ALL.len()]);
        let larger = bytes("v".repeat(Shelf::VALUE_BYTES_MAX + 1));
        let refused = notes.make_way(Shelf::Audit, &bytes("a"), &larger);
        assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
        let refused = notes.make_way(Shelf::Audit, &larger, &bytes("a"));
        assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    }
}
