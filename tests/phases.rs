//! The agent is killed in each phase of a create and of a delete, a hundred times. The next agent
//! either completes the operation or leaves nothing of it.

use std::collections::BTreeMap;
use std::time::Duration;

use insula_api::{Client, Reason, v1};
use insula_testkit::{Image, QUICK_INIT, ScratchHost, call, done, reason};
use rusqlite::{Connection, OptionalExtension};
use rustix::process::{Pid, Signal, kill_process};
use v1::VpsState;
use v1::operation::State;

use crate::dice::Dice;
use crate::whole::check_whole;

/// How often the agent is killed.
const KILLS: usize = 100;

/// How many more times at most, if a phase was not met by then.
const MOST_KILLS: usize = 300;

/// The operation that is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Create,
    Trash,
    Delete,
}

/// How many steps each operation has.
const STEPS: [(Job, u32); 3] = [(Job::Create, 6), (Job::Trash, 2), (Job::Delete, 4)];

#[test]
fn a_vps_is_never_half_made_or_half_gone() {
    let mut dice = Dice::new();
    let mut host = ScratchHost::with(Image::Debian12);
    host.replace_init(QUICK_INIT);
    let mut met: BTreeMap<(Job, u32), usize> =
        STEPS.iter().flat_map(|(job, steps)| (0..*steps).map(|step| ((*job, step), 0))).collect();
    let mut kills = 0;
    while kills < KILLS || (met.values().any(|count| *count == 0) && kills < MOST_KILLS) {
        let phases: Vec<(Job, u32)> = met.keys().copied().collect();
        let least = *met.iter().min_by_key(|(_, count)| **count).expect("phases").0;
        let (job, step) = if kills < KILLS { phases[kills % phases.len()] } else { least };
        let id = format!("request-{kills}");
        match job {
            Job::Create => clean_up(&host), // a delete may have been cut off before it began
            Job::Trash | Job::Delete => prepare(&host),
        }
        let died_at = interrupt(&mut host, &mut dice, job, step, &id);
        host.agent_start();
        check(&host, job, &id);
        kills += 1;
        died_at.into_iter().for_each(|step| *met.entry((job, step)).or_default() += 1);
        if kills % 20 == 0 {
            eprintln!("{kills} kills: {met:?}");
        }
    }
    assert!(met.values().all(|count| *count > 0), "a phase was never met: {met:?}");
}

/// Ensures a running VPS with a snapshot.
fn prepare(host: &ScratchHost) {
    if host.vpses().is_empty() {
        done!(host, vps.create_vps(create("")));
        let request = v1::CreateSnapshotRequest { vps: "web1".into(), ..Default::default() };
        done!(host, snapshots.create_snapshot(request));
    }
}

fn create(request_id: &str) -> v1::CreateVpsRequest {
    v1::CreateVpsRequest {
        name: "web1".into(),
        image: "debian-12".into(),
        start: true,
        wait_ready: true,
        request_id: request_id.into(),
        ..Default::default()
    }
}

fn delete(now: bool, request_id: &str) -> v1::DeleteVpsRequest {
    v1::DeleteVpsRequest {
        vps: "web1".into(),
        force: true,
        now,
        request_id: request_id.into(),
        ..Default::default()
    }
}

impl Job {
    async fn begin(self, client: Client, id: String) -> Result<v1::Operation, tonic::Status> {
        let mut service = client.vps();
        let operation = match self {
            Self::Create => service.create_vps(create(&id)).await?.into_inner().operation,
            Self::Trash => service.delete_vps(delete(false, &id)).await?.into_inner().operation,
            Self::Delete => service.delete_vps(delete(true, &id)).await?.into_inner().operation,
        };
        Ok(operation.expect("an operation"))
    }
}

/// Starts the operation, and kills the agent at this step, or some time after the request. Returns
/// the step at which the agent died, if it died during one.
fn interrupt(host: &mut ScratchHost, dice: &mut Dice, job: Job, step: u32, id: &str) -> Option<u32> {
    let agent = host.agent().process().id();
    let client = host.client();
    let (is_watched, offset) = (dice.once_in(2), Duration::from_micros(dice.below(8000) as u64));
    host.block_on(async {
        let begun = tokio::spawn(job.begin(client.clone(), id.to_owned()));
        match is_watched {
            true => {
                let operation = begun.await.expect("a request").expect("an agent that lives");
                reach(&client, operation.id, step).await;
                wait(offset / 8).await;
                kill(agent);
            }
            false => {
                wait(offset).await;
                kill(agent);
                let _ = begun.await.expect("a request"); // the answer may have come, or not
            }
        }
    });
    host.agent_kill();
    journaled_step(host, id)
}

async fn wait(time: Duration) {
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await; // time is what matters here
}

fn kill(agent: Pid) {
    kill_process(agent, Signal::KILL).expect("an agent that lives");
}

/// Waits until the operation is at the step, or has ended.
async fn reach(client: &Client, id: String, step: u32) {
    let watch = client.operations().watch_operation(v1::WatchOperationRequest { id }).await;
    let mut watch = watch.expect("an operation").into_inner();
    while let Some(answer) = watch.message().await.expect("an agent that lives") {
        if answer.operation.expect("an operation").step >= step {
            break;
        }
    }
}

/// The step of an unfinished operation, as the dead agent has journaled it.
fn journaled_step(host: &ScratchHost, request_id: &str) -> Option<u32> {
    let database = Connection::open(host.state_dir().join("insula.db")).expect("the database");
    let sql = "SELECT step FROM operation WHERE request_id = ? AND state = 'running'";
    database.query_row(sql, [request_id], |row| row.get(0)).optional().expect("the journal")
}

/// Checks that the operation was completed or was never begun.
fn check(host: &ScratchHost, job: Job, id: &str) {
    let unfinished = v1::ListOperationsRequest { unfinished: true, ..Default::default() };
    for operation in call!(host, operations.list_operations(unfinished)).unwrap().operations {
        host.succeeded(Some(operation));
    }
    let all = v1::ListOperationsRequest { page_size: 1000, ..Default::default() };
    let all = call!(host, operations.list_operations(all)).unwrap().operations;
    let journaled = all.into_iter().find(|operation| operation.request_id == id);
    let is_begun = journaled.is_some_and(|operation| operation.state() == State::Succeeded);
    let vpses = check_whole(host);
    let states: Vec<VpsState> = vpses.iter().map(v1::Vps::state).collect();
    let expected: &[VpsState] = match (job, is_begun) {
        (Job::Create, true) | (Job::Trash | Job::Delete, false) => &[VpsState::Ready],
        (Job::Trash, true) => &[VpsState::Deleted],
        (Job::Create, false) | (Job::Delete, true) => &[],
    };
    assert_eq!(states, expected, "{job:?}: {vpses:#?}");
    if expected == [VpsState::Deleted] || job == Job::Create {
        clean_up(host);
    }
}

/// Removes what the next round must not find.
fn clean_up(host: &ScratchHost) {
    let answer = call!(host, vps.delete_vps(delete(true, "")));
    match answer.is_err() {
        true => assert_eq!(reason(answer), Reason::VpsNotFound),
        false => drop(host.succeeded(answer.unwrap().operation)),
    }
    assert_eq!(check_whole(host), []);
}
