//! What people do with pods.

use crate::node::on_both_lines;

const SLEEPER: &str = "
terminationGracePeriodSeconds: 3
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, \"trap 'exit 0' TERM; echo hello; sleep 3600 & wait\"]
";

on_both_lines! {
    fn a_pod_runs_and_goes_without_a_trace(node) {
        node.apply("sleeper", SLEEPER);
        node.until_phase("sleeper", "Running");
        node.delete("sleeper");
        node.until_gone("sleeper");
    }
}
