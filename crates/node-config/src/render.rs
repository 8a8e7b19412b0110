//! The effective configuration as YAML for people: behind each value that somebody set, where it came from.

use std::fmt::Write as _;

use kube_model::yaml;
use serde_json::Value;

use crate::config::join;
use crate::flag::Flag;
use crate::load::{Effective, to_value};
use crate::origin::Origin;
use crate::secret::{MASK, masked_url};
use crate::table::{AGENT, AgentFlags};
use crate::warning::Warning;

/// Writes `effective` as a `KubeletConfiguration` that can be given to `--config` again. Flags that have no field
/// there stand above it as comments, warnings below. Headers of `staticPodURLHeader` are masked, as in the
/// kubelet's log, and credentials in `staticPodURL`.
pub fn render(effective: &Effective) -> String {
    let mut config = effective.config.clone();
    for headers in config.static_pod_url_header.values_mut() {
        headers.iter_mut().for_each(|header| MASK.clone_into(header));
    }
    config.static_pod_url = masked_url(&config.static_pod_url);
    let mut out = String::new();
    let given: Vec<_> =
        AGENT.iter().filter(|flag| flag.field.is_none()).filter_map(|flag| given(effective, flag)).collect();
    if !given.is_empty() {
        out.push_str("# Set on the command line only:\n");
        for flag in given {
            let _infallible = writeln!(out, "#   {flag}");
        }
    }
    let mut writer = Writer { effective, out };
    match to_value(&config) {
        Value::Object(map) => {
            for (key, value) in &map {
                writer.field(0, "", key, value, "");
            }
        }
        other => writer.scalar(&other, ""),
    }
    let mut out = writer.out;
    for warning in &effective.warnings {
        let (title, names) = match warning {
            Warning::Partly { name, missing, .. } => {
                let _infallible = writeln!(out, "# Done only in part: {}: {missing}", line(name));
                continue;
            }
            Warning::ZeroIsUnset(names) => ("Zero is the same as not set, so the defaults count", names),
            Warning::WithoutEffect(names) => ("Accepted, but without effect in this agent", names),
            warning => {
                let _infallible = writeln!(out, "# Warning: {}", line(&warning.to_string()));
                continue;
            }
        };
        let _infallible = writeln!(out, "# {title}:");
        for (name, _) in names {
            let _infallible = writeln!(out, "#   {}", line(name));
        }
    }
    out
}

/// `--name` when the flag was given.
fn given(effective: &Effective, flag: &Flag<AgentFlags>) -> Option<String> {
    let name = format!("--{}", flag.name);
    let text = effective.given.get(flag.name)?;
    Some(format!("{name}={}", line(text)))
}

/// A comment must stay on its line.
fn line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect()
}

struct Writer<'a> {
    effective: &'a Effective,
    out: String,
}

impl Writer<'_> {
    /// Writes `key: value`, which stands in `parent`, behind `indent` levels; `first` begins the line instead when
    /// it is the first in a list item.
    fn field(&mut self, indent: usize, parent: &str, key: &str, value: &Value, first: &str) {
        let path = join(parent, key);
        self.begin(indent, first);
        self.out.push_str(&scalar(&Value::from(key)));
        self.out.push(':');
        self.value(indent, &path, value);
    }

    fn begin(&mut self, indent: usize, first: &str) {
        if first.is_empty() {
            self.out.push_str(&"  ".repeat(indent));
        } else {
            self.out.push_str(first);
        }
    }

    /// Writes `value` behind its key.
    fn value(&mut self, indent: usize, path: &str, value: &Value) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                self.out.push('\n');
                for (key, value) in map {
                    self.field(indent + 1, path, key, value, "");
                }
            }
            Value::Array(items) if !items.is_empty() => {
                self.comment(path);
                for (index, item) in items.iter().enumerate() {
                    self.item(indent, &format!("{path}[{index}]"), item);
                }
            }
            scalar => {
                self.out.push(' ');
                self.scalar(scalar, path);
            }
        }
    }

    fn item(&mut self, indent: usize, path: &str, item: &Value) {
        let dash = format!("{}- ", "  ".repeat(indent));
        match item {
            Value::Object(map) if !map.is_empty() => {
                for (index, (key, value)) in map.iter().enumerate() {
                    self.field(indent + 1, path, key, value, if index == 0 { &dash } else { "" });
                }
            }
            // Lists of lists there are none.
            scalar_item => {
                let _infallible = writeln!(self.out, "{dash}{}", scalar(scalar_item));
            }
        }
    }

    fn scalar(&mut self, value: &Value, path: &str) {
        self.out.push_str(&scalar(value));
        self.comment(path);
    }

    /// Ends the line, with the origin of `path` unless that is a default.
    fn comment(&mut self, path: &str) {
        match self.effective.origins.of(path) {
            Origin::Default => self.out.push('\n'),
            origin => {
                let _infallible = writeln!(self.out, " # {}", line(&origin.to_string()));
            }
        }
    }
}

/// A scalar or something empty in one line. A string stands without quotes where it is read back as itself.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') => {
            let read_back = yaml::parse(text.as_bytes()).is_ok_and(|document| document.value == *value);
            if read_back && text.trim() == text { text.clone() } else { quoted(value) }
        }
        other => quoted(other),
    }
}

/// JSON, with what ends a line in YAML written as an escape.
fn quoted(value: &Value) -> String {
    let mut text = value.to_string();
    for (end, escape) in [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")] {
        if text.contains(end) {
            text = text.replace(end, escape);
        }
    }
    text
}

#[cfg(test)]
mod tests;
