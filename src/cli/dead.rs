//! `dead`: letters that were given up, from a terminal.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::remote::{Api, Remote, encoded};
use super::table::{self, Look, Table, cell};
use crate::clock::{Clock, Timestamp};
use crate::units;

/// Lists dead letters of a running relay, shows one, puts them back in line, or drops them.
#[derive(Debug, Args)]
#[command(after_help = "Examples: beacon-relay dead list --reason refused\n          \
    beacon-relay dead replay --destination events-api --dry-run\n\
    Exit codes: 0 done, 1 not")]
pub(super) struct Dead {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists letters, oldest delivery first
    #[command(after_help = "Example: beacon-relay dead list --kind conversion --limit 20")]
    List {
        #[command(flatten)]
        filter: Filter,
        /// Letters at most
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: u16,
        /// The last id that was seen
        #[arg(long, value_name = "ID")]
        after: Option<u64>,
    },
    /// Shows one letter, values masked
    #[command(after_help = "Example: beacon-relay dead show 1234")]
    Show {
        /// The letter
        id: u64,
        /// Shows values too, with the token of admin.reveal_token_env
        #[arg(long)]
        reveal: bool,
    },
    /// Puts letters back in line
    #[command(after_help = "Example: beacon-relay dead replay --reason refused --rate 100/s")]
    Replay {
        #[command(flatten)]
        which: Which,
        /// Says how many would go, and moves nothing
        #[arg(long)]
        dry_run: bool,
        /// Letters in a time, as 100/s
        #[arg(long, conflicts_with = "ids", value_name = "RATE")]
        rate: Option<String>,
    },
    /// Drops letters for good
    #[command(after_help = "Example: beacon-relay dead drop --reason expired")]
    Drop {
        #[command(flatten)]
        which: Which,
        /// Says how many would go, and drops nothing
        #[arg(long)]
        dry_run: bool,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
struct Filter {
    /// Owed to this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// conversion, impression, view, click or notification
    #[arg(long)]
    kind: Option<String>,
    /// refused, expired, unknown_outcome, unsendable or invalid
    #[arg(long)]
    reason: Option<String>,
    /// With this publisher_id in the body, or in the query of an ad's URL
    #[arg(long, value_name = "ID")]
    publisher: Option<String>,
    /// With this order_id in the body
    #[arg(long, value_name = "ID")]
    order_id: Option<String>,
    /// Given up at this time or later: 2026-11-21T09:30:00Z, or so long ago as "2 h"
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Given up before this time, or longer ago than that
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

#[derive(Debug, Args)]
struct Which {
    /// Letters by id; up to 1000
    ids: Vec<u64>,
    /// Every letter
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

impl Filter {
    /// What the API is asked for.
    fn members(&self, now: Timestamp) -> Map<String, Value> {
        let (since, until) = (moment(self.since.as_ref(), now), moment(self.until.as_ref(), now));
        let members = [
            ("destination", &self.destination),
            ("kind", &self.kind),
            ("reason", &self.reason),
            ("publisher", &self.publisher),
            ("order_id", &self.order_id),
            ("since", &since),
            ("until", &until),
        ];
        let said = members.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        said.map(|(name, value)| (name.to_owned(), json!(value))).collect()
    }
}

/// A time that may be said as how long ago it was; the relay tells what is neither.
fn moment(said: Option<&String>, now: Timestamp) -> Option<String> {
    let ago = |text: &String| {
        let millis = u64::try_from(units::span(text).ok()?.as_millis()).ok()?;
        Some(Timestamp::from_millis(now.as_millis().saturating_sub(millis)).to_string())
    };
    said.map(|text| ago(text).unwrap_or_else(|| text.clone()))
}

impl Which {
    fn body(&self, now: Timestamp) -> anyhow::Result<Value> {
        let filter = self.filter.members(now);
        let said =
            [!self.ids.is_empty(), !filter.is_empty(), self.all].into_iter().filter(|said| *said);
        match said.count() {
            0 => bail!("say which letters: ids, a filter as --reason expired, or --all"),
            1 => {}
            _ => bail!("ids, a filter and --all exclude each other: keep one"),
        }
        Ok(if !self.ids.is_empty() {
            let ids: Vec<String> = self.ids.iter().map(u64::to_string).collect();
            json!({ "ids": ids })
        } else if self.all {
            json!({ "all": true })
        } else {
            json!({ "filter": filter })
        })
    }
}

impl Dead {
    pub(super) fn run(self) -> anyhow::Result<()> {
        super::runtime()?.block_on(self.ask())
    }

    async fn ask(self) -> anyhow::Result<()> {
        let (api, json) = (self.remote.api()?, self.remote.json);
        let now = Clock::system().now();
        match self.command {
            Command::List { filter, limit, after } => {
                list(&api, json, &filter.members(now), limit, after).await
            }
            Command::Show { id, reveal } => {
                let path = format!("/api/dead/{id}");
                let letter = if reveal {
                    api.get_revealed(&format!("{path}?reveal=true")).await?
                } else {
                    api.get(&path).await?
                };
                let text = if json { letter.to_string() } else { format!("{letter:#}") };
                super::say(&text);
                Ok(())
            }
            Command::Replay { which, dry_run, rate } => {
                let mut body = which.body(now)?;
                if let Some(rate) = rate {
                    body["rate"] = json!(rate);
                }
                act(&api, json, "replay", body, dry_run).await
            }
            Command::Drop { which, dry_run, yes } => {
                let body = which.body(now)?;
                if !dry_run && !yes && !confirmed(&api, &body).await? {
                    bail!("nothing was dropped");
                }
                act(&api, json, "drop", body, dry_run).await
            }
        }
    }
}

async fn list(
    api: &Api,
    json: bool,
    filter: &Map<String, Value>,
    limit: u16,
    after: Option<u64>,
) -> anyhow::Result<()> {
    let mut path = format!("/api/dead?limit={limit}");
    for (name, value) in filter {
        path.push_str(&format!("&{name}={}", encoded(value.as_str().unwrap_or_default())));
    }
    if let Some(after) = after {
        path.push_str(&format!("&after={after}"));
    }
    let page = api.get(&path).await?;
    if json {
        super::say(&page.to_string());
        return Ok(());
    }
    let columns =
        ["id", "destination", "kind", "reason", "status", "attempts", "accepted_at", "died_at"];
    let head = columns.map(|name| name.replace('_', " ").to_uppercase());
    let mut table = Table::new(&head.each_ref().map(String::as_str));
    for letter in page["letters"].as_array().into_iter().flatten() {
        let mut row = columns.map(|name| cell(&letter[name])).to_vec();
        if letter["expired"] == true
            && let Some(reason) = row.get_mut(3)
        {
            *reason = (format!("{} (too old)", reason.0), Look::Bad);
        }
        table.row(row);
    }
    if table.is_empty() && page["next"].is_null() {
        super::say("no dead letters");
        return Ok(());
    }
    table::print(&table.render());
    if let Some(next) = page["next"].as_str() {
        super::say(&format!("there may be more: --after {next}"));
    }
    Ok(())
}

/// Asks whoever sits at the terminal, once it is known how many letters it is about.
async fn confirmed(api: &Api, body: &Value) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("dropping cannot be taken back: add --yes where nobody can be asked");
    }
    let mut asked = body.clone();
    asked["dry_run"] = json!(true);
    let plan = api.post("/api/dead/drop", &asked).await?;
    let mut out = std::io::stderr();
    let least = if plan["complete"] == true { "" } else { "at least " };
    write!(out, "drop {least}{} dead letters for good? [y/N] ", plan["dropped"])?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

async fn act(
    api: &Api,
    json: bool,
    action: &str,
    mut body: Value,
    dry_run: bool,
) -> anyhow::Result<()> {
    body["dry_run"] = json!(dry_run);
    let answer = api.post(&format!("/api/dead/{action}"), &body).await?;
    super::say(&if json { answer.to_string() } else { sentence(&answer) });
    Ok(())
}

/// What was done, or would be.
fn sentence(answer: &Value) -> String {
    let (done, would) = match answer["action"].as_str() {
        Some("drop") => ("dropped", "would be dropped"),
        Some(_) | None => ("replayed", "would be replayed"),
    };
    let is_dry = answer["dry_run"] == true;
    let mut said = format!("{} {}", answer[done], if is_dry { would } else { done });
    for (name, why) in [
        ("expired", "left, too old for their destination"),
        ("duplicates", "left, a later event has their key"),
        ("orphaned", "left, their destination is not configured"),
        ("missing", "not there any more"),
    ] {
        if answer[name].as_u64().is_some_and(|count| count > 0) {
            said.push_str(&format!("\n{} {why}", answer[name]));
        }
    }
    if answer["complete"] == false {
        said.push_str(&match answer["id"].as_str() {
            Some(id) => format!("\njob {id} goes on: `beacon-relay status` shows it"),
            None => "\nthere are more than could be looked at in time".to_owned(),
        });
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_as_it_is_or_as_how_long_ago() {
        let now = Timestamp::from_millis(7_200_500);
        let said = |text: &str| moment(Some(&text.to_owned()), now).unwrap();
        assert_eq!(said("2 h"), "1970-01-01T00:00:00.500Z");
        assert_eq!(said("2h"), said("120m"));
        assert_eq!(said("2026-11-21T09:30:00Z"), "2026-11-21T09:30:00Z");
        assert_eq!(said("yesterday"), "yesterday");
        assert_eq!(moment(None, now), None);
    }

    #[test]
    fn what_was_left_is_said_with_its_reason() {
        let answer = json!({ "action": "replay", "dry_run": true, "complete": true, "replayed": 3,
            "expired": 1, "duplicates": 0 });
        assert_eq!(sentence(&answer), "3 would be replayed\n1 left, too old for their destination");
        let job = json!({ "action": "drop", "dry_run": false, "complete": false, "dropped": 0,
            "id": "7-a" });
        assert_eq!(sentence(&job), "0 dropped\njob 7-a goes on: `beacon-relay status` shows it");
    }
}
