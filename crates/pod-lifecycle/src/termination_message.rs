//! How much of the termination messages of containers is shown: a status must not grow without limit with
//! the number of containers. Rule: upstream `pkg/kubelet/status/status_manager.go` `normalizeStatus`.

use kube_model::core::ContainerStatus;

/// Bytes of all the messages of a pod together.
const MAX_POD_BYTES: usize = 12 * 1024;

/// Gives each container an equal share of what a pod may say, for its end now as for the one before; what is beyond
/// that is cut off. `others`: containers of the pod that are not among `statuses`.
pub(crate) fn limit<'a>(statuses: impl Iterator<Item = &'a mut ContainerStatus>, others: usize) {
    let statuses: Vec<_> = statuses.collect();
    let share = MAX_POD_BYTES / (statuses.len() + others).max(1);
    for status in statuses {
        let states = [&mut status.state, &mut status.last_state].into_iter().flatten();
        for message in states.filter_map(|state| state.terminated.as_mut()?.message.as_mut()) {
            // No character is cut in two.
            message.truncate(message.floor_char_boundary(share));
        }
    }
}

#[cfg(test)]
mod tests {
    use kube_model::core::{ContainerState, ContainerStateTerminated};

    use super::*;

    fn ended(message: &str) -> Option<ContainerState> {
        let terminated = ContainerStateTerminated {
            message: Some(message.to_owned()),
            ..ContainerStateTerminated::default()
        };
        Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() })
    }

    #[test]
    fn each_container_has_its_share_from_the_beginning() {
        let long = format!("first {}", "x".repeat(4090));
        // Two bytes a character, and an odd one before.
        let wide = format!("x{}", "\u{e9}".repeat(2048));
        for (message, containers, others, want) in [
            ("short", 1, 0, 5),
            (long.as_str(), 1, 0, 4096),
            (long.as_str(), 3, 0, 4096),
            (long.as_str(), 4, 0, 3072),
            (long.as_str(), 3, 1, 3072),
            (wide.as_str(), 4, 0, 3071),
            (long.as_str(), 20_000, 0, 0),
        ] {
            let status = ContainerStatus {
                state: ended(message),
                last_state: ended(message),
                ..ContainerStatus::default()
            };
            let mut all = vec![status; containers];
            limit(all.iter_mut(), others);
            for state in all.iter().flat_map(|status| [&status.state, &status.last_state]) {
                let shown = state.as_ref().unwrap().terminated.as_ref().unwrap().message.as_deref().unwrap();
                assert_eq!(shown.len(), want, "{containers} and {others}");
                assert!(message.starts_with(shown));
            }
        }
    }
}
