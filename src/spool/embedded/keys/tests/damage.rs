//! Wrong bytes in the store's files: no panic, and no start that fails for ever.

use std::fs;
use std::path::Path;

use super::*;

const KEYS: u64 = 300;

/// The bytes of every file of a closed store.
type Snapshot = Vec<(PathBuf, Vec<u8>)>;

/// A store with keys in a table file and in the journal.
fn stored() -> (Home, Snapshot) {
    let home = Home::new();
    let keys = home.open(BRISK, START);
    put_all(&keys, 1..200, HOUR);
    keys.shared.wait_covered(199);
    for (.., table) in keys.shared.tables().unwrap().all() {
        table.rows.rotate_memtable_and_wait().unwrap();
    }
    put_all(&keys, 200..KEYS, HOUR);
    keys.close().unwrap();
    let mut files = Snapshot::new();
    let mut dirs = vec![home.path()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            if path.extension().is_some_and(|extension| extension == "jnl") {
                // It has 64 MiB from the start; what was never written is of no interest.
                let zeros = [0; 64];
                let used = bytes.chunks(64).rposition(|part| part != &zeros[..part.len()]);
                bytes.truncate(used.map_or(0, |last| (last + 1) * 64));
            }
            files.push((path.strip_prefix(home.path()).unwrap().to_owned(), bytes));
        }
    }
    files.sort();
    (home, files)
}

fn restore(home: &Home, files: &Snapshot) {
    for (path, bytes) in files {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Starts as the relay does: opens, reads all tables, feeds what is not covered, looks keys up.
fn start(home: &Home) -> Result<(), StoreFault> {
    let keys = Keys::open_with(&home.path(), &home.quarantine(), START, LAZY)?;
    index::fill_filters(&keys.shared)?;
    let entries: Vec<_> = (keys.covered() + 1..KEYS)
        .map(|number| (key(number), HOUR, entry(number, START)))
        .collect();
    keys.put(&entries, KEYS - 1)?;
    for number in 1..KEYS {
        let found = keys.get(&key(number), HOUR, START)?.map(|entry| entry.seq);
        assert_eq!(found, Some(number));
    }
    keys.close()
}

/// Ways to damage a file: cut to nothing, a bit flipped, a part of it never written.
fn damaged(bytes: &[u8]) -> [Vec<u8>; 3] {
    let len = bytes.len();
    let mut flipped = bytes.to_vec();
    flipped[len / 2] ^= 1;
    let mut zeroed = bytes.to_vec();
    zeroed[len / 3..(len / 3 + 16).min(len)].fill(0);
    [Vec::new(), flipped, zeroed]
}

/// Whether a store that opens reads this file: of the numbered versions of a tree, only the last.
fn is_read(files: &Snapshot, number: usize) -> bool {
    let is_version = |path: &Path| path.to_string_lossy().contains("/v");
    let (path, bytes) = &files[number];
    let later = files[number + 1..]
        .iter()
        .any(|(later, _)| is_version(path) && is_version(later) && later.parent() == path.parent());
    !bytes.is_empty() && !later
}

#[test]
fn no_damage_to_any_file_outlives_two_starts() {
    let (_, files) = stored();
    let home = Home::new();
    restore(&home, &files);
    assert_eq!(home.open(LAZY, START).covered(), KEYS - 1, "undamaged, it is all there");
    start(&home).unwrap();
    assert_eq!(home.quarantined(), 0);
    let mut set_aside = 0;
    for number in (0..files.len()).filter(|number| is_read(&files, *number)) {
        let (path, bytes) = &files[number];
        for (way, wrong) in damaged(bytes).into_iter().enumerate() {
            let home = Home::new();
            let mut files = files.clone();
            files[number].1 = wrong;
            restore(&home, &files);
            // The first may find damage only when it reads, and leaves word for the second.
            if let Err(fault) = start(&home) {
                start(&home).unwrap_or_else(|again| {
                    panic!("{} damaged in way {way}: {fault}, then {again}", path.display())
                });
            }
            set_aside += home.quarantined();
        }
    }
    assert!(set_aside > 15, "only {set_aside} damaged stores were noticed");
}

#[test]
fn a_damaged_store_is_set_aside_whole_and_begun_anew() {
    let (_, files) = stored();
    let home = Home::new();
    restore(&home, &files);
    let current = Path::new("keyspaces/0/current");
    fs::write(home.path().join(current), b"").unwrap();
    let keys = home.open(BRISK, START);
    assert_eq!(keys.covered(), 0);
    assert_eq!(seq_of(&keys, 1, HOUR, START), None);
    drop(keys);
    let aside: Vec<_> = fs::read_dir(home.quarantine()).unwrap().collect();
    let [Ok(aside)] = &aside[..] else { panic!("{aside:?}") };
    for (path, bytes) in files.iter().filter(|(path, _)| path != current) {
        let kept = fs::read(aside.path().join(path)).unwrap();
        assert!(kept.starts_with(bytes), "{}", path.display());
    }
}

#[test]
fn damage_found_by_a_lookup_is_set_aside_at_the_next_open() {
    let (_, mut files) = stored();
    let home = Home::new();
    let table = files
        .iter_mut()
        .filter(|(path, _)| path.starts_with("keyspaces"))
        .max_by_key(|file| file.1.len());
    let (_, bytes) = table.unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    restore(&home, &files);
    let keys = home.open(LAZY, START);
    let faults = (1..KEYS).filter(|n| keys.get(&key(*n), HOUR, START).is_err()).count();
    assert!(faults > 0, "no lookup met the damage");
    drop(keys);
    assert_eq!(home.quarantined(), 0);
    // A start that is cut short between its two steps leaves the word but not the store.
    let marker = fs::read(home.dir.path().join("keys.damaged")).unwrap();
    drop(home.open(LAZY, START));
    assert_eq!(home.quarantined(), 1);
    fs::remove_dir_all(home.path()).unwrap();
    fs::write(home.dir.path().join("keys.damaged"), marker).unwrap();
    for _ in 0..2 {
        let keys = home.open(LAZY, START);
        assert_eq!(keys.covered(), 0);
        keys.put(&[(key(1), HOUR, entry(1, START))], 1).unwrap();
        assert_eq!(seq_of(&keys, 1, HOUR, START), Some(1));
    }
    assert_eq!(home.quarantined(), 1);
}

#[test]
fn what_the_machine_refuses_is_no_damage() {
    let home = Home::new();
    home.open(BRISK, START).close().unwrap();
    // A file where a directory must be made, and one where the store itself should be.
    let blocked = home.path().join("version").join("keys");
    assert!(Keys::open(&blocked, &home.quarantine(), START).is_err());
    let file = home.path().join("version");
    assert!(Keys::open(&file, &home.quarantine(), START).is_err());
    assert_eq!(home.quarantined(), 0);
}

#[test]
fn a_store_that_ends_the_process_twice_is_set_aside_and_one_that_did_once_is_not() {
    let (home, _) = stored();
    let note = home.dir.path().join("keys.opening");
    for (count, covered) in [("1", KEYS - 1), ("", KEYS - 1), ("2", 0), ("7", 0)] {
        fs::write(&note, count).unwrap();
        let keys = home.open(LAZY, START);
        assert_eq!((keys.covered(), keys.is_begun_anew()), (covered, covered == 0), "{count}");
        assert!(!note.exists(), "an opening that came to an end is no unfinished one");
        drop(keys);
    }
    assert_eq!(home.quarantined(), 2);
}

#[test]
fn a_store_without_its_head_is_set_aside() {
    let (home, _) = stored();
    fs::remove_file(home.path().join("version")).unwrap();
    start(&home).unwrap();
    assert_eq!(home.quarantined(), 1);
}
