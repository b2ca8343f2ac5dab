//! The file `segments`: which segments there are, so that one that vanishes together with its
//! acknowledgements is told and not taken for one that was freed.
//!
//! A segment is entered when it begins, and struck out before its file goes, so that a crash in
//! between never accuses anybody. Without room for it there is no such file, and nothing is told.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::files::{Disk, WriteError};
use super::{LogKind, lock};
use crate::spool::StoreFault;

pub(super) const FILE: &str = "segments";
const NEW: &str = "segments.new";

/// First sequences by log and number.
type Entries = BTreeMap<(LogKind, u64), u64>;

/// What is entered.
#[derive(Debug)]
pub(super) struct Manifest {
    disk: Disk,
    entries: Mutex<Entries>,
}

impl Manifest {
    pub(super) fn new(disk: Disk) -> Self {
        Self { disk, entries: Mutex::default() }
    }

    /// What was entered when the store was last open; nothing when that is not known for certain.
    pub(super) fn read(disk: &Disk) -> Result<Entries, StoreFault> {
        if !disk.has(FILE) {
            return Ok(Entries::new());
        }
        let file = disk.open(FILE)?;
        let bytes = file.read(0, usize::try_from(file.size()?).unwrap_or(0))?;
        Ok(decode(&bytes).unwrap_or_default())
    }

    /// Enters what a recovery found, in place of everything before.
    pub(super) fn replace(
        &self,
        found: impl Iterator<Item = (LogKind, u64, u64)>,
    ) -> Result<(), StoreFault> {
        let mut entries = lock(&self.entries);
        *entries = found.map(|(log, number, first)| ((log, number), first)).collect();
        self.write(&entries)
    }

    /// Enters a segment.
    pub(super) fn add(&self, log: LogKind, number: u64, first: u64) -> Result<(), StoreFault> {
        let mut entries = lock(&self.entries);
        entries.insert((log, number), first);
        self.write(&entries)
    }

    /// Strikes segments out.
    pub(super) fn remove(
        &self,
        log: LogKind,
        numbers: impl Iterator<Item = u64>,
    ) -> Result<(), StoreFault> {
        let mut entries = lock(&self.entries);
        for number in numbers {
            entries.remove(&(log, number));
        }
        self.write(&entries)
    }

    fn write(&self, entries: &Entries) -> Result<(), StoreFault> {
        match self.try_write(entries) {
            Ok(()) => Ok(()),
            // One that says too much would be worse than none.
            Err(WriteError::Full) => {
                self.disk.remove(NEW)?;
                self.disk.remove(FILE)?;
                self.disk.sync_dir("")
            }
            Err(WriteError::Fault(fault)) => Err(fault),
        }
    }

    fn try_write(&self, entries: &Entries) -> Result<(), WriteError> {
        let file = self.disk.create(NEW, 0)?;
        file.write(&encode(entries), 0)?;
        file.sync()?;
        self.disk.rename(NEW, FILE)?;
        self.disk.sync_dir("")?;
        Ok(())
    }
}

fn encode(entries: &Entries) -> Vec<u8> {
    let line = |((log, number), first): (&(LogKind, u64), &u64)| {
        format!("{} {number} {first}\n", log.dir())
    };
    let text = entries.iter().map(line).collect::<String>();
    let crc = crc32c::crc32c(text.as_bytes());
    format!("{text}end {crc:08x}\n").into_bytes()
}

fn decode(bytes: &[u8]) -> Option<Entries> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (lines, end) = text.rsplit_once("end ")?;
    let crc = crc32c::crc32c(lines.as_bytes());
    if u32::from_str_radix(end, 16).ok()? != crc {
        return None;
    }
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let (dir, number, first) = (words.next()?, words.next()?, words.next()?);
        let log = LogKind::ALL.into_iter().find(|log| log.dir() == dir)?;
        Some(((log, number.parse().ok()?), first.parse().ok()?))
    };
    lines.lines().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_their_text_and_nothing_else_passes() {
        let entries: Entries =
            [((LogKind::Accepted, 3), 1), ((LogKind::Accepted, 9), 700), ((LogKind::Dead, 4), 1)]
                .into();
        let bytes = encode(&entries);
        assert_eq!(decode(&bytes), Some(entries));
        assert_eq!(decode(&encode(&Entries::new())), Some(Entries::new()));
        for at in 0..bytes.len() {
            assert_eq!(decode(&bytes[..at]), None, "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(decode(&flipped), None, "byte {at}");
        }
    }
}
