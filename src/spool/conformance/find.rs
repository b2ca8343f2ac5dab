//! C12: what became of the event that has a key, inside its window.

use super::*;
use crate::spool::{EndState, Found};

async fn find<S: Store>(stage: &Stage<S>, key: u8) -> Option<Found> {
    stage.spool().find(DedupeKey([key; 16])).await.unwrap()
}

/// The same before and after a kill and a close.
async fn expect<S: Store>(stage: &mut Stage<S>, key: u8, id: EventId, state: EndState) {
    let at = match state {
        EndState::Delivered | EndState::Pending => None,
        EndState::Expired | EndState::Dead => Some(stage.clock.now()),
    };
    let found = Some(Found { id, state, at });
    assert_eq!(find(stage, key).await, found, "key {key}");
    stage.kill_and_reopen().await;
    assert_eq!(find(stage, key).await, found, "key {key}, killed");
    stage.close_and_reopen().await;
    assert_eq!(find(stage, key).await, found, "key {key}, closed");
}

pub(crate) async fn an_event_is_pending_until_each_destination_has_it<S: Store>() {
    let mut stage = Stage::<S>::new();
    assert_eq!(find(&stage, 1).await, None);
    let id = stage.store(stage.keyed(1, 1, &["a", "b"])).await;
    expect(&mut stage, 1, id, EndState::Pending).await;
    // Leased, waiting in memory and on disk for another attempt: all that is pending.
    let lease = stage.take_one("a").await;
    assert_eq!(find(&stage, 1).await.unwrap().state, EndState::Pending);
    let soon = stage.clock.now().after(Duration::from_secs(1));
    stage.settle(lease, Settlement::RetryAt(soon)).await;
    stage.deliver(stage.take("b", 1).await).await;
    assert_eq!(find(&stage, 1).await.unwrap().state, EndState::Pending);
    stage.clock.advance(Duration::from_secs(1));
    let lease = stage.take_one("a").await;
    stage.settle(lease, Settlement::RetryAt(stage.clock.now().after(HOUR / 4))).await;
    expect(&mut stage, 1, id, EndState::Pending).await;
    // The other one may have come back with the kill: its acknowledgement was young.
    stage.deliver(stage.take_all("b").await).await;
    stage.clock.advance(HOUR / 4);
    stage.deliver(stage.take("a", 1).await).await;
    let delivered = Some(Found { id, state: EndState::Delivered, at: None });
    assert_eq!(find(&stage, 1).await, delivered);
    stage.close_and_reopen().await;
    assert_eq!(find(&stage, 1).await, delivered);
    stage.clock.advance(HOUR / 2);
    assert_eq!(find(&stage, 1).await, delivered);
    stage.clock.advance(HOUR / 4);
    assert_eq!(find(&stage, 1).await, None, "its window is over");
    stage.finish().await;
}

pub(crate) async fn the_destination_that_is_worst_off_decides<S: Store>() {
    let mut stage = Stage::<S>::new();
    let id = stage.store(stage.keyed(1, 1, &["a", "b", "c"])).await;
    stage.give_up("a", Cause::Expired).await;
    expect(&mut stage, 1, id, EndState::Expired).await;
    stage.clock.advance(Duration::from_secs(60));
    stage.give_up("b", Cause::UnknownOutcome).await;
    expect(&mut stage, 1, id, EndState::Dead).await;
    stage.deliver(stage.take("c", 1).await).await;
    stage.close_and_reopen().await;
    expect(&mut stage, 1, id, EndState::Dead).await;
    // Put back in line it counts no more, wherever it waits.
    let letters = stage.letters().await;
    let dead = letters.iter().find(|letter| letter.to == to("b")).unwrap().id;
    stage.spool().replay(&[dead]).await.unwrap();
    let state = find(&stage, 1).await.map(|found| (found.id, found.state));
    assert_eq!(state, Some((id, EndState::Expired)));
    stage.finish().await;
}

pub(crate) async fn a_replayed_event_is_pending_again<S: Store>() {
    let mut stage = Stage::<S>::new();
    let id = stage.store(stage.keyed(1, 1, &["a"])).await;
    for round in 0..3 {
        stage.give_up("a", Cause::Refused).await;
        expect(&mut stage, 1, id, EndState::Dead).await;
        let letter = stage.letters().await.remove(0).id;
        stage.spool().replay(&[letter]).await.unwrap();
        expect(&mut stage, 1, id, EndState::Pending).await;
        if round == 1 {
            let lease = stage.take_one("a").await;
            stage.settle(lease, Settlement::RetryAt(stage.clock.now().after(HOUR / 8))).await;
            expect(&mut stage, 1, id, EndState::Pending).await;
            stage.clock.advance(HOUR / 8);
        }
    }
    stage.deliver(stage.take("a", 1).await).await;
    stage.close_and_reopen().await;
    expect(&mut stage, 1, id, EndState::Delivered).await;
    stage.finish().await;
}

pub(crate) async fn an_end_is_told_although_the_key_is_free<S: Store>() {
    let mut stage = Stage::<S>::new();
    for (key, cause, state) in
        [(1, Cause::Refused, EndState::Dead), (2, Cause::Expired, EndState::Expired)]
    {
        let first = stage.store(stage.keyed(key, 1, &["a"])).await;
        stage.give_up("a", cause).await;
        expect(&mut stage, key, first, state).await;
        let letters: Vec<_> = stage.letters().await.into_iter().map(|letter| letter.id).collect();
        assert_eq!(stage.spool().drop_dead(&letters).await.unwrap(), 1);
        expect(&mut stage, key, first, state).await;
        let second = stage.store(stage.keyed(key, 2, &["a"])).await;
        expect(&mut stage, key, second, EndState::Pending).await;
        stage.deliver(stage.take_all("a").await).await;
        stage.close_and_reopen().await;
        expect(&mut stage, key, second, EndState::Delivered).await;
    }
    stage.finish().await;
}
