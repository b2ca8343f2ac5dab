//! The queues that a destination's deliveries wait in.

use std::time::Duration;

/// How long an event stays in the live lane; what waited longer is backlog. More than an open
/// breaker waits between two probes, so that what comes in meanwhile still goes first.
pub const FRESH_FOR: Duration = Duration::from_secs(8);
/// How many of the newest events stay in the live lane, about: what lies farther behind is backlog.
/// Few enough that the newest is sent in seconds at the begin of a ramp, and as many as may come in
/// before the probe that ends an outage: two seconds and a burst of what leaves 200,000 in an hour.
pub const FRESH_MAX: u64 = 256;

/// The queue of a destination that a delivery waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Fresh events: not older than [`FRESH_FOR`], and among the newest.
    Live,
    /// Imports, what an outage left, and what was there at a start.
    Backlog,
    /// Waiting for another attempt.
    Retry,
}

impl Lane {
    /// Every lane, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Live, Self::Backlog, Self::Retry];

    /// The stable word for metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Backlog => "backlog",
            Self::Retry => "retry",
        }
    }
}
