//! What wrote the directory: the file `FORMAT`, and the way from an older layout to this one.
//!
//! A newer layout is refused, for nobody knows what a program that is not written yet will mean. An
//! older one is brought here step by step; each step may be cut short anywhere and is then done
//! again, because `FORMAT` says the new number only when the step is durable.

use super::files::{Disk, WriteError};
use crate::spool::StoreFault;

const FORMAT: &str = "FORMAT";
const FORMAT_NEW: &str = "FORMAT.new";
/// What stands before the number in `FORMAT`.
const FORMAT_WORDS: &str = "beacon-relay spool format ";
/// The layout of the directory that this program writes.
pub(super) const FORMAT_NUMBER: u32 = 1;

/// Brings a directory from one format to the next, so that doing it again changes nothing.
type Step = fn(&Disk) -> Result<(), WriteError>;

/// The step at index `n` leads from format `n + 1` to `n + 2`. There is one format yet.
const STEPS: &[Step] = &[];

// Each format before this one has its step.
const _: () = assert!(STEPS.len() + 1 == FORMAT_NUMBER as usize);

/// What `FORMAT` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no such file: the directory is new, or no spool.
    None,
    Number(u32),
    /// The file says something else.
    Unreadable,
}

/// Reads `FORMAT`, and changes nothing.
pub(super) fn read(disk: &Disk) -> Result<Found, StoreFault> {
    if !disk.list("")?.iter().any(|(name, _)| name == FORMAT) {
        return Ok(Found::None);
    }
    let bytes = disk.open(FORMAT)?.read(0, 256)?;
    let text = String::from_utf8_lossy(&bytes);
    let number = text.trim_end().strip_prefix(FORMAT_WORDS).and_then(|n| n.parse::<u32>().ok());
    Ok(number.filter(|number| *number > 0).map_or(Found::Unreadable, Found::Number))
}

/// Refuses what `found` says when a program that knows formats up to `known` cannot read it.
fn judge_by(disk: &Disk, found: Found, known: u32) -> Result<(), StoreFault> {
    let refused = |cause| {
        let doing = format!("reading {}", disk.path(FORMAT).display());
        Err(StoreFault { doing, cause })
    };
    match found {
        Found::None => Ok(()),
        Found::Number(number) if number <= known => Ok(()),
        Found::Number(number) => refused(format!(
            "the spool has format {number}, written by a newer program; this one knows up to \
             {known}; run that program, or name another directory"
        )),
        Found::Unreadable => refused(format!(
            "it does not say \"{FORMAT_WORDS}{known}\"; name a directory that is the spool's \
             alone, or put the file back"
        )),
    }
}

/// Makes sure that the directory has the format of this program: writes it into a new one, brings
/// an older one here, refuses a newer one.
pub(super) fn settle(disk: &Disk) -> Result<(), WriteError> {
    settle_with(disk, STEPS)
}

fn settle_with(disk: &Disk, steps: &[Step]) -> Result<(), WriteError> {
    let known = steps.len() as u32 + 1;
    let found = read(disk)?;
    judge_by(disk, found, known)?;
    let Found::Number(number) = found else { return write(disk, known) };
    for (from, step) in (1..).zip(steps).skip(number as usize - 1) {
        tracing::info!(from, to = from + 1, "bringing the spool to a newer format");
        step(disk)?;
        write(disk, from + 1)?;
    }
    Ok(())
}

fn write(disk: &Disk, number: u32) -> Result<(), WriteError> {
    let file = disk.create(FORMAT_NEW, 0)?;
    file.write(format!("{FORMAT_WORDS}{number}\n").as_bytes(), 0)?;
    file.sync()?;
    disk.rename(FORMAT_NEW, FORMAT)?;
    disk.sync_dir("")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::super::files::Real;
    use super::*;

    fn disk() -> (tempfile::TempDir, Disk) {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(Arc::new(Real), dir.path().to_owned());
        (dir, disk)
    }

    /// Adds a line, so that the order and the number of the steps can be seen.
    fn mark(disk: &Disk, line: &str) -> Result<(), WriteError> {
        let path = disk.path("steps");
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, format!("{before}{line}\n")).unwrap();
        Ok(())
    }

    const THREE: &[Step] = &[|disk| mark(disk, "1 to 2"), |disk| mark(disk, "2 to 3")];

    #[test]
    fn an_older_directory_is_brought_here_step_by_step_and_once() {
        let (_dir, disk) = disk();
        settle_with(&disk, &[]).map_err(drop).unwrap();
        assert_eq!(read(&disk).unwrap(), Found::Number(1));
        settle_with(&disk, THREE).map_err(drop).unwrap();
        settle_with(&disk, THREE).map_err(drop).unwrap();
        assert_eq!(read(&disk).unwrap(), Found::Number(3));
        assert_eq!(fs::read_to_string(disk.path("steps")).unwrap(), "1 to 2\n2 to 3\n");
    }

    #[test]
    fn a_step_that_broke_off_is_done_again() {
        let (_dir, disk) = disk();
        settle_with(&disk, &[]).map_err(drop).unwrap();
        let broken: &[Step] = &[|disk| mark(disk, "1 to 2"), |_| Err(WriteError::Full)];
        assert!(matches!(settle_with(&disk, broken), Err(WriteError::Full)));
        assert_eq!(read(&disk).unwrap(), Found::Number(2));
        settle_with(&disk, THREE).map_err(drop).unwrap();
        assert_eq!(fs::read_to_string(disk.path("steps")).unwrap(), "1 to 2\n2 to 3\n");
    }

    #[test]
    fn a_new_directory_needs_no_step() {
        let (_dir, disk) = disk();
        settle_with(&disk, THREE).map_err(drop).unwrap();
        assert_eq!(read(&disk).unwrap(), Found::Number(3));
        assert!(!disk.path("steps").exists());
    }

    #[test]
    fn a_newer_directory_is_refused_with_both_numbers() {
        let (_dir, disk) = disk();
        settle_with(&disk, THREE).map_err(drop).unwrap();
        let WriteError::Fault(fault) = settle_with(&disk, &THREE[..1]).unwrap_err() else {
            panic!("full")
        };
        assert!(fault.cause.contains("format 3") && fault.cause.contains("up to 2"), "{fault}");
        fs::write(disk.path(FORMAT), "beacon-relay spool format 0\n").unwrap();
        assert_eq!(read(&disk).unwrap(), Found::Unreadable);
    }
}
