//! Schemas of the closed set and bodies that nearly fit them, the same for the same seed.

mod bodies;
mod words;

use beacon_relay::schema::Schema;
use fastrand::Rng;
use serde_json::{Map, Value};

use crate::oracle::Case;
use words::{FORMATS, NAMES, NUMBERS, PATTERNS, STRANGE_NAMES, TEXTS};

/// What a stream of cases is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The product's schemas, orders and events with some members changed.
    Product,
    /// Schemas of the whole closed set.
    Any,
    /// The same with names, numbers and texts that break careless code.
    Hostile,
}

/// Bodies for each random schema: to compile one takes longer than to check ten.
const BODIES: usize = 10;

/// `count` cases of a kind.
pub(crate) fn cases(kind: Kind, seed: u64, count: usize) -> Vec<Case> {
    let mut maker =
        Maker { rng: Rng::with_seed(seed), is_seven: false, is_hostile: kind == Kind::Hostile };
    let mut cases = Vec::with_capacity(count);
    while cases.len() < count {
        if kind == Kind::Product {
            cases.push(maker.product());
            continue;
        }
        let mut schema = maker.document();
        // Most random schemas name a reference that leads nowhere, or the like.
        while !maker.chance(2) && Schema::compile("", &schema.to_string()).is_err() {
            schema = maker.document();
        }
        for _ in 0..BODIES.min(count - cases.len()) {
            let instance = maker.instance(&schema, &schema, 4);
            cases.push(Case { schema: schema.clone(), instance });
        }
    }
    cases
}

struct Maker {
    rng: Rng,
    is_seven: bool,
    is_hostile: bool,
}

impl Maker {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(0..of.len())]
    }

    /// A name that a schema may speak of.
    fn name(&mut self) -> &'static str {
        self.pick(&NAMES)
    }

    /// A name that a body may hold.
    fn key(&mut self) -> &'static str {
        if self.is_hostile && self.chance(30) { self.pick(&STRANGE_NAMES) } else { self.name() }
    }

    fn number(&mut self) -> Value {
        serde_json::from_str(self.pick(&NUMBERS)).expect("a number")
    }

    fn small(&mut self) -> Value {
        Value::from(self.rng.u32(0..4))
    }

    fn document(&mut self) -> Value {
        self.is_seven = self.chance(40);
        let mut schema = self.schema(3).as_object().cloned().unwrap_or_default();
        for keyword in ["definitions", "$defs"] {
            let definitions = ["r", "s", "u v/w"].map(|name| (name.to_owned(), self.schema(2)));
            schema.insert(keyword.to_owned(), Map::from_iter(definitions).into());
        }
        let draft = if self.is_seven {
            "http://json-schema.org/draft-07/schema#"
        } else {
            "https://json-schema.org/draft/2020-12/schema"
        };
        schema.insert("$schema".to_owned(), draft.into());
        if let Some(Value::Object(members)) = schema.get_mut("properties")
            && !members.contains_key("a")
        {
            members.insert("a".to_owned(), self.schema(1));
        }
        if self.chance(10) {
            schema.insert("$id".to_owned(), "https://example.net/schemas/order.json".into());
        }
        // Keyword order in the file is of no account; let it vary.
        let mut members: Vec<_> = schema.into_iter().collect();
        self.rng.shuffle(&mut members);
        Map::from_iter(members).into()
    }

    fn schema(&mut self, depth: u32) -> Value {
        if self.chance(6) {
            return self.chance(60).into();
        }
        let mut schema = Map::new();
        self.write_type(&mut schema);
        if self.chance(18) {
            self.write_values(&mut schema);
        }
        if self.chance(35) {
            self.write_number(&mut schema);
        }
        if self.chance(40) {
            self.write_string(&mut schema);
        }
        if depth > 0 {
            if self.chance(40) {
                self.write_array(&mut schema, depth - 1);
            }
            if self.chance(55) {
                self.write_object(&mut schema, depth - 1);
            }
            if self.chance(45) {
                self.write_applied(&mut schema, depth - 1);
            }
        }
        if self.chance(12) {
            let target = self.pick(&[
                "#",
                "#/",
                "#/definitions/r",
                "#/$defs/s",
                "#/definitions/u%20v~1w",
                "#/$defs/r",
                "#/properties/a",
            ]);
            schema.insert("$ref".to_owned(), target.into());
        }
        if self.chance(5) {
            schema.insert("$comment".to_owned(), "for people".into());
        }
        let mut members: Vec<_> = schema.into_iter().collect();
        self.rng.shuffle(&mut members);
        Map::from_iter(members).into()
    }

    fn write_type(&mut self, schema: &mut Map<String, Value>) {
        const TYPES: [&str; 10] = [
            "object", "object", "array", "array", "string", "number", "integer", "boolean", "null",
            "string",
        ];
        if self.chance(25) {
            return;
        }
        let mut list = vec![self.pick(&TYPES)];
        if self.chance(20) {
            for _ in 0..self.rng.u32(0..3) {
                let more = self.pick(&TYPES);
                if !list.contains(&more) {
                    list.push(more);
                }
            }
            schema.insert("type".to_owned(), list.clone().into());
        } else {
            schema.insert("type".to_owned(), list[0].into());
        }
        if self.chance(12) && !list.contains(&"null") {
            schema.insert("nullable".to_owned(), self.chance(80).into());
        }
    }

    fn write_values(&mut self, schema: &mut Map<String, Value>) {
        if self.chance(40) {
            schema.insert("const".to_owned(), self.value(2));
        } else {
            let mut values: Vec<Value> = Vec::new();
            for _ in 0..self.rng.u32(1..4) {
                let value = self.value(1);
                // The meta-schema of the older draft asks for different ones.
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            schema.insert("enum".to_owned(), values.into());
        }
    }

    fn write_number(&mut self, schema: &mut Map<String, Value>) {
        for keyword in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] {
            if self.chance(35) {
                schema.insert(keyword.to_owned(), self.number());
            }
        }
        if self.chance(35) {
            let unit = self.pick(&["0.01", "0.1", "1", "2", "1e-7", "1e300", "3"]);
            let unit = serde_json::from_str(unit).expect("a number");
            schema.insert("multipleOf".to_owned(), unit);
        }
    }

    fn write_string(&mut self, schema: &mut Map<String, Value>) {
        for keyword in ["minLength", "maxLength"] {
            if self.chance(35) {
                schema.insert(keyword.to_owned(), self.small());
            }
        }
        if self.chance(40) {
            schema.insert("pattern".to_owned(), self.pick(&PATTERNS).into());
        }
        if self.chance(40) {
            schema.insert("format".to_owned(), self.pick(&FORMATS).into());
        }
    }

    fn write_array(&mut self, schema: &mut Map<String, Value>, depth: u32) {
        for keyword in ["minItems", "maxItems"] {
            if self.chance(25) {
                schema.insert(keyword.to_owned(), self.small());
            }
        }
        if self.chance(35) {
            let count = self.rng.u32(1..3);
            let list: Vec<Value> = (0..count).map(|_| self.schema(depth)).collect();
            let (tuple, rest) =
                if self.is_seven { ("items", "additionalItems") } else { ("prefixItems", "items") };
            schema.insert(tuple.to_owned(), list.into());
            if self.chance(70) {
                let rest_schema = if self.chance(50) { false.into() } else { self.schema(depth) };
                schema.insert(rest.to_owned(), rest_schema);
            }
        } else if self.chance(70) {
            schema.insert("items".to_owned(), self.schema(depth));
        }
        if self.chance(30) {
            schema.insert("contains".to_owned(), self.schema(depth));
        }
        if !self.is_seven && self.chance(20) {
            schema.insert("minContains".to_owned(), self.small());
        }
        if !self.is_seven && self.chance(15) {
            schema.insert("maxContains".to_owned(), self.small());
        }
        if self.chance(35) {
            schema.insert("uniqueItems".to_owned(), self.chance(85).into());
        }
    }

    fn named(&mut self, depth: u32) -> Value {
        let count = self.rng.u32(1..5);
        let members = (0..count).map(|_| (self.name().to_owned(), self.schema(depth)));
        members.collect::<Map<_, _>>().into()
    }

    fn names(&mut self, most: u32) -> Vec<&'static str> {
        let mut names = Vec::new();
        for _ in 0..self.rng.u32(0..=most) {
            let name = self.name();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn write_object(&mut self, schema: &mut Map<String, Value>, depth: u32) {
        for keyword in ["minProperties", "maxProperties"] {
            if self.chance(15) {
                schema.insert(keyword.to_owned(), self.small());
            }
        }
        if self.chance(65) {
            schema.insert("properties".to_owned(), self.named(depth));
        }
        if self.chance(45) {
            schema.insert("required".to_owned(), self.names(4).into());
        }
        if self.chance(20) {
            schema.insert("propertyNames".to_owned(), self.schema(depth));
        }
        if self.chance(30) {
            let more = if self.chance(60) { false.into() } else { self.schema(depth) };
            schema.insert("additionalProperties".to_owned(), more);
        }
        if self.chance(25) {
            let count = self.rng.u32(1..3);
            let members = (0..count).map(|_| (self.pick(&PATTERNS).to_owned(), self.schema(depth)));
            let members: Map<_, _> = members.collect();
            schema.insert("patternProperties".to_owned(), members.into());
        }
        if self.chance(20) {
            let mut members = Map::new();
            for _ in 0..3 {
                let name = self.name().to_owned();
                let value = if self.chance(60) { self.names(3).into() } else { self.schema(depth) };
                members.insert(name, value);
            }
            schema.insert("dependencies".to_owned(), members.into());
        }
        if !self.is_seven && self.chance(15) {
            let members = [(self.name().to_owned(), Value::from(self.names(3)))];
            schema.insert("dependentRequired".to_owned(), Map::from_iter(members).into());
        }
        if !self.is_seven && self.chance(15) {
            schema.insert("dependentSchemas".to_owned(), self.named(depth));
        }
    }

    fn write_applied(&mut self, schema: &mut Map<String, Value>, depth: u32) {
        for keyword in ["anyOf", "oneOf", "allOf"] {
            if self.chance(30) {
                let count = self.rng.u32(1..4);
                let list: Vec<Value> = (0..count).map(|_| self.schema(depth)).collect();
                schema.insert(keyword.to_owned(), list.into());
            }
        }
        if self.chance(25) {
            schema.insert("not".to_owned(), self.schema(depth));
        }
        if self.chance(30) {
            for keyword in ["if", "then", "else"] {
                if self.chance(75) {
                    schema.insert(keyword.to_owned(), self.schema(depth));
                }
            }
        }
    }

    /// Some value.
    fn value(&mut self, depth: u32) -> Value {
        match self.rng.u32(0..if depth > 0 { 9 } else { 6 }) {
            0 => Value::Null,
            1 => self.chance(50).into(),
            2 | 3 => self.number(),
            4 | 5 => self.pick(&TEXTS).into(),
            6 => (0..self.rng.u32(0..4)).map(|_| self.value(depth - 1)).collect::<Vec<_>>().into(),
            _ => {
                let count = self.rng.u32(0..4);
                let members = (0..count).map(|_| (self.name().to_owned(), self.value(depth - 1)));
                members.collect::<Map<_, _>>().into()
            }
        }
    }
}
