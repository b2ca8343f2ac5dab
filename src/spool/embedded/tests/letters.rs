//! Many dead letters: found without reading all, kept within bytes and age, carried when few.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::stage::{HOUR, Stage, refusal, said};
use crate::event::EventId;
use crate::spool::embedded::retention::Retention;
use crate::spool::{Cause, DeadFilter, DeadLetter, DeadQuery, Settlement, Spool};

const PATIENCE: Duration = Duration::from_secs(60);

/// Stores events of `bytes` bytes and gives all of them up; answers their ids.
async fn bury(stage: &Stage, count: u64, bytes: usize) -> Vec<EventId> {
    let events = (0..count).map(|_| stage.event(&vec![b'x'; bytes], &["a"])).collect();
    let ids = stage.store(events).await;
    for lease in stage.lease_all("a").await.into_values() {
        stage.settle(lease, Settlement::DeadLetter(refusal(Cause::Refused))).await;
    }
    ids
}

fn ids(letters: &[DeadLetter]) -> BTreeSet<EventId> {
    letters.iter().map(|letter| letter.event.id).collect()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < patience, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn letters_of_many_segments_are_listed_in_order_and_found_by_name() {
    let mut stage = Stage::with(8 << 20);
    let mut stored = BTreeSet::new();
    for _ in 0..8 {
        stored.extend(bury(&stage, 100, 1000).await);
    }
    assert!(stage.files("dead", ".seg").len() > 3);
    for round in 0..4 {
        let letters = stage.letters().await;
        assert!(letters.is_sorted_by_key(|letter| letter.id));
        assert_eq!(ids(&letters), stored, "round {round}");
        for letter in letters.iter().step_by(37) {
            let found = stage.spool().dead_letter(letter.id).await.unwrap();
            assert_eq!(found.as_ref(), Some(letter), "round {round}");
        }
        let indexes = stage.files("dead", ".idx");
        assert_eq!(indexes.len() + 1, stage.files("dead", ".seg").len(), "round {round}");
        match round {
            0 => stage.kill_and_reopen(),
            // An index that does not pass is made again; one without its segment goes.
            1 => {
                stage.kill();
                let mut bytes = fs::read(&indexes[1]).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&indexes[1], bytes).unwrap();
                fs::write(&indexes[2], b"short").unwrap();
                fs::copy(&indexes[0], stage.path("dead/99999.idx")).unwrap();
                stage.open().unwrap();
                assert!(!stage.path("dead/99999.idx").exists());
            }
            _ => stage.close_and_reopen().await,
        }
    }
}

#[tokio::test]
async fn a_page_of_few_among_many_ends_after_a_bounded_search_and_goes_on() {
    let stage = Stage::with(64 << 20);
    for _ in 0..12 {
        bury(&stage, 1000, 10).await;
    }
    let last = stage.letters_all().await.pop().unwrap();
    let wanted = last.event.id;
    let (mut after, mut pages, mut found) = (None, 0, Vec::new());
    loop {
        let filter = DeadFilter::new(move |letter| letter.event.id == wanted);
        let page = stage.spool().dead(DeadQuery { after, max: 5, filter }).await.unwrap();
        (pages, after) = (pages + 1, page.next);
        found.extend(page.letters);
        if after.is_none() {
            break;
        }
    }
    assert_eq!((pages, found), (2, vec![last]));
}

#[tokio::test]
async fn a_letter_that_is_damaged_after_it_was_indexed_is_told() {
    let mut stage = Stage::new();
    bury(&stage, 3, 1000).await;
    let letters = stage.letters().await;
    let dead = stage.files("dead", ".seg").remove(0);
    let mut bytes = fs::read(&dead).unwrap();
    let id = letters[1].event.id.to_bytes();
    let at = bytes.windows(16).position(|window| window == id).unwrap();
    bytes[at + 60] ^= 1;
    fs::write(&dead, bytes).unwrap();
    for _ in 0..2 {
        assert_eq!(ids(&stage.letters().await), [letters[0].event.id, letters[2].event.id].into());
        assert_eq!(stage.spool().dead_letter(letters[1].id).await.unwrap(), None);
        let stats = stage.stats().await;
        assert_eq!((stats.damaged_records, stats.destinations[0].dead), (1, 2));
        assert_eq!(stats.flow.letters_lost, 1);
    }
    assert!(!stage.files("quarantine", ".bytes").is_empty());
    stage.kill_and_reopen();
    assert_eq!(stage.letters().await.len(), 2);
}

#[tokio::test]
async fn letters_beyond_their_bytes_go_oldest_first_and_are_counted() {
    let mut stage = Stage::with(16 << 20);
    stage.kill();
    stage.settings.dead_max_bytes = 1 << 20;
    stage.open().unwrap();
    let mut stored = Vec::new();
    for _ in 0..20 {
        stored.push(bury(&stage, 100, 1000).await);
    }
    let limit = 1 << 20;
    until("letters go", async || stage.stats().await.dead_bytes <= limit).await;
    let stats = stage.stats().await;
    assert_eq!(stats.dead_limit_bytes, limit);
    assert!(stats.dead_bytes > limit / 2, "more went than had to: {stats:?}");
    let letters = stage.letters().await;
    let kept = letters.len();
    // Those of one round died in any order; of the rounds the youngest stay.
    let rounds = kept.div_ceil(100);
    let youngest: BTreeSet<EventId> = stored[20 - rounds..].iter().flatten().copied().collect();
    assert!(ids(&letters).is_subset(&youngest), "an older one stayed");
    let a = &stats.destinations[0];
    assert_eq!(
        (a.dead, a.dropped, stats.flow.dropped),
        (kept as u64, 2000 - kept as u64, a.dropped)
    );
    // The room comes back.
    let sealed = async || {
        let sizes = stage.files("dead", ".seg").into_iter().map(fs::metadata);
        // The last one is being written to, and one may go while we look.
        let mut sizes: Vec<u64> = sizes.filter_map(Result::ok).map(|meta| meta.len()).collect();
        sizes.pop();
        sizes.iter().sum::<u64>() <= limit
    };
    until("room", sealed).await;
    stage.close_and_reopen().await;
    assert_eq!(stage.letters().await.len(), kept);
}

#[tokio::test]
async fn letters_that_are_too_old_are_dropped_and_younger_ones_stay() {
    let stage = Stage::with(16 << 20);
    let day = 24 * HOUR;
    bury(&stage, 300, 2000).await;
    stage.clock.advance(29 * day);
    let young = bury(&stage, 100, 2000).await;
    assert_eq!(stage.stats().await.destinations[0].dead, 400);
    stage.clock.advance(day + HOUR);
    until("the old ones go", async || stage.stats().await.destinations[0].dead == 100).await;
    assert_eq!(ids(&stage.letters().await), young.into_iter().collect());
    let stats = stage.stats().await;
    assert_eq!((stats.destinations[0].dropped, stats.flow.dropped), (300, 300));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_leaps_drops_no_letter_until_it_went_on_for_a_day() {
    let mut stage = Stage::with(16 << 20);
    bury(&stage, 50, 2000).await;
    let start = stage.clock.now();
    let year = 365 * 24 * HOUR;
    for to in [start.after(10 * year), start, start.after(year)] {
        stage.clock.leap(to);
        let shared = &stage.spool().shared;
        // The committing thread answers it, so not from one of the runtime's.
        tokio::task::block_in_place(|| Retention::default().step(shared)).unwrap();
        assert_eq!(stage.stats().await.destinations[0].dead, 50, "{to}");
        // Nor by a start: what was believed before is on disk.
        stage.close_and_reopen().await;
    }
    // Once it was seen, a day decides.
    assert!(stage.clock.believed() < start.after(24 * HOUR));
    stage.clock.advance(25 * HOUR);
    until("the operator meant it", async || stage.stats().await.destinations[0].dead == 0).await;
}

#[test]
fn before_a_letter_is_dropped_for_bytes_that_is_said_once() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stage = Stage::with(16 << 20);
    let mut retention = Retention::default();
    let shared = stage.spool().shared.clone();
    let limit = shared.settings.dead_limit();
    let words = said(|| {
        // Letters of 20 kB each to just above four fifths.
        runtime.block_on(bury(&stage, limit / 10 * 8 / 20_000 / 2, 20_000));
        retention.step(&shared).unwrap();
        runtime.block_on(bury(&stage, limit / 10 * 8 / 20_000 / 2 + 4, 20_000));
        retention.step(&shared).unwrap();
        retention.step(&shared).unwrap();
    });
    assert_eq!(words.matches("fill four fifths").count(), 1, "{words}");
    assert!(!words.contains("are dropped"), "{words}");
    drop(stage);
}

#[tokio::test]
async fn a_few_letters_keep_no_file_alive() {
    let mut stage = Stage::with(8 << 20);
    for _ in 0..6 {
        bury(&stage, 100, 2000).await;
    }
    let files = stage.files("dead", ".seg").len();
    assert!(files > 4);
    let letters = stage.letters().await;
    let (kept, gone): (Vec<_>, Vec<_>) =
        letters.into_iter().enumerate().partition(|(place, _)| place % 60 == 0);
    let kept: Vec<DeadLetter> = kept.into_iter().map(|(_, letter)| letter).collect();
    let gone: Vec<_> = gone.into_iter().map(|(_, letter)| letter.id).collect();
    assert_eq!(stage.spool().drop_dead(&gone).await.unwrap(), gone.len());
    until("files go", async || stage.files("dead", ".seg").len() <= 2).await;
    for _ in 0..2 {
        assert_eq!(stage.letters().await, kept, "carried as they were, and under their names");
        let stats = stage.stats().await;
        assert_eq!(stats.destinations[0].dead, kept.len() as u64);
        stage.kill_and_reopen();
    }
    let id = kept[3].id;
    assert_eq!(stage.spool().replay(&[id]).await.unwrap().replayed, 1);
    let lease = stage.lease("a", 9).await.remove(0);
    assert_eq!((lease.replay_of, lease.event.id), (Some(id), kept[3].event.id));
}

#[tokio::test]
async fn a_few_retries_keep_no_file_alive_and_are_made_once() {
    let mut stage = Stage::with(4 << 20);
    let far = stage.clock.now().after(100 * HOUR);
    let mut waiting = BTreeSet::new();
    for round in 0..6 {
        stage.store((0..100).map(|_| stage.event(&[b'x'; 2000], &["a"])).collect()).await;
        let near = stage.clock.now().after(HOUR);
        for (place, (id, lease)) in stage.lease_all("a").await.into_iter().enumerate() {
            let stays = place % 50 == 0;
            waiting.extend(stays.then_some(id));
            let due = if stays { far } else { near };
            stage.settle(lease, Settlement::RetryAt(due)).await;
        }
        assert!(round < 5 || stage.files("retry", ".seg").len() > 2);
    }
    stage.clock.advance(HOUR);
    let leases = stage.lease_all("a").await;
    assert_eq!(leases.len(), 600 - waiting.len());
    stage.deliver(leases.into_values()).await;
    until("files go", async || stage.files("retry", ".seg").len() <= 2).await;
    assert_eq!(stage.stats().await.destinations[0].retrying, waiting.len() as u64);
    stage.kill_and_reopen();
    stage.clock.advance(100 * HOUR);
    let leases = timeout(PATIENCE, stage.lease_all("a")).await.unwrap();
    assert!(leases.values().all(|lease| lease.attempts == 1));
    let found: BTreeSet<EventId> = leases.keys().copied().collect();
    // A kill may bring back what was delivered in the last second, and takes nothing.
    assert!(found.is_superset(&waiting));
    assert!(stage.lease("a", 1).await.is_empty());
    stage.deliver(leases.into_values()).await;
    stage.close_and_reopen().await;
    assert_eq!(stage.stats().await.flow.recovered, 0);
}
