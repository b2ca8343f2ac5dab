//! The table of every metric: name, form, labels, and one sentence; `docs/METRICS.md` says more.

/// What every name starts with.
pub const PREFIX: &str = "beacon_relay_";

/// One metric as `docs/METRICS.md` lists it.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// Name behind [`PREFIX`].
    pub name: &'static str,
    /// Its form.
    pub form: Form,
    /// Label names, in order.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

/// The form of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Durations in seconds, in buckets.
    Seconds,
    /// Counts, in buckets.
    Sizes,
}

const fn metric(
    name: &'static str,
    form: Form,
    labels: &'static [&'static str],
    help: &'static str,
) -> Described {
    Described { name, form, labels, help }
}

/// Every metric of the relay.
pub const ALL: &[Described] = &[
    metric("requests_total", Form::Counter, &["route", "status"], "Requests answered."),
    metric(
        "items_total",
        Form::Counter,
        &["source", "outcome"],
        "Received items by what became of them.",
    ),
    metric(
        "deliveries_total",
        Form::Counter,
        &["destination", "outcome"],
        "Deliveries that ended, and dead letters that were dropped.",
    ),
    metric(
        "attempts_total",
        Form::Counter,
        &["destination", "verdict"],
        "Requests sent to a destination, by what the answer meant.",
    ),
    metric(
        "pending",
        Form::Gauge,
        &["destination", "lane"],
        "Deliveries that wait for their first attempt.",
    ),
    metric("retrying", Form::Gauge, &["destination"], "Deliveries that wait for another attempt."),
    metric("in_flight", Form::Gauge, &["destination"], "Deliveries that are leased."),
    metric("dead_letters", Form::Gauge, &["destination"], "Dead letters kept."),
    metric(
        "oldest_pending_seconds",
        Form::Gauge,
        &["destination"],
        "Age of the oldest event that is not delivered.",
    ),
    metric(
        "ledger_difference",
        Form::Gauge,
        &["sum"],
        "What is missing from a sum that must balance; 0 unless there is a bug.",
    ),
    metric(
        "violations_total",
        Form::Counter,
        &["source", "keyword", "field"],
        "Violations in refused items, by rule and field of the schema.",
    ),
    metric(
        "warnings_total",
        Form::Counter,
        &["source", "rule"],
        "Accepted events by the lint that fired on them.",
    ),
    metric(
        "conflicts_total",
        Form::Counter,
        &["source"],
        "Repeats that differ from the one accepted first, which stays.",
    ),
    metric("awaited", Form::Gauge, &["source"], "Notifications that a partner owes."),
    metric(
        "lookups_total",
        Form::Counter,
        &["source", "outcome"],
        "Lookups of notifications that did not come, by what came of each.",
    ),
    metric(
        "accept_seconds",
        Form::Seconds,
        &["source"],
        "From the last byte of a request to its answer.",
    ),
    metric("commit_seconds", Form::Seconds, &[], "One write and sync of the spool."),
    metric("commit_events", Form::Sizes, &[], "Records in one write of the spool."),
    metric(
        "attempt_seconds",
        Form::Seconds,
        &["destination"],
        "From sending a request to the end of its answer.",
    ),
    metric("delivery_lag_seconds", Form::Seconds, &["destination"], "From acceptance to delivery."),
    metric(
        "possible_duplicates_total",
        Form::Counter,
        &["destination"],
        "Requests sent again though the one before may have arrived.",
    ),
    metric(
        "upstream_connections_opened_total",
        Form::Counter,
        &["destination"],
        "Connections opened to a destination.",
    ),
    metric(
        "schema_drift_total",
        Form::Counter,
        &["destination"],
        "Answers of 422 to what was accepted: the schemas have drifted apart.",
    ),
    metric(
        "breaker_open",
        Form::Gauge,
        &["destination"],
        "1 while a destination's breaker is open.",
    ),
    metric(
        "refusing",
        Form::Gauge,
        &["destination"],
        "1 while a destination refuses everything and its deliveries wait.",
    ),
    metric(
        "redirecting",
        Form::Gauge,
        &["destination"],
        "1 for a minute after a destination answered with a redirect.",
    ),
    metric(
        "expiring",
        Form::Gauge,
        &["destination"],
        "Deliveries within a tenth of their maximum age: soon they are dead letters.",
    ),
    metric("paused", Form::Gauge, &["destination"], "1 while an operator paused a destination."),
    metric(
        "concurrency_limit",
        Form::Gauge,
        &["destination"],
        "Attempts that may be under way at once; below the configured while it has too much.",
    ),
    metric("spool_bytes", Form::Gauge, &[], "Bytes that the spool uses."),
    metric("spool_bytes_limit", Form::Gauge, &[], "Bytes that the spool may use."),
    metric("dead_letter_bytes", Form::Gauge, &[], "Bytes that dead letters take."),
    metric(
        "dead_letter_bytes_limit",
        Form::Gauge,
        &[],
        "Bytes that dead letters may take, beyond which the oldest are dropped.",
    ),
    metric("dedupe_keys", Form::Gauge, &[], "Dedupe keys that are kept."),
    metric(
        "dedupe_keys_limit",
        Form::Gauge,
        &[],
        "Dedupe keys kept at most, beyond which the oldest are forgotten early.",
    ),
    metric(
        "dedupe_keys_dropped_total",
        Form::Counter,
        &[],
        "Dedupe keys forgotten before their windows were over.",
    ),
    metric("damaged_records_total", Form::Counter, &[], "Records found damaged and set aside."),
    metric(
        "certificate_expires_timestamp_seconds",
        Form::Gauge,
        &[],
        "Unix time at which the certificate of the public listener ends.",
    ),
    metric("build_info", Form::Gauge, &["version"], "1, with the version that runs."),
];

/// Bucket bounds for durations: 0.5 ms, about a synced write, to an hour's outage and beyond.
pub(super) const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0, 1800.0, 3600.0, 14_400.0, 86_400.0,
];
/// Bucket bounds for records in a commit, which takes at most 1,024 events.
pub(super) const SIZES: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
