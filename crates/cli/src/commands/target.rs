//! Which pod and which container are meant. Pure. How a container is chosen: upstream
//! `staging/src/k8s.io/kubectl/pkg/cmd/util/podcmd`.

use std::sync::Arc;

use kube_model::core::ContainerState;
use kube_model::pod;
use kube_model::view::{PodView, ViewSnapshot};

use super::{CommandError, Target};
use crate::{select, show};

/// Says which container kubectl takes when none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The one pod that is meant.
pub(super) fn pod<'a>(
    snapshot: &'a ViewSnapshot,
    target: &Target<'_>,
) -> Result<&'a Arc<PodView>, CommandError> {
    let name = match target.namespace {
        Some(namespace) => format!("{namespace}/{}", target.pod),
        None => target.pod.to_owned(),
    };
    let mut pods = select::matching(snapshot, &name);
    // Of one that is replaced by its namesake the newer is meant, as with the endpoints of the server.
    pods.sort_by_key(|pod| (select::namespace(pod), select::name(pod), pod.removing));
    pods.dedup_by_key(|pod| (select::namespace(pod), select::name(pod)));
    match pods.as_slice() {
        [pod] => Ok(pod),
        [] => Err(show::not_found(snapshot, &name).into()),
        several => Err(show::ambiguous(&name, several).into()),
    }
}

/// The pod as people write it.
pub(super) fn shown(pod: &PodView) -> String {
    format!("{}/{}", select::namespace(pod), select::name(pod))
}

/// The container that is meant, and what to tell of a choice that nobody made.
pub(super) fn container(
    pod: &PodView,
    wanted: Option<&str>,
) -> Result<(String, Option<String>), CommandError> {
    let names = names(pod);
    let has = |name: &str| names.iter().any(|(known, _)| known == name);
    if let Some(wanted) = wanted {
        return if has(wanted) { Ok((wanted.to_owned(), None)) } else { Err(none(pod, wanted)) };
    }
    let mut notes = Vec::new();
    if let Some(annotated) = pod::annotation(&pod.pod, DEFAULT_CONTAINER) {
        if has(annotated) {
            return Ok((annotated.to_owned(), None));
        }
        notes.push(format!("Default container name {annotated:?} not found in pod {}", select::name(pod)));
    }
    let Some((first, _)) = names.first() else { return Err(none(pod, "")) };
    if names.len() > 1 {
        notes.push(format!("Defaulted container {first:?} out of: {}", listed(&names).join(", ")));
    }
    Ok((first.clone(), Some(notes.join("\n")).filter(|notes| !notes.is_empty())))
}

fn none(pod: &PodView, wanted: &str) -> CommandError {
    CommandError::NoContainer { container: wanted.to_owned(), pod: shown(pod), valid: listed(&names(pod)) }
}

/// The names of a pod's containers and what kind they are of, in kubectl's order.
fn names(pod: &PodView) -> Vec<(String, &'static str)> {
    let Some(spec) = &pod.pod.spec else { return Vec::new() };
    let containers = spec.containers.iter().map(|c| (c.name.clone(), ""));
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (c.name.clone(), " (ephem)"));
    let init = spec.init_containers.iter().flatten().map(|c| (c.name.clone(), " (init)"));
    containers.chain(ephemeral).chain(init).collect()
}

fn listed(names: &[(String, &'static str)]) -> Vec<String> {
    names.iter().map(|(name, kind)| format!("{name}{kind}")).collect()
}

/// Refuses a container that nothing can be run in.
pub(super) fn check_runs(pod: &PodView, container: &str) -> Result<(), CommandError> {
    let status = pod::container_statuses(&pod.status).find(|status| status.name == container);
    let state = match status.and_then(|status| status.state.as_ref()) {
        Some(ContainerState { running: Some(_), .. }) => return Ok(()),
        Some(ContainerState { terminated: Some(ended), .. }) => {
            let reason = ended.reason.as_deref().unwrap_or("Terminated");
            format!("{reason}, exit code {}", ended.exit_code)
        }
        Some(ContainerState { waiting: Some(waiting), .. }) => {
            waiting.reason.clone().unwrap_or_else(|| "Waiting".to_owned())
        }
        _ => "it has not been started yet".to_owned(),
    };
    Err(CommandError::NotRunning { container: container.to_owned(), pod: shown(pod), state })
}

/// The number of a port that is named in a container's spec.
pub(super) fn named_port(pod: &PodView, name: &str) -> Result<u16, CommandError> {
    let containers = pod.pod.spec.iter().flat_map(pod::containers);
    let mut ports = containers.flat_map(|(_, container)| container.ports.iter().flatten());
    let port = ports.find(|port| port.name.as_deref() == Some(name));
    port.and_then(|port| port.container_port.try_into().ok())
        .ok_or_else(|| CommandError::NoPort { pod: shown(pod), port: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use server::testing::{self, container as status, snapshot, view};

    fn with(spec: Value, annotations: Value, status: Value) -> PodView {
        let metadata =
            json!({ "name": "web", "namespace": "default", "uid": "u", "annotations": annotations });
        view(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec }), status)
    }

    fn spec() -> Value {
        json!({
            "containers": [{ "name": "app", "ports": [{ "name": "http", "containerPort": 8080 }] }, { "name": "side" }],
            "initContainers": [{ "name": "setup" }],
        })
    }

    #[test]
    fn a_pod_is_found_by_what_people_call_it() {
        let other = |namespace: &str| {
            let mut pod = testing::pod("db", testing::running());
            Arc::make_mut(&mut pod.pod).metadata.namespace = Some(namespace.to_owned());
            pod
        };
        let leaving = PodView { removing: true, ..testing::pod("web", testing::running()) };
        let snapshot =
            snapshot(vec![leaving, testing::pod("web", testing::running()), other("a"), other("b")]);
        for (namespace, name, expected) in [
            (None, "web", Ok("default/web-node1")),
            (None, "web-node1", Ok("default/web-node1")),
            (Some("b"), "db", Ok("b/db-node1")),
            (None, "a/db", Ok("a/db-node1")),
            (None, "db", Err("\"db\" may be any of a/db-node1, b/db-node1: give one of these names")),
            (Some("a"), "web", Err("no pod \"a/web\" here; did you mean web-node1?")),
            (None, "wed", Err("no pod \"wed\" here; did you mean web-node1?")),
        ] {
            let target = Target { root_dir: Path::new("/r"), namespace, pod: name };
            let found = pod(&snapshot, &target).map(|pod| (shown(pod), pod.removing));
            let found = found.map_err(|error| error.to_string());
            let expected = expected.map(|pod| (pod.to_owned(), false)).map_err(str::to_owned);
            assert_eq!(found, expected, "{namespace:?} {name}");
        }
    }

    #[test]
    fn a_container_is_chosen_as_kubectl_does() {
        let annotated = |name: &str| json!({ DEFAULT_CONTAINER: name });
        let all = "Defaulted container \"app\" out of: app, side, setup (init)";
        let one = json!({ "containers": [{ "name": "app" }] });
        for (spec, annotations, wanted, expected) in [
            (spec(), json!({}), Some("setup"), Ok(("setup", None))),
            (spec(), json!({}), None, Ok(("app", Some(all.to_owned())))),
            (spec(), annotated("side"), None, Ok(("side", None))),
            (
                spec(),
                annotated("gone"),
                None,
                Ok(("app", Some(format!("Default container name \"gone\" not found in pod web\n{all}")))),
            ),
            (one, json!({}), None, Ok(("app", None))),
            (
                spec(),
                json!({}),
                Some("nope"),
                Err(
                    "container \"nope\" is not in pod default/web, whose containers are: app, side, setup (init)",
                ),
            ),
        ] {
            let pod = with(spec, annotations, json!({}));
            let chosen = container(&pod, wanted).map_err(|error| error.to_string());
            let expected = expected.map(|(name, note)| (name.to_owned(), note)).map_err(str::to_owned);
            assert_eq!(chosen, expected);
        }
    }

    #[test]
    fn only_in_a_running_container_can_something_be_run() {
        for (state, expected) in [
            (json!({ "running": {} }), None),
            (json!({ "waiting": { "reason": "CrashLoopBackOff" } }), Some("CrashLoopBackOff")),
            (json!({ "terminated": { "exitCode": 3, "reason": "Error" } }), Some("Error, exit code 3")),
            (json!({}), Some("it has not been started yet")),
        ] {
            let pod =
                with(spec(), json!({}), json!({ "containerStatuses": [status("app", false, 0, state)] }));
            let refused = check_runs(&pod, "app").err().map(|error| error.to_string());
            let expected =
                expected.map(|why| format!("container \"app\" in pod default/web does not run: {why}"));
            assert_eq!(refused, expected);
        }
    }

    #[test]
    fn a_port_has_the_name_that_its_container_gives_it() {
        let pod = with(spec(), json!({}), json!({}));
        assert_eq!(named_port(&pod, "http").unwrap(), 8080);
        let error = named_port(&pod, "https").unwrap_err().to_string();
        assert_eq!(error, "pod default/web has no port named \"https\"");
    }
}
