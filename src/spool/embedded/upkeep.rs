//! The thread that keeps the store in its bounds: dead letters by age and bytes, segments that a
//! few records keep alive, the reserve.
//!
//! One step a second, each with bounded work. It decides and reads; what changes is changed by the
//! committing thread, so that no letter is dropped and replayed at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::carry::Carrier;
use super::inbox::Command;
use super::retention::Retention;
use super::{LogKind, Shared};
use crate::spool::StoreFault;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);

/// The thread's own.
pub(super) struct Upkeep {
    shared: Arc<Shared>,
    retention: Retention,
    carriers: [Carrier; 2],
}

impl Upkeep {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            retention: Retention::default(),
            carriers: [LogKind::Parked, LogKind::Dead].map(Carrier::new),
        }
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        if let Err(fault) = shared.pool.keep_reserve() {
            shared.fail(fault);
        }
        loop {
            let rung = shared.tend.wait(EVERY);
            if rung.stop || shared.fault().is_some() {
                return;
            }
            if let Err(fault) = self.step(Instant::now()) {
                // Nothing is kept up any more once the store closes.
                if !shared.inbox.is_closed() {
                    shared.fail(fault);
                }
                return;
            }
        }
    }

    fn step(&mut self, now: Instant) -> Result<(), StoreFault> {
        self.shared.pool.keep_reserve()?;
        self.retention.step(&self.shared)?;
        for carrier in &mut self.carriers {
            carrier.step(&self.shared, now)?;
        }
        Ok(())
    }
}

/// Has the committing thread do something, and waits for it.
pub(super) fn ask<T>(
    shared: &Shared,
    command: impl FnOnce(oneshot::Sender<Result<T, StoreFault>>) -> Command,
    bytes: usize,
) -> Result<T, StoreFault> {
    let (answer, answered) = oneshot::channel();
    shared.inbox.upkeep(command(answer), bytes)?;
    answered.blocking_recv().unwrap_or_else(|_gone| Err(shared.gone()))
}
