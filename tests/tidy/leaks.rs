//! What must not be committed: paths of somebody's machine, hosts of somebody's registry.

use crate::tree::File;

/// Folders that only one machine has. Split, so that this file may name them.
const MACHINE_PATHS: [&str; 3] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Where packages come from by default; a mirror belongs in a machine's own settings.
const CARGO_INDEX: &str = "registry+https://github.com/rust-lang/crates.io-index";
const NPM_REGISTRY: &str = "https://registry.npmjs.org/";
const REGISTRIES: [&str; 7] = [
    "crates.io",
    "index.crates.io",
    "static.crates.io",
    "registry.npmjs.org",
    "www.npmjs.com",
    "pypi.org",
    "deb.debian.org",
];
/// Labels by which a host is known for a registry or a mirror of one.
const REGISTRY_LABELS: [&str; 10] = [
    "artifactory",
    "artifacts",
    "crates",
    "index",
    "mirror",
    "mirrors",
    "nexus",
    "npm",
    "pypi",
    "registry",
];

/// Paths of a machine in `file`.
pub(crate) fn machine_paths(file: &File) -> Vec<String> {
    numbered(file)
        .filter(|(_, line)| MACHINE_PATHS.iter().any(|path| stands_alone(line, path)))
        .map(|(number, line)| format!("{}:{number}: a machine's path: {}", file.path, line.trim()))
        .collect()
}

/// Whether `path` stands in `line` as the beginning of a path, not as the middle of another or of
/// a URL.
fn stands_alone(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '}'))
    })
}

/// Hosts in `file` that look like a package registry and are no default one.
pub(crate) fn registry_hosts(file: &File) -> Vec<String> {
    let foreign = |host: &&str| {
        let mut labels = host.split(['.', '-']);
        labels.any(|label| REGISTRY_LABELS.contains(&label)) && !REGISTRIES.contains(host)
    };
    numbered(file)
        .flat_map(|(number, line)| hosts(line).filter(foreign).map(move |host| (number, host)))
        .map(|(number, host)| format!("{}:{number}: registry host {host}", file.path))
        .collect()
}

fn hosts(line: &str) -> impl Iterator<Item = &str> {
    line.split("://").skip(1).filter_map(|rest| {
        rest.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-')).next()
    })
}

/// Packages of a lock file that come from elsewhere than the default registry.
pub(crate) fn foreign_sources(file: &File) -> Vec<String> {
    let (key, allowed) = match file.path.rsplit('/').next() {
        Some("Cargo.lock") => ("source = \"", CARGO_INDEX),
        Some("package-lock.json") => ("\"resolved\": \"", NPM_REGISTRY),
        _ => return Vec::new(),
    };
    numbered(file)
        .filter_map(|(number, line)| Some((number, line.trim_start().strip_prefix(key)?)))
        .filter(|(_, source)| !source.starts_with(allowed))
        .map(|(number, source)| format!("{}:{number}: comes from {source}", file.path))
        .collect()
}

fn numbered(file: &File) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(file.text.lines())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_path_of_a_machine_is_told() {
        for path in MACHINE_PATHS {
            assert_eq!(machine_paths(&file("a", &format!("cd {path}x"))).len(), 1, "{path}");
            assert_eq!(machine_paths(&file("a", &format!("{path}x"))).len(), 1, "{path}");
            let inside = format!("https://example.net{path}x and docs{path}x and ${{HERE}}{path}");
            assert_eq!(machine_paths(&file("a", &inside)), [""; 0], "{path}");
        }
    }

    #[test]
    fn a_mirror_is_told_and_a_default_registry_is_not() {
        let planted = format!("a {0}npm.corp.example/x\n{0}mirror-1.example", "https://");
        assert_eq!(
            registry_hosts(&file("a", &planted)),
            ["a:1: registry host npm.corp.example", "a:2: registry host mirror-1.example"]
        );
        let default = "https://index.crates.io/ https://events.example.net https://github.com/x";
        assert_eq!(registry_hosts(&file("a", default)), [""; 0]);
    }

    #[test]
    fn a_lock_with_a_foreign_source_is_told() {
        let cargo = format!("source = \"{CARGO_INDEX}\"\nsource = \"git+https://example.net/x\"");
        assert_eq!(
            foreign_sources(&file("fuzz/Cargo.lock", &cargo)),
            ["fuzz/Cargo.lock:2: comes from git+https://example.net/x\""]
        );
        let npm = format!(" \"resolved\": \"{NPM_REGISTRY}a\",\n \"resolved\": \"https://b/c\",");
        assert_eq!(
            foreign_sources(&file("tests/oracle/package-lock.json", &npm)),
            ["tests/oracle/package-lock.json:2: comes from https://b/c\","]
        );
    }
}
