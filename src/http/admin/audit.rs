//! The record of what operators did: written before it is done, completed after, never with values.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::Admin;
use super::access::Operator;
use super::input::{bad, query, unknown};
use crate::clock::Clock;
use crate::http::problem::{Code, Problem, json_answer};
use crate::spool::{Shelf, Spool};

/// Entries of one page.
const PAGE: usize = 100;
/// Most entries of one page.
const PAGE_MAX: usize = 1_000;
/// Ids that an entry names; of the others it says how many.
const IDS_NAMED: usize = 20;

/// Where entries are kept.
#[derive(Clone)]
pub(super) struct Audit {
    spool: Arc<dyn Spool>,
    clock: Clock,
}

/// An entry that is on the record.
#[derive(Debug)]
pub(super) struct Entry {
    /// Names it; ordered by time.
    pub(super) id: String,
    value: Value,
}

impl Entry {
    /// The entry as a store kept it.
    pub(super) const fn kept(id: String, value: Value) -> Self {
        Self { id, value }
    }

    pub(super) const fn value(&self) -> &Value {
        &self.value
    }
}

impl Audit {
    pub(super) const fn new(spool: Arc<dyn Spool>, clock: Clock) -> Self {
        Self { spool, clock }
    }

    /// Puts on the record what is about to be done. What cannot be recorded is not done.
    pub(super) async fn begin(
        &self,
        who: Operator,
        action: &str,
        what: Value,
    ) -> Result<Entry, Problem> {
        let at = self.clock.now();
        let id = format!("{:013}-{:08x}", at.as_millis(), fastrand::u32(..));
        let who = who.to_string();
        tracing::info!(audit.id = id, who, action, what = %what, "an operator acts");
        let value = json!({
            "id": id, "at": at.to_string(), "who": who, "action": action, "what": what,
            "outcome": null,
        });
        let entry = Entry { id, value };
        self.write(&entry).await?;
        Ok(entry)
    }

    /// Completes an entry. It is done already, so a store that cannot be written is only logged.
    pub(super) async fn end(&self, mut entry: Entry, outcome: Value) {
        tracing::info!(audit.id = entry.id, outcome = %outcome, "what an operator asked for is done");
        entry.value["outcome"] = outcome;
        if let Err(problem) = self.write(&entry).await {
            tracing::error!(audit.id = entry.id, %problem, "the audit record lacks the outcome");
        }
    }

    async fn write(&self, entry: &Entry) -> Result<(), Problem> {
        let (key, value) = (entry.id.clone().into(), entry.value.to_string().into());
        Ok(self.spool.note(Shelf::Audit, key, Some(value)).await?)
    }
}

/// Ids as the record names them.
pub(super) fn ids(ids: &[crate::spool::DeliveryId]) -> Value {
    let named: Vec<String> = ids.iter().take(IDS_NAMED).map(|id| id.0.to_string()).collect();
    json!({ "ids": named, "count": ids.len() })
}

/// `GET /api/audit?after=&limit=`, oldest first.
pub(super) async fn list(State(admin): State<Admin>, RawQuery(asked): RawQuery) -> Response {
    match page(&admin, asked.as_deref().unwrap_or_default()).await {
        Ok(page) => json_answer(StatusCode::OK, page.to_string().into()),
        Err(problem) => problem.into_response(),
    }
}

async fn page(admin: &Admin, asked: &str) -> Result<Value, Problem> {
    let (mut after, mut most) = (None, PAGE);
    for (name, value) in query(asked)? {
        match name.as_str() {
            "after" => after = Some(Bytes::from(value)),
            "limit" => most = limit(&value, PAGE_MAX)?,
            _ => return Err(unknown(&name, &["after", "limit"])),
        }
    }
    let notes = admin.jobs.spool().notes(Shelf::Audit, after, most + 1).await;
    let notes = notes.map_err(|fault| unreadable(&fault))?;
    let entries =
        notes.iter().take(most).filter_map(|(_, value)| serde_json::from_slice(value).ok());
    let entries: Vec<Value> = entries.collect();
    let next = entries.last().filter(|_| notes.len() > most).map(|last| last["id"].clone());
    Ok(json!({ "entries": entries, "next": next }))
}

/// A number of entries from 1 to `max`.
pub(super) fn limit(text: &str, max: usize) -> Result<usize, Problem> {
    let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
    limit.ok_or_else(|| bad(format!("\"limit\" is a number from 1 to {max}")))
}

/// A store that cannot be read; its words are for the log.
pub(super) fn unreadable(fault: &crate::spool::StoreFault) -> Problem {
    tracing::error!(%fault, "the spool cannot be asked");
    Problem::new(Code::StoreUnavailable, "the spool cannot be asked: see the log")
}
