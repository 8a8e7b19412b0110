//! Lists: one line of comma-separated values with the quoting of Go's `encoding/csv`, as pflag's `stringSlice`.

use super::{FlagValue, kind};
use crate::flag::{Kind, Shown};

impl FlagValue for Vec<String> {
    const KIND: Kind = Kind { shown: Shown::Listed, ..kind("strings", "a comma-separated list") };

    fn set(&mut self, text: &str, first: bool) -> Result<(), String> {
        let items = if text.is_empty() { Vec::new() } else { split(text)? };
        if first {
            self.clear();
        }
        self.extend(items);
        Ok(())
    }
}

fn split(text: &str) -> Result<Vec<String>, String> {
    let Some(line) = text.lines().find(|line| !line.is_empty()) else { return Err("EOF".to_owned()) };
    let at = |rest: &str, what: &str| {
        format!("parse error on line 1, column {}: {what}", line.len() - rest.len() + 1)
    };
    let mut items = Vec::new();
    let mut rest = line;
    loop {
        let (item, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                unquote(quoted).map_err(|after| at(after, "extraneous or missing \" in quoted-field"))?
            }
            None => {
                let (item, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if let Some(quote) = item.find('"') {
                    return Err(at(&rest[quote..], "bare \" in non-quoted field"));
                }
                (item.to_owned(), after)
            }
        };
        items.push(item);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None => return Ok(items),
        }
    }
}

/// The text before the closing quote, and what follows it: nothing or a comma. When it is neither, that place.
fn unquote(quoted: &str) -> Result<(String, &str), &str> {
    let mut item = String::new();
    let mut rest = quoted;
    loop {
        let Some((part, after)) = rest.split_once('"') else { return Err(&rest[rest.len()..]) };
        item.push_str(part);
        if let Some(after) = after.strip_prefix('"') {
            item.push('"');
            rest = after;
        } else if after.is_empty() || after.starts_with(',') {
            return Ok((item, after));
        } else {
            return Err(after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_replaced_first_and_extended_then() {
        let mut list = vec!["default".to_owned()];
        list.set("a,b", true).unwrap();
        list.set("c", false).unwrap();
        assert_eq!(list, ["a", "b", "c"]);
        list.set("", true).unwrap();
        assert!(list.is_empty());
    }

    #[test]
    fn quotes_hold_commas() {
        for (text, expected) in [
            ("a", vec!["a"]),
            ("a,,b,", vec!["a", "", "b", ""]),
            ("\"a,b\",c", vec!["a,b", "c"]),
            ("\"a\"\"b\"", vec!["a\"b"]),
            ("\"\"", vec![""]),
            (" a , b ", vec![" a ", " b "]),
            ("a\nb", vec!["a"]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text:?}");
        }
        for (text, error) in [
            ("a\"b", "parse error on line 1, column 2: bare \" in non-quoted field"),
            ("\"a", "parse error on line 1, column 3: extraneous or missing \" in quoted-field"),
            ("\"a\"b", "parse error on line 1, column 4: extraneous or missing \" in quoted-field"),
            ("\n", "EOF"),
        ] {
            assert_eq!(split(text).unwrap_err(), error, "{text:?}");
        }
    }
}
