//! The import itself: a batch, its answer, its outcomes, the state; and again.
//!
//! The order of those four is the promise: outcomes are on disk before the state that counts them,
//! so that a run that dies anywhere goes on with the batch whose outcomes are not counted. That
//! batch carries the same `Idempotency-Key` and is answered as the first time.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use tokio::time::Instant;

use super::content::{self, Stamp};
use super::judge::Judge;
use super::order::Order;
use super::outcome::{Outcome, Outcomes, REFUSED, Sums, Told};
use super::show::{Show, Summary};
use super::source::Orders;
use super::state::StateFile;
use super::upload::{Answer, Relay};
use crate::caller::Rate;
use crate::cli::Refused;
use crate::shutdown::Signals;

/// Bytes of one request, under every limit that a relay is likely to have; the relay's answer
/// decides.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// What is imported.
pub(super) struct Input<'m> {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
    pub(super) orders: Orders<'m>,
}

impl Input<'_> {
    /// Whether the file is the one that was looked at first: a till that still writes to it may cut
    /// an order in two, or the last ones off.
    fn is_unchanged(&self) -> bool {
        Stamp::of(&self.path).is_ok_and(|stamp| stamp == self.stamp)
    }
}

/// Where orders go.
pub(super) enum Way {
    Judge { judge: Box<Judge>, outcomes: Option<PathBuf> },
    Relay { relay: Box<Relay>, state: StateFile, outcomes: PathBuf },
}

impl Way {
    fn outcomes(&self) -> Option<PathBuf> {
        match self {
            Self::Judge { outcomes, .. } => outcomes.clone(),
            Self::Relay { outcomes, .. } => Some(outcomes.clone()),
        }
    }
}

/// How much at once, and how fast.
pub(super) struct Bounds {
    pub(super) batch: usize,
    pub(super) rate: Option<Rate>,
}

impl Bounds {
    /// Orders of one request: at a rate, no more than a second's.
    fn orders_max(&self) -> usize {
        let Some(rate) = self.rate else { return self.batch };
        let a_second = Duration::from_secs(1).as_nanos() / rate.item_time().as_nanos().max(1);
        usize::try_from(a_second).unwrap_or(self.batch).clamp(1, self.batch)
    }
}

/// One import.
pub(super) struct Run<'m> {
    pub(super) input: Input<'m>,
    pub(super) way: Way,
    pub(super) bounds: Bounds,
    pub(super) show: Show,
    pub(super) is_json: bool,
}

impl Run<'_> {
    pub(super) async fn whole(self) -> anyhow::Result<ExitCode> {
        let Self { mut input, mut way, bounds, mut show, is_json } = self;
        let started = Instant::now();
        let mut signals = Signals::listen()?;
        let path = way.outcomes();
        let mut ledger = begun(&mut way, path.as_deref()).await?;
        let before = ledger.sums.orders();
        // Before anything is sent: a run that dies in its first batch repeats it under the same key.
        ledger.keep(&way).context("how far the import came cannot be kept")?;
        let mut line = 0;
        for _ in 0..before {
            let order = input.orders.next()?.context("the file is shorter than its state says")?;
            line = order.last_line;
        }
        if before > 0 {
            show.say(&format!("going on behind the first {before} orders"));
            show.start_at(line);
        }
        let mut due = Instant::now();
        loop {
            let batch = gather(&mut input.orders, bounds.orders_max())?;
            let Some(last) = batch.last() else { break };
            let line = last.last_line;
            let done = ledger.sums.orders();
            let (sent_at, results) = {
                let asked = ask(&mut way, done, &batch, &show);
                let paced = async {
                    tokio::time::sleep_until(due).await;
                    (Instant::now(), asked.await)
                };
                // Dropped, a batch may have arrived; it is sent again as it was.
                tokio::select! {
                    signal = signals.stop() => {
                        show.finish();
                        bail!("stopped by {signal} after {done} orders; the same command goes on");
                    }
                    results = paced => results,
                }
            };
            let results = results.inspect_err(|_| show.finish())?;
            if let Some(rate) = bounds.rate {
                let sent = u32::try_from(batch.len()).unwrap_or(u32::MAX);
                // From when it was sent: a slow answer is part of the wait, not on top of it.
                due = sent_at + rate.item_time() * sent;
            }
            ledger.take(
                &batch,
                results,
                matches!(way, Way::Relay { .. }),
                &input.name,
                &mut show,
            )?;
            ledger.keep(&way).context("how far the import came cannot be kept")?;
            show.at(line, &ledger.sums);
        }
        show.finish();
        if !input.is_unchanged() {
            bail!("{} was changed while it was read: run this again when it is whole", input.name);
        }
        if let Way::Judge { judge, .. } = &way
            && let Some(remedy) = judge.remedy()
        {
            show.say(remedy);
        }
        ledger.end(&way)?;
        let outcomes = path.map(|path| path.display().to_string());
        let summary = Summary {
            file: &input.name,
            outcomes: outcomes.as_deref(),
            sums: ledger.sums,
            before,
            took: started.elapsed(),
            is_dry: matches!(way, Way::Judge { .. }),
        };
        crate::cli::say(&if is_json { summary.json() } else { summary.text() });
        let is_well = ledger.sums.refused == 0;
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The outcomes and their sums, as an earlier run left them. The file is locked before it is asked
/// how far that run came: it may be at its end just now.
async fn begun(way: &mut Way, outcomes: Option<&Path>) -> anyhow::Result<Ledger> {
    let Some(path) = outcomes else { return Ok(Ledger::default()) };
    let unusable = |error: std::io::Error| -> anyhow::Error {
        let what = format!("the outcomes {} cannot be written: {error}", path.display());
        let is_busy = error.kind() == std::io::ErrorKind::ResourceBusy;
        if is_busy { anyhow::anyhow!(what) } else { Refused(what).into() }
    };
    let mut file = Outcomes::open(path).await.map_err(unusable)?;
    let left = match way {
        Way::Judge { .. } => None,
        Way::Relay { state, .. } => state.read()?,
    };
    let (sums, bytes) = left.map_or((Sums::default(), 0), |left| (left.sums, left.outcome_bytes));
    file.go_on(bytes).map_err(unusable)?;
    Ok(Ledger { file: Some(file), sums })
}

/// The next orders, as many as one request takes.
fn gather(orders: &mut Orders<'_>, orders_max: usize) -> anyhow::Result<Vec<Order>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < orders_max && bytes < BATCH_BYTES_MAX {
        let Some(order) = orders.next()? else { break };
        bytes += order.body.as_ref().map_or(0, Bytes::len);
        batch.push(order);
    }
    Ok(batch)
}

/// What is said of each order of a batch that can be asked about, in order.
async fn ask(way: &mut Way, done: u64, batch: &[Order], show: &Show) -> anyhow::Result<Vec<Told>> {
    let bodies: Vec<&Bytes> = batch.iter().filter_map(|order| order.body.as_ref().ok()).collect();
    match way {
        Way::Judge { judge, .. } => {
            Ok(bodies.iter().enumerate().map(|(at, body)| judge.ask(at, body)).collect())
        }
        Way::Relay { relay, state, .. } => {
            let mut results = Vec::with_capacity(bodies.len());
            // Parts of the batch that are still to be sent, the next one last.
            let mut parts = vec![&bodies[..]];
            while let Some(part) = parts.pop() {
                if part.is_empty() {
                    continue;
                }
                let mut lines = Vec::new();
                for body in part {
                    lines.extend_from_slice(body);
                    lines.push(b'\n');
                }
                let place = done + results.len() as u64;
                let key = content::digest(&[state.run.as_bytes(), &place.to_le_bytes(), &lines]);
                let lines = Bytes::from(lines);
                let waiting = |why: &str, wait| show.waiting(why, wait);
                match relay.post(&lines, part.len(), &key, waiting).await? {
                    Answer::Results(told) => results.extend(told),
                    Answer::TooLarge if part.len() > 1 => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.push(second);
                        parts.push(first);
                    }
                    Answer::TooLarge => {
                        let code = Some("body_too_large".to_owned());
                        results.push(Told { status: 413, code, ..Told::default() });
                    }
                }
            }
            Ok(results)
        }
    }
}

/// The outcomes and their sums.
#[derive(Default)]
struct Ledger {
    file: Option<Outcomes>,
    sums: Sums,
}

impl Ledger {
    fn take(
        &mut self,
        batch: &[Order],
        results: Vec<Told>,
        is_sent: bool,
        name: &str,
        show: &mut Show,
    ) -> anyhow::Result<()> {
        let mut results = results.into_iter();
        for order in batch {
            let outcome = match &order.body {
                Err(wrong) => Outcome::unsent(order, wrong),
                Ok(_) => {
                    let told = results.next().context("an order was not answered")?;
                    Outcome::told(order, told, is_sent)
                }
            };
            if outcome.outcome == REFUSED {
                show.refused(outcome.sentences(name));
            }
            if let Some(file) = &mut self.file {
                file.write(&outcome).context("the outcomes cannot be written")?;
            }
            self.sums.add(&outcome);
        }
        Ok(())
    }

    /// Outcomes first, then the state that counts them.
    fn keep(&mut self, way: &Way) -> std::io::Result<()> {
        let bytes = self.file.as_mut().map_or(Ok(0), Outcomes::sync)?;
        match way {
            Way::Judge { .. } => Ok(()),
            Way::Relay { state, .. } => state.write(bytes, self.sums),
        }
    }

    /// The import is over: nothing is left to go on with.
    fn end(&mut self, way: &Way) -> anyhow::Result<()> {
        if let Some(file) = &mut self.file {
            file.sync().context("the outcomes cannot be written")?;
        }
        match way {
            Way::Judge { .. } => Ok(()),
            Way::Relay { state, .. } => {
                state.remove().context("the state of the import cannot be removed")
            }
        }
    }
}
