//! `cargo +nightly fuzz run manifest`, in `crates/manifest`.

#![no_main]

#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|text: &[u8]| entry::run(text));
