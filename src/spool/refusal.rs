//! Why deliveries end without having been delivered.

use bytes::Bytes;

/// Why a delivery became a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What ended it.
    pub cause: Cause,
    /// Status of the last answer, when there was one.
    pub status: Option<u16>,
    /// The last answer's first bytes, at most [`Refusal::ANSWER_BYTES_MAX`].
    pub answer: Bytes,
}

impl Refusal {
    /// Bytes of an upstream's answer that are kept.
    pub const ANSWER_BYTES_MAX: usize = 4096;

    /// A refusal for a cause that no answer tells of.
    #[must_use]
    pub const fn unanswered(cause: Cause) -> Self {
        Self { cause, status: None, answer: Bytes::new() }
    }
}

/// What ended a delivery that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The destination refused these bytes, and would again.
    Refused,
    /// Older than its kind's maximum age.
    Expired,
    /// It may have arrived, and sending it twice would do harm.
    UnknownOutcome,
    /// No request could be made of it, as when its event URL is not allowed any more.
    Unsendable,
    /// It was kept though it is of no use, since its sender could mend nothing.
    Invalid,
}

impl Cause {
    /// Every cause, in the order of their codes.
    pub const ALL: [Self; 5] =
        [Self::Refused, Self::Expired, Self::UnknownOutcome, Self::Unsendable, Self::Invalid];

    /// The stable word for metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::UnknownOutcome => "unknown_outcome",
            Self::Unsendable => "unsendable",
            Self::Invalid => "invalid",
        }
    }

    /// The stable number for a store's records.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The cause of a stored number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}
