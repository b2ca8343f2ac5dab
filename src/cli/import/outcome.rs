//! What became of each order, one line of JSON an order, and the sums.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::order::{Order, Wrong};

/// What a relay says of one item of many.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Told {
    pub(super) index: usize,
    pub(super) status: u16,
    #[serde(default)]
    pub(super) duplicate: bool,
    pub(super) code: Option<String>,
    pub(super) errors: Option<Box<RawValue>>,
    pub(super) warnings: Option<Box<RawValue>>,
    pub(super) conflict: Option<Vec<String>>,
}

/// What became of orders, counted.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Sums {
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) refused: u64,
    /// Duplicates that differ from what was accepted first.
    pub(super) conflicts: u64,
    /// Orders that a lint has a word about.
    pub(super) warned: u64,
}

impl Sums {
    pub(super) const fn orders(&self) -> u64 {
        self.accepted + self.duplicates + self.refused
    }
}

/// The outcome of one order.
#[derive(Debug, Serialize)]
pub(super) struct Outcome<'o> {
    line: u64,
    last_line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher_id: Option<&'o str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<&'o str>,
    pub(super) outcome: &'static str,
    /// What the relay answered; none for what was not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) errors: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conflict: Option<Vec<String>>,
}

const ACCEPTED: &str = "accepted";
const DUPLICATE: &str = "duplicate";
pub(super) const REFUSED: &str = "refused";

impl<'o> Outcome<'o> {
    fn of(order: &'o Order, outcome: &'static str) -> Self {
        Self {
            line: order.line,
            last_line: order.last_line,
            publisher_id: order.name.publisher_id.as_deref(),
            order_id: order.name.order_id.as_deref(),
            outcome,
            status: None,
            code: None,
            errors: None,
            warnings: None,
            conflict: None,
        }
    }

    /// Of an order that was not sent.
    pub(super) fn unsent(order: &'o Order, wrong: &Wrong) -> Self {
        let one = |message: &str| Some(json!([{ "message": message }]));
        let (code, errors) = match wrong {
            Wrong::Fields(faults) => {
                let error = |fault: &super::order::Fault| json!({"line": fault.line, "column": fault.column, "message": fault.message});
                ("unreadable_field", Some(faults.iter().map(error).collect()))
            }
            Wrong::TooLarge => ("body_too_large", one("the order is over 1 MiB")),
            Wrong::Json { line, column } => {
                let message = "the order is not JSON";
                let error = json!({"line": line, "column": column, "message": message});
                ("malformed_json", Some(json!([error])))
            }
            Wrong::Around(what) => ("malformed_json", one(what)),
        };
        Self { code: Some(code.to_owned()), errors, ..Self::of(order, REFUSED) }
    }

    /// Of an order that a relay, or its schema, was asked about.
    pub(super) fn told(order: &'o Order, told: Told, is_sent: bool) -> Self {
        let parsed =
            |raw: Option<Box<RawValue>>| raw.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let outcome = match told.status {
            200..=299 if told.duplicate => DUPLICATE,
            200..=299 if is_sent => ACCEPTED,
            200..=299 => "valid",
            _ => REFUSED,
        };
        Self {
            status: is_sent.then_some(told.status),
            code: told.code,
            errors: parsed(told.errors),
            warnings: parsed(told.warnings),
            conflict: told.conflict,
            ..Self::of(order, outcome)
        }
    }

    /// What a person at the terminal reads of a refusal: no value, no name of a person.
    pub(super) fn sentences(&self, file: &str) -> Vec<String> {
        let errors = self.errors.as_ref().and_then(Value::as_array);
        let code = self.code.as_deref().unwrap_or_default();
        let sentence = |error: &Value| {
            let line = error["line"].as_u64().unwrap_or(self.line);
            let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
            let place = match (&error["column"], text("instancePath")) {
                (Value::String(column), _) => format!("column {column}: "),
                (Value::Number(column), _) => format!("column {column}: "),
                (_, path) if path.is_empty() => String::new(),
                (_, path) => format!("{path} "),
            };
            printable(&format!("{file}:{line}: {place}{}", text("message")))
        };
        match errors {
            Some(errors) if !errors.is_empty() => errors.iter().map(sentence).collect(),
            Some(_) | None => vec![printable(&format!("{file}:{}: {code}", self.line))],
        }
    }
}

/// Names of columns and members are the file's: none of them may speak to the terminal.
pub(super) fn printable(text: &str) -> String {
    let show = |c: char| {
        if c.is_control() { c.escape_unicode().to_string() } else { c.to_string() }
    };
    text.chars().map(show).collect()
}

/// What every file of outcomes begins with. Another one is not overwritten: it may be the input.
const BEGINNING: &[u8] = b"{\"line\":";

/// How long another process may hold the file: the lock of a killed one is let go of only when the
/// kernel has cleared it away, after a sync that it may be in.
const LOCKED_MAX: Duration = Duration::from_secs(3);
/// Between two looks whether it still does.
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// The file of outcomes. It names orders, so its owner alone may read it.
pub(super) struct Outcomes {
    file: BufWriter<File>,
    bytes: u64,
}

impl Outcomes {
    /// Opens the file. One process at a time may; one that was killed just now gets a moment to be
    /// gone.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)?;
        let until = Instant::now() + LOCKED_MAX;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    tokio::time::sleep(LOCK_WAIT).await;
                }
                Err(TryLockError::WouldBlock) => {
                    let what = "another import writes it just now";
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, what));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        let mut head = [0; BEGINNING.len()];
        let read = file.read_at(&mut head, 0)?;
        if head[..read] != BEGINNING[..read] {
            let what = "it holds something else than outcomes: name another file";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Self { file: BufWriter::new(file), bytes: 0 })
    }

    /// Goes on behind the first `bytes`.
    pub(super) fn go_on(&mut self, bytes: u64) -> io::Result<()> {
        let file = self.file.get_mut();
        if file.metadata()?.len() < bytes {
            let what = "it was shortened since the import stopped: start over with --restart";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        self.bytes = bytes;
        Ok(())
    }

    pub(super) fn write(&mut self, outcome: &Outcome<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(outcome)?;
        line.push(b'\n');
        self.bytes += line.len() as u64;
        self.file.write_all(&line)
    }

    /// Syncs what was written; returns how many bytes that is.
    pub(super) fn sync(&mut self) -> io::Result<u64> {
        self.file.flush()?;
        self.file.get_ref().sync_data()?;
        Ok(self.bytes)
    }
}

impl Sums {
    pub(super) fn add(&mut self, outcome: &Outcome<'_>) {
        match outcome.outcome {
            REFUSED => self.refused += 1,
            DUPLICATE => self.duplicates += 1,
            _ => self.accepted += 1,
        }
        self.conflicts +=
            u64::from(outcome.conflict.as_ref().is_some_and(|names| !names.is_empty()));
        let warned = outcome.warnings.as_ref().and_then(Value::as_array);
        self.warned += u64::from(warned.is_some_and(|warnings| !warnings.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_another_lets_go_of_is_waited_for_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outcomes");
        let dying = Outcomes::open(&path).await.unwrap();
        let started = Instant::now();
        let (mut next, ()) = tokio::join!(Outcomes::open(&path), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(dying);
        });
        assert!(started.elapsed() < Duration::from_secs(2));
        next.as_mut().unwrap().go_on(0).unwrap();
        let refused = Outcomes::open(&path).await.map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
    }
}
