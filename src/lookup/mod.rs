//! A notification that never came: what is awaited, and asking its vendor when it did not come.
//!
//! Each source with a `[source.lookup]` table has one task, which asks one thing at a time and at
//! its own rate. What the vendor tells becomes a notification that goes in as all others do; only
//! nobody signs it, for it is the relay that asked.

mod awaited;
mod mapping;
mod vendor;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::caller::{Caller, Rate};
use crate::clock::{Clock, Timestamp};
use crate::event::{ClientHeaders, SourceName};
use crate::forward::backoff::Backoff;
use crate::intake::{Accepted, Arrivals, Intake, Item, Request, Taken, Unity};
use crate::metrics::Metrics;
use crate::source::media::Media;
use crate::source::sent_at::SentAt;
use crate::source::{Raw, Received, Source};
use crate::spool::{AppendError, Appended, Lane, Shelf, Spool, StoreFault};

use awaited::{Awaited, Entry};
use vendor::Vendor;

pub use awaited::{RegisterError, Registered};
pub use mapping::{Content, MARK, Mapping, Member, Pending};
pub use vendor::{Failure, Grant, Settings as Asking};

/// How often a task looks without being told: a clock that was set tells nobody.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Bytes of an id; with the source's name it is the key of a note.
const ID_BYTES_MAX: usize = 200;

/// What a `[source.lookup]` table says, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The source whose notifications are looked up.
    pub source: SourceName,
    /// How its vendor is asked.
    pub asking: Asking,
    /// How an answer becomes a notification.
    pub mapping: Mapping,
    /// Lookups in how long; one follows the other in no less than what one takes of it.
    pub rate: Rate,
    /// Waits between the attempts for one notification.
    pub backoff: Backoff,
    /// Attempts for one notification; then it is given up.
    pub attempts_max: u32,
    /// Notifications awaited at once.
    pub awaited_max: usize,
}

/// What came of an attempt; [`Outcome::GaveUp`] of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A notification, which is stored.
    Stored,
    /// A notification that was stored before.
    Duplicate,
    /// It came by itself while the vendor was asked.
    Came,
    /// The vendor has nothing to tell yet.
    Pending,
    /// The vendor knows no such id, or not yet.
    NotFound,
    /// The vendor asks to be left alone.
    Throttled,
    /// The vendor does not take the credentials.
    Unauthorized,
    /// No token was granted.
    NoToken,
    /// The vendor refuses what is asked.
    Refused,
    /// No whole answer, or one of a fault of the vendor's.
    Failed,
    /// An answer of which the mapping and the source's schema make no notification.
    Unusable,
    /// The notification could not be stored.
    NotStored,
    /// Nothing came of the last attempt either.
    GaveUp,
}

impl Outcome {
    /// As metrics and operators see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Came => "came",
            Self::Pending => "pending",
            Self::NotFound => "not_found",
            Self::Throttled => "throttled",
            Self::Unauthorized => "unauthorized",
            Self::NoToken => "no_token",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unusable => "unusable",
            Self::NotStored => "not_stored",
            Self::GaveUp => "gave_up",
        }
    }
}

/// Asks a vendor once, and makes the notification of its answer.
///
/// # Errors
/// [`Failure`], which says what came instead.
pub async fn look_up(settings: &Settings, clock: Clock, id: &str) -> Result<Vec<u8>, Failure> {
    let vendor = Vendor::new(settings.asking.clone(), clock);
    Ok(settings.mapping.notification(id, &vendor.ask(id).await?)?)
}

/// Whether a text may be awaited: it becomes part of a URL.
#[must_use]
pub fn is_id(id: &str) -> bool {
    let is_step = id == "." || id == "..";
    (1..=ID_BYTES_MAX).contains(&id.len()) && !is_step && !id.chars().any(char::is_control)
}

/// What is awaited of every source that can be asked for it.
pub struct Lookups {
    watches: BTreeMap<SourceName, Arc<Watch>>,
    spool: Arc<dyn Spool>,
    tasks: TaskTracker,
}

/// One source, its vendor and what is awaited.
struct Watch {
    settings: Settings,
    vendor: Vendor,
    awaited: Awaited,
    /// As it runs now, but that nobody signs.
    source: Mutex<Arc<Source>>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl Lookups {
    /// Nothing is awaited yet. A table whose source does not run is left out.
    #[must_use]
    pub fn new(
        settings: Vec<Settings>,
        spool: &Arc<dyn Spool>,
        sources: &[Arc<Source>],
        metrics: &Arc<Metrics>,
        clock: &Clock,
    ) -> Arc<Self> {
        let watch = |settings: Settings| {
            let name = settings.source.clone();
            let source = sources.iter().find(|one| one.settings().name == name)?;
            let (spool, metrics) = (Arc::clone(spool), Arc::clone(metrics));
            let max = settings.awaited_max;
            let awaited = Awaited::new(name.clone(), spool, Arc::clone(&metrics), max);
            let source = Mutex::new(Arc::new(source.vouched()));
            let vendor = Vendor::new(settings.asking.clone(), clock.clone());
            let clock = clock.clone();
            Some((name, Arc::new(Watch { settings, vendor, awaited, source, metrics, clock })))
        };
        let watches = settings.into_iter().filter_map(watch).collect();
        Arc::new(Self { watches, spool: Arc::clone(spool), tasks: TaskTracker::new() })
    }

    /// Takes up what was awaited when the relay last ran, and looks up what is due until `stop`.
    ///
    /// # Errors
    /// [`StoreFault`] when the spool cannot be asked.
    pub async fn start(&self, intake: &Intake, stop: &CancellationToken) -> Result<(), StoreFault> {
        for (key, value) in
            self.spool.notes(Shelf::Awaited, None, Shelf::Awaited.notes_max()).await?
        {
            let key = String::from_utf8_lossy(&key).into_owned();
            let (source, id) = key.split_once('/').unwrap_or((&key, ""));
            let watch = self.watches.get(&SourceName::new(source));
            match (watch, serde_json::from_slice::<Entry>(&value)) {
                (Some(watch), Ok(entry)) => watch.awaited.take_up(id.to_owned(), entry),
                (Some(_), Err(_)) => {
                    tracing::error!(source, "an awaited notification cannot be read")
                }
                (None, _) => {
                    tracing::warn!(
                        source,
                        "is not looked up any more, and a notification is awaited of it"
                    );
                }
            }
        }
        for watch in self.watches.values() {
            let (watch, intake, stop) = (Arc::clone(watch), intake.clone(), stop.clone());
            self.tasks.spawn(async move {
                // Cut off at any point, it asks again after the next start.
                stop.run_until_cancelled(watch.run(intake)).await;
            });
        }
        Ok(())
    }

    /// Waits until every task has ended, after the stop.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Puts sources in force that were configured anew.
    pub fn renew(&self, sources: &[Arc<Source>]) {
        for source in sources {
            if let Some(watch) = self.watches.get(&source.settings().name) {
                let vouched = Arc::new(source.vouched());
                *watch.source.lock().unwrap_or_else(PoisonError::into_inner) = vouched;
            }
        }
    }

    /// The sources that can be asked about.
    pub fn sources(&self) -> impl Iterator<Item = &SourceName> {
        self.watches.keys()
    }

    /// Awaits a notification; nothing when the source cannot be asked about.
    ///
    /// # Errors
    /// [`RegisterError`]; then all is as before.
    pub async fn register(
        &self,
        source: &SourceName,
        id: &str,
        deadline: Timestamp,
    ) -> Option<Result<Registered, RegisterError>> {
        Some(self.watches.get(source)?.awaited.register(id, deadline).await)
    }

    /// Awaits a notification no longer; nothing when the source cannot be asked about.
    ///
    /// # Errors
    /// [`AppendError`]; then it is awaited still.
    pub async fn forget(&self, source: &SourceName, id: &str) -> Option<Result<bool, AppendError>> {
        Some(self.watches.get(source)?.awaited.forget(id).await)
    }

    /// Up to `max` awaited of a source behind `after`; nothing when it cannot be asked about.
    #[must_use]
    pub fn list(&self, source: &SourceName, after: Option<&str>, max: usize) -> Option<Vec<Value>> {
        let entries = self.watches.get(source)?.awaited.list(after, max).into_iter();
        let shown = entries.map(|(id, entry)| {
            json!({
                "source": source.as_str(), "id": id, "deadline": entry.deadline().to_string(),
                "attempts": entry.attempts, "next_at": entry.due().to_string(),
            })
        });
        Some(shown.collect())
    }

    /// How many are awaited of each source, for status.
    #[must_use]
    pub fn report(&self) -> Value {
        let each = self.watches.iter().map(|(name, watch)| {
            let (count, max) = (watch.awaited.len(), watch.settings.awaited_max);
            json!({ "source": name.as_str(), "count": count, "max": max })
        });
        each.collect()
    }
}

impl Arrivals for Lookups {
    fn arrived(&self, source: &SourceName, id: &str) {
        if let Some(watch) = self.watches.get(source) {
            watch.awaited.over(id);
        }
    }
}

impl Watch {
    /// Looks up one after the other what is due.
    async fn run(&self, intake: Intake) {
        let mut random = fastrand::Rng::new();
        let mut not_before = Instant::now();
        loop {
            self.awaited.flush().await;
            let first = self.awaited.first();
            let wait = first.as_ref().map_or(LOOK_EVERY, |(_, entry)| {
                let left = not_before.saturating_duration_since(Instant::now());
                entry.due().since(self.clock.now()).max(left)
            });
            let Some((id, entry)) = first.filter(|_| wait.is_zero()) else {
                // A change that is told before this waits is remembered.
                let waited =
                    tokio::time::timeout(wait.min(LOOK_EVERY), self.awaited.changed.notified());
                let _either = waited.await;
                continue;
            };
            let Failure { outcome, wait: asked } = self.look(&id, &intake).await;
            let hold = asked.unwrap_or_default().min(self.settings.backoff.retry_after_max);
            not_before = Instant::now() + hold.max(self.settings.rate.item_time());
            self.settle(&id, entry, outcome, asked, &mut random).await;
        }
    }

    /// Asks, and hands in what was told.
    async fn look(&self, id: &str, intake: &Intake) -> Failure {
        let answer = match self.vendor.ask(id).await {
            Ok(answer) => answer,
            Err(failure) => return failure,
        };
        if !self.awaited.has(id) {
            return Outcome::Came.into();
        }
        match self.settings.mapping.notification(id, &answer) {
            Ok(body) => self.hand_in(body.into(), intake).await.into(),
            Err(outcome) => outcome.into(),
        }
    }

    async fn hand_in(&self, body: Bytes, intake: &Intake) -> Outcome {
        let source = Arc::clone(&self.source.lock().unwrap_or_else(PoisonError::into_inner));
        let settings = source.settings();
        let received = Arc::new(Received {
            target: Bytes::copy_from_slice(settings.path.as_bytes()),
            at: self.clock.now(),
            // No request came.
            caller: Caller::terminal(false),
            sent_at: SentAt::Unsaid,
            headers: ClientHeaders::default(),
        });
        let raw = Raw { body, media: Media::Json };
        let item = Item { source: Arc::clone(&source), received, raw };
        let now = Instant::now();
        let taken = intake.accept(Request {
            door: &settings.name,
            items: vec![Ok(item)],
            lane: Lane::Live,
            unity: Unity::Each,
            key: None,
            answer_by: settings.answer_by(now, now),
        });
        match taken.await {
            Ok(Taken::Each(mut results)) => match results.pop() {
                Some(Ok(Accepted { appended: Appended::Stored(_), .. })) => Outcome::Stored,
                Some(Ok(Accepted { appended: Appended::Duplicate { .. }, .. })) => {
                    Outcome::Duplicate
                }
                Some(Err(_)) | None => Outcome::Unusable,
            },
            Ok(Taken::Nothing(_)) => Outcome::Unusable,
            Err(_) => Outcome::NotStored,
        }
    }

    async fn settle(
        &self,
        id: &str,
        entry: Entry,
        outcome: Outcome,
        asked: Option<Duration>,
        random: &mut fastrand::Rng,
    ) {
        let source = &self.settings.source;
        self.metrics.lookup(source, outcome.as_str());
        tracing::info!(%source, outcome = outcome.as_str(), "looked up a notification");
        let attempts = match outcome {
            Outcome::Stored | Outcome::Duplicate | Outcome::Came => return self.awaited.over(id),
            // No fault of the vendor's.
            Outcome::NotStored => entry.attempts,
            Outcome::Pending
            | Outcome::NotFound
            | Outcome::Throttled
            | Outcome::Unauthorized
            | Outcome::NoToken
            | Outcome::Refused
            | Outcome::Failed
            | Outcome::Unusable
            | Outcome::GaveUp => entry.attempts + 1,
        };
        if attempts >= self.settings.attempts_max {
            self.metrics.lookup(source, Outcome::GaveUp.as_str());
            let why = outcome.as_str();
            tracing::error!(%source, id, why, "a notification neither came nor could be looked up");
            return self.awaited.over(id);
        }
        let wait = self.settings.backoff.wait(attempts.max(1), asked, random);
        self.awaited.put_off(id, attempts, self.clock.now().after(wait)).await;
    }
}

impl std::fmt::Debug for Lookups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookups").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_segment_of_a_path() {
        for good in
            ["4f5ee709-28d7-4b68-8716-dd912157919f", "a b", "é", "a/b", "...", &"x".repeat(200)]
        {
            assert!(is_id(good), "{good}");
        }
        for bad in ["", ".", "..", "a\n", &"x".repeat(201)] {
            assert!(!is_id(bad), "{bad}");
        }
    }
}
