//! From the items of one request to durable deliveries: admit, append, one result each.

use std::sync::Arc;

use crate::ledger::{Ledger, Outcome};
use crate::metrics::Metrics;
use crate::source::{Raw, Received, Reject, Source};
use crate::spool::{AppendError, Appended, Batch, NewEvent, Spool};

/// The way in behind every door.
#[derive(Clone)]
pub struct Intake {
    spool: Arc<dyn Spool>,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
}

impl Intake {
    /// An intake that stores in `spool`.
    #[must_use]
    pub const fn new(spool: Arc<dyn Spool>, ledger: Arc<Ledger>, metrics: Arc<Metrics>) -> Self {
        Self { spool, ledger, metrics }
    }

    /// Takes the items of one request to durable deliveries; one result each, in order.
    ///
    /// A caller that leaves while it waits books its items as abandoned; the write still lands.
    ///
    /// # Errors
    /// [`AppendError`] when nothing is promised: the whole request may be sent again.
    pub async fn accept(
        &self,
        source: &Source,
        received: &Received,
        items: &[Raw],
    ) -> Result<Vec<Result<Appended, Reject>>, AppendError> {
        let name = &source.settings().name;
        let mut tally = self.ledger.items(name, items.len());
        let admitted: Vec<Result<NewEvent, Reject>> =
            items.iter().map(|raw| source.admit(received, raw)).collect();
        let events: Vec<NewEvent> = admitted.iter().flatten().cloned().collect();
        let mut appended = match self.append(source, events).await {
            Ok(appended) => appended.into_iter(),
            Err(error) => {
                tally.book_many(Outcome::Unavailable, items.len());
                return Err(error);
            }
        };
        let mut results = Vec::with_capacity(items.len());
        for item in admitted {
            let result = match item {
                Ok(_) => appended.next().map(Ok).ok_or(AppendError::Unsure)?,
                Err(reject) => Err(reject),
            };
            tally.book(self.outcome(source, &result));
            results.push(result);
        }
        Ok(results)
    }

    async fn append(
        &self,
        source: &Source,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Appended>, AppendError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let write = self.spool.append(Batch { events, request: None });
        match tokio::time::timeout(source.settings().answer_within, write).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(AppendError::Unsure),
        }
    }

    fn outcome(&self, source: &Source, result: &Result<Appended, Reject>) -> Outcome {
        match result {
            Ok(Appended::Stored(_)) => Outcome::Accepted,
            Ok(Appended::Duplicate { .. }) => Outcome::Duplicate,
            Err(Reject::Syntax(_)) => Outcome::Rejected,
            Err(Reject::Invalid(violations)) => {
                for violation in violations.iter() {
                    let (keyword, field) = (violation.keyword(), violation.field());
                    self.metrics.violation(&source.settings().name, keyword, field);
                }
                Outcome::Rejected
            }
        }
    }
}
