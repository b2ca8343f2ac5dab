//! The law of the repository: what a reviewer should never have to look for.
//!
//! Each test names every breach at once, with its file and line. The checkers stand in
//! `tests/tidy/` with tests of their own, which plant a breach and see it told.

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/fuzzing.rs"]
mod fuzzing;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/leaks.rs"]
mod leaks;
#[path = "tidy/packaging.rs"]
mod packaging;
#[path = "tidy/rust_source.rs"]
mod rust_source;
#[path = "tidy/tree.rs"]
mod tree;

use std::collections::BTreeSet;

use rust_source::{Kind, tokens};

/// Longest a file in `src` may be. 400 is the aim; past that, look for the second idea.
const LINES_MAX: usize = 600;
/// Words that mark work left undone. Split, so that this file may name them.
const UNDONE: [&str; 4] = [concat!("FIX", "ME"), concat!("XX", "X"), "todo", "unimplemented"];

#[test]
fn a_module_imports_only_from_rows_above_its_own() {
    let told: Vec<String> =
        layers::breaches(&tree::sources()).iter().map(ToString::to_string).collect();
    tree::none(&told);
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = tree::sources()
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path}: {lines} lines, {LINES_MAX} are allowed"))
        .collect();
    tree::none(&long);
}

#[test]
fn no_work_is_left_undone() {
    let rust = tree::files().into_iter().filter(|file| file.path.ends_with(".rs"));
    let undone: Vec<String> = rust.flat_map(|file| undone_in(&file.path, &file.text)).collect();
    tree::none(&undone);
}

/// Marks of undone work: the words of comments anywhere, and the two macros that panic in its place.
fn undone_in(path: &str, text: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut told = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for word in UNDONE {
            let marked = line.match_indices(word).any(|(at, _)| {
                let after = &line[at + word.len()..];
                let whole = !line[..at].ends_with(is_word) && !after.starts_with(is_word);
                whole && (word.to_uppercase() == word || after.starts_with("!("))
            });
            if marked {
                told.push(format!("{path}:{number}: {word}"));
            }
        }
    }
    told
}

#[test]
fn a_mark_of_undone_work_is_told() {
    let [fixme, xxx, todo, unimplemented] = UNDONE;
    let text = format!(
        "// {fixme}: later\nlet a = {todo}!();\n// a {todo} list, \"{xxx}X\"\n{unimplemented}!(\"b\")\n// {xxx}"
    );
    assert_eq!(
        undone_in("a.rs", &text),
        [
            format!("a.rs:1: {fixme}"),
            format!("a.rs:2: {todo}"),
            format!("a.rs:4: {unimplemented}"),
            format!("a.rs:5: {xxx}"),
        ]
    );
}

#[test]
fn only_pii_and_the_spool_vouch_for_a_body() {
    let told: Vec<String> =
        tree::sources().iter().flat_map(|(path, text)| vouching(path, text)).collect();
    tree::none(&told);
}

/// Where `text` declares a body free of raw identity though its place may not.
///
/// A type of row 1 cannot be private to row 4, so this is what keeps `Scrubbed` honest. The name
/// alone counts: `map(Scrubbed::vouch)` and `Self::vouch` declare as much.
fn vouching(path: &str, text: &str) -> Vec<String> {
    let may = ["src/pii.rs", "src/pii/", "src/spool.rs", "src/spool/"];
    if may.iter().any(|place| path.starts_with(place)) {
        return Vec::new();
    }
    let tokens = tokens(text);
    (1..)
        .zip(tokens.windows(2))
        .map(|(at, pair)| (at, pair[0], pair[1]))
        .filter(|(_, before, word)| {
            let named = word.kind == Kind::Word && word.text == "vouch" && !before.is("fn");
            named && !(path == "src/event.rs" && word.in_tests)
        })
        .map(|(_, _, word)| format!("{path}:{}: vouches for a body", word.line))
        .collect()
}

#[test]
fn vouching_elsewhere_is_told() {
    let source =
        "// Scrubbed::vouch(\nfn f(b: Bytes) { Scrubbed::vouch(b); b.map(Scrubbed::vouch) }";
    assert_eq!(
        vouching("src/forward/mod.rs", source),
        ["src/forward/mod.rs:2: vouches for a body"; 2]
    );
    assert_eq!(vouching("src/pii/mod.rs", source), [""; 0]);
    assert_eq!(vouching("src/spool/embedded/record.rs", source), [""; 0]);

    let defined = "impl Scrubbed { pub const fn vouch(b: Bytes) -> Self { Self(b) } }";
    let tested = format!("{defined} #[cfg(test)] mod tests {{ {source} }}");
    assert_eq!(vouching("src/event.rs", defined), [""; 0]);
    assert_eq!(vouching("src/event.rs", &tested), [""; 0]);
    assert_eq!(vouching("src/event.rs", source).len(), 2);
}

#[test]
fn no_partner_is_named_in_rust() {
    let files = tree::files();
    let config = files.iter().find(|file| file.path == "config/relay.toml");
    let partners = documents::partners(&config.expect("it is there").text);
    assert!(partners.len() >= 2, "the checker is blind: {partners:?}");
    let told: Vec<String> = tree::sources()
        .iter()
        .flat_map(|(path, text)| documents::naming(path, text, &partners))
        .collect();
    tree::none(&told);
}

#[test]
fn metrics_and_their_page_name_the_same() {
    let known = documents::metrics_in_code(&tree::sources());
    let files = tree::files();
    let page = files.iter().find(|file| file.path == "docs/METRICS.md");
    let code = files.iter().any(|file| file.path.starts_with("src/metrics"));
    if page.is_none() && !code {
        println!("not checked: neither src/metrics.rs nor docs/METRICS.md is there yet");
        return;
    }
    assert!(!known.is_empty(), "no metric was found in src/metrics.rs: the checker is blind");
    let named = page.map(|page| documents::metrics_in_text(&page.text, &known)).unwrap_or_default();
    let mut told = Vec::new();
    told.extend(known.difference(&named).map(|name| format!("{name} is not in docs/METRICS.md")));
    told.extend(named.difference(&known).map(|name| format!("{name} is not in src/metrics.rs")));
    // Rules and dashboards are documents too.
    for file in files.iter().filter(|file| file.path.starts_with("config/")) {
        let used: BTreeSet<String> = documents::metrics_in_text(&file.text, &known);
        told.extend(used.difference(&known).map(|name| format!("{}: no {name}", file.path)));
    }
    tree::none(&told);
}

#[test]
fn relative_links_lead_somewhere() {
    tree::none(&documents::dead_links(&tree::files()));
}

#[test]
fn every_decision_is_listed_once() {
    tree::none(&documents::unlisted_decisions(&tree::files()));
}

#[test]
fn no_file_names_a_machine_or_its_registry() {
    let told: Vec<String> = tree::files()
        .iter()
        .flat_map(|file| leaks::machine_paths(file).into_iter().chain(leaks::registry_hosts(file)))
        .collect();
    tree::none(&told);
}

#[test]
fn locked_packages_come_from_the_default_registries() {
    let told: Vec<String> = tree::files().iter().flat_map(leaks::foreign_sources).collect();
    tree::none(&told);
}

/// `cargo metadata --manifest-path fuzz/Cargo.toml` completes it.
#[test]
fn the_fuzzers_lock_file_knows_what_the_relay_needs() {
    let read = |path: &str| std::fs::read_to_string(tree::root().join(path)).unwrap();
    tree::none(&fuzzing::lock_breaches(&read("Cargo.toml"), &read("fuzz/Cargo.lock")));
}
