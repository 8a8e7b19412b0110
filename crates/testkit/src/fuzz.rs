//! A fuzz target without a fuzzer: its seeds, seeds with some bytes changed, and any bytes, a few hundred times.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

/// Any byte, or more often one that means something to YAML.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), select(b"\t\n\r\0 :-?,[]{}#&*!|>'\"%@`~0123456789.eE+\\xn".to_vec())]
}

fn damaged(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), 0..8_usize, vec(byte(), 0..8));
    (select(seeds), vec(change, 0..6)).prop_map(|(mut text, changes)| {
        for (at, remove, insert) in changes {
            let from = at.index(text.len() + 1);
            let to = text.len().min(from + remove);
            text.splice(from..to, insert);
        }
        text
    })
}

/// Runs `target` with the files of `corpus`, and with what can be made of them.
///
/// # Panics
/// When `target` does; the message has the smallest text with which it did.
#[expect(clippy::expect_used, clippy::panic, reason = "a test has nothing better to do")]
pub fn run(corpus: impl AsRef<Path>, target: fn(&[u8])) {
    let files = fs::read_dir(corpus.as_ref()).expect("the corpus is a folder");
    let seed = |file: std::io::Result<fs::DirEntry>| fs::read(file.expect("a file").path()).expect("a file");
    let seeds: Vec<_> = files.map(seed).collect();
    assert!(!seeds.is_empty(), "no seeds in {}", corpus.as_ref().display());
    seeds.iter().for_each(|seed| target(seed));
    // A seed that fails becomes a file of the corpus instead.
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    for texts in [damaged(seeds).boxed(), vec(byte(), 0..256).boxed()] {
        let ran = TestRunner::new(config.clone()).run(&texts, |text| {
            target(&text);
            Ok(())
        });
        ran.unwrap_or_else(|failed| panic!("{failed}"));
    }
}
