//! A look at what is fresh while every known origin is closed: an event may be for another, that
//! works.
//!
//! Which origin an event goes to is known once it is leased, and an origin has no gate until an
//! event goes there. Without a look, the first event for an origin would wait for the `Retry-After`
//! of another one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::concurrency::Use;
use super::{Forwarder, Stop, gate, lock};
use crate::spool::{Lease, Settlement, Want};

/// How often. A fresh event is to arrive within 5 s, and is looked at a few times before it is
/// backlog.
const SCOUT_EVERY: Duration = gate::PROBE_EVERY;

impl Forwarder {
    /// When to look next; nothing where every origin has a gate.
    pub(super) fn scouts_at(&self, now: Instant) -> Option<Instant> {
        let may_be_more = self.gates.count() < self.settings.shape.origins_max();
        let next = lock(&self.scouted_at).map_or(now, |at| at + SCOUT_EVERY);
        may_be_more.then_some(next)
    }

    /// Takes the oldest fresh events, as many as may be under way, sends those for origins without
    /// a gate and puts the rest back.
    ///
    /// Cancel-safe: between the lease's answer and the start of its attempts nothing waits.
    pub(super) async fn scout(self: &Arc<Self>, now: Instant, stop: &Stop, attempts: &TaskTracker) {
        *lock(&self.scouted_at) = Some(now);
        let want = Want { max: self.concurrency.want().max, others: 0 };
        let leased = self.spool.lease(&self.settings.name, want, Duration::ZERO).await;
        let leases = match leased {
            Ok(leases) => leases,
            Err(fault) => {
                return tracing::error!(destination = %self.settings.name, %fault, "leasing failed");
            }
        };
        for lease in leases {
            let (forwarder, held) = (Arc::clone(self), self.ledger.lease(&self.settings.name));
            if self.is_for_another(&lease) {
                let slot = self.concurrency.take(Use::Live, now);
                self.pace.started(1, now);
                attempts.spawn(forwarder.deliver(lease, held, slot, stop.attempts.clone()));
            } else {
                attempts.spawn(forwarder.put_back(lease, held));
            }
        }
    }

    async fn put_back(self: Arc<Self>, lease: Lease, held: crate::ledger::Held) {
        self.settle(lease, held, Settlement::PutBack).await;
    }

    /// Whether an event's origin has no gate yet. One that no request can be made of is given up by
    /// its attempt.
    fn is_for_another(&self, lease: &Lease) -> bool {
        let request = self.settings.shape.request(&lease.event, self.clock.now());
        request.map_or(true, |request| !self.gates.know(request.uri()))
    }
}
