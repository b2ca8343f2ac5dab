//! Compiles a schema file into rules, in the order of Ajv's rule table.
//!
//! Whatever is not understood is refused with its place: a rule that is silently skipped would
//! accept what the upstream refuses.

mod chains;
mod groups;
mod keywords;
mod references;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::ajv::{self, Words};
use super::equal::twins;
use super::fault::Fault;
use super::names::INHERITED;
use super::rules::{ALWAYS, AnyRule, Choice, Kind, Kinds, Rules, RulesId};
use crate::json::Node;

pub(super) use chains::CHAIN_MAX;
pub(super) use keywords::Draft;
use keywords::Keywords;

/// A schema as rules, and the names its root speaks of.
pub(super) struct Compiled {
    pub(super) rules: Vec<Rules>,
    pub(super) root: RulesId,
    pub(super) members: Vec<String>,
    /// How many rules leave their last answer behind.
    pub(super) memories: usize,
}

/// Compiles `document`, or tells everything that is wrong with it.
pub(super) fn compile(document: &Node<'_>, draft: Draft) -> Result<Compiled, Vec<Fault>> {
    let mut compiler = Compiler {
        document,
        draft,
        rules: vec![Rules::default()],
        places: vec![String::new()],
        functions: HashMap::new(),
        pending: Vec::new(),
        memories: 0,
        faults: Vec::new(),
    };
    let root = compiler.function(document, "", "");
    while let Some(Pending { id, node, at }) = compiler.pending.pop() {
        let rules = compiler.rules_of(node, &at);
        compiler.rules[id] = rules;
    }
    compiler.refuse_endless_chains();
    let properties = document.get("properties").map_or(&[][..], members);
    let members = ajv::in_js_order(properties).into_iter().map(|(key, _)| key.to_owned()).collect();
    let Compiler { rules, memories, mut faults, .. } = compiler;
    if faults.is_empty() {
        return Ok(Compiled { rules, root, members, memories });
    }
    faults.sort();
    // What stands in the place of several references is compiled, and found wrong, several times.
    faults.dedup();
    Err(faults)
}

/// Where a subschema stands.
#[derive(Clone)]
struct At {
    /// In the file, as a JSON Pointer.
    place: String,
    /// In Ajv's `schemaPath`.
    path: String,
    /// In the body, as the names of the properties that lead there.
    field: String,
}

impl At {
    /// The value of `keyword` here.
    fn keyword(&self, keyword: &str) -> Self {
        Self {
            place: format!("{}/{keyword}", self.place),
            path: format!("{}/{keyword}", self.path),
            field: self.field.clone(),
        }
    }

    /// The part of a keyword's value called `name`.
    fn part(&self, name: &str) -> Self {
        let mut place = self.place.clone();
        ajv::write_step(&mut place, name);
        let path = format!("{}/{}", self.path, ajv::fragment_step(name));
        Self { place, path, field: self.field.clone() }
    }

    /// The same place, about the property `name` of the body.
    fn about(&self, name: &str) -> Self {
        let separator = if self.field.is_empty() { "" } else { "/" };
        Self { field: format!("{}{separator}{name}", self.field), ..self.clone() }
    }

    /// The words of a violation of `keyword`.
    fn words(&self, keyword: &str, message: &str, params: &str) -> std::sync::Arc<Words> {
        Words::new(keyword, message, params, &self.path, &self.field)
    }
}

/// A schema that is referred to and not yet compiled.
struct Pending<'t> {
    id: RulesId,
    node: &'t Node<'t>,
    at: At,
}

struct Compiler<'t> {
    document: &'t Node<'t>,
    draft: Draft,
    rules: Vec<Rules>,
    /// For each of `rules` its place in the file.
    places: Vec<String>,
    /// Schemas whose paths start anew, by their place in the file.
    functions: HashMap<String, RulesId>,
    pending: Vec<Pending<'t>>,
    memories: usize,
    faults: Vec<Fault>,
}

fn members<'n, 't>(node: &'n Node<'t>) -> &'n [(std::borrow::Cow<'t, str>, Node<'t>)] {
    match node {
        Node::Object(members) => members,
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::String(_) | Node::Array(_) => &[],
    }
}

fn items<'n, 't>(node: &'n Node<'t>) -> &'n [Node<'t>] {
    match node {
        Node::Array(items) => items,
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::String(_) | Node::Object(_) => &[],
    }
}

impl<'t> Compiler<'t> {
    fn refuse(&mut self, place: &str, reason: impl Into<String>, remedy: impl Into<String>) {
        let (reason, remedy) = (reason.into(), remedy.into());
        self.faults.push(Fault { place: place.to_owned(), reason, remedy });
    }

    /// A schema whose paths start anew at `#`.
    fn function(&mut self, node: &'t Node<'t>, place: &str, field: &str) -> RulesId {
        if let Some(id) = self.functions.get(place) {
            return *id;
        }
        let at = At { place: place.to_owned(), path: "#".to_owned(), field: field.to_owned() };
        let id = self.add(Rules::default(), &at);
        self.functions.insert(place.to_owned(), id);
        self.pending.push(Pending { id, node, at });
        id
    }

    fn add(&mut self, rules: Rules, at: &At) -> RulesId {
        self.rules.push(rules);
        self.places.push(at.place.clone());
        self.rules.len() - 1
    }

    /// Compiles a subschema.
    fn schema(&mut self, node: &'t Node<'t>, at: &At) -> RulesId {
        if *node == Node::Bool(true) {
            return ALWAYS;
        }
        let rules = self.rules_of(node, at);
        self.add(rules, at)
    }

    /// A place for a rule's last answer.
    fn memory(&mut self) -> usize {
        self.memories += 1;
        self.memories - 1
    }

    /// Compiles the subschemas of a list under `keyword`.
    fn branches(&mut self, node: &'t Node<'t>, keyword: &str, at: &At) -> Vec<RulesId> {
        let at = at.keyword(keyword);
        let list = items(node).iter().enumerate();
        list.map(|(n, branch)| self.schema(branch, &at.part(&n.to_string()))).collect()
    }

    fn rules_of(&mut self, node: &'t Node<'t>, at: &At) -> Rules {
        match node {
            Node::Bool(true) => return Rules::default(),
            Node::Bool(false) => {
                let words = at.words("false schema", "boolean schema is false", "{}");
                return Rules { never: Some(words), ..Rules::default() };
            }
            Node::Object(_) => {}
            Node::Null | Node::Number(_) | Node::String(_) | Node::Array(_) => {
                self.refuse(&at.place, "this is no schema", "write an object, true or false");
                return Rules::default();
            }
        }
        let keywords = Keywords(members(node));
        self.lint(keywords, at);
        let mut rules = Rules { any: self.any(keywords, at), ..Rules::default() };
        self.kinds(keywords, at, &mut rules);
        rules.number = self.number(keywords, at);
        rules.string = self.string(keywords, at);
        rules.array = self.array(keywords, at);
        rules.object = self.object(keywords, at);
        rules
    }

    /// `type` and `nullable`: asked for first, or where the group of the type's keywords stands.
    fn kinds(&mut self, keywords: Keywords<'t>, at: &At, rules: &mut Rules) {
        let nullable = keywords.get("nullable");
        let Some(written) = keywords.get("type") else {
            if nullable.is_some() {
                self.refuse(&at.place, "nullable without type", "name the type beside nullable");
            }
            return;
        };
        let is_list = matches!(written, Node::Array(_));
        let list = if is_list { items(written) } else { std::slice::from_ref(written) };
        let mut names: Vec<&str> = list.iter().filter_map(Node::as_str).collect();
        let mut shown = names.clone();
        match nullable {
            None => {}
            Some(Node::Bool(is_nullable)) => {
                let has_null = names.contains(&"null");
                if has_null && !is_nullable {
                    let remedy = "drop one of them";
                    self.refuse(&at.place, "nullable: false contradicts type null", remedy);
                }
                if !has_null && *is_nullable {
                    names.push("null");
                    // Ajv adds it to the list that is written, yet shows a single type alone.
                    if is_list {
                        shown.push("null");
                    }
                }
            }
            Some(_) => {
                let place = format!("{}/nullable", at.place);
                self.refuse(&place, "nullable is no boolean", "write true or false");
            }
        }
        let quoted: Vec<String> = shown.iter().map(|name| ajv::quoted(name)).collect();
        let params = if is_list { format!("[{}]", quoted.join(",")) } else { quoted.join(",") };
        let params = format!("{{\"type\":{params}}}");
        let words = at.words("type", &format!("must be {}", shown.join(",")), &params);
        let kinds: Vec<Kind> = names.iter().filter_map(|name| Kind::from_word(name)).collect();
        match kinds[..] {
            [kind] if keywords.has_group(kind, self.draft) => rules.deferred = Some((kind, words)),
            _ => {
                let kinds = kinds.into_iter().fold(Kinds::default(), Kinds::with);
                rules.kinds = Some((kinds, words));
            }
        }
    }

    /// The keywords that ask a value of any type.
    fn any(&mut self, keywords: Keywords<'t>, at: &At) -> Vec<AnyRule> {
        let mut rules = Vec::new();
        if let Some(node) = keywords.get("$ref") {
            rules.extend(self.reference(node, at));
        }
        if let Some(node) = keywords.get("const") {
            let params = format!("{{\"allowedValue\":{}}}", ajv::json(node));
            let words = at.words("const", "must be equal to constant", &params);
            self.refuse_inherited(node, &at.keyword("const").place);
            rules.push(AnyRule::OneOfValues(vec![owned(node)], words));
        }
        if let Some(node) = keywords.get("enum") {
            let params = format!("{{\"allowedValues\":{}}}", ajv::json(node));
            let message = "must be equal to one of the allowed values";
            self.refuse_inherited(node, &at.keyword("enum").place);
            if items(node).is_empty() {
                self.refuse(&at.keyword("enum").place, "an empty enum", "name a value");
            }
            if self.draft == Draft::Seven && twins(items(node), None).is_some() {
                self.refuse(&at.keyword("enum").place, "an enum with twins", "drop one of them");
            }
            let values = items(node).iter().map(owned).collect();
            rules.push(AnyRule::OneOfValues(values, at.words("enum", message, &params)));
        }
        if let Some(node) = keywords.get("not") {
            let id = self.schema(node, &at.keyword("not"));
            rules.push(AnyRule::Not(id, at.words("not", "must NOT be valid", "{}")));
        }
        if let Some(node) = keywords.get("anyOf") {
            let words = at.words("anyOf", "must match a schema in anyOf", "{}");
            rules.push(AnyRule::AnyOf(self.branches(node, "anyOf", at), words));
        }
        if let Some(node) = keywords.get("oneOf") {
            let words = at.words("oneOf", ajv::ONE_OF, "{\"passingSchemas\":null}");
            rules.push(AnyRule::OneOf(self.branches(node, "oneOf", at), words));
        }
        if let Some(node) = keywords.get("allOf") {
            rules.push(AnyRule::AllOf(self.branches(node, "allOf", at)));
        }
        rules.extend(self.choice(keywords, at));
        rules
    }

    fn choice(&mut self, keywords: Keywords<'t>, at: &At) -> Option<AnyRule> {
        let mut clause = |keyword: &str| {
            let id = keywords
                .get(keyword)
                .map_or(ALWAYS, |node| self.schema(node, &at.keyword(keyword)));
            let params = format!("{{\"failingKeyword\":\"{keyword}\"}}");
            (id, at.words("if", &format!("must match \"{keyword}\" schema"), &params))
        };
        let (then, otherwise) = (clause("then"), clause("else"));
        let condition = keywords.get("if")?;
        let condition = self.schema(condition, &at.keyword("if"));
        let is_idle = then.0 == ALWAYS && otherwise.0 == ALWAYS;
        (!is_idle).then(|| AnyRule::If(Box::new(Choice { condition, then, otherwise })))
    }

    /// Ajv throws on comparing objects that own what others inherit.
    fn refuse_inherited(&mut self, node: &Node<'_>, place: &str) {
        for (key, _) in members(node).iter().filter(|(key, _)| INHERITED.contains(&key.as_ref())) {
            self.refuse_name(place, key);
        }
        for part in items(node).iter().chain(members(node).iter().map(|(_, value)| value)) {
            self.refuse_inherited(part, place);
        }
    }

    fn refuse_name(&mut self, place: &str, name: &str) {
        let reason = format!("the name `{name}` is one that JavaScript's objects inherit");
        self.refuse(place, reason, "leave this name out of the schema");
    }
}

/// The same value, independent of the file's text.
fn owned(node: &Node<'_>) -> Node<'static> {
    match node {
        Node::Null => Node::Null,
        Node::Bool(truth) => Node::Bool(*truth),
        Node::Number(number) => Node::Number(*number),
        Node::String(text) => Node::String(text.clone().into_owned().into()),
        Node::Array(items) => Node::Array(items.iter().map(owned).collect()),
        Node::Object(members) => Node::Object(
            members
                .iter()
                .map(|(key, value)| (key.clone().into_owned().into(), owned(value)))
                .collect(),
        ),
    }
}
