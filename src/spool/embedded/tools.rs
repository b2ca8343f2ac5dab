//! Looks into a data directory that no process holds: what it has, what of it is damaged.
//!
//! All but [`repair()`] read alone. They hold the directory meanwhile, so that no relay starts on
//! what is being looked at; several of them may look at once.

mod findings;
mod kept;
mod keys;
mod repair;
mod salvage;
mod survey;
#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::findings::{Finding, Wrong};
pub use self::kept::{Kept, Stage};
pub use self::repair::{Repair, repair, settings_for};
pub use self::survey::{DestinationSum, Files, LogSum, Survey};
use super::files::read_only::ReadOnly;
use super::files::{Disk, LogFile};
use super::format::{self, FORMAT_NUMBER, Found};
use super::{Keyring, LogKind, open};
use crate::spool::StoreFault;

/// Why a directory cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// There is no such directory.
    #[error("{} is not there; --data-dir names the directory of a relay", .0.display())]
    Missing(PathBuf),
    /// The directory is something else's.
    #[error("{} holds no spool; --data-dir names the directory of a relay", .0.display())]
    NoSpool(PathBuf),
    /// A relay runs on it, or another look is repairing it.
    #[error("{} is in use: {holder} has it open; stop that one first", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who holds it, as far as it is known.
        holder: String,
    },
    /// A newer program wrote it.
    #[error(
        "{} has format {found}, written by a newer program; this one knows up to {known}; use \
         that program", path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The format of the directory.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// It cannot be read.
    #[error(transparent)]
    Fault(#[from] StoreFault),
}

/// Told how many bytes were read, of how many.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// A directory that is held for looking.
#[derive(Debug)]
pub struct Look {
    disk: Disk,
    format: Option<u32>,
    _lock: Option<File>,
}

impl Look {
    /// Holds the directory for as long as this value lives. Writes nothing.
    ///
    /// # Errors
    /// [`LookError`], with the remedy.
    pub fn at(path: &Path) -> Result<Self, LookError> {
        let look = Self::at_any(path)?;
        match format::read(&look.disk)? {
            Found::Number(number) if number <= FORMAT_NUMBER => {
                Ok(Self { format: Some(number), ..look })
            }
            Found::Number(found) => {
                let path = path.to_owned();
                Err(LookError::Newer { path, found, known: FORMAT_NUMBER })
            }
            // It is named among the findings.
            Found::Unreadable => Ok(look),
            Found::None if path.join(LogKind::Accepted.dir()).is_dir() => Ok(look),
            Found::None => Err(LookError::NoSpool(path.to_owned())),
        }
    }

    /// The same whatever `FORMAT` says, for what can be read of it.
    ///
    /// # Errors
    /// [`LookError`], with the remedy.
    pub fn at_any(path: &Path) -> Result<Self, LookError> {
        if !path.is_dir() {
            return Err(LookError::Missing(path.to_owned()));
        }
        let lock = hold(path)?;
        let disk = Disk::new(Arc::new(ReadOnly), path.to_owned());
        Ok(Self { disk, format: None, _lock: lock })
    }

    /// The same with keys, without which what is encrypted is counted and checked, but not shown.
    #[must_use]
    pub fn with_keys(self, keys: Keyring) -> Self {
        Self { disk: self.disk.with_keys(keys), ..self }
    }

    /// Opens the files of one log that have a suffix, in the order of their numbers.
    fn numbered(&self, log: LogKind, suffix: &str) -> Result<Vec<(u64, u64)>, StoreFault> {
        let mut numbered = Vec::new();
        for (name, size) in self.list(log.dir())? {
            let number = name.strip_suffix(suffix).and_then(|n| n.parse::<u64>().ok());
            numbered.extend(number.map(|number| (number, size)));
        }
        numbered.sort_unstable();
        Ok(numbered)
    }

    /// What a directory of the store holds; nothing when it is not there.
    fn list(&self, dir: &str) -> Result<Vec<(String, u64)>, StoreFault> {
        if dir.is_empty() || self.disk.path(dir).is_dir() {
            let mut files = self.disk.list(dir)?;
            files.sort_unstable();
            return Ok(files);
        }
        Ok(Vec::new())
    }

    fn whole(&self, name: &str) -> Result<Vec<u8>, StoreFault> {
        let file = self.disk.open(name)?;
        read_whole(&file)
    }
}

fn read_whole(file: &LogFile) -> Result<Vec<u8>, StoreFault> {
    file.read(0, usize::try_from(file.size()?).unwrap_or(usize::MAX))
}

/// Holds the lock beside other readers. A copy of a directory may come without the file: nobody can
/// hold it then, and making it would write.
fn hold(path: &Path) -> Result<Option<File>, LookError> {
    let name = path.join(open::LOCK);
    let doing = || format!("locking {}", name.display());
    let file = match File::open(&name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreFault::io(doing(), &error).into()),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            Err(LookError::InUse { path: path.to_owned(), holder: open::holder(&file) })
        }
        Err(TryLockError::Error(error)) => Err(StoreFault::io(doing(), &error).into()),
    }
}
