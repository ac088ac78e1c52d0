//! Paths of the project's files and of its built programs.

use std::path::{Path, PathBuf};

/// The path of a file of the project, given relative to the project's root.
pub fn project_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the project").join(path)
}

/// The path of a program that was built into the same directory as the running test.
pub fn binary(name: &str) -> PathBuf {
    let path = build_directory().join(name);
    assert!(path.exists(), "{} is missing: scripts/test builds it before the tests", path.display());
    path
}

/// `target/debug`. A test is in `deps` of it, an example in `examples`.
pub fn build_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    let is_known = |path: &&Path| path.file_name().is_some_and(|name| name == "deps" || name == "examples");
    let directory = test.ancestors().find(is_known).and_then(Path::parent);
    directory.unwrap_or_else(|| panic!("{} is no test built by cargo", test.display())).to_owned()
}
