//! Finds out which records a segment has after a crash: where they end, what of them is damaged,
//! and which commit was never answered for.

use std::ops::Range;
use std::sync::Arc;

use super::acks::Sealed;
use super::files::LogFile;
use super::record::{self, View};
use super::scan::{self, Found, Scan, Step};
use super::segment::{DATA_START, Segment, SegmentId};
use crate::spool::StoreFault;

/// Bytes behind the last commit that are looked at and set aside when one was torn.
pub(super) const TORN_MAX: u64 = 8 << 20;

/// Bytes behind the records that are read at once.
const PIECE: usize = 256 << 10;
static ZEROS: [u8; PIECE] = [0; PIECE];
/// Sizes of files that are prepared are whole pages.
const PAGE: u64 = 4096;

/// What is known of a segment before its records are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) sealed: Option<Sealed>,
    /// First sequence of the segment behind it; nothing for the last one.
    pub(super) next_first: Option<u64>,
    /// Sequence up to which the log was synced for certain.
    pub(super) synced: u64,
}

/// Records that do not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) seqs: Range<u64>,
}

/// What a segment has.
#[derive(Debug, Default)]
pub(super) struct Extent {
    /// The slots each record is owed to, in order of sequence; none for lost ones.
    pub(super) owed: Vec<u32>,
    /// Where the next record would begin.
    pub(super) end: u64,
    /// Where the last commit begins.
    pub(super) last_commit: u64,
    pub(super) gaps: Vec<Gap>,
    /// Behind `end` lies part of a commit that nobody was answered for.
    pub(super) torn: bool,
}

/// Walks through `segment` as far as its records go.
pub(super) fn walk(segment: &Segment, expected: &Expected) -> Result<Extent, StoreFault> {
    let first = segment.head.first;
    let limit = expected.sealed.map_or(segment.size, |sealed| sealed.end.min(segment.size));
    // The sequence behind the last that can be there, and the last that must be.
    let stop = match (expected.sealed, expected.next_first) {
        (Some(sealed), _) => first + sealed.records,
        (None, Some(next)) => next,
        (None, None) => u64::MAX,
    };
    let certain = if stop == u64::MAX { expected.synced } else { stop - 1 };
    let mut scan = Scan::new(&segment.file, segment.seed, DATA_START, limit);
    let mut extent = Extent { end: DATA_START, last_commit: DATA_START, ..Extent::default() };
    let (mut seq, mut whole, mut commit) = (first, first, DATA_START);
    while seq < stop {
        let at = scan.at;
        if let Step::Record(view, offset) = scan.step()?
            && view.seq() == seq
        {
            if view.place() == 0 {
                commit = offset;
            }
            let is_last = view.is_last();
            extent.owed.push(view.owed());
            seq += 1;
            if is_last {
                (whole, extent.end, extent.last_commit) = (seq, scan.at, commit);
            }
            continue;
        }
        let found = behind(segment, at, limit, seq, stop)?;
        let is_damage = seq <= certain || is_followed(segment, found, limit, seq, stop)?;
        if !is_damage {
            extent.torn = whole != seq || found.is_some() || is_begun(segment, at, seq)?;
            break;
        }
        let (to, next) = found.map_or((limit, certain + 1), |found| (found.offset, found.seq));
        extent.gaps.push(Gap { from: at, to, seqs: seq..next });
        extent.owed.resize((next - first) as usize, 0);
        // What stood before the damage was answered for, though its commit shows no end.
        (seq, whole) = (next, next);
        extent.end = if found.is_some() { to } else { at };
        extent.last_commit = extent.end;
        if found.is_none() {
            break;
        }
        scan.at = to;
    }
    extent.owed.truncate((whole - first) as usize);
    Ok(extent)
}

/// The first record behind the damage at `at`, where `seq` should stand.
fn behind(
    segment: &Segment,
    at: u64,
    limit: u64,
    seq: u64,
    stop: u64,
) -> Result<Option<Found>, StoreFault> {
    // No more records fit than that; a sequence beyond it is chance.
    let most = seq + limit.saturating_sub(at) / record::HEAD as u64;
    let seqs = seq + 1..=most.min(stop - 1);
    scan::search(&segment.file, segment.seed, at, limit, seqs)
}

/// Whether a commit stands behind the damage that began after it: then the damaged one was synced,
/// for at most one commit ever is not.
fn is_followed(
    segment: &Segment,
    found: Option<Found>,
    limit: u64,
    seq: u64,
    stop: u64,
) -> Result<bool, StoreFault> {
    let mut found = found;
    while let Some(record) = found {
        if record.seq - u64::from(record.place).min(record.seq) > seq {
            return Ok(true);
        }
        found = behind(segment, record.offset + 8, limit, record.seq, stop)?;
    }
    Ok(false)
}

/// Whether a record of that sequence was begun there: its checksum fails, its head says so.
fn is_begun(segment: &Segment, at: u64, seq: u64) -> Result<bool, StoreFault> {
    let head = segment.file.read(at, 16)?;
    Ok(head.get(8..16).is_some_and(|bytes| bytes == seq.to_le_bytes()))
}

/// Hands every record that passes to `visit`, with where it begins; answers the gaps between them.
pub(super) fn visit(
    segment: &Readable,
    visit: impl FnMut(&View<'_>, u64) -> Result<(), StoreFault>,
) -> Result<Vec<Gap>, StoreFault> {
    visit_from(segment, (DATA_START, segment.seqs.start), visit)
}

/// The same from where a record begins that has the sequence beside it.
pub(super) fn visit_from(
    segment: &Readable,
    (from, mut seq): (u64, u64),
    mut visit: impl FnMut(&View<'_>, u64) -> Result<(), StoreFault>,
) -> Result<Vec<Gap>, StoreFault> {
    let Readable { file, seed, end, .. } = segment;
    let mut scan = Scan::new(file, *seed, from, *end);
    let mut gaps = Vec::new();
    while seq < segment.seqs.end {
        let at = scan.at;
        if let Step::Record(view, offset) = scan.step()?
            && view.seq() == seq
        {
            visit(&view, offset)?;
            seq += 1;
            continue;
        }
        let last = segment.seqs.end - 1;
        let found = scan::search(file, *seed, at, *end, seq + 1..=last)?;
        let (to, next) = found.map_or((*end, last + 1), |found| (found.offset, found.seq));
        gaps.push(Gap { from: at, to, seqs: seq..next });
        (scan.at, seq) = (to, next);
    }
    Ok(gaps)
}

/// What it takes to read a segment without holding the lock around it.
#[derive(Clone, Debug)]
pub(super) struct Readable {
    pub(super) id: SegmentId,
    pub(super) file: Arc<LogFile>,
    pub(super) seed: u32,
    pub(super) end: u64,
    pub(super) seqs: Range<u64>,
}

impl Readable {
    pub(super) fn of(segment: &Segment) -> Self {
        Self {
            id: segment.head.id(),
            file: Arc::clone(&segment.file),
            seed: segment.seed,
            end: segment.end,
            seqs: segment.head.first..segment.next_seq(),
        }
    }
}

/// Where bytes stand behind the records that no relay wrote, or none finished writing.
pub(super) fn tail(segment: &Segment, extent: &Extent) -> Result<Option<(u64, u64)>, StoreFault> {
    let (end, size) = (extent.end, segment.size);
    if segment.sealed {
        return Ok(None);
    }
    if extent.torn {
        return Ok(Some((end, size.saturating_sub(end))));
    }
    if segment.head.fresh {
        let Some(first) = first_byte(segment, end, size)? else {
            // Zeros that are missing were cut off.
            return Ok((size < end).then_some((size, 0)));
        };
        return Ok(Some((first, size - first)));
    }
    // A file that was used before holds old records there; but its size is whole pages.
    let is_odd = size != end && !size.is_multiple_of(PAGE);
    Ok(is_odd.then_some((size / PAGE * PAGE, size % PAGE)))
}

/// The first byte from `at` to `size` that is not zero.
fn first_byte(segment: &Segment, mut at: u64, size: u64) -> Result<Option<u64>, StoreFault> {
    while at < size {
        let len = usize::try_from(size - at).unwrap_or(PIECE).min(PIECE);
        let piece = segment.file.read(at, len)?;
        if !piece.is_empty() && piece == ZEROS[..piece.len()] {
            at += piece.len() as u64;
            continue;
        }
        if let Some(index) = piece.iter().position(|byte| *byte != 0) {
            return Ok(Some(at + index as u64));
        }
        // The file ends before its size did.
        break;
    }
    Ok(None)
}
