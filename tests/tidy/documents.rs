//! What documents say, held against what is there: links and metrics.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::rust_source::{Kind, tokens};
use crate::tree::File;

/// What every metric's name begins with.
const PREFIX: &str = "beacon_relay_";
/// What a Prometheus histogram adds to its name.
const HISTOGRAM_SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];
/// Builds a row of the table in which `src/metrics.rs` describes every metric; the name comes first.
const ROW: &str = "metric";
/// Macros of the `metrics` crate whose first argument is a name.
const MACROS: [&str; 6] =
    ["counter", "gauge", "histogram", "describe_counter", "describe_gauge", "describe_histogram"];

/// Relative links of Markdown files that lead nowhere, and anchors that no heading bears.
pub(crate) fn dead_links(files: &[File]) -> Vec<String> {
    let exists = |path: &str| {
        let is_or_holds = |rest: &str| rest.is_empty() || rest.starts_with('/');
        path.is_empty()
            || files.iter().any(|file| file.path.strip_prefix(path).is_some_and(is_or_holds))
    };
    let mut dead = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (line, link) in links(&file.text) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if path.is_empty() { file.path.clone() } else { resolve(&file.path, path) };
            let bears = |file: &File| file.path != target || headings(&file.text).contains(anchor);
            if !exists(&target) {
                dead.push(format!("{}:{line}: {link} leads nowhere", file.path));
            } else if target.ends_with(".md") && !anchor.is_empty() && !files.iter().all(bears) {
                dead.push(format!("{}:{line}: {link}: no such heading", file.path));
            }
        }
    }
    dead
}

/// `link`, written in the file at `from`, as a path from the root.
pub(crate) fn resolve(from: &str, link: &str) -> String {
    let mut path = Path::new(from).parent().map(Path::to_path_buf).unwrap_or_default();
    if link.starts_with('/') {
        path = PathBuf::new();
    }
    for step in Path::new(link).components() {
        match step {
            Component::ParentDir if !path.pop() => path.push(".."),
            Component::Normal(name) => path.push(name),
            Component::ParentDir
            | Component::CurDir
            | Component::RootDir
            | Component::Prefix(_) => {}
        }
    }
    path.to_string_lossy().replace('\\', "/")
}

/// The targets of links that stay in the repository, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        let reference = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]: "))
            .and_then(|(_, target)| target.split_whitespace().next());
        for target in inline.chain(reference) {
            let leaves = target.contains("://") || target.starts_with("mailto:");
            if !leaves && !target.is_empty() {
                found.push((number, target.trim_matches(['<', '>']).to_owned()));
            }
        }
    }
    found
}

/// The lines outside fenced code, counted from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The anchors that the headings of a page make.
fn headings(text: &str) -> BTreeSet<String> {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

/// Decisions that the index in `docs/adr/README.md` does not link, or that share a number.
pub(crate) fn unlisted_decisions(files: &[File]) -> Vec<String> {
    let index = files.iter().find(|file| file.path == "docs/adr/README.md");
    let listed = index.map(|file| links(&file.text)).unwrap_or_default();
    let mut numbers = BTreeSet::new();
    let mut told = Vec::new();
    let pages = files.iter().filter_map(|file| file.path.strip_prefix("docs/adr/"));
    for page in pages.filter(|page| *page != "README.md") {
        if !listed.iter().any(|(_, link)| link == page) {
            told.push(format!("docs/adr/README.md does not list {page}"));
        }
        let number = page.split('-').next().unwrap_or_default();
        if !numbers.insert(number) {
            told.push(format!("docs/adr has {number} twice"));
        }
    }
    told
}

/// The partners whose sources are built in: the first word of the name of each source of
/// notifications in the configuration.
pub(crate) fn partners(config: &str) -> BTreeSet<String> {
    let tables = config.split("[[source]]").skip(1);
    let notifying = tables.filter(|table| table.contains("\nkind = \"notification\"\n"));
    let names = notifying.filter_map(|table| table.split_once("name = \"")?.1.split('"').next());
    names.filter_map(|name| name.split('-').next()).map(str::to_owned).collect()
}

/// Lines that name a partner, also as a part of a name. A partner is a table, a schema and a folder
/// of the corpus: if it needs Rust, a verb is missing.
pub(crate) fn naming(path: &str, text: &str, partners: &BTreeSet<String>) -> Vec<String> {
    let mut told = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.to_lowercase();
        let words: Vec<&str> = line.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        for partner in partners.iter().filter(|partner| words.contains(&partner.as_str())) {
            told.push(format!("{path}:{number}: names {partner}"));
        }
    }
    told
}

/// The metrics that `src/metrics.rs` (or the files of `src/metrics/`) registers.
///
/// A name is a literal that begins with the prefix, or the first argument of a row of the table or
/// of one of the `metrics` crate's macros, which may leave the prefix to the place that writes them.
pub(crate) fn metrics_in_code(sources: &[(String, String)]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in sources.iter().filter(|(path, _)| path.starts_with("src/metrics")) {
        let tokens = tokens(text);
        for (at, token) in tokens.iter().enumerate() {
            if token.kind != Kind::Text || token.in_tests {
                continue;
            }
            let argument = at >= 3
                && tokens[at - 1].is("(")
                && (tokens[at - 2].is(ROW)
                    || tokens[at - 2].is("!") && MACROS.contains(&tokens[at - 3].text));
            let bare = token.text.strip_prefix(PREFIX).unwrap_or(token.text);
            if (argument || bare != token.text) && is_name(bare) {
                names.insert(format!("{PREFIX}{bare}"));
            }
        }
    }
    names
}

/// The metrics that `text`, a document or a rule file, speaks of.
pub(crate) fn metrics_in_text(text: &str, known: &BTreeSet<String>) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.strip_prefix(PREFIX).is_some_and(is_name))
        .map(|word| {
            let histogram = HISTOGRAM_SUFFIXES
                .iter()
                .filter_map(|suffix| word.strip_suffix(suffix))
                .find(|name| known.contains(*name));
            histogram.unwrap_or(word).to_owned()
        })
        .collect()
}

fn is_name(bare: &str) -> bool {
    !bare.is_empty()
        && !bare.ends_with('_')
        && bare.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_dead_link_is_told_and_a_living_one_is_not() {
        let files = [
            file(
                "README.md",
                "[a](docs/A.md) [b](docs/B.md#x) [c](docs) `[d](e)` [f](#own)\n# Own",
            ),
            file(
                "docs/A.md",
                "[up](../README.md#own)\n```\n[no](link)\n```\n[web](https://e/x.md)",
            ),
            file("docs/C.md", "[ref]\n\n[ref]: ./A.md#none\n## Some: `thing`, here"),
            file("docs/D.md", "[deep](C.md#some-thing-here)"),
        ];
        assert_eq!(
            dead_links(&files),
            ["README.md:1: docs/B.md#x leads nowhere", "docs/C.md:3: ./A.md#none: no such heading",]
        );
    }

    #[test]
    fn a_decision_off_the_list_or_with_a_taken_number_is_told() {
        let files = [
            file("docs/adr/README.md", "[0001](0001-a.md)"),
            file("docs/adr/0001-a.md", ""),
            file("docs/adr/0001-b.md", ""),
        ];
        assert_eq!(
            unlisted_decisions(&files),
            ["docs/adr/README.md does not list 0001-b.md", "docs/adr has 0001 twice"]
        );
    }

    #[test]
    fn a_partner_is_known_by_its_table_and_told_wherever_it_stands() {
        let config = "[[source]]\nname = \"a-events\"\nkind = \"notification\"\n[[source]]\n\
                      name = \"beacon-click\"\nkind = \"click\"\n";
        let known = partners(config);
        assert_eq!(known, BTreeSet::from(["a".to_owned()]));
        let source = "// as A does\nlet x = \"schemas/a-event.json\";\nlet b = an_a_hook();\nalpha";
        let told = naming("src/x.rs", source, &known);
        assert_eq!(told, ["src/x.rs:1: names a", "src/x.rs:2: names a", "src/x.rs:3: names a"]);
    }

    #[test]
    fn metrics_are_found_by_prefix_by_row_and_by_macro() {
        let code = r#"
            const PENDING: &str = "beacon_relay_pending";
            fn f() { counter!("requests_total", "route" => "x"); describe_gauge!("in_flight", "y"); }
            const PREFIX: &str = "beacon_relay_";
            const TABLE: [Described; 1] = [metric("dead_letters", Form::Gauge, &["destination"], "Kept.")];
            #[cfg(test)] mod tests { const T: &str = "beacon_relay_test"; }
        "#;
        let names = metrics_in_code(&[("src/metrics.rs".to_owned(), code.to_owned())]);
        assert_eq!(
            names.iter().map(String::as_str).collect::<Vec<_>>(),
            [
                "beacon_relay_dead_letters",
                "beacon_relay_in_flight",
                "beacon_relay_pending",
                "beacon_relay_requests_total",
            ]
        );
    }

    #[test]
    fn a_document_may_name_the_series_of_a_histogram() {
        let known = BTreeSet::from(["beacon_relay_accept_seconds".to_owned()]);
        let text = "`beacon_relay_accept_seconds`, rate(beacon_relay_accept_seconds_bucket[5m]), \
                    beacon_relay_lost_count, the beacon_relay_* family, beacon_relay::json";
        assert_eq!(
            metrics_in_text(text, &known).iter().map(String::as_str).collect::<Vec<_>>(),
            ["beacon_relay_accept_seconds", "beacon_relay_lost_count"]
        );
    }
}
