//! Files that are read alone: whoever looks into a directory changes no byte of it.

use std::fs::File;
use std::io;
use std::path::Path;

use super::{RawFile, RawFiles, Real};

/// The operating system's files, opened for reading; whatever would change one is refused.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct ReadOnly;

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl RawFiles for ReadOnly {
    fn open(&self, path: &Path) -> io::Result<Box<dyn RawFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn create(&self, _path: &Path, _size: u64) -> io::Result<Box<dyn RawFile>> {
        refused()
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        refused()
    }

    fn make_dir(&self, _path: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>> {
        Real.list(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        Real.free_bytes(path)
    }
}
