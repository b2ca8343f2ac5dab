//! Acknowledgements whose segment is gone. They outlive it when a stop comes while a settled one
//! is freed; with a bit unset the file vanished under us, and what it owed is lost.

use std::ops::Range;

use super::super::LogKind;
use super::super::acks::{BLOCK, BLOCK_BITS, Bits, Note};
use super::super::damage::QUARANTINE;
use super::super::segment::{SLOTS_MAX, SegmentId};
use super::super::state::State;
use super::Recovery;
use super::load::Loaded;
use crate::spool::StoreFault;

/// Removes the `.ack` of a segment that was settled; sets any other aside and tells what is lost.
pub(super) fn judge(
    with: Recovery<'_>,
    log: LogKind,
    number: u64,
    loaded: &[Loaded],
    state: &mut State,
) -> Result<(), StoreFault> {
    let path = format!("{}/{number}.ack", log.dir());
    let file = with.disk.open(&path)?;
    let bytes = file.read(0, usize::try_from(file.size()?).unwrap_or(0))?;
    let known = Note::decode(&bytes).and_then(|note| {
        let seqs = sequences(with, log, &note, loaded)?;
        Some((owed(&note, seqs.clone(), &bytes), seqs))
    });
    if known.as_ref().is_some_and(|(owed, _)| owed.is_empty()) {
        return with.disk.remove(&path);
    }
    with.disk.rename(&path, &format!("{QUARANTINE}/{}-{number}.ack", log.dir()))?;
    with.disk.sync_dir(QUARANTINE)?;
    with.disk.sync_dir(log.dir())?;
    let segment = format!("{}/{number}.seg", log.dir());
    let Some((owed, seqs)) = known else {
        tracing::error!(
            file = segment,
            "the file is gone, and how many records it had is not known: all of them are lost"
        );
        state.damaged += 1;
        return Ok(());
    };
    let records: u64 = owed.iter().map(|run| run.end - run.start).sum();
    tracing::error!(
        file = segment,
        first_sequence = seqs.start,
        last_sequence = seqs.end - 1,
        records,
        "the file is gone: what was not delivered of its records is lost"
    );
    state.damaged += records;
    if log == LogKind::Accepted {
        state.lost.extend(owed);
    }
    // What comes next must not pass for what is lost.
    let track = state.track_mut(log);
    track.next_seq = track.next_seq.max(seqs.end);
    Ok(())
}

/// Tells of a segment that vanished with everything that was known of it.
pub(super) fn tell_vanished(
    with: Recovery<'_>,
    log: LogKind,
    number: u64,
    first: u64,
    loaded: &[Loaded],
    state: &mut State,
) {
    let next = loaded.iter().map(|of| of.segment.head.first).filter(|of| *of > first).min();
    let mut synced = with.noted.synced[log.index()];
    if log == LogKind::Accepted {
        synced = synced.max(with.covered);
    }
    // Some of them may have been settled; which, only the file beside it knew.
    let seqs = first..next.unwrap_or(synced + 1).max(first);
    let records = seqs.end - seqs.start;
    tracing::error!(
        file = format!("{}/{number}.seg", log.dir()),
        first_sequence = first,
        records,
        "the file is gone, with its acknowledgements: what was not delivered of it is lost"
    );
    state.damaged += records.max(1);
    if log == LogKind::Accepted && records > 0 {
        state.lost.push(seqs);
    }
}

/// The sequences that the segment had; nothing when that cannot be told.
fn sequences(
    with: Recovery<'_>,
    log: LogKind,
    note: &Note,
    loaded: &[Loaded],
) -> Option<Range<u64>> {
    if let Some(sealed) = note.sealed {
        return Some(note.first..note.first + sealed.records);
    }
    let id = SegmentId { first: note.first, number: note.number };
    let behind = loaded.iter().map(|of| of.segment.head.id()).find(|of| *of > id);
    if let Some(behind) = behind {
        return Some(note.first..behind.first);
    }
    let mut synced = with.noted.synced[log.index()];
    if log == LogKind::Accepted {
        synced = synced.max(with.covered);
    }
    (note.first <= synced).then_some(note.first..synced + 1)
}

/// The sequences among `seqs` that a bit is unset of; all when the blocks are not all there.
pub(in super::super) fn owed(note: &Note, seqs: Range<u64>, bytes: &[u8]) -> Vec<Range<u64>> {
    if seqs.is_empty() {
        return Vec::new();
    }
    // The header that named the slots is gone: each group of records has one block a slot.
    let blocks = bytes.get(BLOCK..).unwrap_or_default();
    let groups =
        usize::try_from((seqs.end - seqs.start).div_ceil(BLOCK_BITS)).unwrap_or(usize::MAX);
    let slots = blocks.len() / BLOCK / groups;
    let seed = note.seed();
    if !(1..=SLOTS_MAX).contains(&slots) || blocks.len() != slots * groups * BLOCK {
        return vec![seqs];
    }
    let mut bits = Bits::new(slots);
    bits.extend(seqs.end - seqs.start);
    for (index, block) in blocks.chunks_exact(BLOCK).enumerate() {
        // A block that is not whole reads as nothing settled.
        bits.load(index, block, seed);
    }
    bits.recount();
    bits.unsettled(note.first, seqs)
}
