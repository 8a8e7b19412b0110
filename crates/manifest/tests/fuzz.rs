//! The fuzz target without a fuzzer: its seeds, and seeds with some bytes changed, a few hundred times.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, which reads its seeds")]

#[path = "../fuzz/entry.rs"]
mod entry;

use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

fn seeds() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/manifest");
    let files = fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    let seeds: Vec<_> = files.collect();
    assert!(!seeds.is_empty(), "no seeds in {folder}");
    seeds
}

/// Any byte, or more often one that means something to YAML.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), select(b"\t\n\r\0 :-?,[]{}#&*!|>'\"%@`~0123456789.eE+\\xn".to_vec())]
}

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), 0..8_usize, vec(byte(), 0..8));
    (select(seeds()), vec(change, 0..6)).prop_map(|(mut text, changes)| {
        for (at, remove, insert) in changes {
            let from = at.index(text.len() + 1);
            let to = text.len().min(from + remove);
            text.splice(from..to, insert);
        }
        text
    })
}

#[test]
fn every_seed_can_be_read_or_is_refused() {
    seeds().iter().for_each(|seed| entry::run(seed));
}

proptest! {
    // A seed that fails becomes a file of the corpus instead.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_seeds_can_be_read_or_are_refused(text in damaged()) {
        entry::run(&text);
    }

    #[test]
    fn any_bytes_can_be_read_or_are_refused(text in vec(byte(), 0..256)) {
        entry::run(&text);
    }
}
