//! From the items of one request to durable deliveries: admit, append, one result each.

use std::sync::Arc;

use crate::ledger::{Ledger, Outcome};
use crate::metrics::Metrics;
use crate::schema::lint::Warnings;
use crate::source::{Admitted, Raw, Received, Reject, Source};
use crate::spool::{AppendError, Appended, Batch, NewEvent, Receipt, Spool};

/// An item that is durable.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Stored, or a duplicate and of what.
    pub appended: Appended,
    /// What its sender may not have meant.
    pub warnings: Warnings,
}

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
    ) -> Result<Vec<Result<Accepted, Reject>>, AppendError> {
        let name = &source.settings().name;
        let mut tally = self.ledger.items(name, items.len());
        let mut events = Vec::with_capacity(items.len());
        let mut admit = |raw| {
            let Admitted { event, warnings } = source.admit(received, raw)?;
            events.push(event);
            Ok(warnings)
        };
        let judged: Vec<Result<Warnings, Reject>> = items.iter().map(&mut admit).collect();
        let mut appended = match self.append(source, events).await {
            Ok(receipt) => receipt.appended.into_iter(),
            Err(error) => {
                tally.book_many(Outcome::Unavailable, items.len());
                return Err(error);
            }
        };
        let mut results = Vec::with_capacity(items.len());
        for item in judged {
            let result = match item {
                Ok(warnings) => {
                    let appended = appended.next().ok_or(AppendError::Unsure)?;
                    Ok(Accepted { appended, warnings })
                }
                Err(reject) => Err(reject),
            };
            tally.book(self.outcome(source, &result));
            results.push(result);
        }
        Ok(results)
    }

    async fn append(&self, source: &Source, events: Vec<NewEvent>) -> Result<Receipt, AppendError> {
        if events.is_empty() {
            return Ok(Receipt::default());
        }
        let write = self.spool.append(Batch { events, request: None });
        match tokio::time::timeout(source.settings().answer_within, write).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(AppendError::Unsure),
        }
    }

    fn outcome(&self, source: &Source, result: &Result<Accepted, Reject>) -> Outcome {
        let name = &source.settings().name;
        match result {
            Ok(Accepted { appended: Appended::Stored(_), warnings }) => {
                for lint in warnings.lints() {
                    self.metrics.warning(name, lint.as_str());
                }
                Outcome::Accepted
            }
            // Counted with the first: a client that tries again has not erred twice.
            Ok(Accepted { appended: Appended::Duplicate { .. }, .. }) => Outcome::Duplicate,
            Err(Reject::Syntax(_) | Reject::Pairs(_) | Reject::Publisher) => Outcome::Rejected,
            Err(Reject::Invalid(violations)) => {
                for violation in violations.iter() {
                    let (keyword, field) = (violation.keyword(), violation.field());
                    self.metrics.violation(name, keyword, field);
                }
                Outcome::Rejected
            }
        }
    }
}
