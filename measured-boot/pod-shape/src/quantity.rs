//! Kubernetes quantities: `500m`, `2Gi`, `1e3`, `0.1`.

use std::str::FromStr;

/// Billionths in one: the precision that Kubernetes keeps.
const NANO: i128 = 1_000_000_000;
/// The largest value that Kubernetes can hold, in whole units.
const MAX_UNITS: i128 = i64::MAX as i128;
/// The longest text that is read as a quantity.
const MAX_TEXT_LEN: usize = 64;

/// An amount of a resource, never negative, exact to a billionth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nano: i128,
}

/// Why a text is no quantity that a container can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, displaydoc::Display)]
pub enum QuantityError {
    /// expected a number with a unit, such as 500m or 2Gi
    Format,
    /// it is negative
    Negative,
    /// it is larger than 2^63 - 1
    TooLarge,
}

impl Quantity {
    /// A whole number of units.
    pub fn units(units: u32) -> Self {
        Self {
            nano: i128::from(units) * NANO,
        }
    }

    /// The value in whole units, rounded up.
    pub fn value(self) -> i64 {
        ceil_div(self.nano, NANO)
    }

    /// The value in thousandths, rounded up.
    pub fn milli_value(self) -> i64 {
        ceil_div(self.nano, NANO / 1000)
    }

    /// The sum; `None` when it is larger than Kubernetes can hold.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let nano = self.nano.checked_add(other.nano)?;
        (nano <= MAX_UNITS * NANO).then_some(Self { nano })
    }
}

fn ceil_div(nano: i128, by: i128) -> i64 {
    i64::try_from((nano + by - 1) / by).unwrap_or(i64::MAX)
}

/// What a unit multiplies by.
enum Unit {
    Nanos(i128),
    PowerOfTen(i32),
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text.len() > MAX_TEXT_LEN {
            return Err(QuantityError::Format);
        }
        let (text, negative) = match text.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (text.strip_prefix('+').unwrap_or(text), false),
        };
        let number_len = text
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
            .count();
        let (number, unit) = text.split_at(number_len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let digits = digits(whole, fraction)?;
        let decimals = fraction.len();
        let nano = match unit_of(unit)? {
            Unit::Nanos(nanos) => scale(digits, nanos, decimals),
            Unit::PowerOfTen(power) => scale_by_power(digits, power, decimals),
        };
        match nano.filter(|nano| *nano <= MAX_UNITS * NANO) {
            Some(nano) if negative && nano > 0 => Err(QuantityError::Negative),
            Some(nano) => Ok(Self { nano }),
            None => Err(QuantityError::TooLarge),
        }
    }
}

fn digits(whole: &str, fraction: &str) -> Result<i128, QuantityError> {
    whole
        .bytes()
        .chain(fraction.bytes())
        .try_fold(0_i128, |sum, digit| {
            sum.checked_mul(10)?.checked_add(i128::from(digit - b'0'))
        })
        .ok_or(QuantityError::TooLarge)
}

fn unit_of(unit: &str) -> Result<Unit, QuantityError> {
    let binary = |shift: u32| Unit::Nanos(NANO << shift);
    Ok(match unit {
        "" => Unit::Nanos(NANO),
        "n" => Unit::Nanos(1),
        "u" => Unit::Nanos(1000),
        "m" => Unit::Nanos(NANO / 1000),
        "k" => Unit::PowerOfTen(3),
        "M" => Unit::PowerOfTen(6),
        "G" => Unit::PowerOfTen(9),
        "T" => Unit::PowerOfTen(12),
        "P" => Unit::PowerOfTen(15),
        "E" => Unit::PowerOfTen(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => return exponent(unit),
    })
}

fn exponent(unit: &str) -> Result<Unit, QuantityError> {
    let digits = unit.strip_prefix(['e', 'E']).ok_or(QuantityError::Format)?;
    let power: i32 = digits.parse().map_err(|_| QuantityError::Format)?;
    Ok(Unit::PowerOfTen(power))
}

/// `digits` × `nanos` / 10^`decimals`, rounded up.
fn scale(digits: i128, nanos: i128, decimals: usize) -> Option<i128> {
    let product = digits.checked_mul(nanos)?;
    let divisor = 10_i128.checked_pow(u32::try_from(decimals).ok()?)?;
    Some(product.checked_add(divisor - 1)? / divisor)
}

fn scale_by_power(digits: i128, power: i32, decimals: usize) -> Option<i128> {
    if digits == 0 {
        return Some(0);
    }
    // Nine for billionths; what is left of it decides between multiplying and dividing.
    let shift = power
        .checked_add(9)?
        .checked_sub(i32::try_from(decimals).ok()?)?;
    let by = 10_i128.checked_pow(shift.unsigned_abs());
    if shift >= 0 {
        return digits.checked_mul(by?);
    }
    match by {
        Some(by) => Some(digits.checked_add(by - 1)? / by),
        // Less than a billionth is rounded up to one.
        None => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantity(text: &str) -> Result<Quantity, QuantityError> {
        text.parse()
    }

    #[test]
    fn units_are_those_of_kubernetes() {
        for (text, value, milli) in [
            ("0", 0, 0),
            ("2", 2, 2000),
            ("500m", 1, 500),
            ("0.1", 1, 100),
            (".5", 1, 500),
            ("1.", 1, 1000),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
            ("128974848000m", 128_974_848, 128_974_848_000),
            ("129M", 129_000_000, 129_000_000_000),
            ("123Mi", 128_974_848, 128_974_848_000),
            ("129e6", 129_000_000, 129_000_000_000),
            ("1E3", 1000, 1_000_000),
            ("1E", 1_000_000_000_000_000_000, i64::MAX),
            ("1.0e+1", 10, 10_000),
            ("15e-1", 2, 1500),
            ("1u", 1, 1),
            ("1n", 1, 1),
            ("100n", 1, 1),
            ("+4", 4, 4000),
            ("-0", 0, 0),
            ("1e-90", 1, 1),
        ] {
            let parsed = quantity(text).unwrap();
            assert_eq!(
                (parsed.value(), parsed.milli_value()),
                (value, milli),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "", ".", "Gi", "1 Gi", "1gi", "1GiB", "0x10", "1.2.3", "1e", "1ee3", "١", "1_000",
            "--1", "e3", "1e1.5",
        ] {
            assert_eq!(quantity(text), Err(QuantityError::Format), "{text:?}");
        }
        assert_eq!(quantity(&"1".repeat(65)), Err(QuantityError::Format));
        assert_eq!(quantity("-1m"), Err(QuantityError::Negative));
        for text in [
            "8Ei",
            "1e19",
            "1e2147483647",
            "9223372036854775808",
            &"9".repeat(60),
        ] {
            assert_eq!(quantity(text), Err(QuantityError::TooLarge), "{text:?}");
        }
        assert_eq!(quantity("9223372036854775807").unwrap().value(), i64::MAX);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.eEinumkMGTPK]{0,70}") {
            let _ = quantity(&text);
        }

        #[test]
        fn thousandths_and_units_agree(milli in 0_i64..1_000_000_000) {
            let parsed = quantity(&format!("{milli}m")).unwrap();
            prop_assert_eq!(parsed.milli_value(), milli);
            prop_assert_eq!(parsed.value(), (milli + 999) / 1000);
        }
    }
}
