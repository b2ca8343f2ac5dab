//! C1, C2, C4 and C9: what was answered for is there, and what was begun is finished.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::timeout;

use super::*;
use crate::spool::{AppendError, SpoolFuture};

/// Stores events unlike each other, reopens, and expects them whole.
async fn survive<S: Store>(mut stage: Stage<S>, kill: bool) {
    let bodies: [&[u8]; 4] = [b"", b"{}", &[0, 255, 10, 13], &[b'x'; 70_000]];
    let mut expected = BTreeMap::new();
    for (number, kind) in EventKind::ALL.into_iter().cycle().take(20).enumerate() {
        let mut new = stage.event(bodies[number % 4], &["a"]);
        let event = Arc::get_mut(&mut new.event).unwrap();
        (event.kind, event.source) = (kind, SourceName::new(&format!("source-{}", number % 3)));
        expected.insert(event.id, event.clone());
        stage.store(new).await;
        stage.clock.advance(Duration::from_millis(7));
    }
    if kill {
        stage.kill_and_reopen().await;
    } else {
        stage.close_and_reopen().await;
    }
    assert_eq!(stage.stats().await.flow.recovered, 20);
    let leases = by_id(stage.take_all("a").await);
    let found: BTreeMap<_, _> =
        leases.iter().map(|(id, lease)| (*id, (*lease.event).clone())).collect();
    assert_eq!(found, expected);
    stage.deliver(leases.into_values()).await;
    assert_eq!(spooled(&stage.stats().await), 0);
    stage.finish().await;
}

pub(crate) async fn answered_events_survive_a_kill<S: Store>() {
    survive(Stage::<S>::new(), true).await;
}

pub(crate) async fn answered_events_survive_a_close<S: Store>() {
    survive(Stage::<S>::new(), false).await;
}

pub(crate) async fn an_append_dropped_after_its_first_poll_is_stored<S: Store>() {
    let stage = Stage::<S>::new();
    let new = stage.event(b"caller leaves", &["a"]);
    let id = new.event.id;
    let mut append = stage.spool().append(Batch { events: vec![new], request: None });
    poll_once(&mut append).await;
    drop(append);
    assert_eq!(stage.take_one("a").await.event.id, id);
    stage.finish().await;
}

/// A claim without its event would be answered `Duplicate` after the crash and never delivered.
pub(crate) async fn a_crash_amid_appends_loses_nothing<S: Store>() {
    let mut stage = Stage::<S>::new();
    for round in 0..4_u8 {
        let keys = round * 20..(round + 1) * 20;
        for key in keys.clone() {
            let events = vec![stage.keyed(key, 1, &["a"])];
            let mut append = stage.spool().append(Batch { events, request: None });
            poll_once(&mut append).await;
        }
        stage.kill_and_reopen().await;
        let repeats = keys.map(|key| stage.keyed(key, 1, &["a"])).collect();
        stage.append(repeats).await;
    }
    stage.kill_and_reopen().await;
    let leases = stage.take_all("a").await;
    let keys: BTreeSet<u8> = leases.iter().map(|lease| lease.event.body.bytes()[0]).collect();
    assert_eq!((leases.len(), keys), (80, (0..80).collect()));
    stage.finish().await;
}

pub(crate) async fn close_answers_every_append_it_took<S: Store>() {
    let mut stage = Stage::<S>::new();
    let spool = Arc::clone(stage.spool());
    let mut open: Vec<(EventId, SpoolFuture<'_, _, _>)> = Vec::new();
    let mut stored = BTreeSet::new();
    for _ in 0..24 {
        let new = stage.event(b"late", &["a"]);
        let id = new.event.id;
        let mut append = spool.append(Batch { events: vec![new], request: None });
        match poll_once(&mut append).await {
            Some(answer) => {
                assert_eq!(answer.unwrap().appended, [Appended::Stored(id)]);
                stored.insert(id);
            }
            None => open.push((id, append)),
        }
    }
    timeout(PATIENCE, spool.close()).await.expect("close ends").unwrap();
    for (id, append) in open {
        match timeout(PATIENCE, append).await.expect("every append is answered") {
            Ok(answer) => {
                assert_eq!(answer.appended, [Appended::Stored(id)]);
                stored.insert(id);
            }
            Err(AppendError::Closed) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    let late = Batch { events: vec![stage.event(b"too late", &["a"])], request: None };
    assert!(matches!(spool.append(late).await, Err(AppendError::Closed)));
    drop(spool);
    (stage.open, stage.open) = (None, Some(stage.store.open()));
    let leases = by_id(stage.take_all("a").await);
    assert_eq!(leases.keys().copied().collect::<BTreeSet<_>>(), stored);
    stage.finish().await;
}

pub(crate) async fn an_event_owed_to_nobody_is_stored<S: Store>() {
    let stage = Stage::<S>::new();
    let of = stage.store(stage.keyed(1, 1, &[])).await;
    let repeat = stage.append(vec![stage.keyed(1, 2, &[])]).await;
    assert_eq!(repeat, [Appended::Duplicate { of, fingerprint: print_of(1) }]);
    assert_eq!(spooled(&stage.stats().await), 0);
    stage.finish().await;
}
