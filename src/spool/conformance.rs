//! The contract of [`Spool`] as tests, the same for every implementation.
//!
//! A store joins by implementing [`Store`] and naming itself in `conformance!(MyStore)`. Every test
//! ends by asserting that the flow balances. C10 promises nothing, so nothing here counts on an
//! order between deliveries; C13 has no call yet.

pub(super) mod append;
pub(super) mod bounds;
pub(super) mod dead;
pub(super) mod dedupe;
pub(super) mod find;
pub(super) mod lanes;
pub(super) mod lease;
pub(super) mod notes;
pub(super) mod request;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Appended, Batch, Cause, DeadFilter, DeadLetter, DeadQuery, Lane, Later, Lease, NewEvent,
    Refusal, Replayed, SettleError, Settlement, Spool, SpoolStats, Want,
};
use crate::clock::{Clock, Timestamp};
use crate::event::{
    Dedupe, DedupeKey, DestinationName, Event, EventId, EventKind, Fingerprint, Scrubbed,
    SourceName,
};

/// What a test asks of the store it is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_bytes: u64,
    pub(super) lease_for: Duration,
}

/// Makes spools over something that outlives them.
pub(super) trait Store: Sized + Send {
    /// A new, empty store.
    fn create(limits: Limits, clock: Clock) -> Self;
    /// Opens what the store holds. Called when no spool has it open: first, and after a kill or an
    /// answered close.
    fn open(&mut self) -> Arc<dyn Spool>;
    /// Ends the open spool as SIGKILL would: nothing more is written, no clean-up of it runs. The
    /// test has dropped its own clones and every future of it.
    fn kill(&mut self);
}

/// One `#[tokio::test]` for each promise, run on one store.
macro_rules! conformance {
    ($store:ty) => {
        conformance! { $store =>
            append: answered_events_survive_a_kill
            append: answered_events_survive_a_close
            append: an_append_dropped_after_its_first_poll_is_stored
            append: a_crash_amid_appends_loses_nothing
            append: close_answers_every_append_it_took
            append: an_event_owed_to_nobody_is_stored
            bounds: a_full_spool_refuses_whole_batches_and_recovers
            bounds: a_batch_beyond_the_store_is_too_large
            bounds: stats_count_what_is_there
            dedupe: a_batch_answers_for_each_event_in_order
            dedupe: a_repeat_is_a_duplicate_until_the_window_of_the_first_ends
            dedupe: racing_repeats_store_one_event
            dedupe: a_key_survives_a_kill_and_a_close
            dedupe: a_key_is_free_when_every_delivery_ended_dead
            dedupe: a_key_is_kept_while_one_delivery_is_owed_or_delivered
            dedupe: a_replay_takes_the_key_again
            dedupe: a_letter_is_not_replayed_while_a_later_event_has_its_key
            dedupe: an_event_without_a_key_is_always_new
            lease: a_lease_is_exclusive_until_it_expires
            lease: racing_leases_share_no_delivery
            lease: an_expired_lease_is_lost
            lease: a_clock_that_is_set_ends_no_lease_and_delays_no_retry
            lease: what_is_put_back_was_not_attempted
            lease: a_retry_is_not_due_early
            lease: a_retry_is_not_due_early_after_a_reopen
            lease: a_waiting_lease_is_woken_by_an_append
            lease: a_dropped_lease_call_has_taken_nothing
            lease: a_lost_acknowledgement_is_a_duplicate_not_a_loss
            lease: destinations_are_settled_apart
            lease: a_wait_nobody_asked_for_ends_early_when_hastened
            lease: the_first_sending_is_kept_with_the_delivery
            lanes: what_nears_its_end_is_counted_wherever_it_waits
            lease: a_first_sending_is_kept_over_a_close_at_once
            lanes: what_waited_too_long_is_backlog_and_is_overtaken
            lanes: a_flood_leaves_few_before_the_newest
            lanes: others_are_taken_within_their_bound
            lanes: no_lane_keeps_another_waiting
            lanes: what_a_stop_left_is_backlog
            dead: a_dead_letter_keeps_body_refusal_and_attempts
            dead: a_replay_is_a_fresh_delivery_and_says_whose
            dead: dead_letters_are_listed_in_pages
            dead: a_letter_is_replayed_once
            dead: letters_are_found_by_a_filter_and_by_name
            dead: what_came_with_a_fault_is_a_dead_letter_from_the_start
            dead: a_dropped_letter_stays_away_and_is_counted
            find: an_event_is_pending_until_each_destination_has_it
            find: the_destination_that_is_worst_off_decides
            find: a_replayed_event_is_pending_again
            find: an_end_is_told_although_the_key_is_free
            notes: a_note_outlives_a_kill_and_a_close
            request: a_request_is_answered_as_the_first_time
            request: a_request_with_nothing_to_store_is_known
            request: racing_requests_store_one
            request: a_crash_amid_requests_keeps_answers_and_events_together
            request: a_changed_window_neither_loses_nor_doubles_a_key
        }
    };
    ($store:ty => $($area:ident: $promise:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                $crate::spool::conformance::$area::$promise::<$store>().await;
            }
        )+
    };
}
pub(super) use conformance;

const LEASE_FOR: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a test looks for what must not come.
const GLANCE: Duration = Duration::from_millis(20);
const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

/// A destination's name.
fn to(name: &str) -> DestinationName {
    DestinationName::new(name)
}

fn refusal(cause: Cause) -> Refusal {
    Refusal { cause, status: Some(422), answer: Bytes::from_static(b"[{\"keyword\":\"type\"}]") }
}

/// A fingerprint unlike that of any other number.
fn print_of(number: u8) -> Fingerprint {
    let members = std::array::from_fn(|slot| u16::from(number) << 8 | slot as u16);
    Fingerprint { body: [number; 8], members }
}

/// Polls a future once, as a caller does that then goes away.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    poll_fn(|context| match Pin::new(&mut *future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Leases by the event they are of.
fn by_id(leases: Vec<Lease>) -> BTreeMap<EventId, Lease> {
    let count = leases.len();
    let map: BTreeMap<_, _> = leases.into_iter().map(|lease| (lease.event.id, lease)).collect();
    assert_eq!(map.len(), count, "an event was leased twice");
    map
}

/// Waiting, leased and parked deliveries of every destination.
fn spooled(stats: &SpoolStats) -> u64 {
    stats.destinations.iter().map(|d| d.live + d.backlog + d.retrying + d.in_flight).sum()
}

fn assert_balanced(stats: &SpoolStats) {
    let flow = stats.flow;
    assert_eq!(
        flow.recovered + flow.stored + flow.replayed,
        flow.delivered + flow.dead + flow.removed + spooled(stats),
        "{stats:?}"
    );
    assert_eq!(stats.letters_difference(), 0, "{stats:?}");
}

/// A store, its clock and the spool that has it open.
struct Stage<S> {
    clock: Clock,
    store: S,
    open: Option<Arc<dyn Spool>>,
}

impl<S: Store> Stage<S> {
    fn new() -> Self {
        Self::with(64 << 20)
    }

    fn with(max_bytes: u64) -> Self {
        let clock = Clock::held(START);
        let mut store = S::create(Limits { max_bytes, lease_for: LEASE_FOR }, clock.clone());
        let open = Some(store.open());
        Self { clock, store, open }
    }

    fn spool(&self) -> &Arc<dyn Spool> {
        self.open.as_ref().expect("opened")
    }

    async fn kill_and_reopen(&mut self) {
        assert_balanced(&self.stats().await);
        self.open = None;
        self.store.kill();
        self.open = Some(self.store.open());
    }

    async fn close_and_reopen(&mut self) {
        assert_balanced(&self.stats().await);
        self.spool().close().await.unwrap();
        self.open = None;
        self.open = Some(self.store.open());
    }

    async fn finish(self) {
        assert_balanced(&self.stats().await);
        self.spool().close().await.unwrap();
    }

    /// An event without a key.
    fn event(&self, body: &[u8], names: &[&str]) -> NewEvent {
        let now = self.clock.now();
        let event = Event {
            id: EventId::new(now),
            source: SourceName::new("beacon-conversion"),
            kind: EventKind::Conversion,
            target: Bytes::from_static(b"/v1/beacon/conversion?a='%27{}"),
            accepted_at: now,
            body: Scrubbed::vouch(Bytes::copy_from_slice(body)),
            headers: crate::event::ClientHeaders::default(),
            fault: None,
        };
        let to = names.iter().map(|name| to(name)).collect();
        NewEvent { event: Arc::new(event), to, dedupe: None, lane: Lane::Live }
    }

    /// An event whose key and fingerprint are told by numbers, with a window of an hour.
    fn keyed(&self, key: u8, print: u8, names: &[&str]) -> NewEvent {
        let dedupe =
            Dedupe { key: DedupeKey([key; 16]), window: HOUR, fingerprint: print_of(print) };
        NewEvent { dedupe: Some(dedupe), ..self.event(&[key, print], names) }
    }

    async fn append(&self, events: Vec<NewEvent>) -> Vec<Appended> {
        self.spool().append(Batch { events, request: None }).await.unwrap().appended
    }

    /// Stores one event that must be new.
    async fn store(&self, new: NewEvent) -> EventId {
        let id = new.event.id;
        assert_eq!(self.append(vec![new]).await, [Appended::Stored(id)]);
        id
    }

    /// Leases exactly `count`, and fails when they do not come.
    async fn take(&self, name: &str, count: u64) -> Vec<Lease> {
        self.take_with(name, count, Want::any).await
    }

    /// The same, of the lanes that `want` makes of what is still to come.
    async fn take_with(&self, name: &str, count: u64, want: impl Fn(usize) -> Want) -> Vec<Lease> {
        let (to, count) = (to(name), usize::try_from(count).unwrap());
        let patience = Instant::now() + PATIENCE;
        let mut leases = Vec::new();
        while leases.len() < count {
            assert!(Instant::now() < patience, "{} of {count} came", leases.len());
            let max = count - leases.len();
            let more =
                self.spool().lease(&to, want(max), Duration::from_millis(200)).await.unwrap();
            assert!(more.len() <= max, "more than was asked for");
            leases.extend(more);
        }
        leases
    }

    async fn take_one(&self, name: &str) -> Lease {
        self.take(name, 1).await.remove(0)
    }

    /// Leases everything there is, nothing being leased already.
    async fn take_all(&self, name: &str) -> Vec<Lease> {
        let stats = self.stats().await;
        let owed = stats.destinations.iter().filter(|d| d.name.as_str() == name);
        let leases = self.take(name, owed.map(|d| d.live + d.backlog + d.retrying).sum()).await;
        self.none(name).await;
        leases
    }

    /// Asserts that nothing is due.
    async fn none(&self, name: &str) {
        let leases = self.spool().lease(&to(name), Want::any(16), GLANCE).await.unwrap();
        assert!(leases.is_empty(), "{leases:?}");
    }

    async fn settle(&self, lease: Lease, settlement: Settlement) {
        self.spool().settle(lease, settlement).await.unwrap();
    }

    async fn deliver(&self, leases: impl IntoIterator<Item = Lease>) {
        for lease in leases {
            self.settle(lease, Settlement::Delivered).await;
        }
    }

    /// Leases one delivery and gives it up.
    async fn give_up(&self, name: &str, cause: Cause) {
        let lease = self.take_one(name).await;
        self.settle(lease, Settlement::DeadLetter(refusal(cause))).await;
    }

    async fn settle_lost(&self, lease: Lease) {
        let lost = self.spool().settle(lease, Settlement::Delivered).await;
        assert!(matches!(lost, Err(SettleError::LeaseLost)), "{lost:?}");
    }

    async fn letters(&self) -> Vec<DeadLetter> {
        let page = self.spool().dead(DeadQuery::all(None, 1000)).await.unwrap();
        assert_eq!(page.next, None);
        page.letters
    }

    async fn stats(&self) -> SpoolStats {
        self.spool().stats().await.unwrap()
    }
}
