//! What stands in the files that the program wrote.

use std::path::Path;

/// Looks into every file for what must stand in none; how many bytes there were, without the zeros
/// that files are made with.
pub(crate) fn search(dir: &Path, never: &[&str]) -> usize {
    let mut searched = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            searched += search(&path, never);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for written in bytes.split(|byte| *byte == 0).filter(|written| !written.is_empty()) {
            for text in never {
                let found = written.windows(text.len()).any(|part| part == text.as_bytes());
                assert!(!found, "{text} stands in {}", path.display());
            }
            searched += written.len();
        }
    }
    searched
}
