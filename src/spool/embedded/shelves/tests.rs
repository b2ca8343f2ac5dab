use std::sync::Arc;

use rustix::io::Errno;
use tempfile::TempDir;

use super::super::files::rigged::{Call, Failure, Rigged};
use super::*;

struct Home {
    dir: TempDir,
    rig: Rigged,
}

impl Home {
    fn new() -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap(), rig: Rigged::default() };
        home.disk().make_dir(QUARANTINE).unwrap();
        home
    }

    fn disk(&self) -> Disk {
        Disk::new(Arc::new(self.rig.clone()), self.dir.path().to_owned())
    }

    fn pool(&self) -> Pool {
        Pool::new(self.disk(), 64 << 10, 1 << 20)
    }

    fn open(&self) -> Opened {
        Shelves::open(&self.disk()).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join(FILE)).unwrap()
    }

    fn write(&self, bytes: &[u8]) {
        std::fs::write(self.dir.path().join(FILE), bytes).unwrap();
    }

    fn quarantined(&self) -> usize {
        std::fs::read_dir(self.dir.path().join(QUARANTINE)).unwrap().count()
    }

    fn fail(&self, call: Call, error: Errno) {
        self.rig.fail(Failure { call, path: FILE, skip: 0, times: 1, error });
    }
}

fn bytes(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

/// Five notes of different lengths, one of them changed and one taken off.
fn fill(home: &Home) -> Vec<(Bytes, Bytes)> {
    let (shelves, pool) = (home.open().shelves, home.pool());
    let put = |key: &str, value: Option<&str>| {
        shelves.put(&pool, Shelf::Paused, bytes(key), value.map(bytes)).unwrap();
    };
    for number in 0..5 {
        put(&format!("key-{number}"), Some(&"v".repeat(number * 3)));
    }
    put("key-1", Some("changed"));
    put("key-3", None);
    shelves.list(Shelf::Paused, None, 100)
}

#[test]
fn notes_survive_without_a_close_and_are_listed_in_key_order() {
    let home = Home::new();
    let notes = fill(&home);
    let keys: Vec<_> = notes.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(keys, ["key-0", "key-1", "key-2", "key-4"].map(bytes));
    assert_eq!(notes[1].1, bytes("changed"));
    let opened = home.open();
    assert_eq!((opened.shelves.list(Shelf::Paused, None, 100), opened.damaged), (notes.clone(), 0));
    assert_eq!(opened.shelves.list(Shelf::Paused, Some(bytes("key-1")), 1), notes[2..3]);
    assert_eq!(opened.shelves.list(Shelf::Awaited, None, 100), []);
    opened.shelves.close();
    let closed = opened.shelves.put(&home.pool(), Shelf::Paused, bytes("a"), None);
    assert!(matches!(closed, Err(AppendError::Closed)), "{closed:?}");
}

#[test]
fn a_tail_torn_at_any_byte_takes_the_last_note_alone() {
    let home = Home::new();
    fill(&home);
    let before = home.bytes();
    let opened = home.open();
    let notes = opened.shelves.list(Shelf::Paused, None, 100);
    opened.shelves.put(&home.pool(), Shelf::Audit, bytes("late"), Some(bytes("note"))).unwrap();
    let after = home.bytes();
    // A frame without its padding is whole.
    let whole = before.len() + HEAD + "latenote".len();
    for len in before.len()..after.len() {
        home.write(&after[..len]);
        let opened = home.open();
        assert_eq!(opened.shelves.list(Shelf::Paused, None, 100), notes, "{len}");
        let audit = opened.shelves.list(Shelf::Audit, None, 100);
        assert_eq!((audit.len(), opened.damaged), (usize::from(len >= whole), 0), "{len}");
        // And what comes next is not hidden by what is left of it.
        opened.shelves.put(&home.pool(), Shelf::Audit, bytes("n"), Some(bytes(""))).unwrap();
        let audit = home.open().shelves.list(Shelf::Audit, None, 100).len();
        assert_eq!(audit, 1 + usize::from(len >= whole), "{len}");
    }
    assert_eq!(home.quarantined(), 0);
}

#[test]
fn a_flipped_bit_costs_one_note_and_is_told_once() {
    let home = Home::new();
    fill(&home);
    let bytes = home.bytes();
    let last = bytes.len() - (HEAD + "key-3".len()).next_multiple_of(ALIGN);
    for at in 0..last {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        home.write(&damaged);
        let opened = home.open();
        let found = opened.shelves.list(Shelf::Paused, None, 100);
        // Padding is nobody's.
        let noticed = opened.damaged == 1;
        assert!(noticed || decode_all(&damaged) == decode_all(&bytes), "byte {at}");
        assert!(found.len() >= 3, "byte {at}: {found:?}");
        assert_eq!(home.open().damaged, 0, "it was written anew");
    }
    assert!(home.quarantined() > 0);
}

fn decode_all(bytes: &[u8]) -> Vec<(Bytes, Bytes)> {
    read(bytes).notes.list(Shelf::Paused, None, 100)
}

#[test]
fn the_file_stays_in_proportion_to_what_is_noted() {
    let home = Home::new();
    let (shelves, pool) = (home.open().shelves, home.pool());
    let value = bytes("v".repeat(4000));
    for round in 0..200 {
        let key = bytes(format!("{}", round % 3));
        shelves.put(&pool, Shelf::Awaited, key, Some(value.clone())).unwrap();
        assert!(home.bytes().len() as u64 <= COMPACT_BYTES_MIN + FRAME_MAX as u64);
    }
    drop(shelves);
    assert_eq!(home.open().shelves.list(Shelf::Awaited, None, 100).len(), 3);
}

#[test]
fn no_room_refuses_a_note_and_leaves_the_others() {
    let home = Home::new();
    let notes = fill(&home);
    let (shelves, pool) = (home.open().shelves, home.pool());
    home.fail(Call::Write, Errno::NOSPC);
    let refused = shelves.put(&pool, Shelf::Paused, bytes("more"), Some(bytes("v")));
    assert!(matches!(refused, Err(AppendError::Full { .. })), "{refused:?}");
    assert_eq!(shelves.list(Shelf::Paused, None, 100), notes);
    shelves.put(&pool, Shelf::Paused, bytes("m"), Some(bytes(""))).unwrap();
    let found = home.open();
    assert_eq!((found.shelves.list(Shelf::Paused, None, 100).len(), found.damaged), (5, 0));
}

#[test]
fn a_failed_sync_is_a_fault() {
    let home = Home::new();
    fill(&home);
    let (shelves, pool) = (home.open().shelves, home.pool());
    home.fail(Call::Sync, Errno::IO);
    let fault = shelves.put(&pool, Shelf::Paused, bytes("more"), Some(bytes("v")));
    assert!(matches!(fault, Err(AppendError::Fault(_))), "{fault:?}");
}

/// The new file takes the place of the old one only when it is whole.
#[test]
fn a_crash_at_any_call_of_a_rewriting_loses_nothing() {
    for (call, path) in [
        (Call::Create, FILE_NEW),
        (Call::Write, FILE_NEW),
        (Call::Sync, FILE_NEW),
        (Call::Rename, FILE),
    ] {
        let home = Home::new();
        let (shelves, pool) = (home.open().shelves, home.pool());
        home.rig.fail(Failure { call, path, skip: 0, times: 1, error: Errno::IO });
        let value = bytes("v".repeat(4000));
        let mut stored = 0;
        // The one that asks for the rewriting is stored before it.
        while shelves
            .put(&pool, Shelf::Awaited, bytes(format!("{stored:03}")), Some(value.clone()))
            .is_ok()
        {
            stored += 1;
            assert!(stored < 200, "{call:?} was never met");
        }
        drop(shelves);
        let found = home.open();
        let found = (found.shelves.list(Shelf::Awaited, None, 1000).len(), found.damaged);
        assert_eq!(found, (stored + 1, 0), "{call:?}");
    }
}
