//! Phone numbers: E.164 by the rules of every country's numbering plan.
//!
//! The plans are Google's libphonenumber, in its Rust port, see docs/adr/0014. It is shown plain
//! digits alone: what people write around them is taken off here, so that no text of the sender's
//! making ever meets its patterns, and nothing is guessed from letters.

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, PhoneNumberType};

use super::normalize::{NoForm, is_space};

/// The country whose plan numbers without a country code follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region(rlibphonenumber::Region);

impl Region {
    /// The vendor's own market. It has a plan, which must not be loaded to know it: a relay that
    /// never sees a number never spends the memory.
    pub const BRAZIL: Self = Self(rlibphonenumber::Region::BR);

    /// The region of an ISO 3166 code, as `BR`; nothing when no plan is known for it.
    #[must_use]
    pub fn of(code: &str) -> Option<Self> {
        let region = Self(rlibphonenumber::Region::try_from(code).ok()?);
        (region == Self::BRAZIL || region.calling_code().is_some()).then_some(region)
    }

    fn calling_code(self) -> Option<i32> {
        PHONE_NUMBER_UTIL.get_country_code_for_region(self.0)
    }
}

/// E.164 has 15 digits at most; a trunk zero, an exit code and a carrier code may come on top.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=22;

/// The number as `+5511987654321`.
pub(super) fn e164(value: &str, region: Region) -> Result<String, NoForm> {
    let dialled = dialled(value)?;
    // In Brazil a carrier code follows the exit code, so that 0055 11 … would be read as carrier
    // 55 and a number of country 1. Whoever writes so means the country.
    if let Some(rest) = dialled.strip_prefix("00") {
        let abroad = format!("+{rest}");
        let home = region.calling_code().map(|code| code.to_string());
        let is_home = home.is_some_and(|home| rest.starts_with(&home));
        let home = if is_home { personal(&abroad, region) } else { None };
        return home
            .or_else(|| personal(&dialled, region))
            .or_else(|| personal(&abroad, region))
            .ok_or(NoForm);
    }
    personal(&dialled, region).ok_or(NoForm)
}

/// The digits of what is dialled, with the plus in front if there was one.
fn dialled(value: &str) -> Result<String, NoForm> {
    let (mut digits, mut carrier_marks) = (String::with_capacity(16), 0);
    for c in value.trim_matches(is_space).chars() {
        match c {
            '0'..='9' => digits.push(c),
            // Full-width, as Asian keyboards type them.
            '\u{ff10}'..='\u{ff19}' => {
                digits.extend(char::from_digit(u32::from(c) - 0xff10, 10));
            }
            '+' | '\u{ff0b}' if digits.is_empty() => digits.push('+'),
            '(' | ')' | '-' | '.' | '/' | '\u{2010}'..='\u{2015}' | '\u{2212}' => {}
            // (0xx11) is how Brazil prints that any carrier's code may stand there.
            'x' | 'X' if digits == "0" && carrier_marks < 2 => carrier_marks += 1,
            c if is_space(c) => {}
            _ => return Err(NoForm),
        }
    }
    let count = digits.trim_start_matches('+').len();
    if DIGITS.contains(&count) && carrier_marks != 1 { Ok(digits) } else { Err(NoForm) }
}

/// E.164 of a number that may belong to a person; nothing when its country gives no such number
/// out, or gives it to services.
fn personal(dialled: &str, region: Region) -> Option<String> {
    let number = PHONE_NUMBER_UTIL.parse(dialled, Some(region.0)).ok()?;
    match PHONE_NUMBER_UTIL.get_number_type(&number) {
        PhoneNumberType::FixedLine
        | PhoneNumberType::Mobile
        | PhoneNumberType::FixedLineOrMobile
        | PhoneNumberType::PersonalNumber
        | PhoneNumberType::VoIP => {
            Some(PHONE_NUMBER_UTIL.format(&number, PhoneNumberFormat::E164).into_owned())
        }
        PhoneNumberType::TollFree
        | PhoneNumberType::PremiumRate
        | PhoneNumberType::SharedCost
        | PhoneNumberType::Pager
        | PhoneNumberType::UAN
        | PhoneNumberType::VoiceMail
        | PhoneNumberType::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Option<String> {
        e164(value, Region::of("BR").unwrap()).ok()
    }

    #[test]
    fn a_number_of_brazil_is_one_however_it_is_written() {
        for value in [
            "+5511987654321",
            "+55 (11) 98765-4321",
            "5511987654321",
            "11987654321",
            "(11) 98765-4321",
            "(11)98765.4321",
            "011 98765-4321",
            "0 15 11 98765-4321",
            "01511987654321",
            "(0xx11) 98765-4321",
            "0XX11987654321",
            "+55 0 11 98765 4321",
            "+55 (0) 11 98765-4321",
            "005511987654321",
            "0055 11 98765-4321",
            "00 15 55 11 98765-4321",
            "\u{ff0b}\u{ff15}\u{ff15}11\u{2013}98765\u{a0}4321\u{200e}",
        ] {
            assert_eq!(of(value).as_deref(), Some("+5511987654321"), "{value}");
        }
        assert_eq!(of("(11) 3234-5678").as_deref(), Some("+551132345678"));
        assert_eq!(of("551132345678").as_deref(), Some("+551132345678"));
        assert_eq!(of("0055 21 2345-6789").as_deref(), Some("+552123456789"));
    }

    #[test]
    fn area_code_55_is_not_taken_for_the_country() {
        assert_eq!(of("55 99999-1234").as_deref(), Some("+5555999991234"));
        assert_eq!(of("(55) 3234-5678").as_deref(), Some("+555532345678"));
        assert_eq!(of("55 55 99999-1234").as_deref(), Some("+5555999991234"));
        assert_eq!(of("55 55 3234-5678").as_deref(), Some("+555532345678"));
        assert_eq!(of("055 99999-1234").as_deref(), Some("+5555999991234"));
    }

    #[test]
    fn other_countries_follow_their_own_plans() {
        assert_eq!(of("+1 (650) 555-1212").as_deref(), Some("+16505551212"));
        assert_eq!(of("00 1 650 555 1212").as_deref(), Some("+16505551212"));
        assert_eq!(of("00 14 1 650 555 1212").as_deref(), Some("+16505551212"));
        assert_eq!(of("+54 11 2345-6789").as_deref(), Some("+541123456789"));
        assert_eq!(of("+39 06 1234 5678").as_deref(), Some("+390612345678"));
        let portugal = Region::of("PT").unwrap();
        assert_eq!(e164("912 345 678", portugal).as_deref(), Ok("+351912345678"));
        assert_eq!(Region::of("XX"), None);
        assert_eq!(Region::of("Brazil"), None);
    }

    #[test]
    fn what_is_no_persons_number_has_no_form() {
        for value in [
            "",
            "0800 123 456",
            "0300 123 4567",
            "190",
            "98765-4321",
            // An eight-digit mobile number, from before 2016: a ninth digit would be a guess.
            "(11) 8765-4321",
            "(20) 98765-4321",
            "16505551212",
            "+55+11987654321",
            "55+11987654321",
            "(11) 98765-4321 ramal 12",
            "11987654321x12",
            "0x11987654321",
            "0xxx11987654321",
            "1-800-FLOWERS",
            "tel:+5511987654321",
            "+5511987654321;ext=1",
            "+",
            "++5511987654321",
            "+000000000000",
            "\u{661}\u{661}987654321",
            "11987654321\u{0}",
            "1198765432111987654321119876543211",
        ] {
            assert_eq!(of(value), None, "{value}");
        }
    }

    #[test]
    fn an_e164_number_stays_as_it_is() {
        for code in ["BR", "US", "PT", "AR", "DE", "JP"] {
            let region = Region::of(code).unwrap();
            for number in 0..400_u64 {
                let text = format!("{:011}", number.wrapping_mul(247_483_621) % 100_000_000_000);
                if let Ok(first) = e164(&text, region) {
                    assert_eq!(e164(&first, region).as_ref(), Ok(&first));
                }
            }
        }
    }
}
