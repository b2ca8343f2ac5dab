//! `docs/EDGE_CASES.md` and the corpus, held against each other.

use std::collections::{BTreeMap, BTreeSet};

const PAGE: &str = include_str!("../../../docs/EDGE_CASES.md");

/// What stands in a row's verdict when the relay cannot give one.
const NOT_YET: &str = "not yet";

/// The last case.
const LAST: u32 = 84;

/// The rows of the page's tables: the case, and the statuses that its verdict names; nothing of a
/// case that is not yet.
fn rows() -> BTreeMap<&'static str, Option<BTreeSet<u16>>> {
    let mut rows = BTreeMap::new();
    for line in PAGE.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let number = cells[0].trim_end_matches(|letter: char| letter.is_ascii_lowercase());
        if number.parse::<u32>().is_err() {
            continue;
        }
        let [case, request, verdict, why] = cells[..] else { panic!("four cells: {line}") };
        assert!(!request.is_empty() && !why.is_empty(), "{line}");
        // Not `hash_not_sha256`.
        let words = verdict.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let statuses = words.filter(|word| word.len() == 3).filter_map(|word| word.parse().ok());
        let held = (verdict != NOT_YET).then(|| statuses.collect());
        assert_eq!(rows.insert(case, held), None, "case {case} has two rows");
    }
    rows
}

#[test]
fn every_case_has_a_row_and_every_row_is_held() {
    let rows = rows();
    for number in 1..=LAST {
        assert!(rows.contains_key(number.to_string().as_str()), "case {number} has no row");
    }
    let mut held: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for (case, status) in super::held() {
        held.entry(case).or_default().insert(status);
    }
    for (case, statuses) in &rows {
        assert_eq!(held.get(*case), statuses.as_ref(), "case {case}: the corpus, and the page");
    }
    for case in held.keys() {
        assert!(rows.contains_key(case.as_str()), "case {case} of the corpus has no row");
    }
}
