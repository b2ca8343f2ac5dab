//! One record of a log: an event and what is owed of it, framed and checked.
//!
//! Little endian, 8-aligned. The checksum is seeded from the nonce of the segment, so a record that
//! a recycled file still holds from its former life does not pass.

mod view;

use std::sync::Arc;

use bytes::Bytes;

use super::crypt::{Seal, TAG_BYTES};
use super::{LogKind, answers, further};
use crate::clock::Timestamp;
use crate::event::{
    ClientHeaders, Dedupe, Event, EventId, EventKind, Fingerprint, Scrubbed, SourceName,
};
use crate::spool::{Appended, Batch, DeliveryId, Lane, NewEvent, Refusal};

pub(super) use view::{Checked, Sources, View, check, plausible};

/// Bytes before the parts of varying length.
pub(super) const HEAD: usize = 120;
/// Bytes of a key, its window and its fingerprint.
const KEYED_BYTES: usize = 16 + 8 + Fingerprint::LEN;
/// Longer than any segment: a length beyond it is garbage.
const LEN_MAX: usize = 1 << 30;

/// The last record of one commit.
const LAST: u8 = 1;
/// A key section follows the head.
const KEYED: u8 = 1 << 1;
/// A status of the last answer is there.
const ANSWERED: u8 = 1 << 2;
/// It waits in `retry/` without having been told to, and may be taken earlier.
const SOONER: u8 = 1 << 3;
/// What was to be sent and what was answered is encrypted, with a tag behind.
const SEALED: u8 = 1 << 6;
// 1 << 7 is kept for erased records.

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An event and what is owed of it.
    Event,
    /// A request's key and, as its body, what was answered. It is owed to nobody, and follows the
    /// events that the request stored.
    Request,
}

impl Form {
    const fn code(self) -> u8 {
        self as u8
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Event),
            1 => Some(Self::Request),
            _ => None,
        }
    }
}

/// The record that this one takes over from, in whichever log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prior {
    pub(super) log: LogKind,
    pub(super) seq: u64,
    pub(super) slot: u8,
}

/// Where a delivery was accepted: whose key it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) seq: u64,
    pub(super) slot: u8,
    /// Slots that the accepted event was owed to.
    pub(super) owed: u32,
}

/// What a record says, apart from where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) form: Form,
    pub(super) event: Arc<Event>,
    pub(super) dedupe: Option<Dedupe>,
    pub(super) lane: Lane,
    pub(super) attempts: u32,
    /// When it is due in `retry/`, when it was given up in `dead/`.
    pub(super) at: Timestamp,
    /// The delivery, unless this record begins it.
    pub(super) delivery: Option<DeliveryId>,
    pub(super) prior: Option<Prior>,
    pub(super) origin: Option<Origin>,
    pub(super) replay_of: Option<DeliveryId>,
    /// It waits in `retry/` without having been told to.
    pub(super) sooner: bool,
    /// When it was first sent without an answer.
    pub(super) sent_at: Option<Timestamp>,
    pub(super) refusal: Option<Refusal>,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) seq: u64,
    /// A bit for each slot of the segment that it is owed to.
    pub(super) owed: u32,
    /// Records of the same commit before it.
    pub(super) place: u32,
    /// Whether the commit ends with it.
    pub(super) last: bool,
}

/// `len` and what it takes to align the record behind it.
pub(super) const fn aligned(len: usize) -> usize {
    len.next_multiple_of(8)
}

impl Record {
    /// The record of an event that is new.
    pub(super) fn of(new: NewEvent) -> Self {
        Self {
            form: Form::Event,
            event: new.event,
            dedupe: new.dedupe,
            lane: new.lane,
            attempts: 0,
            at: Timestamp::EPOCH,
            delivery: None,
            prior: None,
            origin: None,
            replay_of: None,
            sooner: false,
            sent_at: None,
            refusal: None,
        }
    }

    /// The record of a request that was answered so.
    pub(super) fn of_request(request: Dedupe, answers: &[Appended], now: Timestamp) -> Self {
        let event = Event {
            id: EventId::new(now),
            source: SourceName::new(""),
            kind: EventKind::Notification,
            target: Bytes::new(),
            accepted_at: now,
            // Ids and digests.
            body: Scrubbed::vouch(answers::encode(answers).into()),
            headers: ClientHeaders::default(),
            fault: None,
        };
        let new = NewEvent {
            event: Arc::new(event),
            to: Vec::new(),
            dedupe: Some(request),
            lane: Lane::Live,
        };
        Self { form: Form::Request, ..Self::of(new) }
    }

    /// Bytes in the log at most, alignment included.
    pub(super) fn encoded_len(&self) -> usize {
        aligned(self.exact_len() + TAG_BYTES)
    }

    fn exact_len(&self) -> usize {
        let keyed = if self.dedupe.is_some() { KEYED_BYTES } else { 0 };
        let answer = self.refusal.as_ref().map_or(0, |refusal| refusal.answer.len());
        HEAD + keyed
            + self.event.source.as_str().len()
            + self.event.target.len()
            + self.event.body.bytes().len()
            + answer
            + further::len(&self.event, self.sent_at)
    }

    /// Appends the framed record to `out`, which is 8-aligned before and after.
    pub(super) fn encode(&self, stamp: Stamp, seed: u32, seal: Option<&Seal>, out: &mut Vec<u8>) {
        let start = out.len();
        // What a request was answered is ids and digests, and recovery feeds the keys from it.
        let seal = seal.filter(|_| self.form == Form::Event);
        let len = self.exact_len() + if seal.is_some() { TAG_BYTES } else { 0 };
        out.resize(start + HEAD, 0);
        let head = &mut out[start..];
        put(head, 0, &(len as u32).to_le_bytes());
        put(head, 8, &stamp.seq.to_le_bytes());
        put(head, 16, &self.delivery.map_or(0, |id| id.0).to_le_bytes());
        put(head, 24, &self.origin.map_or(0, |origin| origin.seq).to_le_bytes());
        put(head, 32, &self.replay_of.map_or(0, |id| id.0).to_le_bytes());
        put(head, 40, &self.prior.map_or(0, |prior| prior.seq).to_le_bytes());
        put(head, 48, &self.event.accepted_at.as_millis().to_le_bytes());
        put(head, 56, &self.at.as_millis().to_le_bytes());
        put(head, 64, &stamp.owed.to_le_bytes());
        put(head, 68, &self.origin.map_or(0, |origin| origin.owed).to_le_bytes());
        put(head, 72, &stamp.place.to_le_bytes());
        put(head, 76, &self.attempts.to_le_bytes());
        let refusal = self.refusal.as_ref();
        let status = refusal.and_then(|refusal| refusal.status);
        let flags = if stamp.last { LAST } else { 0 }
            | if self.dedupe.is_some() { KEYED } else { 0 }
            | if status.is_some() { ANSWERED } else { 0 }
            | if self.sooner { SOONER } else { 0 }
            | if seal.is_some() { SEALED } else { 0 };
        head[80] = self.form.code();
        head[81] = flags;
        head[82] = self.lane as u8;
        head[83] = self.event.kind.code();
        head[84] = self.prior.map_or(0, |prior| prior.log.code() + 1);
        head[85] = self.prior.map_or(0, |prior| prior.slot);
        head[86] = self.origin.map_or(0, |origin| origin.slot);
        head[87] = refusal.map_or(0, |refusal| refusal.cause.code() + 1);
        put(head, 88, &status.unwrap_or(0).to_le_bytes());
        let source = self.event.source.as_str().as_bytes();
        let body = self.event.body.bytes();
        let answer = refusal.map_or(&[][..], |refusal| &refusal.answer);
        put(head, 90, &(source.len() as u16).to_le_bytes());
        put(head, 92, &(self.event.target.len() as u32).to_le_bytes());
        put(head, 96, &(body.len() as u32).to_le_bytes());
        put(head, 100, &(answer.len() as u16).to_le_bytes());
        put(head, 102, &(further::len(&self.event, self.sent_at) as u16).to_le_bytes());
        put(head, 104, &self.event.id.to_bytes());
        if let Some(dedupe) = &self.dedupe {
            // Rounded as the key index does, for which another window is another key.
            let window_ms = Timestamp::EPOCH.after(dedupe.window).as_millis();
            out.extend_from_slice(&dedupe.key.0);
            out.extend_from_slice(&window_ms.to_le_bytes());
            out.extend_from_slice(&dedupe.fingerprint.to_bytes());
        }
        out.extend_from_slice(source);
        let secret = out.len();
        out.extend_from_slice(&self.event.target);
        out.extend_from_slice(body);
        out.extend_from_slice(answer);
        further::encode(&self.event, self.sent_at, out);
        if let Some(seal) = seal {
            seal.close(stamp.seq, out, start, secret);
        }
        let crc = checksum(&out[start..], seed);
        put(&mut out[start..], 4, &crc.to_le_bytes());
        out.resize(start + aligned(len), 0);
    }

    /// Bytes that a new event will take.
    pub(super) fn size_of(new: &NewEvent) -> usize {
        let keyed = if new.dedupe.is_some() { KEYED_BYTES } else { 0 };
        let event = &new.event;
        let parts = event.source.as_str().len() + event.target.len() + event.body.bytes().len();
        aligned(HEAD + keyed + parts + further::len(event, None) + TAG_BYTES)
    }

    /// Bytes that the record of a batch's request takes at most.
    pub(super) const fn size_of_request(batch: &Batch) -> usize {
        match batch.request {
            Some(_) => aligned(HEAD + KEYED_BYTES + answers::bytes_max(batch.events.len())),
            None => 0,
        }
    }

    /// Whether every part fits the fields that hold its length.
    pub(super) fn fits(event: &Event) -> bool {
        event.source.as_str().len() <= usize::from(u16::MAX)
            && event.target.len() < LEN_MAX
            && event.body.bytes().len() < LEN_MAX / 2
            && further::len(event, Some(Timestamp::EPOCH)) <= usize::from(u16::MAX)
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Over everything but the field that holds it.
fn checksum(record: &[u8], seed: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &record[..4]), &record[8..])
}

#[cfg(test)]
pub(super) mod tests;
