//! The oracle: what the real kubelet wrote to disk for volumes that are made of content, and what its containers mounted,
//! in the recordings, compared with what the planner and the atomic writer make of the same pods and objects.

#![expect(clippy::unwrap_used, reason = "a test may end where its data is not as it should be")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use kube_model::core::{ConfigMap, Container, Pod, Secret, Volume};
use kube_model::downward::Allocatable;
use kube_model::{labels, pod};
use serde_json::{Value, json};
use volume_fs::atomic::{self, Written};
use volume_plan::container_mounts::{Attributes, ContainerMount, Propagation, container_mounts};
use volume_plan::payload::{self, Content, Facts, Found, Missing, Need, Object};
use volume_plan::spec::Kind;

const UID: &str = "5b9d7f0a-3c1e-4f59-9c0e-9a1b2c3d4e5f";
const SEEN: &str = "2026-11-30T10:00:00.123456789Z";
const TOKEN: &str = "header.claims.signature";

/// The node of the recordings.
const NODE: Allocatable =
    Allocatable { milli_cpu: 2000, memory: 24_581_252 << 10, ephemeral_storage: 245 << 30 };

fn recordings() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/volumes/content");
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(all.len() > 20);
    all
}

fn pods(recording: &Value) -> impl Iterator<Item = Pod> {
    recording["pods"].as_array().unwrap().iter().map(|pod| {
        let mut pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        pod.metadata.uid = Some(UID.to_owned());
        let own = [(labels::CONFIG_SOURCE, "api"), (labels::CONFIG_SEEN, SEEN)];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        pod.metadata.annotations.get_or_insert_default().extend(own);
        pod
    })
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

type Data = BTreeMap<String, Vec<u8>>;

type Objects = BTreeMap<(payload::Kind, String), (Data, Data)>;

/// `data` and `binaryData` of each object by kind and name.
fn objects(recording: &Value) -> Objects {
    let mut all = BTreeMap::new();
    for object in recording["objects"].as_array().unwrap() {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if object["kind"] == "Secret" {
            let secret: Secret = serde_json::from_value(object.clone()).unwrap();
            let data = secret.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect();
            all.insert((payload::Kind::Secret, name), (data, Data::new()));
        } else {
            let map: ConfigMap = serde_json::from_value(object.clone()).unwrap();
            let data = map.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.into_bytes())).collect();
            let binary = map.binary_data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect();
            all.insert((payload::Kind::ConfigMap, name), (data, binary));
        }
    }
    let authority = Data::from([("ca.crt".to_owned(), vec![b'C'; 2364])]);
    all.insert((payload::Kind::ConfigMap, "kube-root-ca.crt".to_owned()), (authority, Data::new()));
    all
}

fn found<'a>(content: Content<'a>, objects: &'a Objects) -> Found<'a> {
    let mut found = Found::default();
    for need in content.needs() {
        match need {
            Need::Object(kind, name) => {
                let object = objects.get(&(kind, name.to_owned())).ok_or(Missing::NotFound);
                let object = object.map(|(data, binary_data)| Object { data, binary_data });
                found.objects.insert((kind, name), object);
            }
            Need::Token(token) => {
                found.tokens.insert(token, Ok(payload::Secret(TOKEN)));
            }
        }
    }
    found
}

/// Writes the volume and says what stands there, as the recordings do; the size of a token is another one.
fn written(pod: &Pod, volume: &Volume, content: Content<'_>, recording: &Value) -> BTreeMap<String, String> {
    let objects = objects(recording);
    let found = found(content, &objects);
    let files = content.files(Facts { pod, allocatable: &NODE }, &found).unwrap();
    let space = tempfile::tempdir().unwrap();
    let folder = space.path().join(&volume.name);
    fs::create_dir(&folder).unwrap();
    let mode = if content.in_memory() { 0o1777 } else { 0o777 };
    fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    let group = pod.spec.as_ref().unwrap().security_context.as_ref().and_then(|context| context.fs_group);
    let group = group.map(|group| u32::try_from(group).unwrap());
    for want in [Written::Replaced, Written::Unchanged] {
        let files = files.iter().map(|(path, file)| atomic::Content {
            path,
            data: &file.data,
            mode: file.mode,
            owner: file.owner,
        });
        assert_eq!(atomic::write(&folder, files, group).unwrap(), want);
    }
    let mut all = BTreeMap::new();
    list(space.path(), Path::new(&volume.name), &mut all);
    all
}

fn list(space: &Path, path: &Path, all: &mut BTreeMap<String, String>) {
    let found = fs::symlink_metadata(space.join(path)).unwrap();
    let (kind, size, target) = if found.is_dir() {
        ("directory", "-".to_owned(), String::new())
    } else if found.is_symlink() {
        let target = fs::read_link(space.join(path)).unwrap();
        ("symbolic link", "-".to_owned(), format!(" -> {}", dated(target.to_str().unwrap())))
    } else {
        let content = fs::read(space.join(path)).unwrap();
        let size = if content == TOKEN.as_bytes() { "token".to_owned() } else { content.len().to_string() };
        (if content.is_empty() { "regular empty file" } else { "regular file" }, size, String::new())
    };
    let (mode, uid, gid) = (found.mode() & 0o7777, found.uid(), found.gid());
    let line = format!("{kind} {mode:o} {uid} {gid} {size}{target}");
    all.insert(dated(path.to_str().unwrap()), line);
    if found.is_dir() {
        for entry in fs::read_dir(space.join(path)).unwrap() {
            list(space, &path.join(entry.unwrap().file_name()), all);
        }
    }
}

/// The name of the folder with the date is `..$TS`.
fn dated(path: &str) -> String {
    let name = |name: &str| {
        if name.starts_with("..2") || name.starts_with("..$TS") {
            "..$TS".to_owned()
        } else {
            name.to_owned()
        }
    };
    path.split('/').map(name).collect::<Vec<_>>().join("/")
}

/// The recorded lines below a volume, as [`list`] has them.
fn recorded(recording: &Value, volume: &Volume) -> BTreeMap<String, String> {
    let dir = Kind::of(volume).plugin_dir().unwrap();
    let own = format!("volumes/{dir}/");
    let lines = recording["ls"].as_array().into_iter().flatten().map(|line| line.as_str().unwrap());
    let mut all = BTreeMap::new();
    for line in lines.filter_map(|line| line.strip_prefix(&own)) {
        let (path, rest) = line.split_once(' ').unwrap();
        let is_own =
            path.strip_prefix(&volume.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_own {
            let rest = match rest.split_once(" -> ") {
                Some((link, target)) => format!("{link} -> {}", dated(target)),
                None => rest.to_owned(),
            };
            all.insert(dated(path), rest);
        }
    }
    all
}

#[test]
fn files_are_those_of_the_kubelet() {
    let mut compared = 0;
    for (name, recording) in recordings() {
        for pod in pods(&recording) {
            for volume in volumes(&pod) {
                let Some(content) = Content::of(volume) else { continue };
                let mut want = recorded(&recording, volume);
                let got = written(&pod, volume, content, &recording);
                for (path, line) in &got {
                    if line.ends_with(" token") {
                        let recorded = want.get_mut(path).unwrap();
                        let (rest, _) = recorded.rsplit_once(' ').unwrap();
                        *recorded = format!("{rest} token");
                    }
                }
                assert_eq!(got, want, "{name}, volume {}", volume.name);
                compared += 1;
            }
        }
    }
    assert!(compared >= 20, "{compared}");
}

/// Where a path of a container comes from, in a volume that is made of content.
fn content_at(pod: &Pod, container: &Container, path: &str, recording: &Value) -> Option<Vec<u8>> {
    let mount = container.volume_mounts.iter().flatten().find(|mount| path.starts_with(&mount.mount_path))?;
    let volume = volumes(pod).find(|volume| volume.name == mount.name)?;
    let content = Content::of(volume)?;
    let objects = objects(recording);
    let found = found(content, &objects);
    let below = path.strip_prefix(&mount.mount_path)?.trim_start_matches('/');
    let below = below.split('/').filter(|name| !name.starts_with("..$TS")).collect::<Vec<_>>().join("/");
    let below = mount.sub_path.as_deref().filter(|_| below.is_empty()).unwrap_or(&below);
    let files = content.files(Facts { pod, allocatable: &NODE }, &found).ok()?;
    Some(files.get(below)?.data.to_vec())
}

#[test]
fn content_is_what_the_containers_of_the_kubelet_read() {
    let mut compared = 0;
    for (name, recording) in recordings() {
        for pod in pods(&recording) {
            for (_, container) in pod.spec.iter().flat_map(pod::containers) {
                for (path, want) in recording["files"][&container.name].as_object().into_iter().flatten() {
                    let want = match want {
                        Value::String(text) if text == "$CA" => vec![b'C'; 2364],
                        Value::String(text) => text.replace("$UID", UID).replace("$TIME", SEEN).into_bytes(),
                        Value::Object(of) if of.contains_key("jwt") => TOKEN.into(),
                        Value::Object(of) => {
                            let json = json!({"data": {"x": of["base64"]}});
                            serde_json::from_value::<Secret>(json).unwrap().data.unwrap()["x"].0.clone()
                        }
                        other => unreachable!("{other}"),
                    };
                    let Some(got) = content_at(&pod, container, path, &recording) else {
                        unreachable!("{name}: {path} is no file of ours");
                    };
                    assert_eq!(
                        got.escape_ascii().to_string(),
                        want.escape_ascii().to_string(),
                        "{name}: {path}"
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(compared >= 60, "{compared}");
}

/// A variable of the container, of the few kinds that the recordings have.
fn variable<'a>(pod: &'a Pod, container: &'a Container, name: &str) -> Option<Cow<'a, str>> {
    let var = container.env.iter().flatten().find(|var| var.name == name)?;
    let field = var.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
    match field {
        Some(field) => kube_model::downward::metadata(&pod.metadata, &field.field_path).map(Cow::Owned),
        None => var.value.as_deref().map(Cow::Borrowed),
    }
}

/// As the runtime is told of it.
fn message(pod: &Pod, container: &Container, mount: &ContainerMount<'_>) -> Value {
    let volume = volumes(pod).find(|volume| volume.name == mount.volume).unwrap();
    let kind = Kind::of(volume);
    if let Kind::Image(source) = kind {
        let annotations = json!({labels::CONFIG_SOURCE: "api", labels::CONFIG_SEEN: "$TIME"});
        let image = json!({
            "image": "sha256:$DIGEST", "annotations": annotations, "user_specified_image": source.reference,
        });
        let mut json =
            json!({"container_path": mount.container_path, "readonly": mount.read_only, "image": image});
        if let Some(part) = &mount.sub_path {
            json["image_sub_path"] = part.path.as_ref().into();
        }
        return json;
    }
    let root = PathBuf::from("$ROOT/pods/$UID");
    let host_path = match (&mount.sub_path, kind) {
        (Some(_), _) => {
            let index = mount.index.to_string();
            root.join("volume-subpaths").join(mount.volume).join(&container.name).join(index)
        }
        (None, Kind::HostPath(source)) => PathBuf::from(&source.path),
        (None, _) => root.join("volumes").join(kind.plugin_dir().unwrap()).join(mount.volume),
    };
    let mut json = json!({"container_path": mount.container_path, "host_path": host_path});
    if mount.read_only {
        json["readonly"] = true.into();
    }
    if mount.recursive_read_only {
        json["recursive_read_only"] = true.into();
    }
    match mount.propagation {
        Propagation::Private => {}
        Propagation::HostToContainer => json["propagation"] = "PROPAGATION_HOST_TO_CONTAINER".into(),
        Propagation::Bidirectional => json["propagation"] = "PROPAGATION_BIDIRECTIONAL".into(),
    }
    json
}

#[test]
fn mounts_are_those_of_the_kubelet() {
    let mut compared = 0;
    for (name, recording) in recordings() {
        for pod in pods(&recording) {
            let pod_name = pod.metadata.name.as_deref().unwrap();
            for (_, container) in pod.spec.iter().flat_map(pod::containers) {
                let attributes = |name: &str| {
                    let volume = volumes(&pod).find(|volume| volume.name == name)?;
                    Attributes::of(Kind::of(volume))
                };
                let mounts =
                    container_mounts(container, attributes, |name| variable(&pod, container, name), true);
                let created = recording["mounts"].as_array().unwrap();
                let want = created
                    .iter()
                    .find(|of| of["pod"] == pod_name && of["container"] == container.name.as_str());
                let Some(want) = want else {
                    assert!(mounts.is_err(), "{name}: {pod_name} was not started");
                    continue;
                };
                let got: Vec<_> =
                    mounts.unwrap().iter().map(|mount| message(&pod, container, mount)).collect();
                let want = want["mounts"].to_string().replace(&format!("$UID_{pod_name}"), "$UID");
                let want: Value = serde_json::from_str(&want).unwrap();
                assert_eq!(Value::from(got), want, "{name}: {pod_name}, container {}", container.name);
                compared += 1;
            }
        }
    }
    assert!(compared >= 25, "{compared}");
}
