//! C8 and C2: no room refuses whole batches, and ends by itself. And what is counted.

use std::collections::BTreeSet;

use super::*;
use crate::spool::{AppendError, DestinationStats};

static BODY: [u8; 64 << 10] = [b'x'; 64 << 10];

/// Four keyed events of 64 KiB.
fn large<S: Store>(stage: &Stage<S>, batch: u16) -> Vec<NewEvent> {
    let keyed = |place: u8| {
        let mut key = [place; 16];
        key[..2].copy_from_slice(&batch.to_le_bytes());
        let dedupe = Dedupe { key: DedupeKey(key), window: HOUR, fingerprint: print_of(place) };
        NewEvent { dedupe: Some(dedupe), ..stage.event(&BODY, &["a"]) }
    };
    (0..4).map(keyed).collect()
}

pub(crate) async fn a_full_spool_refuses_whole_batches_and_recovers<S: Store>() {
    let mut stage = Stage::<S>::with(16 << 20);
    let mut stored = BTreeSet::new();
    let mut batch = 0;
    let (used_bytes, limit_bytes) = loop {
        assert!(batch < 64, "16 MiB took 64 batches of 256 KiB");
        let events = large(&stage, batch);
        let ids: Vec<EventId> = events.iter().map(|new| new.event.id).collect();
        match stage.spool().append(Batch { events, request: None }).await {
            Ok(_) => stored.extend(ids),
            Err(AppendError::Full { used_bytes, limit_bytes }) => break (used_bytes, limit_bytes),
            Err(other) => panic!("{other:?}"),
        }
        batch += 1;
    };
    assert!(batch >= 16, "full after {batch} batches of 256 KiB");
    assert!(used_bytes <= limit_bytes, "{used_bytes} of {limit_bytes}");
    assert!(stage.stats().await.full);

    // Deliveries go on, and nothing of the refused batch is among them.
    let leases = by_id(stage.take_all("a").await);
    assert_eq!(leases.keys().copied().collect::<BTreeSet<_>>(), stored);
    stage.deliver(leases.into_values()).await;

    let patience = Instant::now() + PATIENCE;
    let answers = loop {
        assert!(Instant::now() < patience, "still full with everything delivered");
        match stage.spool().append(Batch { events: large(&stage, batch), request: None }).await {
            Ok(answers) => break answers,
            // A store may give room back on a thread of its own, which tells nobody.
            Err(AppendError::Full { .. }) => tokio::time::sleep(GLANCE).await,
            Err(other) => panic!("{other:?}"),
        }
    };
    let new =
        answers.appended.iter().filter(|answer| matches!(answer, Appended::Stored(_))).count();
    assert_eq!(new, 4, "the refused batch had taken a key");
    assert!(!stage.stats().await.full);
    stage.kill_and_reopen().await;
    assert!(stage.take("a", 4).await.iter().all(|lease| lease.event.body.bytes() == &BODY[..]));
    stage.finish().await;
}

pub(crate) async fn a_batch_beyond_the_store_is_too_large<S: Store>() {
    let stage = Stage::<S>::with(16 << 20);
    let mut events: Vec<NewEvent> = (0..75).flat_map(|batch| large(&stage, batch)).collect();
    let first = events[0].clone();
    let refused = stage.spool().append(Batch { events: events.clone(), request: None }).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    assert_eq!(spooled(&stage.stats().await), 0);
    events.truncate(1);
    assert_eq!(stage.append(events).await, [Appended::Stored(first.event.id)]);
    stage.finish().await;
}

pub(crate) async fn stats_count_what_is_there<S: Store>() {
    let mut stage = Stage::<S>::new();
    let backlog = NewEvent { lane: Lane::Backlog, ..stage.event(b"old", &["b"]) };
    stage.store(backlog).await;
    stage.clock.advance(Duration::from_secs(1));
    for _ in 0..5 {
        stage.store(stage.event(b"fresh", &["a"])).await;
    }
    stage.give_up("a", Cause::Refused).await;
    let retry = stage.take_one("a").await;
    stage.settle(retry, Settlement::RetryAt(stage.clock.now().after(HOUR))).await;
    stage.deliver(stage.take("a", 1).await).await;
    let held = stage.take_one("a").await;
    let second = Some(START.after(Duration::from_secs(1)));
    let empty = DestinationStats {
        name: to("a"),
        live: 0,
        backlog: 0,
        retrying: 0,
        in_flight: 0,
        dead: 0,
        dropped: 0,
        oldest: None,
    };
    let a = DestinationStats {
        live: 1,
        retrying: 1,
        in_flight: 1,
        dead: 1,
        oldest: second,
        ..empty.clone()
    };
    let b = DestinationStats { name: to("b"), backlog: 1, oldest: Some(START), ..empty.clone() };
    assert_eq!(stage.stats().await.destinations, [a, b.clone()]);
    drop(held);
    stage.close_and_reopen().await;
    // What was fresh before a restart is backlog after it, on every store.
    let a = DestinationStats { backlog: 2, retrying: 1, dead: 1, oldest: second, ..empty };
    let stats = stage.stats().await;
    assert_eq!((stats.destinations, stats.flow.recovered), (vec![a, b], 4));
    stage.finish().await;
}
