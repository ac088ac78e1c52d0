//! Clients that send random requests, and know what the results should be.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use insula_api::{ApiError, Client, Reason, v1};
use tonic::Status;
use v1::operation::State;

use super::machine::{Act, Fleet};
use crate::dice::Dice;

/// What all clients share.
#[derive(Debug, Clone)]
pub struct World {
    pub client: Client,
    /// Whether the agent is about to end. Only then may a connection break.
    pub ends: Arc<AtomicBool>,
    pub pool: PathBuf,
}

/// The connection broke, so the result of the request is unknown.
#[derive(Debug)]
pub struct Cut;

impl World {
    /// The meaning of a status: a refusal with its reason, or the end of the agent.
    pub fn read(&self, status: &Status) -> Result<Reason, Cut> {
        match ApiError::from(status).reason() {
            None | Some(Reason::AgentUnreachable) => {
                assert!(self.ends.load(Ordering::Acquire), "the agent is not to end: {status:?}");
                Err(Cut)
            }
            Some(reason) => Ok(reason),
        }
    }

    async fn wait(&self, id: &str) -> Result<v1::Operation, Cut> {
        let request = v1::WaitOperationRequest { id: id.into(), timeout: None };
        match self.client.operations().wait_operation(request).await {
            Ok(answer) => Ok(answer.into_inner().operation.expect("an operation")),
            Err(status) => self.read(&status).map(|reason| panic!("an operation is lost: {reason}")),
        }
    }
}

/// A request whose result is not known yet.
#[derive(Debug)]
struct Pending {
    act: Act,
    id: String,
    operation: Option<String>,
    is_to_be_cancelled: bool,
}

/// The result of a request.
#[derive(Debug)]
enum Outcome {
    /// It succeeded. The id of the VPS that it was about.
    Done(String),
    /// It was refused, or its operation failed: the reason, and the id of the VPS, which is empty
    /// after a refusal.
    Refused(Reason, String),
}

/// A client with VPSes of its own.
#[derive(Debug)]
pub struct Owner {
    number: usize,
    dice: Dice,
    pub fleet: Fleet,
    pending: Option<Pending>,
    /// The operations of all requests so far, by their ids.
    pub asked: BTreeMap<String, String>,
    /// How many requests were refused.
    pub refused: usize,
}

impl Owner {
    /// Makes a client with these VPSes.
    pub fn new(number: usize, dice: Dice, fleet: Fleet) -> Self {
        Self { number, dice, fleet, pending: None, asked: BTreeMap::new(), refused: 0 }
    }

    /// Sends requests until the agent ends, or until so many have been sent.
    pub async fn run(mut self, world: World, times: usize) -> Self {
        for _ in 0..times {
            let pending = self.pending.take().unwrap_or_else(|| self.choose());
            if self.ask(&world, pending).await.is_err() {
                break;
            }
        }
        self
    }

    /// Repeats the request whose result is unknown, if there is one.
    pub async fn settle(mut self, world: World) -> Self {
        if let Some(pending) = self.pending.take() {
            self.ask(&world, pending).await.expect("an agent that lives");
        }
        self
    }

    async fn ask(&mut self, world: &World, mut pending: Pending) -> Result<(), Cut> {
        let expected = self.fleet.after(&pending.act);
        let outcome = match self.carry_out(world, &mut pending).await {
            Ok(outcome) => outcome,
            Err(cut) => {
                self.pending = Some(pending);
                return Err(cut);
            }
        };
        let act = &pending.act;
        match (outcome, expected) {
            (Outcome::Done(target), Ok(fleet)) => self.apply(world, act, fleet, &target),
            // Another client's operation is working on the VPS.
            (Outcome::Refused(Reason::VpsBusy, _), _) => self.refused += 1,
            (Outcome::Refused(Reason::Cancelled, target), Ok(fleet)) if pending.is_to_be_cancelled => {
                let is_there = world.pool.join("vps").join(&target).join("root").exists();
                match act {
                    Act::Start { .. } => self.apply(world, act, fleet, &target),
                    Act::Create { .. } | Act::Clone { .. } if is_there => {
                        self.apply(world, act, fleet, &target)
                    }
                    _ => self.refused += 1,
                }
            }
            // Two snapshots within a second would have the same name.
            (Outcome::Refused(Reason::SnapshotExists, _), _) if matches!(act, Act::Rebuild { .. }) => {}
            (Outcome::Refused(reason, _), Err(expected)) => {
                assert_eq!(reason, expected, "{act:?} of {:#?}", self.fleet);
                self.refused += 1;
            }
            (outcome, expected) => {
                panic!("{act:?}: {outcome:#?}\nexpected: {expected:#?}\nof {:#?}", self.fleet)
            }
        }
        Ok(())
    }

    async fn carry_out(&mut self, world: &World, pending: &mut Pending) -> Result<Outcome, Cut> {
        let sent = match pending.act.send(&world.client, &pending.id).await {
            Ok(operation) => operation,
            Err(status) => {
                let reason = world.read(&status)?;
                assert_eq!(pending.operation, None, "{reason}: the agent has forgotten what it has begun");
                return Ok(Outcome::Refused(reason, String::new()));
            }
        };
        let first = pending.operation.get_or_insert_with(|| sent.id.clone());
        assert_eq!(*first, sent.id, "{:?} is done twice", pending.act);
        self.asked.insert(pending.id.clone(), sent.id.clone());
        if pending.is_to_be_cancelled {
            let request = v1::CancelOperationRequest { id: sent.id.clone() };
            if let Err(status) = world.client.operations().cancel_operation(request).await {
                assert_eq!(world.read(&status)?, Reason::NotCancellable);
            }
        }
        let done = world.wait(&sent.id).await?;
        if self.dice.once_in(5) {
            match pending.act.send(&world.client, &pending.id).await {
                Ok(again) => assert_eq!((again.id, again.state), (done.id.clone(), done.state)),
                Err(status) => {
                    let reason = world.read(&status)?;
                    panic!("a retry is refused: {reason}");
                }
            }
        }
        Ok(match (done.state(), &done.error) {
            (State::Succeeded, _) => Outcome::Done(done.target),
            (State::Failed, Some(error)) => match ApiError::from(error).reason() {
                Some(reason @ (Reason::Cancelled | Reason::VpsBusy)) => Outcome::Refused(reason, done.target),
                Some(reason) if self.fleet.after(&pending.act) == Err(reason) => {
                    Outcome::Refused(reason, done.target)
                }
                _ => panic!("{:?} has failed: {done:#?}", pending.act),
            },
            _ => panic!("{:?} is not over: {done:#?}", pending.act),
        })
    }

    /// Keeps the new state of the VPSes, and marks a root now and then.
    fn apply(&mut self, world: &World, act: &Act, mut fleet: Fleet, target: &str) {
        for machine in fleet.0.iter_mut().filter(|machine| machine.id.is_empty()) {
            machine.id = target.to_owned();
        }
        if let Act::Rebuild { vps, .. } = act {
            let machine = fleet.get_mut(vps);
            let directory = std::fs::read_dir(world.pool.join("snapshots").join(vps)).expect("snapshots");
            let names = directory.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let new: Vec<String> = names.filter(|name| !machine.snapshots.contains_key(name)).collect();
            let [new] = &*new else { panic!("not one more snapshot, but {new:?}") };
            assert!(new.starts_with("before-rebuild-"), "{new}");
            let mark = machine.snapshots.remove("").expect("it was put there");
            machine.snapshots.insert(new.clone(), mark);
        }
        self.fleet = fleet;
        if self.dice.once_in(3)
            && let Some(machine) = self.fleet.0.iter_mut().find(|machine| !machine.is_trashed)
        {
            let mark = self.dice.next();
            std::fs::write(mark_file(&world.pool, &machine.id), mark.to_string()).expect("a root");
            machine.mark = Some(mark);
        }
    }

    fn choose(&mut self) -> Pending {
        let act = self.choose_act();
        let can_be_cancelled =
            matches!(act, Act::Create { .. } | Act::Clone { .. } | Act::Start { .. } | Act::Restore { .. });
        Pending {
            act,
            id: format!("c{}-{:x}", self.number, self.dice.next()),
            operation: None,
            is_to_be_cancelled: can_be_cancelled && self.dice.once_in(6),
        }
    }

    fn choose_act(&mut self) -> Act {
        const MOST: usize = 4;
        let dice = &mut self.dice;
        let name = format!("c{}-{}", self.number, dice.below(6));
        let (force, start) = (dice.once_in(2), dice.once_in(2));
        let memory_mib = dice.once_in(2).then(|| *dice.pick(&[192, 256, 384, 512]));
        let snapshot = (*dice.pick(&["a", "b", "c"])).to_owned();
        if self.fleet.0.is_empty() || (self.fleet.0.len() < MOST && dice.once_in(5)) {
            return Act::Create { name, memory_mib, start };
        }
        let vps = dice.pick(&self.fleet.0).id.clone();
        match dice.below(if self.fleet.0.len() < MOST { 25 } else { 24 }) {
            0..3 => Act::Start { vps, override_suspension: dice.once_in(3) },
            3 => Act::Stop { vps, force },
            4 => Act::Restart { vps },
            5 => Act::Pause { vps },
            6..8 => Act::Resume { vps },
            8..10 => {
                let profile = dice.once_in(3).then(|| (*dice.pick(&["small", "medium"])).to_owned());
                Act::Update { vps, profile, memory_mib, label: Some(dice.below(100).to_string()) }
            }
            10 => Act::Rename { vps, name },
            11 => Act::Suspend { vps },
            12..14 => Act::Unsuspend { vps },
            14 => Act::Password { vps },
            15 => Act::Rebuild { vps, force, start },
            16 => Act::Trash { vps, force },
            17 => Act::Delete { vps, force },
            18..20 => Act::Undelete { vps, name: dice.once_in(2).then_some(name) },
            20..22 => Act::Take { vps, snapshot },
            22 => Act::Restore { vps, snapshot },
            23 => Act::Forget { vps, snapshot },
            _ => Act::Clone { vps, name, snapshot: force.then_some(snapshot), start },
        }
    }
}

/// A file whose content tells one root from another.
pub fn mark_file(pool: &std::path::Path, vps: &str) -> PathBuf {
    pool.join("vps").join(vps).join("root/root/mark")
}

/// A client that interferes with all others: it sets passwords of their VPSes until the agent ends.
pub async fn meddle(world: World, mut dice: Dice, vpses: Vec<String>) -> Dice {
    while !vpses.is_empty() {
        let act = Act::Password { vps: dice.pick(&vpses).clone() };
        let id = format!("meddler-{:x}", dice.next());
        let done = match act.send(&world.client, &id).await {
            Ok(operation) => world.wait(&operation.id).await.map(drop),
            Err(status) => world.read(&status).map(drop),
        };
        if done.is_err() {
            break;
        }
    }
    dice
}
