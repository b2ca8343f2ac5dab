//! What the embedded spool takes of memory and disk while events wait, and gives back afterwards.
//!
//! `cargo bench --bench waiting -- [EVENTS] [DIRECTORY]`, ten million by default: 3 GB of disk and some
//! minutes. Events are small and have no key, for keys have a bound and a measurement of their own.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use beacon_relay::clock::Clock;
use beacon_relay::event::{
    ClientHeaders, DestinationName, Event, EventId, EventKind, Scrubbed, SourceName,
};
use beacon_relay::spool::embedded::{Embedded, Settings};
use beacon_relay::spool::{Batch, Lane, NewEvent, Settlement, Spool, Want};
use bytes::Bytes;

const FEW: u64 = 10_000;
const BATCH: u64 = 1_000;
const BODY: &[u8] = &[b'x'; 100];
/// Until the threads behind have written what they had.
const REST: Duration = Duration::from_secs(3);

/// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let events: u64 = words.next().map_or(Ok(10_000_000), |word| word.parse())?;
    let dir = words.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("waiting-bench-{}", std::process::id()));
    let done = run(&dir, events).await;
    fs::remove_dir_all(&dir)?;
    done
}

async fn run(dir: &Path, events: u64) -> Outcome<()> {
    let spool = open(dir).await?;
    tell("empty", dir).await?;
    append(&spool, FEW).await?;
    tell(&format!("{FEW} waiting"), dir).await?;
    append(&spool, events - FEW).await?;
    tell(&format!("{events} waiting"), dir).await?;
    drop(spool);
    let started = Instant::now();
    let spool = open(dir).await?;
    println!("opened in {} ms, as after a kill", started.elapsed().as_millis());
    tell(&format!("{events} waiting, opened anew"), dir).await?;
    let parked = events.min(100_000);
    let later = Clock::system().now().after(Duration::from_secs(3600));
    settle(&spool, parked, &Settlement::RetryAt(later)).await?;
    tell(&format!("{parked} of them wait for another attempt"), dir).await?;
    settle(&spool, events - parked, &Settlement::Delivered).await?;
    tell("the others are delivered", dir).await?;
    spool.close().await?;
    Ok(())
}

async fn open(dir: &Path) -> Outcome<Arc<Embedded>> {
    let path = dir.join("spool");
    let opening =
        tokio::task::spawn_blocking(|| Embedded::open(Settings::at(path), Clock::system()));
    Ok(Arc::new(opening.await??))
}

async fn append(spool: &Arc<Embedded>, events: u64) -> Outcome<()> {
    let to = vec![DestinationName::new("events-api")];
    let source = SourceName::new("beacon-click");
    for _ in 0..events / BATCH {
        let now = Clock::system().now();
        let event = || Event {
            id: EventId::new(now),
            source: source.clone(),
            kind: EventKind::Click,
            target: Bytes::from_static(b"/v1/beacon/click/a1?pos=1"),
            accepted_at: now,
            body: Scrubbed::vouch(Bytes::from_static(BODY)),
            headers: ClientHeaders::default(),
            fault: None,
        };
        let new = || NewEvent {
            event: Arc::new(event()),
            to: to.clone(),
            dedupe: None,
            lane: Lane::Live,
        };
        let events = (0..BATCH).map(|_| new()).collect();
        spool.append(Batch { events, request: None }).await?;
    }
    Ok(())
}

async fn settle(spool: &Arc<Embedded>, events: u64, settlement: &Settlement) -> Outcome<()> {
    let to = DestinationName::new("events-api");
    let mut left = usize::try_from(events)?;
    while left > 0 {
        let leases = spool.lease(&to, Want::any(left.min(256)), Duration::from_secs(10)).await?;
        left -= leases.len();
        let mut settling = tokio::task::JoinSet::new();
        // All at once, as many attempts end at once.
        for lease in leases {
            let (spool, settlement) = (Arc::clone(spool), settlement.clone());
            settling.spawn(async move { spool.settle(lease, settlement).await });
        }
        for settled in settling.join_all().await {
            settled?;
        }
    }
    Ok(())
}

async fn tell(what: &str, dir: &Path) -> Outcome<()> {
    tokio::time::sleep(REST).await;
    let status = fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).ok_or("no such field")?;
        let kib = line.split_whitespace().nth(1).ok_or("no number")?.parse::<f64>()?;
        Outcome::Ok(kib / 1024.0)
    };
    let (resident, peak, disk) = (field("VmRSS:")?, field("VmHWM:")?, size(dir)? >> 20);
    println!("{what:44} {resident:6.1} MB resident, {peak:6.1} at most, {disk:6} MB on disk");
    Ok(())
}

fn size(path: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { size(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}
