//! C14: a request with a known key is answered as the first time, and stores nothing.

use tokio::task::JoinSet;

use super::*;
use crate::spool::{AppendError, Receipt};

const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// A request's key, and a fingerprint of its body, by numbers.
fn request(key: u8, body: u8) -> Option<Dedupe> {
    let key = DedupeKey([0x80 | key; 16]);
    Some(Dedupe { key, window: WINDOW, fingerprint: print_of(body) })
}

async fn append<S: Store>(stage: &Stage<S>, batch: Batch) -> Receipt {
    stage.spool().append(batch).await.unwrap()
}

async fn reused<S: Store>(stage: &Stage<S>, batch: Batch) {
    let refused = stage.spool().append(batch).await;
    assert!(matches!(refused, Err(AppendError::KeyReused)), "{refused:?}");
}

pub(crate) async fn a_request_is_answered_as_the_first_time<S: Store>() {
    let mut stage = Stage::<S>::new();
    let known = stage.store(stage.keyed(1, 1, &["a"])).await;
    // Made anew each time, as the door makes them: ids are other ones, keys the same.
    let batch = |stage: &Stage<S>| Batch {
        events: vec![
            stage.keyed(1, 7, &["a"]),
            stage.keyed(2, 2, &["a"]),
            stage.event(b"no key", &["a"]),
            stage.keyed(2, 3, &["a"]),
        ],
        request: request(1, 1),
    };
    let first = batch(&stage);
    let ids: Vec<EventId> = first.events.iter().map(|new| new.event.id).collect();
    let appended = vec![
        Appended::Duplicate { of: known, fingerprint: print_of(1) },
        Appended::Stored(ids[1]),
        Appended::Stored(ids[2]),
        Appended::Duplicate { of: ids[1], fingerprint: print_of(2) },
    ];
    let receipt = append(&stage, first).await;
    assert_eq!(receipt, Receipt { appended: appended.clone(), repeated: false });
    for round in 0..4 {
        let again = append(&stage, batch(&stage)).await;
        assert_eq!(again, Receipt { appended: appended.clone(), repeated: true }, "{round}");
        // The body decides, not the events made of it.
        let other = Batch { request: request(1, 2), ..batch(&stage) };
        reused(&stage, other).await;
        match round {
            0 => stage.kill_and_reopen().await,
            1 => {
                let leases = stage.take_all("a").await;
                assert_eq!(leases.len(), 3, "the repeats stored nothing");
                stage.deliver(leases).await;
                stage.close_and_reopen().await;
            }
            _ => stage.clock.advance(WINDOW / 2 - Duration::from_millis(1)),
        }
    }
    assert!(append(&stage, batch(&stage)).await.repeated);
    stage.clock.advance(Duration::from_millis(2));
    let again = append(&stage, batch(&stage)).await;
    assert!(!again.repeated, "its window is over");
    assert_eq!(spooled(&stage.stats().await), 3, "the orders' windows are over too");
    stage.finish().await;
}

/// All of its events were duplicates. One without events only asks whether its key is taken.
pub(crate) async fn a_request_with_nothing_to_store_is_known<S: Store>() {
    let mut stage = Stage::<S>::new();
    let of = stage.store(stage.keyed(1, 1, &["a"])).await;
    let repeats = |stage: &Stage<S>| Batch {
        events: vec![stage.keyed(1, 2, &["a"])],
        request: request(1, 1),
    };
    let asks = |key, body| Batch { events: Vec::new(), request: request(key, body) };
    assert_eq!(append(&stage, asks(1, 1)).await, Receipt::default());
    let appended = vec![Appended::Duplicate { of, fingerprint: print_of(1) }];
    for repeated in [false, true, true] {
        let receipt = append(&stage, repeats(&stage)).await;
        assert_eq!(receipt, Receipt { appended: appended.clone(), repeated });
        let known = append(&stage, asks(1, 1)).await;
        assert_eq!(known, Receipt { appended: appended.clone(), repeated: true });
        reused(&stage, asks(1, 2)).await;
        for body in [2, 3] {
            assert_eq!(append(&stage, asks(2, body)).await, Receipt::default());
        }
        stage.kill_and_reopen().await;
    }
    assert_eq!(spooled(&stage.stats().await), 1);
    stage.finish().await;
}

pub(crate) async fn racing_requests_store_one<S: Store>() {
    let stage = Stage::<S>::new();
    let mut tasks = JoinSet::new();
    for caller in 0..24 {
        let body = caller % 2;
        let events = vec![stage.event(&[body], &["a"]), stage.event(&[body, body], &["a"])];
        let batch = Batch { events, request: request(1, body) };
        let spool = Arc::clone(stage.spool());
        tasks.spawn(async move { (body, spool.append(batch).await) });
    }
    let answers = tasks.join_all().await;
    let is_first = |answer: &Result<Receipt, AppendError>| {
        answer.as_ref().is_ok_and(|receipt| !receipt.repeated)
    };
    let first: Vec<_> = answers.iter().filter(|(_, answer)| is_first(answer)).collect();
    let [(winner, Ok(first))] = first[..] else { panic!("stored {} times", first.len()) };
    for (body, answer) in &answers {
        match answer {
            Ok(receipt) => {
                assert_eq!((body, &receipt.appended), (winner, &first.appended));
            }
            Err(AppendError::KeyReused) => assert_ne!(body, winner),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(stage.take_all("a").await.len(), 2);
    stage.finish().await;
}

/// The events of a batch and its key are one: a crash keeps both or neither.
pub(crate) async fn a_crash_amid_requests_keeps_answers_and_events_together<S: Store>() {
    let mut stage = Stage::<S>::new();
    for round in 0..4_u8 {
        let keys = round * 12..(round + 1) * 12;
        let batch = |stage: &Stage<S>, key| Batch {
            events: vec![stage.event(&[key], &["a"])],
            request: request(key, key),
        };
        for key in keys.clone() {
            let mut append = stage.spool().append(batch(&stage, key));
            poll_once(&mut append).await;
        }
        stage.kill_and_reopen().await;
        for key in keys {
            append(&stage, batch(&stage, key)).await;
        }
    }
    let mut bodies: Vec<u8> =
        stage.take_all("a").await.iter().map(|lease| lease.event.body.bytes()[0]).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, (0..48).collect::<Vec<u8>>(), "each once");
    stage.finish().await;
}

/// A source's window may be changed; what was taken with the old one is still known.
pub(crate) async fn a_changed_window_neither_loses_nor_doubles_a_key<S: Store>() {
    let mut stage = Stage::<S>::new();
    let with = |stage: &Stage<S>, window: Duration| {
        let mut new = stage.keyed(1, 1, &["a"]);
        new.dedupe = new.dedupe.map(|dedupe| Dedupe { window, ..dedupe });
        new
    };
    let of = stage.store(with(&stage, HOUR * 24)).await;
    let duplicate = [Appended::Duplicate { of, fingerprint: print_of(1) }];
    let both = vec![with(&stage, HOUR), with(&stage, HOUR * 48)];
    assert_eq!(stage.append(both).await, [duplicate[0]; 2]);
    stage.close_and_reopen().await;
    stage.clock.advance(HOUR - Duration::from_millis(1));
    assert_eq!(stage.append(vec![with(&stage, HOUR)]).await, duplicate);
    stage.clock.advance(Duration::from_millis(1));
    assert_eq!(stage.append(vec![with(&stage, HOUR * 24)]).await, duplicate);
    let second = stage.store(with(&stage, HOUR)).await;
    stage.kill_and_reopen().await;
    let repeat = stage.append(vec![with(&stage, HOUR * 24)]).await;
    assert_eq!(repeat, [Appended::Duplicate { of: second, fingerprint: print_of(1) }]);
    assert_eq!(stage.take_all("a").await.len(), 2);
    stage.finish().await;
}
