//! Memory, disk and waits are bounded, and faults are told.

use super::*;
use crate::spool::KeyStats;

#[test]
fn more_keys_than_allowed_cost_the_oldest_epoch() {
    let home = Home::new();
    let keys = home.open(Limits { keys_max: 200, ..BRISK }, START);
    for epoch in 0..4_u64 {
        let at = START.after(HOUR / 4 * epoch as u32);
        let numbers = epoch * 100..epoch * 100 + 100;
        let puts: Vec<_> = numbers.map(|n| (key(n), HOUR, entry(n, at))).collect();
        keys.put(&puts, epoch * 100 + 99).unwrap();
        settle(&keys, epoch * 100 + 99);
    }
    let found: Vec<u64> =
        (0..400).filter(|number| seq_of(&keys, *number, HOUR, START).is_some()).collect();
    assert_eq!(found, (200..400).collect::<Vec<_>>());
    assert_eq!(keys.gauge().stats(), KeyStats { kept: 200, limit: 200, dropped: 200 });
    keys.close().unwrap();
    let keys = home.open(Limits { keys_max: 200, ..BRISK }, START);
    index::fill_filters(&keys.shared).unwrap();
    let counted = KeyStats { kept: 200, limit: 200, dropped: 0 };
    assert_eq!(keys.gauge().stats(), counted, "counted at the start too");
}

#[test]
fn a_filter_is_rebuilt_at_the_start_and_grows_with_its_table() {
    let home = Home::new();
    let limits = Limits { delta_max: 5_000, ..BRISK };
    let keys = home.open(limits, START);
    put_all(&keys, 0..50_000, HOUR);
    settle(&keys, 50_000);
    let strangers = |keys: &Keys| {
        let (.., table) = keys.shared.tables().unwrap().all().remove(0);
        assert!((0..50_000).all(|number| table.perhaps(&key(number))));
        (1_000_000..1_010_000).filter(|number| table.perhaps(&key(*number))).count()
    };
    assert!(strangers(&keys) < 200, "filters of a growing table let {} by", strangers(&keys));
    keys.close().unwrap();
    let keys = home.open(limits, START);
    index::fill_filters(&keys.shared).unwrap();
    assert!(strangers(&keys) < 100, "a rebuilt filter lets {} by", strangers(&keys));
    put_all(&keys, 50_000..60_000, HOUR);
    settle(&keys, 60_002);
    assert_eq!(seq_of(&keys, 59_999, HOUR, START), Some(59_999));
}

#[test]
fn a_hundred_thousand_keys_go_through_the_usual_limits() {
    let home = Home::new();
    let keys = home.open(Limits::default(), START);
    put_all(&keys, 0..100_000, DAY * 30);
    let lost = (0..100_000).filter(|n| seq_of(&keys, *n, DAY * 30, START) != Some(*n)).count();
    assert_eq!(lost, 0);
    keys.close().unwrap();
    let keys = Keys::open(&home.path(), &home.quarantine(), START).unwrap();
    assert_eq!(keys.covered(), 99_999);
    let lost = (0..100_000).filter(|n| seq_of(&keys, *n, DAY * 30, START) != Some(*n)).count();
    assert_eq!(lost, 0);
}

#[test]
fn a_second_opener_is_refused_and_harms_nothing() {
    let home = Home::new();
    let keys = home.open(BRISK, START);
    put_all(&keys, 1..10, HOUR);
    let second = Keys::open(&home.path(), &home.quarantine(), START);
    assert!(second.is_err_and(|fault| fault.cause.contains("Locked")));
    assert_eq!(home.quarantined(), 0);
    settle(&keys, 10);
    assert_eq!(seq_of(&keys, 9, HOUR, START), Some(9));
}

#[test]
fn a_fault_of_the_index_thread_answers_every_later_call() {
    let home = Home::new();
    let keys = home.open(LAZY, START);
    put_all(&keys, 1..10, HOUR);
    keys.shared.fail(StoreFault { doing: "testing".to_owned(), cause: "a test".to_owned() });
    assert!(keys.get(&key(1), HOUR, START).is_err());
    assert!(keys.put(&[], 11).is_err());
    assert!(keys.end(&key(1), slot(1, 0, 1), Ending::Dead, START).is_err());
    assert!(keys.revive(&key(1), slot(1, 0, 0), 1_000).is_err());
    assert!(keys.close().is_err());
}

/// An index without its threads: nothing is ever written.
fn stuck(home: &Home, limits: Limits) -> Keys {
    let opened = opening::open(&home.path(), &home.quarantine(), START).unwrap();
    Keys {
        shared: Arc::new(Shared::new(opened, limits, START)),
        noted: START,
        threads: Vec::new(),
        begun_anew: false,
    }
}

#[test]
fn of_two_deltas_the_newer_speaks_last() {
    let home = Home::new();
    let keys = stuck(&home, Limits { delta_max: 2, ..LAZY });
    keys.put(&[(key(1), HOUR, entry(1, START))], 1).unwrap();
    keys.end(&key(1), slot(1, 0, 1), Ending::Dead, START).unwrap();
    assert_eq!(seq_of(&keys, 1, HOUR, START), None);
    keys.revive(&key(1), slot(1, 0, 0), 1_000).unwrap();
    assert_eq!(seq_of(&keys, 1, HOUR, START), Some(1));
}

#[test]
fn a_put_waits_only_when_two_deltas_are_full_and_not_for_ever() {
    let home = Home::new();
    let keys = stuck(&home, Limits { stall_max: Duration::from_millis(50), ..LAZY });
    put_all(&keys, 0..64, HOUR);
    let puts: Vec<_> = (64..128).map(|n| (key(n), HOUR, entry(n, START))).collect();
    keys.put(&puts, 127).unwrap();
    assert_eq!(seq_of(&keys, 0, HOUR, START), Some(0));
    let stalled = keys.put(&[(key(128), HOUR, entry(128, START))], 128);
    assert!(stalled.is_err_and(|fault| fault.doing == "waiting for the key index"));
    keys.shared.written();
    keys.put(&[(key(128), HOUR, entry(128, START))], 128).unwrap();
}
