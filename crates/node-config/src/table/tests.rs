use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::parse::defaults;

/// Every flag of the kubelet: name → (letter, type, default, deprecated).
fn kubelet_flags() -> BTreeMap<&'static str, (Option<char>, &'static str, String, bool)> {
    include_str!("../../../../tests/fixtures/kubelet-flags.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut cells = line.split('\t');
            let mut cell = || cells.next().unwrap_or_default();
            (cell(), (cell().chars().next(), cell(), cell().to_owned(), cell() == "deprecated"))
        })
        .collect()
}

#[test]
fn names_types_defaults_and_deprecation_are_those_of_the_kubelet() {
    let kubelet = kubelet_flags();
    assert_eq!(kubelet.len(), 150);
    for flag in AGENT {
        let Some((letter, kind, default, is_deprecated)) = kubelet.get(flag.name) else {
            assert_eq!(flag.standing, Standing::Ours, "--{}", flag.name);
            continue;
        };
        let ours = match flag.usage().0 {
            "" => "bool",
            kind => kind,
        };
        let shown = match (flag.default, flag.slot.kind().quoted) {
            ("" | "false" | "0", _) => String::new(),
            (text, true) => format!("{text:?}"),
            (text, false) => text.to_owned(),
        };
        let standing = if *is_deprecated { Standing::Deprecated } else { Standing::Kubelet };
        assert_eq!(
            (flag.short, ours, &shown, flag.standing),
            (*letter, *kind, default, standing),
            "--{}",
            flag.name
        );
    }
}

#[test]
fn each_default_fits_its_flag_and_each_name_stands_once() {
    defaults(AGENT).unwrap();
    defaults(PODS).unwrap();
    defaults(EXPLAIN).unwrap();
    for names in [
        AGENT.iter().map(|flag| flag.name).collect::<Vec<_>>(),
        PODS.iter().map(|flag| flag.name).collect(),
        EXPLAIN.iter().map(|flag| flag.name).collect(),
    ] {
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    }
}

#[test]
fn deprecated_flags_name_their_configuration_field() {
    for flag in AGENT {
        assert_eq!(flag.standing == Standing::Deprecated, flag.field.is_some(), "--{}", flag.name);
    }
}
