//! C7: what was given up is kept, shown and put back.

use std::collections::BTreeSet;

use super::*;
use crate::spool::DeliveryId;

pub(crate) async fn a_dead_letter_keeps_body_refusal_and_attempts<S: Store>() {
    let mut stage = Stage::<S>::new();
    let mut expected = BTreeMap::new();
    for (number, cause) in (0..).zip(Cause::ALL) {
        let new = stage.event(&[number; 3], &["a"]);
        let event = Arc::clone(&new.event);
        stage.store(new).await;
        let retry = stage.take_one("a").await;
        stage.settle(retry, Settlement::RetryAt(stage.clock.now())).await;
        stage.clock.advance(Duration::from_secs(1));
        let lease = stage.take_one("a").await;
        let refusal = Refusal {
            cause,
            status: (number > 0).then_some(400 + u16::from(number)),
            answer: Bytes::from(vec![number; usize::from(number) * 1365]),
        };
        // The last lease counts if something was sent in it.
        let attempts = 1 + u32::from(matches!(cause, Cause::Refused | Cause::UnknownOutcome));
        let facts = (to("a"), event, attempts, stage.clock.now(), refusal.clone());
        expected.insert(facts.1.id, facts);
        stage.settle(lease, Settlement::DeadLetter(refusal)).await;
    }
    stage.none("a").await;
    for reopen in 0..3 {
        let letters = stage.letters().await;
        assert!(letters.is_sorted_by_key(|letter| letter.id));
        let found: BTreeMap<_, _> = letters
            .into_iter()
            .map(|l| (l.event.id, (l.to, l.event, l.attempts, l.died_at, l.refusal)))
            .collect();
        assert_eq!(found, expected);
        stage.none("a").await;
        match reopen {
            0 => stage.kill_and_reopen().await,
            _ => stage.close_and_reopen().await,
        }
        let stats = stage.stats().await;
        assert_eq!((stats.flow.recovered, stats.destinations[0].dead), (0, 4));
    }
    stage.finish().await;
}

pub(crate) async fn a_replay_is_a_fresh_delivery_and_says_whose<S: Store>() {
    let mut stage = Stage::<S>::new();
    let new = stage.event(b"one", &["a"]);
    let event = Arc::clone(&new.event);
    stage.store(new).await;
    let mut last = None;
    // The second round replays a replay.
    for _ in 0..2 {
        let lease = stage.take_one("a").await;
        stage.settle(lease, Settlement::RetryAt(stage.clock.now())).await;
        stage.give_up("a", Cause::Refused).await;
        let letter = stage.letters().await.remove(0);
        assert_ne!(Some(letter.id), last);
        assert_eq!(stage.spool().replay(&[letter.id]).await.unwrap(), 1);
        assert_eq!(stage.letters().await, []);
        let lease = stage.take_one("a").await;
        assert_eq!((&lease.event, lease.attempts), (&event, 0));
        assert_eq!(lease.replay_of, Some(letter.id));
        drop(lease);
        stage.kill_and_reopen().await;
        assert_eq!(stage.letters().await, []);
        let lease = stage.take_one("a").await;
        assert_eq!((&lease.event, lease.attempts), (&event, 0));
        assert_eq!(lease.replay_of, Some(letter.id));
        stage.none("a").await;
        stage.settle(lease, Settlement::PutBack).await;
        last = Some(letter.id);
    }
    stage.deliver([stage.take_one("a").await]).await;
    stage.close_and_reopen().await;
    assert_eq!(stage.letters().await, []);
    stage.none("a").await;
    stage.finish().await;
}

pub(crate) async fn dead_letters_are_listed_in_pages<S: Store>() {
    let stage = Stage::<S>::new();
    for number in 0..10 {
        stage.store(stage.event(&[number], &["a"])).await;
        stage.give_up("a", Cause::Refused).await;
    }
    let mut pages: Vec<DeadLetter> = Vec::new();
    loop {
        let after = pages.last().map(|letter| letter.id);
        let page = stage.spool().dead(after, 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 3);
        pages.extend(page);
        assert!(pages.len() <= 10, "a letter was listed twice");
    }
    assert_eq!(pages, stage.letters().await);
    let bodies: Vec<u8> = pages.iter().map(|letter| letter.event.body.bytes()[0]).collect();
    assert_eq!(bodies, (0..10).collect::<Vec<u8>>(), "oldest first");
    stage.finish().await;
}

pub(crate) async fn a_letter_is_replayed_once<S: Store>() {
    let stage = Stage::<S>::new();
    for number in 0..3 {
        stage.store(stage.event(&[number], &["a"])).await;
        stage.give_up("a", Cause::Refused).await;
    }
    let ids: Vec<DeliveryId> = stage.letters().await.iter().map(|letter| letter.id).collect();
    let asked = [ids[0], ids[2], ids[0], DeliveryId(u64::MAX)];
    assert_eq!(stage.spool().replay(&asked).await.unwrap(), 2);
    assert_eq!(stage.spool().replay(&asked).await.unwrap(), 0);
    let left = stage.letters().await;
    assert_eq!(left.iter().map(|letter| letter.id).collect::<Vec<_>>(), [ids[1]]);
    let leases = stage.take_all("a").await;
    let whose: BTreeSet<_> = leases.iter().map(|lease| lease.replay_of).collect();
    assert_eq!((leases.len(), whose), (2, [Some(ids[0]), Some(ids[2])].into()));
    stage.deliver(leases).await;
    stage.finish().await;
}
