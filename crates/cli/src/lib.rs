#![doc = include_str!("../README.md")]

mod ask;
pub mod client;
pub mod commands;
pub mod explain;
pub mod select;
pub mod show;
pub mod sources;
pub mod table;
mod text;

pub use ask::ask;

/// Wall time: for what is shown.
#[expect(clippy::disallowed_methods, reason = "the one place that asks")]
fn wall() -> kube_model::Timestamp {
    kube_model::Timestamp::now()
}
