//! One spelling for each person: what a digest is made of.
//!
//! Two systems that hash the same person must hash the same text, so each form follows the
//! vendor's pages; where those contradict each other, a setting chooses. Every form is idempotent:
//! what it gave stays as it is. Nothing here logs, and no error holds what was normalised.

use icu_normalizer::ComposingNormalizer;

use super::{phone, tax_id};

pub use phone::Region;

/// How a member is normalised before it is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An e-mail address: trimmed, lower case.
    Email(InnerSpaces),
    /// A phone number: E.164 with its plus.
    Phone(Region),
    /// A tax id: without punctuation.
    TaxId(TaxId),
    /// A name: trimmed, inner spaces single, lower case.
    Name(Name),
}

/// What becomes of white space inside a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InnerSpaces {
    /// It stays, one space for any; an e-mail address cannot have any and is refused.
    Single,
    /// It goes.
    Removed,
}

/// Upper or lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Lower case.
    Lower,
    /// Upper case.
    Upper,
    /// As it came.
    Kept,
}

/// How a tax id is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaxId {
    /// Whether letters stay, as a CNPJ has them from 2026 on, or go, as the vendor's older pages
    /// say ("digits only").
    pub letters: Letters,
    /// Their case.
    pub case: Case,
}

/// What becomes of the letters of a tax id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letters {
    /// They stay.
    Kept,
    /// They go, and two companies may become one.
    Dropped,
}

/// How a name is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// What becomes of spaces inside.
    pub spaces: InnerSpaces,
    /// Its case.
    pub case: Case,
}

/// A value in its normal form.
#[derive(Clone, PartialEq, Eq)]
pub struct Normal {
    /// The text to hash.
    pub text: String,
    /// Whether its own check digits speak against it.
    pub doubtful: bool,
}

/// Says nothing: it is raw identity still.
impl std::fmt::Debug for Normal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a normal form of {} bytes", self.text.len())
    }
}

/// A value has no normal form: it is nothing, or nothing of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value has no normal form")]
pub struct NoForm;

/// Longest address that mail is delivered to, RFC 5321.
const EMAIL_BYTES_MAX: usize = 254;
/// Longer than any name that a till takes.
const NAME_BYTES_MAX: usize = 512;

impl Form {
    /// Words of the configuration, in the order of the documents.
    pub const WORDS: [&str; 4] = ["email", "phone-e164", "tax-id", "name"];

    /// The word of the configuration, which an error names as the format that was missed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email(_) => "email",
            Self::Phone(_) => "phone-e164",
            Self::TaxId(_) => "tax-id",
            Self::Name(_) => "name",
        }
    }

    /// The normal form of `value`.
    ///
    /// # Errors
    /// [`NoForm`]: its sender must mend it.
    pub fn normal(self, value: &str) -> Result<Normal, NoForm> {
        let sure = |text| Normal { text, doubtful: false };
        match self {
            Self::Email(spaces) => email(value, spaces).map(sure),
            Self::Phone(region) => phone::e164(value, region).map(sure),
            Self::TaxId(rule) => tax_id::normal(value, rule),
            Self::Name(rule) => name(value, rule).map(sure),
        }
    }
}

/// White space, and what looks like none: the vendor's own code is JavaScript, whose `trim` knows
/// the byte-order mark; copied text brings the rest along.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn email(value: &str, spaces: InnerSpaces) -> Result<String, NoForm> {
    let text: String = match spaces {
        InnerSpaces::Single => value.trim_matches(is_space).to_owned(),
        InnerSpaces::Removed => value.chars().filter(|c| !is_space(*c)).collect(),
    };
    let text = composed(&text.to_lowercase());
    let (local, domain) = text.split_once('@').ok_or(NoForm)?;
    let fits = |c: char| {
        // Spelled out or in quotes these may stand in an address; in a shop's form they are a
        // slip: two addresses, a name with its address, a link.
        !is_space(c) && !c.is_control() && !r#"@"(),:;<>[\]"#.contains(c)
    };
    let is_label = |label: &str| !label.is_empty();
    let sound = text.len() <= EMAIL_BYTES_MAX
        && !local.is_empty()
        && local.chars().chain(domain.chars()).all(fits)
        && domain.contains('.')
        && domain.split('.').all(is_label);
    if sound { Ok(text) } else { Err(NoForm) }
}

fn name(value: &str, rule: Name) -> Result<String, NoForm> {
    let between = match rule.spaces {
        InnerSpaces::Single => " ",
        InnerSpaces::Removed => "",
    };
    let words: Vec<&str> = value.split(is_space).filter(|word| !word.is_empty()).collect();
    let text = composed(&cased(&words.join(between), rule.case));
    let sound =
        !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control);
    if sound { Ok(text) } else { Err(NoForm) }
}

pub(super) fn cased(text: &str, case: Case) -> String {
    match case {
        Case::Lower => text.to_lowercase(),
        Case::Upper => text.to_uppercase(),
        Case::Kept => text.to_owned(),
    }
}

/// `é` as one character, which keyboards type, and not as `e` with an accent, which some systems
/// make of it (Unicode's NFC).
fn composed(text: &str) -> String {
    ComposingNormalizer::new_nfc().normalize(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::digest::sha256_hex;
    use super::*;

    const EMAIL: Form = Form::Email(InnerSpaces::Single);
    const NAME: Form = Form::Name(Name { spaces: InnerSpaces::Single, case: Case::Lower });

    fn of(form: Form, value: &str) -> Option<String> {
        form.normal(value).ok().map(|normal| normal.text)
    }

    #[test]
    fn an_email_is_trimmed_and_lower_case() {
        for value in [
            "customer@example.com",
            " Customer@Example.COM\n",
            "\u{feff}CUSTOMER@example.com\u{a0}",
        ] {
            assert_eq!(of(EMAIL, value).as_deref(), Some("customer@example.com"), "{value}");
        }
        // Dots and tags are Gmail's own business.
        assert_eq!(of(EMAIL, "A.B+c@gmail.com").as_deref(), Some("a.b+c@gmail.com"));
        assert_eq!(of(EMAIL, "JOSÉ@exämple.com.br").as_deref(), Some("josé@exämple.com.br"));
        assert_eq!(of(EMAIL, "jose\u{301}@x.br"), of(EMAIL, "jos\u{e9}@x.br"));
    }

    #[test]
    fn what_is_no_email_has_no_form() {
        for value in [
            "",
            " ",
            "@",
            "a@",
            "@b.c",
            "a@b",
            "a@b.",
            "a@.b",
            "a@b..c",
            "a@b@c.d",
            "a b@c.d",
            "a@b.c, d@e.f",
            "Ann <a@b.c>",
            "mailto:a@b.c",
            "a\u{0}@b.c",
            "a@b.c\u{1}",
        ] {
            assert_eq!(of(EMAIL, value), None, "{value}");
        }
        assert_eq!(of(EMAIL, &format!("{}@b.cd", "a".repeat(250))), None);
    }

    #[test]
    fn spaces_inside_an_email_go_when_the_profile_says_so() {
        let form = Form::Email(InnerSpaces::Removed);
        assert_eq!(of(form, " a b @ c.d ").as_deref(), Some("ab@c.d"));
        assert_eq!(of(form, "  "), None);
    }

    #[test]
    fn a_name_has_single_spaces_and_one_case() {
        let cases = [
            (" Allan ", "allan"),
            ("MARIA", "maria"),
            ("Maria  da\tSilva", "maria da silva"),
            ("vale\u{301}ry", "valéry"),
            ("Valéry", "valéry"),
            ("João D'Ávila", "joão d'ávila"),
            ("\u{200b}Ana\u{a0}\u{a0}Lú", "ana lú"),
        ];
        for (value, normal) in cases {
            assert_eq!(of(NAME, value).as_deref(), Some(normal), "{value}");
        }
        for value in ["", " \t\u{200b}", "a\u{0}b", &"x".repeat(513)] {
            assert_eq!(of(NAME, value), None);
        }
    }

    #[test]
    fn a_name_can_lose_its_spaces_or_keep_its_case() {
        let form = |spaces, case| Form::Name(Name { spaces, case });
        let value = " Maria  da Silva";
        let removed = form(InnerSpaces::Removed, Case::Lower);
        assert_eq!(of(removed, value).as_deref(), Some("mariadasilva"));
        let kept = form(InnerSpaces::Single, Case::Kept);
        assert_eq!(of(kept, value).as_deref(), Some("Maria da Silva"));
    }

    #[test]
    fn the_vectors_of_the_vendors_and_of_others_hold() {
        let name = NAME;
        let phone = Form::Phone(Region::BRAZIL);
        let tax_id = |case| Form::TaxId(TaxId { letters: Letters::Kept, case });
        for (form, value, digest) in [
            (
                EMAIL,
                "customer@example.com",
                "e233d4a29013e9d87150c6237c6777bedf379ebf1acdc5d6126fec7e8bb74fb5",
            ),
            (
                EMAIL,
                "john_smith@gmail.com",
                "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f",
            ),
            (
                phone,
                "+5511987654321",
                "38225ec3dccec4189659c110ddc4f3dc9c27539850cb6a9ddae31ae03a5cf441",
            ),
            (
                tax_id(Case::Lower),
                "529.982.247-25",
                "7281dfb5e8becca0a1c5e77c1268baacb0f983572b8c204fd8df72b24175b231",
            ),
            (
                tax_id(Case::Lower),
                "11.222.333/0001-81",
                "74fcb98ff7bb1884c6d648b7f1eb54668aef98b0758a425ee16ea0757209454d",
            ),
            (
                tax_id(Case::Lower),
                "12ABC34501DE35",
                "a4b0446bcb18a46b60b176984c84085c3b3fe4c04269c59c480c89a8fb30c823",
            ),
            (
                tax_id(Case::Upper),
                "12.abc.345/01de-35",
                "79e5e78a3403da30aa6bdfbab0688f20099120cdbdbe0e0d2f2125dc96bad59c",
            ),
            (name, " Allan ", "5fd726bc56c3e86906cba8814a9b97d97f2ab209c48d2441ca5ac9e52b09e630"),
            (name, "Maria", "94aec9fbed989ece189a7e172c9cf41669050495152bc4c1dbf2a38d7fd85627"),
            (name, "Mary", "6915771be1c5aa0c886870b6951b03d7eafc121fea0e80a5ea83beb7c449f4ec"),
            (
                name,
                "Val\u{e9}ry",
                "08e1996b5dd49e62a4b4c010d44e4345592a863bb9f8e3976219bac29417149c",
            ),
            (
                name,
                "VALE\u{301}RY",
                "08e1996b5dd49e62a4b4c010d44e4345592a863bb9f8e3976219bac29417149c",
            ),
        ] {
            let normal = form.normal(value).unwrap();
            assert_eq!(sha256_hex(&normal.text), digest, "{value}");
            assert!(!normal.doubtful, "{value}");
        }
        // Another platform hashes without the plus: its vector holds for our number less it.
        let american = of(phone, "+1 (650) 555-1212 ").unwrap();
        let bare = american.strip_prefix('+').unwrap();
        assert_eq!(
            sha256_hex(bare),
            "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"
        );
    }

    #[test]
    fn a_normal_form_of_any_letters_is_its_own() {
        let kept = Form::Name(Name { spaces: InnerSpaces::Removed, case: Case::Upper });
        // Where letters with cases, accents and compositions are.
        let letters = (0..0x3100).chain(0xa600..0xac00).chain(0xf900..0x1_0500);
        for c in letters.chain(0x1_d100..0x1_d200).filter_map(char::from_u32) {
            // Alone, between letters, behind an accent that it may go with, and doubled.
            for text in [c.to_string(), format!("A{c}b"), format!("e\u{301}{c}"), format!("{c}{c}")]
            {
                for (form, value) in [
                    (NAME, text.clone()),
                    (kept, text.clone()),
                    (EMAIL, format!("{text}@{text}.br")),
                ] {
                    if let Some(first) = of(form, &value) {
                        assert_eq!(of(form, &first).as_ref(), Some(&first), "{:x}", u32::from(c));
                    }
                }
            }
        }
    }

    #[test]
    fn a_normal_form_prints_its_size_only() {
        let normal = EMAIL.normal("a@b.c").unwrap();
        assert_eq!(format!("{normal:?}"), "a normal form of 5 bytes");
    }
}
