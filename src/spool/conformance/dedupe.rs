//! C3: a key is taken once inside its window, and free when nothing of its event can arrive.

use tokio::task::JoinSet;

use super::*;

fn duplicate(of: EventId, print: u8) -> Appended {
    Appended::Duplicate { of, fingerprint: print_of(print) }
}

pub(crate) async fn a_batch_answers_for_each_event_in_order<S: Store>() {
    let stage = Stage::<S>::new();
    let first = stage.store(stage.keyed(1, 1, &["a"])).await;
    let batch = vec![
        stage.keyed(2, 2, &["a"]),
        stage.keyed(1, 3, &["a"]),
        stage.event(b"no key", &["a"]),
        stage.keyed(2, 4, &["a"]),
        stage.keyed(3, 5, &["a"]),
        stage.keyed(2, 6, &["a"]),
    ];
    let ids: Vec<EventId> = batch.iter().map(|new| new.event.id).collect();
    let expected = [
        Appended::Stored(ids[0]),
        duplicate(first, 1),
        Appended::Stored(ids[2]),
        duplicate(ids[0], 2),
        Appended::Stored(ids[4]),
        duplicate(ids[0], 2),
    ];
    assert_eq!(stage.append(batch).await, expected);
    let found: Vec<EventId> = by_id(stage.take_all("a").await).into_keys().collect();
    let mut stored = vec![first, ids[0], ids[2], ids[4]];
    stored.sort_unstable();
    assert_eq!(found, stored);
    stage.finish().await;
}

pub(crate) async fn a_repeat_is_a_duplicate_until_the_window_of_the_first_ends<S: Store>() {
    let stage = Stage::<S>::new();
    let first = stage.store(stage.keyed(1, 1, &["a"])).await;
    // The repeats in between must not make the window longer.
    for _ in 0..3 {
        stage.clock.advance(HOUR / 4);
        let repeat = stage.append(vec![stage.keyed(1, 2, &["a"])]).await;
        assert_eq!(repeat, [duplicate(first, 1)]);
    }
    stage.clock.advance(HOUR / 4 - Duration::from_millis(1));
    let repeat = stage.append(vec![stage.keyed(1, 2, &["a"])]).await;
    assert_eq!(repeat, [duplicate(first, 1)]);
    stage.clock.advance(Duration::from_millis(1));
    let second = stage.store(stage.keyed(1, 3, &["a"])).await;
    let repeat = stage.append(vec![stage.keyed(1, 4, &["a"])]).await;
    assert_eq!(repeat, [duplicate(second, 3)]);
    assert_eq!(stage.take_all("a").await.len(), 2);
    stage.finish().await;
}

pub(crate) async fn racing_repeats_store_one_event<S: Store>() {
    const KEYS: u8 = 8;
    let stage = Stage::<S>::new();
    let mut tasks = JoinSet::new();
    for print in 0..16 {
        let events: Vec<NewEvent> =
            (0..KEYS).map(|key| stage.keyed((key + print) % KEYS, print, &["a"])).collect();
        let spool = Arc::clone(stage.spool());
        tasks.spawn(async move {
            let keys: Vec<(u8, u8)> =
                events.iter().map(|new| (new.event.body.bytes()[0], print)).collect();
            let answers = spool.append(Batch { events, request: None }).await.unwrap();
            keys.into_iter().zip(answers.appended).collect::<Vec<_>>()
        });
    }
    let answers: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    for key in 0..KEYS {
        let of_key: Vec<_> = answers.iter().filter(|((k, _), _)| *k == key).collect();
        let winners: Vec<_> = of_key
            .iter()
            .filter_map(|((_, print), answer)| match answer {
                Appended::Stored(id) => Some((*id, *print)),
                Appended::Duplicate { .. } => None,
            })
            .collect();
        let [(id, print)] = winners[..] else { panic!("key {key} was stored {winners:?}") };
        let losers = of_key.iter().filter(|(_, answer)| *answer == duplicate(id, print));
        assert_eq!(losers.count(), 15);
    }
    assert_eq!(stage.take_all("a").await.len(), usize::from(KEYS));
    stage.finish().await;
}

pub(crate) async fn a_key_survives_a_kill_and_a_close<S: Store>() {
    let mut stage = Stage::<S>::new();
    let first = stage.store(stage.keyed(1, 1, &["a"])).await;
    stage.kill_and_reopen().await;
    let second = stage.store(stage.keyed(2, 2, &["a"])).await;
    stage.deliver(stage.take("a", 2).await).await;
    stage.close_and_reopen().await;
    let batch = vec![stage.keyed(1, 3, &["a"]), stage.keyed(2, 4, &["a"])];
    assert_eq!(stage.append(batch).await, [duplicate(first, 1), duplicate(second, 2)]);
    stage.kill_and_reopen().await;
    let batch = vec![stage.keyed(2, 3, &["a"]), stage.keyed(1, 4, &["a"])];
    assert_eq!(stage.append(batch).await, [duplicate(second, 2), duplicate(first, 1)]);
    stage.clock.advance(HOUR);
    stage.store(stage.keyed(1, 5, &["a"])).await;
    stage.finish().await;
}

pub(crate) async fn a_key_is_free_when_every_delivery_ended_dead<S: Store>() {
    let mut stage = Stage::<S>::new();
    // Ended while the key was fresh, after a kill and after a close: the end is then noted beside
    // a key that is in memory, was recovered, or is stored.
    for (key, cause) in (0..).zip(Cause::ALL) {
        // Names of its own, for a kill brings back what the round before delivered.
        let names = [&*format!("a{key}"), &*format!("b{key}")];
        let first = stage.store(stage.keyed(key, 1, &names)).await;
        stage.give_up(names[0], cause).await;
        let repeat = stage.append(vec![stage.keyed(key, 2, &names)]).await;
        assert_eq!(repeat, [duplicate(first, 1)], "one of two is still owed");
        match key % 3 {
            0 => {}
            1 => stage.kill_and_reopen().await,
            _ => stage.close_and_reopen().await,
        }
        stage.give_up(names[1], cause).await;
        match key % 3 {
            0 => {}
            1 => stage.close_and_reopen().await,
            _ => stage.kill_and_reopen().await,
        }
        let second = stage.store(stage.keyed(key, 3, &names)).await;
        let repeat = stage.append(vec![stage.keyed(key, 4, &names)]).await;
        assert_eq!(repeat, [duplicate(second, 3)]);
        stage.deliver(stage.take(names[0], 1).await).await;
        stage.deliver(stage.take(names[1], 1).await).await;
    }
    stage.finish().await;
}

pub(crate) async fn a_key_is_kept_while_one_delivery_is_owed_or_delivered<S: Store>() {
    let mut stage = Stage::<S>::new();
    let first = stage.store(stage.keyed(1, 1, &["a", "b"])).await;
    stage.give_up("a", Cause::Refused).await;
    stage.kill_and_reopen().await;
    let repeat = stage.append(vec![stage.keyed(1, 2, &["a", "b"])]).await;
    assert_eq!(repeat, [duplicate(first, 1)]);
    stage.deliver(stage.take("b", 1).await).await;
    stage.close_and_reopen().await;
    let repeat = stage.append(vec![stage.keyed(1, 3, &["a", "b"])]).await;
    assert_eq!(repeat, [duplicate(first, 1)]);
    stage.finish().await;
}

pub(crate) async fn a_replay_takes_the_key_again<S: Store>() {
    let mut stage = Stage::<S>::new();
    let first = stage.store(stage.keyed(1, 1, &["a"])).await;
    stage.give_up("a", Cause::Refused).await;
    let letter = stage.letters().await.remove(0);
    assert_eq!(stage.spool().replay(&[letter.id]).await.unwrap().replayed, 1);
    let repeat = stage.append(vec![stage.keyed(1, 2, &["a"])]).await;
    assert_eq!(repeat, [duplicate(first, 1)]);
    stage.kill_and_reopen().await;
    let repeat = stage.append(vec![stage.keyed(1, 3, &["a"])]).await;
    assert_eq!(repeat, [duplicate(first, 1)]);
    // And lets it go again when it ends no better.
    stage.give_up("a", Cause::Refused).await;
    stage.store(stage.keyed(1, 4, &["a"])).await;
    stage.finish().await;
}

pub(crate) async fn a_letter_is_not_replayed_while_a_later_event_has_its_key<S: Store>() {
    let mut stage = Stage::<S>::new();
    stage.store(stage.keyed(1, 1, &["a"])).await;
    stage.give_up("a", Cause::Refused).await;
    let corrected = stage.store(stage.keyed(1, 2, &["a"])).await;
    let letter = stage.letters().await.remove(0);
    let refused = Replayed { duplicates: 1, ..Replayed::default() };
    for _ in 0..2 {
        assert_eq!(stage.spool().foresee(&[letter.id]).await.unwrap(), refused);
        assert_eq!(stage.spool().replay(&[letter.id]).await.unwrap(), refused);
        assert_eq!(stage.letters().await.as_slice(), std::slice::from_ref(&letter), "it is kept");
        let repeat = stage.append(vec![stage.keyed(1, 3, &["a"])]).await;
        assert_eq!(repeat, [duplicate(corrected, 2)]);
        stage.kill_and_reopen().await;
    }
    // The later one ends no better, or its window does: then the letter may go again.
    stage.give_up("a", Cause::Refused).await;
    let replayed = stage.spool().replay(&[letter.id]).await.unwrap();
    assert_eq!(replayed, Replayed { replayed: 1, ..Replayed::default() });
    stage.deliver(stage.take("a", 1).await).await;
    stage.finish().await;
}

pub(crate) async fn an_event_without_a_key_is_always_new<S: Store>() {
    let stage = Stage::<S>::new();
    let twice = stage.event(b"same", &["a"]);
    for _ in 0..2 {
        stage.store(twice.clone()).await;
    }
    assert_eq!(stage.take("a", 2).await.len(), 2);
    stage.finish().await;
}
