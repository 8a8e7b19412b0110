//! Container logs as the kubelet serves them: CRI log files to what `kubectl logs` prints (upstream
//! `staging/src/k8s.io/cri-client/pkg/logs/logs.go`).
//!
//! What to read ([`options`], [`source`]) and how rows become output ([`row`], [`tail`]) is decided without I/O
//! or with positioned reads only. A follower sleeps until the folder changes or its container ends: it has no
//! thread and no timer. It reads when its client has room, so slow clients cost no memory.

mod follow;
mod options;
mod row;
mod running;
mod source;
mod tail;
mod watch;

pub(crate) use follow::LogStream;
pub use options::LogOptions;
pub(crate) use running::Running;
pub(crate) use source::container_id;
pub(crate) use watch::LogWatch;
