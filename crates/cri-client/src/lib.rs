//! CRI v1 over a unix socket: deadlines, reconnect, typed errors, no policy.
