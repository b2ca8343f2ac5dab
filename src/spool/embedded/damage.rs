//! What is damaged is set aside, never thrown away: its bytes go to `quarantine/`, and the
//! sequences that are gone are noted in `lost`, so that their keys are free.

use std::ops::Range;
use std::sync::Arc;

use super::files::{Disk, LogFile, WriteError};
use super::segment::SegmentId;
use super::{LogKind, Shared, lock};
use crate::spool::StoreFault;

pub(super) const QUARANTINE: &str = "quarantine";
const LOST: &str = "lost";
const LOST_NEW: &str = "lost.new";
/// Ranges that are remembered; the oldest go, whose keys are past their windows first.
const LOST_MAX: usize = 10_000;
/// Bytes copied at once.
const PIECE: usize = 256 << 10;

/// A piece of a segment whose records do not pass.
#[derive(Clone, Debug)]
pub(super) struct Damage {
    pub(super) log: LogKind,
    pub(super) segment: SegmentId,
    pub(super) file: Arc<LogFile>,
    pub(super) from: u64,
    pub(super) to: u64,
    /// The sequences that stood there; none when it was a tail that nobody was answered for.
    pub(super) seqs: Range<u64>,
}

impl Damage {
    /// Records that are gone.
    pub(super) fn records(&self) -> u64 {
        self.seqs.end.saturating_sub(self.seqs.start)
    }

    /// A person should look.
    pub(super) fn tell(&self) {
        tracing::error!(
            file = self.file.name(),
            offset = self.from,
            bytes = self.to - self.from,
            first_sequence = self.seqs.start,
            records = self.records(),
            "records are damaged and set aside in quarantine"
        );
    }
}

/// Sets aside what a reader found, unless the segment is not there any more: a file that is being
/// used anew passes for damaged too. Nothing is said again by whoever finds it next, nor of records
/// that were settled before, which costs nobody anything.
pub(super) fn report(shared: &Shared, damage: &Damage) -> Result<(), StoreFault> {
    {
        let mut state = lock(&shared.state);
        let segment = state.track(damage.log).segments.get(&damage.segment);
        let lost = segment.map(|of| of.unsettled(damage.seqs.clone())).unwrap_or_default();
        if lost.is_empty() || !state.take_damage(damage, lost) {
            return Ok(());
        }
    }
    damage.tell();
    shared.pool.found(0, set_aside(&shared.disk, damage)?);
    if damage.log == LogKind::Accepted {
        let mut lost = lock(&shared.state).lost.clone();
        note_lost(&shared.disk, &mut lost)?;
    }
    Ok(())
}

/// Notes what is lost; without room for it, it is said and forgotten at the next start.
pub(super) fn note_lost(disk: &Disk, lost: &mut Vec<Range<u64>>) -> Result<(), StoreFault> {
    match write_lost(disk, lost) {
        Ok(()) => Ok(()),
        Err(WriteError::Full) => {
            tracing::error!("no room to note which sequences are lost");
            Ok(())
        }
        Err(WriteError::Fault(fault)) => Err(fault),
    }
}

/// Copies the bytes of `from..to` to `quarantine/`; answers how many that were.
pub(super) fn set_aside(disk: &Disk, damage: &Damage) -> Result<u64, StoreFault> {
    match copy(disk, damage) {
        Ok(bytes) => Ok(bytes),
        Err(WriteError::Full) => {
            tracing::error!(file = damage.file.name(), "no room to set damaged bytes aside");
            disk.remove(&aside(damage.log, damage.segment.number, damage.from))?;
            Ok(0)
        }
        Err(WriteError::Fault(fault)) => Err(fault),
    }
}

/// The file that damaged bytes are set aside in.
pub(super) fn aside(log: LogKind, number: u64, from: u64) -> String {
    format!("{QUARANTINE}/{}-{number}-{from}.bytes", log.dir())
}

/// Copies the bytes, or says why not.
pub(super) fn copy(disk: &Disk, damage: &Damage) -> Result<u64, WriteError> {
    let copy = disk.create(&aside(damage.log, damage.segment.number, damage.from), 0)?;
    let mut at = damage.from;
    while at < damage.to {
        let len = usize::try_from(damage.to - at).unwrap_or(PIECE).min(PIECE);
        let bytes = damage.file.read(at, len)?;
        if bytes.is_empty() {
            break;
        }
        copy.write(&bytes, at - damage.from)?;
        at += bytes.len() as u64;
    }
    copy.sync()?;
    disk.sync_dir(QUARANTINE)?;
    Ok(at - damage.from)
}

/// Reads the ranges noted as lost.
pub(super) fn read_lost(disk: &Disk) -> Result<Vec<Range<u64>>, StoreFault> {
    let files = disk.list("")?;
    let Some((_, size)) = files.iter().find(|(name, _)| name == LOST) else {
        return Ok(Vec::new());
    };
    let bytes = disk.open(LOST)?.read(0, usize::try_from(*size).unwrap_or(0))?;
    let text = String::from_utf8_lossy(&bytes);
    let range = |line: &str| {
        let (first, next) = line.split_once(' ')?;
        Some(first.parse().ok()?..next.parse().ok()?)
    };
    Ok(text.lines().filter_map(range).collect())
}

/// Notes `lost` durably, in place of what was noted.
fn write_lost(disk: &Disk, lost: &mut Vec<Range<u64>>) -> Result<(), WriteError> {
    lost.drain(..lost.len().saturating_sub(LOST_MAX));
    let lines: Vec<String> =
        lost.iter().map(|range| format!("{} {}\n", range.start, range.end)).collect();
    let file = disk.create(LOST_NEW, 0)?;
    file.write(lines.concat().as_bytes(), 0)?;
    file.sync()?;
    disk.rename(LOST_NEW, LOST)?;
    disk.sync_dir("")?;
    Ok(())
}
