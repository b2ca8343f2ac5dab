//! The rules of an array.

use super::super::ajv;
use super::super::equal::twins;
use super::super::rules::{ArrayRule, Contains, RulesId};
use super::{Place, Run, Step};
use crate::json::Node;

impl<'s, const COLLECT: bool> Run<'s, COLLECT> {
    pub(super) fn array(
        &mut self,
        rule: &'s ArrayRule,
        items: &[Node<'_>],
        place: &Place<'_>,
    ) -> bool {
        match rule {
            ArrayRule::Count(count) => count.holds(items.len()) || self.fail(&count.words, place),
            ArrayRule::Tuple(tuple) => {
                let mut valid = true;
                for (at, id) in &tuple.schemas {
                    let Some(item) = items.get(*at) else { break };
                    let holds = self.schema(*id, item, &place.to(Step::Item(*at)));
                    self.memory[tuple.memory] = holds;
                    ask!(valid, holds);
                }
                valid
            }
            ArrayRule::Behind(tuple, id) => self.each(*id, items, *tuple, place),
            ArrayRule::Each(id) => self.each(*id, items, 0, place),
            ArrayRule::NoneBehind(tuple, words) => items.len() <= *tuple || self.fail(words, place),
            ArrayRule::Contains(contains) => self.contains(contains, items, place),
            ArrayRule::Unique(kinds, words) => match twins(items, *kinds) {
                None => true,
                Some((i, j)) => {
                    let head = COLLECT.then(|| ajv::twins_head(i, j));
                    self.fail_with(words, head, place)
                }
            },
        }
    }

    /// Whether the rules behind a tuple go unasked: under `not` and `if` Ajv looks at its answer
    /// about the tuple's last item even if there was no such item.
    pub(super) fn stops_behind(&self, rule: &ArrayRule, items: &[Node<'_>]) -> bool {
        match rule {
            ArrayRule::Tuple(tuple) => {
                self.is_lazy
                    && tuple.schemas.last().is_some_and(|(at, _)| *at >= items.len())
                    && !self.memory[tuple.memory]
            }
            ArrayRule::Count(_)
            | ArrayRule::Behind(..)
            | ArrayRule::NoneBehind(..)
            | ArrayRule::Each(_)
            | ArrayRule::Contains(_)
            | ArrayRule::Unique(..) => false,
        }
    }

    fn each(&mut self, id: RulesId, items: &[Node<'_>], from: usize, at: &Place<'_>) -> bool {
        let mut valid = true;
        for (index, item) in items.iter().enumerate().skip(from) {
            ask!(valid, self.schema(id, item, &at.to(Step::Item(index))));
        }
        valid
    }

    #[expect(clippy::cast_precision_loss, reason = "no list here has 2^53 items")]
    fn contains(&mut self, rule: &'s Contains, items: &[Node<'_>], place: &Place<'_>) -> bool {
        if rule.max.is_some_and(|max| rule.min > max) {
            return self.fail(&rule.words, place);
        }
        let before = self.found.len();
        let mut count = 0usize;
        // Ajv keeps the answer about the last item in a variable of the whole function, so that an
        // empty list is answered as the list before it was.
        let mut is_enough = match rule.memory {
            Some(memory) if items.is_empty() => self.memory[memory],
            Some(_) => false,
            None => rule.min <= 0.0,
        };
        for (at, item) in items.iter().enumerate() {
            if self.schema(rule.rules, item, &place.to(Step::Item(at))) {
                count += 1;
                is_enough |= count as f64 >= rule.min;
                if rule.max.is_some_and(|max| count as f64 > max) {
                    return self.fail(&rule.words, place);
                }
                if is_enough && rule.max.is_none() {
                    break;
                }
            }
        }
        if let Some(memory) = rule.memory {
            self.memory[memory] = is_enough;
        }
        if is_enough {
            self.found.truncate(before);
            return true;
        }
        self.fail(&rule.words, place)
    }
}
