//! How far an import came: a small file beside the input, replaced whole after each batch.
//!
//! It names no order and no person.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::outcome::Sums;
use crate::cli::Refused;

/// Of this form; another version starts over.
const VERSION: u32 = 1;

/// What must be the same for an import to go on.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Task {
    /// SHA-256 of the input.
    pub(super) input: String,
    /// Digest of all that says how the input is read.
    pub(super) reading: String,
    /// The relay.
    pub(super) to: String,
    pub(super) outcomes: PathBuf,
}

/// How far an import came.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct State {
    version: u32,
    #[serde(flatten)]
    task: Task,
    /// Of this import alone, and part of its idempotency keys: the same file imported again is told
    /// as what it is, duplicates.
    run: String,
    /// Bytes of the outcomes of the orders so far.
    pub(super) outcome_bytes: u64,
    /// The orders so far, by what became of them.
    pub(super) sums: Sums,
}

/// The file beside the input.
pub(super) struct StateFile {
    path: PathBuf,
    task: Task,
    /// Whether what an earlier import left is forgotten.
    starts_over: bool,
    pub(super) run: String,
}

/// `path` with something behind its name.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

impl StateFile {
    pub(super) fn new(input: &Path, task: Task, starts_over: bool) -> Self {
        let run = format!("{:032x}", fastrand::u128(..));
        Self { path: beside(input, ".import-state"), task, starts_over, run }
    }

    /// What an import that did not end left behind; this one is that one then.
    pub(super) fn read(&mut self) -> anyhow::Result<Option<State>> {
        let name = self.path.display();
        if self.starts_over {
            self.remove().context("the state of the earlier run cannot be removed")?;
            return Ok(None);
        }
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let state = serde_json::from_slice::<State>(&text).ok();
        let Some(state) = state.filter(|state| state.version == VERSION) else {
            let what = format!("{name} is no state of an import: start over with --restart");
            return Err(Refused(what).into());
        };
        let is_other = |what: &str| {
            let done = state.sums.orders();
            Refused(format!(
                "an import of this file stopped after {done} orders, and {what}: put it back to go \
                 on, or start over with --restart (orders that were accepted are duplicates then)"
            ))
        };
        if state.task.input != self.task.input {
            return Err(is_other("the file was changed since").into());
        }
        if state.task.reading != self.task.reading {
            return Err(is_other("it was read by another mapping file or other flags").into());
        }
        if state.task.to != self.task.to {
            return Err(is_other("it went to another relay").into());
        }
        if state.task.outcomes != self.task.outcomes {
            return Err(is_other("its outcomes went to another file").into());
        }
        self.run.clone_from(&state.run);
        Ok(Some(state))
    }

    /// Notes how far the import came, durably.
    pub(super) fn write(&self, outcome_bytes: u64, sums: Sums) -> io::Result<()> {
        let (task, run) = (self.task.clone(), self.run.clone());
        let state = State { version: VERSION, task, run, outcome_bytes, sums };
        let new = beside(&self.path, ".new");
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        serde_json::to_writer(&mut file, &state)?;
        file.write_all(b"\n")?;
        file.sync_data()?;
        fs::rename(&new, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Forgets it: the import is over, or starts over.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
