//! `X-Sent-At`: a client's own clock at the moment of sending.
//!
//! A till whose clock is wrong says of a fresh order that it lies ahead or is old. Its clock at
//! sending, against ours at receiving, tells how wrong it is; so an order's time is judged by the
//! clock that wrote it. Only warnings follow from this: the time itself is forwarded as it came,
//! and nothing is refused, kept or forgotten by a time of the client's.

use crate::clock::Timestamp;
use crate::schema::moment::Moment;

/// The header's name.
pub const HEADER: &str = "x-sent-at";

/// Farther apart, the request lay somewhere on its way, or the header is nonsense: then our own
/// clock is the better one.
pub const APART_MAX: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// What a client says of its clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SentAt {
    /// Nothing.
    #[default]
    Unsaid,
    /// Something that is no time.
    Unreadable,
    /// The time.
    At(Timestamp),
}

impl SentAt {
    /// Reads the header's value: RFC 3339, or milliseconds since the Unix epoch.
    #[must_use]
    pub fn read(value: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(value) else { return Self::Unreadable };
        let text = text.trim();
        let is_number = (12..=14).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let millis = if is_number {
            text.parse::<u64>().ok()
        } else {
            Moment::read(text).and_then(|moment| u64::try_from(moment.millis()).ok())
        };
        millis.map_or(Self::Unreadable, |millis| Self::At(Timestamp::from_millis(millis)))
    }

    /// The clock that an order's time is judged by, when the request was received at `at`.
    #[must_use]
    pub fn clock(self, at: Timestamp) -> Timestamp {
        match self {
            Self::At(sent) if self.is_usable(at) => sent,
            Self::Unsaid | Self::Unreadable | Self::At(_) => at,
        }
    }

    /// Whether it is worth what it says; nothing said is nothing wrong.
    #[must_use]
    pub fn is_usable(self, at: Timestamp) -> bool {
        match self {
            Self::Unsaid => true,
            Self::Unreadable => false,
            Self::At(sent) => at.since(sent).max(sent.since(at)) <= APART_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T12:00:00Z
    const NOON: Timestamp = Timestamp::from_millis(1_795_262_400_000);

    #[test]
    fn a_client_may_write_its_clock_in_two_ways() {
        for text in ["2026-11-21T12:00:00Z", "2026-11-21T09:00:00.000-03:00", " 1795262400000 "] {
            assert_eq!(SentAt::read(text.as_bytes()), SentAt::At(NOON), "{text}");
        }
        for text in
            ["", "now", "1795262400", "1.795e12", "2026-11-21", "1969-12-31T23:59:59Z", "\u{e9}"]
        {
            assert_eq!(SentAt::read(text.as_bytes()), SentAt::Unreadable, "{text}");
        }
        assert_eq!(SentAt::read(b"\xff"), SentAt::Unreadable);
    }

    #[test]
    fn a_clock_is_believed_up_to_a_day_apart() {
        let day = APART_MAX;
        let early = Timestamp::from_millis(NOON.as_millis() - 86_400_000);
        for near in [early, NOON, NOON.after(day)] {
            assert_eq!(SentAt::At(near).clock(NOON), near);
            assert!(SentAt::At(near).is_usable(NOON));
        }
        let far = NOON.after(day + std::time::Duration::from_millis(1));
        for said in [SentAt::At(far), SentAt::At(Timestamp::EPOCH), SentAt::Unreadable] {
            assert_eq!(said.clock(NOON), NOON);
            assert!(!said.is_usable(NOON));
        }
        assert_eq!(SentAt::Unsaid.clock(NOON), NOON);
        assert!(SentAt::Unsaid.is_usable(NOON));
    }
}
