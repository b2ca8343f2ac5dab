//! Whether a unit price is that of a whole line.
//!
//! One order cannot prove it without a catalogue, and a quantity divides a price by chance often
//! enough. So each sign here is one that an honest price seldom shows.

/// What one item says in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Line {
    pub(super) quantity: f64,
    pub(super) price: f64,
    pub(super) promotional: f64,
}

/// Cents beyond which a double no longer tells one from the next.
const CENTS_MAX: f64 = 1e15;

/// The discount of an item whose list price alone was multiplied: from here on it is seldom real.
/// Half the price for two is an everyday offer.
const TIMES_MIN: f64 = 3.0;

impl Line {
    /// Whether the quantity is whole and more than one: of weighed goods the line's total is
    /// rarely told from a price.
    fn is_several(&self) -> bool {
        self.quantity >= 2.0 && self.quantity.fract() == 0.0
    }

    /// The member that looks like a line's total, if one does.
    pub(super) fn total(&self) -> Option<&'static str> {
        if !self.is_several() {
            return None;
        }
        let (list, promotional) = (cents(self.price)?, cents(self.promotional)?);
        if list == 0.0 || promotional == 0.0 {
            return None;
        }
        // One of the two was multiplied.
        if promotional == list * self.quantity {
            return Some("promotional_price");
        }
        if self.quantity >= TIMES_MIN && list == promotional * self.quantity {
            return Some("price");
        }
        // Both were: 3 × 19.99 is 59.97, which is no price tag, while a third of it is.
        let divides = |cents: f64| cents % self.quantity == 0.0;
        let is_odd = !matches!((list % 10.0) as u8, 0 | 5 | 9);
        let unit = list / self.quantity;
        let is_total = is_odd && divides(list) && divides(promotional) && unit % 100.0 == 99.0;
        is_total.then_some("price")
    }

    /// Whether this line and another of the same product are priced by their quantities, so that
    /// a unit has one price and the lines have two.
    pub(super) fn is_total_beside(&self, other: &Self) -> bool {
        let (Some(own), Some(others)) = (cents(self.price), cents(other.price)) else {
            return false;
        };
        self.is_several()
            && own > 0.0
            && self.quantity != other.quantity
            && own * other.quantity == others * self.quantity
    }
}

/// A price in whole cents; nothing when it has parts of a cent.
fn cents(price: f64) -> Option<f64> {
    let cents = (price * 100.0).round();
    let is_whole = (price * 100.0 - cents).abs() < 1e-6 * cents.abs().max(1.0);
    (is_whole && (0.0..CENTS_MAX).contains(&cents)).then_some(cents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(quantity: f64, price: f64, promotional: f64) -> Option<&'static str> {
        Line { quantity, price, promotional }.total()
    }

    #[test]
    fn a_total_in_one_of_the_two_prices_is_told() {
        assert_eq!(total(3.0, 1500.0, 500.0), Some("price"));
        assert_eq!(total(2.0, 500.0, 1000.0), Some("promotional_price"));
        assert_eq!(total(7.0, 139.93, 19.99), Some("price"));
    }

    #[test]
    fn a_total_in_both_is_told_by_its_odd_cents() {
        assert_eq!(total(2.0, 39.98, 39.98), Some("price"));
        assert_eq!(total(3.0, 59.97, 53.97), Some("price"));
        assert_eq!(total(4.0, 1199.96, 999.96), Some("price"));
    }

    #[test]
    fn an_honest_price_is_left_alone() {
        for (quantity, price, promotional) in [
            (2.0, 500.0, 400.0),
            (2.0, 1000.0, 500.0),
            (2.0, 40.0, 40.0),
            (3.0, 59.90, 49.90),
            (5.0, 99.95, 99.95),
            (10.0, 199.90, 199.90),
            (1.0, 59.97, 59.97),
            (3.0, 59.97, 50.0),
            (3.0, 53.94, 53.94),
            (0.5, 100.0, 50.0),
            (2.5, 100.0, 40.0),
            (3.0, 0.0, 0.0),
            (3.0, 30.0, 0.0),
            (3.0, 0.333_333, 0.111_111),
            (1e300, 1e300, 1.0),
            (2.0, 1e300, 1e300),
            (f64::MAX, f64::MAX, f64::MAX),
        ] {
            assert_eq!(total(quantity, price, promotional), None, "{quantity} {price}");
        }
    }

    #[test]
    fn two_lines_of_one_product_priced_by_quantity_are_told() {
        let line = |quantity, price| Line { quantity, price, promotional: price };
        assert!(line(2.0, 1000.0).is_total_beside(&line(1.0, 500.0)));
        assert!(line(3.0, 30.0).is_total_beside(&line(2.0, 20.0)));
        assert!(!line(1.0, 500.0).is_total_beside(&line(2.0, 1000.0)), "one unit has its price");
        assert!(!line(2.0, 500.0).is_total_beside(&line(1.0, 500.0)));
        assert!(!line(2.0, 500.0).is_total_beside(&line(2.0, 500.0)));
        assert!(!line(2.0, 0.0).is_total_beside(&line(1.0, 0.0)));
    }
}
