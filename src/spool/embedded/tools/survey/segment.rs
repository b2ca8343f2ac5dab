//! One segment: its acknowledgements, and what stands behind its records.

use super::super::super::acks::{self, BLOCK, BLOCK_BITS, Sealed};
use super::super::super::segment::Segment;
use super::super::super::walk::Extent;
use super::super::{Finding, Wrong};
use super::Survey;
use crate::spool::StoreFault;

/// Bytes behind the records that are read at once.
const PIECE: usize = 256 << 10;
static ZEROS: [u8; PIECE] = [0; PIECE];
/// Sizes of files that are prepared are whole pages.
const PAGE: u64 = 4096;

/// A segment whose header was read.
pub(super) struct Loaded {
    pub(super) segment: Segment,
    pub(super) sealed: Option<Sealed>,
    /// Its `.ack`, behind the note.
    pub(super) blocks: Vec<u8>,
    pub(super) ack: Ack,
}

/// How the acknowledgements of a segment were found.
#[derive(Clone, Copy)]
pub(super) enum Ack {
    Missing,
    Whole,
    /// The note at their head does not pass; so many bytes.
    Damaged(u64),
}

/// Tells of acknowledgements that are damaged: those that were synced for certain, and others that
/// hold something else. `certain` is the sequence behind the last whose bits must be there.
pub(super) fn look_at_acks(
    segment: &Segment,
    blocks: &[u8],
    ack: Ack,
    certain: u64,
    survey: &mut Survey,
) {
    let first = segment.head.first;
    let slots = segment.head.names.len();
    let needed = certain.saturating_sub(first).div_ceil(BLOCK_BITS) as usize * slots;
    let mut tell = |offset, bytes, sequences| {
        let (file, wrong) = (segment.head.ack_path(), Wrong::Acknowledgements);
        survey.findings.push(Finding { file, offset, bytes, sequences, wrong });
    };
    match ack {
        Ack::Missing if needed > 0 => return tell(0, 0, first..certain),
        Ack::Missing => return,
        Ack::Damaged(bytes) => return tell(0, bytes, first..segment.next_seq()),
        Ack::Whole => {}
    }
    for index in 0..needed.max(blocks.len().div_ceil(BLOCK)) {
        let block = blocks.get(index * BLOCK..(index + 1) * BLOCK);
        let is_whole = block.is_some_and(|block| acks::is_whole(block, index, segment.seed));
        let is_blank = || block.is_some_and(|block| block.iter().all(|byte| *byte == 0));
        if is_whole || (index >= needed && is_blank()) {
            continue;
        }
        let group = (index / slots.max(1)) as u64 * BLOCK_BITS;
        let from = (first + group).min(segment.next_seq());
        let to = (from + BLOCK_BITS).min(segment.next_seq());
        tell(acks::block_offset(index), BLOCK as u64, from..to);
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
