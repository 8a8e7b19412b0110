//! From a command line and the files that it names to the configuration that counts: file over defaults, drop-ins
//! over the file, flags over all (upstream `cmd/kubelet/app/server.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::config::{self, DEFAULT_EVICTION_HARD, Decoded, Effect, KubeletConfiguration, TypeError, join};
use crate::error::{LoadError, WrongType};
use crate::flag::Standing;
use crate::gates::{self, Gates};
use crate::origin::{Origin, Origins};
use crate::parse::Parsed;
use crate::source::{Role, Source};
use crate::table::{AgentFlags, KubeletFlags};
use crate::value::Version;
use crate::warning::Warning;

/// How this crate sees files. The caller decides what they are.
pub trait Files {
    /// `path` as seen from the root.
    ///
    /// # Errors
    /// When that can not be found out.
    fn absolute(&self, path: &Path) -> io::Result<PathBuf>;

    /// The bytes of a file.
    ///
    /// # Errors
    /// When it can not be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// All files below `folder` at any depth, in any order, each as `folder` joined with the way to it.
    ///
    /// # Errors
    /// When one of the folders can not be listed.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
}

/// A command line of the agent: what to load, as often as wanted.
#[derive(Clone)]
pub struct CommandLine(pub(crate) Parsed<AgentFlags>);

/// The configuration that counts.
#[derive(Debug, Clone)]
pub struct Effective {
    /// What is part of the configuration.
    pub config: KubeletConfiguration,
    /// What can be set on the command line only.
    pub flags: KubeletFlags,
    /// The last text of each flag that was given, by name.
    pub given: BTreeMap<&'static str, String>,
    /// Where each value came from.
    pub origins: Origins,
    /// What was accepted, but not as its author may think.
    pub warnings: Vec<Warning>,
}

impl CommandLine {
    /// Reads the files that the command line names, and puts everything together.
    ///
    /// # Errors
    /// A file or folder that can not be read, has broken syntax or is something else than a configuration, and
    /// all values of the wrong type, each with its place. Whether values make sense is left to
    /// [`validate`](crate::validate::validate).
    pub fn load(&self, files: &dyn Files) -> Result<Effective, LoadError> {
        let mut loaded = Loaded {
            config: KubeletConfiguration::legacy(),
            origins: Origins::default(),
            warnings: self.deprecations(),
        };
        let KubeletFlags { config, config_dir, .. } = &self.0.values.flags;
        if !config.is_empty() {
            loaded.main_file(self, files, Path::new(config))?;
        }
        if !config_dir.is_empty() {
            loaded.drop_ins(self, files, Path::new(config_dir))?;
        }
        loaded.flags(self)
    }

    fn deprecations(&self) -> Vec<Warning> {
        let mut seen = BTreeSet::new();
        let deprecated = self.0.uses.iter().filter(|(flag, _)| flag.standing == Standing::Deprecated);
        deprecated
            .filter(|(flag, _)| seen.insert(flag.name))
            .map(|(flag, _)| Warning::Deprecated {
                flag: flag.name,
                field: flag.field,
                instead: flag.instead,
            })
            .collect()
    }
}

/// What was loaded so far.
struct Loaded {
    config: KubeletConfiguration,
    origins: Origins,
    warnings: Vec<Warning>,
}

impl Loaded {
    fn main_file(&mut self, line: &CommandLine, files: &dyn Files, path: &Path) -> Result<(), LoadError> {
        let source = read(Role::Main, files, path, &path.to_string_lossy())?;
        self.warnings.extend(source.warnings());
        let raw = source.value();
        let decoded = KubeletConfiguration::from_value(raw.clone(), &line.0.values.config.feature_gates)
            .map_err(|errors| LoadError::Types(source.wrong_types(errors)))?;
        source.note("", raw, &mut self.origins);
        self.warnings.extend(source.unknown(decoded.unknown.clone()));
        self.take(decoded, raw);

        if raw.get("evictionHard").is_none_or(Value::is_null) || self.config.merge_default_eviction_settings {
            for (signal, value) in DEFAULT_EVICTION_HARD {
                self.config.eviction_hard.entry((*signal).to_owned()).or_insert_with(|| (*value).to_owned());
            }
        }
        let absolute = files.absolute(path).map_err(|source| LoadError::Read {
            origin: Role::Main.origin(&path.to_string_lossy().into(), None),
            source,
        })?;
        if let Some(folder) = absolute.parent() {
            resolve_paths(&mut self.config, folder);
        }
        Ok(())
    }

    fn drop_ins(&mut self, line: &CommandLine, files: &dyn Files, folder: &Path) -> Result<(), LoadError> {
        let listed = files.list(folder);
        let mut paths = listed.map_err(|source| LoadError::List { path: folder.to_owned(), source })?;
        // By parts, not as a text: a folder comes where its name belongs, whatever its files are called.
        paths.sort();
        let gates = &line.0.values.config.feature_gates;
        let mut merged = to_value(&self.config);
        for path in paths {
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            // As Go's filepath.Ext: `.conf` alone counts.
            if !name.ends_with(".conf") {
                self.warnings.push(Warning::NotConf { file: name });
                continue;
            }
            let source = read(Role::DropIn, files, &path, &name)?;
            self.warnings.extend(source.warnings());
            // Types count after the merge only: a later file may have put a wrong one right.
            if let Ok(Decoded { unknown, .. }) =
                KubeletConfiguration::from_value(source.value().clone(), gates)
            {
                self.warnings.extend(source.unknown(unknown));
            }
            source.merge_into(&mut merged, &mut self.origins);
        }
        let decoded = KubeletConfiguration::from_value(merged.clone(), gates).map_err(|errors| {
            let place = |TypeError { path: field, reason }| {
                let origin = self.origins.of(&field);
                WrongType { field, reason, origin }
            };
            LoadError::Types(errors.into_iter().map(place).collect())
        })?;
        self.take(decoded, &merged);
        Ok(())
    }

    /// Takes over what was read from `raw`.
    fn take(&mut self, decoded: Decoded, raw: &Value) {
        self.config = decoded.config;
        for field in decoded.unknown {
            self.origins.unset(&field);
        }
        let mut unset = Vec::new();
        self.zeros("", raw, &to_value(&self.config), &mut unset);
        if !unset.is_empty() {
            self.warnings.push(Warning::ZeroIsUnset(unset));
        }
    }

    /// Where `raw` has a zero that was replaced by its default, nobody set the value.
    fn zeros(&mut self, path: &str, raw: &Value, effective: &Value, unset: &mut Vec<(String, Origin)>) {
        if let (Value::Object(raw), Value::Object(effective)) = (raw, effective) {
            for (key, raw) in raw {
                if let Some(effective) = effective.get(key) {
                    self.zeros(&join(path, key), raw, effective, unset);
                }
            }
        } else if is_zero(raw) && !is_zero(effective) && self.origins.of(path) != Origin::Default {
            unset.push((path.to_owned(), self.origins.of(path)));
            self.origins.unset(path);
        }
    }

    fn flags(mut self, line: &CommandLine) -> Result<Effective, LoadError> {
        let from_files = self.config.feature_gates.clone();
        let mut values = AgentFlags { flags: KubeletFlags::default(), config: self.config };
        line.0.apply(&mut values)?;
        values.config.feature_gates = gates::merge(&from_files, &values.config.feature_gates);
        for (flag, _) in &line.0.uses {
            let origin = Origin::Flag(flag.name);
            match flag.field {
                Some(field @ "featureGates") => {
                    for gate in line.0.values.config.feature_gates.keys() {
                        self.origins.set(&join(field, gate), origin.clone());
                    }
                }
                Some(field) => self.origins.set(field, origin),
                None => self.origins.set(&format!("--{}", flag.name), origin),
            }
        }
        let mut effective = Effective {
            config: values.config,
            flags: line.0.values.flags.clone(),
            given: line.0.uses.iter().map(|(flag, text)| (flag.name, text.clone())).collect(),
            origins: self.origins,
            warnings: self.warnings,
        };
        let (partly, without) = effective.not_done(line);
        effective.warnings.extend(partly);
        if !without.is_empty() {
            effective.warnings.push(Warning::WithoutEffect(without));
        }
        Ok(effective)
    }
}

impl Effective {
    /// What was set and is done in part, and what does nothing, by name. What asks for nothing more than happens
    /// anyway is left out.
    fn not_done(&self, line: &CommandLine) -> (Vec<Warning>, Vec<(String, Origin)>) {
        let (mut partly, mut names) = (Vec::new(), Vec::new());
        let mut note = |effect, name: String, origin| match effect {
            Effect::Done => {}
            Effect::Partly(missing) => partly.push(Warning::Partly { name, missing, origin }),
            Effect::NotYet | Effect::Nothing => names.push((name, origin)),
        };
        let mut seen = BTreeSet::new();
        for (path, origin) in self.origins.iter() {
            if let Some(row) = config::field(path)
                && !(row.idle)(&self.config)
                && seen.insert(row.name)
            {
                note(row.effect, row.name.to_owned(), origin.clone());
            }
        }
        for (flag, _) in &line.0.uses {
            let idle = self.given.get(flag.name).is_some_and(|text| text == flag.default);
            if flag.field.is_none() && !idle && seen.insert(flag.name) {
                note(flag.effect, format!("--{}", flag.name), Origin::Flag(flag.name));
            }
        }
        if matches!(self.flags.version, Version::Reported(_)) {
            names.push(("--version".to_owned(), Origin::Flag("version")));
        }
        let gates = Gates::new(&self.config.feature_gates).unwrap_or_default();
        for gate in gates.without_effect() {
            let path = join("featureGates", &gate.to_string());
            let origin = self.origins.of(&path);
            if origin != Origin::Default {
                names.push((path, origin));
            }
        }
        (partly, names)
    }
}

fn read(role: Role, files: &dyn Files, path: &Path, name: &str) -> Result<Source, LoadError> {
    let text = files
        .read(path)
        .map_err(|source| LoadError::Read { origin: role.origin(&name.into(), None), source })?;
    Source::parse(role, name, &text)
}

/// The configuration as JSON, in the form of `/configz`.
pub(crate) fn to_value(config: &KubeletConfiguration) -> Value {
    // Its keys are strings and its numbers finite, so there is nothing that JSON does not have.
    serde_json::to_value(config).unwrap_or_default()
}

/// Whether Go takes it for "not set" in a field that is no pointer.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => {
            text.is_empty() || text.parse().is_ok_and(|d: kube_model::duration::GoDuration| d.as_nanos() == 0)
        }
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// Makes the paths in a file absolute: they are seen from the folder that it stands in. Those in drop-ins and
/// flags are left as they are.
fn resolve_paths(config: &mut KubeletConfiguration, folder: &Path) {
    for path in [
        &mut config.static_pod_path,
        &mut config.authentication.x509.client_ca_file,
        &mut config.tls_cert_file,
        &mut config.tls_private_key_file,
        &mut config.resolv_conf,
        &mut config.volume_plugin_dir,
        &mut config.pod_logs_dir,
    ] {
        if !path.is_empty() && !path.starts_with('/') {
            *path = clean(&folder.join(&path)).to_string_lossy().into_owned();
        }
    }
}

/// Go's `filepath.Clean` for an absolute path: without `.`, `..` and double slashes, whatever links there are.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests;
