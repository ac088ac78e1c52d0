//! A client in another language. It knows nothing of Insula but what the agent tells it by
//! reflection.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use insula_testkit::{Command, Image, ScratchHost, project_file};
use rustix::fs::{FlockOperation, flock};

#[test]
fn a_python_client_does_the_whole_story_by_reflection() {
    let python = python_with_grpc();
    let host = ScratchHost::with(Image::Debian12);
    let script = project_file("tests/foreign_client/client.py");
    let outcome = Command::new(python).args([script]).args([host.socket()]).args(["debian-12"]).run_ok();
    assert!(outcome.text().ends_with("all done"), "{outcome}");
    assert_eq!(host.vpses().len(), 0);
}

/// Python with gRPC from its package index, in an environment that is created once.
pub fn python_with_grpc() -> PathBuf {
    const LIMIT: Duration = Duration::from_secs(600);
    let requirements = project_file("tests/foreign_client/requirements.txt");
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("foreign-client");
    let lock = File::create(directory.with_extension("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let (done, python) = (directory.join("requirements.txt"), directory.join("bin/python"));
    if std::fs::read(&done).ok() != std::fs::read(&requirements).ok() {
        Command::new("python3").args(["-m", "venv", "--clear"]).args([&directory]).limit(LIMIT).run_ok();
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        Command::new(&python).args(install).args([&requirements]).limit(LIMIT).run_ok();
        std::fs::copy(&requirements, &done).unwrap();
    }
    python
}
