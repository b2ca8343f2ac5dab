//! At a close: what waits in memory for another attempt goes to `retry/`.

use super::super::lease::{Delivery, Waiting};
use super::super::log::{Draft, Written};
use super::super::record::{self, Checked, Origin, Record, Sources, View};
use super::super::state::State;
use super::super::walk::Readable;
use super::super::{LogKind, Shared, lock, settle};
use super::Work;
use crate::clock::Timestamp;
use crate::spool::{DeliveryId, Lane, StoreFault};
use std::sync::Arc;

/// Deliveries written at once.
const AT_ONCE: usize = 256;
/// Bytes of them: a commit must fit the smallest segment with room to spare.
const BYTES_MAX: usize = 24 << 10;

/// The line and due time by which a waiting delivery is found.
pub(super) type Key = (usize, (Timestamp, DeliveryId));

/// Some of what waits in memory alone, and where its records are.
pub(super) fn waiting(state: &State) -> Vec<(Key, Waiting, Readable)> {
    let mut found = Vec::new();
    let mut bytes = 0;
    for (index, line) in state.lines.iter().enumerate() {
        for (key, waiting) in line.due.iter().filter(|(_, waiting)| !waiting.on_disk) {
            let place = waiting.place;
            let Some(segment) = state.track(place.log).holding(place.seq) else { continue };
            bytes += place.len as usize;
            if found.len() >= AT_ONCE || (bytes > BYTES_MAX && !found.is_empty()) {
                return found;
            }
            found.push(((index, *key), *waiting, Readable::of(segment)));
        }
    }
    found
}

/// Drafts their records. One that does not pass stays where it is, to be found by its next reader.
pub(super) fn drafts(
    waiting: Vec<(Key, Waiting, Readable)>,
    shared: &Shared,
    work: &mut Work,
) -> Result<Vec<Key>, StoreFault> {
    let mut sources = Sources::default();
    let mut parked = Vec::new();
    for (key, waiting, segment) in waiting {
        let (line, (due, id)) = key;
        let place = waiting.place;
        let bytes = segment.file.read(place.offset, place.len as usize)?;
        let record = match record::check(&bytes, segment.seed) {
            Checked::Whole(len) => {
                let view = View::of(&bytes[..len]);
                view.decode(&mut sources, segment.file.seal()).map(|record| (record, view.owed()))
            }
            Checked::Short(_) | Checked::Bad => None,
        };
        let Some((record, owed)) = record else {
            if let Some(waiting) = lock(&shared.state).lines[line].due.get_mut(&key.1) {
                waiting.on_disk = true;
            }
            continue;
        };
        let own = Origin { seq: place.seq, slot: place.slot, owed };
        let origin = record.origin.unwrap_or(own);
        let (record, attempts, lane) = (Arc::new(record), waiting.attempts, Lane::Retry);
        let (sooner, sent_at) = (waiting.sooner, waiting.sent_at.or(record.sent_at));
        let delivery = Delivery { id, place, record, origin, attempts, lane, sooner, sent_at };
        let record = settle::moved(&delivery, shared.clock.wall_at(due), 0, None);
        work.drafts[LogKind::Parked.index()].push(Draft { record, lines: vec![line] });
        parked.push(key);
    }
    Ok(parked)
}

/// The record that says when the delivery is due is durable.
pub(super) fn moved(
    state: &mut State,
    line: usize,
    key: (Timestamp, DeliveryId),
    written: &Written,
    record: &Record,
) {
    state.extend(LogKind::Parked, written);
    if let Some(prior) = record.prior {
        state.set(prior);
    }
    let place = state.only_place(LogKind::Parked, written);
    if let Some(waiting) = state.lines[line].due.get_mut(&key) {
        (waiting.place, waiting.on_disk) = (place, true);
    }
}
