//! What a container was made with, where the runtime tells.

use kube_model::core::Container;
use serde_json::Value;

use super::{Difference, field_of};

/// What the runtime's word on how a container was made tells against it being `container`: its command and arguments,
/// and the variables that the manifest gives a value. `info` is what containerd gives with a verbose status; of another
/// shape it tells nothing. What refers to variables (`$(NAME)`) is left out; so are values, which may be secret.
pub fn as_made(container: &Container, info: &str) -> Option<Difference> {
    let info: Value = serde_json::from_str(info).ok()?;
    let config = info.get("config").filter(|config| config.is_object())?;
    let words = |name: &str| -> Vec<&str> {
        config[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let lists = [("command", &container.command), ("args", &container.args)];
    for (name, wanted) in lists {
        let (running, wanted) =
            (words(name), wanted.iter().flatten().map(String::as_str).collect::<Vec<_>>());
        let same = running.len() == wanted.len()
            && running.iter().zip(&wanted).all(|(running, wanted)| wanted.contains('$') || running == wanted);
        if !same {
            return Some(Difference::new(field_of(container, name), "", ""));
        }
    }
    let variables = config["envs"].as_array().into_iter().flatten();
    let made: Vec<_> =
        variables.filter_map(|v| Some((v["key"].as_str()?, v["value"].as_str().unwrap_or("")))).collect();
    // Of two with one name the last one counts.
    let variables = container.env.iter().flatten();
    for variable in variables.filter(|v| v.value_from.is_none()) {
        let last = container.env.iter().flatten().rfind(|v| v.name == variable.name);
        let wanted = last.filter(|v| v.value_from.is_none()).map(|v| v.value.as_deref().unwrap_or(""));
        let running = made.iter().rfind(|(name, _)| *name == variable.name).map(|(_, value)| *value);
        if wanted.is_some_and(|wanted| !wanted.contains('$') && running != Some(wanted)) {
            return Some(Difference::new(field_of(container, &format!("env[{}]", variable.name)), "", ""));
        }
    }
    None
}
