//! Which members of a body name a person, and the digest that each becomes.

use std::sync::Arc;

use bytes::Bytes;

use super::digest::sha256_hex;
use super::normalize::{Form, Normal};
use crate::json::Node;
use crate::json::edit::{Edits, Span, spans};
use crate::schema::Violations;
use crate::schema::lint::{Lint, Warnings};

/// The rules of one kind of body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name in the configuration.
    pub name: String,
    /// One for each member that names a person; no member is named twice.
    pub rules: Vec<Rule>,
}

/// What becomes of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The top-level member that holds raw identity.
    pub from: Arc<str>,
    /// The top-level member that its digest goes to.
    pub to: Arc<str>,
    /// How it is normalised before.
    pub form: Form,
}

/// What a body became.
#[derive(Debug)]
pub struct Scrub {
    /// The text without raw identity; every other byte is as it came.
    pub body: Bytes,
    /// Values that have no normal form. In their place stands [`NO_DIGEST`], so that the schema
    /// tells only what else is wrong.
    faults: Vec<(Arc<str>, Fault)>,
    /// What the sender may not have meant.
    warnings: Vec<(Lint, Arc<str>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    NoText,
    NoForm(Form),
}

/// The digest of nothing at all, for a body that is refused anyway.
const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl Profile {
    /// Turns every raw member of `document`, which was read of `text`, into its digest. Nothing
    /// when there is none.
    ///
    /// Where the digest's member is there too, ours takes its place; else it stands where the raw
    /// one stood.
    #[must_use]
    pub fn scrub(&self, text: &Bytes, document: &Node<'_>) -> Option<Scrub> {
        let Node::Object(members) = document else { return None };
        let place = |name: &str| members.iter().position(|(member, _)| member == name);
        let raw: Vec<(&Rule, usize)> =
            self.rules.iter().filter_map(|rule| Some((rule, place(&rule.from)?))).collect();
        if raw.is_empty() {
            return None;
        }
        let spans = spans(text, 0);
        debug_assert_eq!(spans.len(), members.len(), "two readings of one text");
        let mut edits = Edits::of(text);
        let (mut faults, mut warnings, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (rule, at) in raw {
            let digest = match normal(rule.form, &members.get(at)?.1) {
                Ok(Normal { text, doubtful }) => {
                    if doubtful {
                        warnings.push((Lint::TaxIdDoubtful, Arc::clone(&rule.to)));
                    }
                    sha256_hex(&text)
                }
                Err(fault) => {
                    faults.push((Arc::clone(&rule.from), fault));
                    NO_DIGEST.to_owned()
                }
            };
            match place(&rule.to) {
                Some(own) => {
                    if differs(&members.get(own)?.1, &digest) {
                        warnings.push((Lint::HashDiffers, Arc::clone(&rule.to)));
                    }
                    edits.replace(spans.get(own)?.value.clone(), format!("\"{digest}\""));
                    gone.push(at);
                }
                None => {
                    let Span { name, value } = spans.get(at)?;
                    edits.replace(name.clone(), format!("\"{}\"", rule.to));
                    edits.replace(value.clone(), format!("\"{digest}\""));
                }
            }
        }
        edits.remove(&spans, |at| gone.contains(&at));
        Some(Scrub { body: edits.apply(), faults, warnings })
    }

    /// Adds a violation for each raw member of `document`, of which `violations` tell already: the
    /// same as Ajv's for a property whose schema is `false`. A schema of the operator's own may
    /// have forgotten it, and a raw value must not get further.
    pub fn refuse(&self, document: &Node<'_>, violations: &mut Violations) {
        for rule in self.rules.iter().filter(|rule| document.get(&rule.from).is_some()) {
            let path = format!("/{}", rule.from);
            if violations.iter().any(|violation| violation.instance_path() == path) {
                continue;
            }
            let schema_path = format!("#/properties/{}/false schema", rule.from);
            let message = "boolean schema is false";
            violations.push(&path, "false schema", message, "{}", &schema_path, &rule.from);
        }
    }
}

impl Scrub {
    /// Whether every raw value had a normal form.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// Adds a violation for each value that has no normal form, in the words of Ajv's `type` and
    /// `format`.
    pub fn tell(&self, violations: &mut Violations) {
        for (member, fault) in &self.faults {
            let path = format!("/{member}");
            let mut push = |keyword: &str, message: &str, params: &str| {
                let schema_path = format!("#/properties/{member}/{keyword}");
                violations.push(&path, keyword, message, params, &schema_path, member);
            };
            match fault {
                Fault::NoText => push("type", "must be string", r#"{"type":"string"}"#),
                Fault::NoForm(form) => {
                    let word = form.as_str();
                    let message = format!("must match format \"{word}\"");
                    push("format", &message, &format!("{{\"format\":\"{word}\"}}"));
                }
            }
        }
    }

    /// Adds what the sender may not have meant.
    pub fn warn(&self, warnings: &mut Warnings) {
        for (lint, member) in &self.warnings {
            warnings.of_member(*lint, member);
        }
    }
}

fn normal(form: Form, value: &Node<'_>) -> Result<Normal, Fault> {
    let text = value.as_str().ok_or(Fault::NoText)?;
    form.normal(text).map_err(|_no_form| Fault::NoForm(form))
}

/// Whether a sender's own digest is another than ours. An empty one and `null` are none.
fn differs(own: &Node<'_>, digest: &str) -> bool {
    match own {
        Node::Null => false,
        Node::String(text) => !text.is_empty() && !text.eq_ignore_ascii_case(digest),
        Node::Bool(_) | Node::Number(_) | Node::Array(_) | Node::Object(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::normalize::{Case, InnerSpaces, Letters, Name, Region, TaxId};
    use super::*;

    const EMAIL: &str = "e233d4a29013e9d87150c6237c6777bedf379ebf1acdc5d6126fec7e8bb74fb5";
    const MARIA: &str = "94aec9fbed989ece189a7e172c9cf41669050495152bc4c1dbf2a38d7fd85627";

    fn profile() -> Profile {
        let rule = |from: &str, to: &str, form| Rule { from: from.into(), to: to.into(), form };
        Profile {
            name: "order".to_owned(),
            rules: vec![
                rule("email", "email_hashed", Form::Email(InnerSpaces::Single)),
                rule("phone", "phone_hashed", Form::Phone(Region::BRAZIL)),
                rule(
                    "social_id",
                    "social_id_hashed",
                    Form::TaxId(TaxId { letters: Letters::Kept, case: Case::Lower }),
                ),
                rule(
                    "first_name",
                    "first_name_hashed",
                    Form::Name(Name { spaces: InnerSpaces::Single, case: Case::Lower }),
                ),
            ],
        }
    }

    fn scrub(text: &str) -> Option<Scrub> {
        let text = Bytes::from(text.to_owned());
        let document = crate::json::parse(&text, 64).unwrap();
        profile().scrub(&text, &document)
    }

    fn warned(scrub: &Scrub) -> Vec<(&'static str, String)> {
        let mut warnings = Warnings::default();
        scrub.warn(&mut warnings);
        warnings.iter().map(|one| (one.lint().as_str(), one.instance_path())).collect()
    }

    fn told(scrub: &Scrub) -> String {
        let mut violations = Violations::default();
        scrub.tell(&mut violations);
        String::from_utf8(violations.to_json().to_vec()).unwrap()
    }

    #[test]
    fn a_raw_member_becomes_its_digest_where_it_stood() {
        let scrub = scrub(
            r#"{ "price":1899.00, "em\u0061il" : " Customer@Example.com" ,"n":[1.0, {"email":"kept"}],"first_name":"Maria"}"#,
        )
        .unwrap();
        let expected = format!(
            r#"{{ "price":1899.00, "email_hashed" : "{EMAIL}" ,"n":[1.0, {{"email":"kept"}}],"first_name_hashed":"{MARIA}"}}"#
        );
        assert_eq!(scrub.body, expected);
        assert!(scrub.is_sound() && warned(&scrub).is_empty());
        assert_eq!(told(&scrub), "[]");
    }

    #[test]
    fn a_body_without_raw_members_is_left_alone() {
        for text in ["{}", "[]", "null", r#"["email"]"#, r#"{"email_hashed":"x","Email":1}"#] {
            assert!(scrub(text).is_none(), "{text}");
        }
    }

    #[test]
    fn our_digest_wins_over_the_senders_and_a_different_one_is_told() {
        let upper = EMAIL.to_uppercase();
        let cases = [
            (format!(r#""{EMAIL}""#), false),
            (format!(r#""{upper}""#), false),
            (r#""""#.to_owned(), false),
            ("null".to_owned(), false),
            (format!(r#""{MARIA}""#), true),
            (r#""customer@example.com""#.to_owned(), true),
            ("17".to_owned(), true),
        ];
        for (own, differs) in cases {
            let warning =
                if differs { vec![("hash_differs", "/email_hashed".to_owned())] } else { vec![] };
            for text in [
                format!(r#"{{"email_hashed": {own} ,"email":"customer@example.com"}}"#),
                format!(r#"{{"email":"customer@example.com","email_hashed": {own} }}"#),
            ] {
                let scrub = scrub(&text).unwrap();
                let left = std::str::from_utf8(&scrub.body).unwrap();
                assert_eq!(left.replace(' ', ""), format!(r#"{{"email_hashed":"{EMAIL}"}}"#));
                assert_eq!(warned(&scrub), warning, "{own}");
            }
        }
    }

    #[test]
    fn a_value_without_a_normal_form_is_told_as_ajv_would_and_never_quoted() {
        let scrub = scrub(r#"{"email":"nobody","phone":5511987654321,"first_name":null}"#).unwrap();
        assert!(!scrub.is_sound());
        assert_eq!(
            told(&scrub),
            r##"[{"instancePath":"/email","keyword":"format","message":"must match format \"email\"","params":{"format":"email"},"schemaPath":"#/properties/email/format"},{"instancePath":"/phone","keyword":"type","message":"must be string","params":{"type":"string"},"schemaPath":"#/properties/phone/type"},{"instancePath":"/first_name","keyword":"type","message":"must be string","params":{"type":"string"},"schemaPath":"#/properties/first_name/type"}]"##
        );
        let left = std::str::from_utf8(&scrub.body).unwrap();
        assert!(!left.contains("nobody") && !left.contains("5511"), "{left}");
        assert!(!format!("{scrub:?}").contains("nobody"));
    }

    #[test]
    fn a_doubtful_tax_id_is_told_by_the_member_that_it_became() {
        let scrub = scrub(r#"{"social_id":"111.111.111-11"}"#).unwrap();
        assert_eq!(warned(&scrub), [("tax_id_doubtful", "/social_id_hashed".to_owned())]);
    }

    #[test]
    fn a_raw_member_is_refused_once() {
        let document = crate::json::parse(br#"{"email":"a@b.c","phone":1,"x":0}"#, 64).unwrap();
        let mut violations = Violations::default();
        violations.push("/email", "false schema", "as the schema says", "{}", "#/own", "email");
        profile().refuse(&document, &mut violations);
        let paths: Vec<&str> = violations.iter().map(|one| one.instance_path()).collect();
        assert_eq!(paths, ["/email", "/phone"]);
    }
}
