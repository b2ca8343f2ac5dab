//! What one source waits for: in memory, and durably on a shelf of the spool.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};

use crate::clock::Timestamp;
use crate::event::SourceName;
use crate::metrics::Metrics;
use crate::spool::{AppendError, Shelf, Spool};

/// One notification that is awaited, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    deadline: u64,
    /// Lookups that told nothing.
    pub(super) attempts: u32,
    due: u64,
}

impl Entry {
    pub(super) const fn until(deadline: Timestamp) -> Self {
        let deadline = deadline.as_millis();
        Self { deadline, attempts: 0, due: deadline }
    }

    pub(super) const fn deadline(&self) -> Timestamp {
        Timestamp::from_millis(self.deadline)
    }

    /// When it is looked up next.
    pub(super) const fn due(&self) -> Timestamp {
        Timestamp::from_millis(self.due)
    }
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// It is awaited from now on.
    New,
    /// It was awaited, and has another deadline now.
    Again,
}

/// Why nothing is awaited.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The source awaits as many as it may.
    #[error("as many notifications are awaited as [source.lookup] awaited_max allows")]
    TooMany,
    /// It could not be kept.
    #[error("the store did not take it")]
    Store(#[from] AppendError),
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    /// No longer awaited, and yet on the shelf.
    over: BTreeSet<String>,
}

/// The awaited notifications of one source.
pub(super) struct Awaited {
    source: SourceName,
    spool: Arc<dyn Spool>,
    metrics: Arc<Metrics>,
    max: usize,
    state: Mutex<State>,
    /// Told when something changed that the source's task looks at.
    pub(super) changed: Notify,
    /// One writer at a time, so that the last write of a note is what is in memory.
    writing: Semaphore,
}

impl Awaited {
    pub(super) fn new(
        source: SourceName,
        spool: Arc<dyn Spool>,
        metrics: Arc<Metrics>,
        max: usize,
    ) -> Self {
        let (state, changed, writing) = (Mutex::default(), Notify::new(), Semaphore::new(1));
        let own = Self { source, spool, metrics, max, state, changed, writing };
        own.count();
        own
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) {
        let count = u32::try_from(self.lock().entries.len()).unwrap_or(u32::MAX);
        self.metrics.set("awaited", &[self.source.as_str()], f64::from(count));
    }

    /// Takes up what the shelf holds.
    pub(super) fn take_up(&self, id: String, entry: Entry) {
        self.lock().entries.insert(id, entry);
        self.count();
    }

    /// Awaits `id` until `deadline`; durable when it returns.
    ///
    /// # Errors
    /// [`RegisterError`]; then all is as before.
    pub(super) async fn register(
        &self,
        id: &str,
        deadline: Timestamp,
    ) -> Result<Registered, RegisterError> {
        let before = {
            let mut state = self.lock();
            if !state.entries.contains_key(id) && state.entries.len() >= self.max {
                return Err(RegisterError::TooMany);
            }
            state.entries.insert(id.to_owned(), Entry::until(deadline))
        };
        if let Err(error) = self.save(id).await {
            self.put(id, before);
            return Err(error.into());
        }
        self.count();
        self.changed.notify_one();
        Ok(before.map_or(Registered::New, |_| Registered::Again))
    }

    fn put(&self, id: &str, entry: Option<Entry>) {
        let mut state = self.lock();
        match entry {
            Some(entry) => state.entries.insert(id.to_owned(), entry),
            None => state.entries.remove(id),
        };
    }

    /// Awaits `id` no longer; `false` when it was not awaited.
    ///
    /// # Errors
    /// [`AppendError`]; then it is awaited still.
    pub(super) async fn forget(&self, id: &str) -> Result<bool, AppendError> {
        let before = self.lock().entries.remove(id);
        if let Err(error) = self.save(id).await {
            self.put(id, before);
            return Err(error);
        }
        self.count();
        Ok(before.is_some())
    }

    /// It is over: what came, was looked up, or was given up. The shelf is told soon; a crash before
    /// that asks the vendor once more, which at worst tells a repeat.
    pub(super) fn over(&self, id: &str) {
        let mut state = self.lock();
        if state.entries.remove(id).is_some() {
            state.over.insert(id.to_owned());
            drop(state);
            self.count();
            self.changed.notify_one();
        }
    }

    /// Tells the shelf what is over.
    pub(super) async fn flush(&self) {
        loop {
            let Some(id) = self.lock().over.pop_first() else { return };
            if let Err(error) = self.save(&id).await {
                tracing::warn!(source = %self.source, %error, "what is no longer awaited is noted later");
                self.lock().over.insert(id);
                return;
            }
        }
    }

    /// Whether it is awaited still.
    pub(super) fn has(&self, id: &str) -> bool {
        self.lock().entries.contains_key(id)
    }

    /// What is due first.
    pub(super) fn first(&self) -> Option<(String, Entry)> {
        let state = self.lock();
        let first = state.entries.iter().min_by_key(|(_, entry)| entry.due);
        first.map(|(id, entry)| (id.clone(), *entry))
    }

    /// Puts off a lookup that told nothing to `due`.
    pub(super) async fn put_off(&self, id: &str, attempts: u32, due: Timestamp) {
        {
            let mut state = self.lock();
            let Some(entry) = state.entries.get_mut(id) else { return };
            (entry.attempts, entry.due) = (attempts, due.as_millis());
        }
        if let Err(error) = self.save(id).await {
            // A restart would only come back to it earlier.
            tracing::warn!(source = %self.source, %error, "a lookup's next attempt is not noted");
        }
    }

    /// Up to `max` of them behind `after`, in the order of their ids.
    pub(super) fn list(&self, after: Option<&str>, max: usize) -> Vec<(String, Entry)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.lock();
        let found = state.entries.range::<str, _>((from, Bound::Unbounded)).take(max);
        found.map(|(id, entry)| (id.clone(), *entry)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Writes what is in memory of `id`, whatever that is by now.
    async fn save(&self, id: &str) -> Result<(), AppendError> {
        let Ok(_turn) = self.writing.acquire().await else { return Err(AppendError::Closed) };
        let entry = self.lock().entries.get(id).copied();
        let value = entry.and_then(|entry| serde_json::to_vec(&entry).ok()).map(Bytes::from);
        let key = Bytes::from(format!("{}/{id}", self.source));
        self.spool.note(Shelf::Awaited, key, value).await
    }
}
