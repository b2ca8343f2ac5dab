//! The gates of one destination: one for each origin that its events go to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::gate::{Gate, Passage, Standing};

/// A gate for each origin in use. No more than the destination allows, for the request to any
/// other is refused before.
#[derive(Debug)]
pub struct Gates {
    by_origin: Mutex<BTreeMap<String, Arc<Gate>>>,
    changed: Arc<Notify>,
    probe_within: Duration,
}

impl Gates {
    /// No gates yet. No probe takes longer than `probe_within`.
    #[must_use]
    pub fn new(probe_within: Duration) -> Self {
        Self { by_origin: Mutex::default(), changed: Arc::default(), probe_within }
    }

    /// The gate in front of a request's origin.
    #[must_use]
    pub fn of(&self, uri: &Uri) -> Arc<Gate> {
        self.named(&origin(uri))
    }

    /// The gate in front of an origin, told by scheme and authority.
    #[must_use]
    pub fn named(&self, origin: &str) -> Arc<Gate> {
        let mut gates = self.by_origin.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(origin) {
            return Arc::clone(gate);
        }
        let gate = Gate::new(origin.to_owned(), Arc::clone(&self.changed), self.probe_within);
        let gate = Arc::new(gate);
        gates.insert(origin.to_owned(), Arc::clone(&gate));
        gate
    }

    /// Whether a request's origin has a gate, that is, an event went there since the start.
    #[must_use]
    pub fn know(&self, uri: &Uri) -> bool {
        let gates = self.by_origin.lock().unwrap_or_else(PoisonError::into_inner);
        gates.contains_key(&origin(uri))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_origin.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What may be leased at `now`: as through the gate that is open farthest, since which origin
    /// an event goes to is only known once it is leased.
    #[must_use]
    pub fn passage(&self, now: Instant) -> Passage {
        let mut widest = None;
        for passage in self.each(|gate| gate.passage(now)) {
            widest = Some(match (widest, passage) {
                (None, passage) => passage,
                (Some(Passage::Open), _) | (_, Passage::Open) => Passage::Open,
                (Some(Passage::Probe), _) | (_, Passage::Probe) => Passage::Probe,
                (Some(Passage::Closed(a)), Passage::Closed(b)) => Passage::Closed(a.min(b)),
            });
        }
        widest.unwrap_or(Passage::Open)
    }

    /// Whether there are several, so that what waits may be for an origin that is not the one that
    /// is probed.
    #[must_use]
    pub fn are_several(&self) -> bool {
        self.count() > 1
    }

    /// How they stand together: the worst of each.
    #[must_use]
    pub fn standing(&self, now: Instant) -> Standing {
        self.each(|gate| gate.standing(now)).into_iter().fold(Standing::default(), |all, one| {
            Standing {
                broken: all.broken || one.broken,
                refusing: all.refusing || one.refusing,
                closed_for: all.closed_for.max(one.closed_for),
            }
        })
    }

    /// Waits for a gate to close or open. One that does after this call and before the first poll
    /// counts too.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Something has changed that lets more through, or less.
    pub fn look_again(&self) {
        self.changed.notify_waiters();
    }

    fn each<T>(&self, of: impl Fn(&Gate) -> T) -> Vec<T> {
        let gates = self.by_origin.lock().unwrap_or_else(PoisonError::into_inner);
        gates.values().map(|gate| of(gate)).collect()
    }
}

fn origin(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    format!("{}://{authority}", uri.scheme_str().unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::super::gate::Blame;
    use super::*;
    use crate::spool::DeliveryId;

    #[test]
    fn a_dead_origin_closes_its_own_gate_alone() {
        let (gates, now) = (Gates::new(Duration::from_secs(10)), Instant::now());
        assert_eq!(gates.passage(now), Passage::Open);
        let dead = gates.of(&Uri::from_static("https://a.example/x?y=1"));
        let well = gates.of(&Uri::from_static("https://b.example/x"));
        assert!(Arc::ptr_eq(&dead, &gates.of(&Uri::from_static("https://a.example/other"))));
        for id in 0..5 {
            dead.failed(DeliveryId(id), Blame::Either, None, now);
        }
        assert!(matches!(dead.passage(now), Passage::Closed(_)));
        assert_eq!((well.passage(now), gates.passage(now)), (Passage::Open, Passage::Open));
        assert!(gates.standing(now).broken);
        let minute = Duration::from_secs(60);
        well.failed(DeliveryId(9), Blame::Either, Some(minute), now);
        let Passage::Closed(until) = gates.passage(now) else { panic!("closed") };
        assert!(until < now + minute, "the first to be probed decides");
    }
}
