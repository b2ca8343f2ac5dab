//! The files `handed.0` and `handed.1`: which deliveries are in somebody's hands, so that after a
//! kill it is known which may have been sent already.
//!
//! A delivery is entered before its lease is answered, and struck out when it comes back known not
//! to have arrived. What is settled needs no stroke, for its bit says so once that is written; till
//! then the file before is kept. Nothing is synced: a kill leaves what was written, and a power cut
//! may take it. Then, as without room on the disk, some are sent again uncounted. Never more.

use std::collections::HashSet;
use std::sync::Mutex;

use super::files::{Disk, LogFile};
use super::lock;
use crate::spool::{DeliveryId, Lease};

const FILES: [&str; 2] = ["handed.0", "handed.1"];
const MAGIC: [u8; 8] = *b"BRHANDED";
/// A delivery or the head, with its checksum.
const ENTRY: usize = 16;
/// Entries of one file: those of more than a second at any rate that a relay has. What is beyond
/// is not entered.
const ENTRIES_MAX: u64 = 1 << 20;
/// It came back and did not arrive. Ids stay far below.
const STRUCK: u64 = 1 << 63;

/// What is in hand.
#[derive(Debug)]
pub(super) struct Handed {
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    /// Written in turn. None when they could not be made.
    files: Option<[LogFile; 2]>,
    turn: u64,
    /// Entries of the file of this turn, its head included.
    entries: u64,
    /// Whether some came since the turn began.
    changed: bool,
    /// May have been sent, and is not known to have arrived or not.
    open: HashSet<DeliveryId>,
    /// Was so when the process before was killed.
    interrupted: HashSet<DeliveryId>,
}

impl Handed {
    /// Opens the files; `keep_owed` takes away of what they name what is not to be sent any more.
    pub(super) fn open(disk: &Disk, keep_owed: impl FnOnce(&mut HashSet<DeliveryId>)) -> Self {
        let files = files(disk);
        let (turn, mut found) = files.as_ref().map(read).unwrap_or_default();
        if !found.is_empty() {
            keep_owed(&mut found);
        }
        if !found.is_empty() {
            tracing::warn!(
                deliveries = found.len(),
                "these were under way when the relay was killed: they are sent again, and may \
                 arrive twice"
            );
        }
        let open = found.clone();
        let mut book = Book { files, turn, entries: 0, changed: false, open, interrupted: found };
        book.turn_over();
        Self { book: Mutex::new(book) }
    }

    /// Enters what is about to be handed out, and says which of it was interrupted.
    pub(super) fn enter(&self, leases: &mut [Lease]) {
        let mut book = lock(&self.book);
        for lease in &mut *leases {
            lease.interrupted = book.interrupted.contains(&lease.id);
            book.open.insert(lease.id);
        }
        book.write(None, leases.iter().map(|lease| lease.id.0));
    }

    /// It comes back, and has not arrived.
    pub(super) fn strike(&self, id: DeliveryId) {
        let mut book = lock(&self.book);
        if book.open.remove(&id) {
            book.write(None, [id.0 | STRUCK].into_iter());
        }
    }

    /// It is settled, in memory at least.
    pub(super) fn settled(&self, id: DeliveryId) {
        let mut book = lock(&self.book);
        book.open.remove(&id);
        book.interrupted.remove(&id);
    }

    /// Begins the other file with what is in hand. The one before is kept until the next turn, by
    /// which everything that was settled in it must be written.
    pub(super) fn turn_over(&self) {
        let mut book = lock(&self.book);
        if book.changed {
            book.turn_over();
        }
    }

    /// Nothing is in hand any more, and what was settled is written. What was interrupted before
    /// and was not sent again since is kept.
    pub(super) fn close(&self) {
        let mut book = lock(&self.book);
        book.open = book.interrupted.clone();
        for _ in FILES {
            book.turn_over();
        }
    }
}

impl Book {
    fn turn_over(&mut self) {
        (self.turn, self.entries) = (self.turn + 1, 0);
        let open: Vec<u64> = self.open.iter().map(|id| id.0).collect();
        self.write(Some(u64::from_le_bytes(MAGIC) ^ self.turn), open.into_iter());
        self.changed = false;
    }

    fn write(&mut self, head: Option<u64>, entries: impl Iterator<Item = u64>) {
        let Some(files) = &self.files else { return };
        let mut bytes = Vec::new();
        if let Some(head) = head {
            encode(head, 0, &mut bytes);
        } else if self.entries == 0 {
            // The head found no room: what stands behind it would not be believed.
            return;
        }
        let seed = seed(self.turn);
        let room = ENTRIES_MAX.saturating_sub(self.entries + 1);
        for entry in entries.take(usize::try_from(room).unwrap_or(usize::MAX)) {
            encode(entry, seed, &mut bytes);
        }
        let at = self.entries * ENTRY as u64;
        let file = &files[(self.turn % 2) as usize];
        // A help that finds no room, or a failing disk, is left.
        if file.write(&bytes, at).is_ok() {
            self.entries += (bytes.len() / ENTRY) as u64;
        }
        self.changed = true;
    }
}

/// Another one for each turn, so that what a file holds from two turns ago does not pass.
fn seed(turn: u64) -> u32 {
    crc32c::crc32c(&turn.to_le_bytes())
}

fn encode(entry: u64, seed: u32, out: &mut Vec<u8>) {
    let bytes = entry.to_le_bytes();
    out.extend_from_slice(&bytes);
    out.extend_from_slice(&u64::from(crc32c::crc32c_append(seed, &bytes)).to_le_bytes());
}

fn decode(bytes: &[u8], seed: u32) -> Option<u64> {
    let (entry, sum) = bytes.split_first_chunk::<8>()?;
    let crc = u64::from(crc32c::crc32c_append(seed, entry));
    (sum == crc.to_le_bytes()).then_some(u64::from_le_bytes(*entry))
}

/// Opens both, or makes them.
fn files(disk: &Disk) -> Option<[LogFile; 2]> {
    let open = |name| if disk.has(name) { disk.open(name).ok() } else { disk.create(name, 0).ok() };
    Some([open(FILES[0])?, open(FILES[1])?])
}

/// The newest turn, and what is in hand after it and the one before.
fn read(files: &[LogFile; 2]) -> (u64, HashSet<DeliveryId>) {
    let mut turns: Vec<(u64, Vec<u64>)> = files.iter().filter_map(entries).collect();
    turns.sort_by_key(|(turn, _)| *turn);
    let newest = turns.last().map_or(0, |(turn, _)| *turn);
    let mut open = HashSet::new();
    for entry in turns.into_iter().flat_map(|(_, entries)| entries) {
        let id = DeliveryId(entry & !STRUCK);
        if entry & STRUCK == 0 {
            open.insert(id);
        } else {
            open.remove(&id);
        }
    }
    (newest, open)
}

/// The turn of a file and its entries; nothing of one that was never written.
fn entries(file: &LogFile) -> Option<(u64, Vec<u64>)> {
    let size = usize::try_from(file.size().ok()?).ok()?.min(ENTRIES_MAX as usize * ENTRY);
    let bytes = file.read(0, size).ok()?;
    let mut entries = bytes.chunks_exact(ENTRY);
    let turn = decode(entries.next()?, 0)? ^ u64::from_le_bytes(MAGIC);
    let seed = seed(turn);
    Some((turn, entries.map_while(|entry| decode(entry, seed)).collect()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::files::Real;
    use super::*;

    fn disk(dir: &std::path::Path) -> Disk {
        Disk::new(Arc::new(Real), dir.to_owned())
    }

    fn interrupted(disk: &Disk) -> Vec<u64> {
        let handed = Handed::open(disk, |_| {});
        let book = lock(&handed.book);
        let mut ids: Vec<u64> = book.interrupted.iter().map(|id| id.0).collect();
        ids.sort_unstable();
        ids
    }

    fn enter(handed: &Handed, ids: std::ops::Range<u64>) {
        let mut book = lock(&handed.book);
        book.open.extend(ids.clone().map(DeliveryId));
        book.write(None, ids);
    }

    #[test]
    fn what_is_in_hand_is_found_after_any_number_of_turns() {
        for turns in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let handed = Handed::open(&disk(dir.path()), |_| {});
            enter(&handed, 1..5);
            handed.strike(DeliveryId(2));
            handed.settled(DeliveryId(3));
            for turn in 0..turns {
                // A turn without a change would be none.
                enter(&handed, 10 + turn..11 + turn);
                handed.turn_over();
            }
            handed.strike(DeliveryId(4));
            drop(handed);
            let mut found = interrupted(&disk(dir.path()));
            found.retain(|id| *id < 10);
            // What was settled is told until its bit had two turns to be written.
            let expected: &[u64] = if turns < 2 { &[1, 3] } else { &[1] };
            assert_eq!(found, expected, "after {turns} turns");
            // Nobody touched it since: it is still so after another kill.
            let mut again = interrupted(&disk(dir.path()));
            again.retain(|id| *id < 10);
            assert_eq!(again, expected);
        }
    }

    #[test]
    fn what_is_cut_or_spoiled_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let handed = Handed::open(&disk(dir.path()), |_| {});
        enter(&handed, 1..9);
        let name = FILES[(lock(&handed.book).turn % 2) as usize];
        drop(handed);
        let path = dir.path().join(name);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut spoiled = whole.clone();
            spoiled[at] ^= 1;
            for bytes in [&whole[..at], &spoiled] {
                let elsewhere = tempfile::tempdir().unwrap();
                std::fs::write(elsewhere.path().join(name), bytes).unwrap();
                let read = interrupted(&disk(elsewhere.path()));
                let passed = (at / ENTRY).saturating_sub(1) as u64;
                assert_eq!(read, (1..=passed).collect::<Vec<_>>(), "byte {at}");
            }
        }
    }
}
