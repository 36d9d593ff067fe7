//! A JSON number, byte by byte: its grammar, its text, and whether a 64-bit float can hold it.
//!
//! Go decodes each number of an untyped document as `float64` and refuses one that would be infinite, so the scanner must
//! too. Its size is compared digit by digit with the smallest number that rounds to infinity, so that nothing is stored.

use std::cmp::Ordering;

/// Decimal digits of [`OVERFLOW`].
const OVERFLOW_DIGITS: usize = 309;
/// 2^1024 - 2^970, the smallest integer that rounds to infinity, in its 309 decimal digits.
const OVERFLOW: &[u8; OVERFLOW_DIGITS] = b"17976931348623158079372897140530341507993413271003782693617377898044496829276475094664901797758720709633028641669288791094\
6555547851840402630657488671505820681908902000708383676273854845817711531764475730270069855571366959622842914819860834936475292719074168444365510704342711\
559699508093042880177904174497792";

/// Its power of ten, written as `0.d1d2d3…`.
const OVERFLOW_MAGNITUDE: i64 = 309;

/// Bytes of a number's text that are kept; more digits than these name no token and no limit.
pub(super) const TEXT_BYTES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    Minus,
    Zero,
    Integer,
    Dot,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// What a byte did to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Belongs to it.
    More,
    /// The number ended before it.
    Ended,
    /// Breaks it.
    Broken,
}

/// A number being read.
#[derive(Debug)]
pub(super) struct Number {
    place: Place,
    text: [u8; TEXT_BYTES],
    length: usize,
    /// Significant digits seen, leading zeros left out.
    digits: usize,
    /// How the significant digits so far compare with those of [`OVERFLOW`].
    against_overflow: Ordering,
    /// Power of ten of the value written as `0.d1d2d3…`, before the exponent.
    magnitude: i64,
    exponent: i64,
    exponent_negative: bool,
}

impl Number {
    /// Nothing read yet.
    pub(super) fn new() -> Self {
        Self {
            place: Place::Start,
            text: [0; TEXT_BYTES],
            length: 0,
            digits: 0,
            against_overflow: Ordering::Equal,
            magnitude: 0,
            exponent: 0,
            exponent_negative: false,
        }
    }

    /// The next byte.
    pub(super) fn step(&mut self, byte: u8) -> Step {
        let place = match (self.place, byte) {
            (Place::Start, b'-') => Place::Minus,
            (Place::Start | Place::Minus, b'0') => Place::Zero,
            (Place::Start | Place::Minus, b'1'..=b'9') | (Place::Integer, b'0'..=b'9') => {
                self.magnitude += 1;
                self.digit(byte);
                Place::Integer
            }
            (Place::Zero | Place::Integer, b'.') => Place::Dot,
            (Place::Dot | Place::Fraction, b'0'..=b'9') => {
                if self.digits == 0 && byte == b'0' {
                    self.magnitude -= 1;
                } else {
                    self.digit(byte);
                }
                Place::Fraction
            }
            (Place::Zero | Place::Integer | Place::Fraction, b'e' | b'E') => Place::Exponent,
            (Place::Exponent, b'+' | b'-') => {
                self.exponent_negative = byte == b'-';
                Place::ExponentSign
            }
            (Place::Exponent | Place::ExponentSign | Place::ExponentDigits, b'0'..=b'9') => {
                // Go stops to count here, so that 1e99999999999 cannot wrap.
                if self.exponent < 10_000 {
                    self.exponent = self.exponent * 10 + i64::from(byte - b'0');
                }
                Place::ExponentDigits
            }
            (Place::Zero | Place::Integer | Place::Fraction | Place::ExponentDigits, _) => {
                return Step::Ended;
            }
            _ => return Step::Broken,
        };
        self.place = place;
        if let Some(slot) = self.text.get_mut(self.length) {
            *slot = byte;
            self.length += 1;
        }
        Step::More
    }

    fn digit(&mut self, byte: u8) {
        if self.against_overflow == Ordering::Equal
            && let Some(limit) = OVERFLOW.get(self.digits)
        {
            self.against_overflow = byte.cmp(limit);
        }
        self.digits += 1;
    }

    /// The first [`TEXT_BYTES`] bytes of it.
    pub(super) fn text(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// Whether it rounds to an infinite 64-bit float.
    pub(super) fn overflows(&self) -> bool {
        if self.digits == 0 {
            return false;
        }
        let exponent = if self.exponent_negative {
            -self.exponent
        } else {
            self.exponent
        };
        match (self.magnitude + exponent).cmp(&OVERFLOW_MAGNITUDE) {
            Ordering::Less => false,
            Ordering::Greater => true,
            // Equal so far but shorter means smaller: the last digit of the bound is not 0.
            Ordering::Equal => match self.against_overflow {
                Ordering::Less => false,
                Ordering::Greater => true,
                Ordering::Equal => self.digits >= OVERFLOW_DIGITS,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn overflows(text: &str) -> bool {
        let mut number = Number::new();
        for byte in text.bytes() {
            assert_eq!(number.step(byte), Step::More, "{text}");
        }
        number.overflows()
    }

    #[test]
    fn only_numbers_that_round_to_infinity_overflow() {
        let bound = std::str::from_utf8(OVERFLOW).expect("digits");
        let below = format!("{}1", &bound[..bound.len() - 1]);
        for (text, expected) in [
            ("1e308", false),
            ("1.7976931348623157e308", false),
            ("1.7976931348623158e308", false),
            ("1.7976931348623159e308", true),
            ("1e309", true),
            ("-1e309", true),
            ("0e999999999999", false),
            ("0.0000e400", false),
            ("1e-999999999999", false),
            ("0.001e312", true),
            ("0.001e311", false),
            ("1e99999999999999999999", true),
            (bound, true),
            (below.as_str(), false),
        ] {
            assert_eq!(overflows(text), expected, "{text}");
        }
        assert!(overflows(&"9".repeat(310)) && !overflows(&format!("0.{}1e310", "0".repeat(5))));
    }

    proptest! {
        #[test]
        fn agrees_with_the_float_parser(text in "-?(0|[1-9][0-9]{0,330})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?") {
            let value: f64 = text.parse().expect("number");
            prop_assert_eq!(overflows(&text), value.is_infinite());
        }
    }
}
