//! The sources of pods as a table, and below it all that is wrong there.

use kube_model::view::{SourceCondition, SourceView, SourcesSnapshot};
use kube_model::{Timestamp, age};

use crate::table::align;
use crate::text;

const COLUMNS: [&str; 6] = ["NAME", "STATE", "PODS", "ERRORS", "READ", "LOCATION"];
const WIDE_COLUMNS: [&str; 3] = ["SINCE", "WARNINGS", "MESSAGE"];

/// The text of `snapshot` as it is at `now`; a `wide` table also has the columns SINCE, WARNINGS and MESSAGE.
pub fn sources(snapshot: &SourcesSnapshot, wide: bool, now: Timestamp) -> String {
    if snapshot.sources.is_empty() {
        return format!("No sources are configured on {}.\n", snapshot.node);
    }
    let rows: Vec<_> = snapshot.sources.iter().map(|source| row(source, wide, now)).collect();
    let mut lines = vec![COLUMNS.to_vec()];
    if wide {
        lines[0].extend(WIDE_COLUMNS);
    }
    let mut widths = vec![0; lines[0].len()];
    lines.extend(rows.iter().map(|row| row.iter().map(String::as_str).collect()));
    let mut out = align(&lines, &mut widths);
    for source in &snapshot.sources {
        if !source.problems.is_empty() {
            out.push_str(&format!("\n{}:\n", source.name));
        }
        for problem in &source.problems {
            out.push_str(&format!("  {}\n", text::lines(&problem.to_string(), "    ")));
        }
    }
    out
}

fn row(source: &SourceView, wide: bool, now: Timestamp) -> Vec<String> {
    let since = age::since(source.since, now);
    let warnings = source.problems.iter().filter(|problem| problem.warning).count();
    let mut row = vec![
        source.name.clone(),
        match source.condition {
            SourceCondition::Waiting => "Waiting".to_owned(),
            SourceCondition::Ready => "Ready".to_owned(),
            SourceCondition::Failing => format!("Failing for {since}"),
        },
        source.pods.to_string(),
        (source.problems.len() - warnings).to_string(),
        source.read_at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", age::since(at, now))),
        text::one_line(&source.location),
    ];
    if wide {
        row.push(since);
        row.push(warnings.to_string());
        let message = if source.message.is_empty() { "<none>" } else { &source.message };
        row.push(text::one_line(message));
    }
    row
}

#[cfg(test)]
mod tests {
    use kube_model::view::Problem;

    use super::*;
    use server::testing::{now, sources_snapshot};

    #[test]
    fn sources_are_a_table_with_what_is_wrong_below() {
        let text = sources(&sources_snapshot(), false, now());
        let expected = "\
NAME   STATE            PODS   ERRORS   READ     LOCATION
file   Ready            2      1        5s ago   /etc/m
http   Failing for 3m   1      1        4m ago   http://x/pods
push   Waiting          0      0        never    unix:/run/pods.sock

file:
  /etc/m/a.yaml:3:9: spec.containers[0].image: Required value
  /etc/m/b.yaml:1:1: warning: further documents are not read

http:
  http://x/pods: connection refused
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_wide_table_says_since_when_and_why() {
        let text = sources(&sources_snapshot(), true, now());
        let lines: Vec<Vec<_>> =
            text.lines().map(|line| line.split("   ").map(str::trim).collect()).collect();
        assert_eq!(lines[0].last(), Some(&"MESSAGE"));
        assert!(text.lines().nth(2).unwrap().ends_with("3m      0          connection refused"), "{text}");
    }

    #[test]
    fn words_from_elsewhere_do_not_move_the_cursor_and_no_sources_are_said() {
        let mut snapshot = sources_snapshot();
        snapshot.sources[0].problems = vec![Problem { message: "a\x1b[2Jb".into(), ..Problem::default() }];
        assert!(!sources(&snapshot, true, now()).contains('\x1b'));
        snapshot.sources.clear();
        assert_eq!(sources(&snapshot, false, now()), "No sources are configured on node1.\n");
    }
}
