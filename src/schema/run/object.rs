//! The rules of an object.

use std::borrow::Cow;

use super::super::ajv;
use super::super::rules::{ObjectRule, ObjectRules};
use super::{Place, Run, Step};
use crate::json::Node;

/// Names whose members are found on the stack.
const SLOTS_ON_STACK: usize = 32;

type Member<'v> = (Cow<'v, str>, Node<'v>);

/// An object of the body.
#[derive(Clone, Copy)]
pub(super) struct Object<'o> {
    pub(super) value: &'o Node<'o>,
    pub(super) members: &'o [Member<'o>],
    pub(super) place: &'o Place<'o>,
}

impl<'o> Object<'o> {
    /// Members as JavaScript walks them. The order is of no account to the verdict.
    fn walk<const COLLECT: bool>(self) -> impl Iterator<Item = &'o Member<'o>> {
        let order = if COLLECT { ajv::js_order(self.members) } else { None };
        (0..self.members.len())
            .map(move |n| &self.members[order.as_ref().map_or(n, |order| order[n])])
    }
}

impl<'s, const COLLECT: bool> Run<'s, COLLECT> {
    pub(super) fn object(&mut self, rules: &'s ObjectRules, object: Object<'_>) -> bool {
        if !COLLECT && rules.is_plain && !self.is_lazy {
            return self.plain_object(rules, object);
        }
        let names = rules.names.len();
        let mut on_stack = [None; SLOTS_ON_STACK];
        let mut on_heap = Vec::new();
        let slots = match on_stack.get_mut(..names) {
            Some(slots) => slots,
            None => {
                on_heap.resize(names, None);
                &mut on_heap[..]
            }
        };
        for (key, value) in object.members {
            if let Some(slot) = rules.names.find(key) {
                slots[slot] = Some(value);
            }
        }
        let mut valid = true;
        for rule in &rules.rules {
            ask!(valid, self.object_rule(rule, rules, object, slots));
        }
        valid
    }

    /// An object whose rules are `required` and `properties` alone: one pass over its members.
    fn plain_object(&mut self, rules: &'s ObjectRules, object: Object<'_>) -> bool {
        let mut missing = rules.required;
        for (key, value) in object.members {
            if let Some(slot) = rules.names.find(key) {
                missing &= !(1 << slot);
                if let Some(id) = rules.properties[slot]
                    && !self.schema(id, value, object.place)
                {
                    return false;
                }
            }
        }
        missing == 0
    }

    /// Under `not` and `if` Ajv asks whether the name of a missing member is true, and the empty
    /// name is not.
    fn overlooks(&self, rules: &ObjectRules, slot: usize) -> bool {
        self.is_lazy && rules.names.name(slot).is_empty()
    }

    fn object_rule(
        &mut self,
        rule: &'s ObjectRule,
        rules: &'s ObjectRules,
        object: Object<'_>,
        slots: &[Option<&Node<'_>>],
    ) -> bool {
        let Object { value, members, place } = object;
        let mut valid = true;
        match rule {
            ObjectRule::Count(count) => {
                ask!(valid, count.holds(members.len()) || self.fail(&count.words, place));
            }
            ObjectRule::Required(names) => {
                for (slot, words) in names {
                    let is_there = slots[*slot].is_some() || self.overlooks(rules, *slot);
                    ask!(valid, is_there || self.fail(words, place));
                }
            }
            ObjectRule::Properties(properties) => {
                for (slot, id) in properties {
                    if let Some(value) = slots[*slot] {
                        let step = Step::Member(rules.names.name(*slot));
                        ask!(valid, self.schema(*id, value, &place.to(step)));
                    }
                }
            }
            ObjectRule::NameDependencies(dependencies) => {
                for (_, names) in dependencies.iter().filter(|(slot, _)| slots[*slot].is_some()) {
                    for (slot, words) in names {
                        let is_there = slots[*slot].is_some() || self.overlooks(rules, *slot);
                        ask!(valid, is_there || self.fail(words, place));
                    }
                }
            }
            ObjectRule::SchemaDependencies(dependencies) => {
                for (_, id) in dependencies.iter().filter(|(slot, _)| slots[*slot].is_some()) {
                    ask!(valid, self.schema(*id, value, place));
                }
            }
            ObjectRule::Names(id, words) => {
                for (key, _) in object.walk::<COLLECT>() {
                    let name = Node::String(Cow::Borrowed(key));
                    let named = Place { name: Some(key), ..*place };
                    if !self.schema(*id, &name, &named) {
                        // The error itself stands beside the object, not beside the name.
                        let head = COLLECT.then(|| ajv::name_head(key));
                        ask!(valid, self.fail_with(words, head, place));
                    }
                }
            }
            ObjectRule::Additional(additional) => {
                for (key, value) in object.walk::<COLLECT>() {
                    let is_property =
                        rules.names.find(key).is_some_and(|slot| rules.properties[slot].is_some());
                    if is_property || additional.but.iter().any(|pattern| pattern.is_in(key)) {
                        continue;
                    }
                    if let Some(id) = additional.rules {
                        ask!(valid, self.schema(id, value, &place.to(Step::Member(key))));
                    } else {
                        let head = COLLECT.then(|| ajv::additional_head(key));
                        ask!(valid, self.fail_with(&additional.words, head, place));
                    }
                }
            }
            ObjectRule::Patterns(patterns) => {
                for (pattern, id) in patterns {
                    for (key, value) in object.walk::<COLLECT>() {
                        if pattern.is_in(key) {
                            ask!(valid, self.schema(*id, value, &place.to(Step::Member(key))));
                        }
                    }
                }
            }
        }
        valid
    }
}
