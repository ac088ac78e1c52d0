//! What agents of earlier versions have journaled. Each line of the file is a job, as the first agent that had it wrote
//! it; it must be read for ever.

use super::Job;

const JOURNALED: &str = include_str!("journaled.jsonl");

fn jobs() -> impl Iterator<Item = (&'static str, Job)> {
    JOURNALED.lines().map(|line| (line, serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))))
}

#[test]
fn what_was_journaled_is_read_and_written_alike() {
    for (line, job) in jobs() {
        assert_eq!(serde_json::to_string(&job).unwrap(), line);
    }
}

#[test]
fn every_job_is_among_them() {
    for kind in Job::KINDS {
        assert!(jobs().any(|(_, job)| job.kind() == *kind), "{kind}");
    }
}

#[test]
fn a_plan_has_steps_and_commits_within_them() {
    for (line, job) in jobs().filter(|(line, _)| !line.contains(r#""terms":null"#)) {
        let plan = job.plan();
        assert!(!plan.steps.is_empty() && plan.commit <= plan.steps.len(), "{line}");
    }
}

#[test]
fn no_secret_is_kept_when_it_is_over() {
    assert!(JOURNALED.contains("$6$"));
    for (line, job) in jobs() {
        let kept = serde_json::to_string(&job.without_secrets()).unwrap();
        assert!(!kept.contains("$6$"), "{line}");
    }
}

#[test]
fn what_is_committed_can_only_be_given_up_while_it_waits() {
    let line = JOURNALED.lines().find(|line| line.contains("create-vps") && line.contains("wait_ready"));
    let plan = serde_json::from_str::<Job>(line.unwrap()).unwrap().plan();
    let cancellable: Vec<bool> = (0..plan.steps.len()).map(|step| plan.is_cancellable(step)).collect();
    assert_eq!(cancellable, [true, true, true, true, true, false, true]);
}
