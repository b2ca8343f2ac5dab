//! Room on the disk that is really taken, for the time when there is none: a file `reserve`, given
//! up so that acknowledgements, retries and dead letters go on, and made again when there is room.

use std::sync::atomic::{AtomicBool, Ordering};

use super::files::{Disk, WriteError};
use crate::spool::StoreFault;

pub(super) const FILE: &str = "reserve";

/// The file and whether it is there.
#[derive(Debug)]
pub(super) struct Reserve {
    disk: Disk,
    /// Bytes of the file.
    pub(super) bytes: u64,
    held: AtomicBool,
}

impl Reserve {
    pub(super) const fn new(disk: Disk, bytes: u64) -> Self {
        Self { disk, bytes, held: AtomicBool::new(false) }
    }

    /// Takes over the file that lies there.
    pub(super) fn find(&self) -> Result<(), StoreFault> {
        match self.disk.list("")?.into_iter().find(|(name, _)| name == FILE) {
            Some((_, size)) if size == self.bytes => self.held.store(true, Ordering::Relaxed),
            // Of other bounds, or a crash came while it was made.
            Some(_) => self.disk.remove(FILE)?,
            None => {}
        }
        Ok(())
    }

    /// Bytes that it takes now.
    pub(super) fn held_bytes(&self) -> u64 {
        if self.held.load(Ordering::Relaxed) { self.bytes } else { 0 }
    }

    /// Gives the room back to the disk; says whether there was any.
    pub(super) fn release(&self) -> Result<bool, StoreFault> {
        if !self.held.swap(false, Ordering::Relaxed) {
            return Ok(false);
        }
        self.disk.remove(FILE)?;
        tracing::warn!(
            path = %self.disk.root().display(),
            bytes = self.bytes,
            "the disk is full: the spool's reserve is given up so that deliveries go on; free some \
             room there"
        );
        Ok(true)
    }

    /// Takes room again; none for it is no fault.
    pub(super) fn make(&self) -> Result<(), StoreFault> {
        match self.disk.create(FILE, self.bytes) {
            Ok(_file) => {
                self.held.store(true, Ordering::Relaxed);
                self.disk.sync_dir("")
            }
            Err(WriteError::Full) => Ok(()),
            Err(WriteError::Fault(fault)) => Err(fault),
        }
    }
}
