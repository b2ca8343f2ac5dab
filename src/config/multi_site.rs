//! `multi_site` in a source: publishers who must say for which of their sites an order is.
//!
//! The vendor asks for `brand` of a publisher with more than one site, which no schema can say:
//! so such publishers get the source's schema with one more required member.

use std::sync::Arc;

use serde_json::Value;

use super::reader::Reader;
use super::sources::Loaded;
use crate::event::EventKind;
use crate::json::Node;
use crate::schema::Schema;
use crate::source::MultiSite;

/// The member that becomes required.
const MEMBER: &str = "brand";

/// Reads the setting; nothing when it is not there or wrong, which is noted.
pub(super) fn read(
    reader: &Reader<'_>,
    kind: Option<EventKind>,
    loaded: Option<&Loaded>,
) -> Option<MultiSite> {
    let mut publishers: Vec<String> = Vec::new();
    for publisher in reader.texts("multi_site")? {
        if publisher.is_empty() {
            reader.fault("multi_site", "holds an empty publisher id", "");
        } else if publishers.iter().any(|known| known == publisher) {
            reader.fault("multi_site", format!("names {publisher:?} twice"), "");
        } else {
            publishers.push(publisher.to_owned());
        }
    }
    if kind.is_some_and(|kind| kind != EventKind::Conversion) {
        let remedy = "name the publishers in a source of kind \"conversion\"";
        reader.fault("multi_site", "is about orders, which this source does not take", remedy);
        return None;
    }
    if publishers.is_empty() {
        return None;
    }
    let loaded = loaded?;
    let Some(schema) = requiring(MEMBER, loaded) else {
        let what = format!("cannot make {MEMBER} required by {:?}", loaded.schema.name());
        let remedy = "use a schema whose root is an object with type \"object\"";
        reader.fault("multi_site", what, remedy);
        return None;
    };
    Some(MultiSite { publishers, schema })
}

/// The schema with `member` behind all that its root requires; a root that requires nothing gets
/// its first. Nothing when the outcome would not ask every object for it.
fn requiring(member: &str, loaded: &Loaded) -> Option<Arc<Schema>> {
    if asks_for(member, &loaded.schema) {
        return Some(Arc::clone(&loaded.schema));
    }
    let text = crate::json::without_bom(loaded.text.as_bytes());
    let mut file: Value = serde_json::from_slice(text).ok()?;
    let required = file.as_object_mut()?.entry("required").or_insert_with(|| Value::Array(vec![]));
    required.as_array_mut()?.push(member.into());
    let schema = Schema::compile(loaded.schema.name(), &file.to_string()).ok()?;
    asks_for(member, &schema).then(|| Arc::new(schema))
}

/// Whether an object without `member` breaks `required` at the schema's root, and not in one
/// branch of it alone.
fn asks_for(member: &str, schema: &Schema) -> bool {
    let violations = schema.check(&Node::Object(Vec::new())).to_json();
    let violations: Vec<Value> = serde_json::from_slice(&violations).unwrap_or_default();
    violations
        .iter()
        .any(|one| one["schemaPath"] == "#/required" && one["params"]["missingProperty"] == member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    fn loaded(text: &str) -> Loaded {
        Loaded { schema: Arc::new(Schema::compile("s.json", text).unwrap()), text: text.into() }
    }

    fn fields(schema: &Schema, body: &str) -> Vec<String> {
        let violations = schema.check(&parse(body.as_bytes(), 64).unwrap());
        violations.iter().map(|one| format!("{} {}", one.field(), one.keyword())).collect()
    }

    #[test]
    fn brand_stands_behind_what_the_root_requires_and_before_what_its_properties_ask() {
        let own = loaded(
            r#"{"properties":{"a":{"type":"string"},"brand":{"type":"string"}},
            "required":["b","a"],"type":"object"}"#,
        );
        let with = requiring("brand", &own).unwrap();
        assert_eq!(fields(&with, r#"{"a":1}"#), ["b required", "brand required", "a type"]);
        assert_eq!(fields(&with, r#"{"a":"1","b":1,"brand":"x"}"#), [""; 0]);
        assert_eq!(fields(&own.schema, r#"{"a":"1","b":1}"#), [""; 0]);
    }

    #[test]
    fn a_root_that_requires_nothing_gets_its_first() {
        let own = loaded(r#"{"type":"object","anyOf":[{"required":["a"]}]}"#);
        let with = requiring("brand", &own).unwrap();
        assert_eq!(fields(&with, "{}"), ["a required", " anyOf", "brand required"]);
    }

    #[test]
    fn a_root_that_asks_for_it_already_stays_as_it_is() {
        let own = loaded(r#"{"type":"object","required":["brand","a"]}"#);
        let with = requiring("brand", &own).unwrap();
        assert_eq!(fields(&with, "{}"), ["brand required", "a required"]);
    }

    #[test]
    fn a_branch_that_asks_for_it_is_not_the_root() {
        let own = loaded(r#"{"anyOf":[{"required":["brand"]},{"required":["a"]}]}"#);
        let with = requiring("brand", &own).unwrap();
        assert_eq!(fields(&with, r#"{"a":1}"#), ["brand required"]);
    }

    #[test]
    fn a_root_that_cannot_ask_is_told() {
        for text in ["true", "false"] {
            assert!(requiring("brand", &loaded(text)).is_none(), "{text}");
        }
    }
}
