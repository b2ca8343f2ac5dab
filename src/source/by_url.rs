//! An ad event that names the URL it is for: `{"event_url": "<as the ad server gave it>", …}`.
//!
//! The URL travels as it was given; the other members are the event's body. It decides which source
//! judges the event, and must lead where that source's events may go: who could name any URL could
//! make the relay call any server.

use std::sync::Arc;

use bytes::Bytes;

use super::media::Media;
use super::{Raw, Reject, Source};
use crate::event::EventKind;
use crate::json::{self, Node, members};
use crate::origin::{EventUrl, UrlFault};
use crate::schema::Schema;

/// The member that names the URL.
pub const MEMBER: &str = "event_url";

/// The schema of what holds such a URL.
pub const SCHEMA: &str = include_str!("../../config/schemas/event-by-url.json");

/// Why an event is not sent to the URL that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventUrlFault {
    /// It cannot be read.
    #[error("event_url {0}")]
    Url(#[from] UrlFault),
    /// No source takes such a path.
    #[error("event_url has not the path of an impression, a view or a click")]
    Path,
    /// Its origin is not one that the source's events may go to.
    #[error("event_url has an origin that events are not sent to")]
    Origin,
}

/// An event, and where it goes.
#[derive(Clone, Debug)]
pub struct ByUrl {
    /// Who judges it, among those that were given.
    pub source: usize,
    /// The URL, as an event keeps it.
    pub target: Bytes,
    /// The body.
    pub raw: Raw,
}

/// Reads events that name their URL.
#[derive(Debug)]
pub struct Reader {
    schema: Schema,
    sources: Vec<Arc<Source>>,
    depth_max: usize,
}

impl Reader {
    /// A reader of events for those of `sources` that take ad events; nothing without any.
    ///
    /// # Panics
    /// Never: the schema is the program's own, and a test compiles it.
    #[must_use]
    pub fn new(sources: &[Arc<Source>], depth_max: usize) -> Option<Self> {
        let ad_events = sources.iter().filter(|source| match source.settings().kind {
            EventKind::Impression | EventKind::View | EventKind::Click => true,
            EventKind::Conversion | EventKind::Notification => false,
        });
        let sources: Vec<Arc<Source>> = ad_events.cloned().collect();
        let schema = Schema::compile("event-by-url.json", SCHEMA).expect("it is the program's own");
        (!sources.is_empty()).then_some(Self { schema, sources, depth_max })
    }

    /// The sources that take ad events.
    #[must_use]
    pub fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    /// Parts one item into its URL and its body.
    ///
    /// # Errors
    /// [`Reject`], for the caller to mend.
    pub fn read(&self, item: &Raw) -> Result<ByUrl, Reject> {
        let text = item.body.slice_ref(json::without_boms(&item.body));
        let document = json::parse(&text, self.depth_max).map_err(Reject::Syntax)?;
        let Some(url) = document.get(MEMBER).and_then(Node::as_str) else {
            return Err(Reject::Invalid(self.schema.check(&document)));
        };
        let url = EventUrl::parse(url).map_err(EventUrlFault::Url)?;
        let place = self.source_of(&url)?;
        let target = url.absolute();
        // A member was found, so it is there to be taken out.
        let rest = members::without(&text, MEMBER).unwrap_or_default();
        let is_bare = matches!(&document, Node::Object(members) if members.len() == 1);
        // As a pixel's: nothing is a body when the URL says who it was.
        let is_told = is_bare && self.sources[place].is_told_by_query(&target);
        let body = if is_told { Bytes::new() } else { rest.into() };
        Ok(ByUrl { source: place, target, raw: Raw { body, media: Media::Json } })
    }

    fn source_of(&self, url: &EventUrl) -> Result<usize, EventUrlFault> {
        let path = url.target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let fits = |source: &Arc<Source>| is_of(path, &source.settings().path);
        let place = self.sources.iter().position(fits).ok_or(EventUrlFault::Path)?;
        if self.sources[place].settings().event_origins.contain(&url.origin) {
            Ok(place)
        } else {
            Err(EventUrlFault::Origin)
        }
    }
}

/// Whether `path` is one of `pattern`, in which `{name}` stands for a segment of any content but
/// one that a server behind could read as a way to another path.
fn is_of(path: &[u8], pattern: &str) -> bool {
    let mut given = path.split(|byte| *byte == b'/');
    let mut wanted = pattern.split('/');
    loop {
        match (given.next(), wanted.next()) {
            (None, None) => return true,
            (Some(given), Some(wanted)) if wanted.starts_with('{') => {
                if given.is_empty() || is_way_out(given) {
                    return false;
                }
            }
            (Some(given), Some(wanted)) if given == wanted.as_bytes() => {}
            (_, _) => return false,
        }
    }
}

/// Whether a segment, decoded up to twice as careless servers do, has a step `.` or `..`.
fn is_way_out(segment: &[u8]) -> bool {
    let once = super::decode::percent_decoded(segment);
    let twice = super::decode::percent_decoded(&once);
    [segment, &once, &twice].iter().any(|text| {
        let mut steps = text.split(|byte| matches!(byte, b'/' | b'\\'));
        text.contains(&b'\\') || steps.any(|step| matches!(step, b"." | b".."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_of_a_pattern_segment_by_segment() {
        let pattern = "/{version}/beacon/click/{ad_id}";
        let fits = [
            "/v1/beacon/click/a1",
            "/v134-beta/beacon/click/%7Bx%7D",
            "/v2.1/beacon/click/a.b..c",
            "/v1/beacon/click/%zz",
        ];
        for path in fits {
            assert!(is_of(path.as_bytes(), pattern), "{path}");
        }
        let others = [
            "/",
            "/v1/beacon/click",
            "/v1/beacon/click/",
            "/v1/beacon/click/a/b",
            "//beacon/click/a",
            "/v1//beacon/click/a",
            "/v1/beacon/Click/a",
            "/v1/beacon/view/a",
            "/v1/be%61con/click/a",
            "/v1/beacon/click/..",
            "/../beacon/click/a",
            "/v1/beacon/click/%2e%2E",
            "/v1/beacon/click/%252e",
            "/v1/beacon/click/a%2f..%2f..%2fadmin",
            "/v1/beacon/click/a%5c..",
            "/v1/beacon/click/a\\b",
        ];
        for path in others {
            assert!(!is_of(path.as_bytes(), pattern), "{path}");
        }
    }

    #[test]
    fn the_schema_asks_for_a_text() {
        let schema = Schema::compile("event-by-url.json", SCHEMA).unwrap();
        let told = |body: &[u8]| {
            let violations = schema.check(&json::parse(body, 8).unwrap());
            violations.iter().map(|one| one.keyword().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(told(b"{}"), ["required"]);
        assert_eq!(told(br#"{"event_url":1}"#), ["type"]);
        assert_eq!(told(b"null"), ["type"]);
        assert_eq!(told(br#"{"event_url":"x"}"#), [""; 0]);
    }
}
