//! Damage is set aside and told; delivery goes on behind it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::stage::{HOUR, Stage, refusal, said};
use crate::event::EventId;
use crate::spool::{Appended, Cause, EndState, Settlement, Spool};

/// Flips one bit of a file.
fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// Where the record of an event lies in a file.
fn find(path: &Path, id: EventId) -> usize {
    let bytes = fs::read(path).unwrap();
    bytes.windows(16).position(|window| window == id.to_bytes()).unwrap() - 104
}

/// Three commits of keyed events in one segment, the spool closed or killed.
async fn three(kill: bool) -> (Stage, Vec<EventId>) {
    let mut stage = Stage::new();
    let mut ids = Vec::new();
    for key in 0..3 {
        ids.extend(stage.store(vec![stage.keyed(key, &["a", "b"])]).await);
    }
    if kill {
        stage.kill();
    } else {
        stage.close().await;
    }
    (stage, ids)
}

#[tokio::test]
async fn a_damaged_record_is_set_aside_and_its_key_is_free() {
    for kill in [true, false] {
        let (mut stage, ids) = three(kill).await;
        let log = stage.files("log", ".seg").remove(0);
        flip(&log, find(&log, ids[1]) + 130);
        for round in 0..3 {
            stage.open().unwrap();
            for name in ["a", "b"] {
                let found = stage.ids(name).await;
                assert_eq!(found, BTreeSet::from([ids[0], ids[2]]), "{name} {round} {kill}");
            }
            // Told once: when it is met.
            let stats = stage.stats().await;
            assert_eq!(stats.damaged_records, u64::from(round == 0), "{round} {kill}");
            assert_eq!(stage.files("quarantine", ".bytes").len(), 1);
            stage.close().await;
        }
        stage.open().unwrap();
        // The caller who repeats it is not told that it is there.
        stage.store(vec![stage.keyed(1, &["a"])]).await;
        assert!(stage.try_append(vec![stage.keyed(0, &["a"])]).await.is_ok_and(|answers| {
            matches!(answers[..], [crate::spool::Appended::Duplicate { of, .. }] if of == ids[0])
        }));
    }
}

#[tokio::test]
async fn a_record_that_goes_bad_while_the_store_is_open_is_set_aside_too() {
    let stage = Stage::new();
    let mut ids = Vec::new();
    for key in 0..3 {
        ids.extend(stage.store(vec![stage.keyed(key, &["a", "b"])]).await);
    }
    let log = stage.files("log", ".seg").remove(0);
    let at = find(&log, ids[1]) + 40;
    use std::os::unix::fs::FileExt;
    fs::OpenOptions::new()
        .write(true)
        .open(&log)
        .unwrap()
        .write_all_at(&[0xff], at as u64)
        .unwrap();
    for name in ["a", "b"] {
        assert_eq!(stage.ids(name).await, BTreeSet::from([ids[0], ids[2]]));
    }
    let stats = stage.stats().await;
    assert_eq!((stats.damaged_records, stats.flow.removed), (1, 2));
    stage.store(vec![stage.keyed(1, &["a"])]).await;
}

#[tokio::test]
async fn damage_to_what_was_delivered_costs_nobody_anything() {
    let mut stage = Stage::new();
    let ids = stage.store(vec![stage.keyed(0, &["a"])]).await;
    let later = stage.store(vec![stage.keyed(1, &["a"])]).await;
    let leases = stage.lease_all("a").await;
    stage.deliver(leases.into_values().filter(|lease| lease.event.id == ids[0])).await;
    stage.close().await;
    let log = stage.files("log", ".seg").remove(0);
    flip(&log, find(&log, ids[0]) + 60);
    stage.open().unwrap();
    assert_eq!(stage.ids("a").await, later.into_iter().collect());
    let again = stage.try_append(vec![stage.keyed(0, &["a"])]).await.unwrap();
    assert!(matches!(again[..], [crate::spool::Appended::Duplicate { of, .. }] if of == ids[0]));
}

#[tokio::test]
async fn one_header_is_enough_and_without_both_the_file_is_set_aside() {
    let (mut stage, ids) = three(false).await;
    let log = stage.files("log", ".seg").remove(0);
    flip(&log, 30);
    stage.open().unwrap();
    assert_eq!(stage.ids("a").await, ids.iter().copied().collect());
    stage.close().await;
    flip(&log, 4096 + 30);
    stage.open().unwrap();
    assert_eq!(stage.ids("a").await, BTreeSet::new());
    assert_eq!(stage.stats().await.damaged_records, 3);
    assert_eq!(stage.files("quarantine", ".seg").len(), 1);
    // Its keys are free, and its sequences are not used again.
    let again = stage.store((0..3).map(|key| stage.keyed(key, &["a"])).collect()).await;
    stage.close_and_reopen().await;
    assert_eq!(stage.ids("a").await, again.into_iter().collect());
}

#[tokio::test]
async fn a_segment_that_vanished_is_told_and_its_keys_are_free() {
    let (mut stage, ids) = three(true).await;
    stage.open().unwrap();
    for name in ["a", "b"] {
        let leases = stage.lease_all(name).await;
        stage.deliver(leases.into_values().filter(|lease| lease.event.id == ids[0])).await;
    }
    stage.close().await;
    fs::remove_file(stage.files("log", ".seg").remove(0)).unwrap();
    for round in 0..2 {
        stage.open().unwrap();
        assert_eq!(stage.ids("a").await, BTreeSet::new());
        assert_eq!(stage.stats().await.damaged_records, if round == 0 { 2 } else { 0 });
        assert_eq!(stage.files("quarantine", ".ack").len(), 1);
        stage.close().await;
    }
    stage.open().unwrap();
    // What was delivered is still known; what is lost may come again, and is then known too.
    let again = stage.try_append(vec![stage.keyed(0, &["a"])]).await.unwrap();
    assert!(matches!(again[..], [crate::spool::Appended::Duplicate { of, .. }] if of == ids[0]));
    let again = stage.store((1..3).map(|key| stage.keyed(key, &["a"])).collect()).await;
    stage.close_and_reopen().await;
    assert_eq!(stage.ids("a").await, again.iter().copied().collect());
    let twice = stage.try_append(vec![stage.keyed(1, &["a"])]).await.unwrap();
    assert!(matches!(twice[..], [crate::spool::Appended::Duplicate { of, .. }] if of == again[0]));
}

#[tokio::test]
async fn a_segment_that_vanished_with_its_acknowledgements_is_told_too() {
    let (mut stage, ids) = three(true).await;
    for (dir, records) in [("log", 3), ("dead", 1)] {
        stage.open().unwrap();
        if dir == "dead" {
            stage.store(vec![stage.keyed(9, &["c"])]).await;
            let lease = stage.lease("c", 1).await.remove(0);
            stage.settle(lease, Settlement::DeadLetter(refusal(Cause::Refused))).await;
        }
        stage.close().await;
        for suffix in [".seg", ".ack"] {
            fs::remove_file(stage.files(dir, suffix).remove(0)).unwrap();
        }
        let words = said(|| stage.open().unwrap());
        assert!(words.contains(&format!("file=\"{dir}/")), "{words}");
        assert!(words.contains("with its acknowledgements"), "{words}");
        assert_eq!(stage.stats().await.damaged_records, records, "{dir}");
        stage.close().await;
        // Once.
        stage.open().unwrap();
        assert_eq!(stage.stats().await.damaged_records, 0, "{dir}");
        if dir == "log" {
            let again = stage.store(vec![stage.keyed(1, &["a"])]).await;
            assert!(!ids.contains(&again[0]), "its key is free");
        }
        stage.close().await;
    }
}

#[tokio::test]
async fn a_segment_that_was_freed_is_not_missed_and_a_torn_list_accuses_nobody() {
    let mut stage = Stage::new();
    for round in 0..6 {
        stage.store((0..20).map(|_| stage.event(&[b'x'; 3000], &["a"])).collect()).await;
        let leases = stage.lease_all("a").await;
        stage.deliver(leases.into_values()).await;
        if round == 3 {
            stage.close().await;
            let path = stage.path("segments");
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            stage.open().unwrap();
        } else {
            stage.kill_and_reopen();
            let leases = stage.lease_all("a").await;
            stage.deliver(leases.into_values()).await;
            stage.close_and_reopen().await;
        }
        assert_eq!(stage.stats().await.damaged_records, 0, "round {round}");
    }
    assert!(stage.files("log", ".seg").len() < 4, "nothing was freed, so nothing was tried");
}

#[tokio::test]
async fn acknowledgements_that_outlive_a_settled_segment_are_no_damage() {
    let (mut stage, _) = three(true).await;
    stage.open().unwrap();
    for name in ["a", "b"] {
        let leases = stage.lease_all(name).await;
        stage.deliver(leases.into_values()).await;
    }
    stage.close().await;
    let log = stage.files("log", ".seg").remove(0);
    let ack = log.with_extension("ack");
    assert!(ack.exists());
    fs::remove_file(log).unwrap();
    stage.open().unwrap();
    assert_eq!(stage.stats().await.damaged_records, 0);
    assert!(!ack.exists() && stage.files("quarantine", ".ack").is_empty());
}

#[tokio::test]
async fn lost_acknowledgements_are_deliveries_made_again() {
    let mut stage = Stage::new();
    let ids = stage.store((0..4).map(|key| stage.keyed(key, &["a"])).collect()).await;
    let other = stage.store(vec![stage.keyed(9, &["b"])]).await;
    let mut leases = stage.lease_all("a").await;
    let mut take = |id| leases.remove(&id).unwrap();
    stage.deliver([take(ids[0])]).await;
    stage.settle(take(ids[1]), Settlement::DeadLetter(refusal(Cause::Refused))).await;
    let retry_at = stage.clock.now().after(super::stage::HOUR);
    stage.settle(take(ids[2]), Settlement::RetryAt(retry_at)).await;
    stage.close().await;
    for ack in stage.files("log", ".ack") {
        let mut bytes = fs::read(&ack).unwrap();
        bytes.iter_mut().skip(512).for_each(|byte| *byte ^= 0x55);
        fs::write(ack, bytes).unwrap();
    }
    stage.open().unwrap();
    // What is a letter or parked is not delivered as well, and nobody gets what is another's.
    assert_eq!(stage.ids("a").await, BTreeSet::from([ids[0], ids[3]]));
    assert_eq!(stage.ids("b").await, other.into_iter().collect());
    let stats = stage.stats().await;
    let a = &stats.destinations[0];
    assert_eq!((a.in_flight, a.retrying, a.dead), (2, 1, 1));
    assert_eq!(stage.letters().await[0].event.id, ids[1]);
}

#[tokio::test]
async fn a_damaged_letter_is_set_aside_and_the_others_are_listed() {
    let mut stage = Stage::new();
    let mut ids = Vec::new();
    for key in 0..3 {
        ids.extend(stage.store(vec![stage.keyed(key, &["a"])]).await);
        let lease = stage.lease("a", 1).await.remove(0);
        stage.settle(lease, Settlement::DeadLetter(refusal(Cause::Refused))).await;
    }
    stage.close_and_reopen().await;
    let dead = stage.files("dead", ".seg").remove(0);
    flip(&dead, find(&dead, ids[1]) + 20);
    stage.kill_and_reopen();
    for _ in 0..2 {
        let letters = stage.letters().await;
        let found: Vec<EventId> = letters.iter().map(|letter| letter.event.id).collect();
        assert_eq!(found, [ids[0], ids[2]]);
        let stats = stage.stats().await;
        assert_eq!((stats.damaged_records, stats.destinations[0].dead), (1, 2));
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_a_log_loses_at_most_one_record() {
    let (mut stage, ids) = three(false).await;
    let log = stage.files("log", ".seg").remove(0);
    let whole = fs::read(&log).unwrap();
    let start = find(&log, ids[0]);
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let copies = tempfile::tempdir().unwrap();
    let origin = stage.settings.path.clone();
    for at in (start..end).step_by(97) {
        let copy = copies.path().join(at.to_string());
        super::stage::copy(&origin, &copy);
        stage.settings.path = copy;
        flip(&stage.files("log", ".seg")[0], at);
        stage.open().unwrap();
        let found = stage.ids("a").await;
        assert!(found.len() >= 2 && found.iter().all(|id| ids.contains(id)), "byte {at}");
        stage.kill();
        fs::remove_dir_all(&stage.settings.path).unwrap();
    }
}

#[tokio::test]
async fn damaged_keys_are_counted_and_rebuilt_from_every_log() {
    let mut stage = Stage::new();
    // One waits in log/, one in retry/, one lies in dead/; of the two the first record is settled.
    let first = stage.store((1..4).map(|key| stage.keyed(key, &["a"])).collect()).await;
    let key = |key: u64| stage.keyed(key, &["a"]).dedupe.unwrap().key;
    let keys = [1, 2, 3].map(key);
    let mut leases = stage.lease("a", 2).await;
    let dead = leases.pop().unwrap();
    let died = dead.event.id;
    stage.settle(dead, Settlement::DeadLetter(refusal(Cause::Expired))).await;
    let parked = leases.pop().unwrap();
    stage.settle(parked, Settlement::RetryAt(stage.clock.now().after(HOUR))).await;
    stage.close().await;
    for path in ["keys/version", "keys/keyspaces/0/current"] {
        fs::remove_file(stage.path(path)).unwrap();
        stage.open().unwrap();
        assert_eq!(stage.stats().await.damaged_records, 1, "{path}");
        for (id, key) in first.iter().zip(keys) {
            let found = stage.spool().find(key).await.unwrap().unwrap();
            let state = if *id == died { EndState::Expired } else { EndState::Pending };
            assert_eq!((found.id, found.state), (*id, state), "{path}");
        }
        stage.close().await;
    }
    stage.open().unwrap();
    assert_eq!(stage.stats().await.damaged_records, 0, "it was set aside");
    let repeats = (1..4).map(|key| stage.keyed(key, &["a"])).collect();
    let answers = stage.try_append(repeats).await.unwrap();
    for (id, answer) in first.iter().zip(answers) {
        // The key of what expired is free.
        let is_new = matches!(answer, Appended::Stored(_));
        assert_eq!(is_new, *id == died, "{answer:?}");
    }
    stage.close().await;
}
