//! What columns may become: the members of an order and of its items.

/// What a field's text becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Number,
    YesNo,
    Moment,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Order,
    Item,
}

/// One member that a column can fill.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) place: Place,
    pub(super) shape: Shape,
    /// Without a column or a fixed value for it, no line of the file is an order.
    pub(super) is_needed: bool,
}

const fn order(name: &'static str, shape: Shape) -> Member {
    Member { name, place: Place::Order, shape, is_needed: false }
}

const fn item(name: &'static str, shape: Shape) -> Member {
    Member { name, place: Place::Item, shape, is_needed: false }
}

const fn needed(member: Member) -> Member {
    Member { is_needed: true, ..member }
}

/// In the order in which they are written. The raw spellings of hashed members are for the relay to
/// hash; both it and the schema say who may send them.
pub(super) const MEMBERS: &[Member] = &[
    order("channel", Shape::Text),
    order("brand", Shape::Text),
    needed(order("publisher_id", Shape::Text)),
    order("user_id", Shape::Text),
    order("session_id", Shape::Text),
    needed(order("order_id", Shape::Text)),
    order("email_hashed", Shape::Text),
    order("email", Shape::Text),
    needed(order("created_at", Shape::Moment)),
    order("is_company", Shape::YesNo),
    order("gender", Shape::Text),
    order("uf", Shape::Text),
    order("city", Shape::Text),
    order("phone_hashed", Shape::Text),
    order("phone", Shape::Text),
    order("social_id_hashed", Shape::Text),
    order("social_id", Shape::Text),
    order("first_name_hashed", Shape::Text),
    order("first_name", Shape::Text),
    order("last_name_hashed", Shape::Text),
    order("last_name", Shape::Text),
    needed(item("sku", Shape::Text)),
    item("seller_id", Shape::Text),
    item("product_id", Shape::Text),
    needed(item("quantity", Shape::Number)),
    needed(item("price", Shape::Number)),
    needed(item("promotional_price", Shape::Number)),
];

/// The place in [`MEMBERS`] of a name, as people write it at the head of a column.
pub(super) fn find(name: &str) -> Option<usize> {
    let plain = |c: char| if c == ' ' || c == '-' { '_' } else { c.to_ascii_lowercase() };
    let name: String = name.trim().chars().map(plain).collect();
    MEMBERS.iter().position(|member| member.name == name)
}

/// A member whose name is much like this one.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let near = |member: &&Member| strsim::jaro_winkler(member.name, name) > 0.85;
    MEMBERS.iter().find(near).map(|member| member.name)
}
