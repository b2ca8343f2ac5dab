//! The conformance suite.

use std::sync::Arc;

use tempfile::TempDir;

use crate::clock::Clock;
use crate::spool::Spool;
use crate::spool::conformance::{Limits, Store, conformance};
use crate::spool::embedded::{Embedded, Settings};

struct OnDisk {
    dir: TempDir,
    settings: Settings,
    clock: Clock,
}

impl Store for OnDisk {
    fn create(limits: Limits, clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            max_bytes: limits.max_bytes,
            lease_for: limits.lease_for,
            ..Settings::at(dir.path().join("spool"))
        };
        Self { dir, settings, clock }
    }

    fn open(&mut self) -> Arc<dyn Spool> {
        assert!(self.dir.path().exists());
        Arc::new(Embedded::open(self.settings.clone(), self.clock.clone()).unwrap())
    }

    /// The test dropped the spool, which writes nothing more and syncs nothing.
    fn kill(&mut self) {}
}

conformance!(OnDisk);
