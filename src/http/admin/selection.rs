//! Which dead letters an operator means.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::input::{bad, text, unknown};
use crate::clock::Timestamp;
use crate::event::{DestinationName, Event, EventKind};
use crate::forward::Forwarder;
use crate::http::problem::Problem;
use crate::json::Node;
use crate::schema::moment::Moment;
use crate::source::query_values;
use crate::spool::{Cause, DeadFilter, DeadLetter, DeliveryId};

/// What letters have in common; what is not said is anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Selection {
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<String>,
    /// Given up at this time or later, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    /// Given up before.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

impl Selection {
    /// The members of a filter.
    pub(super) const NAMES: [&str; 7] =
        ["destination", "kind", "reason", "publisher", "order_id", "since", "until"];

    /// Takes one member of a filter; `false` when it is none of its names.
    pub(super) fn set(
        &mut self,
        name: &str,
        value: &str,
        forwarders: &[std::sync::Arc<Forwarder>],
    ) -> Result<bool, Problem> {
        let one_of = |words: Vec<&str>| {
            if words.contains(&value) {
                return Ok(Some(value.to_owned()));
            }
            Err(bad(format!("{name:?} is none of {}", words.join(", "))))
        };
        let some = || {
            if value.is_empty() { Err(bad(format!("{name:?} is empty"))) } else { Ok(()) }
        };
        match name {
            "destination" => {
                let names = forwarders.iter().map(|one| one.name().as_str()).collect();
                self.destination = one_of(names)?;
            }
            "kind" => self.kind = one_of(EventKind::ALL.map(EventKind::as_str).to_vec())?,
            "reason" => self.reason = one_of(Cause::ALL.map(Cause::as_str).to_vec())?,
            "publisher" => {
                some()?;
                self.publisher = Some(value.to_owned());
            }
            "order_id" => {
                some()?;
                self.order_id = Some(value.to_owned());
            }
            "since" => self.since = Some(moment(name, value)?),
            "until" => self.until = Some(moment(name, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The filter of a body.
    pub(super) fn read(
        node: &Node<'_>,
        forwarders: &[std::sync::Arc<Forwarder>],
    ) -> Result<Self, Problem> {
        let Node::Object(members) = node else { return Err(bad("\"filter\" is not an object")) };
        let mut selection = Self::default();
        for (name, value) in members {
            let is_known = Self::NAMES.contains(&&**name);
            if !is_known || !selection.set(name, text(name, value)?, forwarders)? {
                return Err(unknown(name, &Self::NAMES));
            }
        }
        Ok(selection)
    }

    /// Whether it selects everything.
    pub(super) fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// As a predicate of letters that were given up at `by` or before.
    pub(super) fn filter(&self, by: Option<Timestamp>) -> DeadFilter {
        if self.is_all() && by.is_none() {
            return DeadFilter::all();
        }
        let selection = self.clone();
        let destination = selection.destination.as_deref().map(DestinationName::new);
        DeadFilter::new(move |letter| {
            by.is_none_or(|by| letter.died_at <= by)
                && destination.as_ref().is_none_or(|name| *name == letter.to)
                && selection.takes(letter)
        })
    }

    fn takes(&self, letter: &DeadLetter) -> bool {
        let (event, died) = (&letter.event, letter.died_at.as_millis());
        self.kind.as_ref().is_none_or(|kind| event.kind.as_str() == kind)
            && self.reason.as_ref().is_none_or(|reason| letter.refusal.cause.as_str() == reason)
            && self.since.is_none_or(|since| died >= since)
            && self.until.is_none_or(|until| died < until)
            && self.is_about(event)
    }

    /// Whether an event is of that publisher and that order: by its body, or of a publisher by the
    /// URL that the ad server gave. Last, for it is what costs.
    fn is_about(&self, event: &Event) -> bool {
        #[derive(Deserialize)]
        struct About {
            #[serde(default)]
            publisher_id: Value,
            #[serde(default)]
            order_id: Value,
        }
        if self.publisher.is_none() && self.order_id.is_none() {
            return true;
        }
        let in_query = |wanted: &str| {
            query_values(&event.target, "publisher_id").any(|id| id == wanted.as_bytes())
        };
        let none = About { publisher_id: Value::Null, order_id: Value::Null };
        let about = serde_json::from_slice::<About>(event.body.bytes()).unwrap_or(none);
        let is = |wanted: &Option<String>, value: &Value| match (wanted, value) {
            (None, _) => true,
            (Some(wanted), Value::String(text)) => wanted == text,
            (Some(wanted), Value::Number(number)) => *wanted == number.to_string(),
            (Some(_), Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => false,
        };
        let publisher = is(&self.publisher, &about.publisher_id)
            || self.publisher.as_deref().is_some_and(in_query);
        publisher && is(&self.order_id, &about.order_id)
    }

    /// For the audit and for status: what was selected, without values of bodies.
    pub(super) fn shown(&self) -> Value {
        let mut shown = json!({});
        let time = |millis: u64| Timestamp::from_millis(millis).to_string();
        let members = [
            ("destination", self.destination.clone()),
            ("kind", self.kind.clone()),
            ("reason", self.reason.clone()),
            ("publisher", self.publisher.clone()),
            ("order_id", self.order_id.as_ref().map(|_| "***".to_owned())),
            ("since", self.since.map(time)),
            ("until", self.until.map(time)),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                shown[name] = value.into();
            }
        }
        shown
    }
}

fn moment(name: &str, value: &str) -> Result<u64, Problem> {
    let millis = Moment::read(value).and_then(|moment| u64::try_from(moment.millis()).ok());
    millis.ok_or_else(|| bad(format!("{name:?} is no time: write it as 2026-11-21T09:30:00Z")))
}

/// The name of a letter.
pub(super) fn id(text: &str) -> Result<DeliveryId, Problem> {
    let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let id = text.parse().ok().filter(|_| is_number).map(DeliveryId);
    id.ok_or_else(|| bad("an id of a dead letter is the number that GET /api/dead tells"))
}
