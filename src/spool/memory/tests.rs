//! The contract on [`Memory`], and what is its own: waiting by a held clock, kills and caps.

use bytes::Bytes;
use tokio::task::JoinSet;

use super::*;
use crate::clock::Timestamp;
use crate::event::{
    Dedupe, DedupeKey, Event, EventId, EventKind, Fingerprint, Scrubbed, SourceName,
};
use crate::spool::conformance::{Limits, Store, conformance};
use crate::spool::{Appended, Cause, DeadQuery, Lane, NewEvent, Refusal};

struct OnDisk {
    disk: Disk,
    settings: Settings,
    clock: Clock,
}

impl Store for OnDisk {
    fn create(limits: Limits, clock: Clock) -> Self {
        let settings = Settings {
            limit_bytes: limits.max_bytes,
            lease_for: limits.lease_for,
            ..Settings::default()
        };
        Self { disk: Disk::default(), settings, clock }
    }

    fn open(&mut self) -> Arc<dyn Spool> {
        Arc::new(Memory::open(&self.disk, self.settings, self.clock.clone()))
    }

    fn kill(&mut self) {}
}

conformance!(OnDisk);

const MINUTE: Duration = Duration::from_secs(60);

fn clock() -> Clock {
    Clock::held(Timestamp::from_millis(1_795_000_000_000))
}

fn a() -> DestinationName {
    DestinationName::new("a")
}

fn batch(clock: &Clock, key: u8) -> Batch {
    let now = clock.now();
    let event = Event {
        id: EventId::new(now),
        source: SourceName::new("orders"),
        kind: EventKind::Conversion,
        target: Bytes::new(),
        accepted_at: now,
        body: Scrubbed::vouch(Bytes::copy_from_slice(&[key])),
        headers: crate::event::ClientHeaders::default(),
        fault: None,
    };
    let fingerprint = Fingerprint { body: [key; 8], members: [0; 32] };
    let dedupe = Some(Dedupe { key: DedupeKey([key; 16]), window: MINUTE, fingerprint });
    let new = NewEvent { event: Arc::new(event), to: vec![a()], dedupe, lane: Lane::Live };
    Batch { events: vec![new], request: None }
}

async fn take(spool: &Memory) -> Lease {
    let mut leases = spool.lease(&a(), Want::any(1), MINUTE).await.unwrap();
    leases.pop().expect("one is due within a minute")
}

/// A waiting call must see that the clock was moved, though nobody tells it.
#[tokio::test]
async fn a_waiting_lease_sees_a_held_clock_move() {
    let clock = clock();
    let spool = Arc::new(Memory::new(Settings::default(), clock.clone()));
    spool.append(batch(&clock, 1)).await.unwrap();
    for attempts in 1..4 {
        let lease = take(&spool).await;
        let due = clock.now().after(MINUTE);
        spool.settle(lease, Settlement::RetryAt(due)).await.unwrap();
        let mut tasks = JoinSet::new();
        let waiter = Arc::clone(&spool);
        tasks.spawn(async move { take(&waiter).await });
        tokio::task::yield_now().await;
        clock.advance(MINUTE);
        let lease = tasks.join_next().await.expect("one task").unwrap();
        assert_eq!(lease.attempts, attempts);
        spool.settle(lease, Settlement::PutBack).await.unwrap();
    }
}

#[tokio::test]
async fn a_close_ends_a_waiting_lease() {
    let spool = Memory::new(Settings::default(), clock());
    let a = a();
    let waiting = spool.lease(&a, Want::any(1), MINUTE);
    let (leases, closed) = tokio::join!(waiting, spool.close());
    closed.unwrap();
    assert!(leases.unwrap().is_empty());
}

#[tokio::test]
async fn a_kill_forgets_the_acknowledgements_of_the_last_second() {
    let (clock, disk) = (clock(), Disk::default());
    let spool = Memory::open(&disk, Settings::default(), clock.clone());
    for key in 1..4 {
        spool.append(batch(&clock, key)).await.unwrap();
        let lease = take(&spool).await;
        spool.settle(lease, Settlement::Delivered).await.unwrap();
        clock.advance(Duration::from_millis(500));
    }
    let next = Memory::open(&disk, Settings::default(), clock.clone());
    assert_eq!(next.stats().await.unwrap().flow.recovered, 2);
    assert_eq!(take(&next).await.event.body.bytes().as_ref(), [2]);
}

#[tokio::test]
async fn a_killed_spool_answers_with_a_fault() {
    let (clock, disk) = (clock(), Disk::default());
    let killed = Memory::open(&disk, Settings::default(), clock.clone());
    let next = Memory::open(&disk, Settings::default(), clock.clone());
    assert!(matches!(killed.append(batch(&clock, 1)).await, Err(AppendError::Fault(_))));
    assert!(killed.lease(&a(), Want::any(1), MINUTE).await.is_err());
    assert_eq!(
        next.stats().await.unwrap(),
        Memory::new(Settings::default(), clock).stats().await.unwrap()
    );
}

#[tokio::test]
async fn dead_letters_beyond_their_cap_make_room() {
    let clock = clock();
    let settings = Settings { dead_bytes_max: 1000, ..Settings::default() };
    let spool = Memory::new(settings, clock.clone());
    for key in 0..10 {
        spool.append(batch(&clock, key)).await.unwrap();
        let answer = Bytes::from(vec![b'x'; usize::from(key)]);
        let refusal = Refusal { cause: Cause::Refused, status: None, answer };
        spool.settle(take(&spool).await, Settlement::DeadLetter(refusal)).await.unwrap();
    }
    let letters = spool.dead(DeadQuery::all(None, 10)).await.unwrap().letters;
    let keys: Vec<u8> = letters.iter().map(|letter| letter.event.body.bytes()[0]).collect();
    assert_eq!(keys, [7, 8, 9]);
    let stats = spool.stats().await.unwrap();
    assert_eq!((stats.destinations[0].dead, stats.flow.dead), (3, 10));
    assert_eq!((stats.destinations[0].dropped, stats.letters_difference()), (7, 0));
    assert_eq!(stats.used_bytes, 3 * 257 + 7 + 8 + 9);
}

#[tokio::test]
async fn keys_beyond_their_cap_are_forgotten_oldest_first() {
    let clock = clock();
    let spool = Memory::new(Settings { keys_max: 2, ..Settings::default() }, clock.clone());
    for key in 1..4 {
        spool.append(batch(&clock, key)).await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
    for (key, new) in [(3, false), (2, false), (1, true)] {
        let answers = spool.append(batch(&clock, key)).await.unwrap();
        assert_eq!(matches!(answers.appended[..], [Appended::Stored(_)]), new, "{key}");
    }
}
