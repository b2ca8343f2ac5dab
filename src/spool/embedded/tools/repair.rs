//! Mends a directory as a start would, and more thoroughly: whatever is damaged is set aside first,
//! nothing is thrown away.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::damage::{self, Damage, QUARANTINE};
use super::super::files::{Disk, LogFile, Real, WriteError};
use super::super::segment::{DATA_START, Head};
use super::super::{Embedded, LogKind, Settings, noted, open};
use super::{Finding, Look, LookError, Progress, Survey, Wrong};
use crate::clock::Clock;
use crate::spool::{Spool, StoreFault};

/// What a repair did.
#[derive(Debug)]
pub struct Repair {
    /// What was found before.
    pub before: Survey,
    /// What is left.
    pub after: Survey,
}

/// Settings that bound nothing and make files as large as those that are there.
///
/// # Errors
/// [`LookError`], as for a look.
pub fn settings_for(path: &Path) -> Result<Settings, LookError> {
    let look = Look::at(path)?;
    let mut largest = 0;
    for log in LogKind::ALL {
        let sizes = look.list(log.dir())?.into_iter().map(|(_, size)| size);
        largest = sizes.fold(largest, u64::max);
    }
    let mut settings = Settings {
        max_bytes: 1 << 60,
        dead_max_bytes: 1 << 58,
        dead_max_age: Duration::from_secs(u64::from(u32::MAX)),
        ..Settings::at(path)
    };
    if largest > 0 {
        settings.segment_bytes = largest;
    }
    Ok(settings)
}

/// Sets aside what is damaged in the directory of `settings`, cuts torn tails, writes damaged
/// headers and acknowledgements anew; with `rekey` the dedupe keys are rebuilt from the logs too.
///
/// # Errors
/// [`LookError`], as for a look; or when something cannot be written.
pub async fn repair(
    settings: Settings,
    clock: Clock,
    rekey: bool,
    progress: Progress<'_>,
) -> Result<Repair, LookError> {
    let before = {
        let look = Look::at(&settings.path)?;
        let before = look.survey(progress)?;
        let disk = Disk::new(Arc::new(Real), settings.path.clone());
        disk.make_dir(QUARANTINE)?;
        for finding in &before.findings {
            mend(&disk, finding).map_err(no_room)?;
        }
        let damaged = |of: &Finding| matches!(of.wrong, Wrong::Keys(_));
        if rekey || before.findings.iter().any(damaged) {
            set_keys_aside(&disk, &clock)?;
        }
        before
    };
    let spool = Embedded::open_whole(settings.clone(), clock)?;
    spool.close().await?;
    drop(spool);
    let after = Look::at(&settings.path)?.survey(progress)?;
    Ok(Repair { before, after })
}

/// Sets aside what an opening of the store would not, and mends it where the opening could not.
fn mend(disk: &Disk, finding: &Finding) -> Result<(), WriteError> {
    let Some((log, number)) = segment_of(&finding.file) else {
        return if finding.file == noted::FILE && disk.path(noted::FILE).is_file() {
            keep(disk, noted::FILE)
        } else {
            Ok(())
        };
    };
    match &finding.wrong {
        Wrong::Records { .. } => {
            let file = disk.open(&finding.file)?;
            set_aside(disk, log, number, file, finding.offset, finding.bytes, finding)
        }
        Wrong::TornTail => {
            let file = disk.open(&finding.file)?;
            let size = file.size()?;
            let (from, to) = (finding.offset, size);
            set_aside(disk, log, number, file, from, to - from, finding)?;
            let file = disk.open(&finding.file)?;
            file.truncate(from)?;
            Ok(file.sync()?)
        }
        Wrong::HeaderCopy => {
            let file = disk.open(&finding.file)?;
            let head = Head::read(&file)?;
            set_aside(disk, log, number, file, finding.offset, DATA_START / 2, finding)?;
            let file = disk.open(&finding.file)?;
            let Some(head) = head else { return Ok(()) };
            head.write(&file)?;
            Ok(file.sync()?)
        }
        Wrong::Acknowledgements if disk.path(&finding.file).is_file() => keep(disk, &finding.file),
        // The opening sets these aside itself.
        Wrong::Acknowledgements | Wrong::Header | Wrong::Vanished => Ok(()),
        Wrong::SetAside
        | Wrong::Note
        | Wrong::Format
        | Wrong::Keys(_)
        | Wrong::KeysUnseen(_)
        | Wrong::Stray => Ok(()),
    }
}

fn set_aside(
    disk: &Disk,
    log: LogKind,
    number: u64,
    file: LogFile,
    from: u64,
    bytes: u64,
    finding: &Finding,
) -> Result<(), WriteError> {
    let segment = super::super::segment::SegmentId { first: 0, number };
    let seqs = finding.sequences.clone();
    let damage = Damage { log, segment, file: Arc::new(file), from, to: from + bytes, seqs };
    match damage::copy(disk, &damage) {
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Keeps a copy of a file that is about to be written over.
fn keep(disk: &Disk, file: &str) -> Result<(), WriteError> {
    let original = disk.open(file)?;
    let size = usize::try_from(original.size()?).unwrap_or(usize::MAX);
    let copy = disk.create(&format!("{QUARANTINE}/{}", file.replace('/', "-")), 0)?;
    copy.write(&original.read(0, size)?, 0)?;
    copy.sync()?;
    Ok(disk.sync_dir(QUARANTINE)?)
}

/// Moves the keys to the quarantine; the opening then feeds new ones from the logs.
fn set_keys_aside(disk: &Disk, clock: &Clock) -> Result<(), StoreFault> {
    let keys = disk.path(open::KEYS);
    if !keys.exists() {
        return Ok(());
    }
    let quarantine = disk.path(QUARANTINE);
    let name = |copy| quarantine.join(format!("keys-{}-{copy}", clock.now().as_millis()));
    let aside = (0..1000).map(name).find(|aside| !Path::exists(aside));
    let moved = aside.map_or_else(
        || Err(std::io::ErrorKind::AlreadyExists.into()),
        |aside| fs::rename(&keys, aside),
    );
    moved.map_err(|error| StoreFault::io(format!("setting {} aside", keys.display()), &error))?;
    disk.sync_dir(QUARANTINE)?;
    disk.sync_dir("")
}

fn segment_of(file: &str) -> Option<(LogKind, u64)> {
    let (dir, name) = file.split_once('/')?;
    let log = LogKind::ALL.into_iter().find(|log| log.dir() == dir)?;
    Some((log, name.rsplit_once('.')?.0.parse().ok()?))
}

fn no_room(error: WriteError) -> StoreFault {
    match error {
        WriteError::Fault(fault) => fault,
        WriteError::Full => StoreFault {
            doing: "setting damaged bytes aside".to_owned(),
            cause: "no space left on device".to_owned(),
        },
    }
}
