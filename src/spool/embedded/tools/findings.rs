//! What a look found wrong, piece by piece.

use std::ops::Range;

/// One piece that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, from the directory on.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The sequences of the records that stood there; empty when none are known.
    pub sequences: Range<u64>,
    /// What is wrong.
    pub wrong: Wrong,
}

/// What can be wrong with a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Records do not pass their checksums.
    Records {
        /// Deliveries of them that were not settled.
        owed: u64,
    },
    /// The same, set aside by an earlier start or repair: nothing is left to do.
    SetAside,
    /// A commit that nobody was answered for breaks off, or bytes follow that no relay wrote.
    TornTail,
    /// One of the two copies of a segment's header.
    HeaderCopy,
    /// Both copies: nothing of the segment can be read in place.
    Header,
    /// The segment's file is not there, and something of it was owed.
    Vanished,
    /// Acknowledgements: what they told may be delivered again.
    Acknowledgements,
    /// The note of how far the logs are synced: the next start reads more.
    Note,
    /// `FORMAT` does not say what wrote the directory: no relay starts on it.
    Format,
    /// Dedupe keys; the next start sets them aside, or repair rebuilds them from the logs.
    Keys(String),
    /// Dedupe keys were not looked at, for the reason that is given.
    KeysUnseen(String),
    /// A file that is not the spool's.
    Stray,
}

impl Wrong {
    /// The stable word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Records { .. } => "damaged_records",
            Self::SetAside => "set_aside",
            Self::TornTail => "torn_tail",
            Self::HeaderCopy => "damaged_header_copy",
            Self::Header => "damaged_header",
            Self::Vanished => "vanished_file",
            Self::Acknowledgements => "damaged_acknowledgements",
            Self::Note => "damaged_note",
            Self::Format => "unreadable_format",
            Self::Keys(_) => "damaged_keys",
            Self::KeysUnseen(_) => "keys_not_checked",
            Self::Stray => "stray_file",
        }
    }

    /// What it means, for a person.
    #[must_use]
    pub fn meaning(&self) -> String {
        match self {
            Self::Records { owed: 0 } => "records are damaged; all were delivered".to_owned(),
            Self::Records { owed } => {
                let deliveries = if *owed == 1 { "delivery is" } else { "deliveries are" };
                format!("records are damaged; {owed} {deliveries} lost")
            }
            Self::SetAside => "damaged records, set aside in quarantine before".to_owned(),
            Self::TornTail => {
                "torn tail: bytes behind the last whole commit, which nobody was answered for"
                    .to_owned()
            }
            Self::HeaderCopy => "one copy of the header is damaged; the other serves".to_owned(),
            Self::Header => "both copies of the header are damaged".to_owned(),
            Self::Vanished => "the file is gone; what was owed of it is lost".to_owned(),
            Self::Acknowledgements => {
                "acknowledgements are damaged; what they told may be delivered again".to_owned()
            }
            Self::Note => "the note of what is synced is damaged; a start reads more".to_owned(),
            Self::Format => "the file does not say which format the directory has".to_owned(),
            Self::Keys(cause) => format!("dedupe keys cannot be read: {cause}"),
            Self::KeysUnseen(cause) => format!("dedupe keys were not checked: {cause}"),
            Self::Stray => "not the spool's".to_owned(),
        }
    }

    /// Whether it is damage, not a remark.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Records { .. }
            | Self::TornTail
            | Self::HeaderCopy
            | Self::Header
            | Self::Vanished
            | Self::Acknowledgements
            | Self::Note
            | Self::Format
            | Self::Keys(_) => true,
            Self::SetAside | Self::KeysUnseen(_) | Self::Stray => false,
        }
    }
}
