//! What the fuzzer and `tests/fuzz.rs` run: a file is checked as `node-agent validate` does.

use std::path::Path;

use kube_model::yaml::Document;
use node_config::validate::Facts;
use node_config::validate::documents::{self, Kind};

/// Panics when something is wrong with this crate.
pub(crate) fn run(text: &[u8]) {
    let no_pods = |_: &Path, _: Document| (Vec::new(), Vec::new());
    let facts = Facts { online_cpus: Some([0].into()), ..Facts::default() };
    let checked = documents::check(Path::new("file"), text, &facts, &no_pods);
    let lines = 2 + text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    for problem in checked.problems.iter().chain(&checked.warnings) {
        assert!(!problem.message.is_empty(), "{problem:?}");
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&(line as usize))), "{problem:?}");
        assert!(problem.column != Some(0), "{problem:?}");
    }
    assert!(checked.kind != Kind::Unknown || !checked.problems.is_empty(), "refused without a reason");
    let all = [checked];
    assert!(!documents::text(&all).is_empty());
    assert!(documents::json(&all).starts_with('['));
}
