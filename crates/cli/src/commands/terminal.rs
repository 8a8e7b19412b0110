//! The terminal that a command in a container gets as its own.

use std::io;

use rustix::stdio;
use rustix::termios::{self, OptionalActions, Termios};

/// Whether stdin is a terminal.
pub(super) fn is_terminal() -> bool {
    termios::isatty(stdio::stdin())
}

/// The terminal of stdin, with every key going to the container; as it was before once this is dropped.
pub(super) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    pub(super) fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdio::stdin(), OptionalActions::Flush, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // When it is gone there is nothing to put right.
        let _gone = termios::tcsetattr(stdio::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// Width and height in characters, as the container's terminal is told of them; `None` of a terminal that has none.
pub(super) fn size() -> Option<String> {
    let size = termios::tcgetwinsize(stdio::stdin()).ok()?;
    let is_some = size.ws_col > 0 && size.ws_row > 0;
    is_some.then(|| format!("{{\"Width\":{},\"Height\":{}}}\n", size.ws_col, size.ws_row))
}
