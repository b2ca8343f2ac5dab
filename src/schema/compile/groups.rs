//! The keywords of numbers, texts, arrays and objects, each group in Ajv's order.

use std::sync::Arc;

use super::super::ajv::{self, Words};
use super::super::formats::Format;
use super::super::names::{INHERITED, Names};
use super::super::pattern::Pattern;
use super::super::rules::{
    ALWAYS, Additional, ArrayRule, Comparison, Contains, Count, Kind, Kinds, NumberRule,
    ObjectRule, ObjectRules, RulesId, StringRule, Tuple,
};
use super::keywords::{Draft, Keywords, is_idle};
use super::{At, Compiler, items, members};
use crate::json::Node;

/// Names of an object's rules that a word of bits holds.
const PLAIN_NAMES_MAX: usize = 64;

impl<'t> Compiler<'t> {
    pub(super) fn number(&self, keywords: Keywords<'t>, at: &At) -> Vec<NumberRule> {
        let limits = [
            ("maximum", Comparison::AtMost),
            ("minimum", Comparison::AtLeast),
            ("exclusiveMaximum", Comparison::Below),
            ("exclusiveMinimum", Comparison::Above),
        ];
        let mut rules = Vec::new();
        for (keyword, comparison) in limits {
            if let Some(limit) = keywords.number(keyword) {
                let (sign, shown) = (comparison.sign(), ajv::number(limit));
                let params = format!("{{\"comparison\":\"{sign}\",\"limit\":{shown}}}");
                let words = at.words(keyword, &format!("must be {sign} {shown}"), &params);
                rules.push(NumberRule::Limit(comparison, limit, words));
            }
        }
        if let Some(unit) = keywords.number("multipleOf") {
            let shown = ajv::number(unit);
            let params = format!("{{\"multipleOf\":{shown}}}");
            let words = at.words("multipleOf", &format!("must be multiple of {shown}"), &params);
            rules.push(NumberRule::MultipleOf(unit, words));
        }
        rules
    }

    pub(super) fn string(&mut self, keywords: Keywords<'t>, at: &At) -> Vec<StringRule> {
        let counts = counts(keywords, at, "Length", "characters").map(StringRule::Length);
        let mut rules: Vec<StringRule> = counts.collect();
        if let Some(source) = keywords.get("pattern").and_then(Node::as_str) {
            let params = format!("{{\"pattern\":{}}}", ajv::quoted(source));
            let words = at.words("pattern", &format!("must match pattern \"{source}\""), &params);
            let pattern = self.pattern(source, &at.keyword("pattern").place);
            rules.extend(pattern.map(|pattern| StringRule::Pattern(pattern, words)));
        }
        if let Some(name) = keywords.get("format").and_then(Node::as_str) {
            let params = format!("{{\"format\":{}}}", ajv::quoted(name));
            let words = at.words("format", &format!("must match format \"{name}\""), &params);
            match Format::from_word(name) {
                Some(format) => rules.push(StringRule::Format(format, words)),
                None => {
                    let known: Vec<&str> = Format::ALL.iter().map(|(_, name)| *name).collect();
                    let reason = format!("the format `{name}` is not supported");
                    let remedy = format!("use one of {}, or a pattern", known.join(", "));
                    self.refuse(&at.keyword("format").place, reason, remedy);
                }
            }
        }
        rules
    }

    fn pattern(&mut self, source: &str, place: &str) -> Option<Pattern> {
        match Pattern::compile(source) {
            Ok(pattern) => Some(pattern),
            Err(reason) => {
                let remedy = "write an ECMAScript pattern that flag u allows";
                self.refuse(place, format!("not a pattern: {reason}"), remedy);
                None
            }
        }
    }

    pub(super) fn array(&mut self, keywords: Keywords<'t>, at: &At) -> Vec<ArrayRule> {
        let mut rules: Vec<ArrayRule> =
            counts(keywords, at, "Items", "items").map(ArrayRule::Count).collect();
        let (tuple, behind) = match self.draft {
            Draft::Seven => ("items", "additionalItems"),
            Draft::TwentyTwenty => ("prefixItems", "items"),
        };
        let listed = keywords.get(tuple).filter(|node| matches!(node, Node::Array(_)));
        let rest = listed.and_then(|listed| {
            let node = keywords.get(behind)?;
            let count = items(listed).len();
            if *node == Node::Bool(false) {
                let params = format!("{{\"limit\":{count}}}");
                let message = format!("must NOT have more than {count} items");
                return Some(ArrayRule::NoneBehind(count, at.words(behind, &message, &params)));
            }
            Some(ArrayRule::Behind(count, self.schema(node, &at.keyword(behind))))
        });
        let listed = listed.map(|listed| {
            let ids = self.branches(listed, tuple, at);
            let asking = |(at, _): &(usize, RulesId)| !is_idle(&items(listed)[*at]);
            let schemas = ids.into_iter().enumerate().filter(asking).collect();
            ArrayRule::Tuple(Tuple { schemas, memory: self.memory() })
        });
        // Draft-07 asks the items behind a tuple first, the newer draft the tuple.
        match self.draft {
            Draft::Seven => rules.extend(rest.into_iter().chain(listed)),
            Draft::TwentyTwenty => rules.extend(listed.into_iter().chain(rest)),
        }
        let each = keywords.get("items").filter(|node| !matches!(node, Node::Array(_)));
        if let Some(node) = each
            && keywords.get("prefixItems").is_none()
        {
            rules.push(ArrayRule::Each(self.schema(node, &at.keyword("items"))));
        }
        rules.extend(self.contains(keywords, at));
        if keywords.get("uniqueItems") == Some(&Node::Bool(true)) {
            let kinds = each.and_then(simple_kinds);
            rules.push(ArrayRule::Unique(kinds, at.words("uniqueItems", "", "{}")));
        }
        rules
    }

    fn contains(&mut self, keywords: Keywords<'t>, at: &At) -> Option<ArrayRule> {
        let node = keywords.get("contains")?;
        let rules = self.schema(node, &at.keyword("contains"));
        let (min, max) = (keywords.number("minContains"), keywords.number("maxContains"));
        let min = min.unwrap_or(1.0);
        let least = ajv::number(min);
        let (message, params) = match max.map(ajv::number) {
            None if min == 0.0 => return None,
            None => (
                format!("must contain at least {least} valid item(s)"),
                format!("{{\"minContains\":{least}}}"),
            ),
            Some(most) => (
                format!("must contain at least {least} and no more than {most} valid item(s)"),
                format!("{{\"maxContains\":{most},\"minContains\":{least}}}"),
            ),
        };
        let words = at.words("contains", &message, &params);
        let remembers = min == 1.0 && max.is_none() && !is_idle(node);
        let memory = remembers.then(|| self.memory());
        Some(ArrayRule::Contains(Contains { rules, min, max, words, memory }))
    }

    pub(super) fn object(&mut self, keywords: Keywords<'t>, at: &At) -> Option<Box<ObjectRules>> {
        if !keywords.has_group(Kind::Object, self.draft) {
            return None;
        }
        let mut names = Names::default();
        let mut rules: Vec<ObjectRule> =
            counts(keywords, at, "Properties", "properties").map(ObjectRule::Count).collect();
        if let Some(node) = keywords.get("required") {
            let required = items(node).iter().filter_map(Node::as_str).map(|name| {
                self.lint_name(name, at, "required");
                let params = format!("{{\"missingProperty\":{}}}", ajv::quoted(name));
                let message = format!("must have required property '{name}'");
                (names.slot(name), at.about(name).words("required", &message, &params))
            });
            rules.push(ObjectRule::Required(required.collect()));
        }
        if let Some(node) = keywords.get("propertyNames") {
            let id = self.schema(node, &at.keyword("propertyNames"));
            rules.push(ObjectRule::Names(id, at.words("propertyNames", "", "{}")));
        }
        rules.extend(self.additional(keywords, at));
        if let Some(node) = keywords.get("dependencies") {
            let (lists, schemas): (Vec<_>, Vec<_>) = ajv::in_js_order(members(node))
                .into_iter()
                .partition(|(_, value)| matches!(value, Node::Array(_)));
            rules.push(self.name_dependencies(&lists, "dependencies", at, &mut names));
            rules.push(self.schema_dependencies(&schemas, "dependencies", at, &mut names));
        }
        let mut properties = Vec::new();
        if let Some(node) = keywords.get("properties") {
            for (name, schema) in ajv::in_js_order(members(node)) {
                self.lint_name(name, at, "properties");
                let at = at.keyword("properties").part(name).about(name);
                properties.push((names.slot(name), self.schema(schema, &at)));
            }
            rules.push(ObjectRule::Properties(properties.clone()));
        }
        rules.extend(self.patterns(keywords, at));
        if let Some(node) = keywords.get("dependentRequired") {
            let lists = ajv::in_js_order(members(node));
            rules.push(self.name_dependencies(&lists, "dependentRequired", at, &mut names));
        }
        if let Some(node) = keywords.get("dependentSchemas") {
            let schemas = ajv::in_js_order(members(node));
            rules.push(self.schema_dependencies(&schemas, "dependentSchemas", at, &mut names));
        }
        names.settle();
        Some(Box::new(laid_out(names, &properties, rules)))
    }

    fn additional(&mut self, keywords: Keywords<'t>, at: &At) -> Option<ObjectRule> {
        let node = keywords.get("additionalProperties")?;
        let unnamed = at.about("*");
        let rules = (*node != Node::Bool(false))
            .then(|| self.schema(node, &unnamed.keyword("additionalProperties")));
        if rules == Some(ALWAYS) {
            return None;
        }
        let sources = keywords.get("patternProperties").map_or(&[][..], members);
        let place = at.keyword("patternProperties");
        let but = sources
            .iter()
            .filter_map(|(source, _)| self.pattern(source, &place.part(source).place))
            .collect();
        let words = unnamed.words("additionalProperties", "", "{}");
        Some(ObjectRule::Additional(Additional { rules, but, words }))
    }

    fn patterns(&mut self, keywords: Keywords<'t>, at: &At) -> Option<ObjectRule> {
        let node = keywords.get("patternProperties")?;
        let mut patterns = Vec::new();
        for (source, schema) in ajv::in_js_order(members(node)) {
            self.lint_name(source, at, "patternProperties");
            let at = at.keyword("patternProperties").part(source).about("*");
            let id = self.schema(schema, &at);
            patterns.extend(self.pattern(source, &at.place).map(|pattern| (pattern, id)));
        }
        Some(ObjectRule::Patterns(patterns))
    }

    fn name_dependencies(
        &mut self,
        lists: &[(&str, &'t Node<'t>)],
        keyword: &str,
        at: &At,
        names: &mut Names,
    ) -> ObjectRule {
        let mut dependencies = Vec::new();
        for (trigger, list) in lists {
            self.lint_name(trigger, at, keyword);
            let wanted: Vec<&str> = items(list).iter().filter_map(Node::as_str).collect();
            let joined = wanted.join(", ");
            let noun = if wanted.len() == 1 { "property" } else { "properties" };
            let message = format!("must have {noun} {joined} when property {trigger} is present");
            let mut asked = Vec::new();
            for name in &wanted {
                self.lint_name(name, at, keyword);
                let params = format!(
                    "{{\"deps\":{},\"depsCount\":{},\"missingProperty\":{},\"property\":{}}}",
                    ajv::quoted(&joined),
                    wanted.len(),
                    ajv::quoted(name),
                    ajv::quoted(trigger)
                );
                let words: Arc<Words> = at.about(name).words(keyword, &message, &params);
                asked.push((names.slot(name), words));
            }
            dependencies.push((names.slot(trigger), asked));
        }
        ObjectRule::NameDependencies(dependencies)
    }

    fn schema_dependencies(
        &mut self,
        schemas: &[(&str, &'t Node<'t>)],
        keyword: &str,
        at: &At,
        names: &mut Names,
    ) -> ObjectRule {
        let mut dependencies = Vec::new();
        for (trigger, schema) in schemas {
            self.lint_name(trigger, at, keyword);
            let id = self.schema(schema, &at.keyword(keyword).part(trigger));
            dependencies.push((names.slot(trigger), id));
        }
        ObjectRule::SchemaDependencies(dependencies)
    }

    fn lint_name(&mut self, name: &str, at: &At, keyword: &str) {
        if INHERITED.contains(&name) {
            self.refuse_name(&at.keyword(keyword).place, name);
        }
    }
}

/// `max…` and `min…` of a thing that is counted.
fn counts(
    keywords: Keywords<'_>,
    at: &At,
    thing: &str,
    shown: &str,
) -> impl Iterator<Item = Count> {
    let rule = |prefix, comparison, word| {
        let keyword = format!("{prefix}{thing}");
        let limit = keywords.number(&keyword)?;
        let number = ajv::number(limit);
        let message = format!("must NOT have {word} than {number} {shown}");
        let words = at.words(&keyword, &message, &format!("{{\"limit\":{number}}}"));
        Some(Count { comparison, limit, words })
    };
    let most = rule("max", Comparison::AtMost, "more");
    most.into_iter().chain(rule("min", Comparison::AtLeast, "fewer"))
}

/// The types of items, when they are told and neither object nor array is among them.
fn simple_kinds(node: &Node<'_>) -> Option<Kinds> {
    let keywords = Keywords(members(node));
    let written = keywords.get("type")?;
    let names = items(written).iter().chain([written]).filter_map(Node::as_str);
    let mut kinds: Vec<Kind> = names.filter_map(Kind::from_word).collect();
    if keywords.get("nullable") == Some(&Node::Bool(true)) {
        kinds.push(Kind::Null);
    }
    let is_simple = !kinds.iter().any(|kind| matches!(kind, Kind::Object | Kind::Array));
    (is_simple && !kinds.is_empty()).then(|| kinds.into_iter().fold(Kinds::default(), Kinds::with))
}

fn laid_out(names: Names, properties: &[(usize, RulesId)], rules: Vec<ObjectRule>) -> ObjectRules {
    let mut by_slot = vec![None; names.len()];
    for (slot, id) in properties {
        by_slot[*slot] = Some(*id);
    }
    let mut required = 0;
    let mut is_plain = names.len() <= PLAIN_NAMES_MAX;
    for rule in &rules {
        match rule {
            ObjectRule::Properties(_) => {}
            ObjectRule::Required(slots) => {
                for (slot, _) in slots.iter().filter(|(slot, _)| *slot < PLAIN_NAMES_MAX) {
                    required |= 1u64 << slot;
                }
            }
            ObjectRule::Count(_)
            | ObjectRule::Names(..)
            | ObjectRule::Additional(_)
            | ObjectRule::NameDependencies(_)
            | ObjectRule::SchemaDependencies(_)
            | ObjectRule::Patterns(_) => is_plain = false,
        }
    }
    ObjectRules { names, properties: by_slot, required, is_plain, rules }
}
