//! What a user asks the sandbox to do wrong, as typed values and as the JSON of `/_sandbox/faults`.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::span;
use crate::json::{self, Node};

/// Longest delay and outage: nobody tests for longer than a day.
const SPAN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest pause of a trickle: below the time after which a connection counts as idle.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Levels that the JSON may be nested; what is right has one.
const DEPTH_MAX: usize = 8;
/// Characters of a wrong value that its error repeats.
const SHOWN_MAX: usize = 80;

/// What goes wrong; the default is nothing.
///
/// Read from JSON by [`FromStr`], where an absent or `null` member keeps its default.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// Answers this status. Below 300 the event is taken as ever and only the status differs.
    pub status: Option<StatusCode>,
    /// Share of requests that meet the faults, from 0 to 1, evenly spread: 0.2 is each fifth one.
    /// `close_after` and `outage` concern every request.
    pub share: f64,
    /// `Retry-After` of fault answers; with no status, HTML or outage asked for, of a 503.
    pub retry_after: Option<RetryAfter>,
    /// How long an answer, or a reset, is held back.
    pub delay: Option<Duration>,
    /// Resets the connection in place of an answer.
    pub reset: Option<Reset>,
    /// The pause after each byte of the answer, its head included.
    pub trickle: Option<Duration>,
    /// Requests after which a connection is closed.
    pub close_after: Option<NonZeroU32>,
    /// Fault answers have an HTML body; with no status asked for, a 502.
    pub html: bool,
    /// How long, from now on, every request is answered with 503.
    pub outage: Option<Duration>,
}

/// What a `Retry-After` header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Seconds to wait.
    Seconds(u32),
    /// An HTTP date, as it will be sent.
    Date(String),
}

/// When a connection is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Before the body is read: the event is not taken.
    Before,
    /// After the body is read: the event is taken, and its sender cannot know.
    After,
}

/// Why faults were refused; those in force stay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultsError {
    /// No JSON object.
    #[error("faults are one JSON object, such as {{\"status\":503,\"share\":0.2}}")]
    NotAnObject,
    /// A member that there is not.
    #[error(
        "unknown member {member:?}: there are status, share, retry_after, delay, reset, trickle, \
         close_after, html and outage"
    )]
    Unknown {
        /// Its name.
        member: String,
    },
    /// A value that its member cannot have.
    #[error("{member} cannot be {value}: it is {expected}")]
    Invalid {
        /// The member.
        member: &'static str,
        /// The value, shortened.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            status: None,
            share: 1.0,
            retry_after: None,
            delay: None,
            reset: None,
            trickle: None,
            close_after: None,
            html: false,
            outage: None,
        }
    }
}

impl Reset {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

const STATUS: &str = "a status from 200 to 599";
const SHARE: &str = "a number from 0 to 1";
const RETRY_AFTER: &str = "whole seconds, or an HTTP date in a string";
const SPAN: &str = "a duration of at most 24 h, such as \"700 ms\", \"5 s\", \"2 m\" or \"1 h\"";
const PAUSE: &str = "a duration of at most 60 s, such as \"10 ms\" or \"1 s\"";
const RESET: &str = "\"before\" or \"after\"";
const CLOSE_AFTER: &str = "a whole number of requests, from 1";
const HTML: &str = "true or false";

impl FromStr for Faults {
    type Err = FaultsError;

    fn from_str(text: &str) -> Result<Self, FaultsError> {
        let document = json::parse(text.as_bytes(), DEPTH_MAX);
        let Ok(Node::Object(members)) = document else {
            return Err(FaultsError::NotAnObject);
        };
        let mut faults = Self::default();
        for (name, value) in &members {
            let read = faults.read(name, value);
            read.ok_or_else(|| FaultsError::Unknown { member: shorten(name) })??;
        }
        faults.check()?;
        Ok(faults)
    }
}

impl Faults {
    /// Takes one member in; nothing when there is none of that name.
    fn read(&mut self, name: &str, value: &Node<'_>) -> Option<Result<(), FaultsError>> {
        let given = !matches!(value, Node::Null);
        let read = match name {
            "status" => set(&mut self.status, given, status(value), ("status", STATUS)),
            "share" => {
                let mut share = None;
                let set = set(&mut share, given, number(value), ("share", SHARE));
                self.share = share.unwrap_or(1.0);
                set
            }
            "retry_after" => {
                let wait = retry_after(value);
                set(&mut self.retry_after, given, wait, ("retry_after", RETRY_AFTER))
            }
            "delay" => set(&mut self.delay, given, duration(value), ("delay", SPAN)),
            "reset" => set(&mut self.reset, given, reset(value), ("reset", RESET)),
            "trickle" => set(&mut self.trickle, given, duration(value), ("trickle", PAUSE)),
            "close_after" => {
                let requests = whole(value).and_then(NonZeroU32::new);
                set(&mut self.close_after, given, requests, ("close_after", CLOSE_AFTER))
            }
            "html" => {
                let mut html = None;
                let set = set(&mut html, given, flag(value), ("html", HTML));
                self.html = html.unwrap_or(false);
                set
            }
            "outage" => set(&mut self.outage, given, duration(value), ("outage", SPAN)),
            _ => return None,
        };
        Some(read.map_err(|(member, expected)| FaultsError::Invalid {
            member,
            value: show(value),
            expected,
        }))
    }

    /// Refuses values that the types allow and the sandbox does not.
    pub(super) fn check(&self) -> Result<(), FaultsError> {
        let wrong = |member, value, expected| Err(FaultsError::Invalid { member, value, expected });
        if let Some(status) = self.status
            && !(200..=599).contains(&status.as_u16())
        {
            return wrong("status", status.as_u16().to_string(), STATUS);
        }
        if !(0.0..=1.0).contains(&self.share) {
            return wrong("share", self.share.to_string(), SHARE);
        }
        if let Some(RetryAfter::Date(date)) = &self.retry_after
            && httpdate::parse_http_date(date).is_err()
        {
            return wrong("retry_after", format!("{:?}", shorten(date)), RETRY_AFTER);
        }
        let spans = [
            ("delay", self.delay, SPAN_MAX, SPAN),
            ("trickle", self.trickle, PAUSE_MAX, PAUSE),
            ("outage", self.outage, SPAN_MAX, SPAN),
        ];
        for (member, span, max, expected) in spans {
            if let Some(span) = span.filter(|span| *span > max) {
                return wrong(member, format!("{:?}", span::display(span)), expected);
            }
        }
        Ok(())
    }

    /// The JSON that asks for these faults.
    pub(super) fn to_json(&self) -> Value {
        let mut members = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                members.insert(name.to_owned(), value);
            }
        };
        let span = |span: Option<Duration>| span.map(|span| json!(span::display(span)));
        put("status", self.status.map(|status| json!(status.as_u16())));
        put("share", (self.share < 1.0).then(|| json!(self.share)));
        put("retry_after", self.retry_after.as_ref().map(RetryAfter::to_json));
        put("delay", span(self.delay));
        put("reset", self.reset.map(|reset| json!(reset.as_str())));
        put("trickle", span(self.trickle));
        put("close_after", self.close_after.map(|requests| json!(requests.get())));
        put("html", self.html.then(|| json!(true)));
        put("outage", span(self.outage));
        Value::Object(members)
    }
}

impl RetryAfter {
    fn to_json(&self) -> Value {
        match self {
            Self::Seconds(seconds) => json!(seconds),
            Self::Date(date) => json!(date),
        }
    }
}

/// Puts `value` into `slot`, or hands `names` back when a value was given and cannot be read.
fn set<T, N>(slot: &mut Option<T>, given: bool, value: Option<T>, names: N) -> Result<(), N> {
    if given && value.is_none() {
        return Err(names);
    }
    *slot = value;
    Ok(())
}

fn number(value: &Node<'_>) -> Option<f64> {
    match value {
        Node::Number(number) => Some(*number),
        Node::Null | Node::Bool(_) | Node::String(_) | Node::Array(_) | Node::Object(_) => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "cast only once it is known to be whole and within the range"
)]
fn whole(value: &Node<'_>) -> Option<u32> {
    let number = number(value)?;
    let fits = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    fits.then_some(number as u32)
}

fn flag(value: &Node<'_>) -> Option<bool> {
    match value {
        Node::Bool(flag) => Some(*flag),
        Node::Null | Node::Number(_) | Node::String(_) | Node::Array(_) | Node::Object(_) => None,
    }
}

fn status(value: &Node<'_>) -> Option<StatusCode> {
    StatusCode::from_u16(u16::try_from(whole(value)?).ok()?).ok()
}

fn retry_after(value: &Node<'_>) -> Option<RetryAfter> {
    match value.as_str() {
        Some(date) => Some(RetryAfter::Date(date.to_owned())),
        None => whole(value).map(RetryAfter::Seconds),
    }
}

fn duration(value: &Node<'_>) -> Option<Duration> {
    value.as_str().and_then(span::parse)
}

fn reset(value: &Node<'_>) -> Option<Reset> {
    [Reset::Before, Reset::After].into_iter().find(|at| Some(at.as_str()) == value.as_str())
}

fn show(value: &Node<'_>) -> String {
    match value {
        Node::Null => "null".to_owned(),
        Node::Bool(flag) => flag.to_string(),
        Node::Number(number) => number.to_string(),
        Node::String(text) => format!("{:?}", shorten(text)),
        Node::Array(_) => "an array".to_owned(),
        Node::Object(_) => "an object".to_owned(),
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<Faults>().unwrap_err().to_string()
    }

    #[test]
    fn every_member_is_read() {
        let text = r#"{"status":503,"share":0.2,"retry_after":5,"delay":"700 ms","reset":"before",
            "trickle":"10ms","close_after":100,"html":true,"outage":"20 s"}"#;
        let faults = Faults {
            status: Some(StatusCode::SERVICE_UNAVAILABLE),
            share: 0.2,
            retry_after: Some(RetryAfter::Seconds(5)),
            delay: Some(Duration::from_millis(700)),
            reset: Some(Reset::Before),
            trickle: Some(Duration::from_millis(10)),
            close_after: NonZeroU32::new(100),
            html: true,
            outage: Some(Duration::from_secs(20)),
        };
        assert_eq!(text.parse(), Ok(faults.clone()));
        assert_eq!(faults.to_json().to_string().parse(), Ok(faults));
    }

    #[test]
    fn nothing_asked_for_is_nothing_wrong() {
        let all_null = r#"{"status":null,"share":null,"html":null,"reset":null}"#;
        for text in ["{}", all_null] {
            assert_eq!(text.parse(), Ok(Faults::default()));
        }
        assert_eq!(Faults::default().to_json(), json!({}));
    }

    #[test]
    fn an_http_date_is_kept_as_written() {
        let date = "Sat, 21 Nov 2026 09:30:00 GMT";
        let faults: Faults = json!({ "retry_after": date }).to_string().parse().unwrap();
        assert_eq!(faults.retry_after, Some(RetryAfter::Date(date.to_owned())));
    }

    #[test]
    fn an_unknown_member_is_named() {
        assert!(refusal(r#"{"statu":503}"#).starts_with("unknown member \"statu\""));
        assert!(refusal(&format!(r#"{{"{}":1}}"#, "x".repeat(9000))).len() < 300);
    }

    #[test]
    fn a_wrong_value_is_named_with_its_member() {
        let cases = [
            (r#"{"status":99}"#, "status cannot be 99: it is a status"),
            (r#"{"status":600}"#, "status cannot be 600"),
            (r#"{"status":503.5}"#, "status cannot be 503.5"),
            (r#"{"status":"503"}"#, "status cannot be \"503\""),
            (r#"{"share":1.1}"#, "share cannot be 1.1: it is a number from 0 to 1"),
            (r#"{"share":-0.1}"#, "share cannot be -0.1"),
            (r#"{"retry_after":-1}"#, "retry_after cannot be -1"),
            (r#"{"retry_after":1.5}"#, "retry_after cannot be 1.5"),
            (r#"{"retry_after":"soon"}"#, "retry_after cannot be \"soon\""),
            (r#"{"delay":700}"#, "delay cannot be 700: it is a duration"),
            (r#"{"delay":"7 parsecs"}"#, "delay cannot be \"7 parsecs\""),
            (r#"{"trickle":"61 s"}"#, "trickle cannot be \"61 s\""),
            (r#"{"outage":"25 h"}"#, "outage cannot be \"25 h\""),
            (r#"{"reset":true}"#, "reset cannot be true: it is \"before\" or \"after\""),
            (r#"{"close_after":0}"#, "close_after cannot be 0"),
            (r#"{"html":"yes"}"#, "html cannot be \"yes\""),
            (r#"{"outage":[]}"#, "outage cannot be an array"),
        ];
        for (text, start) in cases {
            assert!(refusal(text).starts_with(start), "{text}: {}", refusal(text));
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "5", "[]", "{", r#"{"share":1,"share":0}"#] {
            assert_eq!(text.parse::<Faults>(), Err(FaultsError::NotAnObject), "{text}");
        }
    }
}
