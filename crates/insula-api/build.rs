//! Compiles the protos of `/proto` without `protoc`.

use prost::Message as _;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Read at run time: checkouts that share a target directory also share this program.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());

    let mut protos: Vec<PathBuf> = std::fs::read_dir(root.join("insula/v1"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    protos.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
    protos.sort();

    let descriptors = protox::compile(&protos, [&root])?;
    let output = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(output.join("insula.v1.bin"), descriptors.encode_to_vec())?;

    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    config.btree_map(["."]); // ordered, so that equal messages are encoded alike
    config.extern_path(".google.rpc", "::tonic_types::pb");
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}
