//! A forwarder per destination: lease, send, judge, settle.
//!
//! It decides nothing about other destinations and shares nothing with them but the spool.

mod asked;
mod attempt;
pub mod backoff;
pub mod client;
pub mod concurrency;
pub mod gate;
pub mod gates;
pub mod pace;
pub mod pause;
pub mod request;
mod scout;
pub mod standing;
pub mod transport;
pub mod verdict;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::event::{DestinationName, Event, EventKind, SourceName};
use crate::ledger::Ledger;
use crate::metrics::{DestinationMetrics, Metrics};
use crate::spool::{Lease, Spool, StoreFault, Want};

use backoff::{Backoff, MaxAge};
use client::{Client, Counters, Limits, Network};
use concurrency::{Concurrency, Use};
use gate::Passage;
use gates::Gates;
use pace::{Meter, Pace};
use pause::{Pause, Until};
use request::Shape;
pub use standing::Standing;
use transport::Transport;
use verdict::WhenUnsure;

/// What a destination's table says, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub name: DestinationName,
    /// Scheme, authority, target and headers of its requests.
    pub shape: Shape,
    /// Requests under way at once,
    pub concurrency: usize,
    /// of which so many are for fresh events alone.
    pub reserved_for_live: usize,
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
    /// The same for the sources that say otherwise.
    pub when_unsure_of: BTreeMap<SourceName, WhenUnsure>,
}

impl Settings {
    /// What to do with what may have arrived, of that source.
    #[must_use]
    pub fn unsure(&self, source: &SourceName) -> WhenUnsure {
        self.when_unsure_of.get(source).copied().unwrap_or(self.when_unsure)
    }
}

/// Longest wait for something to lease before the gate and the stop are looked at again.
const LEASE_WAIT: Duration = Duration::from_secs(1);
/// Wait after the spool could not be asked, so that a broken store is not asked in a spin.
const FAULT_WAIT: Duration = Duration::from_millis(200);

/// Where there are several origins, what waits for its time is taken for a probe so often at most,
const HASTEN_FIRST: Duration = gate::PROBE_EVERY;
/// and so much later for each delivery that stepped aside since: all of them may be for another
/// closed origin, and would step aside and be taken again without time passing.
const HASTEN_FOR_EACH: Duration = Duration::from_millis(50);
/// It is taken as often as this at least.
const HASTEN_MAX: Duration = Duration::from_secs(60);

/// A redirect is told of so often, and thought to go on for so long.
const REDIRECT_TOLD_EVERY: Duration = Duration::from_secs(60);
/// Over how many seconds the rate is measured at which a backlog goes.
const DRAIN_MEASURED_OVER: f64 = 10.0;

/// Sends what is owed to one destination.
pub struct Forwarder {
    settings: Settings,
    spool: Arc<dyn Spool>,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    own_metrics: Arc<DestinationMetrics>,
    transport: Arc<dyn Transport>,
    gates: Gates,
    concurrency: Arc<Concurrency>,
    pace: Pace,
    pause: Pause,
    drain: Mutex<Meter>,
    redirected_at: Mutex<Option<Instant>>,
    /// Deliveries that stepped aside since what waits was hastened last,
    put_aside: AtomicU32,
    /// and when that was.
    hastened_at: Mutex<Option<Instant>>,
    scouted_at: Mutex<Option<Instant>>,
    clock: Clock,
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
    /// A forwarder for one destination, with a client of its own.
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
        Self::over(Arc::new(client), settings, spool, ledger, metrics, clock)
    }

    /// The same over a transport that is given.
    #[must_use]
    pub fn over(
        transport: Arc<dyn Transport>,
        settings: Settings,
        spool: Arc<dyn Spool>,
        ledger: Arc<Ledger>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Arc<Self> {
        let own_metrics = metrics.destination(&settings.name);
        let now = Instant::now();
        Arc::new(Self {
            concurrency: Concurrency::new(settings.concurrency, settings.reserved_for_live),
            spool,
            ledger,
            metrics,
            own_metrics,
            transport,
            gates: Gates::new(settings.limits.attempt_within + gate::PROBE_EVERY),
            pace: Pace::new(now),
            pause: Pause::default(),
            drain: Mutex::new(Meter::new(DRAIN_MEASURED_OVER, now)),
            redirected_at: Mutex::default(),
            put_aside: AtomicU32::new(0),
            hastened_at: Mutex::default(),
            scouted_at: Mutex::default(),
            clock,
            settings,
        })
    }

    /// The destination's name.
    #[must_use]
    pub const fn name(&self) -> &DestinationName {
        &self.settings.name
    }

    /// Whether an event is older than this destination takes.
    #[must_use]
    pub fn has_outlived(&self, event: &Event) -> bool {
        self.settings.max_age.has_passed(event.kind, event.accepted_at, self.clock.believed())
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let now = Instant::now();
        let (concurrency, concurrency_max) = self.concurrency.limit();
        let redirected_at = *lock(&self.redirected_at);
        Standing {
            gate: self.gates.standing(now),
            redirecting: redirected_at.is_some_and(|at| now - at < REDIRECT_TOLD_EVERY),
            paused: self.pause.until(self.clock.now()),
            concurrency,
            concurrency_max,
            rate: self.pace.rate(),
            drained_per_second: lock(&self.drain).rate(now),
        }
    }

    /// How many deliveries are within a tenth of their maximum age.
    ///
    /// # Errors
    /// [`StoreFault`] when the spool cannot be asked.
    pub async fn expiring(&self) -> Result<u64, StoreFault> {
        let now = self.clock.believed();
        let before = EventKind::ALL.map(|kind| self.settings.max_age.nears(kind, now));
        self.spool.aging(&self.settings.name, before).await
    }

    /// Sends nothing before `until`, or before [`Forwarder::resume`]. What is under way goes on.
    /// Whoever pauses keeps it over a restart.
    pub fn pause(&self, until: Until) {
        self.pause.set(until);
        self.gates.look_again();
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.pause.clear();
        self.gates.look_again();
    }

    /// A delivery ended that was not fresh.
    fn drained(&self, now: Instant) {
        lock(&self.drain).add(1.0, now);
    }

    /// Tells of a redirect, once in a while.
    fn redirected(&self, now: Instant) {
        let mut at = lock(&self.redirected_at);
        if at.is_none_or(|at| now - at >= REDIRECT_TOLD_EVERY) {
            *at = Some(now);
            tracing::warn!(
                destination = %self.settings.name,
                "the destination answers with a redirect, which is never followed: mend base_url"
            );
        }
    }

    /// Leases and sends until told to stop; returns when every attempt has been settled.
    pub async fn run(self: Arc<Self>, stop: Stop) {
        let attempts = TaskTracker::new();
        self.recall_asked().await;
        loop {
            let round = self.round(&stop, &attempts);
            if stop.leasing.run_until_cancelled(round).await.is_none() {
                break;
            }
        }
        attempts.close();
        attempts.wait().await;
    }

    /// Waits for pause, gate, pace and a free slot, leases what fits and starts an attempt for
    /// each.
    ///
    /// Cancel-safe: between the lease's answer and the start of its attempts nothing waits.
    async fn round(self: &Arc<Self>, stop: &Stop, attempts: &TaskTracker) {
        let changed = self.gates.changed();
        let now = Instant::now();
        if let Some(left) = self.pause.left(self.clock.now()) {
            // The clock may be set, so the pause is looked at again before its end.
            return wait_for(changed, now + left.min(LEASE_WAIT)).await;
        }
        let probing = match self.gates.passage(now) {
            Passage::Open => false,
            Passage::Probe => true,
            Passage::Closed(until) => match self.scouts_at(now) {
                Some(at) if at <= now => return self.scout(now, stop, attempts).await,
                next => return wait_for(changed, next.map_or(until, |at| at.min(until))).await,
            },
        };
        let mut want =
            if probing { self.concurrency.want_probe() } else { self.concurrency.want() };
        if !probing {
            match self.pace.ready(now) {
                Ok(most) => want = Want { max: want.max.min(most), others: want.others.min(most) },
                Err(at) => return wait_for(changed, at).await,
            }
        }
        if want.max == 0 {
            return tokio::select! {
                () = changed => (),
                () = self.concurrency.freed() => (),
            };
        }
        // Any of these ends the wait for something to send; all are cancel-safe. A slot that is
        // given back lets others be leased where none might be before.
        let leased = tokio::select! {
            biased;
            () = changed => return,
            () = self.concurrency.freed(), if want.others == 0 => return,
            leased = self.lease(want, probing) => leased,
        };
        let leases = match leased {
            Ok(leases) => leases,
            Err(fault) => {
                tracing::error!(destination = %self.settings.name, %fault, "leasing failed");
                return tokio::time::sleep(FAULT_WAIT).await;
            }
        };
        let now = Instant::now();
        self.pace.started(leases.len(), now);
        for lease in leases {
            let held = self.ledger.lease(&self.settings.name);
            let slot = self.concurrency.take(Use::of(lease.lane, probing), now);
            attempts.spawn(Arc::clone(self).deliver(lease, held, slot, stop.attempts.clone()));
        }
    }

    /// Takes what is wanted. A probe takes a fresh event where one waits, for what failed before may
    /// be poisoned and tell nothing of the origin. It takes what waits for its time when nothing is
    /// due: else an origin that works again would be found out only when the next backoff ends.
    async fn lease(&self, want: Want, probing: bool) -> Result<Vec<Lease>, StoreFault> {
        let name = &self.settings.name;
        if probing {
            for want in [Want { others: 0, ..want }, want] {
                let leases = self.spool.lease(name, want, Duration::ZERO).await?;
                if !leases.is_empty() {
                    return Ok(leases);
                }
            }
            if self.may_hasten(Instant::now()) {
                self.spool.hasten(name).await?;
            }
        }
        self.spool.lease(name, want, LEASE_WAIT).await
    }

    /// Whether what waits for its time may be taken for a probe. Of one origin it always may: there
    /// the first that is taken is the probe, and the gate is closed until its end.
    fn may_hasten(&self, now: Instant) -> bool {
        let mut at = lock(&self.hastened_at);
        let aside = self.put_aside.load(Ordering::Relaxed);
        let wait = hasten_after(aside);
        if self.gates.are_several() && at.is_some_and(|at| now - at < wait) {
            return false;
        }
        *at = Some(now);
        self.put_aside.store(0, Ordering::Relaxed);
        true
    }
}

/// How long after the last time what waits may be hastened again, when so many stepped aside since.
fn hasten_after(aside: u32) -> Duration {
    HASTEN_FIRST.saturating_add(HASTEN_FOR_EACH.saturating_mul(aside)).min(HASTEN_MAX)
}

/// Waits until `at`, or for a gate to change. Cancel-safe.
async fn wait_for(changed: Notified<'_>, at: Instant) {
    // Elapsed or changed, the next look decides.
    let _looked = tokio::time::timeout_at(at, changed).await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder")
            .field("destination", &self.settings.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
