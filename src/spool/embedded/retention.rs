//! How long dead letters are kept, and how many bytes of them.
//!
//! The oldest go first: by age letter by letter, by bytes a segment at a time, for only whole
//! segments give room back. It is said before any goes.

use super::dead;
use super::inbox::Command;
use super::segment::SegmentId;
use super::state::State;
use super::upkeep::ask;
use super::{LogKind, Shared, lock};
use crate::clock::Timestamp;
use crate::spool::StoreFault;

/// Letters that one step drops for their age.
const AGED_MAX: usize = 4096;
/// Segments that one step looks into for their age.
const SEGMENTS_MAX: usize = 4;

/// What was said, and where the looking goes on.
#[derive(Debug, Default)]
pub(super) struct Retention {
    told: bool,
    /// The segment that was looked into last.
    last: Option<SegmentId>,
}

impl Retention {
    pub(super) fn step(&mut self, shared: &Shared) -> Result<(), StoreFault> {
        self.keep_bytes(shared)?;
        self.keep_age(shared)
    }

    /// Drops the oldest segment while letters take more than they may.
    fn keep_bytes(&mut self, shared: &Shared) -> Result<(), StoreFault> {
        let limit_bytes = shared.settings.dead_limit();
        loop {
            let (used_bytes, oldest) = {
                let state = lock(&shared.state);
                (bytes_of(&state), oldest_sealed(&state))
            };
            self.tell(used_bytes, limit_bytes);
            let Some(segment) = oldest.filter(|_| used_bytes > limit_bytes) else {
                return Ok(());
            };
            let dropped = ask(shared, |answer| Command::DropSegment { segment, answer }, 0)?;
            tracing::warn!(
                dropped,
                used_bytes,
                limit_bytes,
                "dead letters were over dead_max_bytes: the oldest are dropped"
            );
        }
    }

    fn tell(&mut self, used_bytes: u64, limit_bytes: u64) {
        // Said again only after it had become better for good.
        if self.told {
            self.told = used_bytes > limit_bytes / 10 * 7;
        } else if used_bytes > limit_bytes / 10 * 8 {
            self.told = true;
            tracing::warn!(
                used_bytes,
                limit_bytes,
                "dead letters fill four fifths of dead_max_bytes: replay or drop them, or the \
                 oldest will be dropped"
            );
        }
    }

    /// Drops the letters that are too old, a few segments a step.
    fn keep_age(&mut self, shared: &Shared) -> Result<(), StoreFault> {
        let now = shared.clock.believed();
        let max_age_ms =
            u64::try_from(shared.settings.dead_max_age.as_millis()).unwrap_or(u64::MAX);
        let Some(before) = now.as_millis().checked_sub(max_age_ms).map(Timestamp::from_millis)
        else {
            return Ok(());
        };
        for _ in 0..SEGMENTS_MAX {
            let Some(segment) = next_behind(&lock(&shared.state), self.last) else {
                self.last = None;
                return Ok(());
            };
            let aged = dead::aged(shared, segment, before, AGED_MAX)?;
            if aged.is_empty() {
                self.last = Some(segment);
                continue;
            }
            let dropped = ask(shared, |answer| Command::Drop { letters: aged, answer }, 0)?;
            tracing::warn!(dropped, "dead letters older than dead_max_age are dropped");
        }
        Ok(())
    }
}

/// Bytes of the segments that have letters.
pub(super) fn bytes_of(state: &State) -> u64 {
    let segments = state.track(LogKind::Dead).segments.values();
    let kept = segments.filter(|segment| segment.bits.unset() > 0);
    kept.map(|segment| if segment.sealed { segment.size } else { segment.end }).sum()
}

fn oldest_sealed(state: &State) -> Option<SegmentId> {
    let segments = state.track(LogKind::Dead).segments.iter();
    let mut sealed = segments.filter(|(_, segment)| segment.sealed && segment.bits.unset() > 0);
    sealed.next().map(|(id, _)| *id)
}

fn next_behind(state: &State, last: Option<SegmentId>) -> Option<SegmentId> {
    let segments = &state.track(LogKind::Dead).segments;
    let mut kept = segments.iter().filter(|(_, segment)| segment.bits.unset() > 0);
    kept.find(|(id, _)| last.is_none_or(|last| **id > last)).map(|(id, _)| *id)
}
