//! C5, C6 and C11: who holds a delivery, and when it comes back.

use std::collections::BTreeSet;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

const TICK: Duration = Duration::from_millis(1);

pub(crate) async fn a_lease_is_exclusive_until_it_expires<S: Store>() {
    let stage = Stage::<S>::new();
    let id = stage.store(stage.event(b"one", &["a"])).await;
    let lease = stage.take_one("a").await;
    assert_eq!((lease.event.id, lease.attempts, lease.lane), (id, 0, Lane::Live));
    assert_eq!((lease.until, lease.replay_of), (START.after(LEASE_FOR), None));
    // A holder that vanishes is like one that is slow: nobody hears of it.
    drop(lease);
    stage.none("a").await;
    stage.clock.advance(LEASE_FOR - TICK);
    stage.none("a").await;
    stage.clock.advance(TICK);
    let again = stage.take_one("a").await;
    // It has waited too long to be fresh.
    assert_eq!((again.event.id, again.lane), (id, Lane::Backlog));
    stage.deliver([again]).await;
    stage.clock.advance(LEASE_FOR);
    stage.none("a").await;
    stage.finish().await;
}

pub(crate) async fn racing_leases_share_no_delivery<S: Store>() {
    let stage = Stage::<S>::new();
    let events: Vec<NewEvent> = (0..200).map(|_| stage.event(b"many", &["a"])).collect();
    let stored: BTreeSet<EventId> = events.iter().map(|new| new.event.id).collect();
    stage.append(events).await;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let spool = Arc::clone(stage.spool());
        tasks.spawn(async move {
            let (to, mut mine) = (to("a"), Vec::new());
            loop {
                let leases = spool.lease(&to, Want::any(7), GLANCE).await.unwrap();
                if leases.is_empty() {
                    return mine;
                }
                mine.extend(leases);
            }
        });
    }
    let mut leases = by_id(tasks.join_all().await.into_iter().flatten().collect());
    // A glance may have been too short on a busy machine; what is left is nobody's.
    leases.extend(by_id(stage.take("a", 200 - leases.len() as u64).await));
    assert_eq!(leases.keys().copied().collect::<BTreeSet<_>>(), stored);
    stage.deliver(leases.into_values()).await;
    stage.finish().await;
}

pub(crate) async fn an_expired_lease_is_lost<S: Store>() {
    let stage = Stage::<S>::new();
    stage.store(stage.event(b"one", &["a"])).await;
    let slow = stage.take_one("a").await;
    stage.clock.advance(LEASE_FOR);
    let holder = stage.take_one("a").await;
    stage.settle_lost(slow).await;
    // The slow one's settlement did not end the hold of the next.
    stage.deliver([holder]).await;
    stage.store(stage.event(b"two", &["a"])).await;
    let slow = stage.take_one("a").await;
    stage.clock.advance(LEASE_FOR);
    stage.settle_lost(slow).await;
    stage.deliver([stage.take_one("a").await]).await;
    assert_eq!(stage.stats().await.flow.delivered, 2);
    stage.finish().await;
}

pub(crate) async fn what_is_put_back_was_not_attempted<S: Store>() {
    let stage = Stage::<S>::new();
    stage.store(stage.event(b"one", &["a"])).await;
    for _ in 0..2 {
        let lease = stage.take_one("a").await;
        assert_eq!((lease.attempts, lease.lane), (0, Lane::Live));
        stage.settle(lease, Settlement::PutBack).await;
    }
    let lease = stage.take_one("a").await;
    stage.settle(lease, Settlement::RetryAt(stage.clock.now().after(HOUR))).await;
    stage.clock.advance(HOUR);
    for _ in 0..2 {
        let lease = stage.take_one("a").await;
        assert_eq!((lease.attempts, lease.lane), (1, Lane::Retry));
        stage.settle(lease, Settlement::PutBack).await;
    }
    stage.finish().await;
}

pub(crate) async fn a_retry_is_not_due_early<S: Store>() {
    let stage = Stage::<S>::new();
    let id = stage.store(stage.event(b"one", &["a"])).await;
    // Short ones may be kept in memory, long ones may not.
    let waits = [Duration::from_millis(250), Duration::from_secs(4), Duration::from_secs(900)];
    for (attempts, wait) in (0..).zip(waits) {
        let lease = stage.take_one("a").await;
        assert_eq!((lease.event.id, lease.attempts), (id, attempts));
        stage.settle(lease, Settlement::RetryAt(stage.clock.now().after(wait))).await;
        stage.none("a").await;
        stage.clock.advance(wait - TICK);
        stage.none("a").await;
        stage.clock.advance(TICK);
    }
    let lease = stage.take_one("a").await;
    assert_eq!((lease.event.id, lease.attempts, lease.lane), (id, 3, Lane::Retry));
    stage.settle(lease, Settlement::RetryAt(START)).await;
    assert_eq!(stage.take_one("a").await.attempts, 4, "a time gone by is due at once");
    stage.finish().await;
}

pub(crate) async fn a_retry_is_not_due_early_after_a_reopen<S: Store>() {
    let mut stage = Stage::<S>::new();
    let id = stage.store(stage.event(b"one", &["a"])).await;
    for attempts in 0..4 {
        let lease = stage.take_one("a").await;
        assert_eq!((lease.event.id, lease.attempts), (id, attempts));
        stage.settle(lease, Settlement::RetryAt(stage.clock.now().after(HOUR))).await;
        if attempts % 2 == 0 {
            stage.kill_and_reopen().await;
        } else {
            stage.close_and_reopen().await;
        }
        assert_eq!(stage.stats().await.flow.recovered, 1);
        stage.clock.advance(HOUR - TICK);
        stage.none("a").await;
        stage.clock.advance(TICK);
    }
    let lease = stage.take_one("a").await;
    assert_eq!((lease.event.body.bytes().as_ref(), lease.lane), (&b"one"[..], Lane::Retry));
    stage.deliver([lease]).await;
    stage.close_and_reopen().await;
    stage.none("a").await;
    stage.finish().await;
}

pub(crate) async fn a_wait_nobody_asked_for_ends_early_when_hastened<S: Store>() {
    let mut stage = Stage::<S>::new();
    let told = stage.store(stage.event(b"told", &["a"])).await;
    let own = stage.store(stage.event(b"own", &["a"])).await;
    let due = stage.clock.now().after(HOUR);
    for lease in stage.take("a", 2).await {
        let later = Later { due, attempted: lease.event.id == own, sent_at: None };
        let told = lease.event.id == told;
        stage
            .settle(lease, if told { Settlement::RetryAt(due) } else { Settlement::Later(later) })
            .await;
    }
    stage.none("a").await;
    stage.spool().hasten(&to("a")).await.unwrap();
    for _ in 0..2 {
        let lease = stage.take_one("a").await;
        assert_eq!((lease.event.id, lease.attempts, lease.lane), (own, 1, Lane::Retry));
        // It waits anew, for which the hastening before does not count, over a reopen too.
        let later = Later { due, attempted: false, sent_at: None };
        stage.settle(lease, Settlement::Later(later)).await;
        stage.none("a").await;
        stage.close_and_reopen().await;
        stage.none("a").await;
        stage.spool().hasten(&to("a")).await.unwrap();
    }
    stage.settle(stage.take_one("a").await, Settlement::Delivered).await;
    stage.none("a").await;
    stage.clock.advance(HOUR);
    let lease = stage.take_one("a").await;
    assert_eq!((lease.event.id, lease.attempts), (told, 1));
    stage.deliver([lease]).await;
    stage.finish().await;
}

pub(crate) async fn a_first_sending_is_kept_over_a_close_at_once<S: Store>() {
    let mut stage = Stage::<S>::new();
    stage.store(stage.event(b"one", &["a"])).await;
    let lease = stage.take_one("a").await;
    let now = stage.clock.now();
    // As of an attempt that a stop broke off, leased once more and put back before the close.
    let cut = Later { due: now, attempted: true, sent_at: Some(now) };
    stage.settle(lease, Settlement::Later(cut)).await;
    for _ in 0..2 {
        stage.close_and_reopen().await;
        let lease = stage.take_one("a").await;
        assert_eq!((lease.attempts, lease.sent_at), (1, Some(now)));
        stage.settle(lease, Settlement::PutBack).await;
    }
    stage.deliver([stage.take_one("a").await]).await;
    stage.finish().await;
}

pub(crate) async fn the_first_sending_is_kept_with_the_delivery<S: Store>() {
    let mut stage = Stage::<S>::new();
    stage.store(stage.event(b"one", &["a"])).await;
    let first = stage.clock.now();
    for (wait, attempts) in [(Duration::from_secs(1), 0), (HOUR, 1), (HOUR, 2)] {
        let lease = stage.take_one("a").await;
        assert_eq!((lease.attempts, lease.sent_at), (attempts, (attempts > 0).then_some(first)));
        let now = stage.clock.now();
        let later = Later { due: now.after(wait), attempted: true, sent_at: Some(now) };
        stage.settle(lease, Settlement::Later(later)).await;
        stage.close_and_reopen().await;
        stage.clock.advance(wait);
    }
    for _ in 0..2 {
        let lease = stage.take_one("a").await;
        assert_eq!((lease.attempts, lease.sent_at), (3, Some(first)));
        stage.settle(lease, Settlement::PutBack).await;
        stage.close_and_reopen().await;
    }
    let lease = stage.take_one("a").await;
    assert_eq!((lease.attempts, lease.sent_at), (3, Some(first)));
    stage.settle(lease, Settlement::DeadLetter(refusal(Cause::UnknownOutcome))).await;
    let id = stage.letters().await[0].id;
    stage.spool().replay(&[id]).await.unwrap();
    let lease = stage.take_one("a").await;
    assert_eq!((lease.attempts, lease.sent_at), (0, None), "a replay begins anew");
    stage.deliver([lease]).await;
    stage.finish().await;
}

pub(crate) async fn a_waiting_lease_is_woken_by_an_append<S: Store>() {
    let stage = Stage::<S>::new();
    let spool = Arc::clone(stage.spool());
    let a = to("a");
    let mut waiting = spool.lease(&a, Want::any(8), PATIENCE * 6);
    assert!(poll_once(&mut waiting).await.is_none(), "there was nothing to take");
    // One for somebody else must not end the wait with nothing.
    stage.store(stage.event(b"other", &["b"])).await;
    let id = stage.store(stage.event(b"mine", &["a"])).await;
    let leases = timeout(PATIENCE, waiting).await.expect("woken").unwrap();
    assert_eq!(leases.iter().map(|lease| lease.event.id).collect::<Vec<_>>(), [id]);
    stage.finish().await;
}

pub(crate) async fn a_dropped_lease_call_has_taken_nothing<S: Store>() {
    let stage = Stage::<S>::new();
    let a = to("a");
    let mut waiting = stage.spool().lease(&a, Want::any(8), HOUR);
    assert!(poll_once(&mut waiting).await.is_none(), "there was nothing to take");
    stage.store(stage.event(b"one", &["a"])).await;
    drop(waiting);
    stage.deliver([stage.take_one("a").await]).await;
    stage.finish().await;
}

pub(crate) async fn a_lost_acknowledgement_is_a_duplicate_not_a_loss<S: Store>() {
    let mut stage = Stage::<S>::new();
    let events: Vec<NewEvent> = (0..20).map(|_| stage.event(b"many", &["a"])).collect();
    let stored: BTreeSet<EventId> = events.iter().map(|new| new.event.id).collect();
    stage.append(events).await;
    let mut leases = stage.take("a", 20).await;
    stage.deliver(leases.drain(..10)).await;
    let owed: BTreeSet<EventId> = leases.iter().map(|lease| lease.event.id).collect();
    drop(leases);
    stage.kill_and_reopen().await;
    let leases = by_id(stage.take_all("a").await);
    let again: BTreeSet<EventId> = leases.keys().copied().collect();
    assert!(again.is_superset(&owed), "an event that nobody delivered is gone");
    assert!(again.is_subset(&stored));
    stage.deliver(leases.into_values()).await;
    // A close notes every acknowledgement.
    stage.close_and_reopen().await;
    stage.none("a").await;
    assert_eq!(stage.stats().await.flow.recovered, 0);
    stage.finish().await;
}

pub(crate) async fn destinations_are_settled_apart<S: Store>() {
    let mut stage = Stage::<S>::new();
    let names = ["a", "b", "c"];
    let id = stage.store(stage.event(b"all", &names)).await;
    let only_b = stage.store(stage.event(b"b only", &["b"])).await;
    stage.deliver(stage.take("a", 1).await).await;
    stage.give_up("c", Cause::Refused).await;
    stage.none("a").await;
    stage.none("c").await;
    stage.close_and_reopen().await;
    stage.none("a").await;
    stage.none("c").await;
    let leases = by_id(stage.take_all("b").await);
    assert_eq!(leases.keys().copied().collect::<BTreeSet<_>>(), [id, only_b].into());
    let retry_at = stage.clock.now().after(HOUR);
    for lease in leases.into_values() {
        stage.settle(lease, Settlement::RetryAt(retry_at)).await;
    }
    stage.kill_and_reopen().await;
    stage.none("a").await;
    let letters = stage.letters().await;
    assert_eq!(
        letters.iter().map(|l| (l.event.id, l.to.as_str())).collect::<Vec<_>>(),
        [(id, "c")]
    );
    stage.clock.advance(HOUR);
    assert_eq!(stage.take_all("b").await.len(), 2);
    stage.finish().await;
}

pub(crate) async fn a_clock_that_is_set_ends_no_lease_and_delays_no_retry<S: Store>() {
    let stage = Stage::<S>::new();
    let year = 365 * 24 * HOUR;
    let back = Timestamp::from_millis(START.as_millis() - 31_536_000_000);
    for to in [START.after(10 * year), back] {
        for _ in 0..3 {
            stage.store(stage.event(b"one", &["a"])).await;
        }
        let mut leases = stage.take("a", 3).await;
        let wait = Duration::from_secs(60);
        stage.settle(leases.remove(0), Settlement::RetryAt(stage.clock.now().after(wait))).await;
        stage.clock.leap(to);
        // Neither is the hold over, nor the retry due.
        stage.none("a").await;
        stage.deliver([leases.remove(0)]).await;
        stage.clock.advance(wait);
        // Both are now, wherever the clock stands.
        let leases = stage.take("a", 2).await;
        stage.deliver(leases).await;
        stage.none("a").await;
    }
    stage.finish().await;
}
