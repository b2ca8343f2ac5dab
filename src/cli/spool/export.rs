//! `spool export`: the events that are not delivered, in forms that can be sent again.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::list::Filter;
use super::page::{self, Bar};
use super::{Place, exit};
use crate::event::EventKind;
use crate::spool::embedded::tools::{Kept, Look, Survey};

/// Writes the events that are not delivered as NDJSON, bodies as they will be sent.
#[derive(Debug, Args)]
#[command(after_help = "Examples: beacon-relay spool export --data-dir data > events.ndjson\n\
    \x20         beacon-relay spool export --data-dir data --form orders > orders.ndjson\n\
    \x20         curl https://relay/v1/beacon/conversion -H 'Content-Type: application/x-ndjson' \
    --data-binary @orders.ndjson\n\
    Exit codes: 0 it is sound, 1 damage was found or it cannot be looked into, 2 the call is wrong")]
pub(super) struct Export {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filter: Filter,
    /// What a line is
    #[arg(long, value_enum, default_value_t = Form::Events)]
    form: Form,
    /// What stands before the paths of event URLs, as `https://events.example`
    #[arg(long, value_name = "URL", required_if_eq("form", "urls"))]
    base_url: Option<String>,
    /// Reads what can be read of a damaged store, and what was set aside too
    #[arg(long)]
    salvage: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Each event with all that is known about it
    Events,
    /// The orders alone, for `import` and POST /v1/beacon/conversion
    Orders,
    /// The ad events alone, for POST /v1/events
    Urls,
}

impl Export {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let bar = Bar::new("exporting");
        let mut out = BufWriter::new(io::stdout().lock());
        let (mut written, mut lines, mut others, mut unreadable) = (Ok(()), 0_u64, 0_u64, 0_u64);
        let mut visit = |mut kept: Kept| {
            if !self.filter.takes(&mut kept) {
                return true;
            }
            match self.line(&kept) {
                Line::Text(line) => {
                    lines += 1;
                    written = out.write_all(&line).and_then(|()| out.write_all(b"\n"));
                }
                Line::Other => others += 1,
                Line::Unreadable => unreadable += 1,
            }
            written.is_ok()
        };
        let survey = self.read(&bar, &mut visit)?;
        drop(bar);
        page::heard(written.and_then(|()| out.flush())).context("cannot write the export")?;
        eprintln!("{lines} exported");
        if others > 0 {
            eprintln!("{others} are of another kind: left out, --form events has them");
        }
        if unreadable > 0 {
            eprintln!("{unreadable} hold no JSON object: left out, --form events has them");
        }
        for damage in survey.damages() {
            eprintln!("{}: {}", damage.file, damage.wrong.meaning());
        }
        if !survey.is_sound() && !self.salvage {
            eprintln!("--salvage looks for what can be read of it");
        }
        Ok(exit(&survey))
    }

    fn read(&self, bar: &Bar, visit: &mut dyn FnMut(Kept) -> bool) -> anyhow::Result<Survey> {
        let mut tell = |done, total| bar.tell(done, total);
        if self.salvage {
            let look = Look::at_any(&self.place.find()?)?.with_keys(self.place.keys()?);
            return Ok(look.salvage(&mut tell, visit)?);
        }
        Ok(self.place.look_inside()?.kept(&mut tell, visit)?)
    }

    fn line(&self, kept: &Kept) -> Line {
        let event = &kept.event;
        let body = event.body.bytes();
        match (self.form, event.kind) {
            (Form::Events, _) => Line::Text(whole(kept)),
            (Form::Orders, EventKind::Conversion) => {
                object(body).map_or(Line::Unreadable, Line::Text)
            }
            (Form::Urls, EventKind::Impression | EventKind::View | EventKind::Click) => {
                let base = self.base_url.as_deref().unwrap_or_default();
                by_url(&event.target, body, base).map_or(Line::Unreadable, Line::Text)
            }
            (Form::Orders | Form::Urls, _) => Line::Other,
        }
    }
}

enum Line {
    Text(Vec<u8>),
    /// Not of the kind that the form takes.
    Other,
    Unreadable,
}

/// The body on one line, when it is a JSON object. Bytes of a line's end stand between values only,
/// for no JSON text holds them as they are.
fn object(body: &[u8]) -> Option<Vec<u8>> {
    let is_object = matches!(serde_json::from_slice::<Value>(body), Ok(Value::Object(_)));
    is_object.then(|| on_one_line(body))
}

fn on_one_line(body: &[u8]) -> Vec<u8> {
    body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

/// The event with its URL in front; its other members stay as they are.
fn by_url(target: &[u8], body: &[u8], base: &str) -> Option<Vec<u8>> {
    let target = String::from_utf8_lossy(target);
    let url = if target.starts_with('/') {
        format!("{}{target}", base.trim_end_matches('/'))
    } else {
        target.into_owned()
    };
    let mut line = format!("{{\"event_url\":{}", json!(url)).into_bytes();
    if body.is_empty() {
        line.push(b'}');
        return Some(line);
    }
    let body = object(body)?;
    let members = body.trim_ascii().strip_prefix(b"{")?;
    if members.trim_ascii_start() != b"}" {
        line.push(b',');
    }
    line.extend_from_slice(members);
    Some(line)
}

/// Everything that is known, the body byte for byte where it is JSON.
fn whole(kept: &Kept) -> Vec<u8> {
    let mut members = super::list::object(kept, true);
    let body = kept.event.body.bytes();
    let is_json = serde_json::from_slice::<Value>(body).is_ok();
    if !is_json {
        return Value::Object(members).to_string().into_bytes();
    }
    members.remove("body");
    let mut line = Value::Object(members).to_string().into_bytes();
    // The brace at the end gives way to the body, whose numbers keep their spelling.
    line.pop();
    line.extend_from_slice(b",\"body\":");
    line.extend_from_slice(&on_one_line(body));
    line.push(b'}');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ad_event_goes_out_with_its_url_in_front() {
        let line = |target: &str, body: &str| {
            let line = by_url(target.as_bytes(), body.as_bytes(), "https://events.example/");
            line.map(|line| String::from_utf8(line).unwrap())
        };
        let url = r#""event_url":"https://events.example/c/a1?b=%20c""#;
        assert_eq!(
            line("/c/a1?b=%20c", r#"{ "n":1.50 }"#),
            Some(format!("{{{url}, \"n\":1.50 }}"))
        );
        assert_eq!(line("/c/a1?b=%20c", "{ }"), Some(format!("{{{url} }}")));
        assert_eq!(line("/c/a1?b=%20c", ""), Some(format!("{{{url}}}")));
        assert_eq!(line("/c", "[1]"), None);
        let whole = line("https://other.example/c", "{}");
        assert_eq!(whole.as_deref(), Some(r#"{"event_url":"https://other.example/c"}"#));
    }

    #[test]
    fn a_body_of_several_lines_becomes_one() {
        let body = object(b"{\r\n \"a\": 1.0,\n \"b\": \"\\n\"\n}").unwrap();
        assert_eq!(body, b"{   \"a\": 1.0,  \"b\": \"\\n\" }");
    }
}
