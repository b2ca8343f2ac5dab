//! What of a segment was settled: a bit for each record and slot, and the blocks that keep them.
//!
//! Bits only rise, so writing a block twice or losing the last one does no harm: a delivery whose
//! bit is lost is made again. A `.ack` begins with a note about its segment, in a block of its own.

use std::collections::BTreeSet;
use std::ops::Range;

use super::segment::Head;

/// Bytes of a block: what a disk writes whole.
pub(super) const BLOCK: usize = 512;
const WORDS: usize = 63;
/// Records that one block has bits of.
pub(super) const BLOCK_BITS: u64 = WORDS as u64 * 64;

/// The bits of one segment.
#[derive(Debug)]
pub(super) struct Bits {
    slots: usize,
    /// By group of records, then slot.
    blocks: Vec<[u64; WORDS]>,
    /// Records.
    len: u64,
    /// Bits not set, by slot.
    unset: Vec<u64>,
    dirty: BTreeSet<usize>,
}

impl Bits {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots, blocks: Vec::new(), len: 0, unset: vec![0; slots], dirty: BTreeSet::new() }
    }

    /// Records that it has bits of.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Deliveries not settled.
    pub(super) fn unset(&self) -> u64 {
        self.unset.iter().sum()
    }

    /// Deliveries of one slot not settled.
    pub(super) fn unset_of(&self, slot: u8) -> u64 {
        self.unset.get(usize::from(slot)).copied().unwrap_or(0)
    }

    fn place(&self, index: u64, slot: u8) -> (usize, usize, u64) {
        let block = (index / BLOCK_BITS) as usize * self.slots + usize::from(slot);
        let bit = index % BLOCK_BITS;
        (block, (bit / 64) as usize, 1 << (bit % 64))
    }

    /// Adds a record, owed to the slots of `owed` and settled for the others.
    pub(super) fn push(&mut self, owed: u32) {
        let index = self.len;
        self.len += 1;
        if index.is_multiple_of(BLOCK_BITS) {
            self.blocks.resize(self.blocks.len() + self.slots, [0; WORDS]);
        }
        for slot in 0..self.slots as u8 {
            let (block, word, bit) = self.place(index, slot);
            self.dirty.insert(block);
            if owed >> slot & 1 == 0 {
                self.blocks[block][word] |= bit;
            } else {
                self.unset[usize::from(slot)] += 1;
            }
        }
    }

    /// Adds records whose blocks are to be loaded; until then they are owed to every slot.
    pub(super) fn extend(&mut self, records: u64) {
        self.len += records;
        self.blocks.resize(self.len.div_ceil(BLOCK_BITS) as usize * self.slots, [0; WORDS]);
        self.unset.iter_mut().for_each(|unset| *unset += records);
    }

    /// Sets one bit; says whether it was not set before.
    pub(super) fn set(&mut self, index: u64, slot: u8) -> bool {
        if index >= self.len || usize::from(slot) >= self.slots {
            return false;
        }
        let (block, word, bit) = self.place(index, slot);
        let was_unset = self.blocks[block][word] & bit == 0;
        if was_unset {
            self.blocks[block][word] |= bit;
            self.unset[usize::from(slot)] -= 1;
            self.dirty.insert(block);
        }
        was_unset
    }

    /// Sets every bit.
    pub(super) fn fill(&mut self) {
        for index in 0..self.len {
            for slot in 0..self.slots as u8 {
                self.set(index, slot);
            }
        }
    }

    /// Whether the delivery is settled; one that is not there is.
    pub(super) fn is_set(&self, index: u64, slot: u8) -> bool {
        if index >= self.len || usize::from(slot) >= self.slots {
            return true;
        }
        let (block, word, bit) = self.place(index, slot);
        self.blocks[block][word] & bit != 0
    }

    /// The sequences among `seqs` that are still owed to somebody, in runs, when `first` is that of
    /// the first record. A record owed to nobody from the start counts as settled.
    pub(super) fn unsettled(&self, first: u64, seqs: Range<u64>) -> Vec<Range<u64>> {
        let slots = self.slots as u8;
        let mut runs: Vec<Range<u64>> = Vec::new();
        for seq in seqs {
            let index = seq - first;
            if (0..slots).all(|slot| self.is_set(index, slot)) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == seq => run.end = seq + 1,
                Some(_) | None => runs.push(seq..seq + 1),
            }
        }
        runs
    }

    /// How many blocks there are.
    pub(super) const fn blocks(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Takes one changed block with its index, for writing.
    pub(super) fn pop_dirty(&mut self, seed: u32) -> Option<(usize, [u8; BLOCK])> {
        let index = self.dirty.pop_first()?;
        Some((index, seal(self.blocks.get(index)?, index, seed)))
    }

    /// Says that a block that was taken did not reach the disk.
    pub(super) fn mark_dirty(&mut self, index: usize) {
        self.dirty.insert(index);
    }

    /// Takes over what a block on disk says; `false` when it is not one of ours.
    pub(super) fn load(&mut self, index: usize, bytes: &[u8], seed: u32) -> bool {
        let Some(words) = unseal(bytes, index, seed) else { return false };
        let Some(block) = self.blocks.get_mut(index) else { return true };
        for (mine, theirs) in block.iter_mut().zip(words) {
            *mine |= theirs;
        }
        true
    }

    /// Counts anew, and clears what lies behind the last record.
    pub(super) fn recount(&mut self) {
        if self.slots == 0 {
            return;
        }
        self.unset.fill(0);
        for (index, block) in self.blocks.iter_mut().enumerate() {
            let first = (index / self.slots) as u64 * BLOCK_BITS;
            let here = (self.len - first).min(BLOCK_BITS);
            let mut set = 0;
            for (at, word) in (0..).step_by(64).zip(block.iter_mut()) {
                if here < at + 64 {
                    *word &= (1 << here.saturating_sub(at)) - 1;
                }
                set += u64::from(word.count_ones());
            }
            self.unset[index % self.slots] += here - set;
        }
    }
}

/// The checksum covers the block's index, so that a block written astray is refused.
fn seal(words: &[u64; WORDS], index: usize, seed: u32) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    for (eight, word) in bytes.chunks_exact_mut(8).zip(words) {
        eight.copy_from_slice(&word.to_le_bytes());
    }
    let crc = block_crc(&bytes[..WORDS * 8], index, seed);
    bytes[WORDS * 8..WORDS * 8 + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn unseal(bytes: &[u8], index: usize, seed: u32) -> Option<[u64; WORDS]> {
    let (content, rest) = bytes.split_at_checked(WORDS * 8)?;
    if rest.get(..4)? != block_crc(content, index, seed).to_le_bytes() {
        return None;
    }
    let mut words = [0; WORDS];
    for (word, eight) in words.iter_mut().zip(content.chunks_exact(8)) {
        *word = u64::from_le_bytes(eight.try_into().ok()?);
    }
    Some(words)
}

/// Whether a block on disk is the one it should be.
pub(super) fn is_whole(bytes: &[u8], index: usize, seed: u32) -> bool {
    unseal(bytes, index, seed).is_some()
}

fn block_crc(content: &[u8], index: usize, seed: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &(index as u64).to_le_bytes()), content)
}

/// Where a block lies in its file; the note comes first.
pub(super) const fn block_offset(index: usize) -> u64 {
    (1 + index as u64) * BLOCK as u64
}

/// What a `.ack` says of a segment whose records are all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    /// Where the records end.
    pub(super) end: u64,
    pub(super) records: u64,
}

/// What the note of a `.ack` is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) first: u64,
    pub(super) number: u64,
    pub(super) nonce: [u8; 16],
    pub(super) sealed: Option<Sealed>,
}

const NOTE_MAGIC: [u8; 8] = *b"BRACKED1";

impl Note {
    pub(super) const fn of(head: &Head, sealed: Option<Sealed>) -> Self {
        Self { first: head.first, number: head.number, nonce: head.nonce, sealed }
    }

    /// Whether it was written for this use of the segment's file.
    pub(super) fn is_of(&self, head: &Head) -> bool {
        self.nonce == head.nonce && self.first == head.first && self.number == head.number
    }

    /// The seed of the blocks that follow.
    pub(super) fn seed(&self) -> u32 {
        crc32c::crc32c(&self.nonce)
    }

    pub(super) fn encode(&self) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        bytes[..8].copy_from_slice(&NOTE_MAGIC);
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.nonce);
        if let Some(sealed) = self.sealed {
            bytes[48] = 1;
            bytes[56..64].copy_from_slice(&sealed.end.to_le_bytes());
            bytes[64..72].copy_from_slice(&sealed.records.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[16..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BLOCK] = bytes.get(..BLOCK)?.try_into().ok()?;
        if bytes[..8] != NOTE_MAGIC || bytes[8..12] != crc32c::crc32c(&bytes[16..]).to_le_bytes() {
            return None;
        }
        let u64_at =
            |at: usize| bytes[at..at + 8].try_into().ok().map(u64::from_le_bytes).unwrap_or(0);
        Some(Self {
            first: u64_at(16),
            number: u64_at(24),
            nonce: bytes[32..48].try_into().ok()?,
            sealed: (bytes[48] == 1).then(|| Sealed { end: u64_at(56), records: u64_at(64) }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogKind;
    use super::*;

    #[test]
    fn bits_survive_their_blocks() {
        let mut bits = Bits::new(2);
        for index in 0..BLOCK_BITS + 100 {
            bits.push(if index % 3 == 0 { 0b11 } else { 0b01 });
        }
        for index in (0..BLOCK_BITS + 100).step_by(5) {
            bits.set(index, 0);
        }
        let mut loaded = Bits::new(2);
        loaded.extend(BLOCK_BITS + 100);
        while let Some((index, bytes)) = bits.pop_dirty(9) {
            assert!(!loaded.load(index, &bytes, 8), "another segment's block was taken");
            assert!(!loaded.load(index + 1, &bytes, 9), "a block was taken for its neighbour");
            assert!(loaded.load(index, &bytes, 9));
        }
        loaded.recount();
        assert_eq!((loaded.unset_of(0), loaded.unset_of(1)), (bits.unset_of(0), bits.unset_of(1)));
        for index in 0..BLOCK_BITS + 100 {
            for slot in 0..2 {
                assert_eq!(loaded.is_set(index, slot), bits.is_set(index, slot), "{index} {slot}");
            }
        }
    }

    #[test]
    fn a_block_longer_than_the_log_counts_only_what_is_there() {
        let mut bits = Bits::new(1);
        (0..200).for_each(|_| bits.push(0));
        let (index, bytes) = bits.pop_dirty(1).unwrap();
        let mut shorter = Bits::new(1);
        shorter.extend(70);
        assert!(shorter.load(index, &bytes, 1));
        shorter.recount();
        assert_eq!(shorter.unset(), 0);
        shorter.push(1);
        assert!(!shorter.is_set(70, 0), "a new record took the bit of one that was cut away");
        assert_eq!(shorter.unset(), 1);
    }

    #[test]
    fn a_note_survives_and_knows_its_segment() {
        let head = Head::new(LogKind::Dead, 3, 77, Vec::new());
        let note = Note::of(&head, Some(Sealed { end: 9_000, records: 12 }));
        let bytes = note.encode();
        assert_eq!(Note::decode(&bytes), Some(note));
        assert!(note.is_of(&head));
        assert!(!note.is_of(&Head::new(LogKind::Dead, 3, 77, Vec::new())), "of a former use");
        for at in (0..8).chain(8..12).chain(16..BLOCK) {
            let mut flipped = bytes;
            flipped[at] ^= 4;
            assert_eq!(Note::decode(&flipped), None, "byte {at}");
        }
    }
}
