//! The index against its promises; against a model in `model`.

mod bounds;
mod damage;
mod model;
mod shut;

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Small deltas and quick syncs, so that a test sees every layer.
const BRISK: Limits = Limits {
    delta_max: 64,
    answers_bytes_max: 1 << 10,
    unsynced_max: 2,
    sync_every: Duration::from_millis(1),
    keys_max: 1 << 20,
    stall_max: Duration::from_secs(10),
};

/// Nothing is synced or covered but at a close.
const LAZY: Limits = Limits { sync_every: DAY, unsynced_max: usize::MAX, ..BRISK };

/// A directory that outlives the index in it.
struct Home {
    dir: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("keys")
    }

    fn quarantine(&self) -> PathBuf {
        self.dir.path().join("quarantine")
    }

    fn open(&self, limits: Limits, now: Timestamp) -> Keys {
        Keys::open_with(&self.path(), &self.quarantine(), now, limits).unwrap()
    }

    fn quarantined(&self) -> usize {
        std::fs::read_dir(self.quarantine()).map_or(0, Iterator::count)
    }
}

fn key(number: u64) -> DedupeKey {
    DedupeKey(u128::from(number).to_be_bytes())
}

fn entry(seq: u64, at: Timestamp) -> KeyEntry {
    let members = std::array::from_fn(|slot| (seq as u16) << 5 | slot as u16);
    let fingerprint = Fingerprint { body: seq.to_le_bytes(), members };
    KeyEntry { seq, id: EventId::new(at), fingerprint }
}

/// Puts `key(number)` at sequence `number`, for each.
fn put_all(keys: &Keys, numbers: std::ops::Range<u64>, window: Duration) -> Vec<KeyEntry> {
    let entries: Vec<KeyEntry> = numbers.clone().map(|seq| entry(seq, START)).collect();
    let puts: Vec<_> = numbers.clone().zip(&entries).map(|(n, e)| (key(n), window, *e)).collect();
    for part in puts.chunks(100) {
        keys.put(part, part.last().unwrap().2.seq).unwrap();
    }
    entries
}

/// A delivery of the event at `seq`, which was owed to the slots of a mask.
fn slot(seq: u64, slot: u8, owed: u32) -> Origin {
    Origin { seq, slot, owed }
}

/// Waits until everything told is covered and what is past is dropped.
fn settle(keys: &Keys, log_seq: u64) {
    for log_seq in [log_seq, log_seq + 1] {
        // An epoch is dropped after the sync before: the second sync comes after the first drop.
        keys.put(&[], log_seq).unwrap();
        keys.shared.wait_covered(log_seq);
    }
}

fn seq_of(keys: &Keys, number: u64, window: Duration, now: Timestamp) -> Option<u64> {
    keys.get(&key(number), window, now).unwrap().map(|entry| entry.seq)
}

#[test]
fn a_key_is_found_whole_in_memory_on_disk_and_after_a_reopen() {
    let home = Home::new();
    let keys = home.open(LAZY, START);
    // The last ones lie in the active delta, those before in the sealed one, most in tables.
    let entries = put_all(&keys, 1..1_000, HOUR);
    let all_found = |keys: &Keys| {
        for (number, entry) in (1..).zip(&entries) {
            assert_eq!(keys.get(&key(number), HOUR, START).unwrap(), Some(*entry));
        }
        assert_eq!(keys.get(&key(1_000), HOUR, START).unwrap(), None);
    };
    all_found(&keys);
    assert_eq!(keys.covered(), 0, "nothing was synced");
    keys.close().unwrap();
    let keys = home.open(LAZY, START);
    assert_eq!(keys.covered(), 999);
    all_found(&keys);
    index::fill_filters(&keys.shared).unwrap();
    all_found(&keys);
}

#[test]
fn a_key_lives_for_its_window_from_its_own_time() {
    let home = Home::new();
    for settled in [false, true] {
        let keys = home.open(BRISK, START);
        keys.put(&[(key(1), HOUR, entry(1, START))], 1).unwrap();
        if settled {
            settle(&keys, 1);
        }
        let last = START.after(HOUR - Duration::from_millis(1));
        assert_eq!(seq_of(&keys, 1, HOUR, last), Some(1));
        assert_eq!(seq_of(&keys, 1, HOUR, START.after(HOUR)), None);
        // A clock set back makes nothing older than it is.
        let before = Timestamp::from_millis(START.as_millis() - 1);
        assert_eq!(seq_of(&keys, 1, HOUR, before), Some(1));
        keys.close().unwrap();
    }
}

#[test]
fn an_epoch_is_dropped_whole_when_its_last_key_is_past() {
    let home = Home::new();
    let keys = home.open(BRISK, START);
    let second = START.after(HOUR / 2);
    keys.put(&[(key(1), HOUR, entry(1, START)), (key(2), HOUR, entry(2, second))], 2).unwrap();
    keys.put(&[(key(3), DAY, entry(3, START))], 3).unwrap();
    settle(&keys, 3);
    let tables = |keys: &Keys| {
        keys.shared
            .tables()
            .unwrap()
            .all()
            .into_iter()
            .map(|(window, ..)| window)
            .collect::<Vec<_>>()
    };
    assert_eq!(tables(&keys), [3_600_000, 3_600_000, 86_400_000]);
    let past = tables::end_of(3_600_000, tables::epoch_of(3_600_000, START));
    assert!(past >= START.after(HOUR) && past < second.after(HOUR));
    let last = Timestamp::from_millis(past.as_millis() - 1);
    assert_eq!(seq_of(&keys, 1, HOUR, last), None);
    settle(&keys, 5);
    assert_eq!(tables(&keys).len(), 3);
    assert_eq!(seq_of(&keys, 2, HOUR, past), Some(2));
    settle(&keys, 7);
    assert_eq!(tables(&keys), [3_600_000, 86_400_000]);
    assert_eq!(seq_of(&keys, 3, DAY, past), Some(3));
    // What is past is not written either, when an old log is fed again.
    keys.put(&[(key(1), HOUR, entry(1, START))], 9).unwrap();
    settle(&keys, 9);
    assert_eq!(tables(&keys).len(), 2);
    keys.close().unwrap();
    // And stays away: the directory of a dropped epoch is gone after the next open.
    let keys = home.open(BRISK, past);
    assert_eq!(tables(&keys), [3_600_000, 86_400_000]);
}

#[test]
fn a_clock_that_leaps_ahead_drops_nothing_until_it_has_gone_on() {
    let home = Home::new();
    let keys = home.open(BRISK, START);
    keys.put(&[(key(1), HOUR, entry(1, START))], 1).unwrap();
    settle(&keys, 1);
    let leapt = START.after(DAY * 3650);
    assert_eq!(seq_of(&keys, 1, HOUR, leapt), None);
    settle(&keys, 3);
    assert_eq!(seq_of(&keys, 1, HOUR, START), Some(1), "the clock came back");
    keys.close().unwrap();
    let keys = home.open(BRISK, leapt);
    settle(&keys, 5);
    assert_eq!(seq_of(&keys, 1, HOUR, START), Some(1));
    assert_eq!(seq_of(&keys, 1, HOUR, leapt), None);
    settle(&keys, 7);
    assert_eq!(seq_of(&keys, 1, HOUR, leapt.after(DAY)), None);
    settle(&keys, 9);
    assert_eq!(keys.shared.tables().unwrap().all().len(), 0);
}

#[test]
fn of_several_entries_the_highest_sequence_wins() {
    let home = Home::new();
    let keys = home.open(BRISK, START);
    // In one delta, over a table, and in an earlier epoch, as after a clock was set back.
    let early = Timestamp::from_millis(START.as_millis() - 3_000_000);
    for (seq, at, wins) in
        [(5, START, 5), (4, START, 5), (6, START, 6), (3, START, 6), (9, early, 9), (8, START, 9)]
    {
        keys.put(&[(key(1), HOUR, entry(seq, at))], seq).unwrap();
        assert_eq!(seq_of(&keys, 1, HOUR, START), Some(wins));
        settle(&keys, keys.covered() + 10);
        assert_eq!(seq_of(&keys, 1, HOUR, START), Some(wins));
    }
    let batch: Vec<_> = [12, 11].map(|seq| (key(2), HOUR, entry(seq, START))).into();
    keys.put(&batch, 0).unwrap();
    assert_eq!(seq_of(&keys, 2, HOUR, START), Some(12));
    keys.close().unwrap();
    let keys = home.open(BRISK, START);
    assert_eq!(seq_of(&keys, 1, HOUR, START), Some(9));
    assert_eq!(seq_of(&keys, 2, HOUR, START), Some(12));
}

#[test]
fn a_crash_leaves_covered_behind_the_keys_and_a_feed_from_there_is_complete() {
    let home = Home::new();
    let fed = |keys: &Keys| {
        let from = keys.covered() + 1;
        put_all(keys, from..1_000, HOUR);
        for number in 1..1_000 {
            assert_eq!(seq_of(keys, number, HOUR, START), Some(number));
        }
    };
    // Deltas are written but never synced.
    let keys = home.open(LAZY, START);
    fed(&keys);
    drop(keys);
    let keys = home.open(LAZY, START);
    assert_eq!(keys.covered(), 0);
    let written = (1..1_000).filter(|n| seq_of(&keys, *n, HOUR, START).is_some()).count();
    assert!(written < 999, "the deltas in memory survived the crash");
    fed(&keys);
    drop(keys);
    // Some are synced; covered never promises more than is found.
    for round in 1..6 {
        let keys = home.open(BRISK, START);
        for number in 1..=keys.covered() {
            assert_eq!(seq_of(&keys, number, HOUR, START), Some(number));
        }
        put_all(&keys, keys.covered() + 1..round * 200, HOUR);
        if round % 2 == 0 {
            keys.shared.wait_covered(round * 200 - 100);
        }
    }
    let keys = home.open(LAZY, START);
    assert!(keys.covered() >= 700);
    fed(&keys);
    keys.close().unwrap();
    assert_eq!(home.open(LAZY, START).covered(), 999);
}

#[test]
fn a_position_without_keys_is_covered_too() {
    let home = Home::new();
    let keys = home.open(BRISK, START);
    keys.put(&[], 41).unwrap();
    keys.shared.wait_covered(41);
    drop(keys);
    let keys = home.open(LAZY, START);
    assert_eq!(keys.covered(), 41);
    keys.put(&[], 42).unwrap();
    // A lower one, as of a feed that begins too early, takes nothing back.
    keys.put(&[], 7).unwrap();
    keys.close().unwrap();
    assert_eq!(home.open(LAZY, START).covered(), 42);
}

#[test]
fn a_key_is_free_when_every_owed_slot_ended_and_taken_again_by_a_revival() {
    const OWED: u32 = 1 << 31 | 0b101;
    let home = Home::new();
    // Each step is looked at in the delta, on disk and after a reopen.
    let mut keys = home.open(BRISK, START);
    let mut at = 10;
    keys.put(&[(key(1), DAY, entry(7, START))], at).unwrap();
    type Step = fn(&Keys) -> Result<(), StoreFault>;
    let steps: [(Step, bool); 7] = [
        (|keys| keys.end(&key(1), slot(7, 0, OWED), Ending::Dead, START), true),
        (|keys| keys.end(&key(1), slot(7, 2, OWED), Ending::Dead, START), true),
        (|keys| keys.end(&key(1), slot(6, 31, OWED), Ending::Dead, START), true),
        (|keys| keys.end(&key(1), slot(7, 31, OWED), Ending::Dead, START), false),
        (|keys| keys.revive(&key(1), slot(7, 2, 0), 1_000), true),
        (|keys| keys.end(&key(1), slot(7, 2, OWED), Ending::Dead, START), false),
        (|keys| keys.end(&key(1), slot(7, 2, OWED), Ending::Dead, START), false),
    ];
    for (step, taken) in steps {
        step(&keys).unwrap();
        let expected = taken.then_some(7);
        assert_eq!(seq_of(&keys, 1, DAY, START), expected);
        at += 10;
        settle(&keys, at);
        assert_eq!(seq_of(&keys, 1, DAY, START), expected);
        keys.close().unwrap();
        keys = home.open(BRISK, START);
        assert_eq!(seq_of(&keys, 1, DAY, START), expected);
    }
    // The next event takes the free key, and the end of the one before is not its own.
    keys.put(&[(key(1), DAY, entry(8, START))], at + 10).unwrap();
    assert_eq!(seq_of(&keys, 1, DAY, START), Some(8));
    keys.revive(&key(1), slot(7, 0, 0), 1_000).unwrap();
    keys.end(&key(1), slot(7, 0, OWED), Ending::Dead, START).unwrap();
    assert_eq!(seq_of(&keys, 1, DAY, START), Some(8));
    assert!(keys.end(&key(1), slot(8, 32, OWED), Ending::Dead, START).is_err());
}

#[test]
fn end_states_are_swept_when_their_keys_are_past() {
    let home = Home::new();
    let keys = home.open(BRISK, START);
    put_all(&keys, 1..300, HOUR);
    for seq in 1..300 {
        keys.end(&key(seq), slot(seq, 0, 1), Ending::Dead, START).unwrap();
    }
    settle(&keys, 300);
    assert_eq!(keys.shared.tables().unwrap().ended.len().unwrap(), 299);
    keys.revive(&key(1), slot(1, 0, 0), 1_000).unwrap();
    settle(&keys, 302);
    assert_eq!(keys.shared.tables().unwrap().ended.len().unwrap(), 299, "it may still end");
    let later = START.after(HOUR);
    keys.put(&[(key(900), HOUR, entry(900, later))], 900).unwrap();
    assert_eq!(seq_of(&keys, 900, HOUR, later), Some(900));
    keys.end(&key(900), slot(900, 0, 1), Ending::Dead, later).unwrap();
    settle(&keys, 901);
    let past = START.after(HOUR + HOUR / 2);
    assert_eq!(seq_of(&keys, 1, HOUR, past), None);
    settle(&keys, 903);
    assert_eq!(keys.shared.tables().unwrap().ended.len().unwrap(), 1);
    assert_eq!(seq_of(&keys, 900, HOUR, past), None, "its end state is kept");
}
