//! The report of a run: a test that passed only when it was repeated must not go unnoticed.

use std::ffi::OsStr;
use std::path::Path;

use insula_testkit::{Command, project_file};
use tempfile::TempDir;

/// A report as nextest writes it: one test passed at once, one at the third try.
const NOTED: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="2" failures="0" timestamp="2026-11-30T21:50:29.160+00:00" time="9.5">
    <testsuite name="insula-net::host" tests="2" failures="0">
        <testcase name="guard::always" classname="insula-net::host" time="9.031"/>
        <testcase name="guard::sometimes" classname="insula-net::host" time="0.024">
            <flakyFailure time="0.293" message="panicked" type="test failure with exit code 101">try 0</flakyFailure>
            <flakyFailure time="0.240" message="panicked" type="test failure with exit code 101">try 1</flakyFailure>
        </testcase>
    </testsuite>
</testsuites>"#;

#[test]
fn a_test_that_passed_when_repeated_is_listed() {
    let runs = runs(NOTED);
    let told = report("flaky", runs.path());
    let line = "insula-net::host guard::sometimes (profile ci, failed tries: 2; not in docs/flaky.md yet)";
    assert_eq!(told, format!("flaky, passed only when repeated: 1\n    {line}"));
    assert_eq!(std::fs::read_to_string(runs.path().join("flaky")).unwrap(), format!("{line}\n"));
}

#[test]
fn a_run_without_retries_lists_nothing() {
    let runs = runs(&NOTED.replace("flakyFailure", "system-out"));
    assert_eq!(report("flaky", runs.path()), "flaky, passed only when repeated: 0");
    assert_eq!(std::fs::read_to_string(runs.path().join("flaky")).unwrap(), "");
}

#[test]
fn the_slowest_come_first() {
    let told = report("slowest", runs(NOTED).path());
    let lines: Vec<&str> = told.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "ci, 2026-11-30T21:50: 2 tests in 10 s; the slowest:",
            "9.0 s  insula-net::host guard::always",
            "0.0 s  insula-net::host guard::sometimes",
        ]
    );
}

/// A directory as nextest keeps it, with the report of one run.
fn runs(noted: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("ci")).unwrap();
    std::fs::write(directory.path().join("ci/junit.xml"), noted).unwrap();
    directory
}

fn report(what: &str, runs: &Path) -> String {
    let arguments = [OsStr::new(what), runs.as_os_str()];
    Command::new(project_file("scripts/test.d/report")).args(arguments).run_ok().text().trim_end().to_owned()
}
