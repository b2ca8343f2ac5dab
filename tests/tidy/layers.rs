//! The layers of `src`: which module may know which.
//!
//! The table is the law that `docs/adr/0001-one-package.md` speaks of. With one package there is
//! no compiler between the rooms; this file is.

use crate::rust_source::{Kind, Token, tokens};

/// One module right below the crate's root.
pub(crate) struct Room {
    name: &'static str,
    row: u8,
    /// Whom it may know when that is less than every row above its own.
    knows: Option<&'static [&'static str]>,
}

const fn room(row: u8, name: &'static str) -> Room {
    Room { name, row, knows: None }
}

/// A module imports only from rows above its own (smaller numbers), never from its own row.
pub(crate) const ROOMS: &[Room] = &[
    room(0, "clock"),
    room(0, "units"),
    room(1, "event"),
    room(1, "json"),
    room(1, "origin"),
    room(2, "ledger"),
    room(2, "metrics"),
    room(3, "schema"),
    room(4, "pii"),
    // First to leave for a package of its own, so it knows the words and nothing else.
    Room { name: "spool", row: 5, knows: Some(&["clock", "event"]) },
    // A sibling of the spool: whoever may call is told by words alone.
    Room { name: "caller", row: 5, knows: Some(&["clock", "event", "origin"]) },
    room(6, "source"),
    room(7, "intake"),
    room(7, "forward"),
    room(8, "lookup"),
    room(9, "http"),
    room(10, "sandbox"),
    room(11, "log"),
    room(11, "shutdown"),
    room(12, "config"),
    room(13, "app"),
    room(14, "cli"),
];

/// Crates that only some rooms may name, by the first row that may, or by the one room.
const WALLS: &[(&str, Within)] = &[
    // Nothing above `http` knows an HTTP server.
    ("axum", Within::RowsFrom(9)),
    // No type or error of a store crosses the spool's seam.
    ("fjall", Within::Room("spool")),
    ("async_nats", Within::Room("spool")),
];

#[derive(Clone, Copy)]
enum Within {
    RowsFrom(u8),
    Room(&'static str),
}

/// One breach of the law.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Every breach in `files`, pairs of a path like `src/http/mod.rs` and what the file holds.
///
/// `src/lib.rs` and `src/main.rs` have no row: they name every module.
pub(crate) fn breaches(files: &[(String, String)]) -> Vec<Breach> {
    files
        .iter()
        .filter_map(|(file, source)| Some((file, source, module_of(file)?)))
        .flat_map(|(file, source, module)| breaches_in(file, source, &module))
        .collect()
}

fn breaches_in(file: &str, source: &str, module: &[&str]) -> Vec<Breach> {
    let breach = |line, what| Breach { file: file.to_owned(), line, what };
    let Some(own) = find(module[0]) else {
        return vec![breach(1, format!("{} has no row in tests/tidy/layers.rs", module[0]))];
    };
    let tokens = tokens(source);
    let rooms = paths(&tokens, module).into_iter().filter_map(|path| {
        let what = judge(own, path.segments.first().copied())?;
        Some(breach(path.line, what))
    });
    let walls = tokens.iter().filter_map(|token| {
        let what = judge_crate(own, token)?;
        Some(breach(token.line, what))
    });
    rooms.chain(walls).collect()
}

fn find(name: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.name == name)
}

/// What is wrong with `own` naming `target`, the first step of a path from the crate's root.
fn judge(own: &Room, target: Option<&str>) -> Option<String> {
    let Some(target) = target else {
        return Some(format!("{} takes in the whole crate: name the module", own.name));
    };
    if target == own.name {
        return None;
    }
    let Some(other) = find(target) else {
        return Some(format!("{} imports {target}, which has no row", own.name));
    };
    let narrowed = own.knows.is_some_and(|known| !known.contains(&target));
    let pair = format!("{} (row {}) imports {target} (row {})", own.name, own.row, other.row);
    if other.row >= own.row {
        Some(format!("{pair}: only rows above its own may be imported"))
    } else if narrowed {
        Some(format!("{pair}: it may know {} alone", own.knows.unwrap_or_default().join(", ")))
    } else {
        None
    }
}

fn judge_crate(own: &Room, token: &Token<'_>) -> Option<String> {
    let (name, within) =
        WALLS.iter().find(|(name, _)| token.kind == Kind::Word && token.text == *name)?;
    let (allowed, whose) = match *within {
        Within::RowsFrom(row) => (own.row >= row, format!("rows from {row} on")),
        Within::Room(room) => (own.name == room, room.to_owned()),
    };
    (!allowed).then(|| format!("{} (row {}) names {name}: {whose} alone may", own.name, own.row))
}

/// `src/http/receive.rs` is the module `http::receive`; the roots are none.
fn module_of(file: &str) -> Option<Vec<&str>> {
    let inner = file.strip_prefix("src/")?.strip_suffix(".rs")?;
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    (!matches!(inner, "lib" | "main")).then(|| inner.split('/').collect())
}

/// A path from the crate's root, and where it was written.
#[derive(Debug, PartialEq, Eq)]
struct RootPath<'a> {
    segments: Vec<&'a str>,
    line: usize,
}

/// Every path in `tokens` that starts at `crate`, `self`, `super` or the crate's own name, in
/// `use` lines and elsewhere, with groups taken apart; `module` is where the file stands.
fn paths<'a>(tokens: &[Token<'a>], module: &[&'a str]) -> Vec<RootPath<'a>> {
    let mut found = Vec::new();
    let mut inline = InlineModules::default();
    let mut at = 0;
    while at < tokens.len() {
        inline.step(tokens, at);
        let begins = tokens.get(at + 1).is_some_and(|next| next.kind == Kind::PathSeparator)
            && (at == 0 || tokens[at - 1].kind != Kind::PathSeparator);
        let here: Vec<&str> = module.iter().copied().chain(inline.names()).collect();
        let start = if begins { start_of(&tokens[at], &here) } else { None };
        at = match start {
            Some(prefix) => follow(tokens, at + 2, prefix, &mut found),
            None => at + 1,
        };
    }
    found
}

/// Where a path that begins with `token` starts, for a module that stands at `here`.
fn start_of<'a>(token: &Token<'a>, here: &[&'a str]) -> Option<Vec<&'a str>> {
    if token.kind != Kind::Word {
        return None;
    }
    match token.text {
        "crate" | "beacon_relay" => Some(Vec::new()),
        "self" => Some(here.to_vec()),
        "super" => Some(here[..here.len().saturating_sub(1)].to_vec()),
        _ => None,
    }
}

/// Reads on behind a `::`, notes each path and answers where the next token stands.
fn follow<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    mut prefix: Vec<&'a str>,
    found: &mut Vec<RootPath<'a>>,
) -> usize {
    while let Some(token) = tokens.get(at) {
        let goes_on = tokens.get(at + 1).is_some_and(|next| next.kind == Kind::PathSeparator);
        if token.is("{") {
            return follow_group(tokens, at + 1, &prefix, found);
        }
        if token.is("super") {
            prefix.pop();
        } else if token.kind == Kind::Word && !token.is("self") {
            prefix.push(token.text);
        }
        at += 1;
        if !goes_on {
            found.push(RootPath { segments: prefix, line: token.line });
            return at;
        }
        at += 1;
    }
    at
}

/// Reads the members of a `{…}` in a `use`, up to behind its `}`.
fn follow_group<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &[&'a str],
    found: &mut Vec<RootPath<'a>>,
) -> usize {
    while let Some(token) = tokens.get(at) {
        if token.is("}") {
            return at + 1;
        }
        at = if token.is(",") {
            at + 1
        } else if token.is("as") {
            at + 2
        } else {
            follow(tokens, at, prefix.to_vec(), found)
        };
    }
    at
}

/// The `mod name { … }` that a token stands in.
#[derive(Default)]
struct InlineModules<'a> {
    depth: usize,
    /// Names with the depth of the brace that ends them.
    open: Vec<(&'a str, usize)>,
}

impl<'a> InlineModules<'a> {
    fn step(&mut self, tokens: &[Token<'a>], at: usize) {
        if tokens[at].is("{") {
            if at >= 2 && tokens[at - 2].is("mod") {
                self.open.push((tokens[at - 1].text, self.depth));
            }
            self.depth += 1;
        } else if tokens[at].is("}") {
            self.depth = self.depth.saturating_sub(1);
            self.open.retain(|(_, ends)| *ends < self.depth);
        }
    }

    fn names(&self) -> impl Iterator<Item = &'a str> {
        self.open.iter().map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the law says of one planted file.
    fn told(file: &str, source: &str) -> Vec<String> {
        let files = [(file.to_owned(), source.to_owned())];
        breaches(&files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_outward_import_is_told_with_its_line_and_both_rows() {
        let source = "//! A comment on crate::http.\n\nuse crate::http::Router;\n";
        assert_eq!(
            told("src/intake.rs", source),
            ["src/intake.rs:3: intake (row 7) imports http (row 9): \
              only rows above its own may be imported"]
        );
    }

    #[test]
    fn a_sideways_import_is_told() {
        assert_eq!(
            told("src/forward/mod.rs", "use crate::{clock, intake::{self as door}};"),
            ["src/forward/mod.rs:1: forward (row 7) imports intake (row 7): \
              only rows above its own may be imported"]
        );
    }

    #[test]
    fn no_spelling_hides_an_import() {
        for source in [
            "use crate::app::App;",
            "use crate::{event::{Event, EventId}, app::{App}};",
            "use crate::{\n    clock::Clock,\n    app,\n};",
            "fn f() { crate::app::run(); }",
            "fn f(app: &crate::app::App) {}",
            "type A = Vec<crate::app::App>;",
            "use super::super::app::App;",
            "use super::{super::app::App};",
            "mod tests { use super::super::super::app; }",
            "use self::super::super::app::App;",
            "#[cfg(test)]\nmod tests {\n    use crate::app::App;\n}",
            "pub(in crate::app) struct S;",
            "macro_rules! m { () => { $crate::app::run() } }",
            "use beacon_relay::app::App;",
        ] {
            let told = told("src/http/receive.rs", source);
            assert_eq!(told.len(), 1, "{source}: {told:?}");
            assert!(told[0].contains("http (row 9) imports app (row 13)"), "{source}: {told:?}");
        }
    }

    #[test]
    fn what_the_law_allows_is_not_told() {
        for (file, source) in [
            ("src/http/receive.rs", "use crate::{clock::Clock, intake::Intake}; use axum::Router;"),
            ("src/http/receive.rs", "use super::problem; use crate::http::problem::Problem;"),
            (
                "src/http/receive.rs",
                "mod tests { use super::*; mod deep { use super::super::*; } }",
            ),
            ("src/event.rs", "use crate::clock::Timestamp; pub(crate) fn f() {}"),
            ("src/event.rs", "// crate::app::App\nconst S: &str = \"crate::app::App\";"),
            ("src/spool/embedded/mod.rs", "use crate::event::Event; use fjall::Database;"),
            ("src/cli/serve.rs", "use crate::app::App; use self::args::Args;"),
            ("src/lib.rs", "pub mod app; pub use crate::app::App;"),
            ("src/main.rs", "fn main() { beacon_relay::cli::main() }"),
        ] {
            assert_eq!(told(file, source), [""; 0], "{file}: {source}");
        }
    }

    #[test]
    fn a_module_without_a_row_is_told() {
        assert_eq!(
            told("src/helpers.rs", ""),
            ["src/helpers.rs:1: helpers has no row in tests/tidy/layers.rs"]
        );
        assert_eq!(
            told("src/app.rs", "use crate::helpers::help;"),
            ["src/app.rs:1: app imports helpers, which has no row"]
        );
    }

    #[test]
    fn the_whole_crate_is_no_module() {
        for source in ["use crate::*;", "use super::*;"] {
            assert_eq!(
                told("src/app.rs", source),
                ["src/app.rs:1: app takes in the whole crate: name the module"]
            );
        }
    }

    #[test]
    fn the_spool_knows_the_words_alone() {
        assert_eq!(
            told("src/spool/memory.rs", "use crate::metrics::Metrics;"),
            ["src/spool/memory.rs:1: spool (row 5) imports metrics (row 2): \
              it may know clock, event alone"]
        );
    }

    #[test]
    fn a_crate_behind_a_wall_is_told() {
        assert_eq!(
            told("src/intake.rs", "use axum::Router;\nfn f(k: fjall::Keyspace) {}"),
            [
                "src/intake.rs:1: intake (row 7) names axum: rows from 9 on alone may",
                "src/intake.rs:2: intake (row 7) names fjall: spool alone may",
            ]
        );
    }
}
