//! Walks through the records of a segment, a piece at a time, and searches behind damage.

use std::ops::RangeInclusive;

use super::files::LogFile;
use super::record::{self, Checked, View};
use crate::spool::StoreFault;

/// Bytes read at once.
const PIECE: usize = 256 << 10;

/// What stands where a [`Scan`] is.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// A record, and where it begins.
    Record(View<'a>, u64),
    /// The limit: not even the head of a record fits.
    End,
    /// Something else.
    Bad,
}

/// A walk from record to record.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    file: &'a LogFile,
    seed: u32,
    /// Where the next record begins.
    pub(super) at: u64,
    limit: u64,
    bytes: Vec<u8>,
    /// Where `bytes` begins.
    start: u64,
}

impl<'a> Scan<'a> {
    /// From `from` to `limit`, which may lie behind the file's end.
    pub(super) const fn new(file: &'a LogFile, seed: u32, from: u64, limit: u64) -> Self {
        Self { file, seed, at: from, limit, bytes: Vec::new(), start: from }
    }

    /// Makes at least `need` bytes from `at` available, if the limit and the file allow.
    fn fill(&mut self, need: usize) -> Result<(), StoreFault> {
        let have = self.start + self.bytes.len() as u64;
        if self.at >= self.start && self.at + need as u64 <= have {
            return Ok(());
        }
        let left = usize::try_from(self.limit.saturating_sub(self.at)).unwrap_or(usize::MAX);
        self.bytes = self.file.read(self.at, need.max(PIECE).min(left))?;
        self.start = self.at;
        Ok(())
    }

    /// The record at hand, the one behind it being next.
    pub(super) fn step(&mut self) -> Result<Step<'_>, StoreFault> {
        let mut need = record::HEAD;
        let len = loop {
            self.fill(need)?;
            let from = (self.at - self.start) as usize;
            match record::check(&self.bytes[from..], self.seed) {
                Checked::Whole(len) => break len,
                Checked::Short(more) if more > need && self.at + more as u64 <= self.limit => {
                    need = more;
                }
                Checked::Short(_) if self.at + record::HEAD as u64 > self.limit => {
                    return Ok(Step::End);
                }
                Checked::Short(_) | Checked::Bad => return Ok(Step::Bad),
            }
        };
        let (at, from) = (self.at, (self.at - self.start) as usize);
        self.at += record::aligned(len) as u64;
        Ok(Step::Record(View::of(&self.bytes[from..from + len]), at))
    }
}

/// A record found behind damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) offset: u64,
    pub(super) seq: u64,
    pub(super) place: u32,
}

/// Searches `file` from `from` to `limit` for a whole record whose sequence is one of `seqs`.
pub(super) fn search(
    file: &LogFile,
    seed: u32,
    from: u64,
    limit: u64,
    seqs: RangeInclusive<u64>,
) -> Result<Option<Found>, StoreFault> {
    /// Enough of a head to see whether a checksum is worth its while: the length, the sequence.
    const GLANCE: usize = 16;
    let mut at = from.next_multiple_of(8);
    while at + record::HEAD as u64 <= limit {
        let left = usize::try_from(limit - at).unwrap_or(usize::MAX);
        let piece = file.read(at, left.min(PIECE + GLANCE))?;
        if piece.len() < GLANCE {
            break;
        }
        for offset in (0..=piece.len() - GLANCE).step_by(8) {
            let seq = piece[offset + 8..offset + 16].try_into().map_or(0, u64::from_le_bytes);
            if !seqs.contains(&seq) {
                continue;
            }
            let offset = at + offset as u64;
            if let Step::Record(view, offset) = Scan::new(file, seed, offset, limit).step()? {
                return Ok(Some(Found { offset, seq, place: view.place() }));
            }
        }
        at += (piece.len() - GLANCE) as u64 / 8 * 8 + 8;
    }
    Ok(None)
}
