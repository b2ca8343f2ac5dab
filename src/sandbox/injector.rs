//! Decides which request meets which fault.

use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::faults::{Faults, Reset, RetryAfter};
use super::span;
use crate::clock::Timestamp;

/// Shares are counted in billionths: with whole numbers 0.29 of 100 requests is 29, not 28.
const WHOLE: u64 = 1_000_000_000;

/// The faults in force and how far they are.
#[derive(Debug, Default)]
pub(super) struct Injector {
    faults: Faults,
    share: u64,
    seen: u64,
    outage_until: Option<Timestamp>,
}

/// What one request meets.
#[derive(Debug, Default)]
pub(super) struct Strike {
    /// Answer this in place of 202.
    pub(super) status: Option<StatusCode>,
    /// Send this with it.
    pub(super) retry_after: Option<HeaderValue>,
    /// Answer in HTML.
    pub(super) html: bool,
    /// Wait before.
    pub(super) delay: Option<Duration>,
    /// Reset the connection instead.
    pub(super) reset: Option<Reset>,
    /// Pause after each byte.
    pub(super) trickle: Option<Duration>,
    /// Close the connection at this many requests.
    pub(super) close_after: Option<NonZeroU32>,
    /// Names of the faults above that certainly act, for the record.
    pub(super) names: Vec<&'static str>,
}

impl Injector {
    /// Puts `faults`, already checked, in force from `now` on, in place of all before.
    pub(super) fn replace(&mut self, faults: Faults, now: Timestamp) {
        let outage_until = faults.outage.map(|span| now.after(span));
        *self = Self { share: billionths(faults.share), faults, seen: 0, outage_until };
    }

    /// What the next request meets.
    pub(super) fn strike(&mut self, now: Timestamp) -> Strike {
        let outage = self.outage_until.is_some_and(|until| now < until);
        let hit = self.next_is_hit();
        let faults = &self.faults;
        let status = match (outage, hit) {
            (true, _) => Some(StatusCode::SERVICE_UNAVAILABLE),
            (false, true) => faults.status_of_hit(),
            (false, false) => None,
        };
        let mut strike = Strike { close_after: faults.close_after, status, ..Strike::default() };
        if outage || hit {
            strike.html = faults.html;
            strike.retry_after = faults.retry_after.as_ref().and_then(RetryAfter::to_header);
        }
        if hit {
            strike.delay = faults.delay;
            strike.reset = faults.reset;
            strike.trickle = faults.trickle.filter(|pause| !pause.is_zero());
        }
        let acting = [
            ("outage", outage),
            ("status", status.is_some() && !outage),
            ("delay", strike.delay.is_some()),
            ("reset", strike.reset.is_some()),
            ("trickle", strike.trickle.is_some()),
        ];
        strike.names.extend(acting.iter().filter(|(_, acts)| *acts).map(|(name, _)| *name));
        strike
    }

    /// Spreads the hits evenly by counting: of the first `n` requests `floor(n * share)` are hit.
    fn next_is_hit(&mut self) -> bool {
        let hits =
            |requests: u64| u128::from(requests) * u128::from(self.share) / u128::from(WHOLE);
        let hit = hits(self.seen.saturating_add(1)) > hits(self.seen);
        self.seen = self.seen.saturating_add(1);
        hit
    }

    /// The faults as JSON, an outage with the time that is left of it.
    pub(super) fn to_json(&self, now: Timestamp) -> Value {
        let mut shown = self.faults.to_json();
        if let (Some(until), Value::Object(members)) = (self.outage_until, &mut shown) {
            let left = until.since(now);
            if left.is_zero() {
                members.shift_remove("outage");
            } else {
                members.insert("outage".to_owned(), json!(span::display(left)));
            }
        }
        shown
    }
}

impl Faults {
    fn status_of_hit(&self) -> Option<StatusCode> {
        let bad_gateway = || self.html.then_some(StatusCode::BAD_GATEWAY);
        // Beside an outage the wait belongs to the outage's answers, and says nothing of others.
        let wait_alone = self.retry_after.is_some() && self.outage.is_none();
        let unavailable = || wait_alone.then_some(StatusCode::SERVICE_UNAVAILABLE);
        self.status.or_else(bad_gateway).or_else(unavailable)
    }
}

impl RetryAfter {
    fn to_header(&self) -> Option<HeaderValue> {
        match self {
            Self::Seconds(seconds) => Some(HeaderValue::from(*seconds)),
            Self::Date(date) => HeaderValue::from_str(date).ok(),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share was checked to be from 0 to 1"
)]
fn billionths(share: f64) -> u64 {
    (share * WHOLE as f64).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn injector(faults: &str) -> Injector {
        let mut injector = Injector::default();
        injector.replace(faults.parse().unwrap(), NOW);
        injector
    }

    fn statuses(faults: &str, requests: usize) -> Vec<u16> {
        let mut injector = injector(faults);
        let status = |strike: Strike| strike.status.map_or(202, |status| status.as_u16());
        (0..requests).map(|_| status(injector.strike(NOW))).collect()
    }

    #[test]
    fn nothing_goes_wrong_by_itself() {
        let strike = Injector::default().strike(NOW);
        assert!(strike.names.is_empty() && strike.status.is_none() && strike.delay.is_none());
    }

    #[test]
    fn a_share_is_exact_and_evenly_spread() {
        assert_eq!(
            statuses(r#"{"status":500,"share":0.25}"#, 8),
            [202, 202, 202, 500, 202, 202, 202, 500]
        );
        for percent in 0..=100_usize {
            let faults = json!({ "status": 500, "share": percent as f64 / 100.0 }).to_string();
            let hits = statuses(&faults, 300).iter().filter(|status| **status == 500).count();
            assert_eq!(hits, 3 * percent, "{percent} %");
        }
    }

    #[test]
    fn a_status_that_was_not_given_follows_from_the_rest() {
        assert_eq!(statuses(r#"{"html":true}"#, 1), [502]);
        assert_eq!(statuses(r#"{"html":true,"status":500}"#, 1), [500]);
        assert_eq!(statuses(r#"{"retry_after":5}"#, 1), [503]);
        assert_eq!(statuses(r#"{"delay":"1 s"}"#, 1), [202]);
        assert_eq!(statuses(r#"{"retry_after":5,"outage":"0 s"}"#, 1), [202]);
    }

    #[test]
    fn an_outage_strikes_all_until_it_ends() {
        let mut injector = injector(r#"{"outage":"20 s","share":0,"retry_after":5,"delay":"1 s"}"#);
        let last = NOW.after(Duration::from_millis(19_999));
        for now in [NOW, last] {
            let strike = injector.strike(now);
            assert_eq!(strike.status, Some(StatusCode::SERVICE_UNAVAILABLE));
            assert_eq!(strike.retry_after, Some(HeaderValue::from_static("5")));
            assert_eq!((strike.delay, strike.names), (None, vec!["outage"]));
        }
        assert_eq!(injector.to_json(last)["outage"], "1 ms");
        let end = NOW.after(Duration::from_secs(20));
        assert_eq!(injector.strike(end).status, None);
        assert_eq!(injector.to_json(end).get("outage"), None);
    }
}
