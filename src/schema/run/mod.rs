//! Runs compiled rules over a body, for the verdict alone or for every violation.
//!
//! No step of it may fail but by finding a violation, and none may go deeper than the body does
//! times the bound that `compile` keeps.

use std::sync::Arc;

use super::ajv::{self, Words};
use super::compile::Compiled;
use super::equal::is_equal;
use super::rules::{AnyRule, Choice, Kind, NumberRule, Rules, RulesId, StringRule};
use super::violations::Violations;
use crate::json::Node;

use object::Object;

/// Goes on to the next rule, or returns when the verdict is all that is asked for.
macro_rules! ask {
    ($valid:ident, $answer:expr) => {
        if !$answer {
            if !COLLECT {
                return false;
            }
            $valid = false;
        }
    };
}

mod array;
mod object;

/// Schemas within one another: 64 levels of a body and the value at their end, times the longest
/// chain of schemas that ask the same value. Bounds the stack, whatever the body.
const DEEP_MAX: u32 = 65 * (super::compile::CHAIN_MAX + 1);

/// Calls of recursive schemas in one check. Alternatives that call the same schema twice at each
/// level would take for ever.
const CALLS_MAX: u32 = 1_000_000;

/// A place in the body, known as the way back to its root.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    step: Step<'p>,
    /// The member's name that is being checked by `propertyNames`.
    name: Option<&'p str>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Here,
    Member(&'p str),
    Item(usize),
}

impl<'p> Place<'p> {
    const ROOT: Place<'static> = Place { parent: None, step: Step::Here, name: None };

    fn to(&'p self, step: Step<'p>) -> Place<'p> {
        Place { parent: Some(self), step, name: self.name }
    }

    fn write(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(out);
        }
        match self.step {
            Step::Here => {}
            Step::Member(name) => ajv::write_step(out, name),
            Step::Item(at) => {
                out.push('/');
                out.push_str(&at.to_string());
            }
        }
    }
}

/// Checks a value; `Err` when the schema calls itself too often.
pub(super) fn run<const COLLECT: bool>(
    compiled: &Compiled,
    value: &Node<'_>,
) -> Result<(bool, Violations), TooManyCalls> {
    let mut run = Run::<COLLECT> {
        rules: &compiled.rules,
        found: Violations::default(),
        memory: vec![false; compiled.memories],
        is_lazy: false,
        deep: 0,
        calls: 0,
        is_over: false,
    };
    let valid = run.schema(compiled.root, value, &Place::ROOT);
    if run.is_over { Err(TooManyCalls) } else { Ok((valid, run.found)) }
}

/// The schema called itself more often than [`CALLS_MAX`], or deeper than [`DEEP_MAX`], allows.
pub(super) struct TooManyCalls;

struct Run<'s, const COLLECT: bool> {
    rules: &'s [Rules],
    found: Violations,
    /// Answers that rules leave behind, for as long as Ajv's function runs.
    memory: Vec<bool>,
    /// Whether this is within a `not` or an `if`, where Ajv stops at the first error.
    is_lazy: bool,
    deep: u32,
    calls: u32,
    is_over: bool,
}

impl<'s, const COLLECT: bool> Run<'s, COLLECT> {
    fn fail(&mut self, words: &Arc<Words>, place: &Place<'_>) -> bool {
        self.fail_with(words, None, place)
    }

    fn fail_with(&mut self, words: &Arc<Words>, head: Option<Box<str>>, at: &Place<'_>) -> bool {
        if COLLECT {
            self.found.add(words, head, at.name, |out| at.write(out));
        }
        false
    }

    #[inline(always)]
    fn schema(&mut self, id: RulesId, value: &Node<'_>, place: &Place<'_>) -> bool {
        if self.deep == DEEP_MAX {
            self.is_over = true;
            return false;
        }
        self.deep += 1;
        let valid = self.all(&self.rules[id], value, place);
        self.deep -= 1;
        valid
    }

    fn all(&mut self, rules: &'s Rules, value: &Node<'_>, place: &Place<'_>) -> bool {
        if let Some(words) = &rules.never {
            return self.fail(words, place);
        }
        let mut valid = true;
        if let Some((kinds, words)) = &rules.kinds {
            ask!(valid, kinds.hold(value) || self.fail(words, place));
        }
        for rule in &rules.any {
            ask!(valid, self.any(rule, value, place));
        }
        let kind = Kind::of(value);
        let wrong = rules.deferred.as_ref().filter(|(asked, _)| *asked != kind);
        if let Some((asked, words)) = wrong {
            ask!(valid, *asked > kind || self.fail(words, place));
        }
        ask!(valid, self.group(rules, value, place));
        if let Some((asked, words)) = wrong {
            ask!(valid, *asked < kind || self.fail(words, place));
        }
        valid
    }

    /// The keywords of the value's own type.
    fn group(&mut self, rules: &'s Rules, value: &Node<'_>, place: &Place<'_>) -> bool {
        let mut valid = true;
        match value {
            Node::Null | Node::Bool(_) => {}
            Node::Number(number) => {
                for rule in &rules.number {
                    let (holds, words) = match rule {
                        NumberRule::Limit(comparison, limit, words) => {
                            (comparison.holds(*number, *limit), words)
                        }
                        NumberRule::MultipleOf(unit, words) => {
                            let times = number / unit;
                            // Ajv parses the quotient's text, which above this is `1e+21`.
                            (times.fract() == 0.0 && times.abs() < 1e21, words)
                        }
                    };
                    ask!(valid, holds || self.fail(words, place));
                }
            }
            Node::String(text) => {
                for rule in &rules.string {
                    let (holds, words) = match rule {
                        StringRule::Length(count) => (count.holds_for(text), &count.words),
                        StringRule::Pattern(pattern, words) => (pattern.is_in(text), words),
                        StringRule::Format(format, words) => (format.holds(text), words),
                    };
                    ask!(valid, holds || self.fail(words, place));
                }
            }
            Node::Array(items) => {
                for rule in &rules.array {
                    ask!(valid, self.array(rule, items, place));
                    if self.stops_behind(rule, items) {
                        break;
                    }
                }
            }
            Node::Object(members) => {
                if let Some(rules) = &rules.object {
                    let object = Object { value, members, place };
                    ask!(valid, self.object(rules, object));
                }
            }
        }
        valid
    }

    fn any(&mut self, rule: &'s AnyRule, value: &Node<'_>, place: &Place<'_>) -> bool {
        match rule {
            AnyRule::Inline(id) => self.schema(*id, value, place),
            AnyRule::Call(id) => self.call(*id, value, place),
            AnyRule::OneOfValues(values, words) => {
                values.iter().any(|one| is_equal(one, value)) || self.fail(words, place)
            }
            AnyRule::Not(id, words) => !self.is_valid(*id, value, place) || self.fail(words, place),
            AnyRule::AnyOf(branches, words) => {
                let before = self.found.len();
                for id in branches {
                    if self.schema(*id, value, place) {
                        self.found.truncate(before);
                        return true;
                    }
                }
                self.fail(words, place)
            }
            AnyRule::OneOf(branches, words) => self.one_of(branches, words, value, place),
            AnyRule::AllOf(branches) => {
                let mut valid = true;
                for id in branches {
                    ask!(valid, self.schema(*id, value, place));
                }
                valid
            }
            AnyRule::If(choice) => {
                let Choice { condition, then, otherwise } = &**choice;
                let holds = self.is_valid(*condition, value, place);
                let (id, words) = if holds { then } else { otherwise };
                self.schema(*id, value, place) || self.fail(words, place)
            }
        }
    }

    /// A schema that calls itself, or is called by one that does.
    fn call(&mut self, id: RulesId, value: &Node<'_>, place: &Place<'_>) -> bool {
        self.calls += 1;
        self.is_over |= self.calls > CALLS_MAX;
        if self.is_over {
            return false;
        }
        // To Ajv this is the call of a function: it is not told the name that `propertyNames` is
        // about, remembers nothing yet, and finds all errors.
        let unnamed = Place { name: None, ..*place };
        let blank = vec![false; self.memory.len()];
        let memory = std::mem::replace(&mut self.memory, blank);
        let is_lazy = std::mem::replace(&mut self.is_lazy, false);
        let valid = self.schema(id, value, &unnamed);
        (self.memory, self.is_lazy) = (memory, is_lazy);
        valid
    }

    /// The verdict of a schema whose violations are never shown.
    fn is_valid(&mut self, id: RulesId, value: &Node<'_>, place: &Place<'_>) -> bool {
        let mut quiet = Run::<'s, false> {
            rules: self.rules,
            found: Violations::default(),
            memory: std::mem::take(&mut self.memory),
            is_lazy: true,
            deep: self.deep,
            calls: self.calls,
            is_over: self.is_over,
        };
        let valid = quiet.schema(id, value, place);
        (self.memory, self.calls, self.is_over) = (quiet.memory, quiet.calls, quiet.is_over);
        valid
    }

    fn one_of(
        &mut self,
        branches: &[RulesId],
        words: &Arc<Words>,
        value: &Node<'_>,
        place: &Place<'_>,
    ) -> bool {
        let before = self.found.len();
        let mut passing = None;
        for (at, id) in branches.iter().enumerate() {
            if self.schema(*id, value, place) {
                if let Some(first) = passing {
                    let params = format!("{{\"passingSchemas\":[{first},{at}]}}");
                    let head = COLLECT.then(|| ajv::head("oneOf", ajv::ONE_OF, &params));
                    return self.fail_with(words, head, place);
                }
                passing = Some(at);
            }
        }
        if passing.is_some() {
            self.found.truncate(before);
            return true;
        }
        self.fail(words, place)
    }
}
