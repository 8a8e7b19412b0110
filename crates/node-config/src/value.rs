//! Values of flags: how the text of each type is read. The grammar and the reasons are those of Go's `strconv`
//! and `time` packages as pflag uses them.

mod csv;
mod maps;
mod special;

use kube_model::duration::GoDuration;

use crate::flag::{Kind, Shown};

pub(crate) use maps::{EQUALS, LABELS, LESS, WHOLE, pairs};
pub(crate) use special::{ip, parse_ip};

/// A type that a flag can have.
pub trait FlagValue: 'static {
    /// How it is shown and whether it may be left out.
    const KIND: Kind;

    /// Reads `text`; see [`Slot::set`](crate::flag::Slot::set).
    fn set(&mut self, text: &str, first: bool) -> Result<(), String>;
}

pub(crate) const fn kind(name: &'static str, expected: &'static str) -> Kind {
    Kind { name, expected, alone: None, shown: Shown::Plain }
}

impl FlagValue for bool {
    const KIND: Kind = Kind { alone: Some("true"), ..kind("", "true or false") };

    fn set(&mut self, text: &str, _first: bool) -> Result<(), String> {
        *self = match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
        };
        Ok(())
    }
}

impl FlagValue for String {
    const KIND: Kind = Kind { shown: Shown::Quoted, ..kind("string", "a text") };

    fn set(&mut self, text: &str, _first: bool) -> Result<(), String> {
        text.clone_into(self);
        Ok(())
    }
}

impl FlagValue for GoDuration {
    const KIND: Kind = kind("duration", "a duration such as 20s or 1m30s");

    fn set(&mut self, text: &str, _first: bool) -> Result<(), String> {
        *self = text.parse().map_err(|error: kube_model::duration::DurationError| error.to_string())?;
        Ok(())
    }
}

impl FlagValue for i32 {
    const KIND: Kind = kind("int32", "a whole number");

    fn set(&mut self, text: &str, _first: bool) -> Result<(), String> {
        *self = i32::try_from(parse_int(text)?).map_err(|_| out_of_range("ParseInt", text))?;
        Ok(())
    }
}

impl FlagValue for i64 {
    const KIND: Kind = kind("int", "a whole number");

    fn set(&mut self, text: &str, _first: bool) -> Result<(), String> {
        *self = i64::try_from(parse_int(text)?).map_err(|_| out_of_range("ParseInt", text))?;
        Ok(())
    }
}

impl FlagValue for u32 {
    const KIND: Kind = kind("Level", "a whole number, 0 or more");

    /// A klog verbosity, which has 31 bits.
    fn set(&mut self, text: &str, _first: bool) -> Result<(), String> {
        *self = parse_verbosity(text)?;
        Ok(())
    }
}

/// What to do about the version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Version {
    /// Nothing.
    #[default]
    Silent,
    /// Print it for people.
    Short,
    /// Print all that is known of it.
    Raw,
    /// Report this one instead of our own.
    Reported(String),
}

impl FlagValue for Version {
    const KIND: Kind = Kind { name: "version[=true]", expected: "true, false, raw or v1.2.3", ..bool::KIND };

    fn set(&mut self, text: &str, first: bool) -> Result<(), String> {
        let numbers = text.strip_prefix('v').map(|rest| rest.split(['-', '+']).next().unwrap_or_default());
        *self = if text == "raw" {
            Self::Raw
        } else if let Some(numbers) = numbers {
            let parts: Vec<_> = numbers.split('.').collect();
            if parts.len() != 3 || parts.iter().any(|part| part.parse::<u32>().is_err()) {
                return Err("a version to report has the form v1.2.3".to_owned());
            }
            Self::Reported(text.to_owned())
        } else {
            let mut print = false;
            print.set(text, first)?;
            if print { Self::Short } else { Self::Silent }
        };
        Ok(())
    }
}

/// Go's `strconv.ParseUint` with base 0 and 31 bits.
pub(crate) fn parse_verbosity(text: &str) -> Result<u32, String> {
    if text.starts_with(['+', '-']) {
        return Err(syntax("ParseUint", text));
    }
    let number = parse_int(text).map_err(|error| error.replace("ParseInt", "ParseUint"))?;
    u32::try_from(number)
        .ok()
        .filter(|&level| level <= i32::MAX.unsigned_abs())
        .ok_or_else(|| out_of_range("ParseUint", text))
}

fn syntax(function: &str, text: &str) -> String {
    format!("strconv.{function}: parsing {text:?}: invalid syntax")
}

fn out_of_range(function: &str, text: &str) -> String {
    format!("strconv.{function}: parsing {text:?}: value out of range")
}

/// Go's integer literals: a sign, then decimal, `0x`, `0o`, `0b` or a leading `0` for octal; an underscore may
/// stand between digits and behind a prefix.
fn parse_int(text: &str) -> Result<i128, String> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = unsigned.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let digits = if radix == 10 { digits } else { digits.strip_prefix('_').unwrap_or(digits) };
    let well_formed =
        digits.split('_').all(|part| !part.is_empty() && part.chars().all(|c| c.is_digit(radix)));
    if !well_formed {
        return Err(syntax("ParseInt", text));
    }
    let magnitude =
        i128::from_str_radix(&digits.replace('_', ""), radix).map_err(|_| out_of_range("ParseInt", text))?;
    Ok(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<V: FlagValue + Default>(text: &str) -> Result<V, String> {
        let mut value = V::default();
        value.set(text, true).map(|()| value)
    }

    #[test]
    fn integers_read_as_go_reads_them() {
        for (text, expected) in [
            ("0", 0),
            ("110", 110),
            ("-1", -1),
            ("+7", 7),
            ("0x1F", 31),
            ("0o17", 15),
            ("017", 15),
            ("0_17", 15),
            ("0b101", 5),
            ("1_000", 1000),
            ("0x_ff", 255),
            ("2147483647", i32::MAX),
            ("-2147483648", i32::MIN),
        ] {
            assert_eq!(read::<i32>(text), Ok(expected), "{text}");
        }
        for text in ["", "x", "1.5", "1e3", " 1", "1_", "_1", "1__0", "0x", "08", "--1", "1-", "٣"] {
            assert_eq!(
                read::<i32>(text),
                Err(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")),
                "{text}"
            );
        }
        for text in ["2147483648", "-2147483649", "99999999999999999999999999999999999999999999"] {
            assert_eq!(
                read::<i32>(text),
                Err(format!("strconv.ParseInt: parsing {text:?}: value out of range"))
            );
        }
        assert_eq!(read::<i64>("9223372036854775807"), Ok(i64::MAX));
        assert!(read::<i64>("9223372036854775808").is_err());
    }

    #[test]
    fn verbosity_is_a_number_without_sign() {
        assert_eq!(read::<u32>("4"), Ok(4));
        assert_eq!(read::<u32>("0xA"), Ok(10));
        assert_eq!(read::<u32>("2147483647"), Ok(i32::MAX.unsigned_abs()));
        for text in ["-1", "+1", "x", ""] {
            assert_eq!(
                read::<u32>(text),
                Err(format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
            );
        }
        let large = "2147483648";
        assert_eq!(
            read::<u32>(large),
            Err(format!("strconv.ParseUint: parsing {large:?}: value out of range"))
        );
    }

    #[test]
    fn a_version_is_printed_or_reported() {
        for (text, expected) in [
            ("true", Version::Short),
            ("1", Version::Short),
            ("false", Version::Silent),
            ("raw", Version::Raw),
            ("v1.36.9-rc.1+x", Version::Reported("v1.36.9-rc.1+x".into())),
        ] {
            assert_eq!(read::<Version>(text), Ok(expected), "{text}");
        }
        for text in ["maybe", "v1", "v1.2.x", "1.36.0", ""] {
            assert!(read::<Version>(text).is_err(), "{text}");
        }
    }
}
