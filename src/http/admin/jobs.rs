//! Replays and drops of all letters that a filter selects, in the background: paced, resumed after a
//! restart, seen in status, stopped by hand.
//!
//! A job sees each letter once, in the order of ids, and none that was given up after it began; so a
//! letter that is replayed and given up again is not replayed for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::audit::{Audit, Entry};
use super::selection::Selection;
use crate::caller::Rate;
use crate::clock::{Clock, Timestamp};
use crate::forward::Forwarder;
use crate::http::problem::{Code, Problem};
use crate::spool::{AppendError, DeadLetter, DeadQuery, DeliveryId, Shelf, Spool, StoreFault};

/// Jobs under way at once.
const JOBS_MAX: usize = 8;
/// Letters of one step.
const STEP: usize = 256;
/// How long one step of a paced job may stand for, so that letters go evenly.
const STEP_SPAN: Duration = Duration::from_millis(250);
/// Wait before a step is tried again that the store had no room for.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// What is done with letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Replay,
    Drop,
}

impl Action {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Drop => "drop",
        }
    }
}

/// What became of letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Selected.
    pub(super) matched: usize,
    /// In line again.
    pub(super) replayed: usize,
    /// Gone for good.
    pub(super) dropped: usize,
    /// Left: too old for their destination, so they would come back as expired.
    pub(super) expired: usize,
    /// Left: a later event has their dedupe key.
    pub(super) duplicates: usize,
    /// Left: their destination is not configured any more.
    pub(super) orphaned: usize,
    /// Not there any more.
    pub(super) missing: usize,
}

impl Counts {
    pub(super) fn json(self) -> Value {
        json!({
            "matched": self.matched, "replayed": self.replayed, "dropped": self.dropped,
            "expired": self.expired, "duplicates": self.duplicates, "orphaned": self.orphaned,
            "missing": self.missing,
        })
    }
}

/// A job as it is kept over a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Job {
    action: Action,
    selection: Selection,
    rate: Option<String>,
    /// Letters that were given up later are none of its.
    by: u64,
    /// The last letter that was seen.
    after: Option<u64>,
    counts: Counts,
    /// Its entry in the audit record.
    entry: Value,
}

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// The store has no room; it goes on by itself.
    Waiting(&'static str),
    Done,
    /// An operator stopped it.
    Stopped,
    /// The store failed, or the relay stops: it goes on after the next start.
    Kept,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting(_) => "waiting",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Kept => "kept",
        }
    }
}

/// A job under way.
#[derive(Debug)]
pub(super) struct Running {
    id: String,
    job: Mutex<(Job, State)>,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Running {
    fn state(&self) -> MutexGuard<'_, (Job, State)> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its end, for so long at most.
    pub(super) async fn ended(&self, within: Duration) {
        // What it says then is the answer in either case.
        let _ended = tokio::time::timeout(within, self.ended.cancelled()).await;
    }

    /// As answered and as seen in status.
    pub(super) fn report(&self) -> Value {
        let guard = self.state();
        let (job, state) = &*guard;
        let mut report = json!({
            "id": self.id,
            "action": job.action.as_str(),
            "state": state.as_str(),
            "who": job.entry["who"],
            "started_at": Timestamp::from_millis(job.by).to_string(),
            "filter": job.selection.shown(),
            "rate": job.rate,
        });
        if let State::Waiting(code) = state {
            report["waiting_for"] = json!(code);
        }
        if let (Value::Object(report), Value::Object(counts)) = (&mut report, job.counts.json()) {
            report.extend(counts);
        }
        report
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state().1, State::Done | State::Stopped)
    }
}

/// What goes on in the background for operators, and what they act on.
pub struct Jobs {
    spool: Arc<dyn Spool>,
    forwarders: Vec<Arc<Forwarder>>,
    clock: Clock,
    audit: Audit,
    running: Mutex<BTreeMap<String, Arc<Running>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Jobs {
    /// No jobs yet. They end between two steps when `stop` is cancelled.
    #[must_use]
    pub fn new(
        spool: Arc<dyn Spool>,
        forwarders: Vec<Arc<Forwarder>>,
        clock: Clock,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            audit: Audit::new(Arc::clone(&spool), clock.clone()),
            spool,
            forwarders,
            clock,
            running: Mutex::default(),
            tasks: TaskTracker::new(),
            stop,
        })
    }

    /// Takes up what a stop or a crash left, pauses too.
    ///
    /// # Errors
    /// [`StoreFault`] when the spool cannot be asked.
    pub async fn resume(self: &Arc<Self>) -> Result<(), StoreFault> {
        super::pause::restore(self.spool.as_ref(), &self.forwarders).await?;
        let notes = self.spool.notes(Shelf::Jobs, None, Shelf::Jobs.notes_max()).await?;
        for (key, value) in notes {
            let Ok(id) = String::from_utf8(key.to_vec()) else { continue };
            match serde_json::from_slice::<Job>(&value) {
                Ok(job) => {
                    tracing::info!(job.id = id, action = job.action.as_str(), "goes on");
                    self.spawn(id, job);
                }
                Err(_) => tracing::error!(job.id = id, "cannot be read, and is left alone"),
            }
        }
        Ok(())
    }

    /// Waits until every job has ended its step, after `stop` was cancelled.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(super) fn spool(&self) -> &Arc<dyn Spool> {
        &self.spool
    }

    pub(super) fn forwarders(&self) -> &[Arc<Forwarder>] {
        &self.forwarders
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) const fn audit(&self) -> &Audit {
        &self.audit
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every job under way.
    pub(super) fn report(&self) -> Value {
        self.list().values().map(|running| running.report()).collect()
    }

    /// Refuses one job too many.
    pub(super) fn has_room(&self) -> Result<(), Problem> {
        if self.stop.is_cancelled() {
            return Err(Problem::new(Code::Draining, "the relay is stopping"));
        }
        if self.list().len() < JOBS_MAX {
            return Ok(());
        }
        let detail = format!(
            "{JOBS_MAX} jobs are under way: wait for one to end (GET /api/status), or stop one with \
             DELETE /api/jobs/{{id}}"
        );
        Err(Problem::new(Code::TooManyJobs, detail))
    }

    /// Begins a job that is on the record.
    pub(super) async fn begin(
        self: &Arc<Self>,
        action: Action,
        selection: Selection,
        rate: Option<Rate>,
        entry: Entry,
    ) -> Result<Arc<Running>, Problem> {
        let by = self.clock.now().as_millis();
        let rate = rate.map(|rate| rate.to_string());
        let (value, counts) = (entry.value().clone(), Counts::default());
        let job = Job { action, selection, rate, by, after: None, counts, entry: value };
        if let Err(error) = self.keep(&entry.id, &job).await {
            self.audit.end(entry, json!({ "refused": error.code() })).await;
            return Err(error.into());
        }
        Ok(self.spawn(entry.id, job))
    }

    /// Stops a job between two steps; nothing when there is none of that name.
    pub(super) fn stop(&self, id: &str) -> Option<Arc<Running>> {
        let running = self.list().get(id).cloned()?;
        running.stop.cancel();
        Some(running)
    }

    fn spawn(self: &Arc<Self>, id: String, job: Job) -> Arc<Running> {
        let running = Arc::new(Running {
            id: id.clone(),
            job: Mutex::new((job, State::Running)),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        self.list().insert(id, Arc::clone(&running));
        self.tasks.spawn(Arc::clone(self).run(Arc::clone(&running)));
        running
    }

    async fn keep(&self, id: &str, job: &Job) -> Result<(), AppendError> {
        let value = serde_json::to_vec(job).unwrap_or_default();
        self.spool.note(Shelf::Jobs, Bytes::from(id.to_owned()), Some(value.into())).await
    }

    async fn run(self: Arc<Self>, running: Arc<Running>) {
        let state = self.steps(&running).await;
        let (job, entry) = {
            let mut guard = running.state();
            guard.1 = state;
            (guard.0.clone(), guard.0.entry.clone())
        };
        if state != State::Kept {
            let mut outcome = job.counts.json();
            outcome["state"] = json!(state.as_str());
            self.audit.end(Entry::kept(running.id.clone(), entry), outcome).await;
            let key = Bytes::from(running.id.clone());
            if let Err(error) = self.spool.note(Shelf::Jobs, key, None).await {
                tracing::error!(job.id = running.id, %error, "ended, and will be looked at again");
            }
        }
        self.list().remove(&running.id);
        running.ended.cancel();
    }

    /// One step after the other until there are no letters, or somebody stops it.
    async fn steps(&self, running: &Running) -> State {
        let rate = running.state().0.rate.as_deref().and_then(|rate| rate.parse::<Rate>().ok());
        let most = rate.map_or(STEP, |rate| rate.items_in(STEP_SPAN).clamp(1, STEP));
        loop {
            if self.stop.is_cancelled() {
                return State::Kept;
            }
            if running.stop.is_cancelled() {
                return State::Stopped;
            }
            let mut job = running.state().0.clone();
            let wait = match self.step(&mut job, most).await {
                Ok((taken, more)) => {
                    *running.state() = (job.clone(), State::Running);
                    if !more {
                        return State::Done;
                    }
                    if let Err(error) = self.keep(&running.id, &job).await {
                        // The letters moved all the same; a crash now would look at them again.
                        tracing::warn!(job.id = running.id, %error, "how far it is was not kept");
                    }
                    rate.map_or(Duration::ZERO, |rate| rate.time_of(taken))
                }
                Err(AppendError::Closed) => return State::Kept,
                Err(AppendError::Fault(fault)) => {
                    tracing::error!(job.id = running.id, %fault, "the store failed");
                    return State::Kept;
                }
                Err(
                    error @ (AppendError::Full { .. }
                    | AppendError::Busy
                    | AppendError::Unsure
                    | AppendError::TooLarge { .. }
                    | AppendError::KeyReused),
                ) => {
                    running.state().1 = State::Waiting(error.code());
                    ROOM_WAIT
                }
            };
            // Any of these ends the wait; all are cancel-safe.
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => {}
                () = running.stop.cancelled() => {}
            }
        }
    }

    /// Moves the next letters; answers how many were moved and whether there may be more.
    async fn step(&self, job: &mut Job, most: usize) -> Result<(usize, bool), AppendError> {
        let filter = job.selection.filter(Some(Timestamp::from_millis(job.by)));
        let query = DeadQuery { after: job.after.map(DeliveryId), max: most, filter };
        let page = self.spool.dead(query).await?;
        let mut counts = job.counts;
        let moved = self.act(job.action, &page.letters, &mut counts).await?;
        job.counts = counts;
        job.after = page.next.map(|next| next.0).or(job.after);
        Ok((moved, page.next.is_some()))
    }

    /// Moves these letters and counts; answers how many were moved.
    async fn act(
        &self,
        action: Action,
        letters: &[DeadLetter],
        counts: &mut Counts,
    ) -> Result<usize, AppendError> {
        match action {
            Action::Drop => {
                let ids: Vec<DeliveryId> = letters.iter().map(|letter| letter.id).collect();
                let dropped = self.spool.drop_dead(&ids).await?;
                counts.matched += ids.len();
                counts.dropped += dropped;
                counts.missing += ids.len() - dropped;
                Ok(dropped)
            }
            Action::Replay => {
                let ids = self.fresh(letters, counts);
                let replayed = self.spool.replay(&ids).await?;
                counts.add(replayed);
                Ok(replayed.replayed)
            }
        }
    }

    /// Those that may go; the others are counted.
    fn fresh(&self, letters: &[DeadLetter], counts: &mut Counts) -> Vec<DeliveryId> {
        counts.matched += letters.len();
        let mut fresh = Vec::with_capacity(letters.len());
        for letter in letters {
            match self.has_expired(letter) {
                None => counts.orphaned += 1,
                Some(true) => counts.expired += 1,
                Some(false) => fresh.push(letter.id),
            }
        }
        fresh
    }

    /// Whether a letter is too old for its destination; nothing when that is not configured.
    pub(super) fn has_expired(&self, letter: &DeadLetter) -> Option<bool> {
        let to = self.forwarders.iter().find(|one| *one.name() == letter.to)?;
        Some(to.has_outlived(&letter.event))
    }

    /// Acts on letters, or only says what would become of them.
    pub(super) async fn act_on(
        &self,
        action: Action,
        letters: &[DeadLetter],
        dry_run: bool,
        counts: &mut Counts,
    ) -> Result<(), AppendError> {
        if !dry_run {
            self.act(action, letters, counts).await?;
            return Ok(());
        }
        match action {
            Action::Drop => {
                counts.matched += letters.len();
                counts.dropped += letters.len();
            }
            Action::Replay => {
                let ids = self.fresh(letters, counts);
                counts.add(self.spool.foresee(&ids).await?);
            }
        }
        Ok(())
    }
}

impl Counts {
    fn add(&mut self, replayed: crate::spool::Replayed) {
        self.replayed += replayed.replayed;
        self.duplicates += replayed.duplicates;
        self.missing += replayed.missing;
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}
