//! Quantities as Kubernetes writes them (`100m`, `1536Mi`, `1e3`): parsed, compared and printed as Go's
//! `resource.Quantity` does.

use std::cmp::Ordering;
use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One unit, in billionths: the finest step that a quantity has.
const NANOS: i128 = 1_000_000_000;

/// What a binary quantity is cut down to: `2^63 - 1`.
const BINARY_MAX: i128 = i64::MAX as i128 * NANOS;

/// Why a text is no quantity; the first three are in Go's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number with a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The part before the suffix is no number.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// No such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// About 10^29 or more. Go takes these, and then reads back something else.
    #[error("quantity is too large or has too many digits")]
    OutOfRange,
}

/// Which family of suffixes a quantity was written with, and is printed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `1500m`, `12M`
    DecimalSI,
    /// `12Mi`
    BinarySI,
    /// `12e6`
    DecimalExponent,
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

/// A fixed-point number with nine decimal places, rounded up (away from zero) where more were given.
///
/// Equality and order are by value: `1Gi` equals `1024Mi`. Printing gives the canonical form, but keeps a
/// few texts as they were written (`+1`, `1.001`) because Go does. Rule: upstream
/// `apimachinery/pkg/api/resource`.
///
/// ```
/// # use kube_model::quantity::Quantity;
/// let cpu: Quantity = "1.5".parse()?;
/// assert_eq!((cpu.to_string().as_str(), cpu.milli_value(), cpu.value()), ("1500m", 1500, 2));
/// # Ok::<(), kube_model::quantity::QuantityError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Quantity {
    nanos: i128,
    format: Format,
    /// Whether Go holds it as an `int64` and a power of ten; decides what it makes of an overflow.
    small: bool,
    text: Option<Box<str>>,
}

impl Quantity {
    /// The value rounded up (away from zero) to a whole number.
    ///
    /// Outside of `i64` it gives what Go gives: 0 for a short text such as `16E`, else the lowest 64 bits.
    pub fn value(&self) -> i64 {
        self.scaled(NANOS)
    }

    /// The value in thousandths, rounded and limited as [`value`](Self::value).
    pub fn milli_value(&self) -> i64 {
        self.scaled(NANOS / 1000)
    }

    /// The value in billionths, exact.
    pub fn nanos(&self) -> i128 {
        self.nanos
    }

    /// Rounded up (away from zero) to thousandths, as the API keeps the amounts of resources.
    #[must_use]
    pub fn rounded_to_milli(self) -> Self {
        const MILLI: i128 = NANOS / 1000;
        if self.nanos % MILLI == 0 {
            return self;
        }
        Self { nanos: div_away(self.nanos, MILLI) * MILLI, text: None, ..self }
    }

    /// The family of suffixes it is printed with.
    pub fn format(&self) -> Format {
        self.format
    }

    fn scaled(&self, unit: i128) -> i64 {
        let value = div_away(self.nanos, unit);
        match i64::try_from(value) {
            Ok(value) => value,
            Err(_) if self.small => 0,
            Err(_) => value as i64,
        }
    }
}

impl AddAssign<&Self> for Quantity {
    /// The sum is printed as the first amount that is not zero.
    fn add_assign(&mut self, other: &Self) {
        if self.nanos == 0 {
            self.format = other.format;
        }
        self.nanos = self.nanos.saturating_add(other.nanos);
        self.small &= other.small;
        self.text = None;
    }
}

fn div_away(value: i128, unit: i128) -> i128 {
    value / unit + (value % unit).signum()
}

impl Default for Quantity {
    /// Zero, printed `0`.
    fn default() -> Self {
        Self { nanos: 0, format: Format::DecimalSI, small: true, text: None }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl TryFrom<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> for Quantity {
    type Error = QuantityError;

    /// From the text in an API object; blanks around it do not count.
    fn try_from(
        quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity,
    ) -> Result<Self, QuantityError> {
        quantity.0.trim().parse()
    }
}

/// What a suffix stands for: `base^exponent`.
fn suffix(suffix: &str) -> Option<(Format, i32)> {
    if let Some(i) = DECIMAL.iter().position(|s| *s == suffix) {
        return Some((Format::DecimalSI, i as i32 * 3 - 9));
    }
    if let Some(i) = BINARY.iter().position(|s| *s == suffix) {
        return Some((Format::BinarySI, i as i32 * 10));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    Some((Format::DecimalExponent, exponent.parse().ok()?))
}

/// `digits * 10^power` with what is below one rounded up; `None` when it does not fit.
fn shift(digits: &str, power: i32) -> Option<i128> {
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    if power >= 0 {
        let factor = 10_i128.checked_pow(power.unsigned_abs())?;
        return digits.parse::<i128>().ok()?.checked_mul(factor);
    }
    let (kept, cut) = digits.split_at(digits.len().saturating_sub(power.unsigned_abs() as usize));
    let kept: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    Some(kept + i128::from(cut.bytes().any(|b| b != b'0')))
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        use QuantityError as E;
        if text.is_empty() {
            return Err(E::Format);
        }
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, ending) = unsigned.split_at(end);
        let letters = ending.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let exponent = letters.strip_prefix(['+', '-']).unwrap_or(letters);
        if !exponent.bytes().all(|b| b.is_ascii_digit()) {
            return Err(E::Format);
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') {
            return Err(E::Format);
        }
        let (mut format, exponent) = suffix(ending).ok_or(E::Suffix)?;

        // Go counts a missing or zero whole part as one digit.
        let whole = Some(whole.trim_start_matches('0')).filter(|w| !w.is_empty()).unwrap_or("0");
        let digits = format!("{whole}{fraction}");
        let count = (digits.len() as i64).min(100);
        let places = i32::try_from(fraction.len()).map_err(|_| E::OutOfRange)?;
        let power = exponent.checked_sub(places).and_then(|p| p.checked_add(9)).ok_or(E::OutOfRange)?;

        let (magnitude, small, keep) = if format == Format::BinarySI {
            let value: f64 = format!("{whole}.{fraction}0").parse().map_err(|_| E::Numeric)?;
            let small = fraction.is_empty() && 14 - count - i64::from(exponent) * 3 / 10 >= 0;
            let odd = small && digits.parse::<i64>().is_ok_and(|v| v & 7 != 0);
            // Far beyond the limit: do not compute it. Up to there the digits fit, unless the fraction is long.
            let magnitude = if value * f64::from(exponent).exp2() >= 1e20 {
                BINARY_MAX
            } else {
                let scaled = digits.parse::<i128>().ok().and_then(|d| d.checked_mul(1 << exponent));
                shift(&scaled.ok_or(E::OutOfRange)?.to_string(), 9 - places).ok_or(E::OutOfRange)?
            };
            if (1..NANOS).contains(&magnitude) {
                format = Format::DecimalSI;
            }
            (magnitude.min(BINARY_MAX), small, odd)
        } else {
            let magnitude = shift(&digits, power).ok_or(E::OutOfRange)?;
            let small = count <= 18 && power >= 0;
            let canonical = (power % 3 == 0) && !digits.ends_with("000") && !digits.starts_with('0');
            (magnitude, small, small && canonical)
        };
        Ok(Self {
            nanos: if text.starts_with('-') { -magnitude } else { magnitude },
            format,
            small,
            text: keep.then(|| text.into()),
        })
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that loses nothing. Above `E` the exponent is
    /// written out; Go drops it there, and with it the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.text {
            return f.write_str(text);
        }
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let binary = self.format == Format::BinarySI;
        if binary && self.nanos.abs() >= 1024 * NANOS && self.nanos % NANOS == 0 {
            let (mut value, mut step) = (self.nanos / NANOS, 0);
            while value % 1024 == 0 {
                value /= 1024;
                step += 1;
            }
            return write!(f, "{value}{}", BINARY[step]);
        }
        let (mut mantissa, mut exponent) = (self.nanos, -9_i32);
        while mantissa % 1000 == 0 {
            mantissa /= 1000;
            exponent += 3;
        }
        match DECIMAL.get((exponent / 3 + 3).unsigned_abs() as usize) {
            Some(suffix) if self.format != Format::DecimalExponent => write!(f, "{mantissa}{suffix}"),
            _ if exponent == 0 => write!(f, "{mantissa}"),
            _ => write!(f, "{mantissa}e{exponent}"),
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    /// From a string or a bare number, as Go does.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as \"100Mi\" or a number")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.parse().map_err(|error| E::custom(format_args!("{text:?}: {error}")))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"))
    }

    #[test]
    fn every_recorded_quantity_comes_out_as_in_go() {
        let table = include_str!("../../../tests/fixtures/quantity.tsv");
        let mut seen = 0;
        for line in table.lines().filter(|l| !l.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            let got = match fields[0].parse::<Quantity>() {
                Ok(q) => vec![q.to_string(), q.value().to_string(), q.milli_value().to_string()],
                Err(_) => vec!["ERR".to_owned()],
            };
            assert_eq!(got, fields[1..], "{:?}", fields[0]);
            seen += 1;
        }
        assert_eq!(seen, 59);
    }

    #[test]
    fn errors_are_in_gos_words() {
        for (text, want) in [
            ("", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("1m5x", QuantityError::Format),
            ("1.2.3", QuantityError::Format),
            ("abc", QuantityError::Format),
            ("1Zi", QuantityError::Format),
            ("1K", QuantityError::Suffix),
            ("1m5", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1e99999999999", QuantityError::Suffix),
            ("1e30", QuantityError::OutOfRange),
            ("1ä", QuantityError::Format),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap_err(), want, "{text:?}");
        }
    }

    #[test]
    fn order_and_equality_are_by_value() {
        assert_eq!(parse("1Gi"), parse("1024Mi"));
        assert_eq!(parse("1"), parse("1000m"));
        assert!(parse("1G") < parse("1Gi"));
        assert!(parse("-1") < parse("0"));
        assert!(parse("1e20") < parse("123456789012345678901234567890"));
    }

    #[test]
    fn a_binary_quantity_is_cut_down_to_what_an_i64_holds() {
        for text in ["8Ei", "999999999999999999999999999999999999999999Ei", "8192Pi"] {
            assert_eq!(parse(text).value(), i64::MAX, "{text}");
        }
        assert_eq!(parse("-9Ei").value(), -i64::MAX);
    }

    #[test]
    fn what_is_finer_than_a_billionth_is_rounded_up() {
        assert_eq!(parse("0.0000000001").to_string(), "1n");
        assert_eq!(parse("-0.1n").nanos(), -1);
        assert_eq!(parse("1e-400").nanos(), 1);
        assert_eq!(parse("0e2000000000").nanos(), 0);
    }

    #[test]
    fn json_holds_a_text_or_a_number() {
        for (json, want) in
            [("\"1536Mi\"", "\"1536Mi\""), ("1024", "\"1024\""), ("0.5", "\"500m\""), ("-3", "\"-3\"")]
        {
            let quantity: Quantity = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&quantity).unwrap(), want, "{json}");
        }
        let error = serde_json::from_str::<Quantity>("\"1 Gi\"").unwrap_err().to_string();
        assert!(error.starts_with("\"1 Gi\": quantities must match"), "{error}");
    }

    #[test]
    fn what_is_finer_than_a_thousandth_is_rounded_up() {
        for (text, want) in [("100u", "1m"), ("0.0011", "2m"), ("-1n", "-1m"), ("+1", "+1"), ("1Gi", "1Gi")] {
            assert_eq!(parse(text).rounded_to_milli().to_string(), want, "{text}");
        }
    }

    #[test]
    fn a_sum_is_printed_as_its_first_part() {
        for (a, b, want) in [
            ("64Mi", "64Mi", "128Mi"),
            ("64Mi", "100M", "167108864"),
            ("100M", "64Mi", "167108864"),
            ("0", "1Ki", "1Ki"),
            ("500m", "0.5", "1"),
        ] {
            let mut sum = parse(a);
            sum += &parse(b);
            assert_eq!(sum.to_string(), want, "{a} {b}");
        }
    }

    #[test]
    fn beyond_exa_the_value_is_kept() {
        assert_eq!(parse("1000E").to_string(), "1e21");
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_reads_back_as_the_same_value(
            text in "[+-]?[0-9]{1,12}(\\.[0-9]{0,9})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9])?"
        ) {
            // Too many digits below a binary unit are refused.
            if let Ok(quantity) = text.parse::<Quantity>() {
                let printed = quantity.to_string();
                proptest::prop_assert_eq!(parse(&printed), quantity, "{} {}", text, printed);
            }
        }
    }
}
