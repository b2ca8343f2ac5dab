//! The files of the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the repository.
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// What it holds; of a file that is no text, what can be read as such.
    pub(crate) text: String,
}

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file that is committed or could be: what git ignores is left out. Without git (a
/// source archive) every file but what builds leave behind.
pub(crate) fn files() -> Vec<File> {
    let mut paths = listed_by_git().unwrap_or_else(|| walked(root()));
    paths.sort();
    let files: Vec<File> = paths
        .into_iter()
        .filter_map(|path| {
            let bytes = std::fs::read(root().join(&path)).ok()?;
            Some(File { path, text: String::from_utf8_lossy(&bytes).into_owned() })
        })
        .collect();
    assert!(files.iter().any(|file| file.path == "Cargo.toml"), "the repository was not found");
    files
}

/// The Rust files below `src`, as path and text.
pub(crate) fn sources() -> Vec<(String, String)> {
    let sources: Vec<(String, String)> = files()
        .into_iter()
        .filter(|file| file.path.starts_with("src/") && file.path.ends_with(".rs"))
        .map(|file| (file.path, file.text))
        .collect();
    assert!(sources.iter().any(|(path, _)| path == "src/lib.rs"), "src was not found");
    sources
}

/// Fails, listing them, when there are `faults`.
#[track_caller]
pub(crate) fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} to mend:\n{}", faults.len(), faults.join("\n"));
}

fn listed_by_git() -> Option<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .ok()?;
    let listed = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<String> =
        listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    (output.status.success() && !paths.is_empty()).then_some(paths)
}

fn walked(folder: &Path) -> Vec<String> {
    const LEFT_BEHIND: [&str; 4] = [".git", "target", "node_modules", "data"];
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
        for path in entries.map(|entry| entry.path()) {
            let skipped =
                path.file_name().is_some_and(|name| LEFT_BEHIND.iter().any(|left| name == *left));
            if path.is_dir() && !skipped {
                open.push(path);
            } else if let Ok(inner) = path.strip_prefix(root()) {
                found.push(inner.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_without_git_is_walked() {
        let walked = walked(root());
        assert!(walked.iter().any(|path| path == "src/lib.rs"));
        assert!(walked.iter().all(|path| !path.starts_with("target/")));
    }
}
