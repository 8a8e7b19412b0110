//! The crate as its users see it: whole lives of pods against a runtime without processes.

mod later;
mod recordings;
mod sim;
