//! Letters of what nobody can use: events that came with a fault end with the commit that takes them.
//!
//! Their records are owed as any other's until the letters are synced, which take over from them. So
//! a crash between the two leaves deliveries, which their forwarder gives up when it leases them.

use super::super::log::{Draft, Written};
use super::super::record::{Origin, Prior, Record};
use super::super::state::State;
use super::super::{LogKind, Shared, lock};
use super::Work;
use crate::spool::{Cause, DeliveryId, Lane, Refusal};

/// One delivery and its letter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unusable {
    /// The draft of the event.
    pub(super) event: usize,
    line: usize,
    prior: Prior,
    /// The draft of its letter.
    letter: usize,
}

/// Drafts the letters of those events of a commit that came with a fault and are written now. One
/// that an operator put back in line is sent as it is.
pub(super) fn draft(shared: &Shared, work: &mut Work, written: &[Written]) {
    let [accepted, _, letters] = &mut work.drafts;
    let is_unusable = |record: &Record| record.event.fault.is_some() && record.replay_of.is_none();
    let now = shared.clock.now();
    let drafts = accepted.iter().zip(written).enumerate();
    for (event, (Draft { record, lines }, written)) in drafts {
        if !is_unusable(record) {
            continue;
        }
        for line in lines {
            let slot = {
                let state = lock(&shared.state);
                let segment = state.track(LogKind::Accepted).segments.get(&written.segment);
                segment.and_then(|segment| segment.slot_of(*line))
            };
            let Some(slot) = slot else { continue };
            let prior = Prior { log: LogKind::Accepted, seq: written.seq, slot };
            let origin = Origin { seq: written.seq, slot, owed: written.owed };
            let letter = Record {
                lane: Lane::Retry,
                at: now,
                delivery: Some(DeliveryId::begun_by(written.seq, slot)),
                prior: Some(prior),
                origin: Some(origin),
                refusal: Some(Refusal::unanswered(Cause::Invalid)),
                ..record.clone()
            };
            letters.push(Draft { record: letter, lines: vec![*line] });
            work.unusable.push(Unusable { event, line: *line, prior, letter: letters.len() - 1 });
        }
    }
}

/// Makes the letters visible that are durable, after every other of their commit.
pub(super) fn bury(state: &mut State, unusable: &[Unusable], letters: &[Written]) {
    for Unusable { line, prior, letter, event: _ } in unusable {
        state.extend(LogKind::Dead, &letters[*letter]);
        state.set(*prior);
        state.lines[*line].dead += 1;
        state.flow.dead += 1;
    }
}
