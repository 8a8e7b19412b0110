//! Values of flags: how the text of each type is read. The grammar and the reasons are those of Go's `strconv`
//! and `time` packages as pflag uses them.

use std::net::{IpAddr, Ipv4Addr};

use kube_model::duration::GoDuration;

use crate::flag::Kind;

/// A type that a flag can have.
pub trait FlagValue: 'static {
    /// How it is shown and whether it may be left out.
    const KIND: Kind;

    /// Reads `text`; see [`Slot::set`](crate::flag::Slot::set).
    fn set(&mut self, text: &str, first: bool) -> Result<(), String>;
}

const fn kind(name: &'static str, expected: &'static str) -> Kind {
    Kind { name, expected, alone: None, quoted: false }
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
    const KIND: Kind = Kind { quoted: true, ..kind("string", "a text") };

    fn set(&mut self, text: &str, _first: bool) -> Result<(), String> {
        text.clone_into(self);
        Ok(())
    }
}

impl FlagValue for Vec<String> {
    const KIND: Kind = kind("strings", "a comma-separated list");

    fn set(&mut self, text: &str, first: bool) -> Result<(), String> {
        if first {
            self.clear();
        }
        if !text.is_empty() {
            self.extend(text.split(',').map(str::to_owned));
        }
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

/// An IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip(pub IpAddr);

impl Default for Ip {
    fn default() -> Self {
        Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

impl FlagValue for Ip {
    const KIND: Kind = kind("ip", "an IP address");

    fn set(&mut self, text: &str, _first: bool) -> Result<(), String> {
        self.0 = text.trim().parse().map_err(|_| format!("{text:?} is not a valid IP address"))?;
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

/// The value of `-v`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Level(pub u32);

impl FlagValue for Level {
    const KIND: Kind = kind("Level", "a whole number, 0 or more");

    fn set(&mut self, text: &str, _first: bool) -> Result<(), String> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(syntax("ParseUint", text));
        }
        // Fits into an int32, which is what klog has for it.
        self.0 = text
            .parse()
            .ok()
            .filter(|&level| level <= i32::MAX.unsigned_abs())
            .ok_or_else(|| out_of_range("ParseUint", text))?;
        Ok(())
    }
}

/// The value of `--version`: a bool that the help shows in its own way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Version(pub bool);

impl FlagValue for Version {
    const KIND: Kind = Kind { name: "version[=true]", ..bool::KIND };

    fn set(&mut self, text: &str, first: bool) -> Result<(), String> {
        self.0.set(text, first)
    }
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
    fn verbosity_is_a_plain_number_without_sign() {
        assert_eq!(read::<Level>("4"), Ok(Level(4)));
        assert_eq!(read::<Level>("-1"), Err("strconv.ParseUint: parsing \"-1\": invalid syntax".into()));
        assert_eq!(read::<Level>("+1"), Err("strconv.ParseUint: parsing \"+1\": invalid syntax".into()));
        let large = "2147483648";
        assert_eq!(
            read::<Level>(large),
            Err(format!("strconv.ParseUint: parsing {large:?}: value out of range"))
        );
    }

    #[test]
    fn a_list_is_replaced_first_and_extended_then() {
        let mut list = vec!["default".to_owned()];
        list.set("a,b", true).unwrap();
        list.set("c", false).unwrap();
        assert_eq!(list, ["a", "b", "c"]);
        list.set("", true).unwrap();
        assert!(list.is_empty());
    }
}
