//! What follows from records that bits and keys may not know of: keys taken, records that others
//! took over from, deliveries that ended undelivered and came back.

use std::collections::HashMap;
use std::time::Duration;

use super::super::LogKind;
use super::super::keys::{Ending, KeyEntry, Keys};
use super::super::record::{Form, Origin, Prior, View};
use super::super::state::State;
use crate::clock::Timestamp;
use crate::event::DedupeKey;
use crate::spool::StoreFault;

/// Keys fed at once.
const KEYS_MAX: usize = 1024;

/// How the delivery of a keyed event ended last, as far as the records tell.
#[derive(Clone, Copy, Debug)]
struct Fate {
    key: DedupeKey,
    of: Origin,
    /// Sequence that the delivery began with: each replay begins a later one.
    generation: u64,
    ended: Option<(Ending, Timestamp)>,
}

/// Gathered from the records in their order.
pub(super) struct Effects<'a> {
    keys: &'a Keys,
    /// Up to here the keys know the log by themselves.
    covered: u64,
    /// Whether keys are taken from records that moved on, too: the first may be gone.
    whole: bool,
    entries: Vec<(DedupeKey, Duration, KeyEntry)>,
    priors: Vec<Prior>,
    /// By sequence and slot of the accepted event.
    fates: HashMap<(u64, u8), Fate>,
}

impl<'a> Effects<'a> {
    pub(super) fn new(keys: &'a Keys, covered: u64, whole: bool) -> Self {
        let (entries, priors, fates) = Default::default();
        Self { keys, covered, whole, entries, priors, fates }
    }

    /// Gathers what follows from one record. Up to `floor` everything is known, up to `settled`
    /// what it means for keys.
    pub(super) fn of(
        &mut self,
        log: LogKind,
        view: &View<'_>,
        floor: u64,
        settled: u64,
    ) -> Result<(), StoreFault> {
        let seq = view.seq();
        if seq > floor
            && let Some(prior) = view.prior()
        {
            self.priors.push(prior);
        }
        let Some(dedupe) = view.dedupe() else { return Ok(()) };
        if self.whole
            && let Some(origin) = view.origin()
        {
            let (id, fingerprint) = (view.event_id(), dedupe.fingerprint);
            let entry = KeyEntry { seq: origin.seq, id, fingerprint };
            // Of the log nothing is told by this, so the position stays.
            self.keys.put(&[(dedupe.key, dedupe.window, entry)], 0)?;
        }
        match (log, view.origin()) {
            (LogKind::Accepted, None) if seq > self.covered => {
                let (id, fingerprint) = (view.event_id(), dedupe.fingerprint);
                let entry = KeyEntry { seq, id, fingerprint };
                if view.form() == Some(Form::Request) {
                    self.keys.put_answers(&dedupe, &entry, view.body())?;
                }
                self.entries.push((dedupe.key, dedupe.window, entry));
                if self.entries.len() >= KEYS_MAX {
                    self.keys.put(&self.entries, seq)?;
                    self.entries.clear();
                }
            }
            (LogKind::Accepted | LogKind::Dead, Some(origin)) if seq > settled => {
                let end = || (view.cause().map_or(Ending::Dead, Ending::of), view.at());
                let ended = (log == LogKind::Dead).then(end);
                let generation = view.delivery().map_or(seq, |delivery| delivery.seq());
                let fate = Fate { key: dedupe.key, of: origin, generation, ended };
                let last = self.fates.entry((origin.seq, origin.slot)).or_insert(fate);
                // A letter comes after the replay whose delivery it ended.
                if (generation, ended.is_some()) >= (last.generation, last.ended.is_some()) {
                    *last = fate;
                }
            }
            (LogKind::Accepted | LogKind::Parked | LogKind::Dead, _) => {}
        }
        Ok(())
    }

    /// Applies everything, the logs being entered.
    pub(super) fn finish(self, state: &mut State) -> Result<(), StoreFault> {
        for Fate { key, of, generation, ended } in self.fates.into_values() {
            match ended {
                Some((end, at)) => self.keys.end(&key, of, end, at)?,
                None => self.keys.revive(&key, of, generation)?,
            }
        }
        self.keys.put(&self.entries, state.boundary)?;
        for prior in self.priors {
            state.set(prior);
        }
        Ok(())
    }
}
