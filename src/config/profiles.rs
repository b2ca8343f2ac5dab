//! `[pii.NAME]` tables: which members name a person, and how each is normalised and hashed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reader::Reader;
use crate::json::Node;
use crate::pii::normalize::{Case, Form, InnerSpaces, Letters, Name, Region, TaxId};
use crate::pii::{Profile, Rule};
use crate::schema::Schema;

/// The profiles by their names; nothing in place of one with a fault, which is noted.
pub(super) type Profiles = BTreeMap<String, Option<Arc<Profile>>>;

/// Reads every profile of the configuration.
pub(super) fn read_all(root: &Reader<'_>) -> Profiles {
    let read = |(name, reader): (&str, Reader<'_>)| {
        let profile = read(name, &reader);
        reader.finish();
        (name.to_owned(), profile.map(Arc::new))
    };
    root.named_tables("pii").into_iter().map(read).collect()
}

/// What the vendor's documents contradict each other on.
struct Choices {
    email: InnerSpaces,
    phone: Region,
    tax_id: TaxId,
    name: Name,
}

fn read(name: &str, reader: &Reader<'_>) -> Option<Profile> {
    let choices = choices(reader);
    if reader.item("rules").is_none() {
        let remedy = r#"write rules = [{ from = "/email", to = "/email_hashed", as = "email" }]"#;
        reader.missing("rules", remedy);
    }
    let mut rules: Vec<Rule> = Vec::new();
    for inner in reader.tables("rules") {
        let member = |key| {
            if inner.item(key).is_none() {
                inner.missing(key, r#"write it as "/email""#);
            }
            inner.parsed(key, member)
        };
        let (from, to) = (member("from"), member("to"));
        let forms = [
            Form::Email(choices.email),
            Form::Phone(choices.phone),
            Form::TaxId(choices.tax_id),
            Form::Name(choices.name),
        ];
        let form = inner.choice("as", &forms.map(|form| (form.as_str(), form)));
        if inner.item("as").is_none() {
            inner.missing("as", format!("write one of {}", forms.map(Form::as_str).join(", ")));
        }
        if let (Some(from), Some(to), Some(form)) = (from, to, form) {
            let taken = |member: &Arc<str>| {
                rules.iter().any(|one| one.from == *member || one.to == *member)
            };
            if from == to || taken(&from) || taken(&to) {
                inner.fault(
                    "from",
                    "or `to` is named twice in this profile",
                    "name each member once",
                );
            }
            rules.push(Rule { from, to, form });
        }
        inner.finish();
    }
    Some(Profile { name: name.to_owned(), rules })
}

fn choices(reader: &Reader<'_>) -> Choices {
    let single_or_removed = [("single", InnerSpaces::Single), ("removed", InnerSpaces::Removed)];
    let refused_or_removed = [("refused", InnerSpaces::Single), ("removed", InnerSpaces::Removed)];
    let cases = [("lower", Case::Lower), ("upper", Case::Upper), ("kept", Case::Kept)];
    let letters = [("kept", Letters::Kept), ("dropped", Letters::Dropped)];
    let region = reader.parsed("phone_region", |text| {
        Region::of(text).ok_or(r#"is no region with a numbering plan: write a code as "BR""#)
    });
    Choices {
        email: reader.choice("email_spaces", &refused_or_removed).unwrap_or(InnerSpaces::Single),
        phone: region.unwrap_or(Region::BRAZIL),
        tax_id: TaxId {
            letters: reader.choice("tax_id_letters", &letters).unwrap_or(Letters::Kept),
            case: reader.choice("tax_id_case", &cases[..2]).unwrap_or(Case::Lower),
        },
        name: Name {
            spaces: reader.choice("name_spaces", &single_or_removed).unwrap_or(InnerSpaces::Single),
            case: reader.choice("name_case", &cases).unwrap_or(Case::Lower),
        },
    }
}

/// A top-level member in letters that need no escape anywhere.
fn member(pointer: &str) -> Result<Arc<str>, &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let name = pointer
        .strip_prefix('/')
        .filter(|name| (1..=64).contains(&name.len()) && name.chars().all(fits));
    name.map(Into::into).ok_or(r#"is no top-level member: write a slash and its name, as "/email""#)
}

/// The profile of a source, whose schema must take what the profile writes.
pub(super) fn of_source(
    reader: &Reader<'_>,
    profiles: &Profiles,
    schema: Option<&Schema>,
) -> Option<Arc<Profile>> {
    if reader.is_off("pii") {
        return None;
    }
    let name = reader.text("pii")?;
    let Some(profile) = profiles.get(name) else {
        let names: Vec<&str> = profiles.keys().map(String::as_str).collect();
        let remedy = format!("add a [pii.{name}] table, or use one of: {}", names.join(", "));
        reader.fault("pii", format!("names {name:?}, which is no profile"), remedy);
        return None;
    };
    let profile = profile.clone()?;
    for rule in profile.rules.iter().filter(|rule| schema.is_some_and(|one| forbids(one, &rule.to)))
    {
        let what = format!("writes a digest to /{}, which the schema forbids", rule.to);
        reader.fault(
            "pii",
            what,
            "let the schema take 64 hexadecimal digits there, or drop the rule",
        );
    }
    Some(profile)
}

/// Whether a schema finds fault with a digest in `member`.
fn forbids(schema: &Schema, member: &str) -> bool {
    finds_fault(schema, member, &"0a".repeat(32))
}

/// Whether a schema finds fault with the top-level `member` when it holds `text`.
pub(super) fn finds_fault(schema: &Schema, member: &str, text: &str) -> bool {
    let document = Node::Object(vec![(member.into(), Node::String(text.into()))]);
    let path = format!("/{member}");
    schema.check(&document).iter().any(|violation| violation.instance_path() == path)
}
