//! Maps: `key=value,key=value`. The first use of a flag replaces what was there, further ones add to it; the words
//! of errors are component-base's.

use std::collections::BTreeMap;

use super::{FlagValue, kind};
use crate::flag::{Kind, Slot};

/// How the pairs of a map are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pairs {
    separator: char,
    /// Whether one use can hold several pairs.
    several: bool,
    /// Whether a key can stand alone.
    alone: bool,
    /// Whether the first use replaces what was there.
    replace: bool,
    expected: &'static str,
}

/// `key=value,...`
pub(crate) const EQUALS: Pairs =
    Pairs { separator: '=', several: true, alone: false, replace: true, expected: "pairs such as a=1,b=2" };
/// `signal<value,...`: eviction thresholds.
pub(crate) const LESS: Pairs = Pairs {
    separator: '<',
    expected: "thresholds such as memory.available<100Mi,nodefs.available<10%",
    ..EQUALS
};
/// `key=value`, where the value can hold commas.
pub(crate) const WHOLE: Pairs = Pairs { several: false, expected: "a pair such as a=1", ..EQUALS };
/// `key=value,...` where a key alone has an empty value, and that only ever adds.
pub(crate) const LABELS: Pairs =
    Pairs { alone: true, replace: false, expected: "labels such as a=b,c=d", ..EQUALS };

/// A slot for a map of strings.
pub(crate) struct PairSlot<T>(Pairs, fn(&mut T) -> &mut BTreeMap<String, String>);

/// The slot for the map that `get` gives access to.
pub(crate) const fn pairs<T>(how: Pairs, get: fn(&mut T) -> &mut BTreeMap<String, String>) -> PairSlot<T> {
    PairSlot(how, get)
}

impl<T> Slot<T> for PairSlot<T> {
    fn kind(&self) -> Kind {
        kind("mapStringString", self.0.expected)
    }

    fn set(&self, values: &mut T, text: &str, first: bool) -> Result<(), String> {
        let how = self.0;
        let mut read = Vec::new();
        for pair in parts(text, how.several) {
            read.push(match pair.split_once(how.separator) {
                Some((key, value)) => (trimmed(key), trimmed(value)),
                None if how.alone => (trimmed(pair), String::new()),
                None => return Err(format!("malformed pair, expect string{}string", how.separator)),
            });
        }
        let map = (self.1)(values);
        if first && how.replace {
            map.clear();
        }
        map.extend(read);
        Ok(())
    }
}

fn trimmed(text: &str) -> String {
    text.trim().to_owned()
}

fn parts(text: &str, several: bool) -> impl Iterator<Item = &str> {
    let whole = (!several).then_some(text);
    let split = several.then(|| text.split(',').filter(|part| !part.is_empty()));
    whole.into_iter().chain(split.into_iter().flatten())
}

impl FlagValue for BTreeMap<String, bool> {
    const KIND: Kind = kind("mapStringBool", "pairs such as a=true,b=false");

    fn set(&mut self, text: &str, first: bool) -> Result<(), String> {
        let mut read = Vec::new();
        for pair in parts(text, true) {
            let (key, value) = pair.split_once('=').ok_or("malformed pair, expect string=bool")?;
            let (key, value) = (key.trim(), value.trim());
            let mut on = false;
            on.set(value, true).map_err(|error| format!("invalid value of {key}: {value}, err: {error}"))?;
            read.push((key.to_owned(), on));
        }
        if first {
            self.clear();
        }
        self.extend(read);
        Ok(())
    }
}

/// HTTP headers: `name:value,name:value`; a name can stand several times.
impl FlagValue for BTreeMap<String, Vec<String>> {
    const KIND: Kind = kind("colonSeparatedMultimapStringString", "headers such as a:b,c:d");

    fn set(&mut self, text: &str, first: bool) -> Result<(), String> {
        let mut read = Vec::new();
        for pair in parts(text, true) {
            let (key, value) = pair.split_once(':').ok_or("malformed pair, expect string:string")?;
            read.push((trimmed(key), trimmed(value)));
        }
        if first {
            self.clear();
        }
        for (key, value) in read {
            self.entry(key).or_default().push(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Map = BTreeMap<String, String>;

    fn read(how: Pairs, texts: &[&str]) -> Result<Vec<(String, String)>, String> {
        let mut map = Map::from([("old".to_owned(), "1".to_owned())]);
        let slot = pairs(how, |map: &mut Map| map);
        for (index, text) in texts.iter().enumerate() {
            slot.set(&mut map, text, index == 0)?;
        }
        Ok(map.into_iter().collect())
    }

    #[test]
    fn maps_are_replaced_first_and_extended_then() {
        for (how, texts, expected) in [
            (EQUALS, vec!["a=1,b=2"], vec![("a", "1"), ("b", "2")]),
            (EQUALS, vec!["a=1", "b=x=y", "a=3"], vec![("a", "3"), ("b", "x=y")]),
            (EQUALS, vec![" a = 1 ,,"], vec![("a", "1")]),
            (EQUALS, vec![""], vec![]),
            (
                LESS,
                vec!["memory.available<1Gi,nodefs.available<10%"],
                vec![("memory.available", "1Gi"), ("nodefs.available", "10%")],
            ),
            (WHOLE, vec!["a=1,b=2", "c=3"], vec![("a", "1,b=2"), ("c", "3")]),
            (LABELS, vec!["a=1,b"], vec![("a", "1"), ("b", ""), ("old", "1")]),
        ] {
            let got = read(how, &texts).unwrap();
            let got: Vec<_> = got.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert_eq!(got, expected, "{texts:?}");
        }
        assert_eq!(read(EQUALS, &["a"]).unwrap_err(), "malformed pair, expect string=string");
        assert_eq!(read(WHOLE, &[""]).unwrap_err(), "malformed pair, expect string=string");
        assert_eq!(read(LESS, &["a=1"]).unwrap_err(), "malformed pair, expect string<string");
    }

    #[test]
    fn gates_are_switches() {
        let mut gates = BTreeMap::new();
        gates.set("A=true, B = f", true).unwrap();
        gates.set("C=1", false).unwrap();
        assert_eq!(gates, BTreeMap::from([("A".into(), true), ("B".into(), false), ("C".into(), true)]));
        assert_eq!(gates.set("A", true).unwrap_err(), "malformed pair, expect string=bool");
        assert_eq!(
            gates.set("A=on", true).unwrap_err(),
            "invalid value of A: on, err: strconv.ParseBool: parsing \"on\": invalid syntax"
        );
        assert_eq!(gates.len(), 3, "an error changes nothing");
    }

    #[test]
    fn headers_can_repeat() {
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        headers.set("a:1,b: x:y", true).unwrap();
        headers.set("a:2", false).unwrap();
        assert_eq!(headers["a"], ["1", "2"]);
        assert_eq!(headers["b"], ["x:y"]);
        assert_eq!(headers.set("a=1", true).unwrap_err(), "malformed pair, expect string:string");
    }
}
