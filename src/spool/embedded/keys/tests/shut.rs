//! A disk that is full under the store: nothing is lost, and it goes on when there is room.

use std::thread;
use std::time::Instant;

use super::*;

fn wait_until(what: &str, is: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < patience, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_was_told_while_the_disk_was_full_is_written_when_it_is_not() {
    let home = Home::new();
    let keys = home.open(BRISK, START);
    put_all(&keys, 1..300, HOUR);
    keys.shared.wait_covered(299);
    let full = keys.full_disk();
    full.store(true, Ordering::Relaxed);
    // More than a delta takes: nobody waits for a store that is shut.
    put_all(&keys, 300..500, HOUR);
    wait_until("it is shut", || keys.lookup().is_none());
    assert!(keys.gauge().is_shut());
    put_all(&keys, 500..600, HOUR);
    keys.end(&key(7), slot(7, 0, 1), Ending::Expired, START).unwrap();
    assert_eq!(keys.covered(), 299);
    full.store(false, Ordering::Relaxed);
    wait_until("it is open", || keys.lookup().is_some());
    keys.shared.wait_covered(599);
    drop(keys);
    let keys = home.open(LAZY, START);
    assert_eq!((keys.covered(), home.quarantined()), (599, 0));
    let lost = (1..600).filter(|n| seq_of(&keys, *n, HOUR, START) != Some(*n));
    assert_eq!(lost.collect::<Vec<_>>(), [7], "what expired is free");
}

#[test]
fn a_store_that_is_shut_can_be_closed_and_its_memory_is_bounded() {
    let home = Home::new();
    let keys = home.open(BRISK, START);
    keys.full_disk().store(true, Ordering::Relaxed);
    put_all(&keys, 1..10, HOUR);
    wait_until("it is shut", || keys.lookup().is_none());
    for number in 0..BRISK.delta_max as u64 * 16 {
        let ended = keys.end(&key(number), slot(number, 0, 1), Ending::Dead, START);
        ended.unwrap_or_else(|fault| panic!("{number}: {fault}"));
    }
    assert!(keys.close().is_err(), "what is in memory was not written");
    let keys = home.open(LAZY, START);
    assert_eq!(keys.covered(), 0, "and nobody was told that it was");
}
