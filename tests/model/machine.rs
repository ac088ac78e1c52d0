//! The expected states of VPSes, in a second and shorter implementation: what a request leads to,
//! or why it is refused.

use std::collections::BTreeMap;

use insula_api::{Reason, v1};
use v1::VpsState;

/// What a client asks for. VPSes are given by their ids.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    Create { name: String, memory_mib: Option<u64>, start: bool },
    Clone { vps: String, name: String, snapshot: Option<String>, start: bool },
    Start { vps: String, override_suspension: bool },
    Stop { vps: String, force: bool },
    Restart { vps: String },
    Pause { vps: String },
    Resume { vps: String },
    Update { vps: String, profile: Option<String>, memory_mib: Option<u64>, label: Option<String> },
    Rename { vps: String, name: String },
    Suspend { vps: String },
    Unsuspend { vps: String },
    Password { vps: String },
    Rebuild { vps: String, force: bool, start: bool },
    Trash { vps: String, force: bool },
    Delete { vps: String, force: bool },
    Undelete { vps: String, name: Option<String> },
    Take { vps: String, snapshot: String },
    Restore { vps: String, snapshot: String },
    Forget { vps: String, snapshot: String },
}

impl Act {
    /// The VPS that the act is about. For a clone, the one that is cloned.
    pub fn vps(&self) -> Option<&str> {
        match self {
            Self::Create { .. } => None,
            Self::Clone { vps, .. }
            | Self::Start { vps, .. }
            | Self::Stop { vps, .. }
            | Self::Restart { vps }
            | Self::Pause { vps }
            | Self::Resume { vps }
            | Self::Update { vps, .. }
            | Self::Rename { vps, .. }
            | Self::Suspend { vps }
            | Self::Unsuspend { vps }
            | Self::Password { vps }
            | Self::Rebuild { vps, .. }
            | Self::Trash { vps, .. }
            | Self::Delete { vps, .. }
            | Self::Undelete { vps, .. }
            | Self::Take { vps, .. }
            | Self::Restore { vps, .. }
            | Self::Forget { vps, .. } => Some(vps),
        }
    }
}

/// A VPS as it should be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Machine {
    /// The VPS's id. Empty until its operation has succeeded.
    pub id: String,
    pub name: String,
    pub is_on: bool,
    pub is_paused: bool,
    /// Set while it is suspended: whether it ran before.
    pub suspension: Option<bool>,
    pub is_trashed: bool,
    pub profile: String,
    pub memory_mib: Option<u64>,
    pub label: Option<String>,
    /// The content of the file that marks its root.
    pub mark: Option<u64>,
    /// The same of its snapshots, by their names.
    pub snapshots: BTreeMap<String, Option<u64>>,
}

impl Machine {
    /// A VPS that was just created.
    pub fn new(name: &str, memory_mib: Option<u64>, is_on: bool) -> Self {
        Self { name: name.into(), profile: "small".into(), memory_mib, is_on, ..Self::default() }
    }

    /// The VPS's expected state.
    pub fn state(&self) -> VpsState {
        match self {
            Self { is_on: true, is_paused: true, .. } => VpsState::Paused,
            Self { is_on: true, .. } => VpsState::Ready,
            Self { is_trashed: true, .. } => VpsState::Deleted,
            Self { suspension: Some(_), .. } => VpsState::Suspended,
            _ => VpsState::Stopped,
        }
    }

    /// The VPS's memory in bytes: its own limit, or that of its profile.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_mib.unwrap_or(if self.profile == "small" { 1 << 10 } else { 4 << 10 }) << 20
    }

    fn power(&mut self, is_on: bool) {
        (self.is_on, self.is_paused) = (is_on, false);
    }

    /// The VPS after an act on it.
    fn after(mut self, act: &Act) -> Result<Self, Reason> {
        let state = self.state();
        let is_off = !self.is_on;
        let unless = |refused: bool, reason: Reason| if refused { Err(reason) } else { Ok(()) };
        match act {
            Act::Restore { snapshot, .. } | Act::Forget { snapshot, .. } => {
                unless(!self.snapshots.contains_key(snapshot), Reason::SnapshotNotFound)?;
            }
            Act::Take { snapshot, .. } => {
                unless(self.snapshots.contains_key(snapshot), Reason::SnapshotExists)?;
            }
            _ => {}
        }
        match act {
            Act::Undelete { .. } => unless(state != VpsState::Deleted, Reason::VpsNotFound)?,
            Act::Trash { .. } if state == VpsState::Deleted => return Ok(self),
            Act::Delete { .. } => {}
            _ => unless(state == VpsState::Deleted, Reason::VpsDeleted)?,
        }
        let is_held = state == VpsState::Suspended;
        match act {
            Act::Start { override_suspension, .. } => {
                unless(is_held && !override_suspension, Reason::VpsSuspended)?;
                unless(self.is_paused, Reason::VpsPaused)?;
                self.is_on = true;
            }
            Act::Stop { .. } => self.power(false),
            Act::Restart { .. } => {
                unless(is_held, Reason::VpsSuspended)?;
                self.power(true);
            }
            Act::Pause { .. } | Act::Resume { .. } => {
                unless(is_off, Reason::VpsNotRunning)?;
                self.is_paused = matches!(act, Act::Pause { .. });
            }
            Act::Update { profile, memory_mib, label, .. } => {
                self.profile = profile.clone().unwrap_or(self.profile);
                self.memory_mib = memory_mib.or(self.memory_mib);
                self.label = label.clone().or(self.label);
            }
            Act::Rename { name, .. } => self.name = name.clone(),
            Act::Suspend { .. } => {
                self.suspension.get_or_insert(self.is_on);
                self.power(false);
            }
            Act::Unsuspend { .. } => self.is_on |= self.suspension.take() == Some(true),
            Act::Rebuild { force, start, .. } => {
                unless(is_held, Reason::VpsSuspended)?;
                unless(self.is_on && !force, Reason::VpsRunning)?;
                self.power(*start);
                // The name contains the time, so the client fills it in.
                self.snapshots.insert(String::new(), self.mark.take());
            }
            Act::Trash { force, .. } | Act::Delete { force, .. } => {
                unless(self.is_on && !force, Reason::VpsRunning)?;
                self.power(false);
                self.is_trashed = true;
            }
            Act::Undelete { name, .. } => {
                self.is_trashed = false;
                self.name = name.clone().unwrap_or(self.name);
            }
            Act::Take { snapshot, .. } => drop(self.snapshots.insert(snapshot.clone(), self.mark)),
            Act::Restore { snapshot, .. } => {
                unless(is_held, Reason::VpsSuspended)?;
                unless(self.is_on, Reason::VpsRunning)?;
                self.mark = self.snapshots[snapshot];
            }
            Act::Forget { snapshot, .. } => drop(self.snapshots.remove(snapshot)),
            Act::Password { .. } | Act::Create { .. } | Act::Clone { .. } => {}
        }
        Ok(self)
    }
}

/// The VPSes of one client, whose names no other client uses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fleet(pub Vec<Machine>);

impl Fleet {
    /// The VPS with this id.
    pub fn get(&self, id: &str) -> &Machine {
        self.0.iter().find(|machine| machine.id == id).expect("one of ours")
    }

    /// The VPS with this id, to be changed.
    pub fn get_mut(&mut self, id: &str) -> &mut Machine {
        self.0.iter_mut().find(|machine| machine.id == id).expect("one of ours")
    }

    fn has(&self, name: &str, but: &str) -> bool {
        self.0.iter().any(|machine| !machine.is_trashed && machine.name == name && machine.id != but)
    }

    /// The VPSes after an act. A new one has no id yet.
    pub fn after(&self, act: &Act) -> Result<Self, Reason> {
        let mut fleet = self.clone();
        match act {
            Act::Create { name, memory_mib, start } => {
                refuse(self.has(name, ""))?;
                fleet.0.push(Machine::new(name, *memory_mib, *start));
            }
            Act::Clone { vps, name, snapshot, start } => {
                let model = self.get(vps);
                let mark = match snapshot.as_ref().map(|snapshot| model.snapshots.get(snapshot)) {
                    _ if model.is_trashed => return Err(Reason::VpsDeleted),
                    Some(None) => return Err(Reason::SnapshotNotFound),
                    Some(Some(mark)) => *mark,
                    None => model.mark,
                };
                refuse(self.has(name, ""))?;
                let new = Machine::new(name, model.memory_mib, *start);
                let (profile, label) = (model.profile.clone(), model.label.clone());
                fleet.0.push(Machine { profile, label, mark, ..new });
            }
            Act::Delete { vps, .. } => {
                self.get(vps).clone().after(act)?;
                fleet.0.retain(|machine| machine.id != *vps);
            }
            _ => {
                let vps = act.vps().expect("it is about one");
                let machine = self.get(vps).clone();
                match act {
                    Act::Rename { name, .. } => refuse(self.has(name, vps))?,
                    Act::Undelete { name, .. } if machine.is_trashed => {
                        refuse(self.has(name.as_ref().unwrap_or(&machine.name), vps))?;
                    }
                    _ => {}
                }
                *fleet.get_mut(vps) = machine.after(act)?;
            }
        }
        Ok(fleet)
    }
}

/// Refuses a name that is taken.
fn refuse(is_taken: bool) -> Result<(), Reason> {
    if is_taken { Err(Reason::VpsExists) } else { Ok(()) }
}
