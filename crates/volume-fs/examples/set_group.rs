//! Gives all files of a folder to a group, as a pod's `fsGroup` does, and says how long it took:
//! `set_group FOLDER GROUP [on-root-mismatch]`. `cargo xtask bench --volumes` compares it with `chgrp -R`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use volume_fs::ownership::{Ownership, Policy, set_group};

#[expect(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods, reason = "it is a program")]
fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (folder, group, policy) = match &arguments[..] {
        [folder, group] => (folder, group, Policy::Always),
        [folder, group, policy] if policy == "on-root-mismatch" => (folder, group, Policy::OnRootMismatch),
        _ => {
            eprintln!("set_group FOLDER GROUP [on-root-mismatch]");
            return ExitCode::FAILURE;
        }
    };
    let Ok(group) = group.parse() else {
        eprintln!("{group} is no number of a group");
        return ExitCode::FAILURE;
    };
    let ownership = Ownership { group, read_only: false, policy };
    let begin = Instant::now();
    match set_group(Path::new(folder), ownership, &AtomicU64::new(0)) {
        Ok(report) => {
            println!(
                "{} seen, {} changed, {} failed in {} us",
                report.seen,
                report.changed,
                report.failed,
                begin.elapsed().as_micros()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}: {}", error.source);
            ExitCode::FAILURE
        }
    }
}
