//! When an order was placed, by its own word.

use super::{Lint, Place, Warnings};
use crate::clock::Timestamp;
use crate::schema::formats::Format;
use crate::schema::moment::{Moment, Zone};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// How far a shop's clock may be ahead without a word.
const SKEW_MS: i64 = 10 * MINUTE_MS;

/// The longest attribution window that the vendor documents, for a click as for a view.
const WINDOW_MS: i64 = 14 * DAY_MS;

/// Looks at an order's time.
pub(super) fn lint(text: &str, now: Timestamp, warnings: &mut Warnings) {
    let place = || Place::Member("created_at");
    let Some(moment) = Moment::read(text) else {
        // Rare spellings that the schemas' format takes are nothing to warn about.
        if !Format::IsoDateTime.holds(text) {
            warnings.add(Lint::CreatedAtUnreadable, place());
        }
        return;
    };
    if moment.zone == Zone::Unsaid {
        warnings.add(Lint::CreatedAtWithoutZone, place());
    }
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let millis = moment.millis();
    if millis > now.saturating_add(SKEW_MS) {
        warnings.add(Lint::CreatedAtInFuture, place());
    } else if millis < now.saturating_sub(WINDOW_MS) {
        warnings.add(Lint::CreatedAtTooOld, place());
    }
}
