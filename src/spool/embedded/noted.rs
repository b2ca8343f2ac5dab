//! The file `noted`: how far the logs are synced, and up to where everything that follows from
//! their records is durable elsewhere, so that recovery need not read them again.
//!
//! Two blocks are written in turn, so a torn write leaves the one before. With both lost recovery
//! reads more and takes a damaged tail for a torn one; nothing else changes.

use super::acks::BLOCK;
use super::files::{Disk, LogFile, WriteError};

pub(super) const FILE: &str = "noted";
const MAGIC: [u8; 8] = *b"BRNOTED1";

/// The last sequence of each log, in the order of [`super::LogKind::ALL`]; zero before the first.
pub(super) type Positions = [u64; 3];

/// What the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// Up to here the records were synced: one that does not pass is damaged, not torn.
    pub(super) synced: Positions,
    /// Up to here the bits and keys that follow from the records were synced too.
    pub(super) settled: Positions,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Noted {
    file: LogFile,
    turn: u64,
    last: Note,
}

impl Noted {
    /// Opens or creates the file, and says what it notes.
    pub(super) fn open(disk: &Disk) -> Result<Self, WriteError> {
        let file = if disk.list("")?.iter().any(|(name, _)| name == FILE) {
            disk.open(FILE)?
        } else {
            let file = disk.create(FILE, 2 * BLOCK as u64)?;
            file.sync()?;
            disk.sync_dir("")?;
            file
        };
        let bytes = file.read(0, 2 * BLOCK)?;
        let newest = bytes.chunks(BLOCK).filter_map(decode).max_by_key(|(turn, _)| *turn);
        let (turn, last) = newest.unwrap_or_default();
        Ok(Self { file, turn, last })
    }

    /// What is noted.
    pub(super) const fn last(&self) -> Note {
        self.last
    }

    /// Notes durably, unless it is noted already.
    pub(super) fn write(&mut self, note: Note) -> Result<(), WriteError> {
        if note == self.last {
            return Ok(());
        }
        self.turn += 1;
        self.file.write(&encode(self.turn, note), self.turn % 2 * BLOCK as u64)?;
        self.file.sync()?;
        self.last = note;
        Ok(())
    }
}

/// What each block says; nothing for one that is damaged. A block that was never written is zeros.
pub(super) fn blocks(bytes: &[u8]) -> [Option<Note>; 2] {
    let block = |index: usize| {
        let block = bytes.get(index * BLOCK..(index + 1) * BLOCK)?;
        if block.iter().all(|byte| *byte == 0) {
            return Some(Note::default());
        }
        decode(block).map(|(_, note)| note)
    };
    [block(0), block(1)]
}

/// What the newest block says that is whole.
pub(super) fn newest(bytes: &[u8]) -> Note {
    let newest = bytes.chunks(BLOCK).filter_map(decode).max_by_key(|(turn, _)| *turn);
    newest.unwrap_or_default().1
}

fn encode(turn: u64, note: Note) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    bytes[..8].copy_from_slice(&MAGIC);
    let numbers = [turn].into_iter().chain(note.synced).chain(note.settled);
    for (eight, number) in bytes[16..72].chunks_exact_mut(8).zip(numbers) {
        eight.copy_from_slice(&number.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes[16..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(u64, Note)> {
    let crc = crc32c::crc32c(bytes.get(16..BLOCK)?);
    if bytes[..8] != MAGIC || bytes[8..12] != crc.to_le_bytes() {
        return None;
    }
    let mut numbers = [0; 7];
    for (number, eight) in numbers.iter_mut().zip(bytes[16..72].chunks_exact(8)) {
        *number = u64::from_le_bytes(eight.try_into().ok()?);
    }
    let [turn, a, b, c, d, e, f] = numbers;
    Some((turn, Note { synced: [a, b, c], settled: [d, e, f] }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::files::Real;
    use super::*;

    #[test]
    fn a_torn_note_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(Arc::new(Real), dir.path().to_owned());
        let mut noted = Noted::open(&disk).unwrap();
        assert_eq!(noted.last(), Note::default());
        let note = |turn| Note { synced: [turn * 10, turn, 0], settled: [turn * 9, 0, turn] };
        for turn in 1..=3 {
            noted.write(note(turn)).unwrap();
        }
        assert_eq!(Noted::open(&disk).unwrap().last(), note(3));
        // The third went where the first had been.
        disk.open(FILE).unwrap().write(&[0xff; 100], BLOCK as u64).unwrap();
        assert_eq!(Noted::open(&disk).unwrap().last(), note(2));
        disk.open(FILE).unwrap().write(&[0; BLOCK], 0).unwrap();
        assert_eq!(Noted::open(&disk).unwrap().last(), Note::default());
    }
}
