//! What is wrong with a schema file.

use std::fmt;

/// One thing that is wrong with a schema file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// A JSON Pointer into the file; empty for the whole.
    pub place: String,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

/// Everything that is wrong with a schema file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFault {
    /// The file.
    pub name: String,
    /// The faults, never none, ordered by place.
    pub faults: Vec<Fault>,
}

/// One line a fault: `name#/place: reason (remedy)`.
impl fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Fault { place, reason, remedy }) in self.faults.iter().enumerate() {
            let line = if at == 0 { "" } else { "\n" };
            write!(f, "{line}{}#{place}: {reason} ({remedy})", self.name)?;
        }
        Ok(())
    }
}

impl std::error::Error for SchemaFault {}
