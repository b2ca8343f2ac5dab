//! An operator's pause of one destination: for a time, or until it is taken back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;

/// When a pause ends by itself; for ever is until somebody resumes.
pub type Until = Timestamp;

/// A pause without an end of its own.
pub const FOR_EVER: Until = Timestamp::from_millis(u64::MAX);

/// Whether a destination is paused.
#[derive(Debug, Default)]
pub struct Pause(Mutex<Option<Until>>);

impl Pause {
    /// Nothing is sent before then.
    pub fn set(&self, until: Until) {
        *self.state() = Some(until);
    }

    /// It goes on now.
    pub fn clear(&self) {
        *self.state() = None;
    }

    /// Until when it is paused, if it is.
    #[must_use]
    pub fn until(&self, now: Timestamp) -> Option<Until> {
        self.state().filter(|until| *until > now)
    }

    /// How long it is paused yet, if it is.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> Option<Duration> {
        self.until(now).map(|until| until.since(now))
    }

    fn state(&self) -> MutexGuard<'_, Option<Until>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_by_itself_or_by_hand() {
        let (pause, now) = (Pause::default(), Timestamp::from_millis(5_000));
        assert_eq!(pause.until(now), None);
        pause.set(Timestamp::from_millis(6_000));
        assert_eq!(pause.left(now), Some(Duration::from_secs(1)));
        assert_eq!(pause.until(Timestamp::from_millis(6_000)), None);
        pause.set(FOR_EVER);
        assert_eq!(pause.until(Timestamp::from_millis(1 << 50)), Some(FOR_EVER));
        pause.clear();
        assert_eq!(pause.until(now), None);
    }
}
