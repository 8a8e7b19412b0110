//! What Go's decoder takes and the Rust types do not, and the other way round: null in lists and maps is the empty
//! value, a number is a quantity, too, and times are RFC 3339 to the letter.

use kube_model::quantity::Quantity;
use serde_json::Value;

use super::invalid::Invalid;

/// Fields that are lists of texts. A null in them is the empty text, in `supplementalGroups` 0, and in all other lists
/// an object without fields.
const TEXTS: [&str; 19] = [
    "add",
    "args",
    "command",
    "drop",
    "finalizers",
    "hostnames",
    "matchLabelKeys",
    "mismatchLabelKeys",
    "monitors",
    "nameservers",
    "namespaces",
    "portals",
    "searches",
    "targetWWNs",
    "topologyKeys",
    "values",
    "wwids",
    "accessModes",
    "hostIPs",
];
/// Maps from text to text.
const MAPS: [&str; 6] =
    ["annotations", "labels", "matchLabels", "nodeSelector", "options", "volumeAttributes"];
/// Maps from text to quantity.
const AMOUNTS: [&str; 3] = ["limits", "overhead", "requests"];
const TIMES: [&str; 3] = ["creationTimestamp", "deletionTimestamp", "time"];

/// Makes of `pod` what the Rust types take as Go takes `pod`.
///
/// # Errors
/// The first time in its metadata that Go does not take.
pub(super) fn prepare(pod: &mut Value) -> Result<(), Invalid> {
    // Its group is the empty text, which may be written out.
    if let Some(version) = pod.get_mut("apiVersion").filter(|version| *version == "/v1") {
        *version = "v1".into();
    }
    if let Some(metadata) = pod.get_mut("metadata") {
        times(metadata, "metadata")?;
        fill(metadata, "metadata");
    }
    if let Some(spec) = pod.get_mut("spec") {
        fill(spec, "spec");
    }
    Ok(())
}

fn fill(value: &mut Value, name: &str) {
    match value {
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::Null if TEXTS.contains(&name) => *item = "".into(),
                    Value::Null if name == "supplementalGroups" => *item = 0.into(),
                    Value::Null => *item = Value::Object(serde_json::Map::new()),
                    _ => fill(item, name),
                }
            }
        }
        Value::Object(fields) if MAPS.contains(&name) => {
            fields.values_mut().filter(|text| text.is_null()).for_each(|text| *text = "".into());
        }
        Value::Object(fields) if AMOUNTS.contains(&name) => fields.values_mut().for_each(quantity),
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "divisor" | "sizeLimit" if !value.is_null() => quantity(value),
                    // Of integers here, of texts in selectors.
                    "exitCodes" => exit_codes(value),
                    name => fill(value, name),
                }
            }
        }
        _ => {}
    }
}

fn exit_codes(value: &mut Value) {
    let codes = value.get_mut("values").and_then(Value::as_array_mut);
    codes.into_iter().flatten().filter(|code| code.is_null()).for_each(|code| *code = 0.into());
}

/// A number is the quantity that its digits say, null is none, and blanks around one do not count.
fn quantity(value: &mut Value) {
    match value {
        Value::Number(number) => *value = number.to_string().into(),
        Value::Null => *value = "0".into(),
        Value::String(text) if text.trim().parse::<Quantity>().is_ok() => {
            let trimmed = text.trim();
            if trimmed.len() < text.len() {
                *value = trimmed.to_owned().into();
            }
        }
        _ => {}
    }
}

fn times(value: &Value, path: &str) -> Result<(), Invalid> {
    match value {
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(index, item)| times(item, &format!("{path}[{index}]")))
        }
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match (name.as_str(), value) {
            (name, Value::String(time)) if TIMES.contains(&name) && !is_rfc3339(time) => Err(Invalid::new(
                format!("{path}.{name}"),
                format!("{time:?} is not a time such as 2006-01-02T15:04:05Z"),
            )),
            ("managedFields", value) => times(value, &format!("{path}.{name}")),
            _ => Ok(()),
        }),
        _ => Ok(()),
    }
}

/// Whether the text has the form of a time; whether there is such a time is left to the type.
fn is_rfc3339(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let form = |text: &str, form: &str| {
        text.len() == form.len()
            && text.bytes().zip(form.bytes()).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                form => byte == form,
            })
    };
    let Some((time, zone)) = text.split_at_checked("0000-00-00T00:00:00".len()) else { return false };
    let Some(at) = zone.find(['Z', '+', '-']) else { return false };
    let (fraction, zone) = zone.split_at(at);
    form(time, "0000-00-00T00:00:00")
        && (fraction.is_empty() || fraction.strip_prefix(['.', ',']).is_some_and(digits))
        && (zone == "Z" || form(zone, "+00:00") || form(zone, "-00:00"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nulls_are_what_they_are_to_go() {
        let mut pod = json!({
            "metadata": {"labels": {"a": null}, "finalizers": [null], "annotations": null},
            "spec": {
                "containers": [
                    {
                        "args": ["x", null],
                        "ports": [null],
                        "resources": {"limits": {"cpu": null, "memory": 1, "a.b/c": " 2 "}},
                        "restartPolicyRules": [{"exitCodes": {"values": [null]}}],
                    },
                    null,
                ],
                "securityContext": {"supplementalGroups": [null]},
            },
        });
        prepare(&mut pod).unwrap();
        let expected = json!({
            "metadata": {"labels": {"a": ""}, "finalizers": [""], "annotations": null},
            "spec": {
                "containers": [
                    {
                        "args": ["x", ""],
                        "ports": [{}],
                        "resources": {"limits": {"cpu": "0", "memory": "1", "a.b/c": "2"}},
                        "restartPolicyRules": [{"exitCodes": {"values": [0]}}],
                    },
                    {},
                ],
                "securityContext": {"supplementalGroups": [0]},
            },
        });
        assert_eq!(pod, expected);
    }

    #[test]
    fn a_time_is_one_of_rfc_3339() {
        for time in ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00.123+01:00"] {
            assert!(is_rfc3339(time), "{time}");
        }
        for time in
            ["", "2024-01-01", "2024-01-01t00:00:00Z", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00", "é"]
        {
            assert!(!is_rfc3339(time), "{time}");
        }
        let mut pod = json!({"metadata": {"managedFields": [{"time": "now"}]}});
        assert_eq!(prepare(&mut pod).unwrap_err().field, "metadata.managedFields[0].time");
    }
}
