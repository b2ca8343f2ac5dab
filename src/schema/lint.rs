//! Warnings about what a schema lets pass and its sender surely did not mean.
//!
//! Never a refusal: whatever fires here was accepted. A lint is pure and cheap, for it runs on
//! every accepted body: nothing is allocated while nothing fires. No word of it holds a value of
//! the body. `docs/LINTS.md` lists every one.

mod ad_event;
mod identity;
mod moment;
mod notification;
mod order;
mod plain;
mod price;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::event::EventKind;
use crate::json::Node;

/// One thing that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lint {
    /// An item costs more on sale than by the list.
    PromotionalAboveList,
    /// A unit price holds what the whole line costs.
    PriceLooksLikeLineTotal,
    /// One order names a product on two lines.
    SkuRepeated,
    /// A hashed member holds no SHA-256 digest.
    HashNotSha256,
    /// A hashed member holds as many digits as MD5 or SHA-1 give.
    HashMd5OrSha1,
    /// A hashed member holds the digest of nothing.
    HashOfEmpty,
    /// A hashed member came with its raw one and is not the raw one's digest.
    HashDiffers,
    /// A tax id's check digits are wrong.
    TaxIdDoubtful,
    /// An id is the advertising id of every device that withholds its own.
    AdvertisingIdAllZero,
    /// An order's time cannot be read.
    CreatedAtUnreadable,
    /// An order's time does not say in which zone.
    CreatedAtWithoutZone,
    /// An order's time lies ahead.
    CreatedAtInFuture,
    /// An order is too old to be attributed.
    CreatedAtTooOld,
    /// A client's own clock cannot be read, or is far from ours.
    SentAtUnusable,
    /// A value was copied from the vendor's pages, or a template was not filled in.
    PlaceholderValue,
    /// A text that stands for someone or something holds nothing but white space, if that.
    BlankValue,
    /// An ad event does not say whose session it was.
    SessionIdMissing,
    /// An ad event does not say who the customer is.
    UserIdMissing,
    /// A customer's id is a number, as a tax id or a phone is.
    UserIdBareDigits,
    /// A person is named where nobody hashes them.
    PlainIdentity,
    /// An order leaves out what the vendor recommends.
    RecommendedMissing,
    /// A partner's template was sent without a value for one of its macros.
    UnresolvedMacro,
    /// A partner sent a test.
    TestValue,
}

impl Lint {
    /// Every lint, in the order of the answers' header.
    pub const ALL: [Self; 23] = [
        Self::PromotionalAboveList,
        Self::PriceLooksLikeLineTotal,
        Self::SkuRepeated,
        Self::HashNotSha256,
        Self::HashMd5OrSha1,
        Self::HashOfEmpty,
        Self::HashDiffers,
        Self::TaxIdDoubtful,
        Self::AdvertisingIdAllZero,
        Self::CreatedAtUnreadable,
        Self::CreatedAtWithoutZone,
        Self::CreatedAtInFuture,
        Self::CreatedAtTooOld,
        Self::SentAtUnusable,
        Self::PlaceholderValue,
        Self::BlankValue,
        Self::SessionIdMissing,
        Self::UserIdMissing,
        Self::UserIdBareDigits,
        Self::PlainIdentity,
        Self::RecommendedMissing,
        Self::UnresolvedMacro,
        Self::TestValue,
    ];

    /// The stable name for answers, metrics and documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PromotionalAboveList => "promotional_above_list",
            Self::PriceLooksLikeLineTotal => "price_looks_like_line_total",
            Self::SkuRepeated => "sku_repeated",
            Self::HashNotSha256 => "hash_not_sha256",
            Self::HashMd5OrSha1 => "hash_md5_or_sha1",
            Self::HashOfEmpty => "hash_of_empty",
            Self::HashDiffers => "hash_differs",
            Self::TaxIdDoubtful => "tax_id_doubtful",
            Self::AdvertisingIdAllZero => "advertising_id_all_zero",
            Self::CreatedAtUnreadable => "created_at_unreadable",
            Self::CreatedAtWithoutZone => "created_at_without_zone",
            Self::CreatedAtInFuture => "created_at_in_future",
            Self::CreatedAtTooOld => "created_at_too_old",
            Self::SentAtUnusable => "sent_at_unusable",
            Self::PlaceholderValue => "placeholder_value",
            Self::BlankValue => "blank_value",
            Self::SessionIdMissing => "session_id_missing",
            Self::UserIdMissing => "user_id_missing",
            Self::UserIdBareDigits => "user_id_bare_digits",
            Self::PlainIdentity => "plain_identity",
            Self::RecommendedMissing => "recommended_missing",
            Self::UnresolvedMacro => "unresolved_macro",
            Self::TestValue => "test_value",
        }
    }

    /// One sentence for whoever mends it.
    const fn message(self) -> &'static str {
        match self {
            Self::PromotionalAboveList => "the promotional price is above the list price",
            Self::PriceLooksLikeLineTotal => {
                "the price looks multiplied by the quantity: it is that of one unit"
            }
            Self::SkuRepeated => "an item before has the same sku: join them by their quantity",
            Self::HashNotSha256 => "a SHA-256 digest is 64 hexadecimal digits, which this is not",
            Self::HashMd5OrSha1 => "this has the length of MD5 or SHA-1: SHA-256 is asked for",
            Self::HashOfEmpty => "this is the digest of the empty text: nothing was hashed",
            Self::HashDiffers => {
                "the sender's digest is another than that of the raw value, which took its place"
            }
            Self::TaxIdDoubtful => "the check digits of this tax id are wrong",
            Self::AdvertisingIdAllZero => {
                "every device that withholds its advertising id has this one: use an id of your own"
            }
            Self::CreatedAtUnreadable => "this is no ISO 8601 date and time",
            Self::CreatedAtWithoutZone => "the time has no zone and is read as UTC: end it with Z",
            Self::CreatedAtInFuture => "the time lies ahead: look at the clock and at the zone",
            Self::CreatedAtTooOld => "the order is older than any attribution window",
            Self::SentAtUnusable => {
                "X-Sent-At is no time or over a day from the relay's clock, and was passed over"
            }
            Self::PlaceholderValue => {
                "this is a sample value of the documentation or an unfilled template"
            }
            Self::BlankValue => "this is blank: fill it in, or leave it out",
            Self::SessionIdMissing => "session_id is neither in the body nor in the URL",
            Self::UserIdMissing => "user_id is neither in the body nor in the URL",
            Self::UserIdBareDigits => "a bare number may be a tax id or a phone: never send those",
            Self::PlainIdentity => {
                "an e-mail, tax id or phone stands where nothing is hashed, and was kept and sent on"
            }
            Self::RecommendedMissing => "recommended members are missing",
            Self::UnresolvedMacro => "a macro of the partner's template was sent as it is written",
            Self::TestValue => "a value that only the partner's tests have",
        }
    }
}

/// Places that are kept of one lint in one body: nobody mends more at a time, and an answer stays
/// small whatever the body.
pub const PLACES_MAX: usize = 16;

/// One lint that fired, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    lint: Lint,
    place: Place,
}

/// Where in a body, in words of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The body itself, or its URL.
    Root,
    /// The body itself, which lacks these of [`order::MEMBERS`].
    Lacking(u32),
    Member(&'static str),
    /// A member that the configuration names, in letters that neither JSON nor a pointer escapes.
    Configured(Arc<str>),
    Item(usize, &'static str),
}

impl Warning {
    /// What fired.
    #[must_use]
    pub const fn lint(&self) -> Lint {
        self.lint
    }

    /// A JSON Pointer to the value; empty for what is missing, or stands in the URL.
    #[must_use]
    pub fn instance_path(&self) -> String {
        match &self.place {
            Place::Root | Place::Lacking(_) => String::new(),
            Place::Member(member) => format!("/{member}"),
            Place::Configured(member) => format!("/{member}"),
            Place::Item(at, member) => format!("/items/{at}/{member}"),
        }
    }

    /// One sentence, without any value.
    #[must_use]
    pub fn message(&self) -> Cow<'static, str> {
        let sentence = self.lint.message();
        match self.place {
            Place::Lacking(members) => {
                let names: Vec<&str> = order::names(members).collect();
                format!("{sentence}: {}", names.join(", ")).into()
            }
            Place::Root | Place::Member(_) | Place::Configured(_) | Place::Item(..) => {
                sentence.into()
            }
        }
    }
}

/// What fired on one body; empty most of the time, and then without memory of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings {
    found: Vec<Warning>,
    fired: [u8; Lint::ALL.len()],
}

impl Warnings {
    /// Whether nothing fired.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The warnings, at most [`PLACES_MAX`] of a lint.
    pub fn iter(&self) -> impl Iterator<Item = &Warning> {
        self.found.iter()
    }

    /// Each lint that fired, once, in the order of [`Lint::ALL`].
    pub fn lints(&self) -> impl Iterator<Item = Lint> {
        let fired = Lint::ALL.into_iter().zip(self.fired);
        fired.filter(|(_, places)| *places > 0).map(|(lint, _)| lint)
    }

    /// A JSON array of objects with `name`, `instancePath` and `message`, compact.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(2 + 160 * self.found.len());
        out.push('[');
        for (at, warning) in self.found.iter().enumerate() {
            // Every word is ours and holds nothing that JSON would escape.
            let separator = if at == 0 { "" } else { "," };
            let written = write!(
                out,
                "{separator}{{\"name\":\"{}\",\"instancePath\":\"{}\",\"message\":\"{}\"}}",
                warning.lint.as_str(),
                warning.instance_path(),
                warning.message()
            );
            debug_assert!(written.is_ok(), "a string takes every write");
        }
        out.push(']');
        out
    }

    /// Adds a warning about the request itself.
    pub fn of_request(&mut self, lint: Lint) {
        self.add(lint, Place::Root);
    }

    /// Adds a warning about a top-level member that the configuration names.
    pub fn of_member(&mut self, lint: Lint, member: &Arc<str>) {
        self.add(lint, Place::Configured(Arc::clone(member)));
    }

    /// Adds a warning, unless it is there or its lint fired often enough.
    fn add(&mut self, lint: Lint, place: Place) {
        let (fired, warning) = (&mut self.fired[lint as usize], Warning { lint, place });
        if usize::from(*fired) < PLACES_MAX && !self.found.contains(&warning) {
            *fired += 1;
            self.found.push(warning);
        }
    }
}

/// Looks over a body that its schema has passed; `target` is its path and query.
#[must_use]
pub fn lint(kind: EventKind, document: &Node<'_>, target: &str, now: Timestamp) -> Warnings {
    let mut warnings = Warnings::default();
    match kind {
        EventKind::Conversion => {
            order::lint(document, now, &mut warnings);
            plain::lint(document, &mut warnings);
        }
        EventKind::Impression | EventKind::View | EventKind::Click => {
            ad_event::lint(document, target, &mut warnings);
            plain::lint(document, &mut warnings);
        }
        EventKind::Notification => notification::lint(document, &mut warnings),
    }
    warnings
}

#[cfg(test)]
mod tests;
