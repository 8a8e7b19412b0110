//! The real kubelet's reading of 2,620 texts: ours must agree in verdict, defaulted pod and QoS class.

use kube_model::qos::QosClass;

use super::*;

/// One line of the recording.
struct Text {
    name: String,
    text: String,
    /// The pod without what differs from run to run, and its QoS class; or the error.
    kubelet: Result<(Value, String), String>,
}

fn texts() -> Vec<Text> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/manifests/as-the-kubelet-reads-them.jsonl");
    let lines = std::fs::read_to_string(path).unwrap();
    let parsed = lines.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kubelet = match &line["refused"] {
            Value::String(error) => Err(error.clone()),
            _ => Ok((line["accepted"].take(), text(&line["qos"]))),
        };
        Text { name: text(&line["name"]), text: text(&line["text"]), kubelet }
    });
    parsed.collect()
}

/// Go leaves out what is empty, false or zero in most places; no text of the recording hangs on that.
fn without_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let amounts = ["limits", "overhead", "requests"];
            let switches = ["hostPID", "stdin"];
            fields.retain(|name, value| {
                let name = name.as_str();
                !(value == ""
                    || value.is_null()
                    || *value == json!([])
                    || (amounts.contains(&name) && *value == json!({}))
                    || (switches.contains(&name) && value == false))
            });
            fields.values_mut().for_each(without_empty);
        }
        Value::Array(items) => items.iter_mut().for_each(without_empty),
        _ => {}
    }
}

/// How ours differs; `None` if it does not.
fn disagreement(text: &Text) -> Option<String> {
    let ours = read(text.text.as_bytes(), origin());
    match (&text.kubelet, ours) {
        (Err(_), Err(_)) => None,
        (Err(error), Ok(_)) => Some(format!("ACCEPTED, but refused by the kubelet: {error}")),
        (Ok(_), Err(problems)) => {
            Some(format!("REFUSED, but accepted by the kubelet: {:?}", shown(&problems)))
        }
        (Ok((theirs, qos)), Ok(manifest)) => {
            let class = QosClass::of(&manifest.pod).as_str();
            if class != qos {
                return Some(format!("QOS {class} instead of {qos}"));
            }
            let mut ours = serde_json::to_value(&manifest.pod).unwrap();
            let fields = ours.as_object_mut().unwrap();
            fields.retain(|name, _| ["metadata", "spec"].contains(&name.as_str()));
            let metadata = ours["metadata"].as_object_mut().unwrap();
            metadata.remove("uid");
            let annotations = metadata["annotations"].as_object_mut().unwrap();
            annotations.retain(|name, _| !name.starts_with("kubernetes.io/config."));
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
            let mut theirs = theirs.clone();
            without_empty(&mut ours);
            without_empty(&mut theirs);
            (ours != theirs).then(|| format!("POD {ours}\n      instead of\n    {theirs}"))
        }
    }
}

/// What we take or refuse on purpose, and why. At most 40.
const ON_PURPOSE: &[(&str, &[&str])] = &[
    (
        "a UID is the name of folders, cgroups and log files: the kubelet takes any text, also one that leads out",
        &[
            "fuzz/meta.uid.mut-12fc72e392.yaml",
            "fuzz/meta.uid.mut-716d5fe9bb.yaml",
            "fuzz/meta.uid.mut-7192b0d78e.yaml",
            "fuzz/meta.uid.mut-719ac54719.yaml",
            "fuzz/meta.uid.mut-bbc0e46055.yaml",
            "fuzz/meta.uid.mut-bc688c53ff.yaml",
            "fuzz/meta.uid.mut-c27bb74927.yaml",
            "fuzz/meta.uid.mut-c65a9a775c.yaml",
            "fuzz/meta.uid.mut-f7cb5a3843.yaml",
            "fuzz/meta.uid.mut-f973d3d69d.yaml",
            "fuzz/uid-3f9b2a8d34.yaml",
            "fuzz/uid-4bad80c6cb.yaml",
            "fuzz/uid-970aaa5907.yaml",
        ],
    ),
    (
        "a mirror pod is made by a node and never read from a file: the kubelet takes it and then runs nothing",
        &["min/A01-mirror-annotation.yaml", "fuzz/ann.mut-6a7c7c56cf.yaml"],
    ),
    (
        "a manifest is deleted by removing it: the kubelet takes deletionTimestamp and drops it without a word",
        &["min/A19b-deletion.yaml"],
    ),
    (
        "an image volume without an image can never be mounted: an API server refuses it, the kubelet takes it",
        &["min/A10-image-volume.yaml", "fuzz/v.image.del-f17712a07e.yaml"],
    ),
    (
        "ConfigMaps and Secrets a static pod has from manifests of its node: the kubelet refuses it",
        &[
            "fuzz/c.env3.mut-823bbf3461.yaml",
            "fuzz/c.envFrom.add-937681b44d.yaml",
            "fuzz/v.projected.src0.mut-d4601c80c6.yaml",
        ],
    ),
    (
        "Go takes quantities beyond about 10^29 and reads back something else",
        &["fuzz/yq-376b0b6a76.yaml", "fuzz/yq-a54484ffec.yaml"],
    ),
];

#[test]
fn each_text_is_read_as_by_the_kubelet() {
    let on_purpose: BTreeSet<_> = ON_PURPOSE.iter().flat_map(|(_, names)| *names).copied().collect();
    assert!(on_purpose.len() <= 40);
    let texts = texts();
    assert_eq!(texts.len(), 2620);
    let mut wrong = Vec::new();
    let mut differing = BTreeSet::new();
    for text in &texts {
        let Some(how) = disagreement(text) else { continue };
        differing.insert(text.name.as_str());
        if !on_purpose.contains(text.name.as_str()) {
            wrong.push(format!("DIS {}: {how}", text.name));
        }
    }
    assert!(wrong.is_empty(), "{} texts are read otherwise:\n{}", wrong.len(), wrong.join("\n"));
    let agree: Vec<_> = on_purpose.difference(&differing).collect();
    assert!(agree.is_empty(), "these agree by now: {agree:?}");
}

/// Not only the verdict: what we refuse is told with the line, and with the field if the text is a pod at all.
#[test]
fn each_refusal_names_its_place() {
    let mut without = Vec::new();
    for text in texts().iter().filter(|text| text.kubelet.is_err()) {
        let Err(problems) = read(text.text.as_bytes(), origin()) else { continue };
        let invalid = text.kubelet.as_ref().is_err_and(|error| error.starts_with("invalid pod: ["));
        if problems.iter().any(|p| p.line.is_none() || (invalid && p.field.is_none())) {
            without.push(format!("{}: {:?}", text.name, shown(&problems)));
        }
    }
    // Those without any text in them have no line.
    without.retain(|text| !text.contains("the manifest is empty"));
    assert!(without.is_empty(), "{}", without.join("\n"));
}
