//! Why an item was refused, and how that is told of one that is kept all the same.

use bytes::Bytes;

use super::by_url::EventUrlFault;
use super::decode::PairsFault;
use crate::event::Event;
use crate::json::JsonFault;
use crate::schema::Violations;

/// Why an item was refused; sending it again changes nothing.
#[derive(Debug)]
pub enum Reject {
    /// It is not signed as its source's items must be.
    Unauthorized,
    /// It is not one JSON document.
    Syntax(JsonFault),
    /// It is a form, or spoken for by a query, that cannot become a document.
    Pairs(PairsFault),
    /// It is one of many, and larger than one may be.
    TooLarge {
        /// Bytes that one may have.
        most: usize,
    },
    /// It breaks the schema.
    Invalid(Violations),
    /// It is of a publisher that its caller may not speak for.
    Publisher,
    /// It names a URL to which nothing is sent.
    EventUrl(EventUrlFault),
    /// Its caller may not post to the source that its URL leads to.
    SourceNotAllowed,
}

/// Errors that are kept of an item that is.
const FAULTS_KEPT: usize = 16;

impl Reject {
    /// What is wrong, without any value: errors as JSON, the first of many, or a sentence.
    pub(super) fn in_words(&mut self) -> Bytes {
        let words = match self {
            Self::Syntax(fault) => fault.to_string().into(),
            Self::Pairs(fault) => fault.to_string().into(),
            Self::Invalid(violations) => {
                violations.keep(FAULTS_KEPT, Event::FAULT_BYTES_MAX / 4);
                violations.to_json()
            }
            Self::Unauthorized | Self::TooLarge { .. } | Self::Publisher => Bytes::new(),
            Self::EventUrl(_) | Self::SourceNotAllowed => Bytes::new(),
        };
        if words.len() > Event::FAULT_BYTES_MAX {
            return Bytes::from_static(b"its errors are too long to be kept");
        }
        words
    }
}

impl From<EventUrlFault> for Reject {
    fn from(fault: EventUrlFault) -> Self {
        Self::EventUrl(fault)
    }
}
