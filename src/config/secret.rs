//! Secrets come from the environment or a file, never inline, and are never printed.

use super::reader::Reader;

/// The outside that a configuration refers to.
pub(super) trait Outside {
    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<String>;
}

/// Reads the secret that `env_key` (a variable's name) or `file_key` (a file's path) refers to.
pub(super) fn read(
    reader: &Reader<'_>,
    outside: &dyn Outside,
    env_key: &'static str,
    file_key: &'static str,
) -> Option<Vec<u8>> {
    let (variable, file) = (reader.text(env_key), reader.file(file_key));
    match (variable, file) {
        (Some(_), Some(_)) => {
            reader.fault(file_key, format!("stands beside {env_key}"), "keep one of the two");
            None
        }
        (Some(name), None) => match outside.variable(name).filter(|value| !value.is_empty()) {
            Some(value) => Some(value.into_bytes()),
            None => {
                let what = format!("names the variable {name}, which is not set");
                reader.fault(
                    env_key,
                    what,
                    format!("export {name}, name a file in {file_key}, or remove {env_key}"),
                );
                None
            }
        },
        (None, Some(path)) => match std::fs::read(&path) {
            Ok(bytes) if !bytes.trim_ascii().is_empty() => Some(bytes.trim_ascii().to_vec()),
            Ok(_) => {
                reader.fault(file_key, format!("names {}, which is empty", path.display()), "");
                None
            }
            Err(error) => {
                let what = format!("names {}, which cannot be read: {error}", path.display());
                reader.fault(file_key, what, "");
                None
            }
        },
        (None, None) => None,
    }
}
