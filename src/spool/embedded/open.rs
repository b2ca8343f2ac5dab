//! Opening the directory: whose it is, what wrote it, and the threads that run on it.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use super::commit::{Committer, End};
use super::crypt;
use super::damage::QUARANTINE;
use super::files::{Disk, WriteError};
use super::flush::{Flusher, Rounds};
use super::handed::Handed;
use super::inbox::{Bell, COMMIT_BYTES_MAX, Inbox, Next};
use super::keys::Keys;
use super::noted::Noted;
use super::pool::Pool;
use super::recover::{self, Recovery};
use super::shelves::{self, Shelves};
use super::upkeep::Upkeep;
use super::{Embedded, LogKind, Settings, Shared, format, lock};
use crate::clock::Clock;
use crate::spool::StoreFault;

pub(super) const LOCK: &str = "LOCK";
pub(super) const KEYS: &str = "keys";

/// Opens or creates the store.
pub(super) fn open(
    disk: Disk,
    settings: Settings,
    clock: Clock,
    whole: bool,
) -> Result<Embedded, StoreFault> {
    if settings.max_bytes < Settings::MAX_BYTES_MIN {
        return Err(StoreFault {
            doing: format!("opening a spool of {} bytes", settings.max_bytes),
            cause: format!("it needs {} at least", Settings::MAX_BYTES_MIN),
        });
    }
    disk.make_dir("")?;
    let held = take_lock(&disk)?;
    crypt::check(&disk)?;
    format::settle(&disk).map_err(no_room)?;
    for dir in LogKind::ALL.map(LogKind::dir).into_iter().chain([QUARANTINE]) {
        disk.make_dir(dir)?;
        // A kill may have come between a file and the sync of its directory: what is found here is
        // written to, and must be found after a power cut too.
        disk.sync_dir(dir)?;
    }
    disk.sync_dir("")?;
    let note_file = Noted::open(&disk).map_err(no_room)?;
    let pool = Pool::new(disk.clone(), settings.segment_size(), settings.max_bytes);
    for (_, size) in disk.list(QUARANTINE)? {
        pool.found(0, size);
    }
    pool.find_reserve()?;
    // Said before the first event is refused for it.
    pool.has_disk()?;
    let keys = Keys::open(&disk.path(KEYS), &disk.path(QUARANTINE), clock.now())?;
    clock.believe_from(keys.noted());
    let (covered, noted_last) = (keys.covered(), note_file.last());
    let noted = noted_last;
    // Also when their files are gone without a trace.
    let settled = noted.settled[LogKind::Accepted.index()];
    let keys_lost = keys.is_begun_anew() || covered == 0 && settled > 0;
    if keys_lost && !whole {
        tracing::error!("dedupe keys were lost and are rebuilt from the logs");
    }
    let damaged_keys = u64::from(keys_lost && !whole);
    // What they have lost is told to them again from every record there is.
    let whole = whole || keys_lost;
    let with = Recovery {
        disk: &disk,
        pool: &pool,
        keys: &keys,
        noted,
        covered,
        whole,
        clock: &clock,
        due_within: settings.due_within,
    };
    let mut state = recover::recover(with)?;
    state.due_max = settings.due_max;
    let handed = Handed::open(&disk, |found| state.keep_owed(found));
    let shelves::Opened { shelves, damaged } = Shelves::open(&disk).map_err(no_room)?;
    state.damaged += damaged + damaged_keys;
    let (pool, keys) = (Arc::new(pool), Arc::new(keys));
    let shared = Arc::new(Shared {
        inbox: Inbox::new(settings.inbox_events, settings.inbox_bytes, commit_bytes(&pool)),
        settings,
        clock,
        disk,
        pool,
        shelves,
        keys_gauge: keys.gauge(),
        #[cfg(test)]
        keys_full_disk: keys.full_disk(),
        state: Mutex::new(state),
        handed,
        bell: Bell::default(),
        tend: Bell::default(),
        rounds: Rounds::default(),
        fault: watch::Sender::new(None),
        closed: watch::Sender::new(None),
        letters: Mutex::default(),
        moving: tokio::sync::Mutex::default(),
        lock: Mutex::new(Some(held)),
    });
    let threads = vec![start(&shared, keys, note_file)?];
    Ok(Embedded { shared, threads })
}

/// Bytes of one commit: a segment must take it whole.
fn commit_bytes(pool: &Pool) -> usize {
    let segment = usize::try_from(pool.segment_bytes / 2).unwrap_or(usize::MAX);
    COMMIT_BYTES_MAX.min(segment)
}

fn no_room(error: WriteError) -> StoreFault {
    match error {
        WriteError::Fault(fault) => fault,
        WriteError::Full => StoreFault {
            doing: "opening the spool".to_owned(),
            cause: "no space left on device".to_owned(),
        },
    }
}

/// Makes the directory ours until the file is closed. The system closes it however we end.
fn take_lock(disk: &Disk) -> Result<File, StoreFault> {
    let path = disk.path(LOCK);
    let doing = format!("locking {}", path.display());
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).read(true).write(true).open(&path);
    let file = file.map_err(|error| StoreFault::io(doing.clone(), &error))?;
    match file.try_lock() {
        Ok(()) => {
            sign(&file);
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let holder = holder(&file);
            let cause = format!(
                "{holder} has this spool open; stop that one, or give each a directory of its own"
            );
            Err(StoreFault { doing, cause })
        }
        Err(TryLockError::Error(error)) => Err(StoreFault::io(doing, &error)),
    }
}

/// Leaves our number for whoever finds the directory locked. It is a help, so failing is no fault.
fn sign(file: &File) {
    let number = format!("{}\n", std::process::id());
    let _unsigned = file.set_len(0).and_then(|()| file.write_all_at(number.as_bytes(), 0));
}

/// Who holds the lock, as far as it is known: in another container the number means another one.
pub(super) fn holder(file: &File) -> String {
    let mut bytes = [0; 20];
    let read = file.read_at(&mut bytes, 0).unwrap_or(0);
    let number = std::str::from_utf8(&bytes[..read]).ok().and_then(|n| n.trim().parse().ok());
    number.map_or_else(|| "another process".to_owned(), |n: u32| format!("process {n}"))
}

/// Starts the committing thread, which starts and ends the other one.
fn start(
    shared: &Arc<Shared>,
    keys: Arc<Keys>,
    noted: Noted,
) -> Result<JoinHandle<()>, StoreFault> {
    let shared = Arc::clone(shared);
    spawn("spool-commit", move || {
        let flusher = Flusher::new(Arc::clone(&shared), Arc::clone(&keys), noted);
        let started =
            start_acks(&shared, flusher).and_then(|acks| Ok((acks, start_upkeep(&shared)?)));
        let closed = match started {
            Ok((acks, upkeep)) => work(&shared, keys, acks, upkeep),
            Err(fault) => {
                shared.fail(fault.clone());
                Err(fault)
            }
        };
        if closed.is_ok() {
            lock(&shared.lock).take();
        }
        shared.closed.send_replace(Some(closed));
    })
}

type Acks = JoinHandle<Option<Flusher>>;

fn start_acks(shared: &Arc<Shared>, flusher: Flusher) -> Result<Acks, StoreFault> {
    let shared = Arc::clone(shared);
    spawn("spool-acks", move || guarded(&shared, || flusher.run()))
}

fn start_upkeep(shared: &Arc<Shared>) -> Result<JoinHandle<()>, StoreFault> {
    let shared = Arc::clone(shared);
    spawn("spool-upkeep", move || {
        let upkeep = Upkeep::new(Arc::clone(&shared));
        guarded(&shared, || upkeep.run());
    })
}

/// Commits until the end, and ends the other threads. Ends well only after an orderly close.
fn work(
    shared: &Arc<Shared>,
    keys: Arc<Keys>,
    acks: Acks,
    upkeep: JoinHandle<()>,
) -> Result<(), StoreFault> {
    let mut committer = Committer::new(Arc::clone(shared), Arc::clone(&keys));
    let end = guarded(shared, || match committer.run() {
        End::Closed => committer.park_what_waits().map(|()| End::Closed),
        End::Killed => Ok(End::Killed),
    });
    drop(committer);
    if end.is_none() {
        // It panicked; whoever waits for it is told so.
        shared.inbox.kill();
        if let Next::Killed(commands) = shared.inbox.next() {
            commands.into_iter().for_each(|command| command.fail(&shared.gone()));
        }
    }
    shared.tend.stop();
    // A panic in it was told through the fault.
    let _ended = upkeep.join();
    shared.bell.stop();
    let flusher = acks.join().ok().flatten();
    shared.check()?;
    match (end, flusher) {
        (Some(Ok(End::Closed)), Some(flusher)) => {
            let finished = guarded(shared, || finish(flusher, keys));
            finished.unwrap_or_else(|| Err(shared.gone()))
        }
        (Some(Err(fault)), _) => Err(fault),
        (Some(Ok(End::Closed | End::Killed)) | None, _) => Err(shared.gone()),
    }
}

/// Writes the last acknowledgements and keys.
fn finish(mut flusher: Flusher, keys: Arc<Keys>) -> Result<(), StoreFault> {
    flusher.sync()?;
    flusher.shared.handed.close();
    let noted = flusher.into_noted();
    // Both threads gave up theirs.
    if let Some(keys) = Arc::into_inner(keys) {
        keys.close()?;
        noted.write()?;
    }
    Ok(())
}

/// Runs a thread's work; a panic in it is a fault of the store.
fn guarded<T>(shared: &Shared, work: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(_panic) => {
            let doing = format!("running {}", thread::current().name().unwrap_or("a thread"));
            shared.fail(StoreFault { doing, cause: "it panicked".to_owned() });
            None
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StoreFault> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|error| StoreFault::io(format!("starting thread {name}"), &error))
}
