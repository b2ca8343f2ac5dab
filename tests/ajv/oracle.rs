//! Ajv itself, in a Node process.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use serde_json::value::RawValue;

/// A schema and a body.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The schema, or the name of a file in `config/schemas`.
    pub(crate) schema: Value,
    /// The body's text.
    pub(crate) instance: String,
}

impl Case {
    /// The schema's text.
    pub(crate) fn schema_text(&self) -> String {
        let Some(file) = self.schema.as_str() else { return self.schema.to_string() };
        let path = root().join("config/schemas").join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path:?}: {why}"))
    }
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Versions, as a line of JSON, and the answer to each case, in order.
pub(crate) fn answers(cases: &[Case]) -> (String, Vec<Box<RawValue>>) {
    let mut node = Command::new("node")
        .arg(root().join("tests/oracle/ajv.mjs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node, and `npm ci` in tests/oracle");
    let mut input = node.stdin.take().expect("a pipe");
    let lines: Vec<String> = cases
        .iter()
        .map(|case| {
            let instance = Value::from(case.instance.as_str());
            format!(
                "{{\"schema\":{},\"instance\":{instance}}}\n",
                case.schema_text().replace('\n', " ")
            )
        })
        .collect();
    // Written from aside: both pipes are shorter than what goes through them.
    let writer = std::thread::spawn(move || {
        lines.iter().try_for_each(|line| input.write_all(line.as_bytes()))
    });
    let mut output = BufReader::new(node.stdout.take().expect("a pipe")).lines();
    let mut next = || output.next().expect("Node answers every line").expect("UTF-8");
    let versions = next();
    let answers =
        cases.iter().map(|_| RawValue::from_string(next()).expect("Node answers JSON")).collect();
    writer.join().expect("no panic").expect("Node reads every line");
    assert!(node.wait().expect("a child").success());
    (versions, answers)
}
