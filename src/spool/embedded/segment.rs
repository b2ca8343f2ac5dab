//! One file of a log: its header, and what is known of it while the store is open.

use std::ops::Range;
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};

use super::LogKind;
use super::acks::Bits;
use super::crypt::KeyId;
use super::files::{LogFile, WriteError};
use crate::event::DestinationName;
use crate::spool::StoreFault;

const MAGIC: [u8; 8] = *b"BRSPOOL1";
/// The layout of headers and records.
const FORMAT: u32 = 1;
/// Bytes of one copy of the header: a page, so that a torn write spoils one copy only.
const COPY: usize = 4096;
/// Where the records begin.
pub(super) const DATA_START: u64 = 2 * COPY as u64;
/// Destinations that the records of one segment can be owed to.
pub(super) const SLOTS_MAX: usize = 32;
/// Bytes of a destination's name; 32 of them fit a header.
pub(super) const NAME_BYTES_MAX: usize = 120;
/// Where the names begin. Before them: magic, crc, format, number, first sequence, nonce, log,
/// count of names, whether the file was new, a byte spare, the name of the key, 52 bytes spare.
const NAMES_AT: usize = 120;
/// Where the name of the key stands; zeros where the records are plain.
const KEY_AT: usize = 52;

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) log: LogKind,
    pub(super) number: u64,
    /// Sequence of its first record.
    pub(super) first: u64,
    /// New at every use of a file, so that what it held before is not taken for a record.
    pub(super) nonce: [u8; 16],
    /// Destinations by slot.
    pub(super) names: Vec<DestinationName>,
    /// The file was new: behind the last record it holds zeros, not records of a former use.
    pub(super) fresh: bool,
    /// The name of the key that its records are encrypted with.
    pub(super) key: Option<KeyId>,
}

impl Head {
    pub(super) fn new(log: LogKind, number: u64, first: u64, names: Vec<DestinationName>) -> Self {
        let nonce = fastrand::u128(..).to_le_bytes();
        Self { log, number, first, nonce, names, fresh: false, key: None }
    }

    /// The same for records that are encrypted with that key.
    pub(super) fn encrypted(self, key: Option<KeyId>) -> Self {
        let mut nonce = self.nonce;
        if key.is_some() {
            // The data key follows from it. Should the system have nothing random to give, the
            // one that stands there is as unlikely to come twice, and need not be a secret.
            let _kept = SystemRandom::new().fill(&mut nonce);
        }
        Self { nonce, key, ..self }
    }

    /// The seed of every checksum in the segment.
    pub(super) fn seed(&self) -> u32 {
        crc32c::crc32c(&self.nonce)
    }

    /// Where the segment stands among those of its log.
    pub(super) const fn id(&self) -> SegmentId {
        SegmentId { first: self.first, number: self.number }
    }

    /// The path of its file.
    pub(super) fn path(&self) -> String {
        format!("{}/{}.seg", self.log.dir(), self.number)
    }

    /// The path of its acknowledgements.
    pub(super) fn ack_path(&self) -> String {
        format!("{}/{}.ack", self.log.dir(), self.number)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; NAMES_AT];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[12..16].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.nonce);
        bytes[48] = self.log.code();
        bytes[49] = self.names.len() as u8;
        bytes[KEY_AT..KEY_AT + 16].copy_from_slice(&self.key.unwrap_or_default());
        bytes[50] = self.fresh.into();
        for name in &self.names {
            bytes.push(name.as_str().len() as u8);
            bytes.extend_from_slice(name.as_str().as_bytes());
        }
        bytes.resize(COPY, 0);
        let crc = crc32c::crc32c(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let u64_at = |at: usize| {
            let bytes: [u8; 8] = bytes.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        let crc = crc32c::crc32c(bytes.get(12..COPY)?).to_le_bytes();
        if bytes[..8] != MAGIC || bytes[8..12] != crc || bytes[12..16] != FORMAT.to_le_bytes() {
            return None;
        }
        let mut names = Vec::new();
        let mut at = NAMES_AT;
        for _ in 0..bytes[49] {
            let len = usize::from(*bytes.get(at)?);
            let name = std::str::from_utf8(bytes.get(at + 1..at + 1 + len)?).ok()?;
            names.push(DestinationName::new(name));
            at += 1 + len;
        }
        if names.len() > SLOTS_MAX {
            return None;
        }
        Some(Self {
            log: LogKind::from_code(bytes[48])?,
            number: u64_at(16)?,
            first: u64_at(24)?,
            nonce: bytes[32..48].try_into().ok()?,
            names,
            fresh: bytes[50] == 1,
            key: Some(bytes[KEY_AT..KEY_AT + 16].try_into().ok()?).filter(|id| *id != [0; 16]),
        })
    }

    /// Writes both copies; the caller syncs.
    pub(super) fn write(&self, file: &LogFile) -> Result<(), WriteError> {
        let copy = self.encode();
        file.write(&copy, 0)?;
        file.write(&copy, COPY as u64)
    }

    /// Reads the first copy that is whole.
    pub(super) fn read(file: &LogFile) -> Result<Option<Self>, StoreFault> {
        Ok(Self::read_both(file)?.into_iter().flatten().next())
    }

    /// Reads each copy that is whole.
    pub(super) fn read_both(file: &LogFile) -> Result<[Option<Self>; 2], StoreFault> {
        let bytes = file.read(0, 2 * COPY)?;
        let mut copies = bytes.chunks(COPY).map(Self::decode);
        Ok([copies.next().flatten(), copies.next().flatten()])
    }

    /// Whether `file` was never a segment: a file that is made for one holds zeros.
    pub(super) fn is_fresh(file: &LogFile) -> Result<bool, StoreFault> {
        Ok(file.read(0, COPY)?.iter().all(|byte| *byte == 0))
    }
}

/// Orders the segments of a log. The number tells apart those that begin at the same sequence, of
/// which all but the last are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SegmentId {
    pub(super) first: u64,
    pub(super) number: u64,
}

/// A segment of an open store.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) head: Head,
    pub(super) seed: u32,
    /// Index of the line of each slot.
    pub(super) lines: Vec<usize>,
    pub(super) file: Arc<LogFile>,
    /// Bytes that the file takes.
    pub(super) size: u64,
    /// Where the next record begins; everything before it is synced.
    pub(super) end: u64,
    pub(super) bits: Bits,
    /// Nothing is written to it any more.
    pub(super) sealed: bool,
    /// The note at the head of its `.ack` is to be written.
    pub(super) note_dirty: bool,
    pub(super) ack: Option<Arc<LogFile>>,
}

impl Segment {
    pub(super) fn new(head: Head, lines: Vec<usize>, file: Arc<LogFile>, size: u64) -> Self {
        Self {
            seed: head.seed(),
            bits: Bits::new(head.names.len()),
            head,
            lines,
            file,
            size,
            end: DATA_START,
            sealed: false,
            note_dirty: true,
            ack: None,
        }
    }

    /// Sequence behind its last record.
    pub(super) fn next_seq(&self) -> u64 {
        self.head.first + self.bits.len()
    }

    pub(super) fn has(&self, seq: u64) -> bool {
        (self.head.first..self.next_seq()).contains(&seq)
    }

    /// The slot of a line, if it has one here.
    pub(super) fn slot_of(&self, line: usize) -> Option<u8> {
        self.lines.iter().position(|of| *of == line).map(|slot| slot as u8)
    }

    /// The sequences among `seqs` that are still owed to somebody, in runs. A record owed to nobody
    /// from the start counts as settled.
    pub(super) fn unsettled(&self, seqs: Range<u64>) -> Vec<Range<u64>> {
        self.bits.unsettled(self.head.first, seqs)
    }

    /// Whether nothing of it is owed any more and nobody will add to it.
    pub(super) fn is_done(&self) -> bool {
        self.sealed && self.bits.unset() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_either_copy() {
        let name = |n: usize| DestinationName::new(&"x".repeat(n + NAME_BYTES_MAX - SLOTS_MAX));
        let names: Vec<_> = (1..=SLOTS_MAX).map(name).collect();
        let head = Head { fresh: true, ..Head::new(LogKind::Parked, 7, 1_000_000, names) };
        let bytes = head.encode();
        assert_eq!(bytes.len(), COPY);
        assert_eq!(Head::decode(&bytes), Some(head));
    }

    #[test]
    fn a_header_with_any_bit_flipped_is_refused() {
        let head = Head::new(LogKind::Accepted, 1, 1, vec![DestinationName::new("a")]);
        let bytes = head.encode();
        for at in 0..COPY {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert_eq!(Head::decode(&flipped), None, "byte {at}");
        }
    }
}
