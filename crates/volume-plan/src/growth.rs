//! What is to be done on the node when a volume has grown: what uses it there, such as a file system, is to become as large,
//! and its claim is to say so (KEP-1790; upstream `pkg/volume/util/operationexecutor/{operation_generator,node_expander}.go`
//! and `pkg/volume/util/resize_util.go`).

use kube_model::core::{PersistentVolume, PersistentVolumeClaim};
use kube_model::k8s_openapi::jiff::Timestamp;
use kube_model::quantity::Quantity;
use serde_json::{Value, json};

/// On a claim: nothing is to be done on nodes.
const NOT_REQUIRED: &str = "volume.kubernetes.io/node-expansion-not-required";

/// Conditions of a claim that tell of its growth; all of them end with it.
const CONDITIONS: [&str; 4] =
    ["FileSystemResizePending", "Resizing", "ControllerResizeError", "NodeResizeError"];

/// How much a volume holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// In bytes.
    pub bytes: i64,
    /// As the object says it that it was read of: `2Gi`.
    pub text: String,
}

/// What this node knows of the volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// So many bytes what uses it here has; `None`: what the claim says, as when it is being mounted.
    pub size: Option<i64>,
    /// Its driver has tried, and could not.
    pub failed: bool,
}

/// What is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: what uses it is so large, in bytes, if anybody knows.
    Done(Option<i64>),
    /// Nothing, until the claim says otherwise: its controller is at it, or has to decide.
    Wait,
    /// The driver is asked.
    Expand(Expansion),
}

/// What the driver is asked for, and what the claim is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expansion {
    /// How large it is to be.
    pub size: Size,
    /// Whether the claim says already that it is, as after another node has done its part.
    pub told: bool,
    /// How the claim's controller hears of failures.
    pub recovery: Recovery,
}

/// Whether a controller can recover from a node that cannot do its part (RecoverVolumeExpansionFailure).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// It is an old one: only success is told.
    None,
    /// It can.
    Possible,
    /// It waits for that: the claim asks for another size meanwhile, and the driver could not before.
    Wanted,
}

/// Why nothing has grown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nobody knows whether it has: it is tried again.
    Unknown,
    /// The driver does not do this on nodes.
    Unsupported,
    /// Not while it is in use here. It is not tried again on this node.
    InUse,
    /// It has not; it is tried again.
    Final,
    /// It never will, as it is asked for.
    Infeasible,
}

impl Cause {
    /// Whether the driver has done with it.
    pub fn is_final(self) -> bool {
        self != Self::Unknown
    }
}

/// What is next for a volume that is being mounted or is in use.
pub fn next(claim: &PersistentVolumeClaim, volume: &PersistentVolume, known: Known) -> Next {
    let capacity = volume.spec.as_ref().and_then(|spec| size(spec.capacity.as_ref()?.get("storage")?));
    let status = claim.status.as_ref();
    let claimed = status.and_then(|status| size(status.capacity.as_ref()?.get("storage")?));
    let claimed = claimed.map_or(0, |size| size.bytes);
    let is = known.size.unwrap_or(claimed);
    let Some(capacity) = capacity.filter(|capacity| capacity.bytes > is) else {
        return Next::Done((is > 0).then_some(is));
    };
    let allocated = status.and_then(|status| status.allocated_resources.as_ref());
    let at = stage(claim);
    if at.is_none() && allocated.is_none() {
        let told = claimed >= capacity.bytes;
        return Next::Expand(Expansion { size: capacity, told, recovery: Recovery::None });
    }
    let size = allocated.and_then(|all| size(all.get("storage")?)).unwrap_or(capacity);
    let told = claimed >= size.bytes && at.is_none();
    let spec = claim.spec.as_ref();
    let here_too = told
        && spec
            .and_then(|spec| spec.access_modes.as_ref())
            .is_some_and(|all| all.iter().any(|m| m == "ReadWriteMany"))
        && !claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(NOT_REQUIRED));
    if !here_too && !matches!(at, Some("NodeResizePending" | "NodeResizeInProgress")) {
        return if told { Next::Done(Some(size.bytes)) } else { Next::Wait };
    }
    let asked = spec.and_then(|spec| self::size(spec.resources.as_ref()?.requests.as_ref()?.get("storage")?));
    let other = asked.map_or(0, |asked| asked.bytes) != size.bytes;
    let recovery = if other && known.failed { Recovery::Wanted } else { Recovery::Possible };
    Next::Expand(Expansion { size, told, recovery })
}

/// What a claim that is bound says of its size, in bytes.
pub fn claimed(claim: &PersistentVolumeClaim) -> Option<i64> {
    let status = claim.status.as_ref()?;
    size(status.capacity.as_ref()?.get("storage")?).map(|size| size.bytes)
}

fn size(text: &kube_model::k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> Option<Size> {
    let bytes = text.0.parse::<Quantity>().ok()?.value();
    Some(Size { bytes, text: text.0.clone() })
}

/// How far the growth is, as the claim has it: its `allocatedResourceStatuses`.
fn stage(claim: &PersistentVolumeClaim) -> Option<&str> {
    let all = claim.status.as_ref()?.allocated_resource_statuses.as_ref()?;
    all.get("storage").map(String::as_str).filter(|at| !at.is_empty())
}

/// Strategic merge patch of the claim's status: the node has begun. Fails if the claim has changed since it was read.
pub fn in_progress(claim: &PersistentVolumeClaim) -> Option<Value> {
    let status = json!({"allocatedResourceStatuses": {"storage": "NodeResizeInProgress"}});
    (stage(claim) != Some("NodeResizeInProgress")).then(|| if_unchanged(claim, &status))
}

/// The same: what uses the volume is so large now, and nobody waits for that any more.
pub fn finished(claim: &PersistentVolumeClaim, size: &Size) -> Value {
    let has = claim.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let over = has.filter(|condition| CONDITIONS.contains(&condition.type_.as_str()));
    let over: Vec<_> = over.map(|condition| json!({"type": condition.type_, "$patch": "delete"})).collect();
    let status = json!({
        "capacity": {"storage": size.text}, "conditions": over, "allocatedResourceStatuses": {"storage": null},
    });
    if_unchanged(claim, &status)
}

/// The same: the driver has said why it cannot. `None`: the claim says so already.
pub fn failed(
    claim: &PersistentVolumeClaim,
    expansion: &Expansion,
    cause: Cause,
    why: &str,
    now: Timestamp,
) -> Option<Value> {
    let mut status = serde_json::Map::new();
    let infeasible = cause == Cause::Infeasible || expansion.recovery == Recovery::Wanted;
    if infeasible && stage(claim) != Some("NodeResizeInfeasible") {
        let stage = json!({"storage": "NodeResizeInfeasible"});
        status.insert("allocatedResourceStatuses".to_owned(), stage);
    }
    let has = claim.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let said = |name: &str, status: &str| name == "NodeResizeError" && status == "True";
    if !has.into_iter().any(|condition| said(&condition.type_, &condition.status)) {
        let seconds = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!([{
            "type": "NodeResizeError", "status": "True", "lastTransitionTime": seconds,
            "message": format!("failed to expand pvc with {why}"),
        }]);
        status.insert("conditions".to_owned(), condition);
    }
    (!status.is_empty()).then(|| json!({ "status": status }))
}

fn if_unchanged(claim: &PersistentVolumeClaim, status: &Value) -> Value {
    json!({"metadata": {"resourceVersion": claim.metadata.resource_version}, "status": status})
}

#[cfg(test)]
mod tests;
