//! One order as its lines come: members that each line repeats, and an item a line.

use bytes::Bytes;

use super::members::MEMBERS;
use super::order::{Fault, ORDER_BYTES_MAX, Wrong};

/// Fields of one order that are told: whoever has as many wrong mends the file, not the field.
const FAULTS_MAX: usize = 1000;

/// An order as its lines come.
#[derive(Default)]
pub(super) struct Gathered {
    members: Vec<(usize, String)>,
    items: Vec<String>,
    bytes: usize,
    faults: Vec<Fault>,
}

impl Gathered {
    /// Notes a field that cannot be read.
    pub(super) fn fault(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    /// Takes what a line says of a member of the order.
    ///
    /// # Errors
    /// A message: an earlier line says something else.
    pub(super) fn member(&mut self, at: usize, value: String) -> Result<(), &'static str> {
        match self.members.iter().find(|(known, _)| *known == at) {
            None => self.members.push((at, value)),
            Some((_, first)) if *first == value => {}
            Some(_) => return Err("differs from an earlier line of the same order"),
        }
        Ok(())
    }

    /// Takes a line's item.
    pub(super) fn item(&mut self, item: Vec<(&'static str, String)>) {
        self.bytes += item.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
        if self.bytes <= ORDER_BYTES_MAX {
            self.items.push(object(item.into_iter()));
        }
    }

    /// The order.
    pub(super) fn finish(mut self) -> Result<Bytes, Wrong> {
        if !self.faults.is_empty() {
            return Err(Wrong::Fields(self.faults));
        }
        let items = format!("[{}]", self.items.join(","));
        self.members.sort_unstable_by_key(|(at, _)| *at);
        let members = self.members.into_iter().map(|(at, value)| (MEMBERS[at].name, value));
        let body = object(members.chain([("items", items)]));
        if self.bytes.max(body.len()) > ORDER_BYTES_MAX {
            return Err(Wrong::TooLarge);
        }
        Ok(body.into())
    }
}

fn object(members: impl Iterator<Item = (&'static str, String)>) -> String {
    let members: Vec<String> = members.map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}
