//! The validator against Ajv itself: replayed from files always, asked live on demand.
//!
//! `BEACON_ORACLE=1` asks Ajv about freshly made cases, `ORACLE_SEED=n` makes others, and
//! `ORACLE_WRITE=1` writes the corpus anew. A case that was answered wrongly is added to the corpus.

mod generate;
mod oracle;
mod table;

use std::collections::HashMap;
use std::env;
use std::fmt::Write;
use std::fs;
use std::sync::Arc;

use beacon_relay::json;
use beacon_relay::schema::Schema;
use generate::Kind;
use oracle::Case;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// One line of a corpus file.
#[derive(Deserialize)]
struct Line<'l> {
    schema: Value,
    instance: String,
    #[serde(borrow)]
    errors: &'l RawValue,
}

/// Compiles each schema once: cases of one schema come in a row, and the product's in any order.
#[derive(Default)]
struct Schemas(HashMap<String, Result<Schema, String>>);

impl Schemas {
    fn of(&mut self, case: &Case) -> &Result<Schema, String> {
        if self.0.len() > 16 {
            self.0.clear();
        }
        self.0.entry(case.schema.to_string()).or_insert_with(|| {
            Schema::compile("case", &case.schema_text()).map_err(|why| why.to_string())
        })
    }
}

/// What this validator answers; `Err` when it refuses the schema.
fn answer(schemas: &mut Schemas, case: &Case) -> Result<String, String> {
    let schema = schemas.of(case).as_ref().map_err(Clone::clone)?;
    let body = json::parse(case.instance.as_bytes(), 64).expect("a body that parses");
    let violations = schema.check(&body);
    assert_eq!(violations.is_empty(), schema.is_valid(&body), "{case:?}");
    Ok(String::from_utf8(violations.to_json().to_vec()).expect("UTF-8"))
}

#[test]
fn every_answer_of_the_corpus_is_given() {
    let mut schemas = Schemas::default();
    let mut lines = 0;
    let folder = oracle::root().join("tests/corpus/ajv");
    for entry in fs::read_dir(folder).expect("the corpus") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("text");
        // The first line tells the versions that made the file.
        for (at, line) in text.lines().enumerate().skip(1) {
            let line: Line<'_> = serde_json::from_str(line).expect("a corpus line");
            let case = Case { schema: line.schema, instance: line.instance };
            assert_eq!(
                answer(&mut schemas, &case).as_deref(),
                Ok(line.errors.get()),
                "{path:?}:{}",
                at + 1
            );
            lines += 1;
        }
    }
    assert!(lines > 500, "only {lines} lines of corpus");
}

#[test]
fn every_answer_is_the_one_that_ajv_gives_today() {
    if env::var_os("BEACON_ORACLE").is_none() {
        eprintln!("NOT RUN: set BEACON_ORACLE=1 to compare with Ajv itself");
        return;
    }
    let seed = env::var("ORACLE_SEED").map_or(20_261_121, |seed| seed.parse().expect("a number"));
    eprintln!("ORACLE_SEED={seed}");
    let mut schemas = Schemas::default();
    let (mut compared, mut differing) = (0, 0);
    let mut wrong = String::new();
    let mut versions = String::new();
    for (kind, count) in [(Kind::Product, 8_000), (Kind::Any, 12_000), (Kind::Hostile, 4_000)] {
        let cases = generate::cases(kind, seed ^ count as u64, count);
        let (told, ajv) = oracle::answers(&cases);
        let mut unusable = 0;
        for (case, ajv) in cases.iter().zip(ajv) {
            match (answer(&mut schemas, case), ajv.get()) {
                (Ok(ours), theirs) if ours == theirs => compared += 1,
                (Err(_), theirs) if theirs.starts_with("{\"refused\"") => unusable += 1,
                // Ajv calls such a schema for ever.
                (Err(why), _) if is_ours_to_refuse(&why) => unusable += 1,
                (_, theirs) if theirs.starts_with("{\"thrown\"") => unusable += 1,
                (ours, theirs) => {
                    eprintln!("{}\n{}\nours {ours:?}\najv  {theirs}", case.schema, case.instance);
                    differing += 1;
                    if theirs.starts_with('[') {
                        write_line(&mut wrong, case, theirs);
                    }
                }
            }
        }
        eprintln!("{kind:?}: {count} cases, {unusable} of them refused by both");
        versions = told;
    }
    if differing > 0 {
        let path = oracle::root().join(format!("tests/corpus/ajv/seed-{seed}.ndjson"));
        fs::write(&path, format!("{versions}\n{wrong}")).expect("a corpus file");
        panic!("{differing} answers differ; see {path:?}");
    }
    assert!(compared >= 20_000, "only {compared} cases were compared");
    eprintln!("{compared} answers are the same, {versions}");
}

#[test]
fn the_verdict_on_the_products_schemas_is_that_of_the_jsonschema_crate() {
    // The crate has no iso-date-time; Ajv is the one to compare that with.
    let moment = Schema::compile("moment", r#"{"format":"iso-date-time"}"#).expect("a schema");
    let moment = Arc::new(moment);
    let mut schemas = Schemas::default();
    let mut validators = HashMap::new();
    let mut valid = 0;
    for case in generate::cases(Kind::Product, 11, 3_000) {
        let theirs = validators.entry(case.schema.to_string()).or_insert_with(|| {
            let schema: Value = serde_json::from_str(&case.schema_text()).expect("JSON");
            let moment = moment.clone();
            jsonschema::options()
                .should_validate_formats(true)
                .with_format("iso-date-time", move |text: &str| {
                    moment.is_valid(&json::Node::String(text.into()))
                })
                .build(&schema)
                .expect("a schema")
        });
        let instance: Value = serde_json::from_str(&case.instance).expect("JSON");
        let expected = theirs.is_valid(&instance);
        let ours = answer(&mut schemas, &case).expect("a schema");
        assert_eq!(ours == "[]", expected, "{case:?} {ours}");
        valid += u32::from(expected);
    }
    assert!((300..2_700).contains(&valid), "{valid} of the cases are valid");
}

/// Schemas that ask the same value for ever, or nearly.
fn is_ours_to_refuse(why: &str) -> bool {
    why.lines().all(|line| {
        line.contains("comes back to itself")
            || line.contains("ask the same value")
            || line.contains("leads nowhere")
    })
}

fn write_line(out: &mut String, case: &Case, errors: &str) {
    let instance = Value::from(case.instance.as_str());
    let schema = &case.schema;
    writeln!(out, "{{\"schema\":{schema},\"instance\":{instance},\"errors\":{errors}}}")
        .expect("a String takes every write");
}

/// Longest case in bytes that the corpus takes, so that a person can read it.
const LINE_MAX: usize = 3_000;

#[test]
fn the_corpus_is_written_when_asked() {
    if env::var_os("ORACLE_WRITE").is_none() {
        eprintln!("NOT RUN: set ORACLE_WRITE=1 to write the corpus anew");
        return;
    }
    let mut schemas = Schemas::default();
    for (name, cases) in [
        ("table", table::cases()),
        ("product", generate::cases(Kind::Product, 7, 400)),
        ("any", generate::cases(Kind::Any, 7, 900)),
        ("hostile", generate::cases(Kind::Hostile, 7, 400)),
    ] {
        let (versions, ajv) = oracle::answers(&cases);
        let mut out = format!("{versions}\n");
        for (case, errors) in cases.iter().zip(ajv) {
            let size = case.schema.to_string().len() + case.instance.len() + errors.get().len();
            let refused = !errors.get().starts_with('[');
            assert!(name != "table" || !refused, "{case:?}: {errors}");
            let ours = answer(&mut schemas, case);
            assert!(name != "table" || ours.is_ok(), "{case:?}: {ours:?}");
            if size < LINE_MAX && !refused && ours.is_ok() {
                write_line(&mut out, case, errors.get());
            }
        }
        let path = oracle::root().join(format!("tests/corpus/ajv/{name}.ndjson"));
        fs::write(path, out).expect("a corpus file");
    }
}
