use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

/// The defaults of the gates: both that defaults hang on are on.
fn on(_: &BTreeMap<String, bool>, _: &str) -> bool {
    true
}

fn read(value: Value) -> KubeletConfiguration {
    let decoded = KubeletConfiguration::from_value(value, on).unwrap();
    assert_eq!(decoded.unknown, Vec::<String>::new());
    decoded.config
}

#[test]
fn a_minimal_file_gives_what_the_kubelet_shows_at_configz() {
    let shown: Value =
        serde_json::from_str(include_str!("../../../../tests/fixtures/configz-with-a-minimal-config.json"))
            .unwrap();
    let mut config = read(json!({
        "failCgroupV1": false,
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
    }));
    config.eviction_hard =
        DEFAULT_EVICTION_HARD.iter().map(|&(signal, value)| (signal.to_owned(), value.to_owned())).collect();
    let mut ours = serde_json::to_value(&config).unwrap();
    // The kubelet shows the paths of its own certificate, which were blanked in the recording.
    ours["tlsCertFile"] = "".into();
    ours["tlsPrivateKeyFile"] = "".into();
    assert_eq!(ours, shown);
    let order = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix(" \"")?.split_once('"').map(|(key, _)| key.to_owned()))
            .collect()
    };
    let text = serde_json::to_string_pretty(&config).unwrap().replace("\n  ", "\n ");
    let shown: Vec<_> = order(include_str!("../../../../tests/fixtures/configz-with-a-minimal-config.json"))
        .into_iter()
        .filter(|key| !key.starts_with("tls"))
        .collect();
    let ours = order(&text);
    let ours: Vec<_> = ours.into_iter().filter(|key| shown.contains(key)).collect();
    assert_eq!(ours, shown, "in the same order");
}
