//! Shows what a kubelet's command line and its files come to, and everything that is wrong with it:
//! `cargo run -p node-config --example effective -- --config=/var/lib/kubelet/config.yaml --max-pods=20`
#![allow(clippy::print_stdout, reason = "that is what it is for")]
#![expect(clippy::disallowed_methods, reason = "the caller of the crate is who reads files")]

use std::path::{Path, PathBuf};
use std::{error, fs, io, path};

use node_config::validate::{Facts, validate};
use node_config::{Command, Files};

struct Disk;

impl Files for Disk {
    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        path::absolute(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    /// Without the folders in the folder, which an example can do without.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    }
}

fn main() -> Result<(), Box<dyn error::Error>> {
    let Command::Run(line) = node_config::parse(std::env::args_os().skip(1))? else {
        return Err("give the flags of a kubelet".into());
    };
    let effective = line.load(&Disk)?;
    print!("{}", node_config::render(&effective));
    let report = validate(&effective.config, &Facts::default(), |path| effective.origins.of(path));
    for finding in report.errors {
        println!("# Invalid: {finding}");
    }
    Ok(())
}
