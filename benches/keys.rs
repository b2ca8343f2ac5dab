//! Ten million dedupe keys: memory, disk, lookups and reopening beside an empty store.
//!
//! `cargo bench --bench keys -- [KEYS] [DIRECTORY]`. The events are owed to nobody, so what is left at
//! the end are the keys. Takes minutes and some gigabytes of disk; not for CI.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use beacon_relay::clock::Clock;
use beacon_relay::event::{
    ClientHeaders, Dedupe, DedupeKey, Event, EventId, EventKind, Fingerprint, Scrubbed, SourceName,
};
use beacon_relay::spool::embedded::{Embedded, Settings};
use beacon_relay::spool::{Appended, Batch, Lane, NewEvent, Spool};
use bytes::Bytes;
use tokio::task::JoinSet;

const CALLERS: u64 = 8;
/// Events of one append.
const BATCH: u64 = 256;
const DAY: Duration = Duration::from_secs(86_400);

/// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let keys: u64 = words.next().map_or(Ok(10_000_000), |word| word.parse())?;
    let dir = words.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("keys-bench-{}", std::process::id()));
    let done = run(&dir, keys).await;
    fs::remove_dir_all(&dir)?;
    done
}

async fn run(dir: &Path, keys: u64) -> Outcome<()> {
    let spool = open(dir).await?;
    // Threads, buffers and segments are there before the first figure is taken.
    fill(&spool, 0, keys / 100).await?;
    settle_down().await;
    let before = report("with a hundredth of the keys", dir)?;
    let started = Instant::now();
    fill(&spool, keys / 100, keys).await?;
    let rate = (keys - keys / 100) as f64 / started.elapsed().as_secs_f64();
    println!("stored {:.0} k events/s", rate / 1e3);
    settle_down().await;
    let after = report(&format!("with {keys} keys"), dir)?;
    println!("{} MB more", after.saturating_sub(before));
    lookups(&spool, keys).await?;
    timed("close", spool.close()).await?;
    drop(spool);
    for end in ["closed", "killed"] {
        let started = Instant::now();
        let spool = open(dir).await?;
        println!("open, {end}: {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
        lookups(&spool, keys).await?;
        settle_down().await;
        report("reopened", dir)?;
        if end == "closed" {
            // What a kill then leaves to be told to the keys again: up to a second of events.
            fill(&spool, keys, keys + keys / 100).await?;
        }
        drop(spool);
    }
    Ok(())
}

async fn open(dir: &Path) -> Outcome<Arc<Embedded>> {
    let settings = Settings::at(dir);
    let opening = tokio::task::spawn_blocking(|| Embedded::open(settings, Clock::system()));
    Ok(Arc::new(opening.await??))
}

/// Lets memtables be written and freed pages go back.
async fn settle_down() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}

/// Stores the events of a range of keys.
async fn fill(spool: &Arc<Embedded>, from: u64, to: u64) -> Outcome<()> {
    let next = Arc::new(AtomicU64::new(from));
    let mut tasks: JoinSet<Outcome<()>> = JoinSet::new();
    for _ in 0..CALLERS {
        let (spool, next) = (Arc::clone(spool), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let first = next.fetch_add(BATCH, Ordering::Relaxed);
                if first >= to {
                    return Ok(());
                }
                let events = (first..(first + BATCH).min(to)).map(event).collect();
                spool.append(Batch { events, request: None }).await?;
            }
        });
    }
    for done in tasks.join_all().await {
        done?;
    }
    Ok(())
}

/// Asks for known keys all over the range, as repeats do, and for the state of some.
async fn lookups(spool: &Arc<Embedded>, keys: u64) -> Outcome<()> {
    const ASKED: u64 = 20_000;
    let started = Instant::now();
    for first in (0..ASKED).step_by(BATCH as usize) {
        let events = (first..first + BATCH).map(|n| event(n * (keys / ASKED / 2).max(1))).collect();
        let receipt = spool.append(Batch { events, request: None }).await?;
        let new = receipt.appended.iter().filter(|of| matches!(of, Appended::Stored(_))).count();
        if new > 0 {
            return Err(format!("{new} keys were forgotten").into());
        }
    }
    let each = started.elapsed().as_secs_f64() * 1e6 / ASKED as f64;
    let started = Instant::now();
    for number in 0..1_000 {
        if spool.find(key(number * (keys / 1_000))).await?.is_none() {
            return Err("an event was not found".into());
        }
    }
    let found = started.elapsed().as_secs_f64() * 1e6 / 1e3;
    println!("a repeat in a batch {each:.1} us, find {found:.0} us");
    Ok(())
}

/// Multiplied by an odd number, so that keys come in no order, as digests do.
fn key(number: u64) -> DedupeKey {
    let key = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    DedupeKey(key.to_be_bytes())
}

fn event(number: u64) -> NewEvent {
    let now = Clock::system().now();
    let fingerprint = Fingerprint { body: number.to_le_bytes(), members: [2; Fingerprint::SLOTS] };
    let event = Event {
        id: EventId::new(now),
        source: SourceName::new("beacon-conversion"),
        kind: EventKind::Conversion,
        target: Bytes::from_static(b"/v1/beacon/conversion"),
        accepted_at: now,
        headers: ClientHeaders::default(),
        fault: None,
        body: Scrubbed::vouch(Bytes::from_static(&[b'x'; 64])),
    };
    NewEvent {
        event: Arc::new(event),
        to: Vec::new(),
        dedupe: Some(Dedupe { key: key(number), window: 30 * DAY, fingerprint }),
        lane: Lane::Live,
    }
}

async fn timed<T, E>(what: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let started = Instant::now();
    let done = work.await?;
    println!("{what}: {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    Ok(done)
}

/// Prints memory and disk, and answers the memory in MB.
fn report(when: &str, dir: &Path) -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    // What a page cache could give back at once, as the pages of mapped files, is not counted.
    let anonymous = of("RssAnon:").ok_or("no size")? / 1024;
    let (keys, all) = (size(&dir.join("keys"))? >> 20, size(dir)? >> 20);
    println!("{when}: {anonymous} MB of memory, {keys} MB of keys, {all} MB of disk");
    Ok(anonymous)
}

/// Bytes that the files below a directory take on the disk.
fn size(dir: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { size(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(bytes)
}
