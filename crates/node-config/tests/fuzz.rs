//! The fuzz target without a fuzzer.

#[path = "../fuzz/entry.rs"]
mod entry;

#[test]
fn whatever_it_is_it_can_be_read_or_is_refused() {
    testkit::fuzz::run(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/config"), entry::run);
}
