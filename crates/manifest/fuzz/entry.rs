//! What the fuzzer and `tests/fuzz.rs` run: a manifest becomes a pod, or problems.

use std::path::Path;

use manifest::{self, Origin};

/// Panics when something is wrong with this crate.
pub(crate) fn run(text: &[u8]) {
    let origin = Origin::file(Path::new("file"), "node");
    let of_all = match manifest::read_all(text, Origin::url("http://host/", "node")) {
        Ok(pods) => pods.problems,
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            problems
        }
    };
    let problems = match manifest::read(text, origin) {
        Ok(manifest) => {
            assert!(manifest.pod.metadata.uid.is_some_and(|uid| !uid.is_empty()), "a pod without a UID");
            assert!(
                manifest.pod.spec.is_some_and(|spec| !spec.containers.is_empty()),
                "a pod without containers"
            );
            manifest.warnings
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            problems
        }
    };
    let lines = 2 + text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    for problem in of_all.into_iter().chain(problems) {
        assert!(!problem.message.is_empty(), "{problem:?}");
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&(line as usize))), "{problem:?}");
        assert!(problem.column != Some(0), "{problem:?}");
    }
}
