//! The downward API: what a container may learn of its pod, as variables and as files (upstream `pkg/fieldpath`,
//! `pkg/api/v1/resource`).

use std::fmt::Write as _;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::core::{Container, PodSpec, ResourceFieldSelector};
use crate::quantity::Quantity;
use crate::resources::{CPU, HUGEPAGES_PREFIX, MEMORY, amount, pod_level};

/// What the node offers to pods (`status.allocatable`): limits of containers that have none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allocatable {
    /// CPU in thousandths of a core.
    pub milli_cpu: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Local disk in bytes.
    pub ephemeral_storage: i64,
}

/// A field of `metadata` that is one text: `metadata.name`, `metadata.labels['key']`. Empty if it is not set; `None` if
/// `path` is none of these.
pub fn metadata(meta: &ObjectMeta, path: &str) -> Option<String> {
    let own = |text: &Option<String>| text.clone().unwrap_or_default();
    Some(match path {
        "metadata.name" => own(&meta.name),
        "metadata.namespace" => own(&meta.namespace),
        "metadata.uid" => own(&meta.uid),
        _ => {
            let (map, key) = path.strip_suffix("']")?.split_once("['")?;
            let map = match map {
                "metadata.labels" => &meta.labels,
                "metadata.annotations" => &meta.annotations,
                _ => return None,
            };
            map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default()
        }
    })
}

/// All labels or all annotations, one `key="value"` a line, which only a file can have; `None` if `path` is neither.
pub fn metadata_map(meta: &ObjectMeta, path: &str) -> Option<String> {
    let map = match path {
        "metadata.labels" => &meta.labels,
        "metadata.annotations" => &meta.annotations,
        _ => return None,
    };
    let mut text = String::new();
    for (key, value) in map.iter().flatten() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(key);
        text.push('=');
        quote(&mut text, value);
    }
    Some(text)
}

/// As Go's `strconv.Quote` does it.
fn quote(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        // Writing to a String cannot fail.
        let _ = match c {
            '"' | '\\' => write!(out, "\\{c}"),
            '\x07' => write!(out, "\\a"),
            '\x08' => write!(out, "\\b"),
            '\x0c' => write!(out, "\\f"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            '\x0b' => write!(out, "\\v"),
            ' '..='~' => write!(out, "{c}"),
            '\0'..='\x7f' => write!(out, "\\x{:02x}", u32::from(c)),
            c if is_printable(c) => write!(out, "{c}"),
            '\0'..='\u{ffff}' => write!(out, "\\u{:04x}", u32::from(c)),
            c => write!(out, "\\U{:08x}", u32::from(c)),
        };
    }
    out.push('"');
}

/// What Go's `unicode.IsPrint` says: the standard library only tells by how it escapes, and a mark that combines is
/// escaped at the start of a text alone.
fn is_printable(c: char) -> bool {
    let mut buffer = [b'a'; 5];
    let len = c.encode_utf8(&mut buffer[1..]).len();
    std::str::from_utf8(&buffer[..=len]).is_ok_and(|text| text.escape_debug().eq(text.chars()))
}

/// A container's request or limit in units of the selector's divisor, rounded up. `container` is the one that the
/// selector means if it names none: a file's always does.
///
/// # Errors
/// What is wrong with the selector.
pub fn resource(
    spec: &PodSpec,
    container: Option<&Container>,
    selector: &ResourceFieldSelector,
    allocatable: &Allocatable,
) -> Result<String, String> {
    let name = selector.container_name.as_deref().unwrap_or_default();
    let named = if name.is_empty() { container } else { crate::pod::container(spec, name).map(|(_, c)| c) };
    let container = named.ok_or_else(|| format!("the pod has no container {name:?}"))?;
    let unsupported = || format!("{:?} is no resource that the downward API has", selector.resource);
    let (list, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    if !([CPU, MEMORY, "ephemeral-storage"].contains(&name) || name.starts_with(HUGEPAGES_PREFIX)) {
        return Err(unsupported());
    }
    let own = container.resources.as_ref();
    let quantity = match list {
        "limits" => amount(own.and_then(|r| r.limits.as_ref()), name)
            .filter(|q| q.nanos() != 0)
            .or_else(|| default_limit(spec, name, allocatable)),
        "requests" => amount(own.and_then(|r| r.requests.as_ref()), name),
        _ => return Err(unsupported()),
    };
    let divisor = match &selector.divisor {
        None => None,
        Some(d) => Some(Quantity::try_from(d).map_err(|e| format!("divisor {:?}: {e}", d.0))?),
    };
    let unit = |q: &Quantity| if name == CPU { q.milli_value() } else { q.value() };
    // Zero is how the API writes "none".
    let one = if name == CPU { 1000 } else { 1 };
    let divisor = divisor.map(|d| unit(&d)).filter(|d| *d > 0).unwrap_or(one);
    let value = quantity.map_or(0, |q| unit(&q).max(0));
    Ok(value.unsigned_abs().div_ceil(divisor.unsigned_abs()).to_string())
}

/// Where a container has no limit: the pod's, else what the node has for pods.
fn default_limit(spec: &PodSpec, name: &str, node: &Allocatable) -> Option<Quantity> {
    let of_pod = pod_level(spec).and_then(|r| amount(r.limits.as_ref(), name));
    of_pod.filter(|q| q.nanos() != 0).or_else(|| {
        let text = match name {
            CPU => format!("{}m", node.milli_cpu),
            MEMORY => node.memory.to_string(),
            "ephemeral-storage" => node.ephemeral_storage.to_string(),
            _ => return None,
        };
        text.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_go_does_it() {
        for (value, want) in [
            ("", r#""""#),
            ("line one\nline \"two\" \\ tab\tend", r#""line one\nline \"two\" \\ tab\tend""#),
            ("\x07\x08\x0c\r\x0b\0\x7f", r#""\a\b\f\r\v\x00\x7f""#),
            ("é \u{301} 世界 🎉", "\"é \u{301} 世界 🎉\""),
            ("\u{a0}\u{200b}\u{feff}\u{e0001}", r#""\u00a0\u200b\ufeff\U000e0001""#),
        ] {
            let mut got = String::new();
            quote(&mut got, value);
            assert_eq!(got, want);
        }
    }

    #[test]
    fn maps_are_lines_without_one_at_the_end() {
        let meta = ObjectMeta {
            labels: Some([("b".into(), "2".into()), ("a.io/x".into(), "1 2".into())].into()),
            ..ObjectMeta::default()
        };
        let map = |path| metadata_map(&meta, path);
        assert_eq!(map("metadata.labels").as_deref(), Some("a.io/x=\"1 2\"\nb=\"2\""));
        assert_eq!(map("metadata.annotations").as_deref(), Some(""));
        assert_eq!(map("metadata.name"), None);
    }
}
