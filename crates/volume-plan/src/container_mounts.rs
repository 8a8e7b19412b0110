//! What a container mounts of its pod's volumes (upstream `pkg/kubelet/kubelet_pods.go` `makeMounts`).

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use kube_model::core::{Container, Pod, VolumeMount};
use kube_model::expansion::{Budget, expand};
use kube_model::pod;

use crate::spec::Kind;

/// One mount, in the words of the spec: which path of the node it is follows from where its volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerMount<'a> {
    /// The volume's name in the pod.
    pub volume: &'a str,
    /// The place in `volumeMounts`, after which the mount of a `subPath` is called on the node.
    pub index: usize,
    /// Where in the container; absolute.
    pub container_path: Cow<'a, str>,
    /// The part of the volume, if not all of it.
    pub sub_path: Option<SubPath<'a>>,
    /// Nothing can be written through it.
    pub read_only: bool,
    /// Nor through what is mounted below it.
    pub recursive_read_only: bool,
    /// Whether mounts made later are seen on the other side.
    pub propagation: Propagation,
    /// Whether the files get the container's label, where SELinux is on.
    pub selinux_relabel: bool,
}

/// A part of a volume. Its path is relative and has no `..`; what links in the volume make of it is seen when it is
/// opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubPath<'a> {
    /// The path below the volume.
    pub path: Cow<'a, str>,
    /// Whether it is made as a folder where it is missing: not in a volume whose content is the agent's.
    pub create: bool,
}

/// `mountPropagation`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// No mount made later is seen.
    Private,
    /// The container sees those of the node.
    HostToContainer,
    /// The node sees those of the container, too.
    Bidirectional,
}

/// What of a volume decides how it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Nobody but the agent writes to it.
    pub read_only: bool,
    /// Its files may be relabelled: they are this pod's alone.
    pub selinux_relabel: bool,
}

impl Attributes {
    /// Those of a volume of this kind; `None` if the agent does not mount it, and of a claim, where those of the persistent
    /// volume count.
    pub fn of(kind: Kind<'_>) -> Option<Self> {
        match kind {
            Kind::EmptyDir(_) => Some(Self { read_only: false, selinux_relabel: true }),
            Kind::HostPath(_) => Some(Self { read_only: false, selinux_relabel: false }),
            Kind::Image(_) => Some(Self { read_only: true, selinux_relabel: false }),
            Kind::Content(_) => Some(Self { read_only: true, selinux_relabel: true }),
            Kind::Nfs(source) => {
                Some(Self { read_only: source.read_only.unwrap_or(false), selinux_relabel: false })
            }
            Kind::Csi(source) => {
                Some(Self { read_only: source.read_only.unwrap_or(false), selinux_relabel: true })
            }
            Kind::Claim(_) | Kind::Never(_) => None,
        }
    }
}

/// Why a container can mount nothing, in the kubelet's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountError {
    /// There is no such volume.
    NoVolume {
        /// The volume.
        volume: String,
        /// Who mounts it.
        container: String,
    },
    /// Variables of a `subPathExpr` that are not set, or empty.
    NoValue(BTreeSet<String>),
    /// What the variables of a `subPathExpr` stand for is too long.
    TooLong(String),
    /// A `subPath` that does not start at the volume.
    Absolute(String),
    /// One that goes up.
    Up(String),
    /// There is no such `mountPropagation`.
    Propagation(String),
    /// A mount cannot be read-only recursively.
    RecursiveReadOnly(String),
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVolume { volume, container } => {
                write!(f, "cannot find volume {volume:?} to mount into container {container:?}")
            }
            Self::NoValue(names) => {
                f.write_str("missing value for ")?;
                for (i, name) in names.iter().enumerate() {
                    write!(f, "{}{name}", if i == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::TooLong(problem) => f.write_str(problem),
            Self::Absolute(path) => write!(f, "error SubPath `{path}` must not be an absolute path"),
            Self::Up(path) => write!(f, "unable to provision SubPath `{path}`: must not contain '..'"),
            Self::Propagation(mode) => write!(f, "invalid MountPropagation mode: {mode:?}"),
            Self::RecursiveReadOnly(problem) => {
                write!(f, "failed to resolve recursive read-only mode: {problem}")
            }
        }
    }
}

impl std::error::Error for MountError {}

/// The mounts of `container`, in the order of its spec. `attributes` are those of a volume of its pod, `variable` the
/// value of one of its variables, and `recursive` whether the runtime can make mounts read-only recursively.
///
/// # Errors
/// The first mount that cannot be: the container is not started then.
pub fn container_mounts<'a, 'v>(
    container: &'a Container,
    attributes: impl Fn(&str) -> Option<Attributes>,
    variable: impl Fn(&str) -> Option<Cow<'v, str>>,
    recursive: bool,
) -> Result<Vec<ContainerMount<'a>>, MountError> {
    let mut budget = Budget::default();
    let mounts = container.volume_mounts.iter().flatten().enumerate();
    let mounts = mounts.map(|(index, mount)| {
        let attributes = attributes(&mount.name).ok_or_else(|| MountError::NoVolume {
            volume: mount.name.clone(),
            container: container.name.clone(),
        })?;
        let sub_path = sub_path(mount, &variable, &mut budget)?;
        Ok(ContainerMount {
            volume: &mount.name,
            index,
            container_path: absolute(&mount.mount_path),
            sub_path: sub_path.map(|path| SubPath { path, create: !attributes.read_only }),
            read_only: mount.read_only.unwrap_or(false) || attributes.read_only,
            propagation: propagation(mount)?,
            recursive_read_only: recursive_read_only(mount, recursive)?,
            // Each mount, as each may be of another part of the volume.
            selinux_relabel: attributes.selinux_relabel,
        })
    });
    mounts.collect()
}

/// Upstream's `MakeAbsolutePath`.
fn absolute(path: &str) -> Cow<'_, str> {
    if path.starts_with('/') { Cow::Borrowed(path) } else { Cow::Owned(format!("/{path}")) }
}

fn sub_path<'a, 'v>(
    mount: &'a VolumeMount,
    variable: &impl Fn(&str) -> Option<Cow<'v, str>>,
    budget: &mut Budget,
) -> Result<Option<Cow<'a, str>>, MountError> {
    let given = |text: &'a Option<String>| text.as_deref().filter(|text| !text.is_empty());
    let path = match given(&mount.sub_path_expr) {
        Some(expression) => {
            let missing = RefCell::new(BTreeSet::new());
            let expanded = expand(expression, budget, |name| {
                let value = variable(name).filter(|value| !value.is_empty());
                if value.is_none() {
                    missing.borrow_mut().insert(name.to_owned());
                }
                value
            });
            let missing = missing.into_inner();
            if !missing.is_empty() {
                return Err(MountError::NoValue(missing));
            }
            Cow::Owned(expanded.map_err(|problem| MountError::TooLong(problem.to_string()))?)
        }
        None => Cow::Borrowed(given(&mount.sub_path).unwrap_or_default()),
    };
    if path.is_empty() {
        return Ok(None);
    }
    if path.starts_with('/') {
        return Err(MountError::Absolute(path.into_owned()));
    }
    if path.split('/').any(|name| name == "..") {
        return Err(MountError::Up(path.into_owned()));
    }
    Ok(Some(path))
}

fn propagation(mount: &VolumeMount) -> Result<Propagation, MountError> {
    match mount.mount_propagation.as_deref() {
        None | Some("None") => Ok(Propagation::Private),
        Some("HostToContainer") => Ok(Propagation::HostToContainer),
        Some("Bidirectional") => Ok(Propagation::Bidirectional),
        Some(other) => Err(MountError::Propagation(other.to_owned())),
    }
}

/// Upstream `resolveRecursiveReadOnly`.
fn recursive_read_only(mount: &VolumeMount, runtime_can: bool) -> Result<bool, MountError> {
    let mode = mount.recursive_read_only.as_deref().unwrap_or("Disabled");
    if mode == "Disabled" {
        return Ok(false);
    }
    let refuse = |why: String| {
        let volume = &mount.name;
        Err(MountError::RecursiveReadOnly(format!(
            "volume {volume:?} requested recursive read-only mode, but it is {why}"
        )))
    };
    if !mount.read_only.unwrap_or(false) {
        return refuse("not read-only".to_owned());
    }
    if let Some(other) = mount.mount_propagation.as_deref().filter(|p| *p != "None") {
        return refuse(format!("not compatible with propagation {other:?}"));
    }
    match mode {
        "IfPossible" => Ok(runtime_can),
        "Enabled" if runtime_can => Ok(true),
        "Enabled" => refuse("not supported by the runtime".to_owned()),
        other => Err(MountError::RecursiveReadOnly(format!("unknown recursive read-only mode {other:?}"))),
    }
}

/// Folders that have to be in `volume` for others to be mounted in, where a container mounts them below it: the runtime
/// cannot make them in a volume that is read-only (upstream `pkg/volume/util/nested_volumes.go`).
pub fn nested_mount_points<'a>(pod: &'a Pod, volume: &str) -> BTreeSet<Cow<'a, str>> {
    let spec = pod.spec.as_ref();
    let regular = spec.into_iter().flat_map(pod::containers).map(|(_, container)| &container.volume_mounts);
    let ephemeral = spec.into_iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    let ephemeral = ephemeral.map(|container| &container.volume_mounts);
    let mut points = BTreeSet::new();
    for mounts in regular.chain(ephemeral) {
        let all = mounts.iter().flatten().map(|mount| clean(&mount.mount_path));
        let all: BTreeSet<_> = all.filter(|point| !point.split('/').any(|name| name == "..")).collect();
        for own in mounts.iter().flatten().filter(|mount| mount.name == volume) {
            let own = clean(&own.mount_path);
            let below = all.iter().filter_map(|point| below(point, &own));
            let below: BTreeSet<_> = below.collect();
            // What lies below another of them is that one's affair.
            let is_outer = |point: &&str| !below.iter().any(|outer| self::below(point, outer).is_some());
            points.extend(below.iter().copied().filter(is_outer).map(|point| Cow::Owned(point.to_owned())));
        }
    }
    points
}

/// `point` as seen from `folder`, if it lies below it.
fn below<'p>(point: &'p str, folder: &str) -> Option<&'p str> {
    point.strip_prefix(folder)?.strip_prefix('/')
}

/// A path of the container without what means nothing; `..` stays.
fn clean(path: &str) -> String {
    let names = path.split('/').filter(|name| !name.is_empty() && *name != ".");
    names.flat_map(|name| ["/", name]).collect()
}

#[cfg(test)]
mod tests;
