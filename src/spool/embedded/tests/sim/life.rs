//! One store, its disk and its reference, led through operations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::super::super::files::power::PowerDisk;
use super::super::super::{Embedded, Settings};
use super::super::stage::{START, refusal, to};
use super::model::{Asked, At, Delivery, Model, Seen, Stored};
use super::op::{How, New, Op};
use crate::clock::Clock;
use crate::event::{
    ClientHeaders, Dedupe, DedupeKey, Event, EventId, EventKind, Fingerprint, Scrubbed, SourceName,
};
use crate::spool::{
    AppendError, Appended, Batch, Cause, DeadQuery, DeliveryId, Lane, Lease, NewEvent, Receipt,
    SettleError, Settlement, Spool, StoreFault, Want,
};

const NAMES: [&str; 3] = ["a", "b", "c"];
const LATER: Duration = Duration::from_secs(3600);
const DAY_MS: u64 = 86_400_000;

pub(super) struct Life {
    dir: TempDir,
    disk: PowerDisk,
    settings: Settings,
    clock: Clock,
    spool: Option<Embedded>,
    model: Model,
    random: fastrand::Rng,
    cut_start: Option<u64>,
    /// The power went since the store ran last.
    after_cut: bool,
    /// Bodies made so far; each has its number.
    bodies: u64,
}

/// How a call ended that the power may have cut.
enum Done<T> {
    Well(T),
    Cut,
}

impl Life {
    pub(super) fn begin(seed: u64) -> Self {
        // The keys are on a real disk; one in memory makes more lives of a minute.
        let shm = std::path::Path::new("/dev/shm");
        let dir = if shm.is_dir() { TempDir::new_in(shm) } else { TempDir::new() };
        let dir = dir.unwrap();
        let settings = Settings { max_bytes: 1 << 20, ..Settings::at(dir.path().join("spool")) };
        let mut life = Self {
            dir,
            disk: PowerDisk::default(),
            settings,
            clock: Clock::held(START),
            spool: None,
            model: Model::default(),
            random: fastrand::Rng::with_seed(!seed),
            cut_start: None,
            after_cut: false,
            bodies: 0,
        };
        life.open().unwrap();
        life
    }

    pub(super) fn calls(&self) -> u64 {
        self.disk.calls()
    }

    pub(super) fn last_calls(&self) -> Vec<String> {
        let root = self.dir.path().display().to_string();
        self.disk.last_calls().iter().map(|call| call.replace(&root, "")).collect()
    }

    fn open(&mut self) -> Result<(), StoreFault> {
        let disk = Arc::new(self.disk.clone());
        self.spool = Some(Embedded::open_on(disk, self.settings.clone(), self.clock.clone())?);
        Ok(())
    }

    fn lose_power(&mut self) {
        self.disk.lose_power(&mut self.random);
        self.after_cut = true;
    }

    fn turn_on(&mut self) {
        self.disk.turn_on();
        self.after_cut = false;
    }

    fn spool(&self) -> &Embedded {
        self.spool.as_ref().expect("open")
    }

    pub(super) async fn step(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Append { events, request } => self.append(events, *request).await?,
            Op::Settle { to, max, how } => self.settle(*to, *max, *how).await?,
            Op::Replay(max) => self.replay(*max).await?,
            Op::Drop(max) => self.drop_letters(*max).await?,
            Op::Advance { minutes } => self.clock.advance(Duration::from_secs(60 * minutes)),
            Op::Flush => self.flush().await,
            Op::Close => self.close().await?,
            Op::Kill => {
                self.spool = None;
                self.turn_on();
                self.start().await?;
            }
            Op::Cut => {
                self.spool = None;
                self.lose_power();
                self.start().await?;
            }
            Op::CutIn(calls) => self.disk.cut_at(Some(self.disk.calls() + calls)),
            Op::CutStart(calls) => self.cut_start = Some(*calls),
        }
        if self.disk.is_off() {
            self.spool = None;
            if self.random.u8(0..3) == 0 {
                // It was a call that failed: the process ends, and what is not synced is found
                // again, until the power goes.
                self.turn_on();
            } else {
                self.lose_power();
            }
            self.start().await?;
        }
        Ok(())
    }

    /// A last end of each kind.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        for op in [Op::Cut, Op::Close, Op::Kill] {
            self.step(&op).await?;
        }
        Ok(())
    }

    /// Starts, and holds what is found against the reference.
    async fn start(&mut self) -> Result<(), String> {
        if let Some(calls) = self.cut_start.take() {
            self.disk.cut_at(Some(self.disk.calls() + calls));
        }
        if let Err(fault) = self.open() {
            if !self.disk.is_off() {
                return Err(format!("it does not start: {fault}"));
            }
            self.lose_power();
            self.open().map_err(|fault| format!("it does not start: {fault}"))?;
        }
        // A start that was not cut short by then will not be.
        if self.disk.is_off() {
            self.spool = None;
            self.lose_power();
            self.open().map_err(|fault| format!("it does not start: {fault}"))?;
        }
        self.disk.cut_at(None);
        if self.disk.is_off() {
            self.spool = None;
            self.lose_power();
            self.open().map_err(|fault| format!("it does not start: {fault}"))?;
        }
        // Whatever waits for another attempt is due.
        self.clock.advance(2 * LATER);
        self.look().await
    }

    async fn look(&mut self) -> Result<(), String> {
        let mut found = BTreeMap::new();
        let mut leases = Vec::new();
        for (index, name) in (0..).zip(NAMES) {
            for lease in self.lease(index, usize::MAX).await? {
                let seen = Seen::InLine(lease.attempts);
                if found.insert((lease.event.id, index), seen).is_some() {
                    return Err(format!("{} is in line twice to {name}", lease.event.id));
                }
                self.is_intact(&lease.event)?;
                leases.push(lease);
            }
        }
        for (id, to, attempts, event) in self.letters().await? {
            self.is_intact(&event)?;
            if let Some(other) = found.insert((event.id, to), Seen::Letter(attempts)) {
                return Err(format!("letter {} of {} is {other:?} too", id.0, event.id));
            }
        }
        self.model.meet(&found, self.after_cut)?;
        let stats = self.spool().stats().await.map_err(|fault| fault.to_string())?;
        if stats.damaged_records > 0 || stats.difference() != 0 {
            return Err(format!("the sums: {stats:?}"));
        }
        for lease in leases {
            let put = self.spool().settle(lease, Settlement::PutBack).await;
            put.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn is_intact(&self, event: &Event) -> Result<(), String> {
        match self.model.events.get(&event.id) {
            Some(stored) if *stored.event == *event => Ok(()),
            Some(_) => Err(format!("{} is not what was stored", event.id)),
            None => Err(format!("{} was never stored", event.id)),
        }
    }

    async fn lease(&self, index: u8, max: usize) -> Result<Vec<Lease>, String> {
        let name = to(NAMES[usize::from(index)]);
        let mut leases = Vec::new();
        while leases.len() < max {
            let want = Want::any((max - leases.len()).min(100));
            let more = self.spool().lease(&name, want, Duration::ZERO).await;
            match more {
                Ok(more) if more.is_empty() => break,
                Ok(more) => leases.extend(more),
                Err(_) if self.disk.is_off() => break,
                Err(fault) => return Err(fault.to_string()),
            }
        }
        Ok(leases)
    }

    async fn letters(&self) -> Result<Vec<(DeliveryId, u8, u32, Arc<Event>)>, String> {
        let page = match self.spool().dead(DeadQuery::all(None, 10_000)).await {
            Ok(page) => page,
            Err(_) if self.disk.is_off() => return Ok(Vec::new()),
            Err(fault) => return Err(fault.to_string()),
        };
        let index = |name: &str| NAMES.iter().position(|of| *of == name).expect("ours") as u8;
        let letter = page.letters.into_iter();
        Ok(letter.map(|of| (of.id, index(of.to.as_str()), of.attempts, of.event)).collect())
    }

    /// An error is the power's, or a failure.
    fn done<T, E: std::fmt::Display>(&self, result: Result<T, E>) -> Result<Done<T>, String> {
        match result {
            Ok(done) => Ok(Done::Well(done)),
            Err(_) if self.disk.is_off() => Ok(Done::Cut),
            Err(error) => Err(error.to_string()),
        }
    }

    fn event(&mut self, new: &New) -> NewEvent {
        self.bodies += 1;
        let mut body = self.bodies.to_le_bytes().to_vec();
        body.resize(8 + new.len, new.len as u8);
        let at = self.clock.now();
        let event = Event {
            id: EventId::new(at),
            source: SourceName::new("beacon-conversion"),
            kind: EventKind::Conversion,
            target: Bytes::from_static(b"/v1/beacon/conversion"),
            accepted_at: at,
            body: Scrubbed::vouch(body.into()),
            headers: ClientHeaders::default(),
            fault: None,
        };
        let names = (0_u8..).zip(NAMES).filter(|(index, _)| new.to >> index & 1 == 1);
        let dedupe = new.key.map(|key| Dedupe {
            key: DedupeKey([if new.short { key + 100 } else { key }; 16]),
            window: Duration::from_millis(if new.short { DAY_MS / 8 } else { 30 * DAY_MS }),
            fingerprint: Fingerprint { body: self.bodies.to_le_bytes(), members: [0; 32] },
        });
        NewEvent {
            event: Arc::new(event),
            to: names.map(|(_, name)| to(name)).collect(),
            dedupe,
            lane: Lane::Live,
        }
    }

    async fn append(&mut self, events: &[New], request: Option<u8>) -> Result<(), String> {
        let now = self.clock.now();
        let asked = request.and_then(|request| self.model.requests.get(&request).cloned());
        let asked = asked.filter(|asked| now.since(asked.at).as_millis() < u128::from(DAY_MS));
        // Whether it was stored is not known: no answer would be wrong.
        let request =
            request.filter(|_| asked.as_ref().is_none_or(|asked| asked.answers.is_some()));
        let print = (events.len() as u64 ^ events[0].len as u64).to_le_bytes();
        let news: Vec<NewEvent> = events.iter().map(|new| self.event(new)).collect();
        let dedupe = request.map(|request| Dedupe {
            key: DedupeKey([200 + request; 16]),
            window: Duration::from_millis(DAY_MS),
            fingerprint: Fingerprint { body: print, members: [0; 32] },
        });
        let batch = Batch { events: news.clone(), request: dedupe };
        let answer = self.spool().append(batch).await;
        if let (Some(Asked { print: first, answers: Some(answers), .. }), Some(_)) =
            (&asked, request)
        {
            return match answer {
                Ok(Receipt { appended, repeated: true })
                    if first == &print && &appended == answers =>
                {
                    Ok(())
                }
                Err(AppendError::KeyReused) if first != &print => Ok(()),
                Err(AppendError::Fault(_)) if self.disk.is_off() => Ok(()),
                other => Err(format!("a repeated request was answered {other:?}")),
            };
        }
        let receipt = match answer {
            Ok(receipt) => Some(receipt),
            Err(AppendError::Full { .. }) => return Ok(()),
            Err(_) if self.disk.is_off() => None,
            Err(error) => return Err(error.to_string()),
        };
        for (index, (new, shape)) in news.iter().zip(events).enumerate() {
            let at = if receipt.is_some() { At::Line(0) } else { At::Absent };
            let or = if receipt.is_some() { Vec::new() } else { vec![At::Line(0)] };
            let window = new.dedupe.map(|dedupe| (dedupe.key, dedupe.window.as_millis() as u64));
            let holder = window.and_then(|(key, window)| self.model.holder(key, window, now));
            if let Some(receipt) = &receipt {
                let said = receipt.appended.get(index);
                let right = match (holder, said) {
                    (None, Some(Appended::Stored(id))) => *id == new.event.id,
                    (Some(holder), Some(Appended::Duplicate { of, .. })) => *of == holder,
                    (_, _) => false,
                };
                if !right || receipt.repeated {
                    return Err(format!("event {index} was answered {said:?}, not {holder:?}"));
                }
            }
            if holder.is_some() {
                continue;
            }
            let owed = (0_u8..3).filter(|to| shape.to >> to & 1 == 1);
            let delivery = Delivery { now: at, attempts: 0, or };
            let stored = Stored {
                event: Arc::clone(&new.event),
                key: window,
                at: now,
                to: owed.map(|to| (to, delivery.clone())).collect(),
            };
            self.model.events.insert(new.event.id, stored);
            self.model.order.push(new.event.id);
        }
        if let Some(request) = request {
            let answers = receipt.map(|receipt| receipt.appended);
            self.model.requests.insert(request, Asked { print, at: now, answers });
        }
        Ok(())
    }

    async fn settle(&mut self, index: u8, max: usize, how: How) -> Result<(), String> {
        for lease in self.lease(index, max).await? {
            let (id, attempts) = (lease.event.id, lease.attempts);
            let known = self.model.delivery(id, index).ok_or("leased and never stored")?.clone();
            if !matches!(known.now, At::Line(_)) || known.attempts != attempts {
                return Err(format!("{id} to {index} is {known:?} and was leased: {attempts}"));
            }
            let now = self.clock.now();
            let settlement = match how {
                How::Delivered => Settlement::Delivered,
                How::RetrySoon => Settlement::RetryAt(now.after(Duration::from_secs(2))),
                How::RetryLater => Settlement::RetryAt(now.after(LATER)),
                How::Dead => Settlement::DeadLetter(refusal(Cause::Refused)),
                How::PutBack => Settlement::PutBack,
            };
            let done = self.spool().settle(lease, settlement).await;
            if matches!(done, Err(SettleError::LeaseLost)) && !self.disk.is_off() {
                // No room for a dead letter: it goes on waiting, with one attempt more.
                if how == How::Dead {
                    let delivery = self.model.delivery(id, index).ok_or("gone")?;
                    delivery.attempts += 1;
                    continue;
                }
                return Err(format!("{id} to {index}: its lease was lost"));
            }
            let done = self.done(done)?;
            let delivery = self.model.delivery(id, index).ok_or("gone")?;
            let (before, next) = (delivery.now, attempts + 1);
            match (how, done) {
                (How::Delivered, _) => {
                    delivery.now = At::Delivered;
                    delivery.or.push(before);
                }
                (How::RetrySoon, _) => delivery.attempts = next,
                (How::RetryLater, Done::Well(())) => {
                    (delivery.now, delivery.attempts) = (At::Line(next), next);
                    // Without room in retry/ it waits in memory.
                    delivery.or.push(before);
                }
                (How::RetryLater, Done::Cut) => delivery.or.push(At::Line(next)),
                (How::Dead, Done::Well(())) => delivery.now = At::Dead(next),
                (How::Dead, Done::Cut) => delivery.or.push(At::Dead(next)),
                (How::PutBack, _) => {}
            }
        }
        Ok(())
    }

    async fn replay(&mut self, max: usize) -> Result<(), String> {
        let letters: Vec<_> = self.letters().await?.into_iter().take(max).collect();
        let ids: Vec<DeliveryId> = letters.iter().map(|(id, ..)| *id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let done = match self.spool().replay(&ids).await {
            Err(AppendError::Full { .. }) => return Ok(()),
            done => self.done(done)?,
        };
        // One whose key another event took meanwhile stays where it is.
        let replayed = match &done {
            Done::Well(replayed) => replayed.replayed,
            Done::Cut => 0,
        };
        let all = replayed == ids.len();
        for (_, to, attempts, event) in letters {
            let delivery = self.model.delivery(event.id, to).ok_or("a letter of nobody's")?;
            if all {
                (delivery.now, delivery.attempts) = (At::Line(0), 0);
            } else {
                delivery.or.push(At::Line(0));
                debug_assert_eq!(delivery.now, At::Dead(attempts));
            }
        }
        if !all && matches!(done, Done::Well(_)) {
            self.look_again().await?;
        }
        Ok(())
    }

    /// Finds out which of two things happened.
    async fn look_again(&mut self) -> Result<(), String> {
        for index in 0..3 {
            let held = self.lease(index, usize::MAX).await?;
            for lease in held {
                let delivery = self.model.delivery(lease.event.id, index).ok_or("of nobody's")?;
                if delivery.or.contains(&At::Line(0)) && matches!(delivery.now, At::Dead(_)) {
                    (delivery.now, delivery.attempts) = (At::Line(0), 0);
                    delivery.or.clear();
                }
                let put = self.spool().settle(lease, Settlement::PutBack).await;
                self.done(put)?;
            }
        }
        if self.disk.is_off() {
            // Not all was looked at.
            return Ok(());
        }
        for stored in self.model.events.values_mut() {
            for delivery in stored.to.values_mut().filter(|of| matches!(of.now, At::Dead(_))) {
                delivery.or.clear();
            }
        }
        Ok(())
    }

    async fn drop_letters(&mut self, max: usize) -> Result<(), String> {
        let letters: Vec<_> = self.letters().await?.into_iter().take(max).collect();
        let ids: Vec<DeliveryId> = letters.iter().map(|(id, ..)| *id).collect();
        let dropped = self.spool().drop_dead(&ids).await;
        let done = self.done(dropped)?;
        for (_, to, _, event) in letters {
            let delivery = self.model.delivery(event.id, to).ok_or("a letter of nobody's")?;
            match done {
                Done::Well(_) => delivery.or.clear(),
                Done::Cut => delivery.or.push(delivery.now),
            }
            delivery.now = At::Dropped;
        }
        Ok(())
    }

    /// Has every acknowledgement written and synced.
    async fn flush(&mut self) {
        let shared = &self.spool().shared;
        let passed = shared.rounds.pass(&shared.bell, shared.fault.subscribe()).await;
        assert!(passed || self.disk.is_off(), "acknowledgements are not synced");
        if passed {
            self.model.synced();
        }
    }

    async fn close(&mut self) -> Result<(), String> {
        let closed = self.spool().close().await;
        let done = self.done(closed)?;
        self.spool = None;
        match done {
            Done::Well(()) => {
                self.model.closed();
                self.turn_on();
            }
            Done::Cut => {
                // What waited in memory may have been written.
                for stored in self.model.events.values_mut() {
                    for delivery in stored.to.values_mut() {
                        if matches!(delivery.now, At::Line(_)) {
                            delivery.or.push(At::Line(delivery.attempts));
                        }
                    }
                }
                self.lose_power();
            }
        }
        self.start().await
    }
}
