//! What is in hand, added up for scrapes, for operators and for readiness.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::problem::{Code, Problem};
use crate::clock::Clock;
use crate::forward::{Forwarder, Standing, pause};
use crate::ledger::{ItemSums, LeaseEnd, LeaseSums, Ledger, Outcome};
use crate::metrics::Metrics;
use crate::spool::{DestinationStats, Spool, SpoolStats, StoreFault};

/// The relay as it stands.
pub struct Status {
    spool: Arc<dyn Spool>,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    forwarders: Vec<Arc<Forwarder>>,
    clock: Clock,
    started: Instant,
}

impl Status {
    /// A view of these rooms.
    #[must_use]
    pub fn new(
        spool: Arc<dyn Spool>,
        ledger: Arc<Ledger>,
        metrics: Arc<Metrics>,
        forwarders: Vec<Arc<Forwarder>>,
        clock: Clock,
    ) -> Self {
        Self { spool, ledger, metrics, forwarders, clock, started: Instant::now() }
    }

    /// The registry.
    #[must_use]
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The forwarder of a destination.
    #[must_use]
    pub fn forwarder(&self, name: &str) -> Option<&Arc<Forwarder>> {
        self.forwarders.iter().find(|one| one.name().as_str() == name)
    }

    /// Why the relay should get no requests now; empty when it is ready.
    pub async fn unready(&self) -> Vec<&'static str> {
        match self.spool.stats().await {
            Ok(stats) if stats.full => vec!["spool_full"],
            Ok(_) => Vec::new(),
            Err(_) => vec!["spool_fault"],
        }
    }

    async fn stats(&self) -> Result<SpoolStats, Problem> {
        self.spool.stats().await.map_err(|fault| cannot_ask(&fault))
    }

    /// Brings the gauges and the sums that are kept elsewhere up to date.
    ///
    /// # Errors
    /// A [`Problem`] when the spool cannot be asked.
    pub async fn refresh(&self) -> Result<(), Problem> {
        let stats = self.stats().await?;
        let set = |name, labels: &[&str], value: f64| self.metrics.set(name, labels, value);
        for (source, sums) in self.ledger.item_sums() {
            for outcome in Outcome::ALL {
                let labels = [source.as_str(), outcome.as_str()];
                let total = sums.booked[outcome as usize];
                self.metrics.set_total("items_total", &labels, total);
            }
        }
        for one in &stats.destinations {
            let name = one.name.as_str();
            set("pending", &[name, "live"], float(one.live));
            set("pending", &[name, "backlog"], float(one.backlog));
            set("retrying", &[name], float(one.retrying));
            set("in_flight", &[name], float(one.in_flight));
            set("dead_letters", &[name], float(one.dead));
            // The others are counted as they end; these end in the store.
            self.metrics.set_total("deliveries_total", &[name, "dropped"], one.dropped);
            set("oldest_pending_seconds", &[name], self.oldest_seconds(one));
        }
        for forwarder in &self.forwarders {
            let name = forwarder.name().as_str();
            let standing = forwarder.standing();
            set("breaker_open", &[name], truth(standing.gate.broken));
            set("refusing", &[name], truth(standing.gate.refusing));
            set("redirecting", &[name], truth(standing.redirecting));
            set("paused", &[name], truth(standing.paused.is_some()));
            set("concurrency_limit", &[name], float(standing.concurrency as u64));
            set("expiring", &[name], float(self.expiring(forwarder).await?));
        }
        #[expect(clippy::cast_precision_loss, reason = "a difference is 0 or a bug")]
        for (sum, difference) in self.differences(&stats) {
            set("ledger_difference", &[sum], difference as f64);
        }
        set("spool_bytes", &[], float(stats.used_bytes));
        set("spool_bytes_limit", &[], float(stats.limit_bytes));
        set("dead_letter_bytes", &[], float(stats.dead_bytes));
        set("dead_letter_bytes_limit", &[], float(stats.dead_limit_bytes));
        set("dedupe_keys", &[], float(stats.keys.kept));
        set("dedupe_keys_limit", &[], float(stats.keys.limit));
        self.metrics.set_total("dedupe_keys_dropped_total", &[], stats.keys.dropped);
        self.metrics.set_total("damaged_records_total", &[], stats.damaged_records);
        Ok(())
    }

    async fn expiring(&self, forwarder: &Forwarder) -> Result<u64, Problem> {
        forwarder.expiring().await.map_err(|fault| cannot_ask(&fault))
    }

    /// What each sum lacks.
    fn differences(&self, stats: &SpoolStats) -> [(&'static str, i64); 4] {
        [
            ("items", self.ledger.item_sums().map(|(_, sums)| sums.difference()).sum()),
            ("leases", self.ledger.lease_sums().map(|(_, sums)| sums.difference()).sum()),
            ("store", stats.difference()),
            ("letters", stats.letters_difference()),
        ]
    }

    fn oldest_seconds(&self, one: &DestinationStats) -> f64 {
        one.oldest.map_or(0.0, |oldest| self.clock.now().since(oldest).as_secs_f64())
    }

    /// The report of `GET /api/status`.
    ///
    /// # Errors
    /// A [`Problem`] when the spool cannot be asked.
    pub async fn report(&self) -> Result<Value, Problem> {
        let stats = self.stats().await?;
        let sources = self.ledger.item_sums().map(|(name, sums)| {
            let mut entry = items(&sums);
            entry["name"] = json!(name.as_str());
            entry
        });
        let mut expiring = Vec::with_capacity(self.forwarders.len());
        for forwarder in &self.forwarders {
            expiring.push(self.expiring(forwarder).await?);
        }
        let destinations = self.forwarders.iter().zip(expiring).map(|(forwarder, expiring)| {
            let name = forwarder.name();
            let known = stats.destinations.iter().find(|one| one.name == *name);
            let leases = self.ledger.lease_sums().find(|(own, _)| *own == name);
            let standing = forwarder.standing();
            let drain = known.map_or(0, |one| one.backlog + one.retrying);
            json!({
                "name": name.as_str(),
                "pending": {
                    "live": known.map_or(0, |one| one.live),
                    "backlog": known.map_or(0, |one| one.backlog),
                },
                "retrying": known.map_or(0, |one| one.retrying),
                "in_flight": known.map_or(0, |one| one.in_flight),
                "dead": known.map_or(0, |one| one.dead),
                "oldest_age_seconds": known.map_or(0.0, |one| self.oldest_seconds(one)),
                "expiring": expiring,
                "breaker": if standing.gate.broken { "open" } else { "closed" },
                "refusing": standing.gate.refusing,
                "redirecting": standing.redirecting,
                "closed_for_seconds": standing.gate.closed_for.map(|left| left.as_secs_f64()),
                "paused": paused(&standing),
                "concurrency": { "now": standing.concurrency, "max": standing.concurrency_max },
                "rate_per_second": standing.rate,
                "drain": {
                    "waiting": drain,
                    "per_second": standing.drained_per_second,
                    "eta_seconds": standing.eta(drain).map(|eta| eta.as_secs()),
                },
                "leases": leases.map(|(_, sums)| lease(&sums)),
            })
        });
        let differences = self.differences(&stats);
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "ledger": {
                "differences": differences.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
                "store": store(&stats),
            },
            "sources": sources.collect::<Vec<_>>(),
            "destinations": destinations.collect::<Vec<_>>(),
            "spool": {
                "used_bytes": stats.used_bytes,
                "limit_bytes": stats.limit_bytes,
                "full": stats.full,
                "dead_bytes": stats.dead_bytes,
                "dead_limit_bytes": stats.dead_limit_bytes,
                "damaged_records": stats.damaged_records,
                "dedupe_keys": stats.keys.kept,
                "dedupe_keys_limit": stats.keys.limit,
            },
        }))
    }
}

fn items(sums: &ItemSums) -> Value {
    let mut entry = json!({ "received": sums.received, "in_hand": sums.in_hand });
    for outcome in Outcome::ALL {
        entry[outcome.as_str()] = json!(sums.booked[outcome as usize]);
    }
    entry
}

fn cannot_ask(fault: &StoreFault) -> Problem {
    tracing::error!(%fault, "the spool cannot be asked");
    Problem::new(Code::StoreUnavailable, "the spool cannot be asked: see the log")
}

/// Nothing, or until when.
fn paused(standing: &Standing) -> Value {
    match standing.paused {
        None => Value::Null,
        Some(pause::FOR_EVER) => json!({ "until": null }),
        Some(until) => json!({ "until": until.to_string() }),
    }
}

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn lease(sums: &LeaseSums) -> Value {
    json!({
        "taken": sums.received,
        "delivered": sums.ended(LeaseEnd::Delivered),
        "put_back": sums.ended(LeaseEnd::PutBack),
        "dead": sums.ended(LeaseEnd::Dead),
        "lost": sums.ended(LeaseEnd::Lost),
        "in_hand": sums.in_hand,
    })
}

fn store(stats: &SpoolStats) -> Value {
    json!({
        "recovered": stats.flow.recovered,
        "stored": stats.flow.stored,
        "replayed": stats.flow.replayed,
        "delivered": stats.flow.delivered,
        "dead": stats.flow.dead,
        "removed": stats.flow.removed,
        "spooled": stats.spooled(),
        "letters": stats.flow.letters,
        "dropped": stats.flow.dropped,
        "letters_lost": stats.flow.letters_lost,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a double; counts stay far below 2^53")]
const fn float(count: u64) -> f64 {
    count as f64
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Status").finish_non_exhaustive()
    }
}
