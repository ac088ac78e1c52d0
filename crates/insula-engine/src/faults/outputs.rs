//! What a step has found out is there for the step after it, also when another agent does that one.

use std::path::PathBuf;
use std::sync::Arc;

use insula_image::ImageDefinition;
use insula_storage::Volume;
use insula_types::{ImageInfo, OperationId, OperationRecord, OperationState, Reason};
use serde_json::json;
use tokio::sync::watch;

use super::host::{Host, asked};
use super::{age, assert_whole};
use crate::Engine;
use crate::jobs::Job;
use crate::journal::faults::Fault;
use crate::journal::operations::{Reporter, Right};
use crate::model::step::{FINGERPRINT_TREE, Output, Step};
use crate::steps::execution::new_record;

/// The steps of a build: the tree is built, it is fingerprinted, and it is published.
const FINGERPRINT: usize = 1;
const PUBLISH: usize = 2;

fn definition() -> String {
    let images = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../images");
    std::fs::read_to_string(images.join("debian-12.yaml")).unwrap()
}

/// An operation that is about to fingerprint the tree that it has built, as the journal has it.
async fn built(engine: &Engine) -> (OperationRecord, Job) {
    let staging = OperationId::new();
    let volume = Volume::Staging(staging);
    let make = engine.pools.default().work(move |pool| {
        pool.ensure_empty(&volume)?;
        std::fs::write(pool.lasting_path(&volume).join("hello"), "world").unwrap();
        Ok(())
    });
    make.await.unwrap();
    let job = json!({"job": "build-image", "definition": definition(), "alias": "built", "staging": staging});
    let job: Job = serde_json::from_value(job).unwrap();
    let mut record = new_record(&asked(), String::new(), &job, "built", None);
    record.step = u32::try_from(FINGERPRINT).unwrap();
    let kept = record.clone();
    engine.store(move |store| store.insert_operation(&kept)).await.unwrap();
    (record, job)
}

/// Lets an agent fingerprint and publish a tree with a fault in one of these steps. The next agent finds what it left.
fn with_fault(step: usize, fault: Fault, between: impl Fn(&mut OperationRecord)) -> (Host, OperationId) {
    let host = Host::new();
    let id = host.with_engine(async |engine| {
        let (record, job) = built(&engine).await;
        let id = record.id;
        engine.faults.arm(step, fault);
        engine.spawn(record, job, Right::Now(vec![]));
        tokio::select! {
            record = engine.wait_operation(id, None) => drop(record.unwrap()),
            () = engine.faults.crashed.notified() => {}
        }
        let mut left = engine.store(move |store| store.operation(&id)).await.unwrap().unwrap();
        between(&mut left);
        engine.store(move |store| store.update_operation(&left)).await.unwrap();
        id
    });
    (host, id)
}

/// How the operation has ended, and the image that came of it.
fn outcome(host: &Host, id: OperationId) -> (OperationRecord, Option<ImageInfo>) {
    host.with_engine(async |engine| {
        engine.operations.idle().await;
        let record = engine.operation(id).await.unwrap();
        assert_whole(&engine, &format!("{:?}", record.error)).await;
        (record, engine.images().pop())
    })
}

fn image_of(record: &OperationRecord) -> ImageInfo {
    let Output::Image(image) = serde_json::from_str(&record.outputs[FINGERPRINT_TREE]).unwrap();
    *image
}

#[test]
fn the_next_agent_publishes_what_the_dead_one_has_found() {
    // Nobody would find out this time by looking at the tree: it can only be that of the journal.
    const AT: i64 = 4711;
    let (host, id) = with_fault(PUBLISH, Fault::CrashBefore, |left| {
        let mut image = image_of(left);
        assert_eq!(image.definition, ImageDefinition::parse(&definition()).unwrap().digest());
        image.created_at = AT;
        let output = serde_json::to_string(&Output::Image(Box::new(image))).unwrap();
        left.outputs.insert(FINGERPRINT_TREE.to_owned(), output);
    });
    let (record, image) = outcome(&host, id);
    assert_eq!(record.state, OperationState::Succeeded, "{:?}", record.error);
    let image = image.unwrap();
    assert_eq!((image.created_at, image.aliases[0].as_str()), (AT, "built"));
    assert_eq!(image.fingerprint, image_of(&record).fingerprint);
}

#[test]
fn a_build_survives_a_crash_in_each_step_after_the_long_one() {
    for (step, fault) in [
        (FINGERPRINT, Fault::CrashBefore),
        (FINGERPRINT, Fault::CrashAfter),
        (FINGERPRINT, Fault::Twice),
        (PUBLISH, Fault::CrashAfter),
        (PUBLISH, Fault::Twice),
    ] {
        let (host, id) = with_fault(step, fault, |_| {});
        let (record, image) = outcome(&host, id);
        assert_eq!(record.state, OperationState::Succeeded, "{step} {fault:?}: {:?}", record.error);
        assert_eq!(image.unwrap().fingerprint, image_of(&record).fingerprint, "{step} {fault:?}");
    }
}

#[test]
fn a_build_that_fails_leaves_no_tree() {
    for step in [FINGERPRINT, PUBLISH] {
        let (host, id) = with_fault(step, Fault::FailBefore, |_| {});
        let (record, image) = outcome(&host, id);
        assert_eq!((record.state, image), (OperationState::Failed, None));
        assert_eq!(record.error.unwrap().reason, Reason::Internal.as_str());
    }
}

/// How far an agent of the version before was, which fingerprinted, sealed and kept the image in one last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Reached {
    Built,
    Sealed,
    Kept,
}

/// A build that an agent of the version before left in its last step.
fn left_by_the_version_before(state: OperationState, reached: Reached) -> (Host, OperationId) {
    let host = Host::new();
    let id = host.with_engine(async |engine| {
        let (mut record, job) = built(&engine).await;
        record.state = state;
        let sender = Arc::new(watch::channel(record.clone()).0);
        let (steps, reporter) = (job.plan().steps, Reporter::new(sender.clone(), 0, 100));
        let output = engine.apply(&steps[FINGERPRINT], &job, &sender, &reporter).await.unwrap();
        let Output::Image(image) = output.unwrap();
        let Step::PublishImage { staging, .. } = steps[PUBLISH] else { panic!("{:?}", steps[PUBLISH]) };
        let (staging, sealed) = (Volume::Staging(staging), Volume::Image(image.fingerprint));
        if reached >= Reached::Sealed {
            engine.pools.default().work(move |pool| pool.seal(&staging, &sealed)).await.unwrap();
        }
        if reached >= Reached::Kept {
            engine.images.keep(*image).await.unwrap();
        }
        let id = record.id;
        engine.store(move |store| store.update_operation(&record)).await.unwrap();
        age(&engine, id).await;
        id
    });
    (host, id)
}

#[test]
fn a_build_of_the_version_before_is_published_or_leaves_nothing() {
    for state in [OperationState::Running, OperationState::Undoing] {
        for reached in [Reached::Built, Reached::Sealed, Reached::Kept] {
            let (host, id) = left_by_the_version_before(state, reached);
            let (record, image) = outcome(&host, id);
            let succeeds = state == OperationState::Running && reached == Reached::Built;
            let expected = if succeeds { OperationState::Succeeded } else { OperationState::Failed };
            assert_eq!(record.state, expected, "{state:?}, {reached:?}: {:?}", record.error);
            assert_eq!(image.is_some(), succeeds || reached == Reached::Kept, "{state:?}, {reached:?}");
        }
    }
}
