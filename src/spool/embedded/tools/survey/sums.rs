//! What a directory holds, in figures.

use super::super::super::LogKind;
use super::super::super::walk::{self, Readable};
use super::super::Finding;
use super::Read;
use crate::clock::Timestamp;
use crate::event::DestinationName;
use crate::spool::StoreFault;

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Survey {
    /// The format of the directory, if it says so.
    pub format: Option<u32>,
    /// The three logs.
    pub logs: Vec<LogSum>,
    /// One entry for each destination that is owed something or has dead letters, by name.
    pub destinations: Vec<DestinationSum>,
    /// Files kept for the next segments.
    pub spares: Files,
    /// Dedupe keys.
    pub keys: Files,
    /// Keys that were read; nothing when they were not checked.
    pub key_rows: Option<u64>,
    /// What was set aside as damaged.
    pub quarantine: Files,
    /// What is wrong, in the order of the logs and their files.
    pub findings: Vec<Finding>,
}

impl Survey {
    /// Pieces that are damaged.
    pub fn damages(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.wrong.is_damage())
    }

    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damages().next().is_none()
    }
}

/// Some files and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// How many.
    pub files: u64,
    /// Their sizes together.
    pub bytes: u64,
}

impl Files {
    pub(in super::super) const fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// What one log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSum {
    /// Its directory.
    pub name: &'static str,
    /// Its segments.
    pub segments: Files,
    /// Records that pass.
    pub records: u64,
    /// Deliveries of them that are not settled.
    pub unsettled: u64,
}

/// What one destination is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationSum {
    /// The destination.
    pub name: DestinationName,
    /// Waiting for a first attempt, as far as the disk knows.
    pub pending: u64,
    /// Waiting for another.
    pub retrying: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the oldest that is pending or retrying was accepted.
    pub oldest: Option<Timestamp>,
}

/// What each destination is owed.
pub(super) fn destinations(read: &Read) -> Result<Vec<DestinationSum>, StoreFault> {
    let mut sums: Vec<DestinationSum> = read
        .state
        .lines
        .iter()
        .map(|line| DestinationSum {
            name: line.name.clone(),
            pending: 0,
            retrying: 0,
            dead: 0,
            oldest: None,
        })
        .collect();
    for log in LogKind::ALL {
        for segment in read.state.track(log).segments.values() {
            if segment.bits.unset() == 0 {
                continue;
            }
            let first = segment.head.first;
            walk::visit(&Readable::of(segment), |view, _| {
                for (slot, line) in (0..).zip(&segment.lines) {
                    if segment.bits.is_set(view.seq() - first, slot) {
                        continue;
                    }
                    let sum = &mut sums[*line];
                    match log {
                        LogKind::Accepted => sum.pending += 1,
                        LogKind::Parked => sum.retrying += 1,
                        LogKind::Dead => sum.dead += 1,
                    }
                    if log != LogKind::Dead {
                        let at = view.accepted_at();
                        sum.oldest = Some(sum.oldest.map_or(at, |oldest| oldest.min(at)));
                    }
                }
                Ok(())
            })?;
        }
    }
    sums.retain(|sum| sum.pending + sum.retrying + sum.dead > 0);
    sums.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sums)
}
