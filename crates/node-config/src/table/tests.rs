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
    let ours: BTreeSet<_> = AGENT.iter().map(|flag| flag.name).collect();
    let missing: Vec<_> = kubelet.keys().filter(|name| !ours.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for flag in AGENT {
        let Some((letter, kind, default, is_deprecated)) = kubelet.get(flag.name) else {
            assert_eq!(flag.standing, Standing::Ours, "--{}", flag.name);
            continue;
        };
        let ours = match flag.usage().0 {
            "" => "bool",
            kind => kind,
        };
        let shown = flag.shown_default();
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
    defaults(SOURCES).unwrap();
    for names in [
        AGENT.iter().map(|flag| flag.name).collect::<Vec<_>>(),
        PODS.iter().map(|flag| flag.name).collect(),
        EXPLAIN.iter().map(|flag| flag.name).collect(),
        SOURCES.iter().map(|flag| flag.name).collect(),
    ] {
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    }
}

#[test]
fn the_defaults_in_the_table_are_those_of_the_configuration() {
    assert_eq!(defaults(AGENT).unwrap().config, KubeletConfiguration::legacy());
}

#[test]
fn each_field_that_a_flag_sets_is_one_of_the_configuration() {
    for flag in AGENT {
        let Some(field) = flag.field else { continue };
        assert!(crate::config::field(field).is_some(), "--{}: {field}", flag.name);
    }
}

#[test]
fn a_flag_sets_the_field_that_its_row_names() {
    for flag in AGENT {
        let Some(field) = flag.field else { continue };
        let text = match flag.usage().0 {
            "" => {
                if flag.default == "true" {
                    "false"
                } else {
                    "true"
                }
            }
            "int32" | "int" | "Level" | "quantity" => "7",
            "duration" => "7s",
            "ip" => "192.0.2.7",
            "mapStringBool" => "Seven=true",
            "mapStringString" if flag.name.starts_with("eviction-hard") || flag.name == "eviction-soft" => {
                "a<7"
            }
            "mapStringString" | "pattern=N,..." => "a=7",
            "colonSeparatedMultimapStringString" => "a:7",
            "[]v1.Taint" => "a=7:NoSchedule",
            "reserved-memory" => "0:memory=7",
            "string" | "strings" => "seven",
            other => panic!("--{}: {other}", flag.name),
        };
        let mut values = AgentFlags::default();
        flag.slot.set(&mut values, text, true).unwrap();
        let before = serde_json::to_value(KubeletConfiguration::legacy()).unwrap();
        let after = serde_json::to_value(&values.config).unwrap();
        let pointer = format!("/{}", field.replace('.', "/"));
        assert_ne!(after.pointer(&pointer), before.pointer(&pointer), "--{}: {field}", flag.name);
    }
}
