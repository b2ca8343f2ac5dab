//! What was found, for people (coloured in a terminal) or for programs. No value is ever shown.

use std::io::{self, Write};

use anstyle::{AnsiColor, Effects, Style};
use serde::Deserialize;
use serde_json::{Value, json};

use super::documents::{Document, Text};
use super::places::lines_before;
use crate::http::problem::{Code, Problem};
use crate::json::JsonFault;
use crate::schema::lint::{Warning, Warnings};
use crate::source::Reject;

/// What became of one document.
pub(super) enum Finding {
    Valid(Warnings),
    Refused(Reject),
    /// The file around it is wrong.
    Broken(&'static str),
}

/// Errors shown of one document; a program gets them all.
const SHOWN_MAX: usize = 100;

const ERROR: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
const WARNING: Style = AnsiColor::Yellow.on_default().effects(Effects::BOLD);
const FINE: Style = AnsiColor::Green.on_default().effects(Effects::BOLD);
const PLACE: Style = Style::new().effects(Effects::BOLD);
const ASIDE: Style = Style::new().effects(Effects::DIMMED);

/// Writes findings to standard output and counts them.
pub(super) struct Report {
    out: Out,
    valid: usize,
    invalid: usize,
    warnings: usize,
}

enum Out {
    /// Colours go where a terminal shows them and `NO_COLOR` does not forbid them.
    People(anstream::AutoStream<io::StdoutLock<'static>>),
    Programs(io::StdoutLock<'static>),
}

/// The parts of an Ajv error that a person reads.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AjvError {
    instance_path: String,
    message: String,
    schema_path: String,
}

/// One line for a person.
struct Line {
    line: usize,
    column: Option<usize>,
    style: Style,
    word: &'static str,
    text: String,
    aside: String,
}

impl Report {
    /// A report as JSON for programs, or for people.
    pub(super) fn new(is_json: bool) -> Self {
        let stdout = io::stdout().lock();
        let out = if is_json {
            Out::Programs(stdout)
        } else {
            Out::People(anstream::AutoStream::auto(stdout))
        };
        Self { out, valid: 0, invalid: 0, warnings: 0 }
    }

    /// Reports one document of the file called `name`.
    pub(super) fn document(
        &mut self,
        name: &str,
        document: &Document,
        finding: &Finding,
    ) -> io::Result<()> {
        match finding {
            Finding::Valid(warnings) => {
                self.valid += 1;
                self.warnings += warnings.iter().count();
            }
            Finding::Refused(_) | Finding::Broken(_) => self.invalid += 1,
        }
        match &mut self.out {
            Out::Programs(out) => writeln!(out, "{}", object(name, document, finding)),
            Out::People(out) => lines(document, finding)
                .iter()
                .try_for_each(|line| writeln!(out, "{}", line.shown(name))),
        }
    }

    /// Ends the report with the sum; tells whether every document was valid.
    pub(super) fn finish(mut self) -> io::Result<bool> {
        let Self { valid, invalid, warnings, .. } = self;
        let done = match &mut self.out {
            Out::Programs(out) => out.flush(),
            Out::People(out) => {
                let style = if invalid == 0 { FINE } else { ERROR };
                let (all, warnings) =
                    (counted(valid + invalid, "document"), counted(warnings, "warning"));
                let sum = format!("{all}: {valid} valid, {invalid} invalid, {warnings}");
                writeln!(out, "{style}{sum}{style:#}").and_then(|()| out.flush())
            }
        };
        match done {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            Ok(()) | Err(_) => Ok(invalid == 0),
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

impl Line {
    const fn error() -> Self {
        Self::of(ERROR, "error")
    }

    const fn warning() -> Self {
        Self::of(WARNING, "warning")
    }

    const fn of(style: Style, word: &'static str) -> Self {
        Self { line: 0, column: None, style, word, text: String::new(), aside: String::new() }
    }

    fn shown(&self, name: &str) -> String {
        let Self { line, style, word, .. } = self;
        let column = self.column.map_or_else(String::new, |column| format!(":{column}"));
        let (text, mut aside) = (printable(&self.text), printable(&self.aside));
        if !aside.is_empty() {
            aside = format!(" {ASIDE}({aside}){ASIDE:#}");
        }
        format!("{PLACE}{name}:{line}{column}:{PLACE:#} {style}{word}{style:#} {text}{aside}")
    }
}

/// Names in a pointer are the sender's: none of them may speak to the terminal.
fn printable(text: &str) -> String {
    let show = |c: char| {
        if c.is_control() { c.escape_unicode().to_string() } else { c.to_string() }
    };
    text.chars().map(show).collect()
}

/// Where a fault that was found inside a document stands in its file.
fn place(document: &Document, line: usize, column: usize) -> (usize, usize) {
    let before = if line <= 1 { document.column - 1 } else { 0 };
    // The end of an empty text is told as column 0.
    (document.line + line.max(1) - 1, before + column.max(1))
}

/// Code, place and sentence of what is refused before any schema is asked.
fn refusal(document: &Document, finding: &Finding) -> Option<(Code, usize, usize, String)> {
    let Document { line, column, .. } = *document;
    match finding {
        Finding::Valid(_) | Finding::Refused(Reject::Invalid(_)) => None,
        Finding::Refused(Reject::TooLarge { most }) => {
            Some((Code::BodyTooLarge, line, column, format!("the document is over {most} bytes")))
        }
        // Whoever sits at the terminal speaks for all publishers, and no URL is asked for.
        Finding::Refused(Reject::Publisher | Reject::SourceNotAllowed | Reject::Unauthorized) => {
            Some((Code::PublisherNotAllowed, line, column, "of another publisher".to_owned()))
        }
        Finding::Refused(Reject::EventUrl(fault)) => {
            Some((Code::EventUrlNotAllowed, line, column, fault.to_string()))
        }
        Finding::Broken(what) => Some((Code::MalformedJson, line, column, (*what).to_owned())),
        Finding::Refused(Reject::Pairs(fault)) => {
            Some((Problem::from(*fault).code(), line, column, fault.to_string()))
        }
        Finding::Refused(Reject::Syntax(fault)) => {
            let told = |code, (line, column), what: &str| (code, line, column, what.to_owned());
            Some(match *fault {
                JsonFault::Malformed { line, column } => {
                    let what = "the document is not JSON";
                    told(Code::MalformedJson, place(document, line, column), what)
                }
                JsonFault::DuplicateKey { line, column } => {
                    let what = "an object names a key twice";
                    told(Code::DuplicateKey, place(document, line, column), what)
                }
                JsonFault::TooDeep { limit } => {
                    let what = format!("the document is nested deeper than {limit} levels");
                    told(Code::MalformedJson, (line, column), &what)
                }
            })
        }
    }
}

/// One document for a program.
fn object(name: &str, document: &Document, finding: &Finding) -> Value {
    let mut object = json!({ "file": name, "line": document.line, "valid": false });
    let list = |json: &[u8]| serde_json::from_slice(json).unwrap_or_else(|_| json!([]));
    let (mut errors, mut warnings) = (json!([]), json!([]));
    match finding {
        Finding::Valid(found) => {
            object["valid"] = json!(true);
            warnings = list(found.to_json().as_bytes());
        }
        Finding::Refused(Reject::Invalid(violations)) => errors = list(&violations.to_json()),
        Finding::Refused(
            Reject::Syntax(_)
            | Reject::Pairs(_)
            | Reject::TooLarge { .. }
            | Reject::Publisher
            | Reject::SourceNotAllowed
            | Reject::Unauthorized
            | Reject::EventUrl(_),
        )
        | Finding::Broken(_) => {}
    }
    if let Some((code, line, column, detail)) = refusal(document, finding) {
        object["line"] = json!(line);
        object["column"] = json!(column);
        object["code"] = json!(code.as_str());
        object["detail"] = json!(detail);
    }
    object["errors"] = errors;
    object["warnings"] = warnings;
    object
}

/// One document for a person.
fn lines(document: &Document, finding: &Finding) -> Vec<Line> {
    if let Some((code, line, column, text)) = refusal(document, finding) {
        let (column, aside) = (Some(column), code.as_str().to_owned());
        return vec![Line { line, column, text, aside, ..Line::error() }];
    }
    let text = match &document.text {
        Text::Whole(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
        Text::TooLarge | Text::Broken(_) => "",
    };
    let line_of = |path: &str| document.line + lines_before(text, path);
    match finding {
        Finding::Valid(warnings) => {
            let line = |warning: &Warning| {
                let path = warning.instance_path();
                let text = spaced(&path, &warning.message());
                let aside = warning.lint().as_str().to_owned();
                Line { line: line_of(&path), text, aside, ..Line::warning() }
            };
            warnings.iter().map(line).collect()
        }
        Finding::Refused(Reject::Invalid(violations)) => {
            let errors: Vec<AjvError> =
                serde_json::from_slice(&violations.to_json()).unwrap_or_default();
            let line = |error: &AjvError| {
                let path = &error.instance_path;
                let (text, aside) = (spaced(path, &error.message), error.schema_path.clone());
                Line { line: line_of(path), text, aside, ..Line::error() }
            };
            let mut lines: Vec<Line> = errors.iter().take(SHOWN_MAX).map(line).collect();
            if errors.len() > SHOWN_MAX {
                let text = format!("{} more are not shown", errors.len() - SHOWN_MAX);
                lines.push(Line { line: document.line, text, ..Line::error() });
            }
            lines
        }
        Finding::Refused(
            Reject::Syntax(_)
            | Reject::Pairs(_)
            | Reject::TooLarge { .. }
            | Reject::Publisher
            | Reject::SourceNotAllowed
            | Reject::Unauthorized
            | Reject::EventUrl(_),
        )
        | Finding::Broken(_) => Vec::new(),
    }
}

fn spaced(path: &str, message: &str) -> String {
    if path.is_empty() { message.to_owned() } else { format!("{path} {message}") }
}
