//! Compiles the `.proto` files in pure Rust, so that no system `protoc` is needed.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script in its environment where to write"
)]

use std::error::Error;

const CRI_V1: &str = "runtime/v1/api.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={CRI_V1}");

    let files = protox::compile([CRI_V1], ["."])?;
    tonic_prost_build::configure()
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        // Prost knows no `debug_redact`: a derived Debug would print registry passwords.
        .skip_debug(["runtime.v1.AuthConfig"])
        // Sorted, so that equal requests are equal bytes and print alike.
        .btree_map(".")
        .compile_fds(files)?;
    Ok(())
}
