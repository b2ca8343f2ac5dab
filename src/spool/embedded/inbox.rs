//! What waits for the committing thread, with its bounds.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::carry::Carried;
use super::record::{Prior, Record};
use super::segment::SegmentId;
use super::{LogKind, lock};
use crate::event::{DedupeKey, DestinationName};
use crate::spool::{
    AppendError, Batch, DeliveryId, Found, Receipt, Replayed, SettleError, StoreFault,
};

/// A dead letter to be put back in line.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) id: DeliveryId,
    pub(super) to: DestinationName,
    pub(super) record: Record,
    /// Its place in `dead/`.
    pub(super) prior: Prior,
}

/// Whether letters are put back in line, or only judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Really {
    Yes,
    No,
}

/// One thing to be made durable, and who waits for it.
#[derive(Debug)]
pub(super) enum Command {
    Append {
        batch: Batch,
        answer: oneshot::Sender<Result<Receipt, AppendError>>,
    },
    /// To `retry/`; the hold of `token` is kept until it is there.
    Park {
        token: u64,
        line: usize,
        record: Record,
        answer: oneshot::Sender<Result<(), SettleError>>,
    },
    /// To `dead/`, likewise.
    Bury {
        token: u64,
        line: usize,
        record: Record,
        answer: oneshot::Sender<Result<(), SettleError>>,
    },
    Replay {
        letters: Vec<Letter>,
        really: Really,
        answer: oneshot::Sender<Result<Replayed, AppendError>>,
    },
    Find {
        key: DedupeKey,
        answer: oneshot::Sender<Result<Option<Found>, StoreFault>>,
    },
    /// Letters are dropped by the thread that puts them back in line, so that none is both.
    Drop {
        letters: Vec<Prior>,
        answer: oneshot::Sender<Result<usize, StoreFault>>,
    },
    /// The same with all letters of a segment.
    DropSegment {
        segment: SegmentId,
        answer: oneshot::Sender<Result<u64, StoreFault>>,
    },
    /// Unsettled records go to the end of their log; answers how many did.
    Carry {
        log: LogKind,
        records: Vec<Carried>,
        answer: oneshot::Sender<Result<usize, StoreFault>>,
    },
}

impl Command {
    /// Answers that the store is broken.
    pub(super) fn fail(self, fault: &StoreFault) {
        // Whoever went away does not need the answer.
        match self {
            Self::Append { answer, .. } => drop(answer.send(Err(fault.clone().into()))),
            Self::Park { answer, .. } | Self::Bury { answer, .. } => {
                drop(answer.send(Err(fault.clone().into())));
            }
            Self::Replay { answer, .. } => drop(answer.send(Err(fault.clone().into()))),
            Self::Find { answer, .. } => drop(answer.send(Err(fault.clone()))),
            Self::Drop { answer, .. } | Self::Carry { answer, .. } => {
                drop(answer.send(Err(fault.clone())));
            }
            Self::DropSegment { answer, .. } => drop(answer.send(Err(fault.clone()))),
        }
    }

    pub(super) fn events(&self) -> usize {
        match self {
            Self::Append { batch, .. } => batch.events.len() + usize::from(batch.request.is_some()),
            Self::Park { .. } | Self::Bury { .. } | Self::Find { .. } => 1,
            Self::Replay { letters, .. } => letters.len(),
            Self::Drop { letters, .. } => letters.len(),
            Self::DropSegment { .. } => 1,
            Self::Carry { records, .. } => records.len(),
        }
    }
}

/// A command with the bytes of its records.
#[derive(Debug)]
struct Entry {
    command: Command,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    events: usize,
    bytes: usize,
    /// Nothing is taken any more.
    closed: bool,
    /// What waits is not to be written.
    killed: bool,
    /// The committing thread sleeps and has not been woken: waking it costs a system call.
    asleep: bool,
}

/// What the committing thread is to do next.
#[derive(Debug)]
pub(super) enum Next {
    Commit(Vec<Command>),
    /// Everything that was taken is done.
    Closed,
    Killed(Vec<Command>),
}

/// The queue of commands.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    filled: Condvar,
    events_max: usize,
    bytes_max: usize,
    commit_bytes_max: usize,
}

/// Events that are written and synced at once.
pub(super) const COMMIT_EVENTS_MAX: usize = 1024;
/// Bytes of them: a sync of more takes so long that those behind it wait for nothing.
pub(super) const COMMIT_BYTES_MAX: usize = 4 << 20;

impl Inbox {
    pub(super) fn new(events_max: usize, bytes_max: usize, commit_bytes_max: usize) -> Self {
        let (queue, filled) = (Mutex::default(), Condvar::new());
        Self { queue, filled, events_max, bytes_max, commit_bytes_max }
    }

    /// Takes a command that callers may be refused: beyond the bounds it is `Busy`. A command
    /// larger than the bounds is taken by an empty inbox.
    pub(super) fn offer(&self, command: Command, bytes: usize) -> Result<(), AppendError> {
        let events = command.events();
        let queue = lock(&self.queue);
        if queue.closed {
            return Err(AppendError::Closed);
        }
        let over = queue.events + events > self.events_max || queue.bytes + bytes > self.bytes_max;
        if over && !queue.entries.is_empty() {
            return Err(AppendError::Busy);
        }
        self.push(queue, command, bytes);
        Ok(())
    }

    /// Takes the settlement of a lease, of which there are no more than leases: it is never busy.
    pub(super) fn settle(&self, command: Command, bytes: usize) -> Result<(), SettleError> {
        let queue = lock(&self.queue);
        if queue.closed {
            return Err(SettleError::LeaseLost);
        }
        self.push(queue, command, bytes);
        Ok(())
    }

    /// Takes what needs no room and is bounded by whoever asks for it.
    pub(super) fn upkeep(&self, command: Command, bytes: usize) -> Result<(), StoreFault> {
        let queue = lock(&self.queue);
        if queue.closed {
            return Err(StoreFault {
                doing: "asking the committing thread".to_owned(),
                cause: "the spool is closing".to_owned(),
            });
        }
        self.push(queue, command, bytes);
        Ok(())
    }

    /// Whether nothing is taken any more.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.queue).closed
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, command: Command, bytes: usize) {
        queue.events += command.events();
        queue.bytes += bytes;
        queue.entries.push_back(Entry { command, bytes });
        self.wake(queue);
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        let asleep = std::mem::take(&mut queue.asleep);
        // Or the woken thread would have to wait for it at once.
        drop(queue);
        if asleep {
            self.filled.notify_one();
        }
    }

    /// Lets the committing thread finish what is there and end.
    pub(super) fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        self.wake(queue);
    }

    /// Lets the committing thread end at once.
    pub(super) fn kill(&self) {
        let mut queue = lock(&self.queue);
        (queue.closed, queue.killed) = (true, true);
        self.wake(queue);
    }

    /// Waits for work, and takes what one commit holds.
    pub(super) fn next(&self) -> Next {
        let mut queue = lock(&self.queue);
        loop {
            if queue.killed {
                (queue.events, queue.bytes) = (0, 0);
                return Next::Killed(queue.entries.drain(..).map(|e| e.command).collect());
            }
            if !queue.entries.is_empty() {
                return Next::Commit(queue.take(self.commit_bytes_max));
            }
            if queue.closed {
                return Next::Closed;
            }
            queue.asleep = true;
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    fn take(&mut self, bytes_max: usize) -> Vec<Command> {
        let mut taken = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        while let Some(entry) = self.entries.front() {
            events += entry.command.events();
            bytes += entry.bytes;
            // The first is taken however large it is: it was found to fit a segment.
            let over = events > COMMIT_EVENTS_MAX || bytes > bytes_max;
            if over && !taken.is_empty() {
                break;
            }
            if let Some(entry) = self.entries.pop_front() {
                self.events -= entry.command.events();
                self.bytes -= entry.bytes;
                taken.push(entry.command);
            }
        }
        taken
    }
}

/// A bell that a thread waits at with a time limit.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<Rung>,
    ringing: Condvar,
}

/// What a bell was rung for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rung {
    /// Something is wanted before its time.
    pub(super) hurry: bool,
    /// A sync is.
    pub(super) sync: bool,
    /// The thread is to end.
    pub(super) stop: bool,
}

impl Bell {
    pub(super) fn hurry(&self) {
        lock(&self.rung).hurry = true;
        self.ringing.notify_one();
    }

    /// Asks for a sync.
    pub(super) fn sync(&self) {
        let mut rung = lock(&self.rung);
        (rung.hurry, rung.sync) = (true, true);
        self.ringing.notify_one();
    }

    pub(super) fn stop(&self) {
        lock(&self.rung).stop = true;
        self.ringing.notify_one();
    }

    /// Waits until it is rung or the time is over.
    pub(super) fn wait(&self, at_most: Duration) -> Rung {
        let rung = lock(&self.rung);
        let waited = self.ringing.wait_timeout_while(rung, at_most, |r| !r.hurry && !r.stop);
        let (mut rung, _elapsed) = waited.unwrap_or_else(PoisonError::into_inner);
        let was = *rung;
        (rung.hurry, rung.sync) = (false, false);
        was
    }
}
