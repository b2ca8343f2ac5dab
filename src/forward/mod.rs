//! A forwarder per destination: lease, send, judge, settle.
//!
//! It decides nothing about other destinations and shares nothing with them but the spool.

pub mod backoff;
pub mod client;
pub mod gate;
pub mod request;
pub mod verdict;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::event::DestinationName;
use crate::ledger::{Held, LeaseEnd, Ledger};
use crate::metrics::{DestinationMetrics, Metrics};
use crate::spool::{Cause, Lease, Refusal, SettleError, Settlement, Spool, Want};

use backoff::{Backoff, MaxAge};
use client::{Client, Counters, Limits, Network};
use gate::{Gate, Passage};
use request::Shape;
use verdict::{Attempt, Sent, Verdict, WhenUnsure, judge};

/// What a destination's table says, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub name: DestinationName,
    /// Scheme, authority, target and headers of its requests.
    pub shape: Shape,
    /// Requests under way at once.
    pub concurrency: usize,
    /// Limits of its client.
    pub limits: Limits,
    /// What lies between the client and those it speaks to.
    pub network: Network,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// How old an event may be.
    pub max_age: MaxAge,
    /// What to do with what may have arrived.
    pub when_unsure: WhenUnsure,
}

/// Longest wait for something to lease before the gate and the stop are looked at again.
const LEASE_WAIT: Duration = Duration::from_secs(1);
/// Wait after the spool could not be asked, so that a broken store is not asked in a spin.
const FAULT_WAIT: Duration = Duration::from_millis(200);

/// Sends what is owed to one destination.
pub struct Forwarder {
    settings: Settings,
    spool: Arc<dyn Spool>,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    own_metrics: Arc<DestinationMetrics>,
    client: Client,
    gate: Gate,
    clock: Clock,
    slots: Arc<Semaphore>,
}

/// How a forwarder is told to stop.
#[derive(Clone, Debug)]
pub struct Stop {
    /// No further leases.
    pub leasing: CancellationToken,
    /// Attempts under way are broken off and their deliveries put back.
    pub attempts: CancellationToken,
}

impl Forwarder {
    /// A forwarder for one destination.
    #[must_use]
    pub fn new(
        settings: Settings,
        spool: Arc<dyn Spool>,
        ledger: Arc<Ledger>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Arc<Self> {
        let own_metrics = metrics.destination(&settings.name);
        let counters = Counters {
            opened: own_metrics.connections_opened.clone(),
            resent: own_metrics.possible_duplicates.clone(),
        };
        let client = Client::new(settings.limits, &settings.network, counters, clock.clone());
        let slots = Arc::new(Semaphore::new(settings.concurrency));
        let gate = Gate::default();
        Arc::new(Self { settings, spool, ledger, metrics, own_metrics, client, gate, clock, slots })
    }

    /// The destination's name.
    #[must_use]
    pub const fn name(&self) -> &DestinationName {
        &self.settings.name
    }

    /// Whether failures have opened the breaker.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.gate.is_broken()
    }

    /// Leases and sends until told to stop; returns when every attempt has been settled.
    pub async fn run(self: Arc<Self>, stop: Stop) {
        let attempts = TaskTracker::new();
        loop {
            let round = self.round(&stop, &attempts);
            if stop.leasing.run_until_cancelled(round).await.is_none() {
                break;
            }
        }
        attempts.close();
        attempts.wait().await;
    }

    /// Waits for the gate and a free slot, leases what fits and starts an attempt for each.
    ///
    /// Cancel-safe: between the lease's answer and the start of its attempts nothing waits.
    async fn round(self: &Arc<Self>, stop: &Stop, attempts: &TaskTracker) {
        let closing = self.gate.closing();
        let most = match self.gate.passage(Instant::now()) {
            Passage::Open => self.settings.concurrency,
            Passage::Probe => 1,
            Passage::Closed(until) => return tokio::time::sleep_until(until).await,
        };
        let Ok(first) = Arc::clone(&self.slots).acquire_owned().await else { return };
        // A probe goes alone: it waits for what was under way before the breaker opened.
        if most == 1 && self.slots.available_permits() + 1 < self.settings.concurrency {
            drop(first);
            return tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut permits = vec![first];
        while permits.len() < most
            && let Ok(more) = Arc::clone(&self.slots).try_acquire_owned()
        {
            permits.push(more);
        }
        // A gate that closes ends the wait for something to send. Both are cancel-safe.
        let leased = tokio::select! {
            biased;
            () = closing => return,
            leased = self.spool.lease(&self.settings.name, Want::any(permits.len()), LEASE_WAIT) => leased,
        };
        let leases = match leased {
            Ok(leases) => leases,
            Err(fault) => {
                tracing::error!(destination = %self.settings.name, %fault, "leasing failed");
                return tokio::time::sleep(FAULT_WAIT).await;
            }
        };
        for (lease, permit) in leases.into_iter().zip(permits) {
            let held = self.ledger.lease(&self.settings.name);
            attempts.spawn(Arc::clone(self).deliver(lease, held, permit, stop.attempts.clone()));
        }
    }

    /// One delivery from its lease to its settlement.
    async fn deliver(
        self: Arc<Self>,
        lease: Lease,
        held: Held,
        slot: OwnedSemaphorePermit,
        stop: CancellationToken,
    ) {
        let settlement = if self.is_expired(&lease) {
            let refusal =
                Refusal { cause: Cause::Expired, status: None, answer: bytes::Bytes::new() };
            Settlement::DeadLetter(refusal)
        } else {
            match stop.run_until_cancelled(self.attempt(&lease)).await {
                Some(verdict) => self.settlement(&lease, verdict),
                None => Settlement::PutBack,
            }
        };
        drop(slot);
        self.settle(lease, held, settlement).await;
    }

    fn is_expired(&self, lease: &Lease) -> bool {
        let event = &lease.event;
        self.settings.max_age.has_passed(event.kind, event.accepted_at, self.clock.now())
    }

    /// Sends once and judges the answer; the gate hears of it.
    async fn attempt(&self, lease: &Lease) -> Verdict {
        let Ok(request) = self.settings.shape.request(&lease.event, self.clock.now()) else {
            let answer = bytes::Bytes::new();
            return Verdict::Refused(Refusal { cause: Cause::Unsendable, status: None, answer });
        };
        let started = Instant::now();
        let attempt = self.client.attempt(request).await;
        let took = started.elapsed();
        self.own_metrics.attempt_seconds.record(took.as_secs_f64());
        let status = match &attempt {
            Attempt::Answered { status, .. } => Some(status.as_u16()),
            Attempt::Unanswered { .. } => None,
        };
        let verdict = judge(attempt);
        self.metrics.attempt(&self.own_metrics, verdict.code());
        tracing::debug!(
            destination = %self.settings.name, delivery.id = lease.id.0, status,
            verdict = verdict.code(), duration_ms = took.as_millis(), "attempted"
        );
        match &verdict {
            Verdict::Delivered | Verdict::Refused(_) => self.gate.succeeded(),
            Verdict::TryAgain { hint, .. } => {
                let hint = hint.map(|hint| hint.min(self.settings.backoff.retry_after_max));
                self.gate.failed(lease.id, hint, Instant::now());
            }
        }
        verdict
    }

    /// What a verdict means for this delivery, by its kind, age and attempts.
    fn settlement(&self, lease: &Lease, verdict: Verdict) -> Settlement {
        match verdict {
            Verdict::Delivered => Settlement::Delivered,
            Verdict::Refused(refusal) => {
                if refusal.status == Some(422) {
                    self.own_metrics.schema_drift.increment(1);
                }
                Settlement::DeadLetter(refusal)
            }
            Verdict::TryAgain { sent, hint, .. } => {
                let (event, now) = (&lease.event, self.clock.now());
                if sent == Sent::Maybe {
                    if !self.settings.when_unsure.allows(event.kind, now.since(event.accepted_at)) {
                        let (cause, answer) = (Cause::UnknownOutcome, bytes::Bytes::new());
                        return Settlement::DeadLetter(Refusal { cause, status: None, answer });
                    }
                    self.own_metrics.possible_duplicates.increment(1);
                }
                let attempts = lease.attempts.saturating_add(1);
                let mut random = fastrand::Rng::new();
                let wait = self.settings.backoff.wait(attempts, hint, &mut random);
                Settlement::RetryAt(now.after(wait))
            }
        }
    }

    async fn settle(&self, lease: Lease, held: Held, settlement: Settlement) {
        let (end, outcome) = match &settlement {
            Settlement::Delivered => (LeaseEnd::Delivered, Some("delivered")),
            Settlement::RetryAt(_) | Settlement::PutBack => (LeaseEnd::PutBack, None),
            Settlement::DeadLetter(refusal) => {
                let expired = refusal.cause == Cause::Expired;
                (LeaseEnd::Dead, Some(if expired { "expired" } else { "dead" }))
            }
        };
        let (id, accepted_at) = (lease.id.0, lease.event.accepted_at);
        if let Settlement::DeadLetter(refusal) = &settlement {
            let attempts = lease.attempts + u32::from(refusal.cause.attempted());
            tracing::warn!(
                destination = %self.settings.name, source = %lease.event.source, delivery.id = id,
                cause = refusal.cause.as_str(), status = refusal.status, attempts,
                "given up, kept as a dead letter"
            );
        }
        match self.spool.settle(lease, settlement).await {
            Ok(()) => {
                if let Some(outcome) = outcome {
                    self.metrics.delivery(&self.own_metrics, outcome);
                }
                if end == LeaseEnd::Delivered {
                    let lag = self.clock.now().since(accepted_at);
                    self.own_metrics.delivery_lag_seconds.record(lag.as_secs_f64());
                }
                // Last, so that whoever sees nothing in hand sees everything counted.
                held.end(end);
            }
            Err(error @ (SettleError::LeaseLost | SettleError::Fault(_))) => {
                held.end(LeaseEnd::Lost);
                tracing::warn!(
                    destination = %self.settings.name, delivery.id = id, %error,
                    "not settled, the delivery will be attempted again"
                );
            }
        }
    }
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder")
            .field("destination", &self.settings.name)
            .finish_non_exhaustive()
    }
}
