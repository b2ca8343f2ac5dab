//! Bodies: random ones that nearly fit a schema, and the product's with some members changed.

use serde_json::{Map, Value, json};

use super::Maker;
use super::words::{NUMBERS, TEXTS};
use crate::oracle::Case;

impl Maker {
    /// The text of a body that follows `schema` most of the time.
    pub(super) fn instance(&mut self, schema: &Value, document: &Value, depth: u32) -> String {
        if self.chance(12) {
            return self.text_of_any(2);
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str)
            && depth > 0
            && self.chance(70)
        {
            let pointer = target.trim_start_matches('#').replace("%20", " ");
            let target = document.pointer(&pointer).unwrap_or(document);
            return self.instance(target, document, depth - 1);
        }
        for keyword in ["anyOf", "oneOf", "allOf"] {
            if let Some(Value::Array(branches)) = schema.get(keyword)
                && depth > 0
                && self.chance(40)
            {
                let branch = branches[self.rng.usize(0..branches.len())].clone();
                return self.instance(&branch, document, depth - 1);
            }
        }
        if let Some(value) = schema.get("const")
            && self.chance(50)
        {
            return self.text_of(value);
        }
        if let Some(Value::Array(values)) = schema.get("enum")
            && self.chance(50)
        {
            let value = values[self.rng.usize(0..values.len())].clone();
            return self.text_of(&value);
        }
        let kind = match schema.get("type") {
            Some(Value::String(kind)) => kind.clone(),
            Some(Value::Array(kinds)) => {
                kinds[self.rng.usize(0..kinds.len())].as_str().unwrap_or("null").to_owned()
            }
            _ => self.pick(&["object", "array", "string", "number", "object"]).to_owned(),
        };
        match kind.as_str() {
            "object" if depth > 0 => self.object(schema, document, depth - 1),
            "array" if depth > 0 => self.array(schema, document, depth - 1),
            "string" => Value::from(self.pick(&TEXTS)).to_string(),
            "number" | "integer" => self.pick(&NUMBERS).to_owned(),
            "boolean" => self.chance(50).to_string(),
            "null" => "null".to_owned(),
            _ => self.text_of_any(1),
        }
    }

    fn object(&mut self, schema: &Value, document: &Value, depth: u32) -> String {
        let mut keys: Vec<String> = Vec::new();
        for keyword in ["properties", "dependencies", "dependentRequired", "dependentSchemas"] {
            if let Some(Value::Object(members)) = schema.get(keyword) {
                let some: Vec<String> =
                    members.keys().filter(|_| self.chance(70)).cloned().collect();
                keys.extend(some);
            }
        }
        if let Some(Value::Array(names)) = schema.get("required") {
            let names: Vec<String> =
                names.iter().filter_map(Value::as_str).map(Into::into).collect();
            keys.extend(names.into_iter().filter(|_| self.chance(75)));
        }
        for _ in 0..self.rng.u32(0..4) {
            let key = self.key().to_owned();
            keys.push(key);
        }
        keys.sort();
        keys.dedup();
        self.rng.shuffle(&mut keys);
        let members: Vec<String> = keys
            .iter()
            .map(|key| {
                let known = schema.get("properties").and_then(|named| named.get(key));
                let known = known.or_else(|| schema.get("additionalProperties")).cloned();
                let value = match known {
                    Some(schema) => self.instance(&schema, document, depth),
                    None => self.text_of_any(1),
                };
                format!("{}:{value}", Value::from(key.as_str()))
            })
            .collect();
        format!("{{{}}}", members.join(","))
    }

    fn array(&mut self, schema: &Value, document: &Value, depth: u32) -> String {
        let mut items: Vec<String> = Vec::new();
        for at in 0..self.rng.usize(0..5) {
            if let Some(first) = items.first().cloned()
                && self.chance(25)
            {
                items.push(first);
                continue;
            }
            let tuple = schema.get("prefixItems").or_else(|| schema.get("items"));
            let of_item = match tuple {
                Some(Value::Array(list)) => list.get(at).or_else(|| schema.get("additionalItems")),
                one => one,
            };
            let of_item = of_item.or_else(|| schema.get("contains")).cloned();
            let item = match of_item {
                Some(schema) => self.instance(&schema, document, depth),
                None => self.text_of_any(1),
            };
            items.push(item);
        }
        format!("[{}]", items.join(","))
    }

    fn text_of_any(&mut self, depth: u32) -> String {
        let value = self.value(depth);
        self.text_of(&value)
    }

    /// The text of a value, its members in another order now and then.
    fn text_of(&mut self, value: &Value) -> String {
        if let Value::Object(members) = value
            && self.chance(50)
        {
            let members = members.iter().rev().map(|(key, value)| (key.clone(), value.clone()));
            return Value::from(members.collect::<Map<_, _>>()).to_string();
        }
        value.to_string()
    }

    /// An order or an ad event with some members changed.
    pub(super) fn product(&mut self) -> Case {
        let file = self.pick(&[
            "conversion-documented.json",
            "conversion-documented.json",
            "conversion-documented.json",
            "conversion-wire.json",
            "ad-event.json",
            "ad-event-session.json",
        ]);
        let mut body = if file.starts_with("ad-event") {
            json!({"user_id": "u-1", "session_id": "s-1"})
        } else {
            self.order()
        };
        for _ in 0..self.rng.u32(0..6) {
            self.change(&mut body);
        }
        if self.chance(3) {
            body = self.value(1);
        }
        Case { schema: file.into(), instance: body.to_string() }
    }

    fn order(&mut self) -> Value {
        let items: Vec<Value> = (0..self.rng.u32(1..4))
            .map(|n| {
                json!({"sku": format!("sku-{n}"), "seller_id": null, "product_id": "p", "quantity": 1,
                    "price": 2000.5, "promotional_price": 1899})
            })
            .collect();
        json!({"channel": "ecommerce", "brand": "b", "publisher_id": "xxx", "user_id": "u",
            "session_id": "s", "order_id": "123", "email_hashed": "xyz", "items": items,
            "created_at": "2023-01-01T09:20:00Z", "is_company": false, "gender": "F", "uf": "SP",
            "city": "São Paulo", "phone_hashed": "ab12"})
    }

    /// Takes out, puts in or replaces one member, at the top or within an item.
    fn change(&mut self, body: &mut Value) {
        const MEMBERS: [&str; 30] = [
            "channel",
            "brand",
            "publisher_id",
            "user_id",
            "session_id",
            "order_id",
            "email_hashed",
            "items",
            "created_at",
            "is_company",
            "gender",
            "uf",
            "city",
            "phone_hashed",
            "social_id_hashed",
            "first_name_hashed",
            "last_name_hashed",
            "email",
            "phone",
            "social_id",
            "first_name",
            "last_name",
            "sku",
            "quantity",
            "price",
            "promotional_price",
            "seller_id",
            "product_id",
            "utm",
            "10",
        ];
        const VALUES: [&str; 18] = [
            "a@b.example",
            "+5511987654321",
            "529.982.247-25",
            "52998224725",
            "11.222.333/0001-81",
            "(11) 98765-4321",
            "",
            " ",
            "F",
            "x",
            "2023-01-01T09:20:00",
            "2023-01-01 09:20:00-0300",
            "2023-02-30T00:00:00Z",
            "2016-12-31T23:59:60Z",
            "\u{1f600}",
            "1672564800",
            "12.ABC.345/01DE-35",
            "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f",
        ];
        let within = self.chance(40);
        let count = body.get("items").and_then(Value::as_array).map_or(0, Vec::len);
        let at = if count > 0 { self.rng.usize(0..count) } else { 0 };
        let place = match body.get_mut("items").and_then(|items| items.get_mut(at)) {
            Some(_) if within => &mut body["items"][at],
            _ => body,
        };
        let Value::Object(members) = place else { return };
        let name = self.pick(&MEMBERS);
        match self.rng.u32(0..4) {
            0 => drop(members.shift_remove(name)),
            1 | 2 => drop(members.insert(name.to_owned(), self.pick(&VALUES).into())),
            _ => drop(members.insert(name.to_owned(), self.value(2))),
        }
    }
}
