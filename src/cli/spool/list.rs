//! `spool list`: what is pending, retrying or dead, with bodies masked unless they are asked for.

use std::io;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::page::{self, Bar, Page};
use super::{Place, exit};
use crate::json::mask;
use crate::spool::embedded::tools::{Kept, Stage};

/// Deliveries that a person is shown unless more are asked for.
const SHOWN: usize = 50;

/// Lists what is pending, retrying or dead. Values of bodies and queries are masked.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay spool list --data-dir data --stage dead\n\
    Exit codes: 0 it is sound, 1 damage was found or it cannot be looked into, 2 the call is wrong")]
pub(super) struct List {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filter: Filter,
    /// Shows bodies and queries as they will be sent
    #[arg(long)]
    reveal: bool,
    /// How many are listed [default: 50 for people, all for programs]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Prints one JSON object a delivery, for programs
    #[arg(long)]
    json: bool,
}

/// Which deliveries are meant.
#[derive(Clone, Debug, Args)]
pub(super) struct Filter {
    /// Only those that have come so far; may be given again
    #[arg(long, value_enum)]
    stage: Vec<Come>,
    /// Only those owed to this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Come {
    /// Waiting for a first attempt
    Pending,
    /// Waiting for another
    Retrying,
    /// Given up
    Dead,
}

impl Filter {
    /// Leaves in `kept` the deliveries that are meant; `false` when none is.
    pub(super) fn takes(&self, kept: &mut Kept) -> bool {
        let come = match kept.stage {
            Stage::Pending => Come::Pending,
            Stage::Retrying => Come::Retrying,
            Stage::Dead => Come::Dead,
        };
        if !self.stage.is_empty() && !self.stage.contains(&come) {
            return false;
        }
        let Some(name) = &self.destination else { return true };
        if kept.to.is_empty() {
            // With its header lost a file does not say whom its records are owed to.
            return true;
        }
        kept.to.retain(|(to, _)| to.as_str() == name);
        !kept.to.is_empty()
    }
}

impl List {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let look = self.place.look_inside()?;
        let limit = self.limit.unwrap_or(if self.json { usize::MAX } else { SHOWN });
        let bar = Bar::new("reading");
        let (mut shown, mut more) = (0_usize, false);
        let mut written = Ok(());
        let mut page = None;
        let survey = look.kept(&mut |done, total| bar.tell(done, total), |mut kept| {
            if !self.filter.takes(&mut kept) {
                return true;
            }
            if shown >= limit {
                more = true;
                return false;
            }
            shown += 1;
            let page = page.get_or_insert_with(|| {
                bar.hide();
                Page::new()
            });
            written = self.show(page, &kept);
            written.is_ok()
        })?;
        drop(bar);
        page::heard(written)?;
        if !self.json {
            let mut page = page.unwrap_or_else(Page::new);
            let end = if more {
                format!("{shown} shown, there are more: --limit N")
            } else {
                format!("{shown} in all")
            };
            page::heard(page.line(page::ASIDE, &end))?;
            if !survey.is_sound() {
                page::heard(page.findings(&survey))?;
            }
        }
        Ok(exit(&survey))
    }

    fn show(&self, page: &mut Page, kept: &Kept) -> io::Result<()> {
        if self.json {
            return page.line(page::PLAIN, &Value::Object(object(kept, self.reveal)).to_string());
        }
        let to: Vec<String> = kept.to.iter().map(|(to, id)| format!("{to} #{}", id.0)).collect();
        let style = match kept.stage {
            Stage::Pending => page::HEAD,
            Stage::Retrying => page::REMARK,
            Stage::Dead => page::ERROR,
        };
        let mut facts = format!(
            "{style}{:<8}{style:#} {} {:<12} accepted {}, {} attempts, to {}",
            kept.stage.as_str(),
            kept.event.id,
            kept.event.kind.as_str(),
            kept.event.accepted_at,
            kept.attempts,
            to.join(", "),
        );
        if let Some(at) = kept.at {
            let word = if kept.stage == Stage::Dead { "given up" } else { "due" };
            facts.push_str(&format!(", {word} {at}"));
        }
        if let Some(refusal) = &kept.refusal {
            facts.push_str(&format!(", {}", refusal.cause.as_str()));
            facts.extend(refusal.status.map(|status| format!(" {status}")));
        }
        let (target, body) = shown(kept, self.reveal);
        page.line(page::PLAIN, &facts)?;
        page.line(page::ASIDE, &format!("         {target} {body}"))
    }
}

/// Target and body as they may be shown.
fn shown(kept: &Kept, reveal: bool) -> (String, String) {
    let body = kept.event.body.bytes();
    if reveal {
        let target = String::from_utf8_lossy(&kept.event.target).into_owned();
        return (target, String::from_utf8_lossy(body).into_owned());
    }
    (mask::target(&kept.event.target), mask::body(body).to_string())
}

/// One record for programs; the body is JSON when it is some.
pub(super) fn object(kept: &Kept, reveal: bool) -> Map<String, Value> {
    let to = kept.to.iter().map(|(to, id)| json!({"destination": to.as_str(), "delivery": id.0}));
    let body = kept.event.body.bytes();
    let body = if reveal {
        serde_json::from_slice(body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
    } else {
        mask::body(body)
    };
    let target = if reveal {
        String::from_utf8_lossy(&kept.event.target).into_owned()
    } else {
        mask::target(&kept.event.target)
    };
    let refusal = kept.refusal.as_ref().map(|refusal| {
        // What the upstream said may quote what it was sent.
        let answer = reveal.then(|| String::from_utf8_lossy(&refusal.answer).into_owned());
        json!({"cause": refusal.cause.as_str(), "status": refusal.status, "answer": answer})
    });
    let members = [
        ("id", json!(kept.event.id.to_string())),
        ("stage", json!(kept.stage.as_str())),
        ("source", json!(kept.event.source.as_str())),
        ("kind", json!(kept.event.kind.as_str())),
        ("accepted_at", json!(kept.event.accepted_at.to_string())),
        ("to", to.collect()),
        ("attempts", json!(kept.attempts)),
        ("at", json!(kept.at.map(|at| at.to_string()))),
        ("refusal", json!(refusal)),
        ("file", json!(kept.file)),
        ("offset", json!(kept.offset)),
        ("sequence", json!(kept.sequence)),
        ("checked", json!(kept.is_checked)),
        ("target", json!(target)),
        ("body", body),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
