//! The pod table, redrawn in place on a terminal and printed after each step elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use testkit::env::Agent;

use crate::ui;

/// Time between two looks at the table.
const REFRESH: Duration = Duration::from_millis(500);

/// What was drawn last.
pub(super) struct Screen {
    live: bool,
    drawn_lines: usize,
    drawn_at: Option<Instant>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { live: std::io::stdout().is_terminal(), drawn_lines: 0, drawn_at: None }
    }

    /// Called at each look of a waiting step.
    pub(super) fn refresh(&mut self, agent: &Agent) {
        if self.live && self.drawn_at.is_none_or(|at| at.elapsed() >= REFRESH) {
            self.draw(agent);
        }
    }

    /// The step is over: its last table stays.
    pub(super) fn settle(&mut self, agent: &Agent) {
        self.draw(agent);
        self.drawn_lines = 0;
        self.drawn_at = None;
    }

    fn draw(&mut self, agent: &Agent) {
        // No table while the agent is down.
        let Ok(table) = agent.table() else { return };
        if self.live {
            // Up to the first line of the last table and clear from there; long lines are cut, not wrapped, or
            // the count of lines would be wrong the next time.
            let up = if self.drawn_lines > 0 {
                format!("\x1b[{}A\x1b[J", self.drawn_lines)
            } else {
                String::new()
            };
            ui::say(format!("{up}\x1b[?7l{}\x1b[?7h", table.trim_end()));
        } else {
            ui::say(table.trim_end());
        }
        self.drawn_lines = table.lines().count();
        self.drawn_at = Some(Instant::now());
    }
}
