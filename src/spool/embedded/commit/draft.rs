//! From commands to records: which events are new, and what is to be written of each command.

use std::collections::{HashMap, HashSet};

use super::super::answers;
use super::super::carry::Carried;
use super::super::inbox::{Command, Letter, Really};
use super::super::keys::{KeyEntry, Keys, Lookup};
use super::super::log::{Draft, Written};
use super::super::record::{Form, Prior, Record};
use super::super::segment::SLOTS_MAX;
use super::super::{LogKind, Shared, lock};
use super::{Job, Work, find};
use crate::clock::Timestamp;
use crate::event::{Dedupe, DedupeKey, DestinationName, EventId, Fingerprint};
use crate::spool::{
    AppendError, Appended, Batch, DeliveryId, Lane, NewEvent, Receipt, Replayed, StoreFault,
};

/// What becomes of one event of an append.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Judged {
    /// The draft that stores it.
    New(usize),
    /// Its key is an earlier event's of the same commit, which may yet find no room.
    Repeat(Appended),
    /// Its key is taken.
    Taken(Appended),
}

/// What an append is answered when its commit is done.
#[derive(Debug)]
pub(in super::super) enum Plan {
    /// As each event was judged. `request` is the draft of the request's own record.
    Judged { events: Vec<Judged>, request: Option<usize> },
    /// As the first request with its key was, before this commit.
    Known(Vec<Appended>),
    /// Likewise, of the draft of an earlier request of this commit, which may yet find no room.
    Repeat(usize),
    /// Not at all: whether its keys are taken cannot be said now.
    NoRoom,
    /// Its key is another request's: one of this commit, or one before.
    Reused { is_fresh: bool },
}

/// Drafts one commit.
pub(super) struct Drafter<'a> {
    shared: &'a Shared,
    /// None while the keys are shut.
    lookup: Option<Lookup<'a>>,
    work: &'a mut Work,
    now: Timestamp,
    /// Keys that this commit takes.
    fresh: HashMap<DedupeKey, (EventId, Fingerprint)>,
    /// Those of its requests, with the drafts of their records.
    requests: HashMap<DedupeKey, (EventId, Fingerprint, usize)>,
    /// Letters that this commit puts back in line.
    replayed: HashSet<(u64, u8)>,
    /// Lines that this commit's records are owed to: no more than a segment has slots.
    lines: Vec<usize>,
}

impl<'a> Drafter<'a> {
    pub(super) fn new(shared: &'a Shared, keys: &'a Keys, work: &'a mut Work) -> Self {
        Self {
            now: shared.clock.now(),
            shared,
            lookup: keys.lookup(),
            work,
            fresh: HashMap::new(),
            requests: HashMap::new(),
            replayed: HashSet::new(),
            lines: Vec::new(),
        }
    }

    /// Drafts `commands`; those that name more destinations than one segment can go to `rest`.
    pub(super) fn draft(
        &mut self,
        mut commands: impl Iterator<Item = Command>,
        rest: &mut Vec<Command>,
    ) -> Result<(), StoreFault> {
        while let Some(command) = commands.next() {
            let lines = self.lines_of(&command);
            if !self.join(&lines) {
                rest.push(command);
                rest.extend(commands);
                return Ok(());
            }
            self.draft_one(command, lines)?;
        }
        Ok(())
    }

    /// The lines that each event of a command is owed to.
    fn lines_of(&self, command: &Command) -> Vec<Vec<usize>> {
        let mut state = lock(&self.shared.state);
        let mut of = |names: &[DestinationName]| -> Vec<usize> {
            let mut lines: Vec<usize> = names.iter().map(|name| state.line(name)).collect();
            lines.sort_unstable();
            lines.dedup();
            lines
        };
        match command {
            Command::Append { batch, .. } => batch.events.iter().map(|new| of(&new.to)).collect(),
            Command::Park { line, .. } | Command::Bury { line, .. } => vec![vec![*line]],
            Command::Replay { letters, .. } => {
                letters.iter().map(|letter| of(std::slice::from_ref(&letter.to))).collect()
            }
            Command::Find { .. } | Command::Drop { .. } | Command::DropSegment { .. } => Vec::new(),
            Command::Carry { records, .. } => records.iter().map(|of| vec![of.line]).collect(),
        }
    }

    /// Adds the lines of a command to those of the commit, if they fit or are the first.
    fn join(&mut self, lines: &[Vec<usize>]) -> bool {
        let before = self.lines.len();
        for line in lines.iter().flatten() {
            if !self.lines.contains(line) {
                self.lines.push(*line);
            }
        }
        let fits = self.lines.len() <= SLOTS_MAX || before == 0;
        if !fits {
            self.lines.truncate(before);
        }
        fits
    }

    fn draft_one(&mut self, command: Command, lines: Vec<Vec<usize>>) -> Result<(), StoreFault> {
        let job = match command {
            Command::Append { batch, answer } => {
                // The job comes first, so that a fault below answers it.
                self.work.jobs.push(Job::Append { plan: Plan::Known(Vec::new()), answer });
                let plan = self.plan(batch, lines)?;
                if let Some(Job::Append { plan: of, .. }) = self.work.jobs.last_mut() {
                    *of = plan;
                }
                return Ok(());
            }
            Command::Park { token, line, record, answer } => {
                let draft = self.add(LogKind::Parked, record, vec![line]);
                Job::Park { token, line, draft, answer }
            }
            Command::Bury { token, line, record, answer } => {
                let draft = self.add(LogKind::Dead, record, vec![line]);
                Job::Bury { token, line, draft, answer }
            }
            Command::Replay { answer, .. } if self.lookup.is_none() => {
                let (used_bytes, limit_bytes) =
                    (self.shared.pool.used(), self.shared.pool.max_bytes);
                // Whoever went away does not need the answer.
                drop(answer.send(Err(AppendError::Full { used_bytes, limit_bytes })));
                return Ok(());
            }
            Command::Replay { letters, really, answer } => {
                // The job comes first, so that a fault below answers it.
                let (drafts, rest) = (Vec::new(), Replayed::default());
                self.work.jobs.push(Job::Replay { drafts, rest, answer });
                let (mut drafted, mut left) = (Vec::new(), Replayed::default());
                for (letter, lines) in letters.into_iter().zip(lines) {
                    match self.replay(letter, lines, really)? {
                        Replay::Draft(draft) => drafted.push(draft),
                        Replay::Would => left.replayed += 1,
                        Replay::Gone => left.missing += 1,
                        Replay::Taken => left.duplicates += 1,
                    }
                }
                if let Some(Job::Replay { drafts, rest, .. }) = self.work.jobs.last_mut() {
                    (*drafts, *rest) = (drafted, left);
                }
                return Ok(());
            }
            Command::Find { key, answer } => {
                // The job comes first, so that a fault below answers it.
                self.work.jobs.push(Job::Find { found: Ok(None), answer });
                let of = match &self.lookup {
                    Some(lookup) => Ok(find::find(self.shared, lookup, &key, self.now)?),
                    None => Err(find::shut()),
                };
                if let Some(Job::Find { found, .. }) = self.work.jobs.last_mut() {
                    *found = of;
                }
                return Ok(());
            }
            Command::Drop { letters, answer } => Job::Drop { letters, answer },
            Command::DropSegment { segment, answer } => Job::DropSegment { segment, answer },
            Command::Carry { log, records, answer } => {
                let pairs = records.into_iter().zip(lines);
                let moves = pairs.filter_map(|(record, lines)| self.carry(log, record, lines));
                Job::Carry { log, moves: moves.collect(), answer }
            }
        };
        self.work.jobs.push(job);
        Ok(())
    }

    fn add(&mut self, log: LogKind, record: Record, lines: Vec<usize>) -> usize {
        let drafts = &mut self.work.drafts[log.index()];
        drafts.push(Draft { record, lines });
        drafts.len() - 1
    }

    /// Judges a batch: by its request's key if that is known, by its events otherwise.
    fn plan(&mut self, batch: Batch, lines: Vec<Vec<usize>>) -> Result<Plan, StoreFault> {
        let is_keyed =
            batch.request.is_some() || batch.events.iter().any(|new| new.dedupe.is_some());
        if is_keyed && self.lookup.is_none() {
            return Ok(Plan::NoRoom);
        }
        if let Some(request) = &batch.request
            && let Some(known) = self.known(request)?
        {
            return Ok(known);
        }
        if batch.events.is_empty() {
            return Ok(Plan::Judged { events: Vec::new(), request: None });
        }
        let mut events = Vec::with_capacity(batch.events.len());
        for (new, lines) in batch.events.into_iter().zip(lines) {
            events.push(self.judge(new, lines)?);
        }
        let request = batch.request.map(|request| {
            let drafts = &self.work.drafts[LogKind::Accepted.index()];
            let answers: Vec<Appended> =
                events.iter().filter_map(|judged| judged.answer(drafts)).collect();
            let record = Record::of_request(request, &answers, self.now);
            let id = record.event.id;
            let draft = self.add(LogKind::Accepted, record, Vec::new());
            self.requests.insert(request.key, (id, request.fingerprint, draft));
            draft
        });
        Ok(Plan::Judged { events, request })
    }

    /// What is to be answered to a request whose key was met before.
    fn known(&self, request: &Dedupe) -> Result<Option<Plan>, StoreFault> {
        if let Some((id, fingerprint, draft)) = self.requests.get(&request.key)
            && self.now.since(id.at()) < request.window
        {
            return Ok(Some(if *fingerprint == request.fingerprint {
                Plan::Repeat(*draft)
            } else {
                Plan::Reused { is_fresh: true }
            }));
        }
        let Some(lookup) = &self.lookup else { return Ok(None) };
        let answers = lookup.answers(&request.key, request.window, self.now)?;
        let Some((entry, bytes)) = answers else { return Ok(None) };
        let Some(answers) = answers::decode(&bytes) else { return Ok(None) };
        // Its events stand right before its record. With one of them lost, what was answered holds
        // no more: the request is judged anew, and those that are there are duplicates.
        let first = entry.seq.saturating_sub(answers::stored(&answers));
        if lock(&self.shared.state).is_any_lost(first..entry.seq + 1) {
            return Ok(None);
        }
        Ok(Some(if entry.fingerprint == request.fingerprint {
            Plan::Known(answers)
        } else {
            Plan::Reused { is_fresh: false }
        }))
    }

    fn judge(&mut self, new: NewEvent, lines: Vec<usize>) -> Result<Judged, StoreFault> {
        if let Some(dedupe) = &new.dedupe {
            if let Some((of, fingerprint)) = self.fresh_with(dedupe) {
                return Ok(Judged::Repeat(Appended::Duplicate { of, fingerprint }));
            }
            if let Some(entry) = self.taken(dedupe)?
                && !lock(&self.shared.state).is_lost(entry.seq)
            {
                let KeyEntry { id: of, fingerprint, .. } = entry;
                return Ok(Judged::Taken(Appended::Duplicate { of, fingerprint }));
            }
            let first = (new.event.id, dedupe.fingerprint);
            self.fresh.insert(dedupe.key, first);
        }
        Ok(Judged::New(self.add(LogKind::Accepted, Record::of(new), lines)))
    }

    /// The event that had the key before this commit. What has a key is not drafted without it
    /// being looked up: see [`Drafter::plan`].
    fn taken(&self, dedupe: &Dedupe) -> Result<Option<KeyEntry>, StoreFault> {
        match &self.lookup {
            Some(lookup) => lookup.get(&dedupe.key, dedupe.window, self.now),
            None => Ok(None),
        }
    }

    /// The event of this commit that has the key, if its window is not over already.
    fn fresh_with(&self, dedupe: &Dedupe) -> Option<(EventId, Fingerprint)> {
        let (id, fingerprint) = self.fresh.get(&dedupe.key)?;
        (self.now.since(id.at()) < dedupe.window).then_some((*id, *fingerprint))
    }

    /// Drafts the fresh delivery of a letter, unless that is not there any more or its key is a
    /// later event's.
    fn replay(
        &mut self,
        letter: Letter,
        lines: Vec<usize>,
        really: Really,
    ) -> Result<Replay, StoreFault> {
        let Prior { log, seq, slot } = letter.prior;
        let gone = lock(&self.shared.state).track(log).is_set(seq, slot);
        if gone || self.replayed.contains(&(seq, slot)) {
            return Ok(Replay::Gone);
        }
        if let (Some(dedupe), Some(origin)) = (&letter.record.dedupe, letter.record.origin) {
            let key = self.taken(dedupe)?;
            let taken = key.is_some_and(|entry| {
                entry.seq != origin.seq && !lock(&self.shared.state).is_lost(entry.seq)
            });
            if taken || self.fresh_with(dedupe).is_some() {
                return Ok(Replay::Taken);
            }
        }
        if really == Really::No {
            return Ok(Replay::Would);
        }
        self.replayed.insert((seq, slot));
        let record = Record {
            lane: Lane::Backlog,
            attempts: 0,
            at: Timestamp::EPOCH,
            delivery: None,
            prior: Some(letter.prior),
            replay_of: Some(letter.id),
            sooner: false,
            sent_at: None,
            refusal: None,
            ..letter.record
        };
        Ok(Replay::Draft(self.add(LogKind::Accepted, record, lines)))
    }

    /// Drafts a record anew, unless it was settled or leased since it was read.
    fn carry(&mut self, log: LogKind, carried: Carried, lines: Vec<usize>) -> Option<Move> {
        let Carried { line, record, from, key } = carried;
        {
            let state = lock(&self.shared.state);
            let waits = match log {
                LogKind::Dead => !state.track(log).is_set(from.seq, from.slot),
                LogKind::Accepted | LogKind::Parked => state.waits_at(line, key, from),
            };
            if !waits || self.replayed.contains(&(from.seq, from.slot)) && log == LogKind::Dead {
                return None;
            }
        }
        Some(Move { draft: self.add(log, record, lines), line, key })
    }
}

/// A record that is drafted anew at the end of its log.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Move {
    pub(super) draft: usize,
    pub(super) line: usize,
    pub(super) key: (Timestamp, DeliveryId),
}

/// What becomes of a letter that is to be replayed.
#[derive(Clone, Copy, Debug)]
enum Replay {
    Draft(usize),
    /// It was only asked.
    Would,
    Gone,
    /// A later event has its key.
    Taken,
}

impl Judged {
    /// What is answered for the event when its commit is stored.
    fn answer(&self, drafts: &[Draft]) -> Option<Appended> {
        match self {
            Self::Taken(answer) | Self::Repeat(answer) => Some(*answer),
            Self::New(draft) => Some(Appended::Stored(drafts.get(*draft)?.record.event.id)),
        }
    }

    /// Whether the answer holds although nothing was stored.
    const fn is_certain(&self) -> bool {
        match self {
            Self::Taken(_) => true,
            Self::New(_) | Self::Repeat(_) => false,
        }
    }
}

/// What is answered to an append; nothing when it found no room.
pub(super) fn receipt(
    plan: Plan,
    drafts: &[Draft],
    stored: bool,
) -> Option<Result<Receipt, AppendError>> {
    let (appended, repeated) = match plan {
        Plan::Judged { events, request } => {
            let certain = request.is_none() && events.iter().all(Judged::is_certain);
            if !stored && !certain {
                return None;
            }
            let answers = events.iter().map(|judged| judged.answer(drafts));
            (answers.collect::<Option<Vec<_>>>()?, false)
        }
        Plan::Known(answers) => (answers, true),
        Plan::Repeat(draft) => {
            let record = &drafts.get(draft).filter(|_| stored)?.record;
            (answers::decode(record.event.body.bytes())?, true)
        }
        Plan::Reused { is_fresh } if stored || !is_fresh => {
            return Some(Err(AppendError::KeyReused));
        }
        Plan::Reused { .. } | Plan::NoRoom => return None,
    };
    Some(Ok(Receipt { appended, repeated }))
}

/// Tells the keys of the records of `log/` that are durable now.
pub(super) fn tell_keys(
    keys: &Keys,
    drafts: &[Draft],
    written: &[Written],
) -> Result<(), StoreFault> {
    let mut entries = Vec::with_capacity(drafts.len());
    for (Draft { record, .. }, Written { seq, .. }) in drafts.iter().zip(written) {
        let Some(dedupe) = &record.dedupe else { continue };
        if let Some(origin) = record.origin {
            keys.revive(&dedupe.key, origin, *seq)?;
            continue;
        }
        let entry = KeyEntry { seq: *seq, id: record.event.id, fingerprint: dedupe.fingerprint };
        match record.form {
            Form::Event => {}
            Form::Request => keys.put_answers(dedupe, &entry, record.event.body.bytes())?,
        }
        entries.push((dedupe.key, dedupe.window, entry));
    }
    keys.put(&entries, written.last().map_or(0, |written| written.seq))
}
