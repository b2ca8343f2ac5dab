//! Checks bodies against JSON Schema files, answering as Ajv 8 does.
//!
//! A schema is compiled once, at start, and refused unless every word of it is understood; a
//! check then gives the violations that Ajv 8.20 with ajv-formats 3 gives, options `allErrors`,
//! `strict: false` and `strictNumbers`, in the same order and in the same words. The bounds are
//! ours: [`PATTERN_TEXT_MAX`], [`VIOLATIONS_MAX`], and how often a schema may call itself.
//!
//! No message ever holds a value of the body; names of its members may stand in paths.

mod ajv;
mod automaton;
mod compile;
mod equal;
mod fault;
mod formats;
pub mod lint;
pub mod moment;
mod names;
mod pattern;
mod rules;
mod run;
#[cfg(test)]
mod tests;
mod violations;

pub use fault::{Fault, SchemaFault};
pub use pattern::PATTERN_TEXT_MAX;
pub use violations::{NAME_BYTES_MAX, VIOLATIONS_MAX, Violation, Violations};

use crate::json::{self, Node};
use compile::{Compiled, Draft};

/// Levels of nesting that a schema file may have.
const FILE_DEPTH_MAX: usize = 100;

/// A compiled schema file.
pub struct Schema {
    name: String,
    compiled: Compiled,
}

impl Schema {
    /// Compiles `text`, the schema file called `name`.
    ///
    /// # Errors
    /// Everything that is wrong with the file, keywords outside of the closed set included. The
    /// operator must mend the file.
    pub fn compile(name: &str, text: &str) -> Result<Self, SchemaFault> {
        let refused = |faults| SchemaFault { name: name.to_owned(), faults };
        let fault = |place: &str, reason: String, remedy: &str| {
            let (place, remedy) = (place.to_owned(), remedy.to_owned());
            refused(vec![Fault { place, reason, remedy }])
        };
        let document = json::parse(text.as_bytes(), FILE_DEPTH_MAX)
            .map_err(|why| fault("", why.to_string().replace("the body", "the file"), "mend it"))?;
        let draft = Draft::of(&document).ok_or_else(|| {
            let remedy = "name https://json-schema.org/draft/2020-12/schema or \
                          http://json-schema.org/draft-07/schema#";
            fault("/$schema", "this dialect is not supported".to_owned(), remedy)
        })?;
        let grammatical = against_meta_schema(text, draft);
        let compiled = compile::compile(&document, draft);
        match (compiled, grammatical.is_empty()) {
            (Ok(compiled), true) => Ok(Self { name: name.to_owned(), compiled }),
            (compiled, _) => {
                let mut faults = grammatical;
                faults.extend(compiled.err().into_iter().flatten());
                faults.sort();
                faults.dedup();
                Err(refused(faults))
            }
        }
    }

    /// The file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether `node` breaks nothing. Builds no violations.
    #[must_use]
    pub fn is_valid(&self, node: &Node<'_>) -> bool {
        // A rule that remembers may answer otherwise when others before it were not asked.
        let run = if self.compiled.memories == 0 { run::run::<false> } else { run::run::<true> };
        run(&self.compiled, node).is_ok_and(|(valid, _)| valid)
    }

    /// Every violation, in Ajv's order; empty if and only if [`Schema::is_valid`].
    #[must_use]
    pub fn check(&self, node: &Node<'_>) -> Violations {
        match run::run::<true>(&self.compiled, node) {
            Ok((_, violations)) => violations,
            Err(run::TooManyCalls) => {
                let mut violations = Violations::default();
                let message = "must be checkable within the bound on recursion";
                violations.push("", "$ref", message, "{}", "#/$ref", "");
                violations
            }
        }
    }

    /// Names of the root's `properties`, in schema order.
    #[must_use]
    pub fn members(&self) -> &[String] {
        &self.compiled.members
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schema").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What the draft's own schema finds wrong with the file.
fn against_meta_schema(text: &str, draft: Draft) -> Vec<Fault> {
    let value: serde_json::Value = match serde_json::from_slice(json::without_bom(text.as_bytes()))
    {
        Ok(value) => value,
        Err(why) => {
            let (place, remedy) = (String::new(), "mend it".to_owned());
            return vec![Fault { place, reason: why.to_string(), remedy }];
        }
    };
    let meta = match draft {
        Draft::Seven => jsonschema::draft7::meta::validator(),
        Draft::TwentyTwenty => jsonschema::draft202012::meta::validator(),
    };
    meta.iter_errors(&value)
        .map(|error| Fault {
            place: error.instance_path().to_string(),
            reason: error.to_string(),
            remedy: "write it as the draft's meta-schema asks".to_owned(),
        })
        .collect()
}
