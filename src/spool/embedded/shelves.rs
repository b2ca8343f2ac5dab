//! The file `shelves`: notes, appended one by one and synced, written anew when most of it is past.
//!
//! It is a file of its own, behind the same layer as the logs, and not part of the key index: that
//! may be set aside when it is damaged, and a paused destination must not begin to send for it.

use std::sync::Mutex;

use bytes::Bytes;

use super::damage::QUARANTINE;
use super::files::{Disk, LogFile, WriteError};
use super::lock;
use super::pool::Pool;
use crate::spool::AppendError;
use crate::spool::shelf::{Notes, Shelf};

const FILE: &str = "shelves";
const FILE_NEW: &str = "shelves.new";
/// Length 4, checksum 4, length of the key 2, shelf, whether it was taken off.
const HEAD: usize = 12;
/// Where frames begin, so that the next one is found behind a damaged one.
const ALIGN: usize = 8;
const FRAME_MAX: usize =
    (HEAD + Shelf::KEY_BYTES_MAX + Shelf::VALUE_BYTES_MAX).next_multiple_of(ALIGN);
/// A file below this is not worth writing anew.
const COMPACT_BYTES_MIN: u64 = 256 << 10;

/// The notes, and the file behind them.
#[derive(Debug)]
pub(super) struct Shelves {
    disk: Disk,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    notes: Notes,
    file: LogFile,
    /// Where the next frame goes.
    end: u64,
    /// Size at which the file is written anew.
    compact_at: u64,
    closed: bool,
}

/// What was found at an opening.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) shelves: Shelves,
    /// Damaged pieces that were set aside.
    pub(super) damaged: u64,
}

impl Shelves {
    /// Opens or creates the file. What is damaged is set aside, and what passes behind it is kept.
    pub(super) fn open(disk: &Disk) -> Result<Opened, WriteError> {
        if !disk.list("")?.iter().any(|(name, _)| name == FILE) {
            let file = disk.create(FILE, 0)?;
            file.sync()?;
            disk.sync_dir("")?;
            return Ok(Self::opened(disk, file, Read::default(), 0));
        }
        let file = disk.open(FILE)?;
        let size = usize::try_from(file.size()?).unwrap_or(usize::MAX);
        let bytes = file.read(0, size)?;
        let read = read(&bytes);
        if read.damaged > 0 {
            tracing::error!(pieces = read.damaged, "notes are damaged and set aside in quarantine");
            set_aside(disk, &bytes)?;
        }
        let damaged = read.damaged;
        let mut opened = Self::opened(disk, file, read, damaged);
        let inner = opened.shelves.inner.get_mut();
        let inner = inner.unwrap_or_else(std::sync::PoisonError::into_inner);
        if damaged > 0 {
            inner.compact(disk)?;
        } else if inner.end < size as u64 {
            // A torn one, of which nobody was told that it is there.
            inner.file.truncate(inner.end)?;
            inner.file.sync()?;
        }
        Ok(opened)
    }

    fn opened(disk: &Disk, file: LogFile, read: Read, damaged: u64) -> Opened {
        let Read { notes, end, .. } = read;
        let inner =
            Inner { notes, file, end, compact_at: COMPACT_BYTES_MIN.max(2 * end), closed: false };
        let shelves = Self { disk: disk.clone(), inner: Mutex::new(inner) };
        Opened { shelves, damaged }
    }

    /// Puts a note on its shelf, or takes it off; durable when it returns. Waits for the disk.
    pub(super) fn put(
        &self,
        pool: &Pool,
        shelf: Shelf,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), AppendError> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(AppendError::Closed);
        }
        let gone = match &value {
            Some(value) => inner.notes.make_way(shelf, &key, value)?,
            None => Vec::new(),
        };
        let changes: Vec<(Bytes, Option<Bytes>)> =
            gone.into_iter().map(|key| (key, None)).chain([(key, value)]).collect();
        let mut frames = Vec::new();
        for (key, value) in &changes {
            encode(shelf, key, value.as_ref(), &mut frames);
        }
        loop {
            match inner.append(&frames) {
                Ok(()) => break,
                Err(WriteError::Full) if pool.shrink()? => {}
                Err(WriteError::Full) => {
                    let (used_bytes, limit_bytes) = (pool.used(), pool.max_bytes);
                    return Err(AppendError::Full { used_bytes, limit_bytes });
                }
                Err(WriteError::Fault(fault)) => return Err(fault.into()),
            }
        }
        for (key, value) in changes {
            inner.notes.put(shelf, key, value);
        }
        if inner.end >= inner.compact_at {
            match inner.compact(&self.disk) {
                // Without room for a new file the old one grows on.
                Ok(()) | Err(WriteError::Full) => {}
                Err(WriteError::Fault(fault)) => return Err(fault.into()),
            }
        }
        Ok(())
    }

    /// Notes after `after`, in key order.
    pub(super) fn list(
        &self,
        shelf: Shelf,
        after: Option<Bytes>,
        max: usize,
    ) -> Vec<(Bytes, Bytes)> {
        lock(&self.inner).notes.list(shelf, after, max)
    }

    /// Waits for the note under way, and takes none after it.
    pub(super) fn close(&self) {
        lock(&self.inner).closed = true;
    }
}

impl Inner {
    fn append(&mut self, frames: &[u8]) -> Result<(), WriteError> {
        match self.file.write(frames, self.end) {
            Ok(()) => {}
            Err(WriteError::Full) => {
                self.file.truncate(self.end)?;
                return Err(WriteError::Full);
            }
            Err(WriteError::Fault(fault)) => return Err(fault.into()),
        }
        self.file.sync()?;
        self.end += frames.len() as u64;
        Ok(())
    }

    /// Writes what is there to a new file.
    fn compact(&mut self, disk: &Disk) -> Result<(), WriteError> {
        let mut frames = Vec::new();
        for (shelf, key, value) in self.notes.iter() {
            encode(shelf, key, Some(value), &mut frames);
        }
        let size = frames.len() as u64;
        // Tried again only when it has grown further, whether there is room now or not.
        self.compact_at = COMPACT_BYTES_MIN.max(2 * size).max(self.end + COMPACT_BYTES_MIN);
        let file = disk.create(FILE_NEW, 0)?;
        if let Err(error) = file.write(&frames, 0) {
            disk.remove(FILE_NEW)?;
            return Err(error);
        }
        file.sync()?;
        disk.rename(FILE_NEW, FILE)?;
        disk.sync_dir("")?;
        self.file = disk.open(FILE)?;
        (self.end, self.compact_at) = (size, COMPACT_BYTES_MIN.max(2 * size));
        Ok(())
    }
}

/// Keeps the whole file as it was found.
fn set_aside(disk: &Disk, bytes: &[u8]) -> Result<(), WriteError> {
    let name = format!("{QUARANTINE}/{FILE}-{:08x}.bytes", crc32c::crc32c(bytes));
    let copied = disk.create(&name, 0).and_then(|copy| {
        copy.write(bytes, 0)?;
        Ok(copy.sync()?)
    });
    match copied {
        Ok(()) => Ok(disk.sync_dir(QUARANTINE)?),
        Err(WriteError::Full) => {
            tracing::error!("no room to set damaged notes aside");
            Ok(disk.remove(&name)?)
        }
        Err(fault) => Err(fault),
    }
}

fn encode(shelf: Shelf, key: &Bytes, value: Option<&Bytes>, out: &mut Vec<u8>) {
    let start = out.len();
    let len = HEAD + key.len() + value.map_or(0, Bytes::len);
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(key.len() as u16).to_le_bytes());
    out.extend_from_slice(&[shelf.code(), u8::from(value.is_none())]);
    out.extend_from_slice(key);
    out.extend_from_slice(value.map_or(&[], |value| value));
    let crc = checksum(&out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + len.next_multiple_of(ALIGN), 0);
}

/// Over everything but the field that holds it.
fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[8..])
}

/// A frame that passes.
struct Frame<'a> {
    shelf: Shelf,
    key: &'a [u8],
    value: Option<&'a [u8]>,
    /// Bytes to the next one.
    size: usize,
}

fn decode(bytes: &[u8]) -> Option<Frame<'_>> {
    let head: &[u8; HEAD] = bytes.first_chunk()?;
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let frame = bytes.get(..len).filter(|_| (HEAD..=FRAME_MAX).contains(&len))?;
    if checksum(frame).to_le_bytes() != head[4..8] {
        return None;
    }
    let key_len = usize::from(u16::from_le_bytes([head[8], head[9]]));
    let (key, value) = frame[HEAD..].split_at_checked(key_len)?;
    let shelf = Shelf::from_code(head[10])?;
    let value = (head[11] == 0).then_some(value);
    Some(Frame { shelf, key, value, size: len.next_multiple_of(ALIGN) })
}

/// What a file says.
#[derive(Debug, Default)]
struct Read {
    notes: Notes,
    /// Behind the last frame that passes.
    end: u64,
    /// Pieces that do not pass, with frames behind them.
    damaged: u64,
}

fn read(bytes: &[u8]) -> Read {
    let mut read = Read::default();
    let (mut at, mut whole) = (0, true);
    while at < bytes.len() {
        let Some(frame) = decode(&bytes[at..]) else {
            // Nothing behind it passes if it is a torn tail: only one note is ever unsynced.
            whole = false;
            at += ALIGN;
            continue;
        };
        if !whole {
            (whole, read.damaged) = (true, read.damaged + 1);
        }
        let copy = |part: &[u8]| Bytes::copy_from_slice(part);
        read.notes.put(frame.shelf, copy(frame.key), frame.value.map(copy));
        at += frame.size;
        read.end = at as u64;
    }
    read
}

#[cfg(test)]
mod tests;
