//! `validate`: what a relay would say of the documents of a file. Nothing is sent or stored.

pub(super) mod documents;
mod places;
mod report;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use self::documents::{Documents, Form, Text};
use self::report::{Finding, Report};
use super::{ConfigFile, Refused};
use crate::caller::Caller;
use crate::clock::Clock;
use crate::config::Plan;
use crate::event::ClientHeaders;
use crate::source::media::Media;
use crate::source::sent_at::SentAt;
use crate::source::{Raw, Received, Reject, Source, Subject};

/// Checks files of orders or ad events: errors as the relay would answer, and warnings.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay validate orders.ndjson\n\
    A file holds one JSON document, an array of them, or one a line (NDJSON, JSON Lines).\n\
    Raw e-mails, phones, tax ids and names are judged as from a client with a key when the\n\
    configuration has one that may post there, or with --with-key; otherwise they are refused.\n\
    Exit codes: 0 all are valid, 1 some are not, 2 a file cannot be read or the call is wrong")]
pub(super) struct Validate {
    /// What the documents are
    #[arg(long, value_enum, default_value_t = Kind::Conversion)]
    kind: Kind,
    #[command(flatten)]
    config: ConfigFile,
    /// Judges as for a client with a key, whose raw identity is hashed
    #[arg(long)]
    with_key: bool,
    /// Prints one JSON object a document, for programs
    #[arg(long)]
    json: bool,
    /// Files to check; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What a file's documents are.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Orders
    Conversion,
    /// Impressions, views or clicks
    Beacon,
}

impl Validate {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let plan = self.config.layers().plan()?;
        let body_bytes_max = plan.server.requests.body.bytes_max;
        let access = plan.access.clone();
        let source = source(plan, self.kind)?;
        let takes_raw = self.with_key || access.takes_raw_identity(&source.settings().name);
        let mut check = Check {
            source,
            caller: Caller::terminal(takes_raw),
            is_raw_refused: false,
            clock: Clock::system(),
            body_bytes_max,
            report: Report::new(self.json),
        };
        let mut unreadable = false;
        for file in &self.files {
            match check.file(file) {
                Ok(()) => {}
                Err(Ended::Unreadable(error)) => {
                    eprintln!("cannot read {}: {error}", file.display());
                    unreadable = true;
                }
                // Whoever read the output has seen enough.
                Err(Ended::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => break,
                Err(Ended::Output(error)) => return Err(error.into()),
            }
        }
        if check.is_raw_refused {
            eprintln!(
                "raw identity is refused: no client with a key may post there by this \
                 configuration; --with-key judges as for one that may"
            );
        }
        let all_valid = check.report.finish()?;
        Ok(match (unreadable, all_valid) {
            (true, _) => ExitCode::from(2),
            (false, true) => ExitCode::SUCCESS,
            (false, false) => ExitCode::FAILURE,
        })
    }
}

/// The source that such documents would be posted to.
fn source(plan: Plan, kind: Kind) -> Result<Source, Refused> {
    let (subject, word) = match kind {
        Kind::Conversion => (Subject::Conversion, "conversion"),
        Kind::Beacon => (Subject::Beacon, "impression, view or click"),
    };
    let found = plan.sources.into_iter().find(|source| subject.is_of(source.kind));
    let found = found.ok_or_else(|| {
        Refused(format!("no source of kind {word} is configured, so there is no schema to hold"))
    })?;
    Ok(Source::new(found, plan.server.depth_max))
}

/// Why a file was not read to its end.
enum Ended {
    Unreadable(io::Error),
    Output(io::Error),
}

struct Check {
    source: Source,
    caller: Caller,
    /// Whether a document held raw identity that nobody may send.
    is_raw_refused: bool,
    clock: Clock,
    body_bytes_max: usize,
    report: Report,
}

impl Check {
    fn file(&mut self, path: &Path) -> Result<(), Ended> {
        if path.as_os_str() == "-" {
            return self.input("stdin", io::stdin().lock(), Form::Unknown);
        }
        let file = File::open(path).map_err(Ended::Unreadable)?;
        self.input(&path.display().to_string(), file, Form::of(path))
    }

    fn input(&mut self, name: &str, input: impl Read, form: Form) -> Result<(), Ended> {
        let mut documents = Documents::new(input, form, self.body_bytes_max);
        while let Some(document) = documents.next().map_err(Ended::Unreadable)? {
            let finding = match &document.text {
                Text::Whole(text) => self.judge(text),
                Text::TooLarge => Finding::Refused(Reject::TooLarge { most: self.body_bytes_max }),
                Text::Broken(what) => Finding::Broken(what),
            };
            if let Finding::Refused(Reject::Invalid(violations)) = &finding {
                let is_refused = violations.iter().any(|one| one.keyword() == "false schema");
                self.is_raw_refused |= is_refused && !self.caller.raw_identity;
            }
            self.report.document(name, &document, &finding).map_err(Ended::Output)?;
        }
        Ok(())
    }

    fn judge(&self, text: &Bytes) -> Finding {
        // No URL is known, so no lint has a word about one.
        let received = Received {
            target: Bytes::new(),
            at: self.clock.now(),
            caller: self.caller.clone(),
            sent_at: SentAt::Unsaid,
            headers: ClientHeaders::default(),
        };
        let raw = Raw { body: text.clone(), media: Media::Json };
        match self.source.validate(&received, &raw) {
            Ok(warnings) => Finding::Valid(warnings),
            Err(reject) => Finding::Refused(reject),
        }
    }
}
