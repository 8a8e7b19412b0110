//! `cargo +nightly fuzz run config`, in `crates/node-config`.

#![no_main]

#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|text: &[u8]| entry::run(text));
