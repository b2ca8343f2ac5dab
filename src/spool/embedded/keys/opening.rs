//! Opening the store, and what is done when it cannot be read.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::tables::Tables;
use crate::clock::Timestamp;
use crate::spool::StoreFault;

/// Name of the note of how far the keys have come.
pub(super) const COVERED: &str = "covered";

/// Name of the note of the time by which epochs were last dropped.
pub(super) const NOTED: &str = "noted";

/// Starts that may end amid the opening of the store before it is set aside. Wrong bytes can make
/// the store's recovery end the process, which nothing catches; but so can whoever kills us there,
/// and twice in a row is not chance.
const UNFINISHED_MAX: u32 = 2;

/// A store that can be read.
pub(super) struct Opened {
    pub(super) tables: Tables,
    pub(super) covered: u64,
    pub(super) noted: Option<Timestamp>,
    pub(super) dir: PathBuf,
    pub(super) marker: PathBuf,
    /// What was there before was set aside.
    pub(super) begun_anew: bool,
}

/// Opens the store in `dir`; one that is damaged goes below `quarantine` first.
pub(super) fn open(dir: &Path, quarantine: &Path, now: Timestamp) -> Result<Opened, StoreFault> {
    let doing = || format!("opening {}", dir.display());
    let marker = dir.with_extension("damaged");
    let io_fault = |error| StoreFault::io(doing(), &error);
    let unfinished = Unfinished::read(dir).map_err(io_fault)?;
    let cause = match fs::read_to_string(&marker) {
        Ok(cause) => cause,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if unfinished.count >= UNFINISHED_MAX {
                format!("{} starts ended while it was opened", unfinished.count)
            } else {
                unfinished.begin().map_err(io_fault)?;
                match attempt(dir, &marker) {
                    Ok(opened) => {
                        unfinished.finish().map_err(io_fault)?;
                        return Ok(opened);
                    }
                    Err(Refusal::Damaged(cause)) => cause,
                    Err(Refusal::Fault(cause)) => {
                        unfinished.finish().map_err(io_fault)?;
                        return Err(StoreFault { doing: doing(), cause });
                    }
                }
            }
        }
        Err(error) => return Err(io_fault(error)),
    };
    set_aside(dir, quarantine, now, &marker, &cause)
        .map_err(|error| StoreFault::io(format!("setting {} aside", dir.display()), &error))?;
    unfinished.finish().map_err(io_fault)?;
    let opened = attempt(dir, &marker).map_err(|refusal| match refusal {
        Refusal::Damaged(cause) | Refusal::Fault(cause) => StoreFault { doing: doing(), cause },
    })?;
    Ok(Opened { begun_anew: true, ..opened })
}

/// A note beside the store of how many starts in a row ended while it was opened.
struct Unfinished {
    path: PathBuf,
    count: u32,
}

impl Unfinished {
    fn read(dir: &Path) -> io::Result<Self> {
        let path = dir.with_extension("opening");
        let count = match fs::read_to_string(&path) {
            // One that is empty or torn was begun, too.
            Ok(count) => count.trim().parse().unwrap_or(1),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Self { path, count })
    }

    /// Not synced: it is there to outlive this process, not the machine.
    fn begin(&self) -> io::Result<()> {
        match fs::write(&self.path, (self.count + 1).to_string()) {
            // Whoever has no room for two bytes opens what is there all the same.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            begun => begun,
        }
    }

    fn finish(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

pub(super) enum Refusal {
    /// The bytes are wrong: another try would meet them again.
    Damaged(String),
    /// Another try may do better.
    Fault(String),
}

pub(super) fn attempt(dir: &Path, marker: &Path) -> Result<Opened, Refusal> {
    let read = || {
        let tables = Tables::open(dir)?;
        let covered = tables.note(COVERED)?;
        let noted = tables.note(NOTED)?;
        let noted = (noted > 0).then(|| Timestamp::from_millis(noted));
        let (dir, marker) = (dir.to_owned(), marker.to_owned());
        Ok(Opened { tables, covered, noted, dir, marker, begun_anew: false })
    };
    // The store's own recovery expects some rows to be there, and panics where they are not.
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) if is_damage(&error) || is_headless(dir, &error) => {
            Err(Refusal::Damaged(error.to_string()))
        }
        Ok(Err(error)) => Err(Refusal::Fault(error.to_string())),
        Err(_panic) => Err(Refusal::Damaged("the store's recovery panicked".to_owned())),
    }
}

/// Whether the bytes are wrong, not the machine.
pub(super) fn is_damage(error: &fjall::Error) -> bool {
    match error {
        fjall::Error::Io(error) => is_damaged_input(error),
        fjall::Error::Storage(error) => match error {
            fjall::LsmError::Io(error) => is_damaged_input(error),
            fjall::LsmError::Decompress(_)
            | fjall::LsmError::InvalidVersion(_)
            | fjall::LsmError::Unrecoverable
            | fjall::LsmError::ChecksumMismatch { .. }
            | fjall::LsmError::InvalidTag(_)
            | fjall::LsmError::InvalidTrailer
            | fjall::LsmError::InvalidHeader(_)
            | fjall::LsmError::Utf8(_) => true,
            _ => false,
        },
        fjall::Error::JournalRecovery(_)
        | fjall::Error::Decompress(_)
        | fjall::Error::InvalidTrailer
        | fjall::Error::InvalidTag(_)
        | fjall::Error::Unrecoverable => true,
        // A version that is known is another program's store; nothing is wrong with it.
        fjall::Error::InvalidVersion(version) => version.is_none(),
        fjall::Error::Poisoned | fjall::Error::KeyspaceDeleted | fjall::Error::Locked => false,
        _ => false,
    }
}

/// Whether the store may be opened again and written when the machine has recovered.
pub(super) fn is_passing(error: &fjall::Error) -> bool {
    if let fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) = error {
        return !is_damaged_input(error);
    }
    // What poisoned a store, at an earlier call or in a thread of its own, it does not tell.
    matches!(error, fjall::Error::Poisoned)
}

/// Whether the store lacks the file by which it is known: it is then taken for a new one, and the
/// files of the old one are in its way.
fn is_headless(dir: &Path, error: &fjall::Error) -> bool {
    let fjall::Error::Io(error) = error else { return false };
    error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() && !dir.join("version").exists()
}

/// Files that end early, hold what cannot be decoded or points outside of them, or are not there.
fn is_damaged_input(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, NotFound, UnexpectedEof};
    [UnexpectedEof, InvalidData, InvalidInput, NotFound].contains(&error.kind())
}

/// Leaves word for the next open.
pub(super) fn mark_damaged(marker: &Path, cause: &str) {
    tracing::error!(error = cause, "dedupe keys are damaged; the next start sets them aside");
    let written = fs::write(marker, cause).and_then(|()| sync_parent(marker));
    if let Err(error) = written {
        tracing::error!(%error, "and that could not be noted");
    }
}

/// Moves the store below `quarantine`.
fn set_aside(
    dir: &Path,
    quarantine: &Path,
    now: Timestamp,
    marker: &Path,
    cause: &str,
) -> io::Result<()> {
    fs::create_dir_all(quarantine)?;
    let aside = (0..1000)
        .map(|copy| quarantine.join(format!("keys-{}-{copy}", now.as_millis())))
        .find(|aside| !aside.exists())
        .ok_or(io::ErrorKind::AlreadyExists)?;
    match fs::rename(dir, &aside) {
        Ok(()) => tracing::error!(
            cause,
            quarantine = %aside.display(),
            "dedupe keys are damaged and were set aside: repeats of what the log has no longer are \
             not noticed"
        ),
        // Set aside already, by a start that was cut short.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    sync_parent(&aside)?;
    sync_parent(dir)?;
    match fs::remove_file(marker) {
        Ok(()) => sync_parent(marker),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        Some(_) | None => Ok(()),
    }
}
