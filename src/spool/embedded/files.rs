//! The file layer: every read, write, sync and rename of the logs goes through [`Disk`].
//!
//! What lies below it is a trait, so that a test can make any call fail, or record them all and
//! cut the power after any. No rule of the store lives here.

#[cfg(test)]
pub(super) mod power;
pub(super) mod read_only;
#[cfg(test)]
pub(super) mod rigged;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::crypt::{Keyring, Seal};
use crate::spool::StoreFault;

/// What a store asks of a file system.
pub(super) trait RawFiles: fmt::Debug + Send + Sync {
    fn open(&self, path: &Path) -> io::Result<Box<dyn RawFile>>;
    /// A new file of `size` bytes whose blocks are reserved; what was there is gone.
    fn create(&self, path: &Path, size: u64) -> io::Result<Box<dyn RawFile>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Names and sizes of the files in a directory.
    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>>;
    /// Bytes that the file system can still give to us.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// What a store asks of an open file.
pub(super) trait RawFile: fmt::Debug + Send + Sync {
    /// Fills as much of `bytes` as the file has there.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the content durable, and the size if it changed.
    fn sync(&self) -> io::Result<()>;
    fn truncate(&self, size: u64) -> io::Result<()>;
    fn size(&self) -> io::Result<u64>;
}

/// The operating system's files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Real;

impl RawFiles for Real {
    fn open(&self, path: &Path) -> io::Result<Box<dyn RawFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn create(&self, path: &Path, size: u64) -> io::Result<Box<dyn RawFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(path)?;
        if size > 0
            && let Err(error) = reserve(&file, size)
        {
            // What was reserved so far would be room that nobody counts.
            let _kept = fs::remove_file(path);
            return Err(error);
        }
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        // Bodies carry hashed identity and customer ids: they are nobody else's to read.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                files.push((name, meta.len()));
            }
        }
        Ok(files)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Reserves blocks, with zeros where the file system knows no other way.
fn reserve(file: &File, size: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    match fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let mut offset = 0;
    while offset < size {
        let len = ZEROS.len().min(usize::try_from(size - offset).unwrap_or(usize::MAX));
        file.write_all_at(&ZEROS[..len], offset)?;
        offset += len as u64;
    }
    Ok(())
}

impl RawFile for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match FileExt::read_at(self, &mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Why a write did not happen.
#[derive(Debug)]
pub(super) enum WriteError {
    /// No room; nothing is broken.
    Full,
    Fault(StoreFault),
}

impl From<StoreFault> for WriteError {
    fn from(fault: StoreFault) -> Self {
        Self::Fault(fault)
    }
}

/// The store's directory.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    raw: Arc<dyn RawFiles>,
    root: PathBuf,
    keys: Keyring,
}

impl Disk {
    pub(super) fn new(raw: Arc<dyn RawFiles>, root: PathBuf) -> Self {
        Self { raw, root, keys: Keyring::default() }
    }

    /// The same with keys that records are encrypted with.
    pub(super) fn with_keys(self, keys: Keyring) -> Self {
        Self { keys, ..self }
    }

    pub(super) const fn keys(&self) -> &Keyring {
        &self.keys
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A directory of the store; the empty name is the store's own, without a slash behind it.
    fn dir(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.path(name) }
    }

    pub(super) fn open(&self, name: &str) -> Result<LogFile, StoreFault> {
        self.open_as(name, name)
    }

    /// Opens a file that is about to be renamed to `later`, by which faults will name it.
    pub(super) fn open_as(&self, name: &str, later: &str) -> Result<LogFile, StoreFault> {
        match self.raw.open(&self.path(name)) {
            Ok(raw) => Ok(LogFile { raw, name: later.to_owned(), seal: None }),
            Err(error) => Err(StoreFault::io(format!("opening {name}"), &error)),
        }
    }

    /// Whether there is a file of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub(super) fn create(&self, name: &str, size: u64) -> Result<LogFile, WriteError> {
        match self.raw.create(&self.path(name), size) {
            Ok(raw) => Ok(LogFile { raw, name: name.to_owned(), seal: None }),
            Err(error) => Err(failed("creating", name, &error)),
        }
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), StoreFault> {
        let renamed = self.raw.rename(&self.path(from), &self.path(to));
        renamed.map_err(|error| StoreFault::io(format!("renaming {from} to {to}"), &error))
    }

    /// Removes a file; one that is gone already is as good.
    pub(super) fn remove(&self, name: &str) -> Result<(), StoreFault> {
        match self.raw.remove(&self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreFault::io(format!("removing {name}"), &error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn make_dir(&self, name: &str) -> Result<(), StoreFault> {
        let dir = self.dir(name);
        self.raw.make_dir(&dir).map_err(|error| StoreFault {
            doing: format!("creating directory {}", dir.display()),
            cause: format!(
                "{error}; name a directory that this user may make and write, or make it so"
            ),
        })
    }

    pub(super) fn sync_dir(&self, name: &str) -> Result<(), StoreFault> {
        let dir = self.dir(name);
        let synced = self.raw.sync_dir(&dir);
        synced.map_err(|e| StoreFault::io(format!("syncing directory {}", dir.display()), &e))
    }

    pub(super) fn list(&self, name: &str) -> Result<Vec<(String, u64)>, StoreFault> {
        let dir = self.dir(name);
        let listed = self.raw.list(&dir);
        listed.map_err(|e| StoreFault::io(format!("listing directory {}", dir.display()), &e))
    }

    pub(super) fn free_bytes(&self) -> Result<u64, StoreFault> {
        let free = self.raw.free_bytes(&self.root);
        free.map_err(|error| StoreFault::io("asking for free space", &error))
    }
}

/// An open file of the store.
#[derive(Debug)]
pub(super) struct LogFile {
    raw: Box<dyn RawFile>,
    name: String,
    /// Opens and closes its records, when they are encrypted.
    seal: Option<Seal>,
}

impl LogFile {
    /// The same file, whose records are encrypted so.
    pub(super) fn sealed(self, seal: Option<Seal>) -> Self {
        Self { seal, ..self }
    }

    pub(super) const fn seal(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }

    /// Its path inside the store.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads up to `len` bytes; fewer where the file ends.
    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, StoreFault> {
        let mut bytes = vec![0; len];
        match self.raw.read_at(&mut bytes, offset) {
            Ok(read) => bytes.truncate(read),
            Err(error) => return Err(StoreFault::io(format!("reading {}", self.name), &error)),
        }
        Ok(bytes)
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), WriteError> {
        let written = self.raw.write_at(bytes, offset);
        written.map_err(|error| failed("writing", &self.name, &error))
    }

    pub(super) fn sync(&self) -> Result<(), StoreFault> {
        let synced = self.raw.sync();
        synced.map_err(|error| StoreFault::io(format!("syncing {}", self.name), &error))
    }

    pub(super) fn truncate(&self, size: u64) -> Result<(), StoreFault> {
        let cut = self.raw.truncate(size);
        cut.map_err(|error| StoreFault::io(format!("truncating {}", self.name), &error))
    }

    pub(super) fn size(&self) -> Result<u64, StoreFault> {
        let size = self.raw.size();
        size.map_err(|error| StoreFault::io(format!("looking at {}", self.name), &error))
    }
}

fn failed(doing: &str, name: &str, error: &io::Error) -> WriteError {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return WriteError::Full;
    }
    WriteError::Fault(StoreFault::io(format!("{doing} {name}"), error))
}
