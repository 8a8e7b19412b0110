//! What is served has the names, types and labels of the real kubelet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::observed::{Container, ContainerState};
use kube_model::pod::ContainerKind;
use kube_model::probe::ProbeKind;
use kube_model::{Monotonic, Now, PodUid, Timestamp};
use node_config::gates::Gates;
use pod_lifecycle::FailureReason;
use pod_manager::Change;
use pod_workers::{Lifecycle, Observer as _, Wanted, Working, WorkingPods, write_working};
use prober::{Tallied, Tally};
use serde_json::json;
use tokio::time::Instant;

use super::*;

/// What the recorded kubelet had no occasion to show, from upstream: name, type, labels.
const NOT_RECORDED: &str = "
kubelet_admission_rejections_total\tcounter\treason
kubelet_image_pull_duration_seconds\thistogram\timage_size_in_bytes
kubelet_pod_start_sli_duration_seconds\thistogram\t
kubelet_pod_start_total_duration_seconds\thistogram\t
kubelet_run_podsandbox_errors_total\tcounter\truntime_handler
kubernetes_build_info\tgauge\tbuild_date,compiler,git_commit,git_tree_state,git_version,go_version,major,minor,platform
";

/// The types of metrics and the labels of their series, as `name\ttype\tlabels`.
fn shapes(page: &str) -> BTreeSet<String> {
    let (mut kinds, mut shapes) = (BTreeMap::new(), BTreeSet::new());
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            kinds.insert(name, kind);
        }
        let Some(series) = line.split([' ', '{']).next().filter(|_| !line.starts_with('#')) else { continue };
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end));
        let name = stem.filter(|stem| kinds.get(stem) == Some(&"histogram")).unwrap_or(series);
        let labels = line.split_once('{').map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
        let names = labels.split("\",").filter_map(|label| label.split('=').next());
        let names: Vec<_> = names.filter(|name| !name.is_empty() && *name != "le").collect();
        shapes.insert(format!("{name}\t{}\t{}", kinds[name], names.join(",")));
    }
    shapes
}

/// Of a recording; what it has beside labels in that column is left out.
fn recorded(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.replace("(timestamped),", "").replace("(timestamped)", "")).collect()
}

fn pod() -> Pod {
    let pod = json!({
        "metadata": {"uid": "u1", "name": "web", "namespace": "d", "creationTimestamp": "2026-11-23T12:00:00Z"},
        "spec": {"containers": [{"name": "app"}, {"name": "side"}]},
    });
    serde_json::from_value(pod).unwrap()
}

fn killed() -> Container {
    Container {
        id: "c1".into(),
        sandbox_id: String::new(),
        name: "app".into(),
        restart_count: 0,
        hash: None,
        state: ContainerState::Exited,
        created_at: Timestamp::UNIX_EPOCH,
        started_at: None,
        finished_at: None,
        exit_code: 139,
        reason: "Error".into(),
        message: String::new(),
        image: String::new(),
        image_id: String::new(),
        image_ref: String::new(),
        log_path: String::new(),
        user: None,
        resources: None,
    }
}

/// Everything has happened once.
fn eventful() -> Metrics {
    let metrics = Metrics::new();
    let runtime = &metrics.runtime;
    runtime.called("RunPodSandbox", Duration::from_millis(20), true);
    runtime.called("RunPodSandbox", Duration::from_millis(20), false);
    runtime.called("ListImages", Duration::from_millis(4), false);
    runtime.pod_starts();
    runtime.container_starts(ContainerKind::Regular);
    runtime.container_starts(ContainerKind::Sidecar);
    runtime.container_failed(ContainerKind::Regular, FailureReason::RunContainerError);
    runtime.cgroup("create", Instant::now());
    runtime.image_pulled(7, Duration::from_secs(12));
    metrics.status_told(Duration::from_millis(20));
    let (pod, pods) = (pod(), &metrics.pods);
    pods.started(&pod, Duration::from_millis(3));
    pods.rejected("OutOfcpu");
    pods.rejected("TaintToleration");
    pods.rejected("made up");
    pods.runs(Duration::from_secs(2));
    pods.orphaned();
    pods.restarted(&pod);
    let container = killed();
    pods.ended(Some(ContainerKind::Init), &container);
    pods.ended(None, &container);
    let at = |second: u64| {
        let mono = Monotonic::after_start(Duration::from_secs(second));
        Now { wall: format!("2026-11-23T12:00:{second:02}Z").parse().unwrap(), mono }
    };
    metrics.pod_startup.heard(&Change::Add(Arc::new(pod.clone())), at(1));
    let state = json!({"running": {"startedAt": "2026-11-23T12:00:02Z"}});
    let status = |name| json!({"name": name, "ready": true, "restartCount": 0, "image": "", "imageID": "", "state": state});
    let mut shown = pod;
    shown.status =
        Some(serde_json::from_value(json!({"containerStatuses": [status("app"), status("side")]})).unwrap());
    metrics.pod_startup.heard(&Change::Reconcile(Arc::new(shown)), at(3));
    metrics
}

fn main_page() -> String {
    let mut out = Text::default();
    eventful().write(&mut out);
    let kind = Working { lifecycle: Lifecycle::Terminating, wanted: Wanted::RuntimeOnly, is_static: true };
    write_working(&mut out, &WorkingPods::from([(kind, 2)]));
    info::write_build(&mut out);
    info::write_gates(&mut out, &Gates::default());
    info::write_cgroup_version(&mut out, 2);
    info::write_mirrors(&mut out, 3);
    out.finish()
}

#[test]
fn metrics_have_the_names_types_and_labels_of_the_kubelet() {
    let mut known = recorded(include_str!("../../../../tests/fixtures/server/metrics.tsv"));
    known.extend(recorded(NOT_RECORDED));
    let served = shapes(&main_page());
    let unknown: Vec<_> = served.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    let missing: Vec<_> = recorded(NOT_RECORDED).difference(&served).cloned().collect();
    assert!(missing.is_empty(), "not served any more: {missing:#?}");
}

#[test]
fn what_happened_is_counted() {
    let page = main_page();
    for line in [
        "kubelet_run_podsandbox_duration_seconds_bucket{runtime_handler=\"\",le=\"0.025\"} 2",
        "kubelet_runtime_operations_total{operation_type=\"run_podsandbox\"} 2",
        "kubelet_runtime_operations_errors_total{operation_type=\"run_podsandbox\"} 1",
        "kubelet_runtime_operations_duration_seconds_bucket{operation_type=\"list_images\",le=\"0.005\"} 1",
        "kubelet_started_pods_total 1",
        "kubelet_started_pods_errors_total 0",
        "kubelet_started_containers_total{container_type=\"init_container\"} 1",
        "kubelet_started_containers_errors_total{code=\"RunContainerError\",container_type=\"container\"} 1",
        "kubelet_cgroup_manager_duration_seconds_count{operation_type=\"create\"} 1",
        "kubelet_image_pull_duration_seconds_bucket{image_size_in_bytes=\"0-10MB\",le=\"10\"} 0",
        "kubelet_image_pull_duration_seconds_bucket{image_size_in_bytes=\"0-10MB\",le=\"20\"} 1",
        "kubelet_pod_status_sync_duration_seconds_bucket{le=\"0.05\"} 1",
        "kubelet_containers_per_pod_count_bucket{le=\"2\"} 1",
        "kubelet_containers_per_pod_count_sum 2",
        "kubelet_pod_worker_start_duration_seconds_bucket{le=\"0.005\"} 1",
        "kubelet_pod_start_duration_seconds_bucket{le=\"2\"} 1",
        "kubelet_admission_rejections_total{reason=\"OutOfcpu\"} 1",
        "kubelet_admission_rejections_total{reason=\"Other\"} 2",
        "kubelet_orphaned_runtime_pods_total 1",
        "kubelet_restarted_pods_total{static=\"\"} 1",
        "kubelet_restarted_pods_total{static=\"true\"} 0",
        "kubelet_terminated_containers_total{container_type=\"init_container\",exit_code=\"139\",reason=\"Error\"} 1",
        "kubelet_pod_start_sli_duration_seconds_sum 3",
        "kubelet_working_pods{config=\"runtime_only\",lifecycle=\"terminating\",static=\"unknown\"} 2",
        "kubelet_working_pods{config=\"desired\",lifecycle=\"sync\",static=\"\"} 0",
        "kubernetes_feature_enabled{name=\"AllAlpha\",stage=\"ALPHA\"} 0",
        "kubelet_cgroup_version 2",
        "kubelet_mirror_pods 3",
    ] {
        assert!(page.contains(&format!("{line}\n")), "{line}: {page}");
    }
    let version = format!("git_version=\"v{}+node-agent.", node_config::KUBERNETES_VERSION);
    assert!(page.contains(&version) && page.contains("major=\"1\",minor=\"36\""), "{page}");
}

#[test]
fn probes_have_the_names_types_and_labels_of_the_kubelet() {
    let tally = |kind, tally| Tallied { pod: Arc::new(pod()), container: "app".into(), kind, tally };
    let mut timed = Tally { successful: 1, unknown: 2, timed: 3, seconds: 2.5, ..Tally::default() };
    timed.buckets[0] = 2;
    let mut out = Text::default();
    prober::write_metrics(
        &mut out,
        vec![
            tally(ProbeKind::Readiness, timed),
            tally(ProbeKind::Liveness, Tally { failed: 4, ..Tally::default() }),
            tally(ProbeKind::Startup, Tally::default()),
        ],
    );
    let page = out.finish();
    let known = recorded(include_str!("../../../../tests/fixtures/server/metrics_probes.tsv"));
    let mut served = shapes(&page);
    // The server's own.
    served.insert("process_start_time_seconds\tgauge\t".to_owned());
    assert_eq!(served, known);
    let series: Vec<_> = page.lines().filter(|line| line.starts_with("prober_probe_total")).collect();
    let pod = |uid: &PodUid| format!("container=\"app\",namespace=\"d\",pod=\"web\",pod_uid=\"{uid}\"");
    let pod = pod(&"u1".into());
    assert_eq!(
        series,
        [
            format!("prober_probe_total{{{pod},probe_type=\"Liveness\",result=\"failed\"}} 4"),
            format!("prober_probe_total{{{pod},probe_type=\"Readiness\",result=\"successful\"}} 1"),
            format!("prober_probe_total{{{pod},probe_type=\"Readiness\",result=\"unknown\"}} 2"),
        ]
    );
    let of = "{container=\"app\",namespace=\"d\",pod=\"web\",probe_type=\"Readiness\"";
    for line in
        [format!("_bucket{of},le=\"0.005\"}} 2"), format!("_sum{of}}} 2.5"), format!("_count{of}}} 3")]
    {
        assert!(page.contains(&format!("prober_probe_duration_seconds{line}\n")), "{line}: {page}");
    }
    assert!(!page.contains("Startup"), "nothing to say of it yet");
}
