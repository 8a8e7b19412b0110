//! What survives the death of the agent and of the runtime.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cri_client::v1::{
    Container, ContainerConfig, ContainerMetadata, ContainerState, CreateContainerRequest,
    LinuxContainerConfig, LinuxContainerSecurityContext, LinuxPodSandboxConfig, ListPodSandboxRequest,
    NamespaceMode, NamespaceOption, PodSandbox, PodSandboxConfig, PodSandboxState, RemoveContainerRequest,
    RemovePodSandboxRequest, StopPodSandboxRequest,
};
use kube_model::labels;
use serde_json::Value;
use testkit::env::{container_status, is_ready, pod};

use crate::node::{Node, condition, eventually, id_of, manifest, on_both_lines, uid_of};
use crate::survey::{SLEEPER, lines_of, prove_alive, runs, traces, until_no_trace};

/// Its probes run so seldom that an outcome that was forgotten would be missing for the rest of the test.
const PROBED: &str = "
terminationGracePeriodSeconds: 5
initContainers:
- name: first
  image: $BUSYBOX
  command: [\"true\"]
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, \"trap 'exit 0' TERM; sleep 3600 & wait\"]
  startupProbe: {exec: {command: [\"true\"]}, periodSeconds: 1}
  readinessProbe: {exec: {command: [\"true\"]}, periodSeconds: 3600}
  livenessProbe: {exec: {command: [\"true\"]}, periodSeconds: 1}
- name: other
  image: $BUSYBOX
  command: [sh, -c, \"trap 'exit 0' TERM; sleep 3600 & wait\"]
";

const JOB: &str = "
restartPolicy: Never
containers:
- name: app
  image: $BUSYBOX
  command: [\"true\"]
";

on_both_lines! {
    fn a_killed_agent_adopts_every_container_as_it_is(node) {
        for (name, spec) in [("probed", PROBED), ("job", JOB), ("bounced", SLEEPER)] {
            node.apply(name, spec);
        }
        node.until_ready("probed");
        node.until_phase("job", "Succeeded");
        let bounced = node.until_phase("bounced", "Running");
        kill_task(&node, &running_id(&bounced));
        until_restarted(&node, "bounced", 1);
        until_quiet(&node);

        let (before, tasks) = (node.everything(), node.tasks());
        node.agent.kill9();
        node.agent.start_again().unwrap();
        let names = ["probed", "job", "bounced"];
        // Looked at from the very first answer on.
        node.until("all pods are as they were", |view| {
            let Some(probed) = pod(view, "probed") else { return Err("pod probed is not shown yet".into()) };
            assert_ne!(condition(probed, "Ready")["status"], "False", "a ready pod is shown not ready: {probed}");
            assert_ne!(condition(probed, "ContainersReady")["status"], "False", "{probed}");
            let shown = |name: &&str| pod(view, name).is_some_and(|p| p["status"]["phase"].is_string());
            match names.iter().find(|name| !shown(name)) {
                None if is_ready(view, "probed") => Ok(()),
                missing => Err(format!("{missing:?} has no status, or probed is not ready")),
            }
        });
        prove_alive(&node);

        assert_eq!(node.everything(), before);
        assert_eq!(node.tasks(), tasks, "the same processes");
        let view = node.agent.pods().unwrap();
        assert!(is_ready(&view, "probed"));
        assert_eq!(container_status(&view, "probed", "app").unwrap()["started"], true);
        assert_eq!(pod(&view, "job").unwrap()["status"]["phase"], "Succeeded");
        assert_eq!(container_status(&view, "bounced", "app").unwrap()["restartCount"], 1);

        kill_task(&node, &running_id(pod(&view, "bounced").unwrap()));
        until_restarted(&node, "bounced", 2);
    }

    fn a_container_that_ended_while_the_agent_was_down_is_restarted_and_counted(node) {
        node.apply("sleeper", SLEEPER);
        let sleeper = node.until_phase("sleeper", "Running");
        node.agent.kill9();
        kill_task(&node, &running_id(&sleeper));
        node.agent.start_again().unwrap();
        until_restarted(&node, "sleeper", 1);
        assert_eq!(node.containers_running(), ["sleeper-node1/app#1"]);
    }

    /// The moments are random but the same in every run; what is killed when depends on the machine.
    fn an_agent_killed_at_any_moment_starts_nothing_twice(node) {
        let names = ["one", "two", "three"];
        node.agent.kill9();
        for name in names {
            node.apply(name, PROBED);
        }
        let mut random = Random(0x5eed);
        let mut ran: BTreeMap<String, String> = BTreeMap::new();
        for round in 0..10 {
            node.agent.start_again().unwrap();
            // Not a wait for anything: the moment of the fault.
            std::thread::sleep(Duration::from_millis(random.below(350)));
            node.agent.kill9();
            nothing_runs_twice(&node, &mut ran, round);
        }
        node.agent.start_again().unwrap();
        for name in names {
            node.until_ready(name);
        }
        nothing_runs_twice(&node, &mut ran, 10);
        assert_eq!(ran.len(), 6, "two containers of each pod: {ran:?}");
        // Restart counts say nothing here: a start that dies with the agent is a start that failed, in the
        // runtime's own words ("context canceled"), and uses its number up. What matters is what ran.
    }

    fn a_removal_killed_at_any_moment_ends_without_a_trace(node) {
        let names = ["one", "two", "three"];
        for name in names {
            node.apply(name, SLEEPER);
        }
        let uids = names.map(|name| uid_of(&node.until_phase(name, "Running")));
        node.agent.kill9();
        for name in names {
            node.delete(name);
        }
        let mut random = Random(0xdead);
        for _ in 0..8 {
            node.agent.start_again().unwrap();
            // Not a wait for anything: the moment of the fault.
            std::thread::sleep(Duration::from_millis(random.below(250)));
            node.agent.kill9();
        }
        node.agent.start_again().unwrap();
        for uid in uids {
            until_no_trace(&node, &uid);
        }
    }

    fn a_pod_that_lost_its_manifest_while_the_agent_was_down_goes_without_a_trace(node) {
        node.apply("orphan", SLEEPER);
        node.apply("stays", SLEEPER);
        let uid = uid_of(&node.until_phase("orphan", "Running"));
        let stays = node.until_phase("stays", "Running");
        assert_ne!(traces(&node, &uid), Vec::<PathBuf>::new(), "the test looks in the right places");
        node.agent.kill9();
        node.delete("orphan");
        node.agent.start_again().unwrap();
        until_no_trace(&node, &uid);
        prove_alive(&node);
        assert_eq!(node.containers_running(), ["stays-node1/app#0"]);
        assert_eq!(running_id(&node.until_phase("stays", "Running")), running_id(&stays));
    }

    /// The agent was killed after the runtime had forgotten the pod and before the rest was removed.
    fn what_is_left_of_a_pod_that_the_runtime_has_forgotten_goes(node) {
        node.apply("orphan", SLEEPER);
        let uid = uid_of(&node.until_phase("orphan", "Running"));
        node.agent.kill9();
        node.delete("orphan");
        for sandbox in node.sandboxes(&uid) {
            let (stop, remove) = (
                StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() },
                RemovePodSandboxRequest { pod_sandbox_id: sandbox.id },
            );
            node.cri(async |cri| cri.stop_pod_sandbox(stop).await).unwrap();
            node.cri(async |cri| cri.remove_pod_sandbox(remove).await).unwrap();
        }
        assert_ne!(traces(&node, &uid), Vec::<PathBuf>::new(), "there is something to remove");
        node.agent.start_again().unwrap();
        until_no_trace(&node, &uid);
    }

    /// As containerd may be left when it is interrupted in starting a container: it takes it for created, has a process
    /// for it, and removes neither it nor its sandbox until it is started anew.
    fn a_container_that_is_no_more_than_created_and_has_a_process_holds_up_nothing(node) {
        node.apply("web", SLEEPER);
        let uid = uid_of(&node.until_phase("web", "Running"));
        node.agent.kill9();
        let sandbox = node.sandboxes(&uid).remove(0);
        let created = create_beside(&node, &uid, &sandbox);
        node.containerd.ctr(&["tasks", "start", "--detach", "--null-io", &created]).unwrap();
        let refused = RemoveContainerRequest { container_id: created.clone() };
        let refused = node.cri(async |cri| cri.remove_container(refused).await).unwrap_err().to_string();
        assert!(refused.contains("cannot delete running task"), "{refused}");
        node.delete("web");
        node.agent.start_again().unwrap();
        // At first the agent that starts has not heard of the pod yet.
        eventually("nothing runs any more", || {
            let processes = node.containerd.ctr(&["tasks", "ls"]).unwrap();
            if processes.contains("RUNNING") { Err(processes) } else { Ok(()) }
        });
        node.until_gone("web");
        let folder = node.agent.root().join("pods").join(&uid);
        eventually("only what tells that the rest is ours is left", || match traces(&node, &uid) {
            left if left == [folder.as_path()] => Ok(()),
            left => Err(format!("{left:?}")),
        });

        node.apply("web", SLEEPER);
        assert_eq!(uid_of(&node.until_phase("web", "Running")), uid);
        node.containerd.kill9();
        node.containerd.start_again().unwrap();
        eventually("the container is removed, or kept as the last one that ended", || {
            let left = node.containers(&uid);
            let is_stuck = |c: &Container| c.id == created && c.state() == ContainerState::ContainerCreated;
            if left.iter().any(is_stuck) { Err(format!("{left:?}")) } else { Ok(()) }
        });
        node.until_phase("web", "Running");
        node.delete("web");
        until_no_trace(&node, &uid);
    }

    fn a_manifest_changed_while_the_agent_was_down_replaces_its_pod(node) {
        node.apply("web", SLEEPER);
        let old = uid_of(&node.until_phase("web", "Running"));
        node.agent.kill9();
        node.apply("web", &SLEEPER.replace("3600", "7200"));
        node.agent.start_again().unwrap();
        let new = node.until_pod("web", "is replaced", |p| uid_of(p) != old && p["status"]["phase"] == "Running");
        until_no_trace(&node, &old);
        assert_eq!(node.containers(&uid_of(&new)).len(), 1);
        assert_eq!(node.containers_running(), ["web-node1/app#0"]);
    }

    fn a_manifest_broken_while_the_agent_was_down_leaves_its_pod_running(node) {
        node.apply("web", SLEEPER);
        let before = node.until_phase("web", "Running");
        node.agent.kill9();
        let broken = manifest("web", SLEEPER).replace("containers:", "containers: [");
        node.agent.write_manifest("web.yaml", &broken).unwrap();
        node.agent.start_again().unwrap();
        let after = node.until_phase("web", "Running");
        prove_alive(&node);
        assert_eq!(running_id(&after), running_id(&before));
        assert_eq!(node.containers_running(), ["web-node1/app#0"]);
        let shown = node.agent.table().unwrap();
        assert!(shown.contains("web.yaml"), "the problem is shown: {shown}");

        node.delete("web");
        node.until_gone("web");
    }

    fn pods_outlive_a_killed_containerd(node) {
        node.apply("probed", PROBED);
        node.apply("leaves", SLEEPER);
        node.until_ready("probed");
        let leaves = uid_of(&node.until_phase("leaves", "Running"));
        until_quiet(&node);
        let probed = node.until_ready("probed");
        let uid = uid_of(&probed);
        let (before, tasks) = (lines_of(&node.containers(&uid)), node.tasks());

        node.containerd.kill9();
        let endpoint = node.containerd.endpoint();
        eventually("`pods` says that the runtime is gone", || {
            let shown = node.agent.table().map_err(|e| e.to_string())?;
            let says = shown.contains(&format!("The runtime at {endpoint} is not ready"));
            if says { Ok(()) } else { Err(shown) }
        });
        let explained = node.agent.ask(&["explain", "probed"]).unwrap();
        assert!(explained.contains("RuntimeNotReady") && explained.contains(&endpoint), "{explained}");
        let still = node.until_phase("probed", "Running");
        assert_eq!(condition(&still, "Ready")["status"], "True", "nobody knows otherwise: {still}");
        node.agent.wait_healthy().unwrap();
        // What is wanted meanwhile is done later.
        node.apply("comes", SLEEPER);
        node.delete("leaves");

        node.containerd.start_again().unwrap();
        node.until_phase("comes", "Running");
        until_no_trace(&node, &leaves);
        let shown = node.agent.table().unwrap();
        assert!(!shown.contains("not ready"), "{shown}");
        assert_eq!(lines_of(&node.containers(&uid)), before);
        let same: Vec<_> = tasks.iter().filter(|task| node.tasks().contains(task)).collect();
        assert_eq!(same.len(), 3, "the sandbox and two containers of `probed` are the same processes: {same:?}");
        assert!(is_ready(&node.agent.pods().unwrap(), "probed"));
    }

    fn both_killed_at_once_come_back_with_nothing_restarted(node) {
        node.apply("probed", PROBED);
        node.until_ready("probed");
        until_quiet(&node);
        let (before, tasks) = (node.everything(), node.tasks());
        node.containerd.kill9();
        node.agent.kill9();
        node.agent.start_again().unwrap();
        node.agent.wait_healthy().unwrap();
        node.containerd.start_again().unwrap();
        node.until_ready("probed");
        prove_alive(&node);
        assert_eq!((node.everything(), node.tasks()), (before, tasks));
    }
}

/// Makes one more container of a pod, as its agent would, and does not start it. Returns its ID.
fn create_beside(node: &Node, uid: &str, sandbox: &PodSandbox) -> String {
    let mut first = node.containers(uid).remove(0);
    first.annotations.insert("io.kubernetes.container.restartCount".to_owned(), "1".to_owned());
    let metadata = ContainerMetadata { attempt: 1, ..first.metadata.unwrap() };
    // With a PID namespace of the pod it would die with the sandbox.
    let namespaces = NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() };
    let security =
        LinuxContainerSecurityContext { namespace_options: Some(namespaces), ..Default::default() };
    let container = ContainerConfig {
        metadata: Some(metadata),
        image: first.image,
        command: ["sleep", "3600"].map(str::to_owned).to_vec(),
        labels: first.labels,
        annotations: first.annotations,
        linux: Some(LinuxContainerConfig { security_context: Some(security), ..Default::default() }),
        ..Default::default()
    };
    let cgroup_parent = format!("/{}/kubepods/besteffort/pod{uid}", node.run.name());
    let sandbox_config = PodSandboxConfig {
        metadata: sandbox.metadata.clone(),
        linux: Some(LinuxPodSandboxConfig { cgroup_parent, ..Default::default() }),
        ..Default::default()
    };
    let request = CreateContainerRequest {
        pod_sandbox_id: sandbox.id.clone(),
        config: Some(container),
        sandbox_config: Some(sandbox_config),
    };
    node.cri(async |cri| cri.create_container(request).await).unwrap().container_id
}

/// The ID of the container `app` of a pod.
fn running_id(pod: &Value) -> String {
    let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
    id_of(statuses.iter().find(|status| status["name"] == "app").unwrap())
}

fn kill_task(node: &Node, id: &str) {
    node.containerd.ctr(&["tasks", "kill", "--signal", "SIGKILL", id]).unwrap();
}

fn until_restarted(node: &Node, name: &str, times: u32) {
    node.until_container(name, "app", &format!("runs after {times} restarts"), |c| {
        c["restartCount"] == times && c["state"]["running"].is_object()
    });
}

/// Waits until what is left of earlier instances is collected, so that nothing more is due.
fn until_quiet(node: &Node) {
    eventually("no step is under way", || {
        let mut pods = ["probed", "job", "bounced", "leaves"]
            .iter()
            .filter(|name| node.agent.manifests().join(format!("{name}.yaml")).exists())
            .map(|name| node.try_explain(name))
            .collect::<Result<Vec<Value>, _>>()?;
        pods.retain(|pod| !pod["doing"].is_null());
        if pods.is_empty() { Ok(()) } else { Err(format!("{pods:?}")) }
    });
}

/// Checks that no container, and no pod, runs twice, and that what ran at the last look still runs.
fn nothing_runs_twice(node: &Node, ran: &mut BTreeMap<String, String>, round: usize) {
    let sandboxes = node.cri(async |cri| cri.list_pod_sandbox(ListPodSandboxRequest::default()).await);
    let mut ready: Vec<String> = sandboxes
        .unwrap()
        .items
        .into_iter()
        .filter(|s| s.state() == PodSandboxState::SandboxReady)
        .map(|s| s.labels[labels::POD_UID].clone())
        .collect();
    ready.sort();
    let twice = ready.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "round {round}: a pod with two sandboxes: {:#?}", node.everything());

    let all = node.all_containers();
    let mut now = BTreeMap::new();
    for container in all.iter().filter(|c| runs(c) && c.labels[labels::CONTAINER_NAME] != "first") {
        let label = |key| container.labels[key].clone();
        let key = format!("{}/{}", label(labels::POD_NAME), label(labels::CONTAINER_NAME));
        let other = now.insert(key, container.id.clone());
        assert_eq!(other, None, "round {round}: runs twice: {:#?}", lines_of(&all));
    }
    for (name, id) in &*ran {
        assert_eq!(now.get(name), Some(id), "round {round}: {name} was restarted: {:#?}", lines_of(&all));
    }
    *ran = now;
}

/// A small generator of numbers that are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
