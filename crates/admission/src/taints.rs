//! Taints. Only `NoExecute` counts: the others are the scheduler's. Rule: upstream `Toleration.ToleratesTaint`.

use kube_model::core::{PodSpec, Taint, Toleration};

pub(crate) const NAME: &str = "TaintToleration";

pub(crate) fn tolerated(spec: &PodSpec, taints: &[Taint]) -> bool {
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    taints
        .iter()
        .filter(|taint| taint.effect == "NoExecute")
        .all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let any_or =
        |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|w| w.is_empty() || w == value);
    any_or(&toleration.effect, &taint.effect)
        && any_or(&toleration.key, &taint.key)
        && match toleration.operator.as_deref() {
            None | Some("" | "Equal") => {
                toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
            }
            Some(operator) => operator == "Exists",
        }
}
