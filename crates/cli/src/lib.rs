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
mod validate;

pub use ask::ask;
pub use validate::validate;

/// Wall time: for what is shown.
#[expect(clippy::disallowed_methods, reason = "the one place that asks")]
fn wall() -> kube_model::Timestamp {
    kube_model::Timestamp::now()
}
