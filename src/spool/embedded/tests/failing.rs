//! Disks that refuse: no room is answered and ends by itself, anything else is a fault.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::timeout;

use super::super::files::rigged::{Call, Failure, Rigged};
use super::super::files::{Disk, WriteError};
use super::super::pool::{Pool, Purpose};
use super::stage::{HOUR, Stage, refusal, said, to};
use crate::spool::{
    AppendError, Appended, Cause, DeadQuery, EndState, SettleError, Settlement, Spool, Want,
};

const PATIENCE: Duration = Duration::from_secs(60);

const fn once(call: Call, path: &'static str, error: Errno) -> Failure {
    Failure { call, path, skip: 0, times: 1, error }
}

const ALWAYS: u32 = u32::MAX;

/// Of segments.
fn writes_and_syncs(stage: &Stage) -> usize {
    let calls = stage.rig.calls();
    let of_segment = calls.iter().filter(|(call, path)| {
        matches!(call, Call::Write | Call::Sync) && path.to_string_lossy().ends_with(".spare")
    });
    of_segment.count()
}

#[tokio::test]
async fn a_failed_write_or_sync_is_a_fault_and_is_not_tried_again() {
    for call in [Call::Write, Call::Sync] {
        let mut stage = Stage::new();
        let kept = stage.store(vec![stage.keyed(1, &["a"])]).await;
        assert!(writes_and_syncs(&stage) > 0);
        let faulted = stage.spool().faulted();
        // By the name it was opened with: a spare becomes a segment by a rename.
        stage.rig.fail(once(call, ".spare", Errno::IO));
        let answer = stage.try_append(vec![stage.keyed(2, &["a"])]).await;
        assert!(matches!(answer, Err(AppendError::Fault(_))), "{call:?} {answer:?}");
        let fault = timeout(PATIENCE, faulted).await.expect("it tells");
        assert!(fault.to_string().contains("log/"), "{fault}");
        let calls = writes_and_syncs(&stage);
        let again = stage.try_append(vec![stage.keyed(3, &["a"])]).await;
        assert!(matches!(again, Err(AppendError::Fault(_))), "{call:?}");
        assert!(stage.spool().lease(&to("a"), Want::any(1), HOUR).await.is_err(), "{call:?}");
        assert!(stage.spool().stats().await.is_err(), "{call:?}");
        assert!(stage.spool().close().await.is_err(), "{call:?}");
        assert_eq!(writes_and_syncs(&stage), calls, "something was tried again after {call:?}");
        stage.rig.mend();
        stage.kill_and_reopen();
        assert!(stage.ids("a").await.contains(&kept[0]), "{call:?}");
    }
}

#[tokio::test]
async fn no_room_at_a_write_refuses_the_batch_whole() {
    let mut stage = Stage::new();
    let mut kept = stage.store(vec![stage.keyed(1, &["a"])]).await;
    stage.rig.set_free(Some(0));
    stage.rig.fail(once(Call::Write, ".seg", Errno::NOSPC));
    stage.rig.fail(once(Call::Write, ".spare", Errno::NOSPC));
    let refused = (10..20).map(|key| stage.keyed(key, &["a"])).collect();
    let answer = stage.try_append(refused).await;
    assert!(matches!(answer, Err(AppendError::Full { .. })), "{answer:?}");
    assert!(stage.stats().await.full);
    stage.rig.mend();
    stage.rig.set_free(None);
    // Its keys are not taken, and equally long records follow where its leftovers were.
    kept.extend(stage.store((10..20).map(|key| stage.keyed(key, &["a"])).collect()).await);
    assert!(!stage.stats().await.full);
    stage.kill();
    stage.forget_notes();
    stage.open().unwrap();
    assert_eq!(stage.ids("a").await, kept.into_iter().collect::<BTreeSet<_>>());
    assert_eq!(stage.stats().await.damaged_records, 0);
}

#[tokio::test]
async fn a_repeat_is_answered_while_there_is_no_room() {
    let stage = Stage::new();
    let first = stage.store(vec![stage.keyed(1, &["a"])]).await;
    stage.rig.fail(Failure { times: ALWAYS, ..once(Call::Write, "log/", Errno::NOSPC) });
    let answer = stage.try_append(vec![stage.keyed(2, &["a"])]).await;
    assert!(matches!(answer, Err(AppendError::Full { .. })), "{answer:?}");
    let answer = stage.try_append(vec![stage.keyed(1, &["a"])]).await.unwrap();
    assert!(matches!(answer[..], [crate::spool::Appended::Duplicate { of, .. }] if of == first[0]));
}

#[tokio::test]
async fn a_retry_without_room_waits_in_memory_and_a_letter_is_tried_again() {
    let stage = Stage::new();
    stage.store(vec![stage.keyed(1, &["a"]), stage.keyed(2, &["a"])]).await;
    let mut leases = stage.lease("a", 2).await;
    for dir in ["retry/", "dead/", ".spare"] {
        stage.rig.fail(Failure { times: ALWAYS, ..once(Call::Write, dir, Errno::NOSPC) });
        stage.rig.fail(Failure { times: ALWAYS, ..once(Call::Create, dir, Errno::NOSPC) });
    }
    let now = stage.clock.now();
    stage.settle(leases.remove(0), Settlement::RetryAt(now.after(HOUR))).await;
    let letter = Settlement::DeadLetter(refusal(Cause::Refused));
    let answer = stage.spool().settle(leases.remove(0), letter).await;
    assert!(matches!(answer, Err(SettleError::LeaseLost)), "{answer:?}");
    let stats = stage.stats().await;
    assert_eq!((stats.destinations[0].retrying, stats.destinations[0].dead), (2, 0));
    stage.rig.mend();
    stage.clock.advance(HOUR);
    let leases = stage.lease("a", 2).await;
    assert_eq!(leases.len(), 2);
    for lease in leases {
        stage.settle(lease, Settlement::DeadLetter(refusal(Cause::Refused))).await;
    }
    assert_eq!(stage.stats().await.destinations[0].dead, 2);
}

#[tokio::test]
async fn acknowledgements_without_room_are_written_later() {
    let mut stage = Stage::new();
    stage.rig.fail(Failure { times: ALWAYS, ..once(Call::Create, ".ack", Errno::NOSPC) });
    stage.store(vec![stage.keyed(1, &["a"])]).await;
    let lease = stage.lease("a", 1).await.remove(0);
    stage.deliver([lease]).await;
    while !stage
        .rig
        .calls()
        .iter()
        .any(|(call, path)| *call == Call::Create && path.to_string_lossy().ends_with(".ack"))
    {
        tokio::task::yield_now().await;
    }
    stage.stats().await;
    stage.rig.mend();
    stage.close_and_reopen().await;
    assert_eq!(stage.stats().await.flow.recovered, 0);
}

#[tokio::test]
async fn a_full_store_recovers_by_itself_and_reads_on_meanwhile() {
    let mut stage = Stage::new();
    let body = [b'x'; 4000];
    let mut stored = BTreeSet::new();
    loop {
        let events: Vec<_> = (0..5).map(|_| stage.event(&body, &["a"])).collect();
        let ids: Vec<_> = events.iter().map(|new| new.event.id).collect();
        match stage.try_append(events).await {
            Ok(_) => stored.extend(ids),
            Err(AppendError::Full { used_bytes, limit_bytes }) => {
                assert!(used_bytes <= limit_bytes);
                break;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    // The reserve takes what is given up and what waits.
    let mut leases = stage.lease_all("a").await;
    assert_eq!(leases.keys().copied().collect::<BTreeSet<_>>(), stored);
    let (_, dead) = leases.pop_first().unwrap();
    stage.settle(dead, Settlement::DeadLetter(refusal(Cause::Refused))).await;
    let (_, parked) = leases.pop_first().unwrap();
    let retry_at = stage.clock.now().after(HOUR);
    stage.settle(parked, Settlement::RetryAt(retry_at)).await;
    stage.deliver(leases.into_values()).await;
    let stored = timeout(PATIENCE, async {
        loop {
            let answer = stage.try_append(vec![stage.event(&body, &["a"])]).await;
            match answer {
                Ok(answer) => return answer,
                Err(AppendError::Full { .. }) => tokio::task::yield_now().await,
                Err(other) => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(stored.await.expect("room comes by itself").len(), 1);
    stage.close_and_reopen().await;
    let stats = stage.stats().await;
    assert_eq!((stats.flow.recovered, stats.destinations[0].dead), (2, 1));
    assert!(stats.used_bytes <= stats.limit_bytes);
}

/// Stores until that is refused.
async fn fill(stage: &Stage) -> AppendError {
    let body = [b'x'; 10_000];
    let full = timeout(PATIENCE, async {
        loop {
            match stage.try_append((0..8).map(|_| stage.event(&body, &["a"])).collect()).await {
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    });
    full.await.expect("a few files at most were there")
}

#[tokio::test]
async fn room_that_others_took_is_no_room() {
    let stage = Stage::new();
    stage.rig.set_free(Some(1000));
    let full = fill(&stage).await;
    assert!(matches!(full, AppendError::Full { used_bytes, .. } if used_bytes < 1 << 19), "{full}");
    stage.rig.set_free(None);
    stage.store(vec![stage.event(&[b'x'; 10_000], &["a"])]).await;
}

#[tokio::test]
async fn room_that_comes_back_is_seen_without_an_append() {
    let stage = Stage::new();
    stage.rig.set_free(Some(1000));
    let full = fill(&stage).await;
    assert!(matches!(full, AppendError::Full { .. }), "{full}");
    assert!(stage.stats().await.full);
    stage.rig.set_free(None);
    let seen = timeout(PATIENCE, async {
        while stage.stats().await.full {
            tokio::task::yield_now().await;
        }
    });
    seen.await.expect("the store looks for room by itself");
}

#[test]
fn too_little_room_on_the_file_system_is_said_once_with_its_need() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rigged::default();
    let disk = Disk::new(Arc::new(rig.clone()), dir.path().to_owned());
    disk.make_dir("log").unwrap();
    let pool = Pool::new(disk, 1 << 17, 1 << 20);
    let needed = 2 * (1 << 18) + (1 << 17);
    let said = said(|| {
        for _ in 0..2 {
            rig.set_free(Some(needed - 1));
            for _ in 0..3 {
                assert!(matches!(pool.take(Purpose::Events), Err(WriteError::Full)));
            }
            rig.set_free(Some(needed));
            pool.take(Purpose::Events).unwrap();
        }
    });
    let words = [
        format!("free_bytes={}", needed - 1),
        format!("needed_bytes={needed}"),
        format!("path={}", dir.path().display()),
    ];
    assert_eq!(said.lines().count(), 2, "once each time it comes: {said}");
    for line in said.lines() {
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
}

#[tokio::test]
async fn a_full_disk_under_the_keys_refuses_what_has_a_key_and_nothing_else() {
    let mut stage = Stage::new();
    stage.store((1..4).map(|key| stage.keyed(key, &["a"])).collect()).await;
    let full = Arc::clone(&stage.spool().shared.keys_full_disk);
    let key = |key: u64| stage.keyed(key, &["a"]).dedupe.unwrap().key;
    let (first, last) = (key(1), key(3));
    full.store(true, Ordering::Relaxed);
    // The keys are synced each second, and meet the full disk then.
    let mut more = 10;
    timeout(PATIENCE, async {
        while stage.try_append(vec![stage.keyed(more, &["b"])]).await.is_ok() {
            more += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it is refused");
    let refused = stage.try_append(vec![stage.keyed(1, &["a"])]).await;
    assert!(matches!(refused, Err(AppendError::Full { .. })), "{refused:?}");
    assert!(stage.stats().await.full);
    assert!(stage.spool().find(first).await.is_err());
    // What has no key is taken, and everything is delivered or given up as ever.
    stage.store(vec![stage.event(b"no key", &["a"])]).await;
    let mut leases = Vec::new();
    while leases.len() < 4 {
        let more = stage.lease("a", 4).await;
        assert!(!more.is_empty(), "{} of 4 came", leases.len());
        leases.extend(more);
    }
    let third = 3_u64.to_le_bytes();
    let third = leases.iter().position(|lease| *lease.event.body.bytes() == third[..]);
    let dead = leases.remove(third.unwrap());
    stage.settle(dead, Settlement::DeadLetter(refusal(Cause::Refused))).await;
    for lease in leases {
        stage.settle(lease, Settlement::Delivered).await;
    }
    let letter = stage.letters().await[0].id;
    let replayed = stage.spool().replay(&[letter]).await;
    assert!(matches!(replayed, Err(AppendError::Full { .. })), "{replayed:?}");
    full.store(false, Ordering::Relaxed);
    let open = async {
        while stage.spool().find(first).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, open).await.expect("it goes on without a restart");
    assert!(!stage.stats().await.full);
    for round in 0..2 {
        let again = (10..more).chain([1, 2]).map(|key| stage.keyed(key, &["b"])).collect();
        let answers = stage.try_append(again).await.unwrap();
        let is_known = |answer: &Appended| matches!(answer, Appended::Duplicate { .. });
        assert!(answers.iter().all(is_known), "round {round}: {answers:?}");
        let found = stage.spool().find(last).await.unwrap().unwrap();
        assert_eq!(found.state, EndState::Dead, "round {round}");
        stage.close_and_reopen().await;
    }
}

#[tokio::test]
async fn an_input_output_error_anywhere_loses_nothing_that_was_answered_for() {
    for (call, path) in [
        (Call::Create, ".spare"),
        (Call::Rename, ".seg"),
        (Call::Write, "retry/"),
        (Call::Write, ".ack"),
        (Call::Sync, ".ack"),
        (Call::Write, "noted"),
        (Call::Sync, "noted"),
        (Call::Remove, ".ack"),
        (Call::Create, ".idx"),
    ] {
        let mut stage = Stage::with(4 << 20);
        let mut kept: BTreeSet<_> = BTreeSet::new();
        stage.rig.fail(Failure { skip: 1, ..once(call, path, Errno::IO) });
        let mut faulted = std::pin::pin!(stage.spool().faulted());
        let settled = async {
            for round in 0..40 {
                let events = (0..20).map(|n| stage.event(&[n; 3000], &["a"])).collect::<Vec<_>>();
                let ids: Vec<_> = events.iter().map(|new| new.event.id).collect();
                if stage.try_append(events).await.is_err() {
                    return;
                }
                kept.extend(ids);
                let Ok(leases) = stage.spool().lease(&to("a"), Want::any(9), Duration::ZERO).await
                else {
                    return;
                };
                for (place, lease) in leases.into_iter().enumerate() {
                    let id = lease.event.id;
                    let retry = Settlement::RetryAt(stage.clock.now().after(HOUR));
                    let letter = Settlement::DeadLetter(refusal(Cause::Refused));
                    let (settlement, ends) = match (place + round) % 3 {
                        0 => (Settlement::Delivered, true),
                        1 => (retry, false),
                        _ => (letter, false),
                    };
                    if stage.spool().settle(lease, settlement).await.is_err() {
                        return;
                    }
                    if ends {
                        kept.remove(&id);
                    }
                }
                if stage.spool().dead(DeadQuery::all(None, 5)).await.is_err() {
                    return;
                }
            }
        };
        settled.await;
        // What is written late fails late, and some of it is never asked for here.
        let fault = timeout(Duration::from_millis(1500), &mut faulted).await;
        if let Ok(fault) = fault {
            assert!(fault.to_string().contains("nput/output"), "{call:?} {path}: {fault}");
        }
        stage.rig.mend();
        stage.kill_and_reopen();
        let mut found = stage.ids("a").await;
        found.extend(stage.letters_all().await.into_iter().map(|letter| letter.event.id));
        stage.clock.advance(2 * HOUR);
        found.extend(stage.ids("a").await);
        assert!(
            found.is_superset(&kept),
            "{call:?} {path}: {} lost",
            kept.difference(&found).count()
        );
    }
}
