//! Records found in the bytes of a log, and read where they stand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::crypt::{Seal, TAG_BYTES};
use super::super::{LogKind, further};
use super::{
    ANSWERED, Form, HEAD, KEYED, KEYED_BYTES, LAST, LEN_MAX, Origin, Prior, Record, SEALED, SOONER,
    checksum, put,
};
use crate::clock::Timestamp;
use crate::event::{
    Dedupe, DedupeKey, Event, EventId, EventKind, Fingerprint, Scrubbed, SourceName,
};
use crate::spool::{Cause, DeliveryId, Lane, Refusal};

/// What stands at the head of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Checked {
    /// A record of so many bytes.
    Whole(usize),
    /// That many bytes are needed to say.
    Short(usize),
    /// No record of this segment.
    Bad,
}

/// Checks what stands at the head of `bytes`.
pub(in super::super) fn check(bytes: &[u8], seed: u32) -> Checked {
    if bytes.len() < HEAD {
        return Checked::Short(HEAD);
    }
    let view = View(bytes);
    let len = view.u32(0) as usize;
    if !(HEAD..LEN_MAX).contains(&len) || view.parts_len() != Some(len) {
        return Checked::Bad;
    }
    if bytes.len() < len {
        return Checked::Short(len);
    }
    if checksum(&bytes[..len], seed) == view.u32(4) { Checked::Whole(len) } else { Checked::Bad }
}

/// The length of what stands at the head of `bytes` and has the shape of a record, for want of the
/// seed that its checksum needs.
pub(in super::super) fn plausible(bytes: &[u8]) -> Option<usize> {
    /// 2001 to 2286: what the clock of a relay may have said.
    const MILLIS: std::ops::Range<u64> = 1_000_000_000_000..10_000_000_000_000;
    if bytes.len() < HEAD {
        return None;
    }
    let view = View(bytes);
    let len = view.u32(0) as usize;
    let is_shaped = (HEAD..LEN_MAX).contains(&len)
        && len <= bytes.len()
        && view.parts_len() == Some(len)
        && view.seq() > 0
        && MILLIS.contains(&view.accepted_at().as_millis());
    is_shaped.then_some(len)
}

/// A record whose checksum holds, read in place.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct View<'a>(&'a [u8]);

impl<'a> View<'a> {
    /// Looks at exactly the bytes that [`check`] found whole.
    pub(in super::super) const fn of(record: &'a [u8]) -> Self {
        Self(record)
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.0[at..at + N]);
        bytes
    }

    /// What the length must be, going by the lengths of the parts.
    fn parts_len(&self) -> Option<usize> {
        let keyed = if self.0[81] & KEYED != 0 { KEYED_BYTES } else { 0 };
        let tag = if self.0[81] & SEALED != 0 { TAG_BYTES } else { 0 };
        let small = HEAD + keyed + tag + usize::from(self.u16(90)) + usize::from(self.u16(100));
        let small = small + usize::from(self.u16(102));
        small.checked_add(self.u32(92) as usize)?.checked_add(self.u32(96) as usize)
    }

    pub(in super::super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(in super::super) fn seq(&self) -> u64 {
        self.u64(8)
    }

    /// Nothing when a later program wrote it.
    pub(in super::super) fn form(&self) -> Option<Form> {
        Form::from_code(self.0[80])
    }

    /// The bytes of the body.
    pub(in super::super) fn body(&self) -> &'a [u8] {
        let keyed = if self.0[81] & KEYED != 0 { KEYED_BYTES } else { 0 };
        let at = HEAD + keyed + usize::from(self.u16(90)) + self.u32(92) as usize;
        &self.0[at..at + self.u32(96) as usize]
    }

    pub(in super::super) fn owed(&self) -> u32 {
        self.u32(64)
    }

    pub(in super::super) fn place(&self) -> u32 {
        self.u32(72)
    }

    pub(in super::super) fn is_last(&self) -> bool {
        self.0[81] & LAST != 0
    }

    pub(in super::super) fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.u64(56))
    }

    /// Nothing when a later program wrote it.
    pub(in super::super) fn kind(&self) -> Option<EventKind> {
        EventKind::from_code(self.0[83])
    }

    pub(in super::super) fn accepted_at(&self) -> Timestamp {
        Timestamp::from_millis(self.u64(48))
    }

    pub(in super::super) fn attempts(&self) -> u32 {
        self.u32(76)
    }

    /// Whether it waits without having been told to.
    pub(in super::super) const fn sooner(&self) -> bool {
        self.0[81] & SOONER != 0
    }

    /// When it was first sent without an answer, as far as that can be read without a key.
    pub(in super::super) fn sent_at(&self) -> Option<Timestamp> {
        let section = self.0.len() - usize::from(self.u16(102));
        if self.0[81] & SEALED != 0 { None } else { further::sent_at(&self.0[section..]) }
    }

    pub(in super::super) fn lane(&self) -> Option<Lane> {
        Lane::ALL.get(usize::from(self.0[82])).copied()
    }

    pub(in super::super) fn event_id(&self) -> EventId {
        EventId::from_bytes(self.array(104))
    }

    /// Why a letter was given up; nothing when it is none, or a later program's.
    pub(in super::super) fn cause(&self) -> Option<Cause> {
        Cause::from_code(self.0[87].checked_sub(1)?)
    }

    pub(in super::super) fn delivery(&self) -> Option<DeliveryId> {
        Some(DeliveryId(self.u64(16))).filter(|id| id.0 > 0)
    }

    pub(in super::super) fn replay_of(&self) -> Option<DeliveryId> {
        Some(DeliveryId(self.u64(32))).filter(|id| id.0 > 0)
    }

    pub(in super::super) fn prior(&self) -> Option<Prior> {
        let log = LogKind::from_code(self.0[84].checked_sub(1)?)?;
        Some(Prior { log, seq: self.u64(40), slot: self.0[85] })
    }

    pub(in super::super) fn origin(&self) -> Option<Origin> {
        let origin = Origin { seq: self.u64(24), slot: self.0[86], owed: self.u32(68) };
        (origin.seq > 0).then_some(origin)
    }

    pub(in super::super) fn dedupe(&self) -> Option<Dedupe> {
        if self.0[81] & KEYED == 0 {
            return None;
        }
        Some(Dedupe {
            key: DedupeKey(self.array(HEAD)),
            window: Duration::from_millis(self.u64(HEAD + 16)),
            fingerprint: Fingerprint::from_bytes(&self.array(HEAD + 24)),
        })
    }

    /// The whole record on the heap; nothing when its codes are none that this program knows.
    ///
    /// Nothing either when it is encrypted and `seal` is not that of its segment, or it was changed.
    pub(in super::super) fn decode(
        &self,
        sources: &mut Sources,
        seal: Option<&Seal>,
    ) -> Option<Record> {
        let dedupe = self.dedupe();
        let name = HEAD + if dedupe.is_some() { KEYED_BYTES } else { 0 };
        let (covered, rest) = self.0.split_at(name + usize::from(self.u16(90)));
        let source = std::str::from_utf8(&covered[name..]).ok()?;
        let opened;
        let parts = if self.0[81] & SEALED == 0 {
            rest
        } else {
            // The checksum came later, over what is encrypted.
            let mut covered = covered.to_vec();
            put(&mut covered, 4, &[0; 4]);
            opened = seal?.open(self.seq(), &covered, rest)?;
            &opened
        };
        let mut at = 0;
        let mut part = |len: usize| {
            at += len;
            &parts[at - len..at]
        };
        let target = Bytes::copy_from_slice(part(self.u32(92) as usize));
        let body = Bytes::copy_from_slice(part(self.u32(96) as usize));
        let answer = Bytes::copy_from_slice(part(usize::from(self.u16(100))));
        let section = part(usize::from(self.u16(102)));
        let status = (self.0[81] & ANSWERED != 0).then(|| self.u16(88));
        let refusal = match self.0[87].checked_sub(1) {
            Some(code) => Some(Refusal { cause: Cause::from_code(code)?, status, answer }),
            None => None,
        };
        let event = Event {
            id: self.event_id(),
            source: sources.get(source),
            kind: self.kind()?,
            target,
            accepted_at: self.accepted_at(),
            // It was scrubbed before it was written: `append` takes nothing else.
            body: Scrubbed::vouch(body),
            headers: further::headers(section),
            fault: further::fault(section),
        };
        Some(Record {
            form: self.form()?,
            event: Arc::new(event),
            dedupe,
            lane: self.lane()?,
            attempts: self.attempts(),
            at: self.at(),
            delivery: self.delivery(),
            prior: self.prior(),
            origin: self.origin(),
            replay_of: self.replay_of(),
            sooner: self.sooner(),
            sent_at: further::sent_at(section),
            refusal,
        })
    }
}

/// Names of sources met so far, so that a record read back allocates none.
#[derive(Debug, Default)]
pub(in super::super) struct Sources(Vec<SourceName>);

impl Sources {
    /// More than a configuration has; beyond it names are simply made anew.
    const KEPT_MAX: usize = 64;

    fn get(&mut self, name: &str) -> SourceName {
        if let Some(known) = self.0.iter().find(|known| known.as_str() == name) {
            return known.clone();
        }
        let new = SourceName::new(name);
        if self.0.len() < Self::KEPT_MAX {
            self.0.push(new.clone());
        }
        new
    }
}
