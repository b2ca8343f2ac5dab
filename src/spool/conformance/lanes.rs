//! C15: fresh events are kept apart from what waits, and neither keeps the other from its turn.

use std::collections::BTreeSet;

use super::super::{FRESH_FOR, FRESH_MAX};
use super::*;

const LIVE: fn(usize) -> Want = |max| Want { max, others: 0 };

fn lanes(leases: &[Lease]) -> [usize; 3] {
    Lane::ALL.map(|lane| leases.iter().filter(|lease| lease.lane == lane).count())
}

impl<S: Store> Stage<S> {
    async fn store_many(&self, count: usize, lane: Lane) -> BTreeSet<EventId> {
        let events = (0..count).map(|_| NewEvent { lane, ..self.event(b"many", &["a"]) });
        let events: Vec<NewEvent> = events.collect();
        let ids = events.iter().map(|new| new.event.id).collect();
        self.append(events).await;
        ids
    }

    async fn waiting(&self) -> (u64, u64, u64) {
        let one = self.stats().await.destinations.remove(0);
        (one.live, one.backlog, one.retrying)
    }
}

pub(crate) async fn what_waited_too_long_is_backlog_and_is_overtaken<S: Store>() {
    let stage = Stage::<S>::new();
    let old = stage.store_many(50, Lane::Live).await;
    assert_eq!(stage.waiting().await, (50, 0, 0));
    stage.clock.advance(FRESH_FOR);
    assert_eq!(stage.waiting().await, (0, 50, 0));
    let fresh = stage.store(stage.event(b"fresh", &["a"])).await;
    let lease = stage.take_with("a", 1, LIVE).await.remove(0);
    assert_eq!((lease.event.id, lease.lane), (fresh, Lane::Live));
    stage.deliver([lease]).await;
    let leases = stage.take_all("a").await;
    assert_eq!(lanes(&leases), [0, 50, 0]);
    let leases = by_id(leases);
    assert_eq!(leases.keys().copied().collect::<BTreeSet<_>>(), old);
    stage.deliver(leases.into_values()).await;
    stage.finish().await;
}

pub(crate) async fn a_flood_leaves_few_before_the_newest<S: Store>() {
    let stage = Stage::<S>::new();
    let count = usize::try_from(FRESH_MAX).unwrap() * 3;
    let mut stored = BTreeSet::new();
    for _ in 0..3 {
        stored.append(&mut stage.store_many(count / 3, Lane::Live).await);
    }
    let newest = stage.store(stage.event(b"newest", &["a"])).await;
    stored.insert(newest);
    let (live, backlog, _) = stage.waiting().await;
    assert_eq!(live + backlog, stored.len() as u64);
    assert!(live <= FRESH_MAX, "{live}");
    let leases = stage.take_with("a", live, LIVE).await;
    assert!(leases.iter().any(|lease| lease.event.id == newest), "the newest is overtaken by none");
    let mut all = by_id(leases);
    all.extend(by_id(stage.take_all("a").await));
    assert_eq!(all.keys().copied().collect::<BTreeSet<_>>(), stored);
    stage.deliver(all.into_values()).await;
    stage.finish().await;
}

pub(crate) async fn others_are_taken_within_their_bound<S: Store>() {
    let stage = Stage::<S>::new();
    stage.store_many(20, Lane::Backlog).await;
    let (a, all) = (to("a"), Want { max: 10, others: 3 });
    let leases = stage.take_with("a", 3, |left| Want { max: left + 7, others: left }).await;
    assert_eq!(lanes(&leases), [0, 3, 0]);
    let none = stage.spool().lease(&a, Want { max: 4, others: 0 }, GLANCE).await.unwrap();
    assert!(none.is_empty(), "{none:?}");
    stage.store_many(20, Lane::Live).await;
    let mut more = Vec::new();
    while more.len() < 10 {
        let want = Want { max: 10 - more.len(), others: all.others - lanes(&more)[1] };
        more.extend(stage.spool().lease(&a, want, Duration::from_millis(200)).await.unwrap());
    }
    assert!(lanes(&more)[1] <= 3, "{:?}", lanes(&more));
    // Only a retry is due: it waits as long as none but fresh events are wanted.
    stage.deliver(leases).await;
    stage.deliver(more).await;
    for lease in stage.take_all("a").await {
        stage.settle(lease, Settlement::RetryAt(stage.clock.now())).await;
    }
    let none = stage.spool().lease(&a, Want { max: 4, others: 0 }, GLANCE).await.unwrap();
    assert!(none.is_empty(), "{none:?}");
    let leases = stage.take_all("a").await;
    assert_eq!(lanes(&leases), [0, 0, 27]);
    stage.deliver(leases).await;
    stage.finish().await;
}

pub(crate) async fn no_lane_keeps_another_waiting<S: Store>() {
    let stage = Stage::<S>::new();
    stage.store_many(40, Lane::Live).await;
    for lease in stage.take("a", 40).await {
        stage.settle(lease, Settlement::RetryAt(stage.clock.now())).await;
    }
    stage.store_many(40, Lane::Backlog).await;
    stage.store_many(40, Lane::Live).await;
    let leases = stage.take("a", 24).await;
    let [live, backlog, retry] = lanes(&leases);
    assert!(live >= 16 && backlog >= 3 && retry >= 3, "{live} {backlog} {retry}");
    stage.deliver(leases).await;
    stage.deliver(stage.take_all("a").await).await;
    stage.finish().await;
}

pub(crate) async fn what_a_stop_left_is_backlog<S: Store>() {
    let mut stage = Stage::<S>::new();
    stage.store_many(30, Lane::Live).await;
    stage.clock.advance(FRESH_FOR);
    // Some of it was cut off before.
    stage.deliver(stage.take("a", 10).await).await;
    stage.store_many(30, Lane::Live).await;
    stage.close_and_reopen().await;
    assert_eq!(stage.waiting().await, (0, 50, 0));
    let fresh = stage.store(stage.event(b"fresh", &["a"])).await;
    let lease = stage.take_with("a", 1, LIVE).await.remove(0);
    assert_eq!((lease.event.id, lease.lane), (fresh, Lane::Live));
    stage.deliver([lease]).await;
    stage.deliver(stage.take_all("a").await).await;
    stage.finish().await;
}

pub(crate) async fn what_nears_its_end_is_counted_wherever_it_waits<S: Store>() {
    let mut stage = Stage::<S>::new();
    stage.store_many(200, Lane::Live).await;
    stage.clock.advance(FRESH_FOR);
    let then = stage.clock.now();
    stage.store_many(30, Lane::Backlog).await;
    stage.store_many(100, Lane::Live).await;
    // Some are delivered, some held, some wait for another attempt.
    let mut leases = stage.take("a", 40).await;
    stage.deliver(leases.drain(..10)).await;
    for lease in leases.drain(..10) {
        stage.settle(lease, Settlement::RetryAt(then.after(HOUR))).await;
    }
    let spooled = spooled(&stage.stats().await);
    let next = then.after(Duration::from_millis(1));
    let kinds = EventKind::ALL.len();
    let count = async |stage: &Stage<S>, before: [Timestamp; 5]| {
        stage.spool().aging(&to("a"), before).await.unwrap()
    };
    assert_eq!(kinds, 5);
    assert_eq!(count(&stage, [Timestamp::EPOCH; 5]).await, 0);
    assert_eq!(count(&stage, [next; 5]).await, spooled);
    // Only conversions are there.
    let mut others = [next; 5];
    others[usize::from(EventKind::Conversion.code())] = Timestamp::EPOCH;
    assert_eq!(count(&stage, others).await, 0);
    let old = count(&stage, [then; 5]).await;
    assert!((160..=200).contains(&old), "{old} of the 200 first are owed");
    drop(leases);
    stage.close_and_reopen().await;
    assert_eq!(count(&stage, [then; 5]).await, old);
    assert_eq!(count(&stage, [next; 5]).await, spooled);
    stage.finish().await;
}
