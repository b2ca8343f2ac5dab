//! A dry run: what the relay of this configuration would say of an order.

use bytes::Bytes;

use super::outcome::Told;
use crate::caller::Caller;
use crate::cli::Refused;
use crate::clock::Clock;
use crate::config::Plan;
use crate::event::{ClientHeaders, EventKind};
use crate::http::problem::Problem;
use crate::source::media::Media;
use crate::source::sent_at::SentAt;
use crate::source::{Raw, Received, Reject, Source};

/// Judges orders; nothing is sent or stored.
pub(super) struct Judge {
    source: Source,
    caller: Caller,
    /// Whether an order held raw identity that nobody may send.
    is_raw_refused: bool,
    clock: Clock,
    body_bytes_max: usize,
}

impl Judge {
    /// Judges as the first source of orders does. Raw identity may be there `with_key`, or when a
    /// client of the configuration may send it.
    pub(super) fn new(plan: Plan, with_key: bool) -> Result<Self, Refused> {
        let body_bytes_max = plan.server.requests.body.bytes_max;
        let found = plan.sources.into_iter().find(|source| source.kind == EventKind::Conversion);
        let found = found.ok_or_else(|| {
            Refused("no source of kind conversion is configured, so there is no schema".to_owned())
        })?;
        let takes_raw = with_key || plan.access.takes_raw_identity(&found.name);
        let source = Source::new(found, plan.server.depth_max);
        let caller = Caller::terminal(takes_raw);
        Ok(Self { source, caller, is_raw_refused: false, clock: Clock::system(), body_bytes_max })
    }

    /// What would become of an order, as the relay would tell it.
    pub(super) fn ask(&mut self, index: usize, body: &Bytes) -> Told {
        let received = Received {
            target: Bytes::new(),
            at: self.clock.now(),
            caller: self.caller.clone(),
            sent_at: SentAt::Unsaid,
            headers: ClientHeaders::default(),
        };
        let raw = |json: &[u8]| {
            let json = String::from_utf8_lossy(json).into_owned();
            serde_json::value::RawValue::from_string(json).ok()
        };
        let verdict = if body.len() > self.body_bytes_max {
            Err(Reject::TooLarge { most: self.body_bytes_max })
        } else {
            self.source.validate(&received, &Raw { body: body.clone(), media: Media::Json })
        };
        match verdict {
            Ok(warnings) => {
                let warnings = raw(warnings.to_json().as_bytes());
                Told { index, status: 202, warnings, ..Told::default() }
            }
            Err(reject) => match Problem::of(reject) {
                Ok(problem) => {
                    let code = problem.code();
                    let (status, code) = (code.status().as_u16(), code.as_str().to_owned());
                    Told { index, status, code: Some(code), ..Told::default() }
                }
                Err(violations) => {
                    let is_refused = violations.iter().any(|one| one.keyword() == "false schema");
                    self.is_raw_refused |= is_refused && !self.caller.raw_identity;
                    let errors = raw(&violations.to_json());
                    Told { index, status: 422, errors, ..Told::default() }
                }
            },
        }
    }

    /// What else there is to say of what was refused.
    pub(super) fn remedy(&self) -> Option<&'static str> {
        self.is_raw_refused.then_some(
            "raw identity is refused: no client with a key may post orders by this configuration; \
             --key-env NAME judges as for one that may",
        )
    }
}
