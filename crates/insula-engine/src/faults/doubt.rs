//! An operation that first has to ask somebody: no step of today does, so each is made to here.

use insula_types::{OperationId, OperationRecord, OperationState};

use super::assert_whole;
use super::host::{Host, asked, prepare, root_of};
use crate::Engine;
use crate::journal::faults::{ANSWERS, Fault};
use crate::model::step::Recovery;

/// A restore whose agent died before it replaced the root.
fn interrupted() -> (Host, OperationId) {
    let host = Host::new();
    let id = host.with_engine(async |engine| {
        prepare(&engine).await;
        engine.faults.arm(0, Fault::CrashBefore);
        let old = engine.vps("old").unwrap();
        let restore = engine.restore_snapshot(&asked(), &old, "one".parse().unwrap()).await.unwrap();
        engine.faults.crashed.notified().await;
        restore.id
    });
    (host, id)
}

/// Runs an agent that gets these answers (`None`: nobody is there to ask) until the operation is as it should be.
fn with_answers(
    host: &Host,
    id: OperationId,
    answers: &[Option<Recovery>],
    is_so: impl Fn(&OperationRecord) -> bool,
    then: impl AsyncFn(&Engine),
) {
    ANSWERS.set(answers.to_vec());
    host.with_engine(async |engine| {
        if let Some(mut watch) = engine.operations.watch(&id) {
            watch.wait_for(|record| is_so(record)).await.unwrap();
        }
        then(&engine).await;
    });
    ANSWERS.take();
}

fn is_in_doubt(record: &OperationRecord, why: &str) -> bool {
    record.state == OperationState::InDoubt && record.progress.message.contains(why)
}

fn was_restored(engine: &Engine) -> bool {
    !root_of(engine, "old").join("later").exists()
}

#[test]
fn an_operation_stays_in_doubt_over_restarts_until_there_is_an_answer() {
    let (host, id) = interrupted();
    with_answers(
        &host,
        id,
        &[None],
        |record| is_in_doubt(record, "can't be reached"),
        async |engine| {
            let kept = engine.store(move |store| store.operation(&id)).await.unwrap().unwrap();
            assert_eq!((kept.state, kept.step), (OperationState::InDoubt, 0));
            let filter = insula_store::OperationFilter { count: 9, unfinished: true, ..Default::default() };
            assert_eq!(engine.operations(filter).await.unwrap()[0].state, OperationState::InDoubt);
        },
    );
    let not_yet = Some(Recovery::Ask);
    with_answers(
        &host,
        id,
        &[None, not_yet],
        |record| is_in_doubt(record, "no answer yet"),
        async |engine| {
            assert!(!was_restored(engine));
        },
    );
    let answers = [not_yet, Some(Recovery::Resume)];
    with_answers(
        &host,
        id,
        &answers,
        |record| record.state.is_final(),
        async |engine| {
            let record = engine.operation(id).await.unwrap();
            assert_eq!(record.state, OperationState::Succeeded, "{:?}", record.error);
            assert!(was_restored(engine));
            engine.operations.idle().await;
            assert_whole(engine, "resumed").await;
        },
    );
}

#[test]
fn an_operation_in_doubt_is_taken_back_when_the_answer_says_so() {
    let (host, id) = interrupted();
    let answers = [None, Some(Recovery::TakeBack)];
    with_answers(
        &host,
        id,
        &answers,
        |record| record.state.is_final(),
        async |engine| {
            let record = engine.operation(id).await.unwrap();
            assert_eq!(record.state, OperationState::Failed);
            assert_eq!(record.error.unwrap().reason, "INTERRUPTED");
            assert!(!was_restored(engine));
            engine.operations.idle().await;
            assert_whole(engine, "taken back").await;
        },
    );
}
