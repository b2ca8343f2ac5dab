//! A source: one way in, compiled from its table in the configuration.
//!
//! Everything here is a pure function of the received bytes; nothing waits and nothing is stored.

pub mod aliases;
pub mod auth;
pub mod by_url;
pub mod coding;
pub mod decode;
pub mod dedupe;
pub mod idempotency;
pub mod inflate;
pub mod items;
mod judge;
pub mod keep;
pub mod media;
pub mod names;
mod reject;
pub mod selector;
pub mod sent_at;
mod test_value;
mod utc;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use tokio::time::Instant;

use crate::caller::Caller;
use crate::clock::Timestamp;
use crate::event::{
    ClientHeaders, DedupeKey, DestinationName, Event, EventId, EventKind, Fingerprint, Scrubbed,
    SourceName,
};
use crate::json::spelling::Written;
use crate::json::{self, Node};
use crate::origin::Origins;
use crate::pii;
use crate::schema::lint::{self, Lint, Warnings};
use crate::schema::{Schema, Violations};
use crate::spool::{Lane, NewEvent};

use aliases::Aliases;
use auth::Auth;
use decode::Decoded;
use judge::Purpose;
use keep::Keep;
use media::Media;
use names::Names;
use selector::Parts;
use sent_at::SentAt;

pub use decode::{Decode, Get, PairsFault, query_values, segment};
pub use dedupe::{DedupeRule, Way};
pub use reject::Reject;
pub use selector::Selector;
pub use test_value::TestValue;

/// What a source's table says, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub name: SourceName,
    /// What its events tell.
    pub kind: EventKind,
    /// The path it listens on, with `{name}` for a segment of any content.
    pub path: String,
    /// How it knows its senders.
    pub auth: Auth,
    /// What it makes of its bodies.
    pub decode: Decode,
    /// What it makes of a GET.
    pub get: Get,
    /// How many items a request may bring.
    pub takes: Takes,
    /// How the members of its documents may be spelled.
    pub names: Names,
    /// What becomes of items that it cannot use.
    pub on_invalid: OnInvalid,
    /// The schema that its bodies must meet.
    pub schema: Arc<Schema>,
    /// Which publishers must say for which of their sites an order is.
    pub multi_site: Option<MultiSite>,
    /// Other names for what its clients send.
    pub aliases: Option<Aliases>,
    /// Whether an order's time is turned to UTC.
    pub utc: bool,
    /// Which members name a person, and become digests.
    pub pii: Option<Arc<pii::Profile>>,
    /// What its tests are known by.
    pub tests: Vec<TestValue>,
    /// How repeats are told.
    pub dedupe: Option<DedupeRule>,
    /// What an accepted event is answered with.
    pub answer: Answer,
    /// Longest wait for a durable answer, from the last byte of the body; of a notification from
    /// the request's head.
    pub answer_within: Duration,
    /// Where its events go.
    pub to: Vec<DestinationName>,
    /// Origins that an event's own URL may have: those to which all of `to` send it.
    pub event_origins: Origins,
    /// What of a client's request its destinations want to know.
    pub keep: Keep,
    /// What its events are awaited by, where they can be looked up.
    pub awaited: Option<Selector>,
}

/// Longer than anyone waits.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What becomes of items that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInvalid {
    /// Their sender is told, and mends them.
    Refuse,
    /// Their sender could mend nothing and would send them again: they are accepted, and kept as
    /// dead letters.
    DeadLetter,
}

/// How many items a request may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One.
    One,
    /// One, a JSON array of them, or one a line.
    Many,
}

/// Publishers with more than one site, of whom `brand` is required.
#[derive(Clone, Debug)]
pub struct MultiSite {
    /// Their ids.
    pub publishers: Vec<String>,
    /// The source's schema, with `brand` behind what it requires.
    pub schema: Arc<Schema>,
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
    /// Who sent it.
    pub caller: Caller,
    /// What its sender's own clock said.
    pub sent_at: SentAt,
    /// What any source keeps of its headers, or looks at.
    pub headers: ClientHeaders,
}

/// One item's bytes as they were written: content codings are undone.
#[derive(Clone)]
pub struct Raw {
    /// The bytes.
    pub body: Bytes,
    /// What they are said to be.
    pub media: Media,
}

/// An item that may be stored.
#[derive(Debug)]
pub struct Admitted {
    /// What to store.
    pub event: NewEvent,
    /// What its sender may not have meant.
    pub warnings: Warnings,
    /// Why it is of no use, and was accepted all the same to be kept.
    pub unusable: Option<Reject>,
    /// What it may be awaited by.
    pub awaited: Option<String>,
}

/// What a caller who only asks has in hand; the first source of such a kind answers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An order.
    Conversion,
    /// An ad event, which all have one schema.
    Beacon,
}

impl Subject {
    /// Whether events of `kind` are such.
    #[must_use]
    pub const fn is_of(self, kind: EventKind) -> bool {
        match kind {
            EventKind::Conversion => matches!(self, Self::Conversion),
            EventKind::Impression | EventKind::View | EventKind::Click => {
                matches!(self, Self::Beacon)
            }
            EventKind::Notification => false,
        }
    }
}

impl Settings {
    /// When a request must be answered, of which head and body came at these times. A partner's
    /// time runs while its body does; a client on a slow line has its own, of the body alone.
    #[must_use]
    pub fn answer_by(&self, head: Instant, body: Instant) -> Instant {
        let since = match self.kind {
            EventKind::Notification => head,
            EventKind::Conversion => body,
            EventKind::Impression | EventKind::View | EventKind::Click => body,
        };
        // Beyond what a clock can tell nobody waits.
        since.checked_add(self.answer_within).unwrap_or(since + FAR)
    }
}

impl Source {
    /// The source of `settings`, whose bodies nest at most `depth_max` levels.
    #[must_use]
    pub const fn new(settings: Settings, depth_max: usize) -> Self {
        Self { settings, depth_max }
    }

    /// The same source for what the relay itself asked a partner for: nobody signs that, and what
    /// cannot be used is no letter of anyone's.
    #[must_use]
    pub fn vouched(&self) -> Self {
        let (auth, on_invalid) = (Auth::Own(Vec::new()), OnInvalid::Refuse);
        let settings = Settings { auth, on_invalid, ..self.settings.clone() };
        Self { settings, depth_max: self.depth_max }
    }

    /// What its table says.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether a target's query says enough of who it was for an empty body.
    #[must_use]
    pub fn is_told_by_query(&self, target: &[u8]) -> bool {
        let members = self.settings.schema.members();
        match self.settings.decode {
            Decode::Json | Decode::JsonOrForm => false,
            // What cannot be read is told when the event is judged.
            Decode::Beacon => !matches!(decode::from_query(target, members), Ok(None)),
        }
    }

    /// The key of an order of which only these are known; nothing when a key is made of more.
    #[must_use]
    pub fn key_of_order(&self, publisher_id: &str, order_id: &str) -> Option<DedupeKey> {
        let member = |name, value| (Cow::Borrowed(name), Node::String(Cow::Borrowed(value)));
        let order =
            Node::Object(vec![member("publisher_id", publisher_id), member("order_id", order_id)]);
        let rule = self.settings.dedupe.as_ref()?;
        // The path that all orders come to, though none of the usual keys is made of it.
        let parts = Parts {
            pattern: &self.settings.path,
            target: self.settings.path.as_bytes(),
            headers: &ClientHeaders::default(),
            document: Some(Written { root: &order, text: &[] }),
            bytes: &[],
        };
        Some(rule.of(&self.settings.name, &parts, &[])?.key)
    }

    /// Names of the members in which an event differs from the one that took its key first.
    #[must_use]
    pub fn conflict(&self, first: &Fingerprint, own: &Fingerprint) -> Vec<&str> {
        dedupe::conflict(first, own, self.settings.schema.members())
    }

    /// Judges one item. The same bytes always meet the same end.
    ///
    /// # Errors
    /// [`Reject`], for the caller to mend.
    pub fn admit(&self, received: &Received, raw: &Raw) -> Result<Admitted, Reject> {
        match self.usable(received, raw) {
            Err(reject) if self.keeps(received, raw, &reject) => {
                Ok(self.unusable(received, raw, reject))
            }
            judged => judged,
        }
    }

    fn usable(&self, received: &Received, raw: &Raw) -> Result<Admitted, Reject> {
        self.judge(received, raw, Purpose::Store, |sent, document, warnings| {
            let schema = &self.settings.schema;
            let dedupe = self.settings.dedupe.as_ref();
            // An empty text is that of an item whose query spoke for it, in which nothing is a number.
            let written = Written { root: document, text: &sent };
            let parts = self.parts(received, raw, Some(written));
            let name = &self.settings.name;
            let dedupe = dedupe.and_then(|rule| rule.of(name, &parts, schema.members()));
            let awaited = self.settings.awaited.as_ref().and_then(|one| one.text(&parts));
            let awaited = awaited.and_then(|id| String::from_utf8(id.into_owned()).ok());
            let event = self.event(received, pii::passed(sent, document), None);
            Admitted { event: NewEvent { dedupe, ..event }, warnings, unusable: None, awaited }
        })
    }

    /// Whether a refused item is accepted to be kept: never one whose sender is not known.
    fn keeps(&self, received: &Received, raw: &Raw, reject: &Reject) -> bool {
        match self.settings.on_invalid {
            OnInvalid::Refuse => return false,
            OnInvalid::DeadLetter => {}
        }
        match reject {
            Reject::Syntax(_) | Reject::Pairs(_) => {
                self.settings.auth.is_signed(&self.parts(received, raw, None))
            }
            // Its signature was looked at before its schema.
            Reject::Invalid(_) => true,
            Reject::Unauthorized | Reject::TooLarge { .. } | Reject::Publisher => false,
            Reject::EventUrl(_) | Reject::SourceNotAllowed => false,
        }
    }

    /// An item as it came, with what is wrong with it.
    fn unusable(&self, received: &Received, raw: &Raw, mut reject: Reject) -> Admitted {
        let fault = reject.in_words();
        let event = self.event(received, pii::unread(raw.body.clone()), Some(fault));
        let (warnings, unusable) = (Warnings::default(), Some(reject));
        Admitted { event, warnings, unusable, awaited: None }
    }

    /// An event that is always new.
    fn event(&self, received: &Received, body: Scrubbed, fault: Option<Bytes>) -> NewEvent {
        let event = Event {
            id: EventId::new(received.at),
            source: self.settings.name.clone(),
            kind: self.settings.kind,
            target: received.target.clone(),
            accepted_at: received.at,
            body,
            headers: self.settings.keep.only(&received.headers),
            fault,
        };
        NewEvent {
            event: Arc::new(event),
            to: self.settings.to.clone(),
            dedupe: None,
            lane: Lane::Live,
        }
    }

    /// Judges one item as [`Source::admit`] does, for a caller who only asks.
    ///
    /// # Errors
    /// The same.
    pub fn validate(&self, received: &Received, raw: &Raw) -> Result<Warnings, Reject> {
        self.judge(received, raw, Purpose::Ask, |_sent, _document, warnings| warnings)
    }

    /// The headers that it looks at, in the order of their weight.
    pub fn reads(&self) -> impl Iterator<Item = HeaderName> {
        let Settings { auth, dedupe, .. } = &self.settings;
        let selectors = auth.selectors().chain(dedupe.iter().flat_map(DedupeRule::selectors));
        let selected = selectors.filter_map(Selector::header);
        auth.headers().chain(selected).cloned()
    }

    fn parts<'p>(
        &'p self,
        received: &'p Received,
        raw: &'p Raw,
        document: Option<Written<'p>>,
    ) -> Parts<'p> {
        Parts {
            pattern: &self.settings.path,
            target: &received.target,
            headers: &received.headers,
            document,
            bytes: &raw.body,
        }
    }

    fn decoded(&self, received: &Received, raw: &Raw) -> Result<Decoded, Reject> {
        let members = self.settings.schema.members();
        decode::decode(self.settings.decode, members, received, raw).map_err(Reject::Pairs)
    }

    fn parsed<'b>(&self, body: &'b [u8]) -> Result<Node<'b>, Reject> {
        let mut document = self.parsed_as_written(body)?;
        self.settings.names.read(&mut document, self.settings.schema.members());
        Ok(document)
    }

    fn parsed_as_written<'b>(&self, body: &'b [u8]) -> Result<Node<'b>, Reject> {
        json::parse(body, self.depth_max).map_err(Reject::Syntax)
    }

    /// The warnings of a document that meets the schema, of which `others` finds nothing to tell,
    /// and whose caller may send it. What others tell comes behind what the schema tells.
    fn checked(
        &self,
        received: &Received,
        document: &Node<'_>,
        others: impl FnOnce(&mut Violations),
    ) -> Result<Warnings, Reject> {
        let schema = self.schema_of(document);
        let mut violations =
            if schema.is_valid(document) { Violations::default() } else { schema.check(document) };
        others(&mut violations);
        if violations.is_empty() {
            self.spoken_for(received, document)?;
            Ok(self.lint(received, document))
        } else {
            Err(Reject::Invalid(violations))
        }
    }

    /// Whether the caller may speak for the publisher that an item names. An order that names none
    /// has no business with a client that may not speak for all. An ad event names its publisher in
    /// the URL that the ad server gave, if anywhere.
    fn spoken_for(&self, received: &Received, document: &Node<'_>) -> Result<(), Reject> {
        let publishers = &received.caller.publishers;
        if publishers.is_any() {
            return Ok(());
        }
        let named = document.get("publisher_id");
        let in_body = named.map(|named| named.as_str().is_some_and(|id| publishers.covers(id)));
        let may = match self.settings.kind {
            EventKind::Conversion => in_body.unwrap_or(false),
            EventKind::Impression | EventKind::View | EventKind::Click => {
                let covers = |id: Vec<u8>| {
                    String::from_utf8(id).is_ok_and(|id| publishers.covers(id.as_str()))
                };
                in_body.unwrap_or(true)
                    && query_values(&received.target, "publisher_id").all(covers)
            }
            EventKind::Notification => in_body.unwrap_or(true),
        };
        if may { Ok(()) } else { Err(Reject::Publisher) }
    }

    /// The schema that a document must meet, which its publisher may decide.
    fn schema_of(&self, document: &Node<'_>) -> &Schema {
        let Some(multi_site) = &self.settings.multi_site else { return &self.settings.schema };
        let publisher = document.get("publisher_id").and_then(Node::as_str);
        let is_one = publisher.is_some_and(|id| multi_site.publishers.iter().any(|one| one == id));
        if is_one { &multi_site.schema } else { &self.settings.schema }
    }

    fn lint(&self, received: &Received, document: &Node<'_>) -> Warnings {
        // A request's path and query are ASCII, or they are nothing that a lint could read.
        let target = std::str::from_utf8(&received.target).unwrap_or_default();
        let kind = self.settings.kind;
        let clock = received.sent_at.clock(received.at);
        let mut warnings = lint::lint(kind, document, target, clock);
        if kind == EventKind::Conversion && !received.sent_at.is_usable(received.at) {
            warnings.of_request(Lint::SentAtUnusable);
        }
        if self.settings.tests.iter().any(|one| one.is_in(document)) {
            warnings.of_request(Lint::TestValue);
        }
        warnings
    }
}

/// Says the size alone: a body never reaches a log by way of `{:?}`.
impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes as {:?}", self.body.len(), self.media)
    }
}
