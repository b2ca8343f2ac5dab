//! Stops and starts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use super::super::{Embedded, Settings};
use super::stage::{HOUR, Stage, copy, refusal, said};
use crate::event::EventId;
use crate::spool::{AppendError, Appended, Cause, Later, NewEvent, Settlement, Spool, Want};

#[tokio::test]
async fn a_second_opener_is_refused() {
    let mut stage = Stage::new();
    let fault = Embedded::open(stage.settings.clone(), stage.clock.clone()).unwrap_err();
    let lock = stage.path("LOCK").display().to_string();
    let holder = format!("process {} has this spool open", std::process::id());
    for words in [&lock, &holder, "directory of its own"] {
        assert!(fault.to_string().contains(words), "{words}: {fault}");
    }
    stage.close_and_reopen().await;
}

#[tokio::test]
async fn a_closed_spool_lets_go_of_its_directory_while_it_is_still_there() {
    let stage = Stage::new();
    stage.spool().close().await.unwrap();
    stage.spool().close().await.unwrap();
    let next = Embedded::open(stage.settings.clone(), stage.clock.clone()).unwrap();
    drop(next);
}

#[tokio::test]
async fn a_newer_format_is_refused_with_both_numbers() {
    let mut stage = Stage::new();
    stage.close().await;
    fs::write(stage.path("FORMAT"), "beacon-relay spool format 2\n").unwrap();
    let fault = stage.open().unwrap_err().to_string();
    let format = stage.path("FORMAT").display().to_string();
    for words in [&format, "format 2", "up to 1", "name another directory"] {
        assert!(fault.contains(words), "{words}: {fault}");
    }
    fs::write(stage.path("FORMAT"), "something else\n").unwrap();
    assert!(stage.open().is_err());
    fs::write(stage.path("FORMAT"), "beacon-relay spool format 1\n").unwrap();
    stage.open().unwrap();
}

#[tokio::test]
async fn a_file_system_without_room_for_events_is_told_at_the_start() {
    let mut stage = Stage::new();
    stage.store(vec![stage.keyed(1, &["a"])]).await;
    stage.close().await;
    stage.rig.set_free(Some(1000));
    let said = said(|| stage.open().unwrap());
    assert!(said.contains("WARN") && said.contains("free_bytes=1000"), "{said}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let settings = Settings::at(file.join("spool"));
    let fault = Embedded::open(settings.clone(), crate::clock::Clock::system()).unwrap_err();
    let fault = fault.to_string();
    let doing = format!("creating directory {}:", settings.path.display());
    assert!(fault.contains(&doing) && fault.contains("name a directory"), "{fault}");
}

#[test]
fn a_store_too_small_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { max_bytes: 1000, ..Settings::at(dir.path()) };
    assert!(Embedded::open(settings, crate::clock::Clock::system()).is_err());
}

#[tokio::test]
async fn a_copy_taken_while_it_runs_opens_with_every_answered_event() {
    let mut stage = Stage::new();
    let mut ids = BTreeSet::new();
    let copies = tempfile::tempdir().unwrap();
    for round in 0..4_u64 {
        let keys = round * 10..round * 10 + 10;
        ids.extend(stage.store(keys.map(|key| stage.keyed(key, &["a"])).collect()).await);
        let at = copies.path().join(round.to_string());
        copy(&stage.settings.path, &at);
        let settings = Settings { path: at, ..stage.settings.clone() };
        let copied = Embedded::open(settings, stage.clock.clone()).unwrap();
        let to = super::stage::to("a");
        let leases = copied.lease(&to, Want::any(100), Duration::ZERO).await.unwrap();
        let found: BTreeSet<EventId> = leases.iter().map(|lease| lease.event.id).collect();
        assert_eq!(found, ids, "round {round}");
    }
    stage.close().await;
}

#[tokio::test]
async fn what_a_kill_interrupted_is_known_and_nothing_else_is_taken_for_it() {
    let mut stage = Stage::new();
    let ids = stage.store((0..6).map(|key| stage.keyed(key, &["a"])).collect()).await;
    let now = stage.clock.now();
    let sooner = |due| Later { due, attempted: true, sent_at: Some(now) };
    let mut leases = stage.lease_all("a").await;
    assert!(leases.values().all(|lease| !lease.interrupted));
    let mut settle = Vec::from([
        (1, Settlement::PutBack),
        (2, Settlement::RetryAt(now.after(Duration::from_secs(2)))),
        (3, Settlement::Later(sooner(now.after(Duration::from_secs(2))))),
        (4, Settlement::RetryAt(now.after(HOUR))),
        (5, Settlement::Delivered),
    ]);
    for (n, settlement) in settle.drain(..) {
        stage.settle(leases.remove(&ids[n]).unwrap(), settlement).await;
    }
    // Nobody takes anything before the second kill, so that it changes nothing.
    let told = said(|| stage.kill_and_reopen());
    assert!(told.contains("WARN") && told.contains("under way when the relay"), "{told}");
    stage.kill_and_reopen();
    for round in 0..2 {
        stage.clock.advance(2 * HOUR);
        let leases = stage.lease_all("a").await;
        let interrupted =
            |n: usize| leases.get(&ids[n]).map(|lease: &crate::spool::Lease| lease.interrupted);
        let found: Vec<_> = (0..5).map(interrupted).collect();
        let expected = [true, false, false, true, false].map(Some);
        assert_eq!(found, expected, "round {round}");
        // Its acknowledgement was written before the kill, or not.
        assert_ne!(interrupted(5), Some(false));
        for (_, lease) in leases {
            stage.settle(lease, Settlement::PutBack).await;
        }
        // An orderly stop interrupts nothing, and does not make up for what a kill did.
        stage.close_and_reopen().await;
    }
    stage.deliver(stage.lease_all("a").await.into_values()).await;
    stage.close_and_reopen().await;
    stage.close().await;
}

#[tokio::test]
async fn a_close_forgets_neither_when_a_near_retry_is_due_nor_its_attempts() {
    let mut stage = Stage::new();
    stage.store((0..300).map(|key| stage.keyed(key, &["a"])).collect()).await;
    let due = stage.clock.now().after(Duration::from_secs(4));
    for lease in stage.lease_all("a").await.into_values() {
        stage.settle(lease, Settlement::RetryAt(due)).await;
    }
    stage.close_and_reopen().await;
    assert_eq!(stage.stats().await.destinations[0].retrying, 300);
    assert_eq!(stage.lease("a", 1).await.len(), 0);
    stage.clock.advance(Duration::from_secs(4));
    let leases = stage.lease_all("a").await;
    assert!(leases.values().all(|lease| lease.attempts == 1));
    assert_eq!(leases.len(), 300);
}

#[tokio::test]
async fn deliveries_to_a_destination_that_nobody_serves_any_more_are_kept() {
    let mut stage = Stage::new();
    let gone = stage.store(vec![stage.keyed(1, &["gone"])]).await;
    for round in 0..3 {
        let keys = 10 + round * 100..60 + round * 100;
        let events = keys.map(|key| {
            let mut new = stage.keyed(key, &["a"]);
            new.event = stage.event(&[b'x'; 2000], &[]).event;
            new
        });
        stage.store(events.collect()).await;
        let leases = stage.lease_all("a").await;
        stage.deliver(leases.into_values()).await;
        stage.close_and_reopen().await;
    }
    assert_eq!(stage.ids("gone").await, gone.into_iter().collect());
}

#[tokio::test]
async fn segments_of_every_log_are_freed_when_nothing_in_them_is_owed() {
    let mut stage = Stage::with(2 << 20);
    let body = [b'x'; 3000];
    for _ in 0..12 {
        stage.store((0..40).map(|_| stage.event(&body, &["a"])).collect()).await;
        let mut leases: Vec<_> = stage.lease_all("a").await.into_values().collect();
        let retry_at = stage.clock.now().after(HOUR);
        for lease in leases.drain(..15) {
            stage.settle(lease, Settlement::RetryAt(retry_at)).await;
        }
        for lease in leases.drain(..10) {
            stage.settle(lease, Settlement::DeadLetter(refusal(Cause::Refused))).await;
        }
        stage.deliver(leases).await;
        stage.clock.advance(HOUR);
        let leases = stage.lease_all("a").await;
        assert_eq!(leases.len(), 15);
        stage.deliver(leases.into_values()).await;
        let ids: Vec<_> = stage.letters().await.iter().map(|letter| letter.id).collect();
        assert_eq!(stage.spool().replay(&ids).await.unwrap().replayed, 10);
        let leases = stage.lease_all("a").await;
        assert_eq!(leases.len(), 10);
        stage.deliver(leases.into_values()).await;
        stage.close_and_reopen().await;
    }
    // An open one each is left, besides two spares.
    for dir in ["log", "retry", "dead"] {
        assert!(stage.files(dir, ".seg").len() <= 2, "{dir}: {:?}", stage.files(dir, ".seg"));
        assert_eq!(stage.files(dir, ".seg").len(), stage.files(dir, ".ack").len(), "{dir}");
    }
    assert_eq!(stage.stats().await.flow.recovered, 0);
    assert!(stage.files("log", ".spare").len() <= 2);
}

#[tokio::test]
async fn a_segment_goes_only_when_its_keys_are_kept_elsewhere() {
    let mut stage = Stage::new();
    for round in 0..8 {
        let events = (0..40).map(|number| {
            let new = stage.keyed(round * 40 + number, &["a"]);
            let large = stage.event(&[b'x'; 1000], &["a"]);
            NewEvent { event: large.event, ..new }
        });
        stage.store(events.collect()).await;
        let leases = stage.lease_all("a").await;
        stage.deliver(leases.into_values()).await;
        stage.spool().shared.bell.hurry();
    }
    // Fullness makes the other thread sync and free as often as it can.
    while stage.files("log", ".spare").len() < 2 {
        stage.spool().shared.pool.set_full(true);
        tokio::task::yield_now().await;
    }
    stage.kill_and_reopen();
    for key in 0..320 {
        let answer = stage.try_append(vec![stage.keyed(key, &["a"])]).await.unwrap();
        assert!(matches!(answer[..], [Appended::Duplicate { .. }]), "key {key} is forgotten");
    }
}

#[tokio::test]
async fn more_letters_than_a_segment_holds_are_replayed() {
    let mut stage = Stage::with(6 << 20);
    let mut ids = BTreeSet::new();
    for _ in 0..12 {
        let events = (0..4).map(|_| stage.event(&[b'x'; 20_000], &["a"])).collect();
        ids.extend(stage.store(events).await);
        for lease in stage.lease_all("a").await.into_values() {
            stage.settle(lease, Settlement::DeadLetter(refusal(Cause::Refused))).await;
        }
    }
    let letters = stage.letters().await;
    let of: Vec<_> = letters.iter().map(|letter| letter.id).collect();
    assert_eq!(stage.spool().replay(&of).await.unwrap().replayed, 48);
    stage.kill_and_reopen();
    assert_eq!(stage.ids("a").await, ids);
}

#[tokio::test]
async fn more_destinations_than_a_segment_has_slots_take_turns() {
    let mut stage = Stage::with(16 << 20);
    let names: Vec<String> = (0..80).map(|number| format!("d{number:02}")).collect();
    let mut ids = BTreeMap::new();
    for name in &names {
        ids.insert(name, stage.store(vec![stage.event(b"one", &[name])]).await);
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let wide = stage.event(b"wide", &all[..33]);
    let refused = stage.try_append(vec![wide]).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    let (first, second) = (stage.event(b"32", &all[..32]), stage.event(b"32", &all[40..72]));
    let (first, second) =
        tokio::join!(stage.try_append(vec![first]), stage.try_append(vec![second]));
    assert!(first.is_ok() && second.is_ok());
    stage.kill_and_reopen();
    for (number, name) in names.iter().enumerate() {
        let expected = if number < 32 || (40..72).contains(&number) { 2 } else { 1 };
        let found = stage.ids(name).await;
        assert!(found.contains(&ids[name][0]));
        assert_eq!(found.len(), expected, "{name}");
    }
}

/// What must have become of an event, whatever was killed in between.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Owed,
    Delivered,
    /// Settled, and a kill may have forgotten that.
    Forgotten,
    /// Settled, and a close has noted it.
    Gone,
    Dead,
}

/// Random appends, settlements, replays, kills and closes lose nothing and repeat little.
#[tokio::test]
async fn nothing_is_lost_by_any_order_of_stops() {
    let seed = std::env::var("SPOOL_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in seed.map_or(0..2, |seed| seed..seed + 1) {
        println!("SPOOL_SEED={seed}");
        random_life(seed).await;
    }
}

async fn random_life(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut stage = Stage::with(8 << 20);
    let mut fates: BTreeMap<(EventId, &str), Fate> = BTreeMap::new();
    let names = ["a", "b", "c"];
    let (mut key, mut keys) = (0, BTreeMap::new());
    for _ in 0..60 {
        match random.u8(0..10) {
            0..=3 => {
                let mut events = Vec::new();
                for _ in 0..random.usize(1..20) {
                    let to: Vec<&str> = names.into_iter().filter(|_| random.bool()).collect();
                    key += 1;
                    let new = stage.keyed(key, &to);
                    keys.insert(new.event.id, key);
                    fates.extend(to.iter().map(|name| ((new.event.id, *name), Fate::Owed)));
                    events.push(new);
                }
                stage.store(events).await;
            }
            4..=6 => {
                let name = names[random.usize(0..3)];
                let now = stage.clock.now();
                for lease in stage.lease(name, random.usize(1..30)).await {
                    let fate = fates.get_mut(&(lease.event.id, name)).unwrap();
                    assert!(matches!(fate, Fate::Owed | Fate::Forgotten), "{fate:?}");
                    let later = |wait, attempted| {
                        let due = now.after(wait);
                        Settlement::Later(Later { due, attempted, sent_at: Some(now) })
                    };
                    if random.u8(0..8) == 0 {
                        stage.spool().hasten(&super::stage::to(name)).await.unwrap();
                    }
                    let settlement = match random.u8(0..8) {
                        6 => later(HOUR, true),
                        7 => later(Duration::from_secs(2), false),
                        0 | 1 => Settlement::Delivered,
                        2 => Settlement::RetryAt(now.after(HOUR)),
                        3 => Settlement::RetryAt(now.after(Duration::from_secs(2))),
                        4 => Settlement::PutBack,
                        _ => Settlement::DeadLetter(refusal(Cause::Refused)),
                    };
                    *fate = match settlement {
                        Settlement::Delivered => Fate::Delivered,
                        Settlement::DeadLetter(_) | Settlement::GivenUp(_) => Fate::Dead,
                        Settlement::RetryAt(_) | Settlement::Later(_) | Settlement::PutBack => {
                            Fate::Owed
                        }
                    };
                    stage.settle(lease, settlement).await;
                }
            }
            7 => {
                let letters = stage.letters().await;
                for letter in &letters {
                    let name = names.into_iter().find(|n| *n == letter.to.as_str()).unwrap();
                    let fate = fates.get_mut(&(letter.event.id, name)).unwrap();
                    assert_eq!(*fate, Fate::Dead);
                    *fate = Fate::Owed;
                }
                let ids: Vec<_> = letters.iter().map(|letter| letter.id).collect();
                assert_eq!(stage.spool().replay(&ids).await.unwrap().replayed, letters.len());
            }
            8 => {
                stage.kill_and_reopen();
                let delivered = fates.values_mut().filter(|f| **f == Fate::Delivered);
                delivered.for_each(|f| *f = Fate::Forgotten);
            }
            _ => {
                stage.close_and_reopen().await;
                fates.values_mut().filter(|f| **f == Fate::Delivered).for_each(|f| *f = Fate::Gone);
            }
        }
        stage.stats().await;
        stage.clock.advance(Duration::from_millis(random.u64(0..HOUR.as_millis() as u64)));
    }
    stage.clock.advance(2 * HOUR);
    let dead: BTreeSet<(EventId, String)> = stage
        .letters()
        .await
        .into_iter()
        .map(|letter| (letter.event.id, letter.to.as_str().to_owned()))
        .collect();
    for name in names {
        let found = stage.ids(name).await;
        for ((id, of), fate) in fates.iter().filter(|((_, of), _)| *of == name) {
            let (owed, letter) = (found.contains(id), dead.contains(&(*id, (*of).to_owned())));
            let right = match fate {
                Fate::Owed => owed && !letter,
                Fate::Forgotten => !letter,
                Fate::Delivered | Fate::Gone => !owed && !letter,
                Fate::Dead => !owed && letter,
            };
            assert!(right, "seed {seed}: {id} to {of} is {fate:?}, owed {owed}, letter {letter}");
        }
    }
    // A key is free when nothing of its event can arrive any more, and taken otherwise.
    for (id, key) in keys {
        let fates: Vec<Fate> =
            fates.iter().filter(|((of, _), _)| *of == id).map(|(_, fate)| *fate).collect();
        let free = !fates.is_empty() && fates.iter().all(|fate| *fate == Fate::Dead);
        let answer = stage.try_append(vec![stage.keyed(key, &[])]).await.unwrap();
        let taken = matches!(answer[..], [Appended::Duplicate { of, .. }] if of == id);
        assert_eq!(taken, !free, "seed {seed}: {id} {fates:?} {answer:?}");
    }
}

#[tokio::test]
async fn a_close_forgets_no_attempt_of_what_is_due_and_was_not_taken() {
    let mut stage = Stage::new();
    stage.store((0..3).map(|_| stage.event(b"tried", &["a"])).collect()).await;
    for lease in stage.lease("a", 3).await {
        let soon = stage.clock.now().after(std::time::Duration::from_secs(2));
        stage.settle(lease, Settlement::RetryAt(soon)).await;
    }
    stage.clock.advance(HOUR);
    // All three are read, one is taken.
    assert_eq!(stage.lease("a", 1).await[0].attempts, 1);
    stage.close_and_reopen().await;
    let attempts: Vec<_> = stage.lease("a", 3).await.iter().map(|lease| lease.attempts).collect();
    assert_eq!(attempts.iter().filter(|attempts| **attempts == 1).count(), 2, "{attempts:?}");
}

#[tokio::test]
async fn a_spare_that_is_a_segment_by_another_name_is_not_used() {
    let mut stage = Stage::new();
    let kept = stage.store(vec![stage.event(b"kept", &["a"])]).await;
    stage.kill();
    // A rename from one directory to another that a power cut left half done.
    let segment = stage.files("log", ".seg").remove(0);
    fs::hard_link(&segment, stage.path("log/90.spare")).unwrap();
    stage.open().unwrap();
    // New destinations begin new segments, in spares.
    for name in ["b", "c", "d"] {
        stage.store(vec![stage.event(b"new", &[name])]).await;
    }
    stage.kill_and_reopen();
    assert_eq!(stage.ids("a").await, kept.into_iter().collect());
    assert_eq!(stage.stats().await.damaged_records, 0);
    assert!(!stage.path("log/90.spare").exists());
}

#[tokio::test]
async fn a_key_is_free_over_a_kill_though_the_file_of_its_letter_is_gone() {
    let mut stage = Stage::new();
    let bury = Settlement::DeadLetter(refusal(Cause::Refused));
    stage.store(vec![stage.keyed(7, &["a"])]).await;
    for lease in stage.lease("a", 1).await {
        let id = lease.id;
        stage.settle(lease, bury.clone()).await;
        assert_eq!(stage.spool().drop_dead(&[id]).await.unwrap(), 1);
    }
    // A letter to a destination that is new begins a file of dead/, so nothing keeps the first.
    stage.store(vec![stage.event(b"other", &["c"])]).await;
    for lease in stage.lease("c", 1).await {
        stage.settle(lease, bury.clone()).await;
    }
    let shared = &stage.spool().shared;
    assert!(shared.rounds.pass(&shared.bell, shared.fault.subscribe()).await);
    stage.kill_and_reopen();
    // Whoever sends the corrected order again is not told that it is known.
    stage.store(vec![stage.keyed(7, &["a"])]).await;
}
