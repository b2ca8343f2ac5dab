//! Orders.

use std::collections::HashMap;

use super::price::Line;
use super::{Lint, Place, Warnings, identity, moment};
use crate::clock::Timestamp;
use crate::json::Node;

/// A member of an order that is looked at.
pub(super) struct Member {
    name: &'static str,
    check: Check,
    /// Whether the vendor asks for it, or recommends it; what the schema in force requires is
    /// never missing here.
    is_wanted: bool,
}

#[derive(Clone, Copy)]
enum Check {
    Presence,
    /// A text of the sender's own, with what the vendor's pages show in its place.
    Own(&'static [&'static str]),
    User,
    Session,
    Hash,
    Moment,
    Items,
}

const fn wanted(name: &'static str, check: Check) -> Member {
    Member { name, check, is_wanted: true }
}

const fn free(name: &'static str, check: Check) -> Member {
    Member { name, check, is_wanted: false }
}

/// Members in the vendor's order, which most senders keep. At most 32: they make a bit set.
pub(super) const MEMBERS: &[Member] = &[
    wanted("channel", Check::Own(&["site|msite|app"])),
    free("brand", Check::Own(&[])),
    free("publisher_id", Check::Own(&["xxx"])),
    free("user_id", Check::User),
    wanted("session_id", Check::Session),
    free("order_id", Check::Own(&[])),
    wanted("email_hashed", Check::Hash),
    free("items", Check::Items),
    free("created_at", Check::Moment),
    wanted("is_company", Check::Presence),
    wanted("gender", Check::Presence),
    wanted("uf", Check::Presence),
    wanted("city", Check::Presence),
    wanted("phone_hashed", Check::Hash),
    wanted("social_id_hashed", Check::Hash),
    wanted("first_name_hashed", Check::Hash),
    wanted("last_name_hashed", Check::Hash),
];

/// The bits of what is wanted.
const WANTED: u32 = {
    let (mut bits, mut at) = (0, 0);
    while at < MEMBERS.len() {
        if MEMBERS[at].is_wanted {
            bits |= 1 << at;
        }
        at += 1;
    }
    bits
};

/// Where a top-level member stands; of a name that is not ours, the body. Ad events have no others.
pub(super) fn place(name: &str) -> Place {
    let known = MEMBERS.iter().find(|member| member.name == name);
    known.map_or(Place::Root, |member| Place::Member(member.name))
}

/// The names of members by their bits.
pub(super) fn names(bits: u32) -> impl Iterator<Item = &'static str> {
    let members = MEMBERS.iter().enumerate();
    members.filter(move |(at, _)| bits >> at & 1 == 1).map(|(_, member)| member.name)
}

/// Looks over one order.
pub(super) fn lint(document: &Node<'_>, now: Timestamp, warnings: &mut Warnings) {
    let Node::Object(members) = document else { return };
    let mut missing = WANTED;
    for (name, value) in members {
        let Some(at) = MEMBERS.iter().position(|member| member.name == name) else { continue };
        missing &= !(1 << at);
        member(&MEMBERS[at], value, now, warnings);
    }
    if missing != 0 {
        warnings.add(Lint::RecommendedMissing, Place::Lacking(missing));
    }
}

fn member(member: &Member, value: &Node<'_>, now: Timestamp, warnings: &mut Warnings) {
    if let (Check::Items, Node::Array(items)) = (member.check, value) {
        return lint_items(items, warnings);
    }
    let Some(text) = value.as_str() else { return };
    match member.check {
        Check::Presence | Check::Items => {}
        Check::Own(samples) => {
            identity::own(Place::Member(member.name), text, samples, warnings);
        }
        Check::User => identity::user(text, warnings),
        Check::Session => identity::session(text, warnings),
        Check::Hash => identity::hash(member.name, text, warnings),
        Check::Moment => moment::lint(text, now, warnings),
    }
}

/// Orders of up to this many items are searched for a repeated sku one by one, without memory.
const SEARCHED_IN_LINE: usize = 24;

fn lint_items(items: &[Node<'_>], warnings: &mut Warnings) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (at, item) in items.iter().enumerate() {
        let (sku, line) = read(item);
        if line.promotional > line.price {
            warnings.add(Lint::PromotionalAboveList, Place::Item(at, "promotional_price"));
        }
        let mut total = line.total();
        if let Some(sku) = sku {
            let before = if items.len() <= SEARCHED_IN_LINE {
                items[..at].iter().position(|other| sku_of(other) == Some(sku))
            } else {
                let first = *seen.entry(sku).or_insert(at);
                (first < at).then_some(first)
            };
            identity::own(Place::Item(at, "sku"), sku, &[], warnings);
            if let Some(before) = before {
                warnings.add(Lint::SkuRepeated, Place::Item(at, "sku"));
                let (_, other) = read(&items[before]);
                if other.is_total_beside(&line) {
                    let place = Place::Item(before, "price");
                    warnings.add(Lint::PriceLooksLikeLineTotal, place);
                }
                total = total.or_else(|| line.is_total_beside(&other).then_some("price"));
            }
        }
        if let Some(member) = total {
            warnings.add(Lint::PriceLooksLikeLineTotal, Place::Item(at, member));
        }
    }
}

fn sku_of<'n>(item: &'n Node<'_>) -> Option<&'n str> {
    item.get("sku").and_then(Node::as_str)
}

/// The sku and the numbers of an item; a number that is not there is 0, on which nothing fires.
fn read<'n>(item: &'n Node<'_>) -> (Option<&'n str>, Line) {
    let (mut sku, mut line) = (None, Line::default());
    // A list price that is not there is above every other.
    line.price = f64::INFINITY;
    let Node::Object(members) = item else { return (sku, line) };
    for (name, value) in members {
        match (name.as_ref(), value) {
            ("sku", Node::String(text)) => sku = Some(text.as_ref()),
            ("quantity", Node::Number(number)) => line.quantity = *number,
            ("price", Node::Number(number)) => line.price = *number,
            ("promotional_price", Node::Number(number)) => line.promotional = *number,
            _ => {}
        }
    }
    (sku, line)
}
