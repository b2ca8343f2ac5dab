//! One delivery from its lease to its settlement.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Forwarder;
use super::concurrency::{Slot, Use};
use super::gate::{Blame, Gate, Passage, Turn};
use super::pace::BLIP;
use super::verdict::{Attempt, Sent, Verdict, judge};
use crate::clock::Timestamp;
use crate::ledger::{Held, LeaseEnd};
use crate::spool::{Cause, Later, Lease, Refusal, SettleError, Settlement};

impl Forwarder {
    /// One delivery from its lease to its settlement.
    pub(super) async fn deliver(
        self: Arc<Self>,
        lease: Lease,
        held: Held,
        slot: Slot,
        stop: CancellationToken,
    ) {
        let settlement = if is_unusable(&lease) {
            Settlement::GivenUp(Cause::Invalid)
        } else if self.is_expired(&lease) {
            Settlement::GivenUp(Cause::Expired)
        } else if self.is_unsure_for_too_long(&lease) {
            Settlement::GivenUp(Cause::UnknownOutcome)
        } else {
            self.attempt(&lease, &slot, &stop).await
        };
        let used = slot.used();
        drop(slot);
        let has_ended = match settlement {
            Settlement::Delivered | Settlement::DeadLetter(_) | Settlement::GivenUp(_) => true,
            Settlement::RetryAt(_) | Settlement::Later(_) | Settlement::PutBack => false,
        };
        if has_ended && used != Use::Live {
            self.drained(Instant::now());
        }
        self.settle(lease, held, settlement).await;
    }

    fn is_expired(&self, lease: &Lease) -> bool {
        let event = &lease.event;
        self.settings.max_age.has_passed(event.kind, event.accepted_at, self.clock.believed())
    }

    /// Whether it was sent without an answer, and to send it now would do harm.
    fn is_unsure_for_too_long(&self, lease: &Lease) -> bool {
        lease.sent_at.is_some_and(|sent_at| {
            let ago = self.clock.now().since(sent_at);
            !self.settings.unsure(&lease.event.source).allows(lease.event.kind, ago)
        })
    }

    /// Sends once, unless the gate of its origin has closed since it was leased, and says what
    /// becomes of the delivery.
    async fn attempt(&self, lease: &Lease, slot: &Slot, stop: &CancellationToken) -> Settlement {
        let Ok(request) = self.settings.shape.request(&lease.event, self.clock.now()) else {
            return Settlement::GivenUp(Cause::Unsendable);
        };
        let gate = self.gates.of(request.uri());
        if let Err(wait) = gate.enter(lease.id, slot.started()) {
            return self.put_aside(wait);
        }
        if lease.sent_at.is_some() || lease.interrupted {
            self.own_metrics.possible_duplicates.increment(1);
        }
        let (started, sent_at) = (Instant::now(), self.clock.now());
        let again = || !gate.is_asked(Instant::now());
        let attempt = self.transport.attempt(request, stop, &again).await;
        let took = started.elapsed();
        self.own_metrics.attempt_seconds.record(took.as_secs_f64());
        let status = match &attempt {
            Attempt::Answered { status, .. } => Some(status.as_u16()),
            Attempt::Unanswered { .. } | Attempt::Cut(_) => None,
        };
        let verdict = judge(attempt);
        self.metrics.attempt(&self.own_metrics, verdict.code());
        tracing::debug!(
            destination = %self.settings.name, delivery.id = lease.id.0, status,
            verdict = verdict.code(), duration_ms = took.as_millis(), "attempted"
        );
        self.heed(&gate, lease, slot, verdict, sent_at).await
    }

    /// What a delivery does whose gate is closed: it waits in its lane where nothing is leased
    /// anyway, and out of the way where events of other origins are.
    fn put_aside(&self, wait: std::time::Duration) -> Settlement {
        match self.gates.passage(Instant::now()) {
            Passage::Closed(_) => Settlement::PutBack,
            Passage::Open | Passage::Probe => {
                self.put_aside.fetch_add(1, Ordering::Relaxed);
                Settlement::Later(Later {
                    due: self.clock.now().after(wait.min(self.settings.backoff.wait_max)),
                    attempted: false,
                    sent_at: None,
                })
            }
        }
    }

    /// Lets gate, concurrency and pace know of a verdict, and says what it means for the delivery.
    async fn heed(
        &self,
        gate: &Gate,
        lease: &Lease,
        slot: &Slot,
        verdict: Verdict,
        sent_at: Timestamp,
    ) -> Settlement {
        let now = Instant::now();
        if matches!(verdict, Verdict::Delivered | Verdict::Refused(_)) {
            self.concurrency.answered();
            self.pace.answered(slot.started(), now);
        }
        let (turn, settlement) = match verdict {
            Verdict::Delivered => (gate.succeeded(now), Settlement::Delivered),
            Verdict::Cut(sent) => return self.cut(lease, sent, sent_at),
            Verdict::Refused(refusal) => self.heed_refusal(gate, lease, refusal, now),
            Verdict::TryAgain { code, sent, hint } => {
                if code == "redirect" {
                    self.redirected(now);
                }
                let hint = hint.map(|hint| hint.min(self.settings.backoff.retry_after_max));
                let turn = gate.failed(lease.id, Blame::of(sent, code), hint, now);
                self.keep_asked(gate, now).await;
                // What a probe meets tells nothing about how much would be too much.
                let throttled = matches!(code, "throttled" | "unavailable");
                if throttled
                    && slot.used() != Use::Probe
                    && self.pace.throttled(slot.started(), now)
                {
                    self.concurrency.throttled(slot.started(), now);
                }
                (turn, self.try_again(lease, sent, hint, sent_at))
            }
        };
        self.turned(turn, gate, now).await;
        settlement
    }

    fn heed_refusal(
        &self,
        gate: &Gate,
        lease: &Lease,
        refusal: Refusal,
        now: Instant,
    ) -> (Turn, Settlement) {
        match refusal.status {
            Some(401 | 403 | 404 | 405) => {
                let (turn, keep) = gate.refused(lease.id, now);
                if keep {
                    return (turn, self.try_again(lease, Sent::Answered, None, Timestamp::EPOCH));
                }
                (turn, Settlement::DeadLetter(refusal))
            }
            Some(422) => {
                self.own_metrics.schema_drift.increment(1);
                (gate.succeeded(now), Settlement::DeadLetter(refusal))
            }
            Some(_) | None => (gate.succeeded(now), Settlement::DeadLetter(refusal)),
        }
    }

    /// What was broken off goes first after the restart, which must know if it may have arrived.
    fn cut(&self, lease: &Lease, sent: Sent, sent_at: Timestamp) -> Settlement {
        match sent {
            Sent::No | Sent::Answered => Settlement::PutBack,
            Sent::Maybe => {
                let sent_at = Some(lease.sent_at.unwrap_or(sent_at));
                Settlement::Later(Later { due: self.clock.now(), attempted: true, sent_at })
            }
        }
    }

    /// Another attempt, unless it may have arrived and twice would do harm.
    fn try_again(
        &self,
        lease: &Lease,
        sent: Sent,
        hint: Option<std::time::Duration>,
        sent_at: Timestamp,
    ) -> Settlement {
        let attempts = lease.attempts.saturating_add(1);
        let wait = self.settings.backoff.wait(attempts, hint, &mut fastrand::Rng::new());
        let due = self.clock.now().after(wait);
        let sent_at = match sent {
            Sent::No | Sent::Answered => None,
            Sent::Maybe => {
                // The window of the vendor began when it may have arrived first.
                let first = lease.sent_at.unwrap_or(sent_at);
                let unsure = self.settings.unsure(&lease.event.source);
                if !unsure.allows(lease.event.kind, due.since(first)) {
                    return Settlement::DeadLetter(Refusal::unanswered(Cause::UnknownOutcome));
                }
                Some(first)
            }
        };
        match hint {
            Some(_) => Settlement::RetryAt(due),
            None => Settlement::Later(Later { due, attempted: true, sent_at }),
        }
    }

    /// Tells of a gate that has shut or opened, and begins anew, gently, once it is open.
    async fn turned(&self, turn: Turn, gate: &Gate, now: Instant) {
        let destination = &self.settings.name;
        match turn {
            Turn::None => {}
            Turn::Shut if gate.standing(now).refusing => tracing::error!(
                %destination,
                "twenty refusals in a row (401, 403, 404, 405): the destination is taken to be \
                 broken, its deliveries wait and one at a time is tried"
            ),
            Turn::Shut => tracing::warn!(
                %destination,
                "failures in a row: deliveries wait and one at a time is tried"
            ),
            Turn::Opened(after) => {
                tracing::info!(%destination, after_seconds = after.as_secs(), "it works again");
                self.pace.restart(after, now);
                if after >= BLIP {
                    self.concurrency.restore();
                }
                if let Err(fault) = self.spool.hasten(destination).await {
                    tracing::error!(%destination, %fault, "waits could not be ended early");
                }
                self.gates.look_again();
            }
        }
    }

    /// Tells of a delivery that is given up after so many attempts more.
    fn tell_of_end(&self, lease: &Lease, cause: Cause, status: Option<u16>, attempts: u32) {
        tracing::warn!(
            destination = %self.settings.name, source = %lease.event.source,
            delivery.id = lease.id.0, cause = cause.as_str(), status,
            attempts = lease.attempts.saturating_add(attempts),
            "given up, kept as a dead letter"
        );
    }

    pub(super) async fn settle(&self, lease: Lease, held: Held, settlement: Settlement) {
        let (end, outcome) = match &settlement {
            Settlement::Delivered => (LeaseEnd::Delivered, Some("delivered")),
            Settlement::RetryAt(_) | Settlement::Later(_) | Settlement::PutBack => {
                (LeaseEnd::PutBack, None)
            }
            Settlement::DeadLetter(refusal) => {
                self.tell_of_end(&lease, refusal.cause, refusal.status, 1);
                (LeaseEnd::Dead, Some(end_of(refusal.cause)))
            }
            Settlement::GivenUp(cause) => {
                self.tell_of_end(&lease, *cause, None, 0);
                // What is invalid was counted when it was accepted.
                let counts = *cause != Cause::Invalid;
                (LeaseEnd::Dead, counts.then(|| end_of(*cause)))
            }
        };
        let (id, accepted_at) = (lease.id.0, lease.event.accepted_at);
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

/// Whether a delivery is a dead letter from the start. One that an operator puts back in line is
/// sent as it is: they know what it is, for its letter says so.
fn is_unusable(lease: &Lease) -> bool {
    lease.event.fault.is_some() && lease.replay_of.is_none()
}

/// The outcome that a delivery given up for `cause` is counted as.
fn end_of(cause: Cause) -> &'static str {
    match cause {
        Cause::Expired => "expired",
        Cause::Refused | Cause::UnknownOutcome | Cause::Unsendable | Cause::Invalid => "dead",
    }
}
