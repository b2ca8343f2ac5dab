//! How a destination stands, for those who look at it.

use std::time::Duration;

use super::gate;
use super::pause::Until;

/// What keeps a destination's deliveries from going, and how fast they go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Its gates: breaker, refusing, and for how long they are closed.
    pub gate: gate::Standing,
    /// It answers with redirects, which are never followed: its address is most likely wrong.
    pub redirecting: bool,
    /// Until when an operator paused it; [`super::pause::FOR_EVER`] is until it is resumed.
    pub paused: Option<Until>,
    /// Attempts that may be under way at once,
    pub concurrency: usize,
    /// and how many when all is well.
    pub concurrency_max: usize,
    /// Attempts a second that it is sent at most, after trouble; none is no bound.
    pub rate: Option<f64>,
    /// Deliveries a second, of late, that were not fresh.
    pub drained_per_second: f64,
}

impl Standing {
    /// How long so many deliveries that are not fresh will take as it goes now. Nothing when nothing
    /// of them goes, for whoever waits for an origin or an operator waits for a time nobody knows.
    #[must_use]
    pub fn eta(&self, waiting: u64) -> Option<Duration> {
        /// Below one in a hundred seconds an estimate would tell nothing.
        const SLOWEST: f64 = 0.01;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let waiting = waiting as f64;
        if waiting < 1.0 {
            return Some(Duration::ZERO);
        }
        let is_held = self.gate.broken || self.gate.refusing || self.paused.is_some();
        let moves = !is_held && self.drained_per_second >= SLOWEST;
        moves.then(|| Duration::from_secs_f64(waiting / self.drained_per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_made_from_the_rate_of_late() {
        let standing = |drained_per_second| Standing {
            gate: gate::Standing::default(),
            redirecting: false,
            paused: None,
            concurrency: 1,
            concurrency_max: 1,
            rate: None,
            drained_per_second,
        };
        assert_eq!(standing(50.0).eta(1_000), Some(Duration::from_secs(20)));
        assert_eq!(standing(0.0).eta(1_000), None);
        assert_eq!(standing(0.0).eta(0), Some(Duration::ZERO));
        let broken = gate::Standing { broken: true, ..gate::Standing::default() };
        let refusing = gate::Standing { refusing: true, ..gate::Standing::default() };
        for gate in [broken, refusing] {
            assert_eq!(Standing { gate, ..standing(50.0) }.eta(1_000), None);
        }
        let paused = Some(super::super::pause::FOR_EVER);
        assert_eq!(Standing { paused, ..standing(50.0) }.eta(1_000), None);
    }
}
