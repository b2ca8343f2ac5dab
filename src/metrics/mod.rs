//! Every metric: its name, labels and words in one table, one place that registers.
//!
//! Label values come from configuration, schemas and enums alone, so the number of series never
//! grows with traffic. What the hot path touches is a handle made at the start.

mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::event::{DestinationName, SourceName};

pub use table::{ALL, Described, Form, PREFIX};
use table::{SECONDS, SIZES};

/// Statuses that the relay answers; any other is counted as 500, which is a bug.
const STATUSES: [u16; 17] =
    [200, 202, 207, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 431, 500, 503];

/// The registry and every handle.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    routes: BTreeMap<&'static str, Arc<Route>>,
    sources: BTreeMap<SourceName, SourceMetrics>,
    destinations: BTreeMap<DestinationName, Arc<DestinationMetrics>>,
    commit_seconds: Histogram,
    commit_events: Histogram,
}

struct SourceMetrics {
    route: Arc<Route>,
    accept_seconds: Histogram,
    warnings: Words,
    lookups: Words,
    conflicts: Counter,
}

/// Counters of one route by status, made when first used.
struct Route {
    name: String,
    statuses: [OnceLock<Counter>; STATUSES.len()],
}

/// Counters of one name and source or destination by a word of an enum, made when first used.
#[derive(Debug)]
struct Words {
    name: &'static str,
    owner: String,
    seen: RwLock<Vec<(&'static str, Counter)>>,
}

impl Words {
    fn new(name: &'static str, owner: &str) -> Self {
        Self { name, owner: owner.to_owned(), seen: RwLock::default() }
    }

    fn increment(&self, word: &'static str, registry: Registry<'_>) {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = seen.iter().find(|(known, _)| *known == word) {
            return counter.increment(1);
        }
        drop(seen);
        let counter = registry.counter(self.name, &[self.owner.as_str(), word]);
        counter.increment(1);
        // Two tasks may both add the word: the counters are the same one behind the registry.
        self.seen.write().unwrap_or_else(PoisonError::into_inner).push((word, counter));
    }
}

/// Handles of one destination.
#[derive(Debug)]
pub struct DestinationMetrics {
    attempts: Words,
    deliveries: Words,
    /// See the table.
    pub attempt_seconds: Histogram,
    /// See the table.
    pub delivery_lag_seconds: Histogram,
    /// See the table.
    pub possible_duplicates: Counter,
    /// See the table.
    pub connections_opened: Counter,
    /// See the table.
    pub schema_drift: Counter,
}

impl Metrics {
    /// Registers everything that has a fixed set of labels.
    ///
    /// `routes` are the fixed paths beside the sources, as `openapi` and `unmatched`.
    ///
    /// # Panics
    /// Never: the bucket lists are not empty.
    pub fn new(
        routes: &[&'static str],
        sources: impl IntoIterator<Item = SourceName>,
        destinations: impl IntoIterator<Item = DestinationName>,
    ) -> Self {
        let recorder = recorder();
        let made = Registry(&recorder);
        let route =
            |name: &str| Arc::new(Route { name: name.to_owned(), statuses: Default::default() });
        let sources = sources.into_iter().map(|name| {
            let seconds = made.histogram("accept_seconds", &[name.as_str()]);
            let route = route(name.as_str());
            let warnings = Words::new("warnings_total", name.as_str());
            let lookups = Words::new("lookups_total", name.as_str());
            let conflicts = made.counter("conflicts_total", &[name.as_str()]);
            let accept_seconds = seconds;
            (name, SourceMetrics { route, accept_seconds, warnings, lookups, conflicts })
        });
        let sources = sources.collect();
        let destinations = destinations.into_iter().map(|name| {
            let labels = &[name.as_str()];
            let handles = DestinationMetrics {
                attempts: Words::new("attempts_total", name.as_str()),
                deliveries: Words::new("deliveries_total", name.as_str()),
                attempt_seconds: made.histogram("attempt_seconds", labels),
                delivery_lag_seconds: made.histogram("delivery_lag_seconds", labels),
                possible_duplicates: made.counter("possible_duplicates_total", labels),
                connections_opened: made.counter("upstream_connections_opened_total", labels),
                schema_drift: made.counter("schema_drift_total", labels),
            };
            (name, Arc::new(handles))
        });
        let destinations = destinations.collect();
        made.gauge("build_info", &[env!("CARGO_PKG_VERSION")]).set(1.0);
        Self {
            routes: routes.iter().map(|&name| (name, route(name))).collect(),
            sources,
            destinations,
            commit_seconds: made.histogram("commit_seconds", &[]),
            commit_events: made.histogram("commit_events", &[]),
            handle: recorder.handle(),
            recorder,
        }
    }

    /// Counts an answer on a fixed route.
    pub fn answered(&self, route: &'static str, status: u16) {
        if let Some(route) = self.routes.get(route) {
            self.count(route, status);
        }
    }

    /// Counts an answer of a source, and how long it took from the last byte of the request.
    pub fn source_answered(&self, source: &SourceName, status: u16, seconds: f64) {
        if let Some(known) = self.sources.get(source) {
            self.count(&known.route, status);
            known.accept_seconds.record(seconds);
        }
    }

    fn count(&self, route: &Route, status: u16) {
        let cell = STATUSES.iter().position(|known| *known == status);
        let cell = cell.unwrap_or(STATUSES.len() - 2);
        let labels = || [route.name.clone(), STATUSES[cell].to_string()];
        route.statuses[cell]
            .get_or_init(|| self.registry().counter("requests_total", &labels()))
            .increment(1);
    }

    /// Records one write and sync of the spool.
    pub fn committed(&self, seconds: f64, records: usize) {
        self.commit_seconds.record(seconds);
        #[expect(clippy::cast_precision_loss, reason = "a commit takes at most a few thousand")]
        self.commit_events.record(records as f64);
    }

    /// Counts violations; `keyword` and `field` are the schema's words, never the body's.
    pub fn violations(&self, source: &SourceName, keyword: &str, field: &str, count: u64) {
        let labels = [source.as_str(), keyword, field];
        self.registry().counter("violations_total", &labels).increment(count);
    }

    /// Counts one repeat that differs from the first.
    pub fn conflict(&self, source: &SourceName) {
        if let Some(known) = self.sources.get(source) {
            known.conflicts.increment(1);
        }
    }

    /// Counts one accepted event on which a lint fired, by the lint's name.
    pub fn warning(&self, source: &SourceName, rule: &'static str) {
        if let Some(known) = self.sources.get(source) {
            known.warnings.increment(rule, self.registry());
        }
    }

    /// Counts one lookup of a notification by what came of it, a word of an enum.
    pub fn lookup(&self, source: &SourceName, outcome: &'static str) {
        if let Some(known) = self.sources.get(source) {
            known.lookups.increment(outcome, self.registry());
        }
    }

    /// Counts one request to a destination by what its answer meant, a word of an enum.
    pub fn attempt(&self, destination: &DestinationMetrics, verdict: &'static str) {
        destination.attempts.increment(verdict, self.registry());
    }

    /// Counts one delivery that ended, by a word of an enum.
    pub fn delivery(&self, destination: &DestinationMetrics, outcome: &'static str) {
        destination.deliveries.increment(outcome, self.registry());
    }

    /// The handles of one destination.
    ///
    /// # Panics
    /// When the destination was not named to [`Metrics::new`].
    #[must_use]
    pub fn destination(&self, name: &DestinationName) -> Arc<DestinationMetrics> {
        let known = self.destinations.get(name);
        Arc::clone(known.expect("every destination has its metrics from the start"))
    }

    /// Sets a gauge of the table, at a scrape.
    pub fn set(&self, name: &'static str, labels: &[&str], value: f64) {
        self.registry().gauge(name, labels).set(value);
    }

    /// Sets a counter of the table to a sum kept elsewhere, at a scrape.
    pub fn set_total(&self, name: &'static str, labels: &[&str], total: u64) {
        self.registry().counter(name, labels).absolute(total);
    }

    /// The registry in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Moves what the histograms gathered into their buckets; call every few seconds, or an
    /// unscraped relay grows.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    fn registry(&self) -> Registry<'_> {
        Registry(&self.recorder)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for described in ALL {
        let bounds = match described.form {
            Form::Seconds => SECONDS,
            Form::Sizes => SIZES,
            Form::Counter | Form::Gauge => continue,
        };
        let name = Matcher::Full(format!("{PREFIX}{}", described.name));
        builder = builder.set_buckets_for_metric(name, bounds).expect("bounds are not empty");
    }
    let recorder = builder.build_recorder();
    for described in ALL {
        let name = KeyName::from(format!("{PREFIX}{}", described.name));
        let help = described.help.into();
        match described.form {
            Form::Counter => recorder.describe_counter(name, None, help),
            Form::Gauge => recorder.describe_gauge(name, None, help),
            Form::Seconds => recorder.describe_histogram(name, Some(Unit::Seconds), help),
            Form::Sizes => recorder.describe_histogram(name, Some(Unit::Count), help),
        }
    }
    recorder
}

/// Makes handles by the table's names and labels.
#[derive(Clone, Copy)]
struct Registry<'a>(&'a PrometheusRecorder);

impl Registry<'_> {
    const WHERE: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

    fn counter(self, name: &'static str, values: &[impl AsRef<str>]) -> Counter {
        self.0.register_counter(&key(name, values), &Self::WHERE)
    }

    fn gauge(self, name: &'static str, values: &[&str]) -> Gauge {
        self.0.register_gauge(&key(name, values), &Self::WHERE)
    }

    fn histogram(self, name: &'static str, values: &[&str]) -> Histogram {
        self.0.register_histogram(&key(name, values), &Self::WHERE)
    }
}

fn key(name: &'static str, values: &[impl AsRef<str>]) -> Key {
    let described = ALL.iter().find(|described| described.name == name);
    debug_assert!(described.is_some_and(|known| known.labels.len() == values.len()), "{name}");
    let names = described.map_or(&[] as &[&str], |described| described.labels);
    let labels = names.iter().zip(values);
    let labels = labels.map(|(name, value)| Label::new(*name, value.as_ref().to_owned()));
    Key::from_parts(format!("{PREFIX}{name}"), labels.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_names_labels_and_real_histograms() {
        let (till, api) = (SourceName::new("till"), DestinationName::new("api"));
        let metrics = Metrics::new(&["openapi"], [till.clone()], [api.clone()]);
        metrics.source_answered(&till, 202, 0.002);
        metrics.answered("openapi", 200);
        metrics.violations(&till, "required", "items/sku", 1);
        metrics.warning(&till, "sku_repeated");
        metrics.warning(&till, "sku_repeated");
        metrics.attempt(&metrics.destination(&api), "delivered");
        metrics.set("ledger_difference", &["items"], 0.0);
        metrics.set_total("items_total", &["till", "accepted"], 7);
        let text = metrics.render();
        for line in [
            r#"beacon_relay_requests_total{route="till",status="202"} 1"#,
            r#"beacon_relay_requests_total{route="openapi",status="200"} 1"#,
            r#"beacon_relay_violations_total{source="till",keyword="required",field="items/sku"} 1"#,
            r#"beacon_relay_warnings_total{source="till",rule="sku_repeated"} 2"#,
            r#"beacon_relay_attempts_total{destination="api",verdict="delivered"} 1"#,
            r#"beacon_relay_items_total{source="till",outcome="accepted"} 7"#,
            r#"beacon_relay_accept_seconds_bucket{source="till",le="0.0025"} 1"#,
            "# TYPE beacon_relay_accept_seconds histogram",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn an_unexpected_status_counts_as_the_bug_it_is() {
        let till = SourceName::new("till");
        let metrics = Metrics::new(&[], [till.clone()], []);
        metrics.source_answered(&till, 418, 0.0);
        assert!(metrics.render().contains(r#"status="500"} 1"#));
    }
}
