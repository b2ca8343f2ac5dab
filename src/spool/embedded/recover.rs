//! Opens the logs after anything: a close, a kill, a power cut, damage.
//!
//! The order matters. Headers and bits first; then the records that bits and keys may not know of
//! yet; then what follows from them elsewhere; and what is owed is counted only at the end.

mod effects;
mod load;
mod orphan;

use std::sync::Arc;
use std::time::Duration;

use self::effects::Effects;
use self::load::Loaded;
pub(super) use self::orphan::owed;
use super::damage::{self, Damage};
use super::files::{Disk, WriteError};
use super::keys::Keys;
use super::lease::Waiting;
use super::manifest::Manifest;
use super::noted::Note;
use super::pool::Pool;
use super::record;
use super::segment::{DATA_START, Segment};
use super::state::State;
use super::unread::Cursor;
use super::walk::{self, Expected, Extent, Gap, Readable};
use super::{LogKind, Place};
use crate::clock::Clock;
use crate::event::EventKind;
use crate::spool::{DeliveryId, StoreFault};

/// What recovery works with.
#[derive(Clone, Copy)]
pub(super) struct Recovery<'a> {
    pub(super) disk: &'a Disk,
    pub(super) pool: &'a Pool,
    pub(super) keys: &'a Keys,
    pub(super) noted: Note,
    /// How far the keys had come when the store was opened.
    pub(super) covered: u64,
    /// Reads every record, whatever is noted of them.
    pub(super) whole: bool,
    pub(super) clock: &'a Clock,
    /// Longest that a delivery waits for another attempt.
    pub(super) due_within: Duration,
}

/// Reads the logs, mends what a crash left, and answers what there is.
pub(super) fn recover(with: Recovery<'_>) -> Result<State, StoreFault> {
    let mut state = State::default();
    state.lost = damage::read_lost(with.disk)?;
    let known_lost = state.lost.len();
    let entered = Manifest::read(with.disk)?;
    let mut loaded = Vec::new();
    for log in LogKind::ALL {
        loaded.push(load::load(with, log, &entered, &mut state)?);
    }
    // With bits unread, whatever was taken over by another record must be found anew.
    let deep = with.whole || loaded.iter().flatten().any(|segment| !segment.bits_read);
    let mut effects = Effects::new(with.keys, with.covered, with.whole);
    for (log, segments) in LogKind::ALL.into_iter().zip(loaded) {
        let expected_next = with.noted.synced[log.index()] + 1;
        let firsts: Vec<u64> = segments.iter().map(|of| of.segment.head.first).collect();
        for (at, segment) in segments.into_iter().enumerate() {
            let next_first = firsts.get(at + 1).copied();
            enter(with, &mut state, &mut effects, segment, next_first, deep)?;
        }
        let track = state.track_mut(log);
        let behind = track.segments.values().map(|segment| segment.next_seq()).max();
        // A sequence is never used twice, even when the file that had it is gone.
        track.next_seq = behind.unwrap_or(1).max(expected_next).max(track.next_seq);
    }
    let log = state.track_mut(LogKind::Accepted);
    log.next_seq = log.next_seq.max(with.covered + 1);
    state.boundary = log.next_seq - 1;
    effects.finish(&mut state)?;
    if state.lost.len() > known_lost {
        damage::note_lost(with.disk, &mut state.lost)?;
    }
    let there = LogKind::ALL.into_iter().flat_map(|log| {
        let segments = state.track(log).segments.keys();
        segments.map(move |id| (log, id.number, id.first))
    });
    // Only now: what vanished is told again should this opening not come so far.
    with.pool.manifest.replace(there)?;
    count_backlog(&mut state);
    find_parked(with, &mut state)?;
    count_dead(&mut state);
    Ok(state)
}

/// Enters one segment: walks through it as far as bits or keys may not know its records.
fn enter(
    with: Recovery<'_>,
    state: &mut State,
    effects: &mut Effects<'_>,
    loaded: Loaded,
    next_first: Option<u64>,
    deep: bool,
) -> Result<(), StoreFault> {
    let Loaded { mut segment, sealed, blocks, bits_read } = loaded;
    let log = segment.head.log;
    let settled = with.noted.settled[log.index()];
    let floor = match log {
        _ if deep => 0,
        LogKind::Accepted => settled.min(with.covered),
        // Read whole, for the due times are nowhere else.
        LogKind::Parked => 0,
        LogKind::Dead => settled,
    };
    if let Some(sealed) = sealed
        && segment.head.first + sealed.records <= floor + 1
    {
        segment.end = sealed.end;
        segment.sealed = true;
        segment.note_dirty = false;
        state.track_mut(log).segments.insert(segment.head.id(), segment);
        return Ok(());
    }
    let mut synced = with.noted.synced[log.index()];
    if log == LogKind::Accepted {
        // Keys are told of a record only when it is synced.
        synced = synced.max(with.covered);
    }
    let extent = walk::walk(&segment, &Expected { sealed, next_first, synced })?;
    if sealed.is_none() {
        segment.bits.extend(extent.owed.len() as u64);
        load::blocks_into(&mut segment, &blocks);
    }
    segment.end = extent.end;
    for gap in &extent.gaps {
        lose(with, state, &segment, gap)?;
    }
    for (index, owed) in (0..).zip(&extent.owed) {
        if bits_read && segment.head.first + index <= settled && *owed != 0 {
            continue;
        }
        for slot in (0..segment.head.names.len() as u8).filter(|slot| owed >> slot & 1 == 0) {
            segment.bits.set(index, slot);
        }
    }
    segment.sealed = sealed.is_some() || next_first.is_some();
    segment.note_dirty = sealed.is_none();
    if !segment.sealed {
        mend_tail(with, &mut segment, &extent)?;
    }
    // What was told to the keys that were is told to these again.
    let told = if with.whole { 0 } else { settled };
    walk::visit(&Readable::of(&segment), |view, _| effects.of(log, view, floor, told))?;
    state.track_mut(log).segments.insert(segment.head.id(), segment);
    Ok(())
}

/// Sets a gap aside and notes what is lost, unless all of it was settled before: that is a gap
/// reported at an earlier start, or one that costs nobody anything.
fn lose(
    with: Recovery<'_>,
    state: &mut State,
    segment: &Segment,
    gap: &Gap,
) -> Result<(), StoreFault> {
    let lost = segment.unsettled(gap.seqs.clone());
    if lost.is_empty() {
        return Ok(());
    }
    let damage = Damage {
        log: segment.head.log,
        segment: segment.head.id(),
        file: Arc::clone(&segment.file),
        from: gap.from,
        to: gap.to,
        seqs: gap.seqs.clone(),
    };
    damage.tell();
    with.pool.found(0, damage::set_aside(with.disk, &damage)?);
    state.take_damage(&damage, lost);
    Ok(())
}

/// Makes the last commit of a log durable before it is believed, and cuts what is torn behind it.
///
/// After a sync that failed the page cache shows what the disk does not have, over a restart of
/// the process too. A segment with a torn tail is not written to again: its sequences will be used
/// anew, and two records must not share one under the same nonce.
fn mend_tail(with: Recovery<'_>, segment: &mut Segment, extent: &Extent) -> Result<(), StoreFault> {
    let len = usize::try_from(extent.end - extent.last_commit).unwrap_or(0);
    let commit = segment.file.read(extent.last_commit, len)?;
    match segment.file.write(&commit, extent.last_commit) {
        Ok(()) => segment.file.sync()?,
        Err(WriteError::Fault(fault)) => return Err(fault),
        Err(WriteError::Full) => {
            return Err(StoreFault {
                doing: format!("writing the last commit of {} again", segment.file.name()),
                cause: "no space left on device".to_owned(),
            });
        }
    }
    let torn_at = walk::tail(segment, extent)?.filter(|(_, bytes)| *bytes > 0);
    if torn_at.is_none() && extent.gaps.is_empty() {
        return Ok(());
    }
    if let Some((offset, bytes)) = torn_at {
        let file = segment.file.name();
        if extent.torn {
            tracing::warn!(
                file,
                offset,
                "the last commit was torn by a crash; nobody was answered for it, so it is cut away"
            );
        } else {
            tracing::warn!(
                file,
                offset,
                bytes,
                "bytes that no relay wrote stand behind the last commit; they are cut away"
            );
        }
        let torn = Damage {
            log: segment.head.log,
            segment: segment.head.id(),
            file: Arc::clone(&segment.file),
            from: offset,
            to: segment.size.min(offset + walk::TORN_MAX),
            seqs: 0..0,
        };
        with.pool.found(0, damage::set_aside(with.disk, &torn)?);
    }
    segment.file.truncate(extent.end)?;
    segment.file.sync()?;
    with.pool.give_back(segment.size - extent.end);
    segment.size = extent.end;
    segment.sealed = true;
    Ok(())
}

/// Everything unsettled in `log/` is backlog after a restart.
fn count_backlog(state: &mut State) {
    let mut unread = Vec::new();
    for segment in state.track(LogKind::Accepted).segments.values() {
        for (slot, line) in (0..).zip(&segment.lines) {
            let count = segment.bits.unset_of(slot);
            if count > 0 {
                let id = segment.head.id();
                let start = Cursor { segment: id, offset: DATA_START, seq: id.first };
                unread.push((*line, count, start));
            }
        }
    }
    for (line, count, start) in unread {
        state.lines[line].unread.recovered(count, start);
        state.flow.recovered += count;
    }
}

/// Finds when each delivery of `retry/` is due.
fn find_parked(with: Recovery<'_>, state: &mut State) -> Result<(), StoreFault> {
    let mut found = Vec::new();
    for segment in state.track(LogKind::Parked).segments.values() {
        if segment.bits.unset() == 0 {
            continue;
        }
        let first = segment.head.first;
        walk::visit(&Readable::of(segment), |view, offset| {
            let slot = view.owed().trailing_zeros() as u8;
            let (seq, Some(line)) = (view.seq(), segment.lines.get(usize::from(slot))) else {
                return Ok(());
            };
            if segment.bits.is_set(seq - first, slot) {
                return Ok(());
            }
            let len = record::aligned(view.len()) as u32;
            let place = Place { log: LogKind::Parked, seq, slot, offset, len };
            let waiting = Waiting {
                place,
                attempts: view.attempts(),
                accepted_at: view.accepted_at(),
                // One of a later program's kinds is given up by its reader; any will do till then.
                kind: view.kind().unwrap_or(EventKind::Notification),
                on_disk: true,
                sooner: view.sooner(),
                sent_at: view.sent_at(),
                round: 0,
            };
            let id = view.delivery().unwrap_or(DeliveryId::begun_by(seq, slot));
            let origin = view.dedupe().and(view.origin());
            found.push((*line, (view.at(), id), waiting, origin));
            Ok(())
        })?;
    }
    let (now, steady) = (with.clock.now(), with.clock.steady());
    for (line, key, waiting, origin) in found {
        // A clock that was ahead when it was written must not make it wait for years.
        let due = steady.after(key.0.since(now).min(with.due_within));
        if let Some(origin) = origin {
            state.is_away(origin);
        }
        state.lines[line].note_age(waiting.accepted_at, waiting.kind);
        state.lines[line].wait(due, key.1, waiting);
        state.flow.recovered += 1;
    }
    Ok(())
}

fn count_dead(state: &mut State) {
    let mut dead = Vec::new();
    for segment in state.track(LogKind::Dead).segments.values() {
        for (slot, line) in (0..).zip(&segment.lines) {
            dead.push((*line, segment.bits.unset_of(slot)));
        }
    }
    for (line, count) in dead {
        state.lines[line].dead += count;
        state.flow.letters += count;
    }
}
