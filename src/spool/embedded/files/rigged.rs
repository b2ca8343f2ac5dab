//! Files that record what is asked of them, and fail where a test says so.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{RawFile, RawFiles, Real};

/// One call that reached the file system, or was to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Call {
    Create,
    Write,
    Sync,
    Rename,
    Remove,
    Truncate,
}

/// Calls on a path containing `path`, after `skip` of them, fail `times` times.
#[derive(Clone, Debug)]
pub(in super::super) struct Failure {
    pub(in super::super) call: Call,
    pub(in super::super) path: &'static str,
    pub(in super::super) skip: u32,
    pub(in super::super) times: u32,
    pub(in super::super) error: rustix::io::Errno,
}

#[derive(Debug, Default)]
struct Plan {
    failures: Vec<Failure>,
    calls: Vec<(Call, PathBuf)>,
    free: Option<u64>,
}

/// Real files behind a plan.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Rigged(Arc<Mutex<Plan>>);

impl Rigged {
    pub(in super::super) fn fail(&self, failure: Failure) {
        self.0.lock().unwrap().failures.push(failure);
    }

    /// Lets everything succeed again.
    pub(in super::super) fn mend(&self) {
        self.0.lock().unwrap().failures.clear();
    }

    /// What the file system says is free from now on.
    pub(in super::super) fn set_free(&self, bytes: Option<u64>) {
        self.0.lock().unwrap().free = bytes;
    }

    /// What was called so far, in order.
    pub(in super::super) fn calls(&self) -> Vec<(Call, PathBuf)> {
        self.0.lock().unwrap().calls.clone()
    }

    fn meet(&self, call: Call, path: &Path) -> io::Result<()> {
        let mut plan = self.0.lock().unwrap();
        plan.calls.push((call, path.to_owned()));
        let name = path.to_string_lossy().into_owned();
        for failure in &mut plan.failures {
            if failure.call != call || !name.contains(failure.path) || failure.times == 0 {
                continue;
            }
            if failure.skip > 0 {
                failure.skip -= 1;
                continue;
            }
            failure.times -= 1;
            return Err(failure.error.into());
        }
        Ok(())
    }
}

impl RawFiles for Rigged {
    fn open(&self, path: &Path) -> io::Result<Box<dyn RawFile>> {
        let file = Real.open(path)?;
        Ok(Box::new(RiggedFile { file, path: path.to_owned(), rig: self.clone() }))
    }

    fn create(&self, path: &Path, size: u64) -> io::Result<Box<dyn RawFile>> {
        self.meet(Call::Create, path)?;
        let file = Real.create(path, size)?;
        Ok(Box::new(RiggedFile { file, path: path.to_owned(), rig: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.meet(Call::Rename, to)?;
        Real.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.meet(Call::Remove, path)?;
        Real.remove(path)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        Real.make_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.meet(Call::Sync, path)?;
        Real.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>> {
        Real.list(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let told = self.0.lock().unwrap().free;
        told.map_or_else(|| Real.free_bytes(path), Ok)
    }
}

#[derive(Debug)]
struct RiggedFile {
    file: Box<dyn RawFile>,
    /// The path it was opened by; a rename since is in the record of calls.
    path: PathBuf,
    rig: Rigged,
}

impl RawFile for RiggedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.rig.meet(Call::Write, &self.path) {
            // A write that fails may have written its first half.
            self.file.write_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.rig.meet(Call::Sync, &self.path)?;
        self.file.sync()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.rig.meet(Call::Truncate, &self.path)?;
        self.file.truncate(size)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}
