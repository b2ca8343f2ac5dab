//! Bounds how deep schemas may ask the same value, one within another.

use super::super::rules::RulesId;
use super::Compiler;

/// The longest chain of schemas that ask the same value.
///
/// With 64 levels of a body this bounds the stack: a debug build needs 1.1 MiB of the 2 MiB that a
/// worker has; the test `the_deepest_body_leaves_a_quarter_of_the_stack` holds it below 1.5.
pub(in super::super) const CHAIN_MAX: u32 = 16;

impl Compiler<'_> {
    /// Refuses references that come back without having gone into the body.
    pub(super) fn refuse_endless_chains(&mut self) {
        let mut longest = vec![None; self.rules.len()];
        let mut above = Vec::new();
        for id in 0..self.rules.len() {
            if let Err(Endless { at, is_circle }) = self.chain(id, &mut above, &mut longest) {
                above.clear();
                let place = self.places[at].clone();
                if is_circle {
                    let reason = "a reference that comes back to itself on the same value";
                    self.refuse(&place, reason, "put it below properties or items");
                } else {
                    let reason = format!("more than {CHAIN_MAX} schemas ask the same value");
                    self.refuse(&place, reason, "nest fewer allOf, anyOf, $ref into each other");
                }
            }
        }
    }

    /// The length of the longest chain that starts at `id`.
    fn chain(
        &self,
        id: RulesId,
        above: &mut Vec<RulesId>,
        longest: &mut [Option<u32>],
    ) -> Result<u32, Endless> {
        let is_circle = above.contains(&id);
        if is_circle || above.len() > CHAIN_MAX as usize {
            longest[id] = Some(0);
            return Err(Endless { at: id, is_circle });
        }
        if let Some(length) = longest[id] {
            return Ok(length);
        }
        above.push(id);
        let mut length = 0;
        for next in self.rules[id].same_value() {
            length = length.max(1 + self.chain(next, above, longest)?);
        }
        above.pop();
        longest[id] = Some(length);
        if length > CHAIN_MAX { Err(Endless { at: id, is_circle: false }) } else { Ok(length) }
    }
}

struct Endless {
    at: RulesId,
    is_circle: bool,
}
