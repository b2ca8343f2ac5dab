//! The words that every room knows: an event, its names, its ids and its dedupe key.
//!
//! A body in an [`Event`] is [`Scrubbed`]: raw identity ended in `pii`, before anything was stored.

mod headers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::Timestamp;

pub use headers::ClientHeaders;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as it stands in the configuration.
            #[must_use]
            pub fn new(name: &str) -> Self {
                Self(name.into())
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// A configured way in.
    SourceName
}
name! {
    /// A configured way out.
    DestinationName
}
name! {
    /// A configured client: an app, a till, a web page.
    ClientName
}

/// What an event tells, which decides how long it is worth sending and whether twice does harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// An order.
    Conversion,
    /// An ad was rendered.
    Impression,
    /// An ad was seen.
    View,
    /// An ad was clicked.
    Click,
    /// A partner's notification.
    Notification,
}

impl EventKind {
    /// Every kind, in the order of their codes.
    pub const ALL: [Self; 5] =
        [Self::Conversion, Self::Impression, Self::View, Self::Click, Self::Notification];

    /// The stable word for configuration, metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conversion => "conversion",
            Self::Impression => "impression",
            Self::View => "view",
            Self::Click => "click",
            Self::Notification => "notification",
        }
    }

    /// The stable number for a store's records.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind of a stored number; nothing when a newer program wrote it.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The kind of a configured word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Names one accepted event for ever: a version 7 UUID, ordered by the time of acceptance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Uuid);

impl EventId {
    /// A new id, whose first 48 bits are `at`.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        let random = fastrand::u128(..).to_le_bytes();
        let mut bytes = [0; 10];
        bytes.copy_from_slice(&random[..10]);
        Self(uuid::Builder::from_unix_timestamp_millis(at.as_millis(), &bytes).into_uuid())
    }

    /// The time of acceptance, which the first 48 bits hold.
    #[must_use]
    pub fn at(self) -> Timestamp {
        let bytes = self.0.as_bytes();
        let millis = bytes[..6].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Timestamp::from_millis(millis)
    }

    /// The id that a store kept as 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The id as 16 bytes, big endian.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.as_hyphenated(), f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Body bytes without raw identity: what may be stored, logged about and sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Scrubbed(Bytes);

impl Scrubbed {
    /// Declares that `body` holds no raw identity.
    ///
    /// Only `pii`, which removed it, and the spools' decoders, which read back what `pii` let
    /// pass, may say so; `tests/tidy.rs` holds every other caller back.
    #[must_use]
    pub const fn vouch(body: Bytes) -> Self {
        Self(body)
    }

    /// The bytes, as they will be sent.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Says the size alone: a body never reaches a log by way of `{:?}`.
impl fmt::Debug for Scrubbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// One accepted body and its envelope facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub id: EventId,
    /// The way it came in.
    pub source: SourceName,
    /// What it tells.
    pub kind: EventKind,
    /// Path and query byte for byte as received, or the absolute URL (`EventUrl::absolute`) that
    /// the event came with; what a `verbatim` destination sends to.
    pub target: Bytes,
    /// When it was received.
    pub accepted_at: Timestamp,
    /// What will be sent.
    pub body: Scrubbed,
    /// What of the client's own request goes with it.
    pub headers: ClientHeaders,
    /// Why its bytes are of no use, in words without any value; at most [`Event::FAULT_BYTES_MAX`].
    /// Such an event was accepted to be kept, and is sent only when an operator says so.
    pub fault: Option<Bytes>,
}

impl Event {
    /// Bytes of a fault that are kept.
    pub const FAULT_BYTES_MAX: usize = 4096;
}

/// 128 bits that tell one event of a source from every other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DedupeKey(pub [u8; 16]);

impl fmt::Debug for DedupeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What a body looked like: its digest, and two bytes for each of 32 slots of top-level members.
///
/// Opaque to a store, which hands back the first one's to whoever repeats its key; the caller
/// then names the members that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The first 8 bytes of the body's digest.
    pub body: [u8; 8],
    /// A digest a slot; zero where the slot has no member.
    pub members: [u16; Fingerprint::SLOTS],
}

impl Fingerprint {
    /// Slots for top-level members.
    pub const SLOTS: usize = 32;
    /// Size as bytes.
    pub const LEN: usize = 8 + 2 * Self::SLOTS;

    /// The fingerprint as bytes for a store.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.body);
        for (pair, member) in bytes[8..].chunks_exact_mut(2).zip(self.members) {
            pair.copy_from_slice(&member.to_le_bytes());
        }
        bytes
    }

    /// The fingerprint that [`Fingerprint::to_bytes`] wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let mut print = Self { body: [0; 8], members: [0; Self::SLOTS] };
        print.body.copy_from_slice(&bytes[..8]);
        for (member, pair) in print.members.iter_mut().zip(bytes[8..].chunks_exact(2)) {
            *member = u16::from_le_bytes([pair[0], pair[1]]);
        }
        print
    }
}

/// How an event is told from its repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dedupe {
    /// What repeats have in common.
    pub key: DedupeKey,
    /// How long from the first acceptance a repeat is one.
    pub window: Duration,
    /// What the first looked like.
    pub fingerprint: Fingerprint,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_by_time_and_survive_bytes() {
        let early = EventId::new(Timestamp::from_millis(1_000));
        let late = EventId::new(Timestamp::from_millis(2_000));
        assert!(early < late);
        assert_eq!(EventId::from_bytes(early.to_bytes()), early);
        assert_eq!((early.at().as_millis(), late.at().as_millis()), (1_000, 2_000));
        let far = Timestamp::from_millis((1 << 48) - 1);
        assert_eq!(EventId::new(far).at(), far);
    }

    #[test]
    fn a_fingerprint_survives_bytes() {
        let mut print = Fingerprint { body: *b"12345678", members: [0; 32] };
        print.members[0] = 1;
        print.members[31] = 0xfffe;
        assert_eq!(Fingerprint::from_bytes(&print.to_bytes()), print);
    }

    #[test]
    fn a_scrubbed_body_prints_its_size_only() {
        let body = Scrubbed::vouch(Bytes::from_static(b"secret"));
        assert_eq!(format!("{body:?}"), "6 bytes");
    }

    #[test]
    fn kinds_survive_their_codes() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_code(kind.code()), Some(kind));
            assert_eq!(EventKind::from_word(kind.as_str()), Some(kind));
        }
        assert_eq!(EventKind::from_code(9), None);
    }
}
