//! `status`: a running relay at a glance.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::remote::Remote;
use super::table::{self, Look, Table, cell};
use crate::units::show_bytes;

/// Shows what a running relay has in hand, and what keeps it from going.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay status --watch\n\
    Exit codes: 0 asked, 1 no relay answered")]
pub(super) struct Status {
    #[command(flatten)]
    remote: Remote,
    /// Shows it again every two seconds, until it is interrupted
    #[arg(long)]
    watch: bool,
}

const WATCH_EVERY: Duration = Duration::from_secs(2);

impl Status {
    pub(super) fn run(self) -> anyhow::Result<()> {
        super::runtime()?.block_on(self.show())
    }

    async fn show(self) -> anyhow::Result<()> {
        let api = self.remote.api()?;
        loop {
            let status = api.get("/api/status").await?;
            if self.remote.json {
                super::say(&status.to_string());
            } else {
                if self.watch && std::io::stdout().is_terminal() {
                    // To the upper left corner, and everything below goes.
                    table::print("\x1b[H\x1b[J");
                }
                table::print(&page(&status));
            }
            if !self.watch {
                return Ok(());
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
    }
}

fn page(status: &Value) -> String {
    let spool = &status["spool"];
    let bytes = |name: &str| about_bytes(spool[name].as_u64().unwrap_or(0));
    let differences = status["ledger"]["differences"].as_object();
    let balances = differences.is_some_and(|sums| sums.values().all(|sum| *sum == 0));
    let mut page = format!(
        "beacon-relay {}, up {}; spool {} of {}{}, dead letters {} of {}; {}\n\n",
        cell(&status["version"]).0,
        about_seconds(status["uptime_seconds"].as_f64().unwrap_or(0.0)),
        bytes("used_bytes"),
        bytes("limit_bytes"),
        if spool["full"] == true { " (full)" } else { "" },
        bytes("dead_bytes"),
        bytes("dead_limit_bytes"),
        if balances { "the sums balance" } else { "THE SUMS DO NOT BALANCE: report it" },
    );
    page.push_str(&destinations(status).render());
    page.push('\n');
    page.push_str(&sources(status).render());
    let jobs = jobs(status);
    if !jobs.is_empty() {
        page.push('\n');
        page.push_str(&jobs.render());
    }
    page
}

fn rows<'v>(status: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    status[name].as_array().into_iter().flatten()
}

fn destinations(status: &Value) -> Table {
    let mut table = Table::new(&[
        "DESTINATION",
        "STATE",
        "LIVE",
        "BACKLOG",
        "RETRYING",
        "IN FLIGHT",
        "DEAD",
        "OLDEST",
        "AT ONCE",
        "DRAINED IN",
    ]);
    for one in rows(status, "destinations") {
        let dead = if one["dead"] == 0 { Look::Plain } else { Look::Bad };
        let eta = &one["drain"]["eta_seconds"];
        table.row(vec![
            cell(&one["name"]),
            state(one),
            cell(&one["pending"]["live"]),
            cell(&one["pending"]["backlog"]),
            cell(&one["retrying"]),
            cell(&one["in_flight"]),
            (cell(&one["dead"]).0, dead),
            oldest(one),
            (format!("{}/{}", one["concurrency"]["now"], one["concurrency"]["max"]), Look::Plain),
            (eta.as_f64().map_or_else(|| "-".to_owned(), about_seconds), Look::Plain),
        ]);
    }
    table
}

/// The age of what waits longest, and how much of it is soon too old.
fn oldest(one: &Value) -> (String, Look) {
    let age = match one["oldest_age_seconds"].as_f64() {
        Some(age) if age > 0.0 => about_seconds(age),
        Some(_) | None => "-".to_owned(),
    };
    match one["expiring"].as_u64() {
        Some(count) if count > 0 => (format!("{age}, {count} expire soon"), Look::Bad),
        Some(_) | None => (age, Look::Plain),
    }
}

/// What keeps deliveries from going, the operator's own wish first.
fn state(one: &Value) -> (String, Look) {
    let bad = |text: &str| (text.to_owned(), Look::Bad);
    if let Some(until) = one["paused"]["until"].as_str() {
        return bad(&format!("paused until {until}"));
    }
    if one["paused"].is_object() {
        return bad("paused");
    }
    if one["refusing"] == true {
        return bad("refusing");
    }
    if one["redirecting"] == true {
        return bad("redirecting");
    }
    if one["breaker"] == "open" {
        return bad("breaker open");
    }
    match one["closed_for_seconds"].as_f64() {
        Some(left) => (format!("waits {}", about_seconds(left)), Look::Bad),
        None => ("ok".to_owned(), Look::Plain),
    }
}

fn sources(status: &Value) -> Table {
    let columns = ["received", "accepted", "duplicate", "rejected", "unavailable", "abandoned"];
    let mut head = vec!["SOURCE".to_owned()];
    head.extend(columns.map(str::to_uppercase));
    let mut table = Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
    for one in rows(status, "sources") {
        let mut row = vec![cell(&one["name"])];
        row.extend(columns.map(|name| cell(&one[name])));
        table.row(row);
    }
    table
}

fn jobs(status: &Value) -> Table {
    let columns = ["id", "action", "state", "rate", "matched", "replayed", "dropped"];
    let mut head: Vec<String> = columns.iter().map(|name| name.to_uppercase()).collect();
    if let Some(first) = head.first_mut() {
        "JOB".clone_into(first);
    }
    let mut table = Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
    for one in rows(status, "jobs") {
        table.row(columns.map(|name| cell(&one[name])).to_vec());
    }
    table
}

/// A time to its two largest units.
pub(super) fn about_seconds(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    let whole = seconds as u64;
    match whole {
        0 if seconds > 0.0 => "<1 s".to_owned(),
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{} m {} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {} m", whole / 3_600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// A size, exactly when a unit divides it and to a tenth otherwise.
fn about_bytes(bytes: u64) -> String {
    let exact = show_bytes(bytes);
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) if !bytes.is_multiple_of(unit) => {
            format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
        }
        Some(_) | None => exact,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_short() {
        for (seconds, text) in
            [(0.0, "0 s"), (0.2, "<1 s"), (61.0, "1 m 1 s"), (7_260.0, "2 h 1 m"), (9e4, "1 d 1 h")]
        {
            assert_eq!(about_seconds(seconds), text);
        }
        assert_eq!(about_bytes(20 << 30), "20 GiB");
        assert_eq!(about_bytes((3 << 20) + (1 << 19)), "3.5 MiB");
        assert_eq!(about_bytes(12), "12 B");
    }

    #[test]
    fn what_expires_soon_stands_beside_the_oldest() {
        let mut one = json!({ "oldest_age_seconds": 0.0, "expiring": 0 });
        assert_eq!(oldest(&one), ("-".to_owned(), Look::Plain));
        one = json!({ "oldest_age_seconds": 7_260.0, "expiring": 3 });
        assert_eq!(oldest(&one), ("2 h 1 m, 3 expire soon".to_owned(), Look::Bad));
    }

    #[test]
    fn what_keeps_a_destination_is_told_the_operators_wish_first() {
        let mut one = json!({ "paused": { "until": null }, "refusing": true, "breaker": "open",
            "redirecting": false, "closed_for_seconds": 2.0 });
        assert_eq!(state(&one).0, "paused");
        one["paused"] = Value::Null;
        assert_eq!(state(&one).0, "refusing");
        one["refusing"] = false.into();
        assert_eq!(state(&one).0, "breaker open");
        one["breaker"] = "closed".into();
        assert_eq!(state(&one).0, "waits 2 s");
        one["closed_for_seconds"] = Value::Null;
        assert_eq!(state(&one), ("ok".to_owned(), Look::Plain));
    }
}
