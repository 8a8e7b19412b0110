//! Where the content of an `emptyDir` lies, and how much it may be (upstream `pkg/volume/emptydir/empty_dir.go`).

use kube_model::core::{EmptyDirVolumeSource, Pod};
use kube_model::pod;
use kube_model::quantity::Quantity;
use kube_model::resources::{HUGEPAGES_PREFIX, MEMORY, all_limited, limits, pod_level};

/// The medium of an `emptyDir`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// A folder on the node's disk. Its `sizeLimit` is kept by eviction, not by the folder.
    Disk,
    /// A tmpfs.
    Memory {
        /// The most that it holds, in bytes; `None` if the node does not know its memory.
        size: Option<u64>,
    },
    /// Huge pages.
    HugePages {
        /// Of this many bytes each.
        page_size: u64,
    },
}

/// The medium of `volume` in `pod`, on a node with `allocatable` bytes of memory for pods.
///
/// # Errors
/// In the kubelet's words: a medium that there is not, or huge pages that no container asks for.
pub fn medium(volume: Option<&EmptyDirVolumeSource>, pod: &Pod, allocatable: i64) -> Result<Medium, String> {
    let medium = volume.and_then(|v| v.medium.as_deref()).unwrap_or_default();
    match medium {
        "" => Ok(Medium::Disk),
        "Memory" => {
            let limit = volume.and_then(|v| v.size_limit.as_ref()).and_then(|l| Quantity::try_from(l).ok());
            Ok(Medium::Memory { size: memory_size(limit.as_ref(), pod, allocatable) })
        }
        "HugePages" => page_size(medium, None, pod),
        _ => match medium.strip_prefix("HugePages-").and_then(bytes) {
            Some(size) => page_size(medium, Some(size), pod),
            None => Err(format!("unknown storage medium {medium:?}")),
        },
    }
}

/// How much a tmpfs of `pod` holds, in bytes: `limit` if that is less than what the pod may use, which is less than what
/// all pods may. Also for content that lies in memory, without a `limit`.
pub fn memory_size(limit: Option<&Quantity>, pod: &Pod, allocatable: i64) -> Option<u64> {
    let spec = pod.spec.as_ref();
    let of_pod = spec.filter(|spec| all_limited(spec, MEMORY)).and_then(|spec| limits(spec).memory());
    let mut size = allocatable;
    for smaller in [of_pod, limit.map(Quantity::value)].into_iter().flatten() {
        // Zero is how the API writes "none".
        if smaller > 0 && (smaller <= size || size <= 0) {
            size = smaller;
        }
    }
    u64::try_from(size).ok().filter(|size| *size > 0)
}

/// The one page size that the pod's containers ask for, or `wanted` if any does.
fn page_size(medium: &str, wanted: Option<u64>, pod: &Pod) -> Result<Medium, String> {
    let spec = pod.spec.as_ref();
    let of_pod = spec.and_then(pod_level).and_then(|r| r.requests.as_ref());
    let of_containers = spec.into_iter().flat_map(pod::containers);
    let of_containers = of_containers.filter_map(|(_, c)| c.resources.as_ref()?.requests.as_ref());
    let names = of_pod.into_iter().chain(of_containers).flat_map(|requests| requests.keys());
    let mut found = None;
    for size in names.filter_map(|name| name.strip_prefix(HUGEPAGES_PREFIX)).filter_map(bytes) {
        match wanted {
            Some(wanted) if wanted != size => {}
            None if found.is_some_and(|found| found != size) => {
                return Err(format!(
                    "medium: {medium} can't be used if container requests multiple huge page sizes"
                ));
            }
            _ => found = Some(size),
        }
    }
    match found {
        Some(page_size) => Ok(Medium::HugePages { page_size }),
        None => Err(format!(
            "medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
        )),
    }
}

fn bytes(quantity: &str) -> Option<u64> {
    let quantity: Quantity = quantity.parse().ok()?;
    u64::try_from(quantity.value()).ok().filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NODE: i64 = 8 << 30;

    fn pod(containers: Value, more: Value) -> Pod {
        let mut spec = json!({"containers": containers});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn limited(memory: &str) -> Value {
        json!({"name": "c", "resources": {"limits": {"memory": memory}}})
    }

    #[test]
    fn memory_is_what_is_asked_for_but_no_more_than_the_pod_may_use() {
        let free = json!({"name": "f"});
        let none = json!({});
        let two = json!([limited("64Mi"), limited("32Mi")]);
        for (case, limit, pod, want) in [
            ("nothing is limited: what all pods may use", None, pod(json!([free]), none.clone()), NODE),
            ("a limit", Some("8Mi"), pod(json!([free]), none.clone()), 8 << 20),
            ("none by another name", Some("0"), pod(json!([free]), none.clone()), NODE),
            ("a limit beyond the node", Some("1Ti"), pod(json!([free]), none.clone()), NODE),
            ("the sum of what containers may use", None, pod(two.clone(), none.clone()), 96 << 20),
            ("a smaller limit", Some("10Mi"), pod(two.clone(), none.clone()), 10 << 20),
            ("a larger one", Some("1Gi"), pod(two.clone(), none.clone()), 96 << 20),
            ("one container is free", None, pod(json!([limited("64Mi"), free]), none.clone()), NODE),
            ("as is one that runs before", None, pod(two, json!({"initContainers": [{"name": "i"}]})), NODE),
            (
                "the pod as a whole is limited",
                None,
                pod(json!([free]), json!({"resources": {"limits": {"memory": "40Mi"}}})),
                40 << 20,
            ),
            ("more than the node has", None, pod(json!([limited("1Ti")]), none.clone()), NODE),
        ] {
            let volume = json!({"medium": "Memory", "sizeLimit": limit});
            let volume: EmptyDirVolumeSource = serde_json::from_value(volume).unwrap();
            let got = medium(Some(&volume), &pod, NODE);
            assert_eq!(got, Ok(Medium::Memory { size: u64::try_from(want).ok() }), "{case}");
        }
        let free = pod(json!([free]), none);
        assert_eq!(memory_size(None, &free, 0), None);
        assert_eq!(memory_size(Some(&"1Mi".parse().unwrap()), &free, 0), Some(1 << 20));
    }

    #[test]
    fn huge_pages_are_of_the_size_that_is_asked_for() {
        let asks = |sizes: &[&str]| {
            let requests: serde_json::Map<_, _> =
                sizes.iter().map(|size| (format!("hugepages-{size}"), json!("4Mi"))).collect();
            pod(json!([{"name": "c", "resources": {"requests": requests}}]), json!({}))
        };
        let pages = |page_size| Ok(Medium::HugePages { page_size });
        let none = |medium: &str| {
            Err(format!(
                "medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
            ))
        };
        for (kind, sizes, want) in [
            ("HugePages", &["2Mi"][..], pages(2 << 20)),
            ("HugePages-2Mi", &["2Mi", "1Gi"], pages(2 << 20)),
            ("HugePages-1Gi", &["2Mi", "1Gi"], pages(1 << 30)),
            ("HugePages", &[], none("HugePages")),
            ("HugePages-1Gi", &["2Mi"], none("HugePages-1Gi")),
            (
                "HugePages",
                &["2Mi", "1Gi"],
                Err("medium: HugePages can't be used if container requests multiple huge page sizes".into()),
            ),
            ("HugePages-x", &["2Mi"], Err("unknown storage medium \"HugePages-x\"".into())),
            ("Tape", &[], Err("unknown storage medium \"Tape\"".into())),
            ("", &[], Ok(Medium::Disk)),
        ] {
            let volume: EmptyDirVolumeSource = serde_json::from_value(json!({"medium": kind})).unwrap();
            assert_eq!(medium(Some(&volume), &asks(sizes), NODE), want, "{kind} {sizes:?}");
        }
        assert_eq!(medium(None, &asks(&[]), NODE), Ok(Medium::Disk));
    }
}
