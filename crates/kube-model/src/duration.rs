//! Durations as Go writes them: `1m30s`, `0s`, `1.5h`, `-2us`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A signed span of time with the range and resolution of Go's `time.Duration`: 64 bits of nanoseconds, about
/// 292 years. Parsed, printed, and read from and written to JSON as Go does.
///
/// ```
/// # use kube_model::duration::GoDuration;
/// let timeout: GoDuration = "1.5h".parse()?;
/// assert_eq!(timeout.to_string(), "1h30m0s");
/// # Ok::<(), kube_model::duration::DurationError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(i64);

/// Why a text is no duration, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a number with a unit, or too large.
    #[error("time: invalid duration {}", quote(.0))]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {}", quote(.0))]
    MissingUnit(String),
    /// No such unit.
    #[error("time: unknown unit {} in duration {}", quote(.unit), quote(.text))]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole text.
        text: String,
    },
}

/// Go's own quoting for these messages: bytes outside of printable ASCII as `\x..`.
fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

impl GoDuration {
    /// From nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From seconds; the longest duration if that is too many.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// In nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// As the standard library's duration; `None` when negative.
    pub fn to_std(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }
}

impl From<Duration> for GoDuration {
    /// The longest duration if `duration` is longer.
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    })
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let invalid = || DurationError::Invalid(text.to_owned());
        let negative = text.starts_with('-');
        let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let limit = 1_u64 << 63;
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (whole, after) = digits(rest);
            let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
            if whole.is_empty() && fraction.is_empty() {
                return Err(invalid());
            }
            let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
            let (name, after) = after.split_at(end);
            if name.is_empty() {
                return Err(DurationError::MissingUnit(text.to_owned()));
            }
            let unit = unit(name)
                .ok_or_else(|| DurationError::UnknownUnit { unit: name.to_owned(), text: text.to_owned() })?;
            let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
            // Floating point, because Go's answer has its rounding: 0.3333333333333333333h are 20m there.
            let (mut part, mut scale) = (0_u64, 1.0);
            for digit in fraction.bytes().map(|b| u64::from(b - b'0')) {
                if part > (limit - 1) / 10 || part * 10 + digit > limit {
                    break;
                }
                part = part * 10 + digit;
                scale *= 10.0;
            }
            let part = (part as f64 * (unit as f64 / scale)) as u64;
            total = whole
                .checked_mul(unit)
                .and_then(|v| v.checked_add(part))
                .and_then(|v| v.checked_add(total))
                .filter(|v| *v <= limit)
                .ok_or_else(invalid)?;
            rest = after;
        }
        if negative {
            return Ok(Self(0_i64.wrapping_sub_unsigned(total)));
        }
        i64::try_from(total).map(Self).map_err(|_| invalid())
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let (value, unit, name) = match nanos {
            0 => return f.write_str("0s"),
            1..1_000 => (nanos, 1, "ns"),
            1_000..1_000_000 => (nanos, 1_000, "\u{b5}s"),
            1_000_000..1_000_000_000 => (nanos, 1_000_000, "ms"),
            _ => {
                let minutes = nanos / 60_000_000_000;
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                (nanos % 60_000_000_000, 1_000_000_000, "s")
            }
        };
        let fraction = format!("{:09}", value % unit * (1_000_000_000 / unit));
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        write!(f, "{}{dot}{fraction}{name}", value / unit)
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = GoDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"1m30s\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<GoDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_printed_as_in_go() {
        for (text, printed) in [
            ("0", "0s"),
            ("-0", "0s"),
            ("0s", "0s"),
            ("1m30s", "1m30s"),
            ("90s", "1m30s"),
            ("1.5h", "1h30m0s"),
            ("1h", "1h0m0s"),
            (".5s", "500ms"),
            ("5.s", "5s"),
            ("+5s", "5s"),
            ("-2m", "-2m0s"),
            ("1ns", "1ns"),
            ("1100ns", "1.1µs"),
            ("1us", "1µs"),
            ("1µs", "1µs"),
            ("1μs", "1µs"),
            ("2200us", "2.2ms"),
            ("1.000000001s", "1.000000001s"),
            ("3.3s", "3.3s"),
            ("4m5.001s", "4m5.001s"),
            ("5h6m7.001s", "5h6m7.001s"),
            ("0.3333333333333333333h", "20m0s"),
            ("0.100000000000000000000h", "6m0s"),
            ("9223372036854775807ns", "2562047h47m16.854775807s"),
            ("-9223372036854775808ns", "-2562047h47m16.854775808s"),
            ("10s5s", "15s"),
        ] {
            let got: GoDuration = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(got.to_string(), printed, "{text}");
            assert_eq!(printed.parse::<GoDuration>().unwrap(), got, "{printed}");
        }
    }

    #[test]
    fn errors_are_in_gos_words() {
        for (text, want) in [
            ("", r#"time: invalid duration """#),
            ("-", r#"time: invalid duration "-""#),
            (".", r#"time: invalid duration ".""#),
            ("s", r#"time: invalid duration "s""#),
            ("3", r#"time: missing unit in duration "3""#),
            ("1s2", r#"time: missing unit in duration "1s2""#),
            ("5 s", r#"time: unknown unit " s" in duration "5 s""#),
            ("1d", r#"time: unknown unit "d" in duration "1d""#),
            ("1\u{e9}", r#"time: unknown unit "\xc3\xa9" in duration "1\xc3\xa9""#),
            ("\"x", r#"time: invalid duration "\"x""#),
            ("9223372036854775808ns", r#"time: invalid duration "9223372036854775808ns""#),
            ("99999999999999999999s", r#"time: invalid duration "99999999999999999999s""#),
            ("3000000h", r#"time: invalid duration "3000000h""#),
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap_err().to_string(), want, "{text:?}");
        }
    }

    #[test]
    fn json_holds_the_text() {
        let duration: GoDuration = serde_json::from_str("\"1m0s\"").unwrap();
        assert_eq!(duration, GoDuration::from_secs(60));
        assert_eq!(serde_json::to_string(&duration).unwrap(), "\"1m0s\"");
        assert!(serde_json::from_str::<GoDuration>("5").is_err());
    }

    #[test]
    fn a_negative_duration_has_no_standard_form() {
        assert_eq!(GoDuration::from_secs(-1).to_std(), None);
        assert_eq!(GoDuration::from_secs(2).to_std(), Some(Duration::from_secs(2)));
        assert_eq!(GoDuration::from(Duration::MAX).as_nanos(), i64::MAX);
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_reads_back_as_the_same_duration(nanos: i64) {
            let duration = GoDuration::from_nanos(nanos);
            proptest::prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
