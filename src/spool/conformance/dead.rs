//! C7: what was given up is kept, shown and put back.

use std::collections::BTreeSet;

use super::*;
use crate::spool::DeliveryId;

pub(crate) async fn a_dead_letter_keeps_body_refusal_and_attempts<S: Store>() {
    let mut stage = Stage::<S>::new();
    let mut expected = BTreeMap::new();
    // What is given up may have been sent just now, or not.
    let causes = Cause::ALL.into_iter().flat_map(|cause| [(cause, true), (cause, false)]);
    for (number, (cause, is_attempted)) in (0..).zip(causes) {
        let new = stage.event(&[number; 3], &["a"]);
        let event = Arc::clone(&new.event);
        stage.store(new).await;
        let retry = stage.take_one("a").await;
        stage.settle(retry, Settlement::RetryAt(stage.clock.now())).await;
        stage.clock.advance(Duration::from_secs(1));
        let lease = stage.take_one("a").await;
        let (attempts, refusal, settlement) = if is_attempted {
            let refusal = Refusal {
                cause,
                status: (number > 0).then_some(400 + u16::from(number)),
                // The last of them is nearly as long as an answer may be.
                answer: Bytes::from(vec![number; usize::from(number) * 450]),
            };
            (2, refusal.clone(), Settlement::DeadLetter(refusal))
        } else {
            (1, Refusal::unanswered(cause), Settlement::GivenUp(cause))
        };
        let facts = (to("a"), event, attempts, stage.clock.now(), refusal);
        expected.insert(facts.1.id, facts);
        stage.settle(lease, settlement).await;
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
        assert_eq!((stats.flow.recovered, stats.destinations[0].dead), (0, expected.len() as u64));
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
        assert_eq!(stage.spool().replay(&[letter.id]).await.unwrap().replayed, 1);
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
    let (mut pages, mut after) = (Vec::<DeadLetter>::new(), None);
    loop {
        let page = stage.spool().dead(DeadQuery::all(after, 3)).await.unwrap();
        assert!(page.letters.len() <= 3);
        pages.extend(page.letters);
        assert!(pages.len() <= 10, "a letter was listed twice");
        let Some(next) = page.next else { break };
        assert!(after < Some(next), "a page that leads nowhere");
        after = Some(next);
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
    let foreseen = stage.spool().foresee(&asked).await.unwrap();
    let replayed = stage.spool().replay(&asked).await.unwrap();
    assert_eq!(foreseen, replayed, "asking moved nothing");
    assert_eq!(replayed, Replayed { replayed: 2, missing: 1, duplicates: 0 });
    let replayed = stage.spool().replay(&asked).await.unwrap();
    assert_eq!(replayed, Replayed { replayed: 0, missing: 3, duplicates: 0 });
    let left = stage.letters().await;
    assert_eq!(left.iter().map(|letter| letter.id).collect::<Vec<_>>(), [ids[1]]);
    let leases = stage.take_all("a").await;
    let whose: BTreeSet<_> = leases.iter().map(|lease| lease.replay_of).collect();
    assert_eq!((leases.len(), whose), (2, [Some(ids[0]), Some(ids[2])].into()));
    stage.deliver(leases).await;
    stage.finish().await;
}

pub(crate) async fn letters_are_found_by_a_filter_and_by_name<S: Store>() {
    let mut stage = Stage::<S>::new();
    for (number, name) in (0..12).zip(["a", "b", "c"].into_iter().cycle()) {
        stage.store(stage.event(&[number], &[name])).await;
        let cause = if number < 6 { Cause::Refused } else { Cause::Expired };
        stage.give_up(name, cause).await;
    }
    for _ in 0..2 {
        let all = stage.letters().await;
        let b_expired =
            |letter: &DeadLetter| letter.to == to("b") && letter.refusal.cause == Cause::Expired;
        let wanted: Vec<DeadLetter> = all.iter().filter(|of| b_expired(of)).cloned().collect();
        assert_eq!(wanted.len(), 2);
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let filter = DeadFilter::new(b_expired);
            let page = stage.spool().dead(DeadQuery { after, max: 1, filter }).await.unwrap();
            assert!(page.letters.len() <= 1);
            found.extend(page.letters);
            let Some(next) = page.next else { break };
            assert!(after < Some(next), "a page that leads nowhere");
            after = Some(next);
        }
        assert_eq!(found, wanted);
        for letter in all {
            let found = stage.spool().dead_letter(letter.id).await.unwrap();
            assert_eq!(found, Some(letter));
        }
        assert_eq!(stage.spool().dead_letter(DeliveryId(u64::MAX)).await.unwrap(), None);
        stage.kill_and_reopen().await;
    }
    stage.finish().await;
}

pub(crate) async fn a_dropped_letter_stays_away_and_is_counted<S: Store>() {
    let mut stage = Stage::<S>::new();
    for number in 0..4 {
        stage.store(stage.keyed(number, 1, &["a"])).await;
        stage.give_up("a", Cause::Refused).await;
    }
    let letters = stage.letters().await;
    let asked = [letters[1].id, letters[1].id, letters[2].id, DeliveryId(u64::MAX)];
    assert_eq!(stage.spool().drop_dead(&asked).await.unwrap(), 2);
    assert_eq!(stage.spool().drop_dead(&asked).await.unwrap(), 0);
    let stats = stage.stats().await;
    let a = &stats.destinations[0];
    assert_eq!((a.dead, a.dropped, stats.flow.dropped), (2, 2, 2));
    let left = [letters[0].clone(), letters[3].clone()];
    for _ in 0..2 {
        assert_eq!(stage.letters().await, left);
        assert_eq!(stage.spool().dead_letter(letters[1].id).await.unwrap(), None);
        let replayed = stage.spool().replay(&asked).await.unwrap();
        assert_eq!(replayed, Replayed { missing: 3, ..Replayed::default() });
        // Right after the answer a kill brings none of them back.
        stage.kill_and_reopen().await;
    }
    // The key of a dropped one is free, as it was since it died.
    stage.store(stage.keyed(1, 2, &["a"])).await;
    stage.finish().await;
}

pub(crate) async fn what_came_with_a_fault_is_a_dead_letter_from_the_start<S: Store>() {
    let mut stage = Stage::<S>::new();
    let faulty = |stage: &Stage<S>, new: NewEvent| {
        let fault = Some(Bytes::from_static(b"no JSON"));
        let event = Arc::new(Event { fault, ..Event::clone(&new.event) });
        assert!(stage.clock.now() >= event.accepted_at);
        NewEvent { event, ..new }
    };
    // Some of a batch may be sound, and what is given up in the same moment is kept too.
    let first = stage.store(stage.event(b"first", &["a"])).await;
    let lease = stage.take_one("a").await;
    let new = vec![
        stage.event(b"sound", &["a", "b"]),
        faulty(&stage, stage.keyed(1, 1, &["a", "b"])),
        faulty(&stage, stage.event(b"odd", &["b"])),
    ];
    let ids: Vec<EventId> = new.iter().map(|new| new.event.id).collect();
    let (appended, ()) = tokio::join!(
        stage.append(new),
        stage.settle(lease, Settlement::DeadLetter(refusal(Cause::Refused)))
    );
    assert_eq!(appended, [0, 1, 2].map(|at| Appended::Stored(ids[at])));
    for reopen in 0..3 {
        let letters = stage.letters().await;
        let mut told: Vec<_> = letters
            .iter()
            .map(|one| (one.event.id, one.to.as_str(), one.refusal.cause, one.attempts))
            .collect();
        told.sort_unstable_by_key(|(id, to, ..)| (ids.iter().position(|one| one == id), *to));
        let invalid = Cause::Invalid;
        let expected = [
            (first, "a", Cause::Refused, 1),
            (ids[1], "a", invalid, 0),
            (ids[1], "b", invalid, 0),
            (ids[2], "b", invalid, 0),
        ];
        assert_eq!(told, expected, "{reopen}");
        assert!(letters.iter().all(|one| one.event.fault.is_some() == (one.event.id != first)));
        let stats = stage.stats().await;
        assert_eq!(spooled(&stats), 2, "{stats:?}");
        match reopen {
            0 => stage.kill_and_reopen().await,
            _ => stage.close_and_reopen().await,
        }
    }
    // Its key is free, and who puts it back in line wants it sent.
    let again = faulty(&stage, stage.keyed(1, 1, &["a"]));
    stage.store(again).await;
    let letters = stage.letters().await;
    let odd = letters.iter().find(|one| one.event.id == ids[2]).unwrap().id;
    let replayed = stage.spool().replay(&[odd]).await.unwrap();
    assert_eq!(replayed, Replayed { replayed: 1, ..Replayed::default() });
    let leases = stage.take_all("b").await;
    let replay_of: BTreeSet<_> = leases.iter().map(|lease| lease.replay_of).collect();
    assert_eq!(replay_of, BTreeSet::from([None, Some(odd)]));
    stage.deliver(leases).await;
    let sound = stage.take_all("a").await;
    assert_eq!(sound.iter().map(|lease| lease.event.id).collect::<Vec<_>>(), [ids[0]]);
    stage.deliver(sound).await;
    stage.finish().await;
}
