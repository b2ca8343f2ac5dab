//! `check`: print what would run, and every fault of the configuration at once.

use std::fmt::Display;
use std::path::Path;

use clap::Args;

use super::spool::page::Bar;
use super::{ConfigFile, Refused};
use crate::caller::{Access, Client, Credential, Scope, Strangers};
use crate::clock::Clock;
use crate::config::Plan;
use crate::http::tls::Tls;
use crate::spool::embedded::tools::{Look, LookError, Wrong};
use crate::units::{show_bytes, show_span};

/// Damaged pieces that are named here.
const DAMAGES_SHOWN: usize = 10;
use crate::event::SourceName;
use crate::forward::request::Route;
use crate::source::aliases::Aliases;
use crate::source::auth::Auth;
use crate::source::{Get, OnInvalid};

/// Prints what would run, and every fault of the configuration at once.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay check --config relay.toml\n\
    Exit codes: 0 it would run, 2 it would not")]
pub(super) struct Check {
    #[command(flatten)]
    file: ConfigFile,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let plan = self.file.layers().plan()?;
        let found = directory(&plan.spool.path)?;
        super::say(&describe(&plan, &found));
        Ok(())
    }
}

fn describe(plan: &Plan, directory: &[String]) -> String {
    let server = &plan.server;
    let token = if plan.admin.token.is_some() { "with a token" } else { "without a token" };
    let tls = server.tls.as_ref().map(|opened| &opened.tls);
    let held = match tls.map(Tls::validity) {
        Some(Some(validity)) => format!(", certificate until {}", validity.until),
        Some(None) | None => String::new(),
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut lines = vec![
        format!("public   {scheme}://{}{held}", server.listen),
        format!(
            "         events to {}, {} of them in bodies to {}, {} requests and {} connections at once",
            show_bytes(server.requests.body.bytes_max as u64),
            server.requests.body.items_max,
            show_bytes(server.requests.body.many_bytes_max as u64),
            server.requests.requests_max,
            server.connections.connections_max
        ),
        format!("admin    http://{} {token}", plan.admin.listen),
        format!(
            "spool    {} up to {}",
            plan.spool.path.display(),
            show_bytes(plan.spool.max_bytes)
        ),
        format!(
            "         dead letters up to {} for {}",
            show_bytes(plan.spool.dead_max_bytes.min(plan.spool.max_bytes / 4)),
            show_span(plan.spool.dead_max_age)
        ),
        format!(
            "         bodies are {} on disk",
            if plan.spool.keys.is_active() { "encrypted" } else { "not encrypted" }
        ),
    ];
    lines.extend(directory.iter().map(|line| format!("         {line}")));
    lines.extend([String::new(), "clients".to_owned()]);
    lines.extend(clients(plan));
    lines.extend([String::new(), "sources".to_owned()]);
    for source in &plan.sources {
        let to: Vec<&str> = source.to.iter().map(|name| name.as_str()).collect();
        let methods = if source.get == Get::Query { "GET, POST" } else { "POST" };
        lines.push(format!("  {:<18} {methods} {}", source.name.as_str(), source.path));
        lines.push(format!("  {:<18} {} to {}", "", source.kind.as_str(), to.join(", ")));
        match &source.auth {
            Auth::Clients => {}
            own @ Auth::Own(_) => lines.push(format!("  {:<18} known by {own}", "")),
        }
        for way in source.dedupe.iter().flat_map(|rule| &rule.0) {
            let key: Vec<String> = way.key.iter().map(ToString::to_string).collect();
            let (window, key) = (show_span(way.window), key.join(" "));
            lines.push(format!("  {:<18} once in {window} by {key}", ""));
        }
        if let Some(lookup) = plan.lookups.iter().find(|one| one.source == source.name) {
            let (rate, most) = (lookup.rate, lookup.attempts_max);
            lines.push(format!("  {:<18} looked up when late: {rate}, {most} attempts", ""));
            if let Some(proxy) = &lookup.asking.proxy {
                lines.push(format!("  {:<18} looked up through {proxy:?}", ""));
            }
        }
        if source.on_invalid == OnInvalid::DeadLetter {
            lines.push(format!("  {:<18} what cannot be used is kept as dead letters", ""));
        }
        if let Some(multi_site) = &source.multi_site {
            let count = multi_site.publishers.len();
            lines.push(format!("  {:<18} brand required of {count} publishers", ""));
        }
        if let Some(profile) = &source.pii {
            let members: Vec<&str> = profile.rules.iter().map(|rule| &*rule.from).collect();
            let members = members.join(", ");
            lines.push(format!("  {:<18} hashed by [pii.{}]: {members}", "", profile.name));
        }
        let aliases = source.aliases.as_ref().map_or(0, Aliases::count);
        if aliases > 0 || source.utc {
            let utc = if source.utc { ", created_at in UTC" } else { "" };
            lines.push(format!("  {:<18} {aliases} aliases{utc}", ""));
        }
    }
    if !plan.off.is_empty() {
        let names: Vec<&str> = plan.off.iter().map(SourceName::as_str).collect();
        let names = names.join(", ");
        lines.push(format!("  off, until `to` names a destination: {names}"));
    }
    lines.extend([String::new(), "destinations".to_owned()]);
    for one in &plan.destinations {
        lines.push(format!(
            "  {:<18} {}, {} at once, attempts of {}, waits of {} to {}",
            one.name.as_str(),
            one.shape.origin(),
            one.concurrency,
            show_span(one.limits.attempt_within),
            show_span(one.backoff.wait_first),
            show_span(one.backoff.wait_max)
        ));
        if one.shape.lead().sign.is_some() {
            lines.push(format!("  {:<18} signed", ""));
        }
        if let Some(proxy) = &one.network.proxy {
            lines.push(format!("  {:<18} through {proxy:?}", ""));
        }
        if let Some(by_url) = one.shape.by_url() {
            let origins: Vec<String> = by_url.origins.iter().map(ToString::to_string).collect();
            let route = match by_url.route {
                Route::Own => "",
                Route::Base => ", all sent to the base URL",
            };
            lines.push(format!("  {:<18} event URLs of {}{route}", "", origins.join(", ")));
        }
    }
    let warnings = plan.warnings(Clock::system().now());
    if !warnings.is_empty() {
        lines.extend([String::new(), "warnings".to_owned()]);
        lines.extend(warnings.iter().map(|warning| format!("  {warning}")));
    }
    lines.extend([String::new(), "no fault found".to_owned(), String::new()]);
    lines.join("\n")
}

/// Who may post, never a digest.
fn clients(plan: &Plan) -> Vec<String> {
    let Access { clients, strangers, rate_per_address, proxies, cors } = &plan.access;
    let mut lines: Vec<String> = clients.iter().map(client).collect();
    let others = match strangers {
        Strangers::Refused => "  nobody else".to_owned(),
        Strangers::Taken if clients.is_empty() => "  anyone who reaches the listener".to_owned(),
        Strangers::Taken => "  and anyone else who reaches the listener".to_owned(),
    };
    let limit = rate_per_address.map_or_else(String::new, |rate| format!("; {rate} an address"));
    lines.push(format!("{others}{limit}"));
    if !proxies.is_empty() {
        let blocks: Vec<String> = proxies.iter().map(ToString::to_string).collect();
        lines.push(format!("  addresses are believed from {}", blocks.join(", ")));
    }
    if !cors.is_empty() {
        let origins: Vec<String> = cors.iter().map(ToString::to_string).collect();
        lines.push(format!("  pages of {} may read answers", origins.join(", ")));
    }
    lines
}

fn client(client: &Client) -> String {
    let known_by = match &client.credential {
        Credential::Keys(keys) if keys.len() == 1 => "a key".to_owned(),
        Credential::Keys(keys) => format!("{} keys", keys.len()),
        Credential::Origins(origins) => {
            let origins: Vec<String> = origins.iter().map(ToString::to_string).collect();
            format!("a page of {}", origins.join(", "))
        }
    };
    let rate = match (&client.credential, client.rate) {
        (_, None) => String::new(),
        (Credential::Keys(_), Some(rate)) => format!("; {rate}"),
        (Credential::Origins(_), Some(rate)) => format!("; {rate} an address"),
    };
    let sources = listed(&client.sources, "every source");
    let publishers = listed(&client.publishers, "every publisher");
    format!("  {:<18} {known_by}; posts to {sources}, for {publishers}{rate}", client.name.as_str())
}

fn listed<T: Display>(scope: &Scope<T>, any: &str) -> String {
    match scope {
        Scope::Any => any.to_owned(),
        Scope::Only(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// What there is to say of the data directory.
///
/// # Errors
/// When no relay would start on it.
fn directory(path: &Path) -> anyhow::Result<Vec<String>> {
    match path.metadata() {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(Refused(format!("{} is no directory", path.display())).into()),
        Err(_) => return Ok(vec!["will be made".to_owned()]),
    }
    let look = match Look::at(path) {
        Ok(look) => look,
        Err(LookError::NoSpool(_)) => return Ok(vec!["holds no spool yet".to_owned()]),
        Err(error @ LookError::InUse { .. }) => {
            return Ok(vec![format!("not looked into: {error}")]);
        }
        Err(error @ LookError::Newer { .. }) => return Err(Refused(error.to_string()).into()),
        Err(error @ (LookError::Missing(_) | LookError::Fault(_))) => return Err(error.into()),
    };
    let bar = Bar::new("looking into the spool");
    let survey = look.survey(&mut |done, total| bar.tell(done, total))?;
    drop(bar);
    if survey.damages().any(|damage| damage.wrong == Wrong::Format) {
        let words = "FORMAT does not say what wrote the directory: put the file back, or name \
                     another directory";
        return Err(Refused(format!("{}: {words}", path.display())).into());
    }
    let waiting: u64 = survey.destinations.iter().map(|one| one.pending + one.retrying).sum();
    let dead: u64 = survey.destinations.iter().map(|one| one.dead).sum();
    let format = survey.format.unwrap_or_default();
    let state = match survey.damages().count() {
        0 => "sound".to_owned(),
        1 => "1 piece is damaged".to_owned(),
        damages => format!("{damages} pieces are damaged"),
    };
    let mut lines = vec![format!("format {format}, {state}: {waiting} waiting, {dead} dead")];
    for one in survey.damages().take(DAMAGES_SHOWN) {
        lines.push(format!("{} at {}: {}", one.file, one.offset, one.wrong.meaning()));
    }
    if !survey.is_sound() {
        let tools = "spool verify names all of it, spool repair sets it aside";
        lines.push(format!("a relay starts on it all the same; {tools}"));
    }
    Ok(lines)
}
