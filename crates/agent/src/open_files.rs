//! How many files the agent may have open: each connection is one, and what a shell or systemd gives by itself is less
//! than the server alone has places for (upstream `pkg/util/rlimit`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Allows so many; if that is more than the agent may ask for, as many as it may.
pub(crate) fn allow(most: u64) {
    let wanted = Rlimit { current: Some(most), maximum: Some(most) };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        tracing::warn!(error = %util::causes(&error), wanted = most, ?maximum, ?raised, "Failed to set rlimit on max file handles");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_wanted_or_as_may_be() {
        let before = getrlimit(Resource::Nofile);
        let low = || setrlimit(Resource::Nofile, Rlimit { current: Some(256), ..before }).unwrap();
        low();
        // More than the kernel gives anybody.
        allow(1 << 40);
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
        low();
        allow(before.maximum.unwrap_or(20_000));
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
