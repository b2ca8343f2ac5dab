//! What the end of an attempt means: delivered, not now, or never.

use std::time::Duration;

use bytes::Bytes;
use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::clock::Timestamp;
use crate::event::EventKind;
use crate::spool::{Cause, Refusal};

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The destination answered.
    Answered {
        /// With this status,
        status: StatusCode,
        /// this `Retry-After`, if any,
        retry_after: Option<Duration>,
        /// and these first bytes of a body.
        answer: Bytes,
    },
    /// There was no answer.
    Unanswered {
        /// Whether the request may have arrived.
        sent: Sent,
        /// Why, a stable word.
        code: &'static str,
    },
    /// The relay stops and broke it off.
    Cut(Sent),
}

/// Whether a request reached the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// No byte of it.
    No,
    /// It left; nobody knows.
    Maybe,
    /// It did, and was answered.
    Answered,
}

/// What an attempt means for its delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The destination has it.
    Delivered,
    /// Not now.
    TryAgain {
        /// Why, a stable word.
        code: &'static str,
        /// Whether the request may have arrived.
        sent: Sent,
        /// The destination's `Retry-After`: never undercut, capped by configuration.
        hint: Option<Duration>,
    },
    /// Never: the same bytes would be refused again.
    Refused(Refusal),
    /// It tells nothing of the destination, for the relay broke it off.
    Cut(Sent),
}

/// What a destination does with a delivery that may have arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenUnsure {
    /// By the vendor's dedupe windows for its kind.
    #[default]
    ByKind,
    /// Send again.
    Retry,
    /// Keep as a dead letter.
    DeadLetter,
}

/// The vendor suppresses a repeated impression for a minute (`docs/partners/vtex.md`).
const IMPRESSION_WINDOW: Duration = Duration::from_secs(60);
/// The vendor suppresses a repeated click for an hour.
const CLICK_WINDOW: Duration = Duration::from_secs(3600);

impl WhenUnsure {
    /// Whether an event of `kind`, first sent `ago`, may be sent again though it may have arrived.
    #[must_use]
    pub fn allows(self, kind: EventKind, ago: Duration) -> bool {
        match self {
            Self::Retry => true,
            Self::DeadLetter => false,
            Self::ByKind => match kind {
                // The vendor ignores a repeated order for 30 days; a partner's notification is
                // told from its repeats by whoever receives it.
                EventKind::Conversion | EventKind::Notification => true,
                EventKind::Impression => ago < IMPRESSION_WINDOW,
                EventKind::Click => ago < CLICK_WINDOW,
                // No window is published.
                EventKind::View => false,
            },
        }
    }
}

/// Judges an attempt. 2xx is delivered; 408, 425, 429 and no answer are tried again, and so is any
/// status outside 4xx; any other 4xx is final.
#[must_use]
pub fn judge(attempt: Attempt) -> Verdict {
    match attempt {
        Attempt::Unanswered { sent, code } => Verdict::TryAgain { code, sent, hint: None },
        Attempt::Cut(sent) => Verdict::Cut(sent),
        Attempt::Answered { status, retry_after, answer } => {
            if status.is_success() {
                return Verdict::Delivered;
            }
            let again = |code| Verdict::TryAgain { code, sent: Sent::Answered, hint: retry_after };
            match status.as_u16() {
                300..=399 => again("redirect"),
                408 | 425 => again("not_ready"),
                429 => again("throttled"),
                503 => again("unavailable"),
                status @ 400..=499 => Verdict::Refused(Refusal {
                    cause: Cause::Refused,
                    status: Some(status),
                    answer,
                }),
                // What no standard knows is treated as a server's error (RFC 9110, section 15).
                _ => again("server_error"),
            }
        }
    }
}

impl Verdict {
    /// The stable word for metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::TryAgain { code, .. } => code,
            Self::Cut(_) => "cut",
            Self::Refused(refusal) => match refusal.status {
                Some(422) => "schema_refused",
                Some(_) | None => "refused",
            },
        }
    }
}

/// Reads a `Retry-After`: seconds, or an HTTP date, which in the past means at once. No standard has
/// a fraction of a second, some servers do, and it is heeded as the whole second behind it.
#[must_use]
pub fn retry_after(value: &[u8], now: Timestamp) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if is_digits(whole) && is_digits(fraction) {
        // More digits than a u64 holds are as good as for ever; the cap decides.
        let seconds: u64 = whole.parse().unwrap_or(u64::MAX);
        let more = u64::from(fraction.bytes().any(|digit| digit != b'0'));
        return Some(Duration::from_secs(seconds.saturating_add(more)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since = date.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Some(since.saturating_sub(Duration::from_millis(now.as_millis())))
}

/// A clock that is further from the other's than this is wrong, and what is left of it is heeded.
const SKEW_MAX: Duration = Duration::from_secs(60);

/// The wait that an answer asks for. A date is one of the clock that wrote it, so it is read by the
/// answer's own `Date` where there is one: a machine whose clock is wrong would come too early, or
/// much too late. Where the two disagree the longer wait counts, up to a minute more.
#[must_use]
pub fn asked_wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
    let theirs = date.map(|date| {
        Timestamp::EPOCH.after(date.duration_since(std::time::UNIX_EPOCH).unwrap_or_default())
    });
    let wait = |value: &HeaderValue| {
        let wait = retry_after(value.as_bytes(), now)?;
        let Some(meant) = theirs.and_then(|theirs| retry_after(value.as_bytes(), theirs)) else {
            return Some(wait);
        };
        Some(meant.max(wait.min(meant.saturating_add(SKEW_MAX))))
    };
    // One that is said twice, by a proxy on the way, holds as the longer.
    headers.get_all(RETRY_AFTER).iter().filter_map(wait).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_by_the_clock_that_wrote_it() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let at = |seconds: i64| {
            let at = Duration::from_secs(1_700_000_000_u64.saturating_add_signed(seconds));
            httpdate::fmt_http_date(std::time::UNIX_EPOCH + at)
        };
        let minutes = |count: i64| count * 60;
        for (date, retry_after, wait) in [
            (None, at(5), 5),
            (Some(at(0)), at(5), 5),
            (Some("yesterday".to_owned()), at(5), 5),
            // Ours is ahead, or behind; by a little, or by an hour.
            (Some(at(-minutes(60))), at(5 - minutes(60)), 5),
            (Some(at(minutes(60))), at(5 + minutes(60)), 65),
            (Some(at(-3)), at(2), 5),
            (Some(at(3)), at(8), 8),
            // Seconds are the same by any clock.
            (Some(at(-minutes(60))), "5".to_owned(), 5),
            (Some(at(minutes(60))), "5".to_owned(), 5),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
            headers.extend(date.clone().map(|date| (DATE, date.parse().unwrap())));
            let asked = asked_wait(&headers, now);
            assert_eq!(asked, Some(Duration::from_secs(wait)), "{date:?} {retry_after}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(asked_wait(&headers, now), None);
        for value in ["soon", "1", "7", "3"] {
            headers.append(RETRY_AFTER, value.parse().unwrap());
        }
        assert_eq!(asked_wait(&headers, now), Some(Duration::from_secs(7)));
    }

    fn answered(status: u16) -> Verdict {
        let status = StatusCode::from_u16(status).unwrap();
        judge(Attempt::Answered { status, retry_after: None, answer: Bytes::new() })
    }

    #[test]
    fn the_table_of_answers() {
        for status in [200, 202, 204, 299] {
            assert_eq!(answered(status), Verdict::Delivered, "{status}");
        }
        for status in [101, 301, 302, 307, 408, 425, 429, 500, 501, 502, 503, 504, 520, 600, 999] {
            assert!(matches!(answered(status), Verdict::TryAgain { .. }), "{status}");
        }
        for status in [400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 451] {
            let Verdict::Refused(refusal) = answered(status) else { panic!("{status}") };
            assert_eq!((refusal.cause, refusal.status), (Cause::Refused, Some(status)));
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_millis(784_111_777_000); // Sun, 06 Nov 1994 08:49:37 GMT
        let cases: [(&str, Option<u64>); 14] = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("-1", None),
            ("1.5", Some(2)),
            ("1.0", Some(1)),
            ("0.25", Some(1)),
            ("99999999999999999999999.9", Some(u64::MAX)),
            ("1.", None),
            (".5", None),
            ("1.5.2", None),
            ("soon", None),
        ];
        for (text, seconds) in cases {
            let wait = retry_after(text.as_bytes(), now);
            assert_eq!(wait, seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn what_may_have_arrived_is_sent_again_only_where_twice_does_no_harm() {
        let by_kind = |kind, seconds| WhenUnsure::ByKind.allows(kind, Duration::from_secs(seconds));
        assert!(by_kind(EventKind::Conversion, 86_400));
        assert!(by_kind(EventKind::Notification, 86_400));
        assert!(by_kind(EventKind::Impression, 59) && !by_kind(EventKind::Impression, 60));
        assert!(by_kind(EventKind::Click, 3_599) && !by_kind(EventKind::Click, 3_600));
        assert!(!by_kind(EventKind::View, 0));
        assert!(WhenUnsure::Retry.allows(EventKind::View, Duration::MAX));
        assert!(!WhenUnsure::DeadLetter.allows(EventKind::Conversion, Duration::ZERO));
    }
}
