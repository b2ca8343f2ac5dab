//! The embedded spool under load: commits with many callers, a whole cycle, reopening, draining.
//!
//! `cargo bench --bench spool -- [EVENTS] [DIRECTORY]`. Times a closed loop with the clock on the
//! wall; disks and neighbours vary, so compare only runs that ran side by side.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use beacon_relay::clock::Clock;
use beacon_relay::event::{
    Dedupe, DedupeKey, DestinationName, Event, EventId, EventKind, Fingerprint, Scrubbed,
    SourceName,
};
use beacon_relay::spool::embedded::{Embedded, Settings};
use beacon_relay::spool::{Batch, Lane, NewEvent, Settlement, Spool, Want};
use bytes::Bytes;
use tokio::task::JoinSet;

const CALLERS: u64 = 256;
const BODY_BYTES: usize = 1024;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let events: u64 = words.next().map_or(Ok(200_000), |word| word.parse())?;
    let dir = words.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("spool-bench-{}", std::process::id()));
    let done = run(&dir, events).await;
    fs::remove_dir_all(&dir)?;
    done
}

async fn run(dir: &std::path::Path, events: u64) -> Outcome<()> {
    for (name, keyed) in [("no keys", false), ("keyed", true)] {
        let spool = open(dir.join(name)).await?;
        let fill = measure(&format!("append, {name}"), events);
        append(&spool, events, keyed).await?;
        fill.done()?;
        let drain = measure(&format!("drain from {events} waiting, {name}"), events);
        deliver(&spool, events).await?;
        drain.done()?;
        let cycle = measure(&format!("append and deliver at once, {name}"), events);
        let delivering = {
            let spool = Arc::clone(&spool);
            tokio::task::JoinSet::from_iter([async move { deliver(&spool, events).await }])
        };
        append(&spool, events, keyed).await?;
        for done in delivering.join_all().await {
            done?;
        }
        cycle.done()?;
        spool.close().await?;
    }
    let path = dir.join("reopen");
    let spool = open(path.clone()).await?;
    let fill = measure("append, for the reopening", events);
    append(&spool, events, true).await?;
    fill.done()?;
    let closing = measure("close", 1);
    spool.close().await?;
    closing.done()?;
    drop(spool);
    let opening = measure(&format!("reopen {events} waiting, closed"), 1);
    let spool = open(path.clone()).await?;
    opening.done()?;
    let waiting: u64 = spool.stats().await?.flow.recovered;
    println!("  recovered {waiting}");
    append(&spool, events / 10, true).await?;
    // Without a close, as a kill would leave it.
    drop(spool);
    let opening = measure(&format!("reopen {} waiting, killed", events + events / 10), 1);
    let spool = open(path).await?;
    opening.done()?;
    println!("  recovered {}", spool.stats().await?.flow.recovered);
    spool.close().await?;
    Ok(())
}

async fn open(path: PathBuf) -> Outcome<Arc<Embedded>> {
    let opening =
        tokio::task::spawn_blocking(|| Embedded::open(Settings::at(path), Clock::system()));
    Ok(Arc::new(opening.await??))
}

static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

/// Stores `events`, one a call, with as many calls under way as there are callers.
async fn append(spool: &Arc<Embedded>, events: u64, keyed: bool) -> Outcome<()> {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let spool = Arc::clone(spool);
        callers.spawn(async move {
            for _ in 0..events / CALLERS {
                let batch = Batch { events: vec![event(keyed)], request: None };
                spool.append(batch).await?;
            }
            Outcome::Ok(())
        });
    }
    for done in callers.join_all().await {
        done?;
    }
    Ok(())
}

fn event(keyed: bool) -> NewEvent {
    let now = Clock::system().now();
    let dedupe = keyed.then(|| {
        // Multiplied by an odd number, so that keys come in no order, as digests do.
        let number = u128::from(NEXT_KEY.fetch_add(1, Ordering::Relaxed));
        let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        Dedupe {
            key: DedupeKey(key.to_be_bytes()),
            window: Duration::from_secs(30 * 86_400),
            fingerprint: Fingerprint { body: [1; 8], members: [2; Fingerprint::SLOTS] },
        }
    });
    let event = Event {
        id: EventId::new(now),
        source: SourceName::new("beacon-conversion"),
        kind: EventKind::Conversion,
        target: Bytes::from_static(b"/v1/beacon/conversion"),
        accepted_at: now,
        body: Scrubbed::vouch(Bytes::from_static(&[b'x'; BODY_BYTES])),
        headers: beacon_relay::event::ClientHeaders::default(),
        fault: None,
    };
    let to = vec![DestinationName::new("events-api")];
    NewEvent { event: Arc::new(event), to, dedupe, lane: Lane::Live }
}

/// Leases and settles until that many are delivered.
async fn deliver(spool: &Arc<Embedded>, events: u64) -> Outcome<()> {
    let to = DestinationName::new("events-api");
    let mut left = events / CALLERS * CALLERS;
    while left > 0 {
        for lease in spool.lease(&to, Want::any(32), Duration::from_secs(10)).await? {
            spool.settle(lease, Settlement::Delivered).await?;
            left -= 1;
        }
    }
    Ok(())
}

/// A measurement that has begun.
struct Measure {
    name: String,
    events: u64,
    started: Instant,
    cpu_ticks: u64,
}

fn measure(name: &str, events: u64) -> Measure {
    let cpu_ticks = cpu_ticks().unwrap_or(0);
    Measure { name: name.to_owned(), events, started: Instant::now(), cpu_ticks }
}

impl Measure {
    fn done(self) -> Outcome<()> {
        let taken = self.started.elapsed();
        // A tick is a hundredth of a second on every Linux we run on.
        let cpu_us = (cpu_ticks()? - self.cpu_ticks) * 10_000;
        let (events, secs) = (self.events as f64, taken.as_secs_f64());
        if self.events == 1 {
            println!("{:44} {:>9.1} ms, {} MB", self.name, secs * 1e3, resident_mb()?);
        } else {
            let (rate, each) = (events / secs / 1e3, cpu_us as f64 / events);
            println!("{:44} {rate:>9.1} k/s, {each:.1} us CPU, {} MB", self.name, resident_mb()?);
        }
        Ok(())
    }
}

fn cpu_ticks() -> Outcome<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    field(11).zip(field(12)).map(|(user, system)| user + system).ok_or("no times".into())
}

fn resident_mb() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no size")?;
    let kib = line.split_whitespace().nth(1).ok_or("no number")?;
    Ok(kib.parse::<u64>()? / 1024)
}
