//! Where the last rows of a file begin, read from its end.

use std::io;
use std::os::unix::fs::FileExt;

/// Bytes a read.
const BLOCK: u64 = 32 * 1024;

/// The offset of the last `rows` whole rows among the first `size` bytes. A row that is not ended does not count,
/// and comes with them.
pub(super) fn start(file: &impl FileExt, size: u64, rows: u64) -> io::Result<u64> {
    let mut ends = 0;
    let mut right = size;
    let mut block = vec![];
    while right > 0 {
        let left = right.saturating_sub(BLOCK);
        // At most BLOCK.
        block.resize((right - left) as usize, 0);
        file.read_exact_at(&mut block, left)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if ends == rows {
                return Ok(left + index as u64 + 1);
            }
            ends += 1;
        }
        right = left;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

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
                expected,
                "{rows} of {} bytes",
                text.len()
            );
        }
    }
}
