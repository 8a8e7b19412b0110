//! Writes the agent's manual page: `cargo run -p node-config --example man | man -l -`.

#![allow(clippy::print_stdout, reason = "it is what this is for")]

fn main() {
    print!("{}", node_config::man_page());
}
