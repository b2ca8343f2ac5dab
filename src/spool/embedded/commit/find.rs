//! What became of the event that has a key.
//!
//! Asked on the committing thread, by which alone deliveries move on, so that none is met between
//! two places: what it sees is the state between two commits.

use super::super::keys::{Ending, Lookup};
use super::super::{Shared, lock};
use crate::clock::Timestamp;
use crate::event::DedupeKey;
use crate::spool::{EndState, Found, StoreFault};

/// Told to whoever asks while the keys are shut; the store goes on.
pub(super) fn shut() -> StoreFault {
    StoreFault {
        doing: "finding an event".to_owned(),
        cause: "dedupe keys have no room, or their disk fails".to_owned(),
    }
}

pub(super) fn find(
    shared: &Shared,
    keys: &Lookup<'_>,
    key: &DedupeKey,
    now: Timestamp,
) -> Result<Option<Found>, StoreFault> {
    let Some((entry, ends)) = keys.fate(key, now)? else { return Ok(None) };
    let state = lock(&shared.state);
    if state.is_lost(entry.seq) {
        return Ok(None);
    }
    let (state, at) = match ends.worst() {
        Some((Ending::Dead, at)) => (EndState::Dead, Some(at)),
        Some((Ending::Expired, at)) => (EndState::Expired, Some(at)),
        None if state.is_pending(entry.seq, ends.replays()) => (EndState::Pending, None),
        None => (EndState::Delivered, None),
    };
    Ok(Some(Found { id: entry.id, state, at }))
}
