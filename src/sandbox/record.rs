//! What the sandbox remembers: the arrivals, as many as fit, and the counts.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Limits;
use super::arrival::{Arrival, Outcome};
use crate::event::EventKind;

/// What passed since the start, or since all was forgotten; `/_sandbox` itself is not counted.
///
/// `requests` is the sum of `by_status`, `unanswered` and `in_hand`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests whose head was read.
    pub requests: u64,
    /// Events taken, repeats among them.
    pub accepted: u64,
    /// Events taken for the first time.
    pub unique_events: u64,
    /// Events taken again: a conversion with the same `order_id`, an ad event with the same path,
    /// query and body.
    pub duplicates: u64,
    /// The same three by kind.
    pub by_kind: BTreeMap<&'static str, KindStats>,
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests without an answer: reset, or given up by the client.
    pub unanswered: u64,
    /// Requests being read, or held back.
    pub in_hand: u64,
    /// Requests that met a fault.
    pub faults_injected: u64,
    /// Faults that acted, by their names; a request may meet several.
    pub by_fault: BTreeMap<&'static str, u64>,
    /// Connections that brought a request.
    pub connections_opened: u64,
    /// Those of them that are open.
    pub connections_open: u64,
    /// The most that were open at once.
    pub connections_open_max: u64,
    /// Arrivals that are kept.
    pub events_kept: u64,
    /// Memory they take, in bytes.
    pub bytes_kept: u64,
    /// Arrivals that made room for later ones.
    pub forgotten: u64,
}

/// The counts of one kind of event, as in [`Stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindStats {
    /// Events taken.
    pub accepted: u64,
    /// Events taken for the first time.
    pub unique_events: u64,
    /// Events taken again.
    pub duplicates: u64,
}

/// Which arrivals are asked for; the default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The path, or path and query, exactly; with a `*` at the end, how they start.
    pub path: Option<String>,
    /// The `order_id` of a conversion.
    pub order_id: Option<String>,
    /// Only what came after this number.
    pub after: u64,
    /// At most so many, the oldest first.
    pub limit: Option<usize>,
}

impl Filter {
    fn lets_pass(&self, arrival: &Arrival) -> bool {
        let path = self.path.as_deref().is_none_or(|path| match path.strip_suffix('*') {
            Some(start) => arrival.target.starts_with(start),
            None => arrival.path() == path || arrival.target == path,
        });
        let order = self.order_id.as_deref();
        path && order.is_none_or(|order| arrival.order_id.as_deref() == Some(order))
    }
}

/// Tells events apart: 128 bits of a digest over what makes two of them the same.
type Identity = [u8; 16];

pub(super) struct Record {
    limits: Limits,
    stats: Stats,
    arrivals: VecDeque<Arc<Arrival>>,
    weight: usize,
    last: u64,
    known: HashSet<Identity>,
    known_in_order: VecDeque<Identity>,
}

impl Record {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            stats: Stats::default(),
            arrivals: VecDeque::new(),
            weight: 0,
            last: 0,
            known: HashSet::new(),
            known_in_order: VecDeque::new(),
        }
    }

    /// A connection brought its first request.
    pub(super) fn connection_opened(&mut self) {
        self.stats.connections_opened += 1;
        self.stats.connections_open += 1;
        let open = self.stats.connections_open;
        self.stats.connections_open_max = self.stats.connections_open_max.max(open);
    }

    /// A connection that brought a request ended.
    pub(super) fn connection_closed(&mut self) {
        self.stats.connections_open -= 1;
    }

    /// The head of a request was read; [`Record::end`] ends it.
    pub(super) fn begin(&mut self) {
        self.stats.requests += 1;
        self.stats.in_hand += 1;
    }

    /// A request was answered, or not.
    pub(super) fn end(&mut self, answer: Option<StatusCode>) {
        self.stats.in_hand -= 1;
        match answer {
            Some(status) => *self.stats.by_status.entry(status.as_u16()).or_default() += 1,
            None => self.stats.unanswered += 1,
        }
    }

    /// A request met the faults of these names.
    pub(super) fn struck(&mut self, names: &[&'static str]) {
        self.stats.faults_injected += u64::from(!names.is_empty());
        for name in names {
            *self.stats.by_fault.entry(name).or_default() += 1;
        }
    }

    /// Keeps `arrival` under the number it answers, tells whether it is a repeat, and counts it.
    pub(super) fn keep(&mut self, mut arrival: Arrival) -> Arc<Arrival> {
        self.last += 1;
        arrival.n = self.last;
        if arrival.outcome == Outcome::Accepted
            && let Some(kind) = arrival.kind
        {
            arrival.outcome = self.take(kind, &arrival);
        }
        let arrival = Arc::new(arrival);
        self.weight += arrival.weight();
        self.arrivals.push_back(Arc::clone(&arrival));
        self.make_room();
        arrival
    }

    fn take(&mut self, kind: EventKind, arrival: &Arrival) -> Outcome {
        let first = self.learn(identity(kind, arrival));
        let by_kind = self.stats.by_kind.entry(kind.as_str()).or_default();
        self.stats.accepted += 1;
        by_kind.accepted += 1;
        if first {
            self.stats.unique_events += 1;
            by_kind.unique_events += 1;
            Outcome::Accepted
        } else {
            self.stats.duplicates += 1;
            by_kind.duplicates += 1;
            Outcome::Duplicate
        }
    }

    /// Whether `identity` is new among those remembered, as it then is.
    fn learn(&mut self, identity: Identity) -> bool {
        let new = self.known.insert(identity);
        if new {
            self.known_in_order.push_back(identity);
            if self.known_in_order.len() > self.limits.identities_max
                && let Some(oldest) = self.known_in_order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
        new
    }

    fn make_room(&mut self) {
        while self.arrivals.len() > self.limits.events_max || self.weight > self.limits.bytes_max {
            let Some(oldest) = self.arrivals.pop_front() else { break };
            self.weight -= oldest.weight();
            self.stats.forgotten += 1;
        }
    }

    /// The arrivals that pass `filter`, the oldest first.
    pub(super) fn arrivals(&self, filter: &Filter) -> Vec<Arc<Arrival>> {
        let from = self.arrivals.partition_point(|arrival| arrival.n <= filter.after);
        let after = self.arrivals.range(from..);
        let passing = after.filter(|arrival| filter.lets_pass(arrival));
        passing.take(filter.limit.unwrap_or(usize::MAX)).cloned().collect()
    }

    /// The arrival of that number, unless it was forgotten.
    pub(super) fn arrival(&self, n: u64) -> Option<Arc<Arrival>> {
        let at = self.arrivals.binary_search_by_key(&n, |arrival| arrival.n).ok()?;
        self.arrivals.get(at).cloned()
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            events_kept: self.arrivals.len() as u64,
            bytes_kept: self.weight as u64,
            ..self.stats.clone()
        }
    }

    /// Forgets arrivals, identities and counts; what is in hand or open stays counted as such.
    pub(super) fn forget(&mut self) {
        let (in_hand, open) = (self.stats.in_hand, self.stats.connections_open);
        let stats = Stats {
            requests: in_hand,
            in_hand,
            connections_open: open,
            connections_open_max: open,
            ..Stats::default()
        };
        *self = Self { stats, last: self.last, ..Self::new(self.limits.clone()) };
    }
}

/// A conversion is known by its `order_id` alone, as upstream; an ad event by all that it says.
fn identity(kind: EventKind, arrival: &Arrival) -> Identity {
    let mut digest = Sha256::new();
    digest.update([kind.code()]);
    if let Some(order_id) = &arrival.order_id {
        digest.update(order_id);
    } else {
        digest.update((arrival.target.len() as u64).to_be_bytes());
        digest.update(&arrival.target);
        digest.update(&arrival.body);
    }
    let mut identity = Identity::default();
    identity.copy_from_slice(&digest.finalize()[..16]);
    identity
}

#[cfg(test)]
mod tests {
    use super::super::arrival::sample;
    use super::*;

    fn record(limits: Limits) -> Record {
        Record::new(limits)
    }

    fn taken(kind: EventKind, target: &str, order_id: Option<&str>) -> Arrival {
        Arrival {
            kind: Some(kind),
            order_id: order_id.map(str::to_owned),
            outcome: Outcome::Accepted,
            ..sample(target, b"{}")
        }
    }

    fn order(order_id: &str) -> Arrival {
        taken(EventKind::Conversion, "/v1/beacon/conversion", Some(order_id))
    }

    fn numbers(record: &Record, filter: &Filter) -> Vec<u64> {
        record.arrivals(filter).iter().map(|arrival| arrival.n).collect()
    }

    #[test]
    fn an_order_is_taken_once_and_known_by_its_id() {
        let mut record = record(Limits::default());
        let again = Arrival { target: "/v2/beacon/conversion".to_owned(), ..order("o1") };
        let outcomes = [order("o1"), again, order("o2")].map(|order| record.keep(order).outcome);
        assert_eq!(outcomes, [Outcome::Accepted, Outcome::Duplicate, Outcome::Accepted]);
        let stats = record.stats();
        assert_eq!((stats.accepted, stats.unique_events, stats.duplicates), (3, 2, 1));
        let by_kind = KindStats { accepted: 3, unique_events: 2, duplicates: 1 };
        assert_eq!(stats.by_kind, BTreeMap::from([("conversion", by_kind)]));
    }

    #[test]
    fn an_ad_event_is_known_by_kind_target_and_body() {
        let mut record = record(Limits::default());
        let click = || taken(EventKind::Click, "/v1/beacon/click/a", None);
        let other_query = taken(EventKind::Click, "/v1/beacon/click/a?pos=1", None);
        let other_body = Arrival { body: b"[]"[..].into(), ..click() };
        let outcomes =
            [click(), other_query, other_body, click()].map(|it| record.keep(it).outcome);
        assert_eq!(outcomes[..3], [Outcome::Accepted; 3]);
        assert_eq!(outcomes[3], Outcome::Duplicate);
    }

    #[test]
    fn what_was_not_taken_is_kept_and_not_counted_as_taken() {
        let mut record = record(Limits::default());
        let faulted = Arrival { outcome: Outcome::Faulted, ..order("o1") };
        assert_eq!(record.keep(faulted).outcome, Outcome::Faulted);
        assert_eq!(record.keep(order("o1")).outcome, Outcome::Accepted);
        assert_eq!(record.stats().accepted, 1);
        assert_eq!(numbers(&record, &Filter::default()), [1, 2]);
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_weight() {
        let mut few = record(Limits { events_max: 2, ..Limits::default() });
        let weight = order("o1").weight();
        let mut light = record(Limits { bytes_max: 2 * weight + 1, ..Limits::default() });
        for record in [&mut few, &mut light] {
            for id in ["o1", "o2", "o3"] {
                record.keep(order(id));
            }
            assert_eq!(numbers(record, &Filter::default()), [2, 3]);
            assert_eq!((record.arrival(1), record.arrival(3).map(|it| it.n)), (None, Some(3)));
            let stats = record.stats();
            assert_eq!((stats.forgotten, stats.events_kept, stats.unique_events), (1, 2, 3));
            assert_eq!(stats.bytes_kept, 2 * weight as u64);
        }
    }

    #[test]
    fn a_repeat_is_known_after_its_first_arrival_was_forgotten() {
        let mut record = record(Limits { events_max: 1, identities_max: 2, ..Limits::default() });
        let outcomes = ["o1", "o2", "o1", "o3", "o1"].map(|id| record.keep(order(id)).outcome);
        let (new, again) = (Outcome::Accepted, Outcome::Duplicate);
        assert_eq!(outcomes, [new, new, again, new, new]);
        assert_eq!(record.known.len(), 2);
    }

    #[test]
    fn a_filter_names_path_order_start_and_number() {
        let mut record = record(Limits::default());
        record.keep(taken(EventKind::Click, "/v1/beacon/click/a?pos=1", None));
        record.keep(taken(EventKind::Click, "/v1/beacon/click/ab", None));
        record.keep(order("o1"));
        record.keep(order("o2"));
        let path = |path: &str| Filter { path: Some(path.to_owned()), ..Filter::default() };
        assert_eq!(numbers(&record, &path("/v1/beacon/click/a")), [1]);
        assert_eq!(numbers(&record, &path("/v1/beacon/click/a?pos=1")), [1]);
        assert_eq!(numbers(&record, &path("/v1/beacon/click/*")), [1, 2]);
        assert_eq!(numbers(&record, &path("/v1/beacon/click/")), Vec::<u64>::new());
        let order = Filter { order_id: Some("o2".to_owned()), ..Filter::default() };
        assert_eq!(numbers(&record, &order), [4]);
        let page = Filter { after: 1, limit: Some(2), ..Filter::default() };
        assert_eq!(numbers(&record, &page), [2, 3]);
    }

    #[test]
    fn forgetting_keeps_what_is_open_and_the_numbers() {
        let mut record = record(Limits::default());
        record.connection_opened();
        record.begin();
        record.begin();
        record.end(Some(StatusCode::ACCEPTED));
        record.keep(order("o1"));
        record.forget();
        let expected = Stats {
            requests: 1,
            in_hand: 1,
            connections_open: 1,
            connections_open_max: 1,
            ..Stats::default()
        };
        assert_eq!(record.stats(), expected);
        let again = record.keep(order("o1"));
        assert_eq!((again.n, again.outcome), (2, Outcome::Accepted));
        record.end(None);
        record.connection_closed();
        let stats = record.stats();
        assert_eq!((stats.requests, stats.unanswered, stats.connections_open), (1, 1, 0));
    }
}
