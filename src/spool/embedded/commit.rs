//! The committing thread: the only writer of the three logs.
//!
//! While one sync runs the next commit gathers in the inbox, so a lone caller waits for one sync
//! and many share one. Nothing is answered, and no bit is set, before the sync it follows from.

mod draft;
mod find;
mod park;
mod unusable;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::draft::{Drafter, Move, Plan};
use self::unusable::Unusable;
use super::files::WriteError;
use super::inbox::{Command, Next};
use super::keys::{Ending, Keys};
use super::lease::Waiting;
use super::log::{Draft, Writer, Written};
use super::record::{Prior, Record};
use super::segment::SegmentId;
use super::state::State;
use super::unread::Cursor;
use super::{LogKind, Shared, lock};
use crate::clock::Timestamp;
use crate::spool::{AppendError, Found, Receipt, Replayed, SettleError, StoreFault};

/// How long a delivery waits whose dead letter found no room.
const ROOM_AGAIN: Duration = Duration::from_secs(30);

/// What one caller waits for, its records being drafted.
#[derive(Debug)]
pub(super) enum Job {
    Append {
        plan: Plan,
        answer: oneshot::Sender<Result<Receipt, AppendError>>,
    },
    Park {
        token: u64,
        line: usize,
        draft: usize,
        answer: Settled,
    },
    Bury {
        token: u64,
        line: usize,
        draft: usize,
        answer: Settled,
    },
    Replay {
        drafts: Vec<usize>,
        /// What of them is not to be written.
        rest: Replayed,
        answer: oneshot::Sender<Result<Replayed, AppendError>>,
    },
    Find {
        found: Result<Option<Found>, StoreFault>,
        answer: oneshot::Sender<Result<Option<Found>, StoreFault>>,
    },
    Drop {
        letters: Vec<Prior>,
        answer: oneshot::Sender<Result<usize, StoreFault>>,
    },
    DropSegment {
        segment: SegmentId,
        answer: oneshot::Sender<Result<u64, StoreFault>>,
    },
    Carry {
        log: LogKind,
        moves: Vec<Move>,
        answer: oneshot::Sender<Result<usize, StoreFault>>,
    },
}

type Settled = oneshot::Sender<Result<(), SettleError>>;

impl Job {
    fn fail(self, fault: &StoreFault) {
        // Whoever went away does not need the answer.
        match self {
            Self::Append { answer, .. } => drop(answer.send(Err(fault.clone().into()))),
            Self::Park { answer, .. } | Self::Bury { answer, .. } => {
                drop(answer.send(Err(fault.clone().into())));
            }
            Self::Replay { answer, .. } => drop(answer.send(Err(fault.clone().into()))),
            Self::Find { answer, .. } => drop(answer.send(Err(fault.clone()))),
            Self::Drop { answer, .. } | Self::Carry { answer, .. } => {
                drop(answer.send(Err(fault.clone())));
            }
            Self::DropSegment { answer, .. } => drop(answer.send(Err(fault.clone()))),
        }
    }
}

/// One commit, from drafts to answers.
#[derive(Debug, Default)]
pub(super) struct Work {
    jobs: Vec<Job>,
    drafts: [Vec<Draft>; 3],
    /// What ends with this commit, its letters being the last of those of `dead/`.
    unusable: Vec<Unusable>,
}

/// What was written of each log; nothing when there was no room.
type Outcome = [Option<Vec<Written>>; 3];

/// The thread's own.
pub(super) struct Committer {
    shared: Arc<Shared>,
    keys: Arc<Keys>,
    writers: [Writer; 3],
}

/// How the thread ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Everything that was taken is done.
    Closed,
    /// By a fault, or because the store was dropped.
    Killed,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, keys: Arc<Keys>) -> Self {
        let writers = {
            let state = lock(&shared.state);
            LogKind::ALL.map(|log| {
                let (disk, pool) = (shared.disk.clone(), Arc::clone(&shared.pool));
                Writer::new(log, disk, pool, shared.settings.roll_at(log), &state)
            })
        };
        Self { shared, keys, writers }
    }

    /// Commits until the inbox ends.
    pub(super) fn run(&mut self) -> End {
        let shared = Arc::clone(&self.shared);
        loop {
            match shared.inbox.next() {
                Next::Commit(commands) => self.commit(commands),
                Next::Closed => return End::Closed,
                Next::Killed(commands) => {
                    let fault = shared.fault().unwrap_or_else(|| StoreFault {
                        doing: "committing".to_owned(),
                        cause: "the spool was dropped".to_owned(),
                    });
                    commands.into_iter().for_each(|command| command.fail(&fault));
                    return End::Killed;
                }
            }
        }
    }

    /// Writes to `retry/` what waits in memory for another attempt, so that a close forgets neither
    /// when it is due nor how often it was tried.
    pub(super) fn park_what_waits(&mut self) -> Result<(), StoreFault> {
        let now = self.shared.clock.steady();
        lock(&self.shared.state).lines.iter_mut().for_each(|line| line.wait_again(now));
        loop {
            let waiting = park::waiting(&lock(&self.shared.state));
            let mut work = Work::default();
            let parked = park::drafts(waiting, &self.shared, &mut work)?;
            let outcome = self.store(&mut work)?;
            let Some(written) = &outcome[LogKind::Parked.index()] else { return Ok(()) };
            let mut state = lock(&self.shared.state);
            for ((line, key), (written, draft)) in
                parked.into_iter().zip(written.iter().zip(&work.drafts[LogKind::Parked.index()]))
            {
                park::moved(&mut state, line, key, written, &draft.record);
            }
        }
    }

    fn commit(&mut self, commands: Vec<Command>) {
        let mut commands = commands.into_iter();
        let mut rest = Vec::new();
        loop {
            let mut work = Work::default();
            let next = std::mem::take(&mut rest).into_iter().chain(&mut commands);
            let mut drafter = Drafter::new(&self.shared, &self.keys, &mut work);
            let drafted = drafter.draft(next, &mut rest);
            let done = drafted.and_then(|()| self.store(&mut work));
            match done {
                Ok(outcome) => self.finish(work, &outcome),
                Err(fault) => {
                    self.shared.fail(fault.clone());
                    work.jobs.into_iter().for_each(|job| job.fail(&fault));
                    rest.into_iter().chain(commands).for_each(|command| command.fail(&fault));
                    return;
                }
            }
            if rest.is_empty() {
                return;
            }
        }
    }

    /// Writes and syncs each log, and tells the keys what follows from it.
    fn store(&mut self, work: &mut Work) -> Result<Outcome, StoreFault> {
        let mut outcome = Outcome::default();
        let started = Instant::now();
        for log in LogKind::ALL {
            let (drafts, writer) = (&work.drafts[log.index()], &mut self.writers[log.index()]);
            if drafts.is_empty() {
                continue;
            }
            match writer.append(drafts, &self.shared.state) {
                Ok(written) => {
                    writer.sync()?;
                    if log == LogKind::Accepted {
                        unusable::draft(&self.shared, work, &written);
                    }
                    outcome[log.index()] = Some(written);
                }
                Err(WriteError::Full) => {}
                Err(WriteError::Fault(fault)) => return Err(fault),
            }
        }
        let records: usize = outcome.iter().flatten().map(Vec::len).sum();
        if records > 0 {
            (self.shared.settings.observer.0)(started.elapsed(), records);
        }
        if let Some(written) = &outcome[LogKind::Accepted.index()] {
            draft::tell_keys(&self.keys, &work.drafts[LogKind::Accepted.index()], written)?;
        }
        if outcome[LogKind::Dead.index()].is_some() {
            for draft in &work.drafts[LogKind::Dead.index()] {
                if let (Some(dedupe), Some(origin)) = (&draft.record.dedupe, draft.record.origin) {
                    let ending = ending_of(&draft.record);
                    self.keys.end(&dedupe.key, origin, ending, draft.record.at)?;
                }
            }
        }
        Ok(outcome)
    }

    /// Makes visible what is durable, and answers.
    fn finish(&self, work: Work, outcome: &Outcome) {
        let now = self.shared.clock.now();
        let mut answers = Vec::with_capacity(work.jobs.len());
        let changed = {
            let mut state = lock(&self.shared.state);
            let mut changed = Vec::new();
            if let Some(written) = &outcome[LogKind::Accepted.index()] {
                // Without room for their letters they are owed, and given up when they are leased.
                let has_letters = outcome[LogKind::Dead.index()].is_some();
                let ended = work.unusable.iter().filter(|_| has_letters).map(|one| one.event);
                let ended = ended.collect();
                arrive(&mut state, (&work.drafts[0], written), &ended, now, &mut changed);
            }
            for job in work.jobs {
                answers.push(self.settle(&mut state, job, &work.drafts, outcome));
                if let Some(Answer::Settled { line, .. }) = answers.last() {
                    changed.push(*line);
                }
            }
            if let Some(letters) = &outcome[LogKind::Dead.index()] {
                unusable::bury(&mut state, &work.unusable, letters);
            }
            changed.sort_unstable();
            changed.dedup();
            let bells = changed.into_iter().map(|line| Arc::clone(&state.lines[line].changed));
            bells.collect::<Vec<_>>()
        };
        if outcome[LogKind::Accepted.index()].is_some() {
            self.shared.pool.set_full(false);
        }
        for bell in changed {
            bell.notify_waiters();
        }
        for answer in answers {
            answer.send();
        }
    }

    fn settle(
        &self,
        state: &mut State,
        job: Job,
        drafts: &[Vec<Draft>; 3],
        outcome: &Outcome,
    ) -> Answer {
        match job {
            Job::Append { plan, answer } => {
                let stored = outcome[LogKind::Accepted.index()].is_some();
                let answered = draft::receipt(plan, &drafts[0], stored);
                Answer::Append(answer, answered.unwrap_or_else(|| Err(self.full())))
            }
            Job::Replay { drafts: replayed, rest, answer } => {
                let stored = outcome[LogKind::Accepted.index()].is_some();
                let answered = if stored || replayed.is_empty() {
                    Ok(Replayed { replayed: rest.replayed + replayed.len(), ..rest })
                } else {
                    Err(self.full())
                };
                Answer::Replay(answer, answered)
            }
            Job::Find { found, answer } => Answer::Find(answer, found),
            Job::Drop { letters, answer } => {
                let dropped = letters.into_iter().filter(|letter| state.drop_letter(*letter));
                Answer::Counted(answer, dropped.count())
            }
            Job::DropSegment { segment, answer } => {
                Answer::Dropped(answer, state.drop_letters_of(segment))
            }
            Job::Carry { log, moves, answer } => {
                let written = outcome[log.index()].as_ref();
                let carried = written.map_or(0, |written| {
                    for Move { draft, line, key } in &moves {
                        let record = &drafts[log.index()][*draft].record;
                        carried(state, log, (*line, *key), &written[*draft], record);
                    }
                    moves.len()
                });
                Answer::Counted(answer, carried)
            }
            Job::Park { token, line, draft, answer } => {
                let record = &drafts[LogKind::Parked.index()][draft].record;
                let due = self.shared.clock.steady_at(record.at);
                let written = outcome[LogKind::Parked.index()].as_ref().map(|w| w[draft]);
                match written {
                    Some(written) => park(state, (token, line), &written, record, due),
                    // No room: it waits in memory, and its record stays where it is.
                    None => state.retry(token, due),
                }
                Answer::Settled { line, answer, answered: Ok(()) }
            }
            Job::Bury { token, line, draft, answer } => {
                let written = outcome[LogKind::Dead.index()].as_ref().map(|w| w[draft]);
                let answered = if let Some(written) = written {
                    bury(state, token, line, &written);
                    Ok(())
                } else {
                    let attempts = drafts[LogKind::Dead.index()][draft].record.attempts;
                    let again = self.shared.clock.steady().after(ROOM_AGAIN);
                    state.wait_for_room(token, attempts, again);
                    Err(SettleError::LeaseLost)
                };
                Answer::Settled { line, answer, answered }
            }
        }
    }

    /// Says that there is no room, and asks for some.
    fn full(&self) -> AppendError {
        let (used_bytes, limit_bytes) = (self.shared.pool.used(), self.shared.pool.max_bytes);
        if !self.shared.pool.set_full(true) {
            tracing::warn!(
                used_bytes,
                limit_bytes,
                "no room for new events, in the spool's bounds or on its disk"
            );
        }
        self.shared.bell.hurry();
        AppendError::Full { used_bytes, limit_bytes }
    }
}

/// New records of `log/` are there to be read, but for those that have ended.
fn arrive(
    state: &mut State,
    (drafts, written): (&[Draft], &[Written]),
    ended: &BTreeSet<usize>,
    now: Timestamp,
    changed: &mut Vec<usize>,
) {
    for (number, (draft, written)) in drafts.iter().zip(written).enumerate() {
        let at = Cursor { segment: written.segment, offset: written.offset, seq: written.seq };
        let lines = state.extend(LogKind::Accepted, written);
        for line in lines.iter().filter(|_| !ended.contains(&number)) {
            state.lines[*line].unread.arrived(draft.record.lane, at, now);
        }
        match draft.record.prior {
            Some(letter) => {
                state.flow.replayed += lines.len() as u64;
                state.replay_letter(letter);
            }
            None => state.flow.stored += lines.len() as u64,
        }
        changed.extend(lines);
    }
}

/// How a delivery ended whose letter that is.
fn ending_of(letter: &Record) -> Ending {
    letter.refusal.as_ref().map_or(Ending::Dead, |refusal| Ending::of(refusal.cause))
}

/// A delivery is durable in `retry/`.
fn park(
    state: &mut State,
    (token, line): (u64, usize),
    written: &Written,
    record: &Record,
    due: Timestamp,
) {
    state.extend(LogKind::Parked, written);
    let waiting = Waiting {
        place: state.only_place(LogKind::Parked, written),
        attempts: record.attempts,
        accepted_at: record.event.accepted_at,
        kind: record.event.kind,
        on_disk: true,
        sooner: record.sooner,
        sent_at: record.sent_at,
        round: 0,
    };
    if let Some((delivery, _)) = state.release(token) {
        state.set(delivery.place.as_prior());
        state.moved_away(&delivery);
        state.lines[line].wait(due, delivery.id, waiting);
    }
}

/// A dead letter is durable.
fn bury(state: &mut State, token: u64, line: usize, written: &Written) {
    state.extend(LogKind::Dead, written);
    if let Some((delivery, _)) = state.release(token) {
        state.set(delivery.place.as_prior());
        state.came_to_an_end(&delivery);
        let event = &delivery.record.event;
        state.lines[line].forget_age(event.accepted_at, event.kind);
        state.lines[line].dead += 1;
        state.flow.dead += 1;
    }
}

/// A record stands at the end of its log, and where it stood is settled; unless somebody took the
/// delivery meanwhile, which goes on from there: then the new one is settled.
fn carried(state: &mut State, log: LogKind, key: park::Key, written: &Written, record: &Record) {
    let (line, key) = key;
    state.extend(log, written);
    let place = state.only_place(log, written);
    let Some(from) = record.prior else { return };
    let is_there = match log {
        LogKind::Dead => !state.track(log).is_set(from.seq, from.slot),
        LogKind::Accepted | LogKind::Parked => state.waits_at(line, key, from),
    };
    if !is_there {
        state.set(place.as_prior());
        return;
    }
    state.set(from);
    if let Some(waiting) = state.lines[line].due.get_mut(&key) {
        waiting.place = place;
    }
}

/// An answer that is ready to be given. Whoever went away does not need it.
#[derive(Debug)]
enum Answer {
    Append(oneshot::Sender<Result<Receipt, AppendError>>, Result<Receipt, AppendError>),
    Replay(oneshot::Sender<Result<Replayed, AppendError>>, Result<Replayed, AppendError>),
    Find(oneshot::Sender<Result<Option<Found>, StoreFault>>, Result<Option<Found>, StoreFault>),
    Counted(oneshot::Sender<Result<usize, StoreFault>>, usize),
    Dropped(oneshot::Sender<Result<u64, StoreFault>>, u64),
    Settled { line: usize, answer: Settled, answered: Result<(), SettleError> },
}

impl Answer {
    fn send(self) {
        match self {
            Self::Append(to, answer) => drop(to.send(answer)),
            Self::Replay(to, answer) => drop(to.send(answer)),
            Self::Find(to, found) => drop(to.send(found)),
            Self::Counted(to, count) => drop(to.send(Ok(count))),
            Self::Dropped(to, dropped) => drop(to.send(Ok(dropped))),
            Self::Settled { answer, answered, line: _ } => drop(answer.send(answered)),
        }
    }
}
