#![expect(clippy::disallowed_methods, reason = "the recordings that it is compared with are files")]

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Error, MAX_DEPTH, Position, parse, parse_yaml};

/// One recorded answer of Go.
#[derive(Deserialize)]
struct Case {
    name: String,
    yaml: String,
    json: Option<Value>,
    error: Option<String>,
    strict_error: Option<String>,
}

/// Cases in which we do not agree with Go, with the reason. None at present.
const DIFFERENT: &[(&str, &str)] = &[];

fn at(line: u32, column: u32) -> Option<Position> {
    Some(Position { line, column })
}

#[test]
fn go_and_we_read_the_same() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/yaml-as-go-reads-it.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let mut wrong = Vec::new();
    let mut differing = BTreeSet::new();
    let cases: Vec<Case> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(cases.len(), 84);
    for case in &cases {
        let ours = parse_yaml(case.yaml.as_bytes());
        let same = match (&ours, &case.error) {
            (Ok(document), None) => {
                let duplicate = case.strict_error.is_some() && !case.yaml.contains("<<");
                same_json(&document.value, case.json.as_ref().unwrap_or(&Value::Null))
                    && duplicate != document.duplicates.is_empty()
            }
            (Err(_), Some(_)) => true,
            _ => false,
        };
        if !same {
            differing.insert(case.name.as_str());
            wrong.push(format!("{}: {:?} instead of {:?} {:?}", case.name, ours, case.json, case.error));
        }
    }
    let expected: BTreeSet<_> = DIFFERENT.iter().map(|(name, _)| *name).collect();
    assert_eq!(differing, expected, "{}", wrong.join("\n"));
}

/// Equal, where numbers are equal by value: the recording was written by another program than Go.
fn same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64()
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same_json(v, w)))
        }
        _ => a == b,
    }
}

#[test]
fn fields_are_found_where_they_stand() {
    let text = "\
# a comment
metadata:
  labels: {a.b/c: x, plain: y}
spec:
  containers:
  - name: one
    image: foo
  -
    name: two
    args:
      - \"ä\"
      - 0644
";
    let document = parse(text.as_bytes()).unwrap();
    let cases = [
        ("", at(2, 1)),
        ("spec", at(4, 1)),
        ("spec.containers", at(5, 3)),
        ("spec.containers[0]", at(6, 5)),
        ("spec.containers[0].image", at(7, 5)),
        ("spec.containers[1].args[1]", at(12, 9)),
        ("metadata.labels[a.b/c]", at(3, 12)),
        ("metadata.labels.plain", at(3, 22)),
        // Missing: the nearest parent.
        ("spec.containers[1].image", at(9, 5)),
        ("spec.containers[7].image", at(5, 3)),
        ("spec.nope.nope[3]", at(4, 1)),
    ];
    for (path, expected) in cases {
        assert_eq!(document.locate(path), expected, "{path}");
    }
    assert_eq!(document.unquoted("spec.containers[1].args[1]"), Some("0644"));
    assert_eq!(document.unquoted("metadata.labels.plain"), Some("y"));
    assert_eq!(document.unquoted("spec.containers[1].args[0]"), None);
    assert_eq!(document.unquoted("spec.containers[0].name"), None);
    assert_eq!(document.unquoted("spec.nope"), None);
}

#[test]
fn a_field_that_was_merged_is_found_at_its_anchor() {
    let document = parse(b"base: &b\n  k: 1\nother:\n  <<: *b\n  z: 2\n").unwrap();
    assert_eq!(document.value["other"], json!({"k": 1, "z": 2}));
    assert_eq!(document.locate("other.k"), at(2, 3));
    assert_eq!(document.locate("other.z"), at(5, 3));
    assert!(document.duplicates.is_empty());
}

#[test]
fn duplicates_are_told_with_path_and_line() {
    let document = parse(b"a:\n- b.c: 1\n  b.c: 2\n").unwrap();
    assert_eq!(document.value, json!({"a": [{"b.c": 2}]}));
    let [duplicate] = &document.duplicates[..] else { panic!("{:?}", document.duplicates) };
    assert_eq!((duplicate.path.as_str(), Some(duplicate.position)), ("a[0][b.c]", at(3, 3)));
    assert_eq!(document.locate("a[0][b.c]"), at(3, 3), "the one that won");
}

#[test]
fn only_the_first_document_is_read() {
    for (text, next) in [
        ("a: 1\n---\na: 2\n", at(2, 1)),
        ("a: 1\n---\n", None),
        ("a: 1\n---\n# nothing\n", None),
        ("a: 1\n...\n", None),
        ("---\na: 1\n---\n\"broken\n", at(3, 1)),
        ("{\"a\": 1}\n", None),
    ] {
        let document = parse(text.as_bytes()).unwrap();
        assert_eq!((&document.value, document.next_document), (&json!({"a": 1}), next), "{text:?}");
    }
}

#[test]
fn line_endings_and_byte_order_marks_do_not_matter() {
    for text in [
        "a: 1\r\nb: x\r\n",
        "\u{feff}a: 1\nb: x",
        "\u{feff}a: 1\r\nb:\r\n  x\r\n",
        "{\t\"a\": 1,\r\n\t\"b\": \"x\"\r\n}",
    ] {
        assert_eq!(parse(text.as_bytes()).unwrap().value, json!({"a": 1, "b": "x"}), "{text:?}");
    }
}

#[test]
fn what_can_not_be_read_is_told_with_its_place() {
    type Check = fn(&Error) -> bool;
    let cases: &[(&[u8], Option<Position>, Check)] = &[
        (b"a: \xff\xfe\n", at(1, 4), |e| matches!(e, Error::NotUtf8(_))),
        (b"a: 1\nb: \xc3", at(2, 4), |e| matches!(e, Error::NotUtf8(_))),
        (b"\xff\xfea\0:\0", None, |e| matches!(e, Error::Utf16)),
        (b"a: 1\nb: \0\nc: 2\n", at(2, 4), |e| matches!(e, Error::ControlCharacter { character: '\0', .. })),
        (b"a:\n\tb: 1\n", at(2, 1), |e| matches!(e, Error::Tab(_))),
        (b"a:\n  b: 1\n\tc: 2\n", at(3, 1), |e| matches!(e, Error::Tab(_))),
        (b"{\n\t\"a\": 1\n\t\"b\": 2\n}\n", at(3, 2), |e| matches!(e, Error::Syntax(..))),
        (b"a: 1\nb: \"\\", at(2, 2), |e| matches!(e, Error::Syntax(..))),
        (b"[!a,b]", at(1, 1), |e| matches!(e, Error::Syntax(..))),
        (b"a: [1, 2\nb: 3\n", at(2, 2), |e| matches!(e, Error::Syntax(..))),
        (b"{\"a\": 1} x\n", at(1, 10), |e| matches!(e, Error::Trailing(_))),
        (b"{\"a\": 1}\n{\"b\": 1}\n", at(2, 1), |e| matches!(e, Error::Trailing(_))),
        (b"  a: 1\nb: 1\n", at(2, 1), |e| matches!(e, Error::Trailing(_))),
        (b"a: &x [1, *x]\n", at(1, 11), |e| matches!(e, Error::RecursiveAlias(_))),
        (b"a:\n  ~: 1\n", at(2, 3), |e| matches!(e, Error::Key(_))),
        (b"a:\n  <<: 1\n", at(2, 7), |e| matches!(e, Error::Merge(_))),
        (b"a: .inf\n", at(1, 4), |e| matches!(e, Error::Number(..))),
        (b"a: !!int x\n", at(1, 4), |e| matches!(e, Error::Tag { .. })),
        (b"# x\n%YAML 1.2\n---\na: 1\n", at(2, 1), |e| matches!(e, Error::Version(_))),
    ];
    for (text, position, kind) in cases {
        let error = parse(text).unwrap_err();
        let text = String::from_utf8_lossy(text);
        assert!(kind(&error), "{text:?}: {error:?}");
        assert_eq!(error.position(), *position, "{text:?}: {error}");
    }
}

#[test]
fn alias_bombs_are_refused_by_what_they_would_become() {
    let bomb = |first: &str| {
        let mut text = format!("a0: &a0 {first}\n");
        for n in 1..9 {
            let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
            text += &format!("a{n}: &a{n} [{aliases}]\n");
        }
        parse(text.as_bytes()).unwrap_err()
    };
    assert!(matches!(bomb("x"), Error::TooManyValues(_)));
    assert!(matches!(bomb(&"x".repeat(100_000)), Error::TooMuchText(_)));
    let mut merges = String::from("m0: &m0 {k: v}\n");
    for n in 1..20 {
        merges += &format!("m{n}: &m{n}\n  <<: [*m{0}, *m{0}, *m{0}]\n", n - 1);
    }
    assert!(matches!(parse(merges.as_bytes()).unwrap_err(), Error::TooManyValues(_)));
}

#[test]
fn depth_is_bounded_also_when_aliases_make_it() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
    assert!(matches!(parse(nested(MAX_DEPTH + 2).as_bytes()).unwrap_err(), Error::TooDeep(_)));
    let mut chain = String::from("a0: &a0 [x]\n");
    for n in 1..MAX_DEPTH {
        chain += &format!("a{n}: &a{n} [*a{}]\n", n - 1);
    }
    assert!(matches!(parse(chain.as_bytes()).unwrap_err(), Error::TooDeep(_)));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in "[a-cxuU0-9:,\\-\\[\\]{}&*!|>'\"#%? \\t\\n~<.\\\\/@=\u{85}]{0,80}") {
        if let Ok(document) = parse(text.as_bytes()) {
            document.locate("a.b[0]");
        }
    }

    #[test]
    fn json_is_read_as_json(value in any_json()) {
        let text = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(parse(text.as_bytes()).unwrap().value, value);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[ -~äö€\\n\\t]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[ -~]{0,8}", inner, 0..5)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}
