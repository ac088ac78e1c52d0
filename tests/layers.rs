//! The layers of docs/architecture.md: crates depend only on lower ones.

use std::collections::BTreeMap;
use std::path::Path;

use insula_testkit::{Command, project_file};
use serde_json::Value;

/// Crates of tests. They may use everything, and nothing but tests uses them.
const BESIDE: [&str; 2] = ["insula-testkit", "insula-tests"];

#[test]
fn a_crate_uses_only_crates_below_it() {
    let (layers, packages) = (layers(), packages());
    for (package, about) in &packages {
        let Some(layer) = layers.get(package) else {
            assert!(BESIDE.contains(&&**package), "{package} is in no layer of docs/architecture.md");
            continue;
        };
        for dependency in about["dependencies"].as_array().unwrap() {
            let name = dependency["name"].as_str().unwrap();
            if packages.contains_key(name) && dependency["kind"] != "dev" {
                let below = layers.get(name).is_some_and(|other| other < layer);
                assert!(below, "{package} of layer {layer} uses {name}, which is not below it");
            }
        }
    }
    for crate_name in layers.keys() {
        assert!(
            packages.contains_key(crate_name),
            "docs/architecture.md names {crate_name}, which is no crate"
        );
    }
}

/// Processes of the monitor that close the descriptors they have inherited, because only they know
/// whether any of these is still in use.
const CLOSING: [&str; 4] =
    ["src/monitor.rs", "src/monitor/child.rs", "src/monitor/enter.rs", "src/monitor/files.rs"];

#[test]
fn unsafe_code_is_in_one_crate() {
    for (package, about) in packages() {
        let manifest = Path::new(about["manifest_path"].as_str().unwrap());
        let takes_lints = std::fs::read_to_string(manifest).unwrap().contains("[lints]\nworkspace = true");
        assert!(takes_lints || package == "insula-sys", "{package} does not take the lints of the workspace");
        for file in sources(manifest.parent().unwrap()) {
            let allows = std::fs::read_to_string(&file).unwrap().contains(concat!("(unsafe", "_code)"));
            let is_closing = package == "insula-runtime" && CLOSING.iter().any(|end| file.ends_with(end));
            let may = package == "insula-sys" || is_closing;
            assert!(!allows || may, "{} allows what only insula-sys may", file.display());
        }
    }
}

/// The rows of the table: `| layer | crates | what for |`.
fn layers() -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string(project_file("docs/architecture.md")).unwrap();
    let mut layers = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, layer, crates, ..] = cells[..] else { continue };
        let Ok(layer) = layer.parse() else { continue };
        // Names in brackets are programs.
        let crates =
            crates.split('(').flat_map(|part| part.split_once(')').map_or(part, |(_, rest)| rest).split('`'));
        let crates = crates.filter(|word| word.starts_with("insula-"));
        layers.extend(crates.map(|name| (name.to_owned(), layer)));
    }
    assert!(layers.len() >= 8, "the table of layers is not found: {layers:?}");
    layers
}

/// The packages of the workspace, as cargo describes them.
fn packages() -> BTreeMap<String, Value> {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .args([project_file("Cargo.toml")])
        .run_ok()
        .json();
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| (package["name"].as_str().unwrap().to_owned(), package.clone())).collect()
}

fn sources(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    let (directories, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
    let own = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    own.chain(directories.iter().flat_map(|directory| sources(directory))).collect()
}
