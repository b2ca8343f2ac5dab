//! A source: one way in, compiled from its table in the configuration.
//!
//! Everything here is a pure function of the received bytes; nothing waits and nothing is stored.

pub mod dedupe;
pub mod media;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::event::{DestinationName, Event, EventId, EventKind, SourceName};
use crate::json::{self, JsonFault};
use crate::pii;
use crate::schema::{Schema, Violations};
use crate::spool::{Lane, NewEvent};

pub use dedupe::{DedupeRule, Selector};

/// What a source's table says, checked.
#[derive(Debug)]
pub struct Settings {
    /// Its name.
    pub name: SourceName,
    /// What its events tell.
    pub kind: EventKind,
    /// The path it listens on, with `{name}` for a segment of any content.
    pub path: String,
    /// The schema that its bodies must meet.
    pub schema: Arc<Schema>,
    /// How repeats are told.
    pub dedupe: Option<DedupeRule>,
    /// What an accepted event is answered with.
    pub answer: Answer,
    /// Longest wait for a durable answer.
    pub answer_within: Duration,
    /// Where its events go.
    pub to: Vec<DestinationName>,
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: http::StatusCode,
    /// The body; JSON unless it is empty.
    pub body: Bytes,
}

/// One way in.
#[derive(Debug)]
pub struct Source {
    settings: Settings,
    depth_max: usize,
}

/// Envelope facts of one request.
#[derive(Clone, Debug)]
pub struct Received {
    /// Path and query byte for byte as received.
    pub target: Bytes,
    /// When.
    pub at: Timestamp,
}

/// One item's bytes, as they came.
#[derive(Clone, Debug)]
pub struct Raw(pub Bytes);

/// Why an item was refused; sending it again changes nothing.
#[derive(Debug)]
pub enum Reject {
    /// It is not one JSON document.
    Syntax(JsonFault),
    /// It breaks the schema.
    Invalid(Violations),
}

impl Source {
    /// The source of `settings`, whose bodies nest at most `depth_max` levels.
    #[must_use]
    pub const fn new(settings: Settings, depth_max: usize) -> Self {
        Self { settings, depth_max }
    }

    /// What its table says.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Judges one item. The same bytes always meet the same end.
    ///
    /// # Errors
    /// [`Reject`], for the caller to mend.
    pub fn admit(&self, received: &Received, raw: &Raw) -> Result<NewEvent, Reject> {
        let body = raw.0.slice_ref(json::without_bom(&raw.0));
        let document = json::parse(&body, self.depth_max).map_err(Reject::Syntax)?;
        let schema = &self.settings.schema;
        if !schema.is_valid(&document) {
            return Err(Reject::Invalid(schema.check(&document)));
        }
        let dedupe = self.settings.dedupe.as_ref();
        let dedupe =
            dedupe.and_then(|rule| rule.of(&self.settings.name, &document, schema.members()));
        let event = Event {
            id: EventId::new(received.at),
            source: self.settings.name.clone(),
            kind: self.settings.kind,
            target: received.target.clone(),
            accepted_at: received.at,
            body: pii::passed(body),
        };
        Ok(NewEvent {
            event: Arc::new(event),
            to: self.settings.to.clone(),
            dedupe,
            lane: Lane::Live,
        })
    }
}
