//! The protos are a contract: they keep to the style rules, and to what was released.

use std::path::Path;

use insula_testkit::{Command, Outcome, project_file};

#[test]
fn the_protos_keep_the_rules_and_what_was_released() {
    buf(&project_file("proto"), &["lint"]).expect_code(0);
    breaking(&project_file("proto")).expect_code(0);
}

#[test]
fn a_break_of_what_was_released_is_noticed() {
    const FOUND: i32 = 100; // what buf ends with then
    for (file, old, new) in [
        ("common.proto", "optional uint32 cpu_weight = 2;", ""),
        ("common.proto", "optional uint32 cpu_weight = 2;", "optional uint64 cpu_weight = 2;"),
        ("vps.proto", "rpc SuspendVps(SuspendVpsRequest) returns (SuspendVpsResponse);", ""),
    ] {
        let directory = tempfile::tempdir().unwrap();
        Command::new("cp").args(["-r"]).args([project_file("proto"), directory.path().into()]).run_ok();
        let protos = directory.path().join("proto");
        let file = protos.join("insula/v1").join(file);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(old), "{old}");
        std::fs::write(&file, text.replace(old, new)).unwrap();
        breaking(&protos).expect_code(FOUND);
    }
}

/// Compares with the protos of the last release.
fn breaking(protos: &Path) -> Outcome {
    let released = project_file("proto/released.binpb");
    buf(protos, &["breaking", "--against", released.to_str().unwrap()])
}

fn buf(protos: &Path, arguments: &[&str]) -> Outcome {
    let program = project_file("target/tools/node_modules/.bin/buf");
    Command::new("env").args(["-C"]).args([protos]).args([program]).args(arguments).run()
}
