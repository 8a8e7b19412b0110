//! Where the last rows of a file begin, read from its end.

use std::io;
use std::os::unix::fs::FileExt;

/// Bytes a read.
const BLOCK: u64 = 32 * 1024;

/// Blocks a step.
const BLOCKS: usize = 64;

/// The search for the last whole rows of a file, in steps: a file may be long, or sparse without any row.
pub(super) struct Search {
    rows: u64,
    ends: u64,
    /// What is right of it was looked through.
    right: u64,
}

impl Search {
    /// For the last `rows` whole rows among the first `size` bytes. A row that is not ended does not count, and comes
    /// with them.
    pub(super) fn new(size: u64, rows: u64) -> Self {
        Self { rows, ends: 0, right: size }
    }

    /// The offset where they begin, if it is found by now. Reads at most 2 MiB.
    pub(super) fn step(&mut self, file: &impl FileExt) -> io::Result<Option<u64>> {
        let mut block = vec![];
        for _ in 0..BLOCKS {
            if self.right == 0 {
                return Ok(Some(0));
            }
            let left = self.right.saturating_sub(BLOCK);
            // At most BLOCK.
            block.resize((self.right - left) as usize, 0);
            file.read_exact_at(&mut block, left)?;
            for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                if self.ends == self.rows {
                    return Ok(Some(left + index as u64 + 1));
                }
                self.ends += 1;
            }
            self.right = left;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// The offset, and in how many steps it was found.
    fn start(file: &impl FileExt, size: u64, rows: u64) -> io::Result<(u64, usize)> {
        let mut search = Search::new(size, rows);
        for steps in 1.. {
            if let Some(offset) = search.step(file)? {
                return Ok((offset, steps));
            }
        }
        unreachable!("the search has an end")
    }

    #[test]
    fn a_long_file_without_rows_is_searched_in_steps() {
        let file = tempfile::tempfile().unwrap();
        let size = BLOCK * BLOCKS as u64 * 3;
        file.set_len(size).unwrap();
        assert_eq!(start(&file, size, 1).unwrap(), (0, 4));
    }

    #[test]
    fn the_last_rows_are_found_from_the_end() {
        let long = "x".repeat(BLOCK as usize);
        for (text, rows, expected) in [
            ("", 3, 0),
            ("a\nb\nc\n", 0, 6),
            ("a\nb\nc\n", 1, 4),
            ("a\nb\nc\n", 3, 0),
            ("a\nb\nc\n", 9, 0),
            ("a\nb\nunended", 0, 4),
            ("a\nb\nunended", 1, 2),
            (&format!("a\n{long}\nb\n"), 1, BLOCK + 3),
            (&format!("a\n{long}\nb\n"), 2, 2),
            (&format!("{}\n", &long[1..]), 1, 0),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            assert_eq!(
                start(&file, text.len() as u64, rows).unwrap(),
                (expected, 1),
                "{rows} of {} bytes",
                text.len()
            );
        }
    }
}
