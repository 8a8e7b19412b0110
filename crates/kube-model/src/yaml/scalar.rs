//! What a scalar means: YAML 1.1 as Go's `sigs.k8s.io/yaml` resolves it, with numbers as its JSON prints them.

use k8s_openapi::ByteString;
use serde_json::{Number, Value};

/// A resolved scalar.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    /// `<<` without quotes; as a value it is that string.
    Merge,
    Value(Value),
}

/// Why a scalar has no JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// `.inf`, `.nan`
    NotFinite,
    /// The value does not fit its tag.
    Tag(String),
}

/// Resolves `text`; `plain` means without quotes and not a block. `tag` is short: `!!int`, `!mine`.
pub(super) fn resolve(text: &str, plain: bool, tag: Option<&str>) -> Result<Scalar, Refused> {
    let string = || Ok(Scalar::Value(Value::String(text.to_owned())));
    let wrong_tag = |tag: &str| Err(Refused::Tag(tag.to_owned()));
    match tag {
        None if plain => plain_scalar(text),
        Some(tag @ "!!binary") => {
            match serde_json::from_value::<ByteString>(Value::String(text.to_owned())) {
                Ok(bytes) => Ok(Scalar::Value(String::from_utf8_lossy(&bytes.0).into())),
                Err(_) => wrong_tag(tag),
            }
        }
        Some(tag @ ("!!bool" | "!!int" | "!!float" | "!!null")) => {
            let scalar = plain_scalar(text)?;
            let fits = match &scalar {
                Scalar::Value(Value::Bool(_)) => tag == "!!bool",
                Scalar::Value(Value::Null) => tag == "!!null",
                // A float is none even if it is whole.
                Scalar::Value(Value::Number(_)) => {
                    tag == "!!float" || (tag == "!!int" && integer(&text.replace('_', "")).is_some())
                }
                _ => false,
            };
            if fits { Ok(scalar) } else { wrong_tag(tag) }
        }
        None | Some(_) => string(),
    }
}

fn plain_scalar(text: &str) -> Result<Scalar, Refused> {
    Ok(Scalar::Value(match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => true.into(),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => false.into(),
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "<<" => return Ok(Scalar::Merge),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf"
        | "-.Inf" | "-.INF" => return Err(Refused::NotFinite),
        _ => match number(text) {
            Some(number) => Value::Number(number),
            None => Value::String(text.to_owned()),
        },
    }))
}

fn number(text: &str) -> Option<Number> {
    if text.starts_with('.') {
        return float(text);
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') {
        return None;
    }
    let digits = text.replace('_', "");
    integer(&digits).or_else(|| float(&digits))
}

/// Go's `strconv.ParseInt` with base 0, then `ParseUint`.
fn integer(text: &str) -> Option<Number> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (Some(-1), &text[1..]),
        b'+' => (Some(1), &text[1..]),
        _ => (None, text),
    };
    let (radix, digits) = match rest.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &rest[2..]),
        [b'0', b'o' | b'O', ..] => (8, &rest[2..]),
        [b'0', b'b' | b'B', ..] => (2, &rest[2..]),
        [b'0', _, ..] => (8, &rest[1..]),
        _ => (10, rest),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?) * sign.unwrap_or(1);
    match i64::try_from(value) {
        Ok(value) => Some(value.into()),
        Err(_) if sign.is_none() => u64::try_from(value).ok().map(Into::into),
        Err(_) => None,
    }
}

/// Decimal floats. Go prints whole ones without a point, so they become integers and fit integer fields.
fn float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let shaped = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    let value = text.parse::<f64>().ok().filter(|value| shaped && value.is_finite())?;
    // 2^63: below it the cast is exact, because the value is whole.
    if value.fract() == 0.0 && value.abs() < 9_223_372_036_854_775_808.0 {
        return Some((value as i64).into());
    }
    Number::from_f64(value)
}
