//! The dedupe keys, looked at in a copy: their store writes whenever it is opened.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rustix::fs::statvfs;

use super::super::keys::count_rows;
use super::{Files, Wrong};

/// Counts what `dir` holds, and reads every key of a copy of it.
pub(super) fn look(dir: &Path) -> (Files, Result<Option<u64>, Wrong>) {
    let mut files = Files::default();
    match measure(dir, &mut files) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (files, Ok(None)),
        Err(error) => return (files, Err(Wrong::Keys(error.to_string()))),
    }
    (files, read_copy(dir, files.bytes).map(Some))
}

fn measure(dir: &Path, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            measure(&entry.path(), files)?;
        } else {
            files.add(meta.len());
        }
    }
    Ok(())
}

fn read_copy(dir: &Path, bytes: u64) -> Result<u64, Wrong> {
    let unseen = |error: io::Error| Wrong::KeysUnseen(error.to_string());
    let place = std::env::temp_dir();
    let free = statvfs(&place).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    // Their store makes a journal besides.
    if free.unwrap_or(u64::MAX) < bytes.saturating_add(256 << 20) {
        let place = place.display();
        return Err(Wrong::KeysUnseen(format!("{place} has no room for a copy of {bytes} bytes")));
    }
    let copy = Copy::of(dir, &place).map_err(unseen)?;
    // The store's own recovery expects some rows to be there, and panics where they are not.
    match catch_unwind(AssertUnwindSafe(|| count_rows(&copy.0))) {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(cause)) => Err(Wrong::Keys(cause)),
        Err(_panic) => Err(Wrong::Keys("their store's recovery panicked".to_owned())),
    }
}

/// A copy that goes when it is dropped.
struct Copy(std::path::PathBuf);

impl Copy {
    fn of(dir: &Path, place: &Path) -> io::Result<Self> {
        let name = format!("beacon-relay-keys-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let copy = Self(place.join(name));
        copy_all(dir, &copy.0)?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed lies among the system's other leftovers.
        let _left = fs::remove_dir_all(&self.0);
    }
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    // As private as the keys themselves.
    fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
