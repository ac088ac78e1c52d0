//! The files of a crate import each other in one direction only: there is no circle, however long.
//! Files of the engine use only rooms that come before their own in the table of
//! docs/architecture.md.
//!
//! The sources tell what uses what, by `use` and by paths that are written out. A re-exported name
//! counts for the file that defines it. Code that is compiled only for tests does not count. Nor do
//! methods, which belong to their type, wherever they are written.

#[path = "modules/graph.rs"]
mod graph;
#[path = "modules/names.rs"]
mod names;
#[path = "modules/rooms.rs"]
mod rooms;

use std::collections::BTreeMap;
use std::path::Path;

use insula_testkit::project_file;

use self::graph::{Graph, find_circles};
use self::names::Sources;
use self::rooms::{find_contradictions, read_rooms};

#[test]
fn modules_use_each_other_in_one_direction() {
    let mut circles = vec![];
    let crates: Vec<_> =
        std::fs::read_dir(project_file("crates")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(crates.len() > 12, "only {} crates", crates.len());
    for directory in crates {
        let roots = ["src/lib.rs", "src/main.rs"].map(|root| directory.join(root));
        let root = roots.iter().find(|root| root.exists()).expect("a library or a program");
        let graph = graph_of_crate(root);
        assert!(graph.len() > 3, "{} has next to no modules: {graph:?}", root.display());
        let name = directory.file_name().unwrap().display();
        circles.extend(find_circles(&graph).iter().map(|circle| format!("{name}: {}", circle.join(" -> "))));
    }
    assert!(circles.is_empty(), "files that use each other in a circle:\n{}", circles.join("\n"));
}

#[test]
fn a_room_of_the_engine_uses_only_those_before_it() {
    let rooms = read_rooms(&std::fs::read_to_string(project_file("docs/architecture.md")).unwrap());
    assert!(rooms.len() > 10, "the table of rooms is not found: {rooms:?}");
    let graph = graph_of_crate(&project_file("crates/insula-engine/src/lib.rs"));
    let contradictions = find_contradictions(&graph, &rooms);
    assert!(contradictions.is_empty(), "not as in docs/architecture.md:\n{}", contradictions.join("\n"));
}

#[test]
fn every_file_of_tests_is_run() {
    let main = std::fs::read_to_string(project_file("tests/main.rs")).unwrap();
    let directory = std::fs::read_dir(project_file("tests")).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = directory.filter(|path| path.extension().is_some_and(|is| is == "rs")).collect();
    assert!(files.len() > 30, "only {} files", files.len());
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let is_root = ["main", "modules"].contains(&name); // tests/Cargo.toml
        assert!(is_root || main.contains(&format!("\nmod {name};\n")), "tests/{name}.rs is in no program");
    }
}

#[test]
fn every_file_of_the_engine_opens_with_what_it_is_for() {
    let mut directories = vec![project_file("crates/insula-engine/src")];
    let mut seen = 0;
    while let Some(directory) = directories.pop() {
        for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(text.starts_with("//! "), "{} does not say what it is for", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "only {seen} files");
}

/// The files of a crate, and for each the files that it uses.
fn graph_of_crate(root: &Path) -> Graph {
    let directory = root.parent().unwrap();
    let read = |file: &str| std::fs::read_to_string(directory.join(file)).ok();
    Sources::read(root.file_name().unwrap().to_str().unwrap(), &read).graph()
}

/// The graph of a crate with these files.
fn graph_of(files: &[(&str, &str)]) -> Graph {
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    Sources::read("lib.rs", &|file: &str| files.get(file).map(|text| (*text).to_owned())).graph()
}

fn circle_of(files: &[(&str, &str)]) -> Option<String> {
    find_circles(&graph_of(files)).first().map(|circle| circle.join(" -> "))
}

#[test]
fn a_circle_is_found_and_told() {
    let files = [
        ("lib.rs", "mod one; mod two; mod three;"),
        ("one.rs", "use crate::two::Two; pub struct One(Two);"),
        ("two.rs", "pub struct Two; fn f() { super::three::three() }"),
        ("three.rs", "pub fn three() { drop(crate::one::One) }"),
    ];
    let line = [files[0], files[1], files[2], ("three.rs", "pub fn three() {}")];
    assert_eq!(circle_of(&files).as_deref(), Some("one.rs -> two.rs -> three.rs -> one.rs"));
    assert_eq!(circle_of(&line), None);
}

#[test]
fn a_way_to_a_later_room_is_told_and_so_is_what_is_in_none() {
    const TABLE: &str =
        "text\n\n| room | owns |\n|---|---|\n| `error.rs`, `low/` | a |\n| `high/` | b |\n\n| `none/` |";
    assert_eq!(read_rooms(TABLE), ["error.rs", "low/", "high/"]);
    let told = |low: &str, high: &str| {
        let lib = "mod error; mod low; mod high; pub struct Root;";
        let files = [("lib.rs", lib), ("error.rs", ""), ("low.rs", "mod inner;"), ("low/inner.rs", low)];
        find_contradictions(&graph_of(&[&files[..], &[("high.rs", high)]].concat()), &read_rooms(TABLE))
    };
    assert_eq!(told("pub struct Low;", "use crate::low::inner::Low; pub struct High;"), [""; 0]);
    let upward = "low/inner.rs uses high.rs, whose room stands later";
    assert_eq!(told("fn f() { crate::high::f() }", "pub fn f() {}"), [upward]);
    assert_eq!(told("use crate::Root;", ""), ["low/inner.rs uses lib.rs, whose room stands later"]);
    let graph = graph_of(&[
        ("lib.rs", "mod error; mod lower; mod high;"),
        ("error.rs", ""),
        ("lower.rs", ""),
        ("high.rs", ""),
    ]);
    assert_eq!(
        find_contradictions(&graph, &read_rooms(TABLE)),
        ["lower.rs is in no room", "low/ has no files"]
    );
}

#[test]
fn a_name_belongs_to_the_file_that_defines_it() {
    let lib = ("lib.rs", "mod room; mod user; pub use room::Thing; pub(crate) use room::inner::*;");
    let room = ("room.rs", "pub mod inner; pub use self::inner::Thing;");
    let inner = ("room/inner.rs", "pub struct Thing; pub fn made() {}");
    for user in
        ["use crate::Thing;", "use crate::{made as other};", "use crate::room; fn f(_: room::Thing) {}"]
    {
        let graph = graph_of(&[lib, room, inner, ("user.rs", user)]);
        assert!(graph["user.rs"].contains("room/inner.rs"), "{user}: {graph:?}");
        assert!(!graph["user.rs"].contains("lib.rs"), "{user}: {graph:?}");
    }
    // An exported macro is known at the root, but belongs to the module that defines it.
    let made = (
        "made.rs",
        "#[macro_export] macro_rules! make { () => {} } macro_rules! again { () => { $crate::make!() } }",
    );
    let graph =
        graph_of(&[("lib.rs", "mod made; mod user;"), made, ("user.rs", "fn f() { crate::make!() }")]);
    assert_eq!(graph["user.rs"], ["made.rs".to_owned()].into());
    assert!(graph["made.rs"].is_empty(), "{graph:?}");
    // The same with a way back is a circle, although no file names the other.
    let back = ("room/inner.rs", "use crate::user::f; pub struct Thing;");
    let circle = circle_of(&[lib, room, back, ("user.rs", "use crate::Thing; pub fn f() {}")]);
    assert_eq!(circle.as_deref(), Some("room/inner.rs -> user.rs -> room/inner.rs"));
}

#[test]
fn paths_in_macros_count_and_tests_do_not() {
    let files = |one| [("lib.rs", "mod one; mod two;"), ("one.rs", one), ("two.rs", "use crate::one::f;")];
    let circle = "one.rs -> two.rs -> one.rs";
    assert_eq!(
        circle_of(&files(r#"pub fn f() { println!("{}", crate::two::x()) }"#)).as_deref(),
        Some(circle)
    );
    assert_eq!(circle_of(&files("pub fn f() {} #[cfg(test)] mod tests { use crate::two::x; }")), None);
    assert_eq!(circle_of(&files("pub fn f() {} #[cfg(test)] fn g() { crate::two::x() }")), None);
    assert_eq!(
        circle_of(&files("pub fn f() {} mod inline { use super::super::two::x; }")).as_deref(),
        Some(circle)
    );
}
