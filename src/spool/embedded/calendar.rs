//! Which time is believed when something is dropped for its age, for good.

use std::time::Duration;

use crate::clock::Timestamp;

/// A clock that is this far ahead of the last note has leapt, or the relay was off for long.
pub(super) const LEAP: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a clock must go on from where it leapt to before it is believed.
pub(super) const TRUST_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Believes a clock that goes on, and neither one that was set back nor, for a day, one that leapt.
#[derive(Debug)]
pub(super) struct Calendar {
    noted: Timestamp,
    leapt_to: Option<Timestamp>,
}

impl Calendar {
    /// Goes on from the last time that was believed.
    pub(super) const fn new(noted: Timestamp) -> Self {
        Self { noted, leapt_to: None }
    }

    /// The last time that was believed.
    pub(super) const fn noted(&self) -> Timestamp {
        self.noted
    }

    /// The time to go by when the clock says `now`.
    pub(super) fn believe(&mut self, now: Timestamp) -> Timestamp {
        if now.since(self.noted) > LEAP {
            let first = match self.leapt_to {
                Some(first) if first <= now => first,
                Some(_) | None => {
                    tracing::warn!(
                        %now, noted = %self.noted,
                        "the clock leapt; nothing is dropped for its age until it went on for a day"
                    );
                    now
                }
            };
            self.leapt_to = Some(first);
            if now.since(first) < TRUST_AFTER {
                return self.noted;
            }
        }
        self.leapt_to = None;
        self.noted = self.noted.max(now);
        self.noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_is_believed_after_a_day_and_a_step_back_never_ages() {
        const DAY: u64 = 86_400_000;
        let at = |day: u64| Timestamp::from_millis((20_000 + day) * DAY);
        let mut calendar = Calendar::new(at(0));
        assert_eq!(calendar.believe(at(6)), at(6));
        assert_eq!(calendar.believe(at(3)), at(6), "set back");
        assert_eq!(calendar.believe(at(3_650)), at(6), "ten years ahead");
        assert_eq!(calendar.believe(at(7)), at(7), "and back again");
        assert_eq!(calendar.believe(at(100)), at(7));
        assert_eq!(calendar.believe(Timestamp::from_millis(at(101).as_millis() - 1)), at(7));
        assert_eq!(calendar.believe(at(101)), at(101), "it went on for a day");
    }
}
