//! Taking deliveries and ending leases, as callers do it.

use std::pin::pin;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::damage;
use super::fetch::{self, Got, Plan};
use super::inbox::Command;
use super::lease::Delivery;
use super::record::{Form, Record, Sources};
use super::state::State;
use super::{LogKind, Shared, lock};
use crate::clock::Timestamp;
use crate::event::DestinationName;
use crate::spool::{Lane, Lease, Refusal, SettleError, Settlement, StoreFault, Want};

/// Longest nap of a waiting lease while something waits for a time to come. The clock may jump, or
/// be held and then moved by a test, which wakes nobody, so a waiter looks again this often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Takes what is due, waiting for the first. Leases are taken and handed over between two awaits,
/// so a call that is dropped has taken none.
pub(super) async fn lease(
    shared: &Arc<Shared>,
    to: &DestinationName,
    want: Want,
    wait: Duration,
) -> Result<Vec<Lease>, StoreFault> {
    // No deadline when the wait reaches beyond the end of time.
    let deadline = Instant::now().checked_add(wait);
    let (line, changed) = {
        let mut state = lock(&shared.state);
        let line = state.line(to);
        (line, Arc::clone(&state.lines[line].changed))
    };
    loop {
        let mut changed = pin!(changed.notified());
        // From here on a change wakes us, also one between the look and the wait.
        changed.as_mut().enable();
        shared.check()?;
        if want.max == 0 || lock(&shared.state).closed {
            return Ok(Vec::new());
        }
        read_ahead(shared, line, want).await?;
        let now = shared.clock.steady();
        let due = {
            let mut state = lock(&shared.state);
            if state.closed {
                return Ok(Vec::new());
            }
            state.expire(line, now);
            let mut leases = state.take(line, want, now.after(shared.settings.lease_for));
            if !leases.is_empty() {
                drop(state);
                shared.handed.enter(&mut leases);
                return Ok(leases);
            }
            state.lines[line].next_moment(want.others > 0).map(|due| due.since(now))
        };
        let left =
            deadline.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Ok(Vec::new());
        }
        let nap = due.map_or(left, |due| due.clamp(Duration::from_millis(1), LOOK_AGAIN));
        // Elapsed or woken, the next look decides.
        let _woken = timeout(nap.min(left), changed).await;
    }
}

/// Lets what waits without having been told to be taken early.
pub(super) fn hasten(shared: &Shared, to: &DestinationName) -> Result<(), StoreFault> {
    shared.check()?;
    let mut state = lock(&shared.state);
    let line = state.line(to);
    state.lines[line].hasten();
    state.lines[line].changed.notify_waiters();
    Ok(())
}

/// Reads until as many deliveries are ready as are wanted, or nothing more is to be read.
async fn read_ahead(shared: &Arc<Shared>, line: usize, want: Want) -> Result<(), StoreFault> {
    let reading = Arc::clone(&lock(&shared.state).lines[line].reading);
    let mut sources = reading.lock_owned().await;
    loop {
        let plan = {
            let mut state = lock(&shared.state);
            let (now, steady) = (shared.clock.now(), shared.clock.steady());
            state.expire(line, steady);
            // Here and nowhere else, for nobody reads for this line meanwhile.
            let tail = state.track(LogKind::Accepted).next_seq;
            state.lines[line].age(now, tail);
            fetch::plan(&mut state, line, want, steady)
        };
        let Some(plan) = plan else { return Ok(()) };
        let got = if plan.is_fresh() {
            read(shared, plan, &mut sources)?
        } else {
            let shared = Arc::clone(shared);
            let work = move || {
                let got = read(&shared, plan, &mut sources);
                (got, sources)
            };
            let (got, back) = tokio::task::spawn_blocking(work).await.map_err(|error| {
                StoreFault { doing: "reading deliveries".to_owned(), cause: error.to_string() }
            })?;
            sources = back;
            got?
        };
        fetch::take_in(&mut lock(&shared.state), line, got);
    }
}

/// Reads, and sets aside what is damaged.
fn read(shared: &Shared, plan: Plan, sources: &mut Sources) -> Result<Got, StoreFault> {
    let got = fetch::read(plan, sources).inspect_err(|fault| shared.fail(fault.clone()))?;
    for found in &got.damage {
        damage::report(shared, found).inspect_err(|fault| shared.fail(fault.clone()))?;
    }
    Ok(got)
}

/// Reads the first unread delivery of each line, so that its age is known.
pub(super) async fn look_at_the_oldest(shared: &Arc<Shared>) -> Result<(), StoreFault> {
    let lines = lock(&shared.state).lines.len();
    for line in 0..lines {
        read_ahead(shared, line, Want::any(usize::MAX)).await?;
    }
    Ok(())
}

/// Ends a lease. What goes to disk is on its way once this was polled.
pub(super) async fn settle(
    shared: &Arc<Shared>,
    lease: Lease,
    settlement: Settlement,
) -> Result<(), SettleError> {
    shared.check()?;
    let (id, after) = (lease.id, After::of(&lease, &settlement));
    let waits = begin(shared, &lease, settlement)?;
    if let Some(answered) = waits {
        answered.await.unwrap_or_else(|_gone| Err(shared.gone().into()))?;
    }
    match after {
        After::Over => shared.handed.settled(id),
        After::Back => shared.handed.strike(id),
        After::Unsure => {}
    }
    Ok(())
}

/// What is known of a delivery once its lease has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// It is at an end.
    Over,
    /// It has not arrived.
    Back,
    /// It may have arrived, now or before.
    Unsure,
}

impl After {
    fn of(lease: &Lease, settlement: &Settlement) -> Self {
        match settlement {
            Settlement::Delivered | Settlement::DeadLetter(_) | Settlement::GivenUp(_) => {
                Self::Over
            }
            Settlement::RetryAt(_) | Settlement::Later(_) | Settlement::PutBack => {
                let sent = settlement.wait().and_then(|(later, _)| later.sent_at);
                let unsure = sent.or(lease.sent_at).is_some() || lease.interrupted;
                if unsure { Self::Unsure } else { Self::Back }
            }
        }
    }
}

type Answered = oneshot::Receiver<Result<(), SettleError>>;

fn begin(
    shared: &Shared,
    lease: &Lease,
    settlement: Settlement,
) -> Result<Option<Answered>, SettleError> {
    let now = shared.clock.now();
    let mut state = lock(&shared.state);
    let held = state.hold_of(lease, shared.clock.steady())?;
    let line = held.line;
    match settlement {
        Settlement::Delivered => {
            state.delivered(lease.token);
            Ok(None)
        }
        Settlement::PutBack => {
            if let Some((delivery, line)) = state.release(lease.token) {
                state.lines[line].put_back(delivery);
            }
            state.lines[line].changed.notify_waiters();
            Ok(None)
        }
        Settlement::RetryAt(_) | Settlement::Later(_) => {
            let Some((later, sooner)) = settlement.wait() else { return Ok(None) };
            held.delivery.wait(later, sooner);
            if later.due.since(now) <= shared.settings.park_beyond {
                state.retry(lease.token, shared.clock.steady_at(later.due));
                state.lines[line].changed.notify_waiters();
                return Ok(None);
            }
            let record = moved(&held.delivery, later.due, 0, None);
            let token = lease.token;
            hand_over(shared, state, token, record, |record, answer| Command::Park {
                token,
                line,
                record,
                answer,
            })
        }
        Settlement::DeadLetter(refusal) => {
            let record = moved(&held.delivery, now, 1, Some(refusal));
            bury(shared, state, lease.token, line, record)
        }
        Settlement::GivenUp(cause) => {
            let record = moved(&held.delivery, now, 0, Some(Refusal::unanswered(cause)));
            bury(shared, state, lease.token, line, record)
        }
    }
}

fn bury(
    shared: &Shared,
    state: MutexGuard<'_, State>,
    token: u64,
    line: usize,
    record: Record,
) -> Result<Option<Answered>, SettleError> {
    hand_over(shared, state, token, record, |record, answer| Command::Bury {
        token,
        line,
        record,
        answer,
    })
}

/// Gives a delivery's move to another log to the committing thread, the lock released before.
fn hand_over(
    shared: &Shared,
    mut state: MutexGuard<'_, State>,
    token: u64,
    record: Record,
    command: impl FnOnce(Record, oneshot::Sender<Result<(), SettleError>>) -> Command,
) -> Result<Option<Answered>, SettleError> {
    state.settle_slowly(token);
    drop(state);
    let bytes = record.encoded_len();
    let (answer, answered) = oneshot::channel();
    shared.inbox.settle(command(record, answer), bytes)?;
    Ok(Some(answered))
}

/// The record by which a delivery moves to another log.
pub(super) fn moved(
    delivery: &Delivery,
    at: Timestamp,
    attempts: u32,
    refusal: Option<Refusal>,
) -> Record {
    let answer_max = Refusal::ANSWER_BYTES_MAX;
    Record {
        form: Form::Event,
        event: Arc::clone(&delivery.record.event),
        dedupe: delivery.record.dedupe,
        lane: Lane::Retry,
        attempts: delivery.attempts.saturating_add(attempts),
        at,
        delivery: Some(delivery.id),
        prior: Some(delivery.place.as_prior()),
        origin: Some(delivery.origin),
        replay_of: delivery.record.replay_of,
        sooner: delivery.sooner,
        sent_at: delivery.sent_at,
        refusal: refusal.map(|refusal| Refusal {
            answer: refusal.answer.slice(..refusal.answer.len().min(answer_max)),
            ..refusal
        }),
    }
}
