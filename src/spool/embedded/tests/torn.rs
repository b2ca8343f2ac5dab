//! The end of a log after a crash: what was answered for stays, what was not goes whole.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::super::LogKind;
use super::super::files::{Disk, LogFile, Real};
use super::super::record::{Record, Stamp};
use super::super::segment::{DATA_START, Head, Segment};
use super::super::walk::{Expected, Extent, Gap, walk};
use super::stage::Stage;
use crate::event::DestinationName;

const FREE: Expected = Expected { sealed: None, next_first: None, synced: 0 };

/// A segment that was written by hand, commit by commit.
struct Bench {
    _dir: tempfile::TempDir,
    disk: Disk,
    segment: Segment,
    /// Where each commit begins, and where the last one ends.
    commits: Vec<u64>,
}

impl Bench {
    /// Commits of so many records, the first sequence being 10.
    fn new(commits: &[u32]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(Arc::new(Real), dir.path().to_owned());
        disk.make_dir("log").unwrap();
        let head = Head::new(LogKind::Accepted, 1, 10, vec![DestinationName::new("a")]);
        let file = disk.create(&head.path(), 64 << 10).unwrap();
        head.write(&file).unwrap();
        let segment = Segment::new(head, vec![0], Arc::new(file), 64 << 10);
        let mut bench = Self { _dir: dir, disk, segment, commits: vec![DATA_START] };
        let mut seq = 10;
        for records in commits {
            let mut bytes = Vec::new();
            for place in 0..*records {
                let stamp = Stamp { seq, owed: 1, place, last: place + 1 == *records };
                record(seq).encode(stamp, bench.segment.seed, None, &mut bytes);
                seq += 1;
            }
            let at = *bench.commits.last().unwrap();
            bench.file().write(&bytes, at).unwrap();
            bench.commits.push(at + bytes.len() as u64);
        }
        bench
    }

    fn file(&self) -> &LogFile {
        &self.segment.file
    }

    fn end(&self) -> u64 {
        *self.commits.last().unwrap()
    }

    fn read(&self) -> Vec<u8> {
        self.file().read(0, 64 << 10).unwrap()
    }

    fn write(&self, bytes: &[u8]) {
        self.disk.open("log/1.seg").unwrap().write(bytes, 0).unwrap();
    }

    fn walk(&self, expected: Expected) -> Extent {
        walk(&self.segment, &expected).unwrap()
    }
}

fn record(seq: u64) -> Record {
    let stage_event = super::super::record::tests::bare();
    let body = vec![b'x'; (seq % 5) as usize * 11];
    let mut event = (*stage_event.event).clone();
    event.body = crate::event::Scrubbed::vouch(body.into());
    Record { event: Arc::new(event), ..stage_event }
}

/// Bytes that a record takes in a log that is not encrypted.
fn written_len(record: &Record) -> usize {
    let mut out = Vec::new();
    record.encode(Stamp { seq: 0, owed: 1, place: 0, last: true }, 0, None, &mut out);
    out.len()
}

#[test]
fn a_commit_torn_at_any_byte_goes_whole() {
    let bench = Bench::new(&[2, 1, 3]);
    let (begin, end) = (bench.commits[2] as usize, bench.end() as usize);
    let whole = bench.read();
    let extent = bench.walk(FREE);
    assert_eq!((extent.owed.len(), extent.end, extent.torn), (6, end as u64, false));
    for cut in begin..end {
        let mut torn = whole.clone();
        torn[cut..end].fill(0);
        if torn == whole {
            continue; // Only padding was cut.
        }
        bench.write(&torn);
        let extent = bench.walk(FREE);
        assert_eq!(
            (extent.owed.len(), extent.end, extent.gaps.len()),
            (3, begin as u64, 0),
            "cut at {cut}"
        );
        assert_eq!(extent.last_commit, bench.commits[1], "cut at {cut}");
        // What was never begun is no torn commit, and may be written over.
        let begun = torn[begin + 8..begin + 16] == 13_u64.to_le_bytes();
        assert_eq!(extent.torn, begun, "cut at {cut}");
    }
}

#[test]
fn a_commit_with_any_sector_missing_goes_whole() {
    let bench = Bench::new(&[1, 12]);
    let (begin, end) = (bench.commits[1] as usize, bench.end() as usize);
    let whole = bench.read();
    let sectors: Vec<usize> = (begin / 512..end.div_ceil(512)).collect();
    assert!(sectors.len() >= 4);
    for lost in 1..1_u32 << sectors.len() {
        let mut torn = whole.clone();
        for (bit, sector) in sectors.iter().enumerate().filter(|(bit, _)| lost >> bit & 1 == 1) {
            let _ = bit;
            torn[(sector * 512).max(begin)..((sector + 1) * 512).min(end)].fill(0xee);
        }
        bench.write(&torn);
        let extent = bench.walk(FREE);
        assert_eq!((extent.owed.len(), extent.end), (1, begin as u64), "lost {lost:b}");
        assert!(extent.gaps.is_empty());
    }
}

#[test]
fn damage_before_a_later_commit_is_no_torn_tail() {
    let bench = Bench::new(&[2, 3, 2]);
    let whole = bench.read();
    // One byte in each record of the second commit in turn.
    let mut starts = vec![bench.commits[1] as usize];
    for seq in 12..14 {
        starts.push(starts.last().unwrap() + written_len(&record(seq)));
    }
    for (seq, start) in (12..).zip(starts) {
        let mut damaged = whole.clone();
        damaged[start + 100] ^= 1;
        bench.write(&damaged);
        let extent = bench.walk(FREE);
        let to = (start + written_len(&record(seq))) as u64;
        assert_eq!(extent.gaps, [Gap { from: start as u64, to, seqs: seq..seq + 1 }]);
        assert_eq!((extent.owed.len(), extent.end, extent.torn), (7, bench.end(), false));
        assert_eq!(extent.owed[(seq - 10) as usize], 0);
    }
}

#[test]
fn what_was_synced_for_certain_is_damaged_not_torn() {
    let bench = Bench::new(&[2, 2]);
    let mut damaged = bench.read();
    damaged[bench.commits[1] as usize..bench.end() as usize].fill(0);
    bench.write(&damaged);
    let extent = bench.walk(Expected { synced: 13, ..FREE });
    assert_eq!(extent.gaps.len(), 1);
    assert_eq!((extent.gaps[0].seqs.clone(), extent.owed), (12..14, vec![1, 1, 0, 0]));
    assert_eq!(extent.end, bench.commits[1]);
    // A segment behind it says as much.
    let extent = bench.walk(Expected { next_first: Some(14), ..FREE });
    assert_eq!((extent.gaps[0].seqs.clone(), extent.owed.len()), (12..14, 4));
    let extent = bench.walk(Expected { next_first: Some(12), ..FREE });
    assert_eq!((extent.gaps.len(), extent.owed.len(), extent.torn), (0, 2, false));
}

#[test]
fn leftovers_of_a_refused_commit_behind_an_equally_long_one_do_not_pass() {
    // The nonce is another after a cut, so the leftovers are of no segment.
    let bench = Bench::new(&[1, 3]);
    let old = bench.read();
    let (begin, end) = (bench.commits[1] as usize, bench.end() as usize);
    let other = Bench::new(&[1]);
    let mut bytes = other.read();
    bytes[begin..end].copy_from_slice(&old[begin..end]);
    other.write(&bytes);
    let extent = other.walk(FREE);
    assert_eq!((extent.owed.len(), extent.end), (1, begin as u64));
}

/// Writes `bytes` into a file as they are.
fn scribble(path: &Path, at: u64, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[tokio::test]
async fn a_store_goes_on_behind_a_torn_tail_and_never_writes_there_again() {
    let mut stage = Stage::new();
    let mut kept = stage.store(vec![stage.event(b"kept", &["a"])]).await;
    stage.kill();
    let log = stage.files("log", ".seg").remove(0);
    let written = fs::read(&log).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let tail = (written + 1).next_multiple_of(8);
    // The head of a record of the next sequence, and garbage where the rest should be.
    scribble(&log, tail, &200_u32.to_le_bytes());
    scribble(&log, tail + 8, &2_u64.to_le_bytes());
    scribble(&log, tail + 16, &[0xab; 300]);
    stage.forget_notes();
    stage.open().unwrap();
    assert_eq!(fs::metadata(&log).unwrap().len(), tail, "what was torn is cut away");
    let aside = fs::read(&stage.files("quarantine", ".bytes")[0]).unwrap();
    assert_eq!(aside[16..316], [0xab; 300], "and set aside");
    assert_eq!(stage.stats().await.damaged_records, 0, "a torn commit is no damage");
    kept.extend(stage.store(vec![stage.event(b"next", &["a"])]).await);
    assert_eq!(fs::metadata(&log).unwrap().len(), tail, "nothing is written behind the cut");
    stage.kill_and_reopen();
    assert_eq!(stage.ids("a").await, kept.into_iter().collect());
    assert_eq!(stage.files("quarantine", ".bytes").len(), 1);
}

#[tokio::test]
async fn bytes_that_no_relay_wrote_are_set_aside_and_cut_at_a_start() {
    for behind in [0, 4096, u64::MAX] {
        let mut stage = Stage::new();
        let mut kept = stage.store(vec![stage.event(b"kept", &["a"])]).await;
        stage.kill();
        let log = stage.files("log", ".seg").remove(0);
        let whole = fs::read(&log).unwrap();
        let written = whole.iter().rposition(|byte| *byte != 0).unwrap() as u64;
        let tail = (written + 1).next_multiple_of(8);
        // Behind the records, further back among the zeros, and behind the file itself.
        let at = tail.saturating_add(behind).min(whole.len() as u64);
        scribble(&log, at, &[0xab; 300]);
        stage.open().unwrap();
        assert_eq!(fs::metadata(&log).unwrap().len(), tail, "{behind}");
        let aside = fs::read(&stage.files("quarantine", ".bytes")[0]).unwrap();
        assert_eq!(aside[..300], [0xab; 300], "{behind}");
        assert_eq!(stage.stats().await.damaged_records, 0, "nothing of them was answered for");
        kept.extend(stage.store(vec![stage.event(b"next", &["a"])]).await);
        stage.kill_and_reopen();
        assert_eq!(stage.ids("a").await, kept.into_iter().collect());
        assert_eq!(stage.files("quarantine", ".bytes").len(), 1, "a start names them once");
    }
}

#[tokio::test]
async fn records_of_a_former_use_of_the_file_are_not_taken_for_new_ones() {
    let mut stage = Stage::new();
    // Several segments are filled, delivered, and kept as spares.
    for _ in 0..8 {
        stage.store((0..40).map(|_| stage.event(&[b'o'; 1000], &["a"])).collect()).await;
        let leases = stage.lease_all("a").await;
        stage.deliver(leases.into_values()).await;
    }
    let (pool, bell) = (&stage.spool().shared.pool, &stage.spool().shared.bell);
    pool.set_full(true);
    bell.hurry();
    let file_of_spare = |stage: &Stage| stage.files("log", ".spare");
    while file_of_spare(&stage).len() < 2 {
        tokio::task::yield_now().await;
    }
    let spares: Vec<_> = file_of_spare(&stage).iter().map(|path| fs::read(path).unwrap()).collect();
    let old = spares.iter().filter(|bytes| bytes[DATA_START as usize] != 0).count();
    assert!(old > 0, "no spare holds old records");
    stage.close_and_reopen().await;
    let mut kept = Vec::new();
    // A new destination makes a new segment begin, in a spare.
    for name in ["b", "c"] {
        kept.extend(stage.store(vec![stage.event(b"short", &[name])]).await);
        stage.kill();
        stage.forget_notes();
        stage.open().unwrap();
    }
    let found: Vec<_> = stage.ids("b").await.into_iter().chain(stage.ids("c").await).collect();
    assert_eq!(found, kept);
    assert_eq!(stage.ids("a").await.len(), 0);
    let stats = stage.stats().await;
    assert_eq!((stats.damaged_records, stats.flow.recovered), (0, 2));
}
