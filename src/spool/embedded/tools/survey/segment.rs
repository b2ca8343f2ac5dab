//! One segment: its acknowledgements, and what stands behind its records.

use super::super::super::acks::{self, BLOCK, BLOCK_BITS, Sealed};
use super::super::super::segment::Segment;
use super::super::{Finding, Wrong};
use super::Survey;

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
