//! Numbers from outside. `str::parse` accepts `+5`, `nan` and `1e3`; OpenNebula writes
//! none of these, so they are refused here instead of being passed on in another spelling.

use thiserror::Error;

/// Text that is not the plain decimal number that was expected.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("\"{text}\" is not {expected}")]
pub struct NotANumber {
    text: String,
    expected: &'static str,
}

impl NotANumber {
    fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.chars().take(40).collect(),
            expected,
        }
    }
}

/// Reads a whole number of digits only, at most `u64::MAX`.
pub fn parse_whole(text: &str) -> Result<u64, NotANumber> {
    let expected = "a whole number";
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NotANumber::new(text, expected));
    }
    text.parse().map_err(|_| NotANumber::new(text, expected))
}

/// Reads a whole number that fits 32 bits, as OpenNebula's ids do.
pub fn parse_u32(text: &str) -> Result<u32, NotANumber> {
    parse_whole(text)?
        .try_into()
        .map_err(|_| NotANumber::new(text, "a whole number below 4294967296"))
}

/// Reads digits with at most one point between them, as CPU is written (`0.5`).
pub fn parse_fraction(text: &str) -> Result<f64, NotANumber> {
    let expected = "a decimal number such as 0.5";
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(NotANumber::new(text, expected));
    }
    let value: f64 = text.parse().map_err(|_| NotANumber::new(text, expected))?;
    if value.is_finite() {
        Ok(value)
    } else {
        Err(NotANumber::new(text, expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_digits_only() {
        assert_eq!(parse_whole("0042"), Ok(42));
        for bad in [
            "",
            "+5",
            "-1",
            " 5",
            "5 ",
            "1e3",
            "0x10",
            "18446744073709551616",
            "٣",
        ] {
            assert!(parse_whole(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn fractions_take_one_point_and_no_words() {
        assert_eq!(parse_fraction("0.5"), Ok(0.5));
        assert_eq!(parse_fraction("2"), Ok(2.0));
        for bad in [
            "", ".", "1.", ".5", "nan", "inf", "1e3", "-1", "1.2.3", "1,5",
        ] {
            assert!(parse_fraction(bad).is_err(), "{bad:?}");
        }
    }
}
