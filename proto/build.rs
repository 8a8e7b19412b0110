//! Compiles the `.proto` files in pure Rust, so that no system `protoc` is needed.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script in its environment where to write"
)]

use std::error::Error;

const CONTRACTS: [&str; 3] = ["runtime/v1/api.proto", "csi/v1/csi.proto", "pluginregistration/v1/api.proto"];

/// Prost knows no `debug_redact`: a derived Debug would print registry passwords, and what drivers are given to log in.
const SECRET: [&str; 4] = [
    "runtime.v1.AuthConfig",
    "csi.v1.NodeStageVolumeRequest",
    "csi.v1.NodePublishVolumeRequest",
    "csi.v1.NodeExpandVolumeRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    for contract in CONTRACTS {
        println!("cargo::rerun-if-changed={contract}");
    }

    let files = protox::compile(CONTRACTS, ["."])?;
    tonic_prost_build::configure()
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .skip_debug(SECRET)
        // Sorted, so that equal requests are equal bytes and print alike.
        .btree_map(".")
        .compile_fds(files)?;
    Ok(())
}
