//! Cases written by hand, one rule of Ajv's order or words at a time.

use serde_json::{Value, json};

use crate::oracle::Case;

/// Schemas, each with the texts of bodies.
pub(crate) fn cases() -> Vec<Case> {
    let order = [
        // The type comes first, or where the group of its keywords stands.
        (json!({"type": "string", "enum": ["a"]}), vec!["1", "\"b\"", "\"a\""]),
        (json!({"type": "string", "minLength": 3, "enum": ["a"]}), vec!["1", "\"b\""]),
        (json!({"type": ["string"], "minLength": 3, "const": 2}), vec!["1", "\"b\""]),
        (json!({"type": ["string", "null"], "minLength": 3, "enum": ["a"]}), vec!["1", "\"b\""]),
        (json!({"type": "integer", "minimum": 1}), vec!["0.5", "\"x\"", "1.0", "1e300"]),
        (json!({"type": "object", "required": ["a"], "minLength": 2}), vec!["\"x\"", "1", "{}"]),
        (json!({"type": "string", "minLength": 1, "minItems": 1}), vec!["[]", "1"]),
        (json!({"type": "number", "format": "date", "const": 2}), vec!["\"x\"", "3"]),
        (json!({"type": "array", "minContains": 1, "const": 2}), vec!["3", "[]"]),
        (json!({"type": "string", "nullable": true, "maxLength": 1}), vec!["null", "\"ab\"", "1"]),
        (json!({"type": ["string", "integer"], "nullable": true}), vec!["null", "true"]),
        (
            json!({"$ref": "#/$defs/r", "const": 1, "enum": [1], "not": {}, "anyOf": [false],
                "oneOf": [false], "allOf": [false], "if": true, "then": false, "minimum": 9,
                "$defs": {"r": false}}),
            vec!["2"],
        ),
        (
            json!({"maxProperties": 1, "minProperties": 9, "required": ["z"], "properties":
                {"b": false, "a": false}, "propertyNames": {"maxLength": 0}, "patternProperties":
                {"a": false, ".": false}, "additionalProperties": false, "dependentRequired":
                {"a": ["y", "z"], "b": ["y"]}, "dependentSchemas": {"a": false}, "dependencies":
                {"a": ["x"], "b": false}}),
            vec![r#"{"a":1,"b":2,"c":3}"#, r#"{"c":3,"b":2,"a":1}"#],
        ),
        // JavaScript's order of keys.
        (
            json!({"properties": {"b": false, "10": false, "9": false, "01": false}}),
            vec![r#"{"01":0,"b":0,"9":0,"10":0}"#],
        ),
        (
            json!({"additionalProperties": false}),
            vec![r#"{"b":0,"4294967295":0,"10":0,"4294967294":0,"a":0,"2":0,"-1":0}"#],
        ),
        (
            json!({"const": {"b": 1, "10": [-0.0, 1e21, 1e-7]}}),
            vec!["{}", r#"{"10":[0,1e21,1e-7],"b":1}"#],
        ),
        // Paths.
        (
            json!({"properties": {"a/b~c é^'()*!\"%": {"items": {"properties": {"": {"type": "null"}}}}}}),
            vec![r#"{"a/b~c é^'()*!\"%":[0,{"":1}]}"#],
        ),
        (
            json!({"patternProperties": {"^x/y$": false}, "additionalProperties": {"type": "null"}}),
            vec![r#"{"x/y":1,"~/\n\u0001":2}"#],
        ),
        (json!({"required": ["it's \"x\"", ""]}), vec!["{}", r#"{"":null}"#]),
        // Arrays.
        (
            json!({"uniqueItems": true}),
            vec!["[1,2,1,2,3]", "[[1],[1.0]]", "[0,-0]", "[{\"a\":1,\"b\":2},{\"b\":2,\"a\":1}]"],
        ),
        (
            json!({"uniqueItems": true, "items": {"type": "number"}}),
            vec!["[1,2,1,2,3]", "[\"a\",\"a\",1]"],
        ),
        (
            json!({"uniqueItems": true, "items": {"type": ["string", "null"]}}),
            vec!["[\"null\",null,null]"],
        ),
        (json!({"uniqueItems": true, "items": {"type": "object"}}), vec!["[{},[],{}]"]),
        (json!({"prefixItems": [{"type": "null"}], "items": false}), vec!["[1,2,3]", "[]"]),
        (json!({"prefixItems": [{"type": "null"}], "items": {"type": "null"}}), vec!["[1,2]"]),
        (json!({"contains": {"type": "null"}}), vec!["[]", "[1,2]", "[1,null]"]),
        (
            json!({"contains": {"type": "null"}, "minContains": 2, "maxContains": 3}),
            vec!["[null]", "[null,null,1]", "[null,1,null,null,null,2]"],
        ),
        (json!({"contains": {"type": "null"}, "minContains": 0}), vec!["[]", "[1]"]),
        (json!({"contains": true, "minContains": 3, "maxContains": 2}), vec!["[]"]),
        (json!({"items": {"contains": {"const": 1}}}), vec!["[[],[1],[],[2],[]]"]),
        (
            json!({"not": {"prefixItems": [{"const": 1}], "contains": {"const": 1}}}),
            vec!["[]", "[1]", "[2]"],
        ),
        (json!({"not": {"required": ["", "a"]}}), vec!["{}", r#"{"a":1}"#, r#"{"":1,"a":1}"#]),
        // Alternatives.
        (
            json!({"oneOf": [{"const": 1}, {"minimum": 0}, {"type": "number"}]}),
            vec!["1", "2", "-1", "\"x\"", "null"],
        ),
        (json!({"oneOf": [{"type": "string"}, {"type": "null"}, false]}), vec!["1", "null"]),
        (
            json!({"items": {"anyOf": [{"type": "null"}, {"allOf": [{"minimum": 2}, {"anyOf": [{"const": 3}]}]}]}}),
            vec!["[null,3,2,0,\"x\"]"],
        ),
        (
            json!({"if": {"minimum": 2}, "then": {"maximum": 3}, "else": {"const": 0}}),
            vec!["0", "1", "3", "4"],
        ),
        (json!({"if": true, "else": false}), vec!["1"]),
        (
            json!({"propertyNames": {"anyOf": [{"maxLength": 1}, {"$ref": "#/$defs/r"}]}, "$defs": {"r": {"$ref": "#/$defs/s", "const": "q"}, "s": {"const": "p"}}}),
            vec![r#"{"a":1,"bc":2,"p":3}"#],
        ),
        // References.
        (
            json!({"items": {"$ref": "#/$defs/a%20b~1c"}, "$defs": {"a b/c": {"type": "null"}}}),
            vec!["[1]"],
        ),
        (
            json!({"properties": {"next": {"$ref": "#"}}, "required": ["v"]}),
            vec![r#"{"next":{"next":{}}}"#],
        ),
        (
            json!({"items": {"$ref": "#/$defs/t"}, "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}}),
            vec!["[[[],1],2]"],
        ),
        (
            json!({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"$ref": "#/$defs/b", "title": "x"}, "b": {"$ref": "#/$defs/c"}, "c": {"minimum": 5}}}),
            vec!["[1]"],
        ),
        (
            json!({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"$ref": "#/$defs/b", "$comment": "x"}, "b": {"minimum": 5}}}),
            vec!["[1]"],
        ),
        (
            json!({"properties": {"a": {"$ref": "#/$defs/no"}}, "$defs": {"no": false}}),
            vec![r#"{"a":1}"#],
        ),
        // Numbers.
        (json!({"multipleOf": 0.01}), vec!["19.99", "0.3", "1", "1e300"]),
        (json!({"multipleOf": 1e-7}), vec!["1e-7", "1e15", "-0"]),
        (json!({"enum": [9007199254740992u64, 1]}), vec!["9007199254740993", "1.0", "2"]),
        (
            json!({"exclusiveMaximum": 5.0, "maximum": 1e21, "minimum": 1e-7, "exclusiveMinimum": -0.0}),
            vec!["5", "0", "1e22"],
        ),
        // Texts.
        (
            json!({"minLength": 2, "maxLength": 2}),
            vec!["\"\u{1f600}\"", "\"e\u{301}\"", "\"\\ud83d\\ude00x\"", "\"abc\""],
        ),
        (json!({"pattern": "^.$", "format": "email"}), vec!["\"\u{1f600}\"", "\"a@b.example\""]),
    ];
    let older = [
        (
            json!({"items": [{"type": "null"}], "additionalItems": false}),
            vec!["[1,2]", "[]", "[null]"],
        ),
        (json!({"items": [{"type": "null"}], "additionalItems": {"const": 1}}), vec!["[1,2]"]),
        (json!({"items": {"type": "null"}, "additionalItems": false}), vec!["[1,2]"]),
        (
            json!({"$ref": "#/definitions/r", "const": 2, "definitions": {"r": {"type": "null"}}}),
            vec!["1"],
        ),
        (
            json!({"dependencies": {"10": ["x"], "b": {"maxProperties": 0}, "a": ["y", "z"], "9": []}}),
            vec![r#"{"a":1,"b":2,"9":3,"10":4}"#],
        ),
        (json!({"contains": {"const": 1}}), vec!["[]", "[2]", "[1]"]),
    ];
    let mut cases = Vec::new();
    for (draft, list) in [
        ("https://json-schema.org/draft/2020-12/schema", &order[..]),
        ("http://json-schema.org/draft-07/schema#", &older[..]),
    ] {
        for (schema, bodies) in list {
            let mut schema = schema.clone();
            schema["$schema"] = Value::from(draft);
            for body in bodies {
                cases.push(Case { schema: schema.clone(), instance: (*body).to_owned() });
            }
        }
    }
    cases
}
