//! Reading the configuration again while everything runs: whole or not at all.
//!
//! What a request meets (clients, limits, sources, schemas, certificates) is made anew and put in
//! place at once. What was opened at the start (addresses, the spool, destinations, the log) stays
//! until a restart, and is told by name.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use super::{Relay, certificates};
use crate::config::{Plan, Written};
use crate::http::served::Served;
use crate::source::{self, Source};

/// What became of a configuration that was read again, by the names of settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// In force from now on.
    pub changed: Vec<String>,
    /// In force after a restart.
    pub waiting: Vec<String>,
}

/// What can be replaced, as it runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) sources: Vec<Arc<Source>>,
    pub(super) written: Written,
    pub(super) tls: Option<crate::http::tls::Opened>,
}

/// Settings of `[server]` that are used at the start alone.
const AT_START: [&str; 4] =
    ["server.listen", "server.addresses_max", "server.drain_delay", "server.grace"];

/// Tables of which a request meets every setting.
const MET: [&str; 5] = ["server", "client", "source", "pii", "schema"];

/// Whether a setting takes effect without a restart.
fn is_met(setting: &str, old: &Written, new: &Written) -> bool {
    let table = setting.split(['.', ' ']).next().unwrap_or_default();
    if !MET.contains(&table) || AT_START.contains(&setting) {
        return false;
    }
    // Sums and metrics are laid out at the start for the sources there are, and so is what each
    // destination leases, and who looks up what.
    table != "source"
        || (old.names("source") == new.names("source")
            && !setting.ends_with("\".to")
            && !setting.contains("\".lookup."))
}

/// `client "till"` of `client "till".rate`; all of what is in no named table.
fn table_of(setting: &str) -> &str {
    setting.rfind('"').map_or(setting, |end| &setting[..=end])
}

/// A setting as it is told: a table that came or went as one.
fn told(setting: &str, old: &Written, new: &Written) -> String {
    let table = table_of(setting);
    match (table == setting, old.has(table), new.has(table)) {
        (false, true, false) => format!("{table} removed"),
        (false, false, true) => format!("{table} added"),
        (true | false, _, _) => setting.to_owned(),
    }
}

impl Relay {
    /// Puts in force what of `plan` can be without a restart.
    pub fn reload(&self, plan: Plan) -> Reloaded {
        // What a panic left behind is one whole configuration or the other.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let old = running.written.clone();
        let new = &plan.written;
        let (mut changed, mut waiting) = (BTreeSet::new(), BTreeSet::new());
        for setting in old.differences(new) {
            let name = told(&setting, &old, new);
            if is_met(&setting, &old, new) {
                running.written.take(new, &setting);
                changed.insert(name);
            } else {
                waiting.insert(name);
            }
        }
        let contents = |opened: &Option<crate::http::tls::Opened>| {
            opened.as_ref().map(|opened| opened.contents.clone())
        };
        if contents(&running.tls) != contents(&plan.server.tls) {
            changed.insert("server.tls: what its files hold".to_owned());
        }
        if old.names("source") == new.names("source") {
            running.sources = sources(&running.sources, plan.sources, plan.server.depth_max);
        }
        self.lookups.renew(&running.sources);
        let had_tls = running.tls.is_some();
        running.tls = plan.server.tls;
        let tls = running.tls.as_ref().map(|opened| &opened.tls);
        if had_tls || tls.is_some() {
            certificates::show(&self.public.metrics, tls);
        }
        self.serving.replace(Served {
            router: self.public.public(&running.sources, plan.access, plan.server.requests),
            limits: plan.server.connections,
            tls: running.tls.as_ref().map(|opened| opened.tls.clone()),
        });
        Reloaded { changed: changed.into_iter().collect(), waiting: waiting.into_iter().collect() }
    }
}

/// The sources that run, each as it is written now; where their events go stays.
fn sources(
    running: &[Arc<Source>],
    written: Vec<source::Settings>,
    depth_max: usize,
) -> Vec<Arc<Source>> {
    let mut written: Vec<Option<source::Settings>> = written.into_iter().map(Some).collect();
    let mut again = |old: &Arc<Source>| {
        let name = &old.settings().name;
        let found =
            written.iter_mut().find(|one| one.as_ref().is_some_and(|one| one.name == *name));
        match found.and_then(Option::take) {
            Some(settings) => {
                // What the destinations that run ask for.
                let source::Settings { to, event_origins, keep, awaited, .. } = old.settings();
                let settings = source::Settings {
                    to: to.clone(),
                    event_origins: event_origins.clone(),
                    keep: keep.clone(),
                    awaited: awaited.clone(),
                    ..settings
                };
                Arc::new(Source::new(settings, depth_max))
            }
            None => Arc::clone(old),
        }
    };
    running.iter().map(&mut again).collect()
}
