//! Which pods a person means by a name.

use std::sync::Arc;

use kube_model::view::{PodView, ViewSnapshot};

/// Shortest start of a UID that counts as one.
const SHORTEST_UID: usize = 4;

/// The pods that `name` may mean: `NAME` or `NAMESPACE/NAME` if any fits exactly, else with the node's name
/// appended as static pods have it, else those whose UID starts with it.
pub fn matching<'a>(snapshot: &'a ViewSnapshot, name: &str) -> Vec<&'a Arc<PodView>> {
    let (namespace, name) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, name),
    };
    let find = |wanted: &dyn Fn(&PodView) -> bool| -> Vec<_> {
        let in_namespace =
            |pod: &&Arc<PodView>| namespace.is_none_or(|wanted| wanted == self::namespace(pod));
        snapshot.pods.iter().filter(in_namespace).filter(|pod| wanted(pod)).collect()
    };
    let exact = find(&|pod| self::name(pod) == name);
    if !exact.is_empty() {
        return exact;
    }
    let short = find(&|pod| short_name(snapshot, pod) == name);
    if !short.is_empty() || namespace.is_some() || name.len() < SHORTEST_UID {
        return short;
    }
    find(&|pod| pod.pod.metadata.uid.as_deref().is_some_and(|uid| uid.starts_with(name)))
}

/// Names of the pods that look most like `name`, at most three.
pub fn close(snapshot: &ViewSnapshot, name: &str) -> Vec<String> {
    let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let most = (name.chars().count() / 3).max(1);
    let mut found: Vec<(usize, &str)> = snapshot
        .pods
        .iter()
        .filter_map(|pod| {
            let (full, short) = (self::name(pod), short_name(snapshot, pod));
            let far = distance(&name, full).min(distance(&name, short));
            let part = !name.is_empty() && full.contains(&name);
            (far <= most || part).then_some((far, full))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    let best = found.first().map_or(0, |(far, _)| *far);
    found.into_iter().take_while(|(far, _)| *far == best).take(3).map(|(_, name)| name.to_owned()).collect()
}

/// The pod's name.
pub(crate) fn name(pod: &PodView) -> &str {
    pod.pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's namespace.
pub(crate) fn namespace(pod: &PodView) -> &str {
    pod.pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// The name as the manifest has it: without the node's name, which static pods have appended.
pub(crate) fn short_name<'a>(snapshot: &ViewSnapshot, pod: &'a PodView) -> &'a str {
    let full = name(pod);
    full.strip_suffix(snapshot.node.as_str())
        .and_then(|rest| rest.strip_suffix('-'))
        .filter(|rest| !rest.is_empty() && kube_model::pod::is_static(&pod.pod))
        .unwrap_or(full)
}

/// How many letters must be added, removed, changed or swapped with their neighbour to make `a` of `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut cost = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            cost[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = cost[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = changed.min(cost[i - 1][j] + 1).min(cost[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { best.min(cost[i - 2][j - 2] + 1) } else { best }
            };
        }
    }
    cost[a.len()][b.len()]
}

#[cfg(test)]
mod tests;
