//! Label and field selectors.
//! Rules: upstream `k8s.io/apimachinery/pkg/labels/selector.go`, `pkg/fields/selector.go`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kube_model::syntax::{label_value, qualified_name};

/// All of these must hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Labels(Vec<Requirement>);

#[derive(Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Debug, PartialEq, Eq)]
enum Operator {
    Exists,
    Missing,
    In(Vec<String>),
    /// A label that is missing is not in the list either.
    NotIn(Vec<String>),
    Greater(i64),
    Less(i64),
}

impl Labels {
    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut depth = 0_usize;
        let parts = text.split(|c| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        });
        parts.map(requirement).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.0.iter().all(|Requirement { key, operator }| {
            let value = labels.and_then(|labels| labels.get(key));
            let number = || value.and_then(|value| value.parse::<i64>().ok());
            match operator {
                Operator::Exists => value.is_some(),
                Operator::Missing => value.is_none(),
                Operator::In(list) => value.is_some_and(|value| list.contains(value)),
                Operator::NotIn(list) => value.is_none_or(|value| !list.contains(value)),
                Operator::Greater(than) => number().is_some_and(|number| number > *than),
                Operator::Less(than) => number().is_some_and(|number| number < *than),
            }
        })
    }
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let text = text.trim();
    let split_at = |at: usize, length: usize| (text[..at].trim(), text[at + length..].trim());
    let (key, operator) = if let Some(key) = text.strip_prefix('!') {
        (key.trim(), Operator::Missing)
    } else if let Some((key, list)) = set(text) {
        let (negated, list) = list?;
        (key, if negated { Operator::NotIn(list) } else { Operator::In(list) })
    } else if let Some(at) = text.find("!=") {
        let (key, value) = split_at(at, 2);
        (key, Operator::NotIn(vec![value.to_owned()]))
    } else if let Some(at) = text.find('=') {
        let (key, value) = split_at(at, if text[at..].starts_with("==") { 2 } else { 1 });
        (key, Operator::In(vec![value.to_owned()]))
    } else if let Some(at) = text.find(['>', '<']) {
        let (key, value) = split_at(at, 1);
        let number = value.parse().map_err(|_| format!("{value:?} in {text:?} is no number"))?;
        (key, if text[at..].starts_with('>') { Operator::Greater(number) } else { Operator::Less(number) })
    } else {
        (text, Operator::Exists)
    };
    if let Some(why) = qualified_name(key) {
        return Err(format!("{key:?} is no label: {why}"));
    }
    if let Operator::In(values) | Operator::NotIn(values) = &operator
        && let Some((value, why)) = values.iter().find_map(|value| Some((value, label_value(value)?)))
    {
        return Err(format!("{value:?} is no value of a label: {why}"));
    }
    Ok(Requirement { key: key.to_owned(), operator })
}

/// `key in (a, b)` or `key notin (a, b)`: the key, whether it is negated, and the list.
#[expect(clippy::type_complexity, reason = "used in one place")]
fn set(text: &str) -> Option<(&str, Result<(bool, Vec<String>), String>)> {
    let (key, rest) = text.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (negated, list) = match rest.strip_prefix("notin") {
        Some(list) => (true, list),
        None => (false, rest.strip_prefix("in")?),
    };
    let list = list.trim().strip_prefix('(').and_then(|list| list.strip_suffix(')'));
    let list = list.map(|list| list.split(',').map(|value| value.trim().to_owned()).collect());
    Some((key, list.map(|list| (negated, list)).ok_or_else(|| format!("expected (a, b) after {key:?} in"))))
}

/// All of these must hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<Field>);

#[derive(Debug, PartialEq, Eq)]
struct Field {
    name: String,
    value: String,
    equal: bool,
}

impl Fields {
    /// Reads `a=b,c!=d`, with `\` before what has a meaning of its own, over the fields that are `known`.
    pub(super) fn parse(text: &str, known: &[&str]) -> Result<Self, String> {
        let mut fields = Vec::new();
        for term in terms(text) {
            let at = term.find('=').ok_or_else(|| format!("{term:?} compares nothing"))?;
            let (name, equal) = match term[..at].strip_suffix('!') {
                Some(name) => (name, false),
                None => (&term[..at], true),
            };
            let value = term[at + 1..].strip_prefix('=').unwrap_or(&term[at + 1..]);
            if !known.contains(&name) {
                return Err(format!("field label not supported: {name}"));
            }
            fields.push(Field { name: name.to_owned(), value: unescaped(value), equal });
        }
        Ok(Self(fields))
    }

    /// Whether they hold for an object with these values.
    pub(super) fn matches<'a>(&self, value: impl Fn(&str) -> Cow<'a, str>) -> bool {
        self.0.iter().all(|field| (value(&field.name) == field.value) == field.equal)
    }
}

/// The parts between commas that have no `\` before them.
fn terms(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    let parts = text.split(move |c| {
        let comma = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        comma
    });
    parts.filter(|part| !part.is_empty())
}

fn unescaped(text: &str) -> String {
    let mut escaped = false;
    text.chars()
        .filter(|c| {
            escaped = *c == '\\' && !escaped;
            !escaped
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_match_as_in_kubernetes() {
        let labels = [("app", "web"), ("tier", "a.b_c"), ("x.io/n", "7"), ("empty", "")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            (" app = web , tier = a.b_c ", true),
            ("app=db", false),
            ("app!=web", false),
            ("app!=db,none!=web", true),
            ("app", true),
            ("none", false),
            ("!none", true),
            ("! app", false),
            ("app in (db, web),tier", true),
            ("app in(db)", false),
            ("app notin (db)", true),
            ("none notin (db)", true),
            ("app notin (web,db)", false),
            ("empty=", true),
            ("empty in (,a)", true),
            ("x.io/n>6,x.io/n<8", true),
            ("x.io/n>7", false),
            ("app>1", false),
            ("none<1", false),
        ] {
            assert_eq!(Labels::parse(text).unwrap().matches(Some(&labels)), expected, "{text}");
        }
        assert!(Labels::parse("!app").unwrap().matches(None));
    }

    #[test]
    fn labels_that_are_no_selector_are_errors() {
        for text in
            ["=", "a b", "a in", "a in b", "a in (b", "a,", ",a", "a=b=c", "-", "a>b", "a=%", "a/b/c", "(a)"]
        {
            assert!(Labels::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn fields_match_as_in_kubernetes() {
        let known = ["metadata.name", "status.phase"];
        let value = |name: &str| Cow::from(if name == "metadata.name" { "a,b=c\\d" } else { "Running" });
        for (text, expected) in [
            ("", true),
            ("status.phase=Running", true),
            ("status.phase==Running", true),
            ("status.phase!=Running", false),
            ("status.phase!=Pending,status.phase!=Failed", true),
            ("status.phase=Running,metadata.name=x", false),
            (r"metadata.name=a\,b\=c\\d", true),
        ] {
            assert_eq!(Fields::parse(text, &known).unwrap().matches(value), expected, "{text}");
        }
        for text in ["spec.other=x", "status.phase", "=x"] {
            assert!(Fields::parse(text, &known).is_err(), "{text}");
        }
    }
}
