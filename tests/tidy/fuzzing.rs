//! The fuzzer's package stands apart, with a lock file of its own that no build of ours completes.

use std::collections::BTreeSet;

use toml::Table;

/// What the relay needs and the fuzzer's lock file does not know, or knows and is not needed.
pub(crate) fn lock_breaches(manifest: &str, lock: &str) -> Vec<String> {
    let needed: BTreeSet<String> = parse(manifest)["dependencies"]
        .as_table()
        .into_iter()
        .flat_map(|dependencies| dependencies.keys().cloned())
        .collect();
    let lock = parse(lock);
    let packages = lock["package"].as_array().into_iter().flatten();
    let own = packages.filter(|one| one["name"].as_str() == Some("beacon-relay"));
    // An entry is a name, and a version where there are several.
    let name = |entry: &str| entry.split(' ').next().unwrap_or_default().to_owned();
    let known: BTreeSet<String> = own
        .flat_map(|one| one["dependencies"].as_array().into_iter().flatten())
        .filter_map(|entry| entry.as_str().map(name))
        .collect();
    let missing = needed.difference(&known);
    let missing = missing.map(|name| format!("fuzz/Cargo.lock: lacks {name}"));
    let unused = known.difference(&needed);
    missing.chain(unused.map(|name| format!("fuzz/Cargo.lock: {name} is not needed"))).collect()
}

fn parse(text: &str) -> Table {
    text.parse().expect("cargo reads it too")
}

#[test]
fn a_lock_file_that_is_behind_is_told() {
    let manifest = "[dependencies]\na = \"1\"\nb = { version = \"1\" }\n";
    let lock =
        |names: &str| format!("[[package]]\nname = \"beacon-relay\"\ndependencies = [{names}]\n");
    assert!(lock_breaches(manifest, &lock("\"a\", \"b 1.0.0\"")).is_empty());
    assert_eq!(
        lock_breaches(manifest, &lock("\"a\", \"c\"")),
        ["fuzz/Cargo.lock: lacks b", "fuzz/Cargo.lock: c is not needed"]
    );
}
