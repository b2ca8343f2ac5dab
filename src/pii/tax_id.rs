//! Tax ids: a CPF or CNPJ of Brazil first, and any other country's by the same rule.
//!
//! The vendor says "digits only", from before a CNPJ could hold letters (normative instruction
//! RFB 2.229 of 2024, in force from July 2026): without its letters `12ABC34501DE35` would become
//! another company's number. So letters stay, unless the profile drops them.

use super::normalize::{Letters, NoForm, Normal, TaxId, cased, is_space};

/// The shortest that a neighbouring country gives out, and the longest with room to spare.
const CHARACTERS: std::ops::RangeInclusive<usize> = 5..=20;

/// The normal form: without punctuation and spaces.
///
/// Nothing is refused for its check digits alone, for other countries have other ones; a number
/// that none of those known here would have is doubtful.
pub(super) fn normal(value: &str, rule: TaxId) -> Result<Normal, NoForm> {
    let is_mask = |c: char| is_space(c) || matches!(c, '.' | '-' | '/' | '\u{2010}'..='\u{2015}');
    let bare: String = value.chars().filter(|c| !is_mask(*c)).collect();
    if !bare.chars().all(|c| c.is_ascii_alphanumeric())
        || !bare.contains(|c: char| c.is_ascii_digit())
    {
        return Err(NoForm);
    }
    let capitals = bare.to_ascii_uppercase();
    let bare = match rule.letters {
        Letters::Kept => cased(&bare, rule.case),
        Letters::Dropped => bare.chars().filter(char::is_ascii_digit).collect(),
    };
    if !CHARACTERS.contains(&bare.len()) {
        return Err(NoForm);
    }
    Ok(Normal { text: bare, doubtful: !is_known(capitals.as_bytes()) })
}

/// Whether the check digits of a CPF, a CNPJ or an Argentine CUIT hold.
fn is_known(capitals: &[u8]) -> bool {
    // A row of one digit passes the arithmetic and is given to nobody: tills type it to go on.
    let is_row = capitals.windows(2).all(|pair| pair[0] == pair[1]);
    !is_row
        && match capitals.len() {
            11 => is_cpf(capitals) || is_cuit(capitals),
            14 => is_cnpj(capitals),
            _ => false,
        }
}

/// Two digits modulo 11, weights from 10 and from 11 down to 2.
fn is_cpf(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_digit)
        && [9, 10].into_iter().all(|at| {
            let weights = (2..=at + 1).rev();
            check(digits.iter().zip(weights)) == value(digits[at])
        })
}

/// Two digits modulo 11, weights 2 to 9 over and over from the right; a letter counts as its
/// ASCII code less 48.
fn is_cnpj(characters: &[u8]) -> bool {
    characters[12..].iter().all(u8::is_ascii_digit)
        && [12, 13].into_iter().all(|at| {
            let weights = (2..=9).cycle();
            check(characters[..at].iter().rev().zip(weights)) == value(characters[at])
        })
}

/// One digit modulo 11, weights 2 to 7 over and over from the right.
fn is_cuit(digits: &[u8]) -> bool {
    let sum: usize = digits[..10]
        .iter()
        .rev()
        .zip((2..=7).cycle())
        .map(|(digit, weight)| value(*digit) * weight)
        .sum();
    digits.iter().all(u8::is_ascii_digit) && (11 - sum % 11) % 11 == value(digits[10])
}

fn check<'d>(weighed: impl Iterator<Item = (&'d u8, usize)>) -> usize {
    let sum: usize = weighed.map(|(character, weight)| value(*character) * weight).sum();
    match sum % 11 {
        0 | 1 => 0,
        rest => 11 - rest,
    }
}

fn value(character: u8) -> usize {
    usize::from(character.saturating_sub(b'0'))
}

#[cfg(test)]
mod tests {
    use super::super::normalize::Case;
    use super::*;

    const DEFAULT: TaxId = TaxId { letters: Letters::Kept, case: Case::Lower };

    fn of(value: &str) -> Option<(String, bool)> {
        normal(value, DEFAULT).ok().map(|normal| (normal.text, normal.doubtful))
    }

    #[test]
    fn a_tax_id_loses_its_punctuation_and_keeps_its_letters() {
        let cases = [
            ("529.982.247-25", "52998224725"),
            ("529 982 247 25", "52998224725"),
            ("52998224725", "52998224725"),
            ("11.222.333/0001-81", "11222333000181"),
            ("12.ABC.345/01DE-35", "12abc34501de35"),
            ("12abc34501de35", "12abc34501de35"),
            ("20-12345678-6", "20123456786"),
        ];
        for (value, expected) in cases {
            assert_eq!(of(value), Some((expected.to_owned(), false)), "{value}");
        }
    }

    #[test]
    fn a_number_that_fails_its_check_is_doubtful() {
        for value in [
            "529.982.247-26",
            "111.111.111-11",
            "00000000000",
            "00000000000000",
            "11222333000182",
            "12ABC34501DE36",
            "12ABC345010E35",
            "5299822472",
            "123456789",
            "20-12345678-9",
            "1122233300018A",
        ] {
            assert!(of(value).unwrap().1, "{value}");
        }
    }

    #[test]
    fn what_is_no_tax_id_has_no_form() {
        for value in [
            "",
            "-",
            "abc",
            "1234",
            "529.982.247-25é",
            "52998224725@",
            "1_2345678",
            &"1".repeat(21),
        ] {
            assert_eq!(of(value), None, "{value}");
        }
    }

    #[test]
    fn letters_follow_the_profile() {
        let text =
            |letters, case| normal("12.abc.345/01DE-35", TaxId { letters, case }).unwrap().text;
        assert_eq!(text(Letters::Kept, Case::Upper), "12ABC34501DE35");
        assert_eq!(text(Letters::Dropped, Case::Lower), "123450135");
    }
}
