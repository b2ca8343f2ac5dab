//! `check`: print what would run, and every fault of the configuration at once.

use std::fmt::Display;
use std::path::Path;

use clap::Args;

use super::ConfigFile;
use crate::caller::{Access, Client, Credential, Scope, Strangers};
use crate::config::Plan;
use crate::config::units::{show_bytes, show_span};
use crate::forward::request::Route;
use crate::source::aliases::Aliases;

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
        super::say(&describe(&plan));
        Ok(())
    }
}

fn describe(plan: &Plan) -> String {
    let server = &plan.server;
    let token = if plan.admin.token.is_some() { "with a token" } else { "without a token" };
    let mut lines = vec![
        format!("public   http://{}", server.listen),
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
            "spool    {} up to {} ({})",
            plan.spool.path.display(),
            show_bytes(plan.spool.max_bytes),
            directory(&plan.spool.path)
        ),
        format!(
            "         dead letters up to {} for {}",
            show_bytes(plan.spool.dead_max_bytes.min(plan.spool.max_bytes / 4)),
            show_span(plan.spool.dead_max_age)
        ),
        String::new(),
        "clients".to_owned(),
    ];
    lines.extend(clients(plan));
    lines.extend([String::new(), "sources".to_owned()]);
    for source in &plan.sources {
        let to: Vec<&str> = source.to.iter().map(|name| name.as_str()).collect();
        let dedupe = source.dedupe.as_ref().map_or_else(String::new, |rule| {
            let key: Vec<String> = rule.key.iter().map(ToString::to_string).collect();
            format!(", once in {} by {}", show_span(rule.window), key.join(" "))
        });
        lines.push(format!("  {:<18} POST {}", source.name.as_str(), source.path));
        lines.push(format!("  {:<18} {} to {}{dedupe}", "", source.kind.as_str(), to.join(", ")));
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
    let warnings = plan.warnings();
    if !warnings.is_empty() {
        lines.extend([String::new(), "warnings".to_owned()]);
        lines.extend(warnings.iter().map(|warning| format!("  {warning}")));
    }
    lines.extend([String::new(), "no fault found".to_owned(), String::new()]);
    lines.join("\n")
}

/// Who may post, never a digest.
fn clients(plan: &Plan) -> Vec<String> {
    let Access { clients, strangers } = &plan.access;
    let mut lines: Vec<String> = clients.iter().map(client).collect();
    lines.push(match strangers {
        Strangers::Refused => "  nobody else".to_owned(),
        Strangers::Taken if clients.is_empty() => "  anyone who reaches the listener".to_owned(),
        Strangers::Taken => "  and anyone else who reaches the listener".to_owned(),
    });
    lines
}

fn client(client: &Client) -> String {
    let known_by = match &client.credential {
        Credential::Keys(keys) if keys.len() == 1 => "a key".to_owned(),
        Credential::Keys(keys) => format!("{} keys", keys.len()),
    };
    let sources = listed(&client.sources, "every source");
    let publishers = listed(&client.publishers, "every publisher");
    format!("  {:<18} {known_by}; posts to {sources}, for {publishers}", client.name.as_str())
}

fn listed<T: Display>(scope: &Scope<T>, any: &str) -> String {
    match scope {
        Scope::Any => any.to_owned(),
        Scope::Only(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn directory(path: &Path) -> &'static str {
    match path.metadata() {
        Ok(found) if found.is_dir() => "exists",
        Ok(_) => "is no directory",
        Err(_) => "will be made",
    }
}
