//! A small store in a directory of its own, and what the tests ask of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, io};

use bytes::Bytes;
use tempfile::TempDir;

use super::super::files::rigged::Rigged;
use super::super::{Embedded, Settings};
use crate::clock::{Clock, Timestamp};
use crate::event::{
    Dedupe, DedupeKey, DestinationName, Event, EventId, EventKind, Fingerprint, Scrubbed,
    SourceName,
};
use crate::spool::{
    AppendError, Appended, Batch, Cause, DeadLetter, DeadQuery, Lane, Lease, NewEvent, Refusal,
    Settlement, Spool, SpoolStats, StoreFault, Want,
};

pub(in super::super) const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);
pub(in super::super) const HOUR: Duration = Duration::from_secs(3600);

pub(in super::super) fn to(name: &str) -> DestinationName {
    DestinationName::new(name)
}

pub(in super::super) fn refusal(cause: Cause) -> Refusal {
    Refusal { cause, status: Some(400), answer: Bytes::from_static(b"no") }
}

pub(in super::super) struct Stage {
    _dir: TempDir,
    pub(in super::super) settings: Settings,
    pub(in super::super) clock: Clock,
    pub(in super::super) rig: Rigged,
    spool: Option<Embedded>,
}

impl Stage {
    /// A spool of a mebibyte, in segments of 128 KiB.
    pub(in super::super) fn new() -> Self {
        Self::with(1 << 20)
    }

    pub(in super::super) fn with(max_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { max_bytes, ..Settings::at(dir.path().join("spool")) };
        Self { _dir: dir, ..Self::on(settings) }
    }

    /// With settings of the test's own, in a directory that it keeps.
    pub(in super::super) fn on(settings: Settings) -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::held(START));
        let mut stage = Self { _dir: dir, settings, clock, rig: Rigged::default(), spool: None };
        stage.open().unwrap();
        stage
    }

    pub(in super::super) fn open(&mut self) -> Result<(), StoreFault> {
        let rig = Arc::new(self.rig.clone());
        self.spool = Some(Embedded::open_on(rig, self.settings.clone(), self.clock.clone())?);
        Ok(())
    }

    pub(in super::super) fn spool(&self) -> &Embedded {
        self.spool.as_ref().expect("open")
    }

    pub(in super::super) fn kill(&mut self) {
        self.spool = None;
    }

    pub(in super::super) fn kill_and_reopen(&mut self) {
        self.kill();
        self.open().unwrap();
    }

    pub(in super::super) async fn close(&mut self) {
        self.spool().close().await.unwrap();
        self.spool = None;
    }

    pub(in super::super) async fn close_and_reopen(&mut self) {
        self.close().await;
        self.open().unwrap();
    }

    pub(in super::super) fn path(&self, name: &str) -> PathBuf {
        self.settings.path.join(name)
    }

    /// Files of a directory of the store that end so, in order of their numbers.
    pub(in super::super) fn files(&self, dir: &str, suffix: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(dir)).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .filter(|path| path.to_string_lossy().ends_with(suffix))
            .map(|path| (number(&path), path))
            .collect();
        files.sort();
        files.into_iter().map(|(_, path)| path).collect()
    }

    /// Takes away what recovery knows beside the logs themselves.
    pub(in super::super) fn forget_notes(&self) {
        fs::remove_file(self.path("noted")).unwrap();
        fs::remove_dir_all(self.path("keys")).unwrap();
    }

    pub(in super::super) fn event(&self, body: &[u8], names: &[&str]) -> NewEvent {
        let now = self.clock.now();
        let event = Event {
            id: EventId::new(now),
            source: SourceName::new("beacon-click"),
            kind: EventKind::Click,
            target: Bytes::from_static(b"/v1/beacon/click/a1?pos=1"),
            accepted_at: now,
            body: Scrubbed::vouch(Bytes::copy_from_slice(body)),
            headers: crate::event::ClientHeaders::default(),
            fault: None,
        };
        let to = names.iter().map(|name| to(name)).collect();
        NewEvent { event: Arc::new(event), to, dedupe: None, lane: Lane::Live }
    }

    pub(in super::super) fn keyed(&self, key: u64, names: &[&str]) -> NewEvent {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&key.to_le_bytes());
        let fingerprint = Fingerprint { body: key.to_le_bytes(), members: [0; 32] };
        let dedupe = Dedupe { key: DedupeKey(bytes), window: 30 * 24 * HOUR, fingerprint };
        NewEvent { dedupe: Some(dedupe), ..self.event(&key.to_le_bytes(), names) }
    }

    pub(in super::super) async fn try_append(
        &self,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Appended>, AppendError> {
        let batch = Batch { events, request: None };
        self.spool().append(batch).await.map(|receipt| receipt.appended)
    }

    /// Stores events that must be new.
    pub(in super::super) async fn store(&self, events: Vec<NewEvent>) -> Vec<EventId> {
        let ids: Vec<EventId> = events.iter().map(|new| new.event.id).collect();
        let stored: Vec<Appended> = ids.iter().map(|id| Appended::Stored(*id)).collect();
        assert_eq!(self.try_append(events).await.unwrap(), stored);
        ids
    }

    pub(in super::super) async fn lease(&self, name: &str, max: usize) -> Vec<Lease> {
        self.spool().lease(&to(name), Want::any(max), Duration::ZERO).await.unwrap()
    }

    /// Leases everything that is due.
    pub(in super::super) async fn lease_all(&self, name: &str) -> BTreeMap<EventId, Lease> {
        let mut leases = BTreeMap::new();
        loop {
            let more = self.lease(name, 100).await;
            if more.is_empty() {
                return leases;
            }
            for lease in more {
                let before = leases.insert(lease.event.id, lease);
                assert!(before.is_none(), "leased twice");
            }
        }
    }

    pub(in super::super) async fn ids(&self, name: &str) -> BTreeSet<EventId> {
        self.lease_all(name).await.into_keys().collect()
    }

    pub(in super::super) async fn settle(&self, lease: Lease, settlement: Settlement) {
        self.spool().settle(lease, settlement).await.unwrap();
    }

    pub(in super::super) async fn deliver(&self, leases: impl IntoIterator<Item = Lease>) {
        for lease in leases {
            self.settle(lease, Settlement::Delivered).await;
        }
    }

    /// Every letter.
    pub(in super::super) async fn letters(&self) -> Vec<DeadLetter> {
        let page = self.spool().dead(DeadQuery::all(None, 10_000)).await.unwrap();
        assert_eq!(page.next, None);
        page.letters
    }

    /// Every letter, page by page.
    pub(in super::super) async fn letters_all(&self) -> Vec<DeadLetter> {
        let (mut letters, mut after) = (Vec::new(), None);
        loop {
            let page = self.spool().dead(DeadQuery::all(after, 10_000)).await.unwrap();
            letters.extend(page.letters);
            after = page.next;
            if after.is_none() {
                return letters;
            }
        }
    }

    pub(in super::super) async fn stats(&self) -> SpoolStats {
        let stats = self.spool().stats().await.unwrap();
        let flow = stats.flow;
        let waiting: u64 =
            stats.destinations.iter().map(|d| d.live + d.backlog + d.retrying + d.in_flight).sum();
        assert_eq!(
            flow.recovered + flow.stored + flow.replayed,
            flow.delivered + flow.dead + flow.removed + waiting,
            "{stats:?}"
        );
        assert_eq!(stats.letters_difference(), 0, "{stats:?}");
        stats
    }
}

fn number(path: &Path) -> u64 {
    let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
    stem.parse().unwrap_or(0)
}

/// The lines that are logged by this thread while `work` runs.
pub(in super::super) fn said(work: impl FnOnce()) -> String {
    struct Paper(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let said = Arc::new(Mutex::new(Vec::new()));
    let paper = Arc::clone(&said);
    let lines = tracing_subscriber::fmt().with_ansi(false);
    let lines = lines.with_writer(move || Paper(Arc::clone(&paper))).finish();
    tracing::subscriber::with_default(lines, work);
    let bytes = said.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// Copies a directory and what is below it.
pub(in super::super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
