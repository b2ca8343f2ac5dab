//! From the items of one request to durable deliveries: admit, append, one result each.

use std::sync::Arc;

use tokio::time::Instant;

use crate::event::{Dedupe, DedupeKey, DestinationName, Fingerprint, SourceName};
use crate::ledger::{Ledger, Outcome, Tally};
use crate::metrics::Metrics;
use crate::schema::lint::Warnings;
use crate::schema::{NAME_BYTES_MAX, VIOLATIONS_MAX, Violations};
use crate::source::{Admitted, Raw, Received, Reject, Source};
use crate::spool::{
    AppendError, Appended, Batch, Cause, Found, Lane, NewEvent, Receipt, Spool, StoreFault,
};

/// One item and the way it goes in.
#[derive(Clone, Debug)]
pub struct Item {
    /// Who judges it.
    pub source: Arc<Source>,
    /// Its envelope.
    pub received: Arc<Received>,
    /// Its bytes.
    pub raw: Raw,
}

/// What one request asks for.
#[derive(Debug)]
pub struct Request<'a> {
    /// What items are booked under that were refused before they had a source.
    pub door: &'a SourceName,
    /// The items, or why they are none.
    pub items: Vec<Result<Item, Reject>>,
    /// How urgent they are.
    pub lane: Lane,
    /// Whether a refused one takes the others with it.
    pub unity: Unity,
    /// How the request is told from its repeats.
    pub key: Option<Dedupe>,
    /// When it must be answered.
    pub answer_by: Instant,
}

/// What a refused item means for its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unity {
    /// Nothing.
    Each,
    /// None of them is stored.
    AllOrNothing,
}

/// An item that is durable.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Stored, or a duplicate and of what.
    pub appended: Appended,
    /// What its sender may not have meant.
    pub warnings: Warnings,
    /// The members in which it differs from the one that took its key before.
    pub conflict: Vec<String>,
}

/// What became of a request.
#[derive(Debug)]
pub enum Taken {
    /// One result for each item, in order.
    Each(Vec<Result<Accepted, Reject>>),
    /// Nothing was stored, for these items were refused and [`Unity::AllOrNothing`] was asked for:
    /// each with its place among the items.
    Nothing(Vec<(usize, Reject)>),
}

/// Whoever waits for events that may never come.
pub trait Arrivals: Send + Sync {
    /// An event came that its source knows by `id`, or came again. Must not wait.
    fn arrived(&self, source: &SourceName, id: &str);
}

/// The way in behind every door.
#[derive(Clone)]
pub struct Intake {
    spool: Arc<dyn Spool>,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    arrivals: Option<Arc<dyn Arrivals>>,
}

/// Bytes that are judged in one go: more holds up other connections of the thread. A debug build
/// takes about 3 ms for them, a release build a tenth of that.
const JUDGED_AT_ONCE: usize = 64 << 10;

/// An admitted item while its event is with the spool.
struct Pending {
    source: Arc<Source>,
    warnings: Warnings,
    /// What it looks like, when it has a key.
    fingerprint: Option<Fingerprint>,
    /// What it may be awaited by.
    awaited: Option<String>,
    /// Whose dead letter it is from the start, for nobody can use it.
    dead_to: Vec<DestinationName>,
}

/// An item as it was judged; a refused one with its source, where it had one.
type Judged = Result<Pending, (Option<Arc<Source>>, Reject)>;

impl Intake {
    /// An intake that stores in `spool`.
    #[must_use]
    pub const fn new(spool: Arc<dyn Spool>, ledger: Arc<Ledger>, metrics: Arc<Metrics>) -> Self {
        Self { spool, ledger, metrics, arrivals: None }
    }

    /// Tells `arrivals` of every event that is durable.
    #[must_use]
    pub fn telling(self, arrivals: Arc<dyn Arrivals>) -> Self {
        Self { arrivals: Some(arrivals), ..self }
    }

    /// What became of the event that took `key`; nothing when none did, or too long ago.
    ///
    /// # Errors
    /// [`StoreFault`] when the store cannot be asked.
    pub async fn find(&self, key: DedupeKey) -> Result<Option<Found>, StoreFault> {
        self.spool.find(key).await
    }

    /// Takes the items of one request to durable deliveries.
    ///
    /// A caller that leaves while it waits books its items as abandoned; the write still lands.
    ///
    /// # Errors
    /// [`AppendError`] when nothing is promised: the whole request may be sent again.
    pub async fn accept(&self, request: Request<'_>) -> Result<Taken, AppendError> {
        let Request { door, items, lane, unity, key, answer_by } = request;
        let mut tallies = Tallies::of(&self.ledger, door, &items);
        let (mut events, mut judged) = (Vec::new(), Vec::with_capacity(items.len()));
        let (mut bytes, mut kept) = (0, Kept { violations: VIOLATIONS_MAX, bytes: NAME_BYTES_MAX });
        for item in items {
            if bytes > JUDGED_AT_ONCE {
                bytes = 0;
                tokio::task::yield_now().await;
            }
            bytes += item.as_ref().map_or(0, |item| item.raw.body.len());
            let mut item = self.judge(item, lane, &mut events);
            if let Err((_, Reject::Invalid(violations))) = &mut item {
                kept.take(violations);
            }
            judged.push(item);
        }
        let is_nothing = match unity {
            Unity::AllOrNothing => judged.iter().any(Result::is_err),
            Unity::Each => events.is_empty(),
        };
        if is_nothing && self.is_of_another(key, &judged, answer_by).await {
            tallies.book_all(Outcome::Rejected);
            return Err(AppendError::KeyReused);
        }
        if unity == Unity::AllOrNothing && judged.iter().any(Result::is_err) {
            tallies.book_all(Outcome::Rejected);
            let refused = judged.into_iter().enumerate();
            let refused = refused.filter_map(|(at, item)| Some((at, item.err()?.1)));
            return Ok(Taken::Nothing(refused.collect()));
        }
        let count = events.len();
        let receipt = match self.append(events, key, answer_by).await {
            // The rules that admit items have changed since the first: its answers fit no more.
            Ok(receipt) if receipt.repeated && receipt.appended.len() != count => {
                Err(AppendError::KeyReused)
            }
            answer => answer,
        };
        let Receipt { appended, repeated } = match receipt {
            Ok(receipt) => receipt,
            Err(error) => {
                tallies.book_all(booked(&error));
                return Err(error);
            }
        };
        let mut appended = appended.into_iter();
        let mut results = Vec::with_capacity(judged.len());
        for item in judged {
            results.push(match item {
                Ok(pending) => {
                    let appended = appended.next().ok_or(AppendError::Unsure)?;
                    Ok(self.accepted(pending, appended, repeated, &mut tallies))
                }
                Err((source, reject)) => {
                    tallies.book(source.as_deref(), Outcome::Rejected);
                    Err(reject)
                }
            });
        }
        Ok(Taken::Each(results))
    }

    /// Admits one item; its event goes to `events`.
    fn judge(&self, item: Result<Item, Reject>, lane: Lane, events: &mut Vec<NewEvent>) -> Judged {
        let Item { source, received, raw } = item.map_err(|reject| (None, reject))?;
        match source.admit(&received, &raw) {
            Ok(Admitted { event, warnings, unusable, awaited }) => {
                if let Some(Reject::Invalid(violations)) = &unusable {
                    self.count_violations(&source.settings().name, violations);
                }
                let fingerprint = event.dedupe.map(|dedupe| dedupe.fingerprint);
                let is_dead = event.event.fault.is_some();
                let dead_to = if is_dead { event.to.clone() } else { Vec::new() };
                events.push(NewEvent { lane, ..event });
                Ok(Pending { source, warnings, fingerprint, awaited, dead_to })
            }
            Err(reject) => {
                if let Reject::Invalid(violations) = &reject {
                    self.count_violations(&source.settings().name, violations);
                }
                Err((Some(source), reject))
            }
        }
    }

    /// Whether a request of which nothing is stored has the key of another one, or of one that was
    /// taken before the rules changed. Who has not shown who it is learns nothing of keys; and a
    /// store that cannot say makes no refused request a better one.
    async fn is_of_another(&self, key: Option<Dedupe>, judged: &[Judged], by: Instant) -> bool {
        let is_unknown = |item: &Judged| matches!(item, Err((_, Reject::Unauthorized)));
        let Some(request) = key.filter(|_| !judged.iter().any(is_unknown)) else { return false };
        let asked = Batch { events: Vec::new(), request: Some(request) };
        match tokio::time::timeout_at(by, self.spool.append(asked)).await {
            Ok(Ok(receipt)) => receipt.repeated,
            Ok(Err(AppendError::KeyReused)) => true,
            Ok(Err(
                AppendError::Full { .. }
                | AppendError::TooLarge { .. }
                | AppendError::Busy
                | AppendError::Closed
                | AppendError::Unsure
                | AppendError::Fault(_),
            ))
            | Err(_) => false,
        }
    }

    /// Counts each pair of keyword and field once, with how often it is there: one body can break
    /// a rule some ten thousand times.
    fn count_violations(&self, source: &SourceName, violations: &Violations) {
        let mut kinds: Vec<(&str, &str, u64)> = Vec::new();
        for violation in violations.iter() {
            let (keyword, field) = (violation.keyword(), violation.field());
            match kinds.iter_mut().find(|(k, f, _)| (*k, *f) == (keyword, field)) {
                Some((.., count)) => *count += 1,
                None => kinds.push((keyword, field, 1)),
            }
        }
        for (keyword, field, count) in kinds {
            self.metrics.violations(source, keyword, field, count);
        }
    }

    async fn append(
        &self,
        events: Vec<NewEvent>,
        request: Option<Dedupe>,
        by: Instant,
    ) -> Result<Receipt, AppendError> {
        if events.is_empty() {
            return Ok(Receipt::default());
        }
        let write = self.spool.append(Batch { events, request });
        // Handed over even when it is too late for an answer: then a repeat finds it stored.
        match tokio::time::timeout_at(by, write).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(AppendError::Unsure),
        }
    }

    fn accepted(
        &self,
        pending: Pending,
        appended: Appended,
        repeated: bool,
        tallies: &mut Tallies,
    ) -> Accepted {
        let Pending { source, warnings, fingerprint, awaited, dead_to } = pending;
        let name = &source.settings().name;
        if let (Some(arrivals), Some(id)) = (&self.arrivals, awaited) {
            arrivals.arrived(name, &id);
        }
        let mut conflict = Vec::new();
        if let (Appended::Duplicate { fingerprint: first, .. }, Some(own)) =
            (&appended, fingerprint)
        {
            conflict = source.conflict(first, &own).into_iter().map(str::to_owned).collect();
        }
        // Counted with the first: a client that tries again has not erred twice.
        if repeated {
            tallies.book(Some(&source), Outcome::Duplicate);
            return Accepted { appended, warnings, conflict };
        }
        if !conflict.is_empty() {
            self.metrics.conflict(name);
            let members = conflict.join(" ");
            tracing::info!(source = %name, %members, "a repeat is in conflict with the first, which stays");
        }
        tallies.book(
            Some(&source),
            match &appended {
                Appended::Stored(_) => {
                    for lint in warnings.lints() {
                        self.metrics.warning(name, lint.as_str());
                    }
                    self.count_dead(name, &dead_to);
                    Outcome::Accepted
                }
                Appended::Duplicate { .. } => Outcome::Duplicate,
            },
        );
        Accepted { appended, warnings, conflict }
    }

    /// Tells of what ended when it was stored. The forwarder never sees it, unless there was no room
    /// for its letter at first; then it does not count it again.
    fn count_dead(&self, source: &SourceName, dead_to: &[DestinationName]) {
        for destination in dead_to {
            self.metrics.delivery(&self.metrics.destination(destination), "dead");
            let cause = Cause::Invalid.as_str();
            tracing::warn!(%destination, %source, cause, "of no use, kept as a dead letter");
        }
    }
}

/// What became of items whose request was not taken: what would be refused again is no want of the
/// store's.
const fn booked(error: &AppendError) -> Outcome {
    match error {
        AppendError::KeyReused | AppendError::TooLarge { .. } => Outcome::Rejected,
        AppendError::Full { .. } | AppendError::Busy | AppendError::Closed => Outcome::Unavailable,
        AppendError::Unsure | AppendError::Fault(_) => Outcome::Unavailable,
    }
}

/// What may yet be kept of a request's violations.
struct Kept {
    violations: usize,
    bytes: usize,
}

impl Kept {
    /// Withdraws what is too much, but never the first of an item.
    fn take(&mut self, violations: &mut Violations) {
        violations.keep(self.violations.max(1), self.bytes);
        self.violations = self.violations.saturating_sub(violations.len());
        self.bytes = self.bytes.saturating_sub(violations.name_bytes());
    }
}

/// One tally for each source of a request, of which there are few.
struct Tallies {
    door: SourceName,
    open: Vec<(SourceName, Tally)>,
}

impl Tallies {
    fn of(ledger: &Ledger, door: &SourceName, items: &[Result<Item, Reject>]) -> Self {
        let mut counts: Vec<(&SourceName, usize)> = Vec::new();
        for item in items {
            let name = item.as_ref().map_or(door, |item| &item.source.settings().name);
            match counts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, count)) => *count += 1,
                None => counts.push((name, 1)),
            }
        }
        let open = counts.into_iter();
        let open = open.map(|(name, count)| (name.clone(), ledger.items(name, count)));
        Self { door: door.clone(), open: open.collect() }
    }

    fn book(&mut self, source: Option<&Source>, outcome: Outcome) {
        let name = source.map_or(&self.door, |source| &source.settings().name);
        if let Some((_, tally)) = self.open.iter_mut().find(|(known, _)| known == name) {
            tally.book(outcome);
        }
    }

    fn book_all(&mut self, outcome: Outcome) {
        for (_, tally) in &mut self.open {
            tally.book_rest(outcome);
        }
    }
}
