//! Changes of what a VPS is: its terms, its name, holds, passwords.

use std::sync::Arc;
use std::time::Duration;

use insula_runtime::{GuestRootError, hash_password};
use insula_types::{
    Autostart, ByteSize, CpuCount, CrashPolicy, Labels, Limits, OperationRecord, ProfileName, Reason,
    Supervision, Suspension, TenantName, VpsName,
};
use serde::{Deserialize, Serialize};

use crate::host::features::FeatureChange;
use crate::journal::retries::Asked;
use crate::model::job::Job;
use crate::model::step::{Swap, Terms};
use crate::requests::create::{check_hostname, check_ssh_key, name_taken};
use crate::requests::vps::journal;
use crate::{Engine, EngineError, VpsHandle, now_ms};

/// What is to be changed of a VPS; `None`: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateVps {
    /// Another plan.
    pub profile: Option<ProfileName>,
    /// Limits of its own, one after the other.
    pub limits: Vec<LimitChange>,
    /// What is open to it.
    #[serde(default)]
    pub features: Option<FeatureChange>,
    /// What follows when it crashes or the host boots, one thing after the other.
    #[serde(default)]
    pub supervision: Vec<SupervisionChange>,
    /// What others note about it.
    pub labels: Option<Labels>,
    /// Whose it is.
    pub tenant: Option<Option<TenantName>>,
    /// What it calls itself.
    pub hostname: Option<String>,
    /// Whether it refuses to be deleted.
    pub delete_protection: Option<bool>,
}

/// A change of a limit; `None`: back to the profile's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitChange {
    /// All of them.
    All(Box<Limits>),
    /// CPU time per time.
    Cpus(Option<CpuCount>),
    /// The share of CPU under contention.
    CpuWeight(Option<u32>),
    /// Memory.
    Memory(Option<ByteSize>),
    /// Swap on top of the memory.
    Swap(Option<ByteSize>),
    /// Processes and threads together.
    Processes(Option<u32>),
    /// The size of the root file system.
    Disk(Option<ByteSize>),
}

/// A change of what follows when a VPS crashes or its host boots; `None`: back to what the profile says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisionChange {
    /// All of it.
    All(Supervision),
    /// What follows when init crashes.
    OnCrash(Option<CrashPolicy>),
    /// Whether it is started when the host has booted.
    Autostart(Option<Autostart>),
    /// Which are started first then.
    AutostartPriority(Option<i32>),
    /// How long no other is started behind it then: seconds.
    AutostartDelay(Option<u32>),
}

impl SupervisionChange {
    /// Makes the change.
    pub fn apply(self, supervision: &mut Supervision) {
        match self {
            Self::All(all) => *supervision = all,
            Self::OnCrash(on_crash) => supervision.on_crash = on_crash,
            Self::Autostart(autostart) => supervision.autostart = autostart,
            Self::AutostartPriority(priority) => supervision.autostart_priority = priority,
            Self::AutostartDelay(delay_s) => supervision.autostart_delay_s = delay_s,
        }
    }
}

impl LimitChange {
    /// Makes the change.
    pub fn apply(&self, limits: &mut Limits) {
        match self {
            Self::All(all) => *limits = (**all).clone(),
            Self::Cpus(cpus) => limits.cpus = *cpus,
            Self::CpuWeight(weight) => limits.cpu_weight = *weight,
            Self::Memory(memory) => limits.memory = *memory,
            Self::Swap(swap) => limits.swap = *swap,
            Self::Processes(processes) => limits.processes = *processes,
            Self::Disk(disk) => limits.disk = *disk,
        }
    }
}

impl Engine {
    /// Changes what a VPS may use and what is noted about it: all of it or nothing.
    pub async fn update_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        update: UpdateVps,
    ) -> Result<OperationRecord, EngineError> {
        let job = Job::UpdateVps { vps: handle.id, update: Box::new(update), terms: None };
        self.request(asked, handle, job).await
    }

    pub(crate) fn change_terms(&self, mut terms: Terms, update: &UpdateVps) -> Result<Terms, EngineError> {
        let profile = self.profile(Some(update.profile.as_ref().unwrap_or(&terms.profile)));
        update.limits.iter().for_each(|change| change.apply(&mut terms.own_limits));
        terms.own_limits.check().map_err(|error| EngineError::invalid("changes.limits", error))?;
        if update.profile.is_some() || !update.limits.is_empty() {
            let profile = profile?;
            terms.limits = terms.own_limits.clone().or(&profile.limits);
            terms.profile = profile.name;
            self.check_enforceable(&terms.limits)?;
        }
        if let Some(change) = &update.features {
            terms.own_features = change.own();
        }
        if update.profile.is_some() || update.features.is_some() {
            let of_profile = || self.profile(Some(&terms.profile)).map(|profile| profile.features);
            terms.features = terms.own_features.clone().map_or_else(of_profile, Ok)?;
            self.check_features(&terms.features)?;
        }
        update.supervision.iter().for_each(|change| change.apply(&mut terms.own_supervision));
        let own = terms.own_supervision;
        own.check().map_err(|error| EngineError::invalid("changes.supervision", error))?;
        if update.profile.is_some() || !update.supervision.is_empty() {
            terms.supervision = own.or(&self.profile(Some(&terms.profile))?.supervision);
        }
        if let Some(hostname) = &update.hostname {
            terms.hostname = check_hostname(hostname)?;
        }
        terms.labels = update.labels.clone().unwrap_or(terms.labels);
        terms.tenant = update.tenant.clone().unwrap_or(terms.tenant);
        terms.delete_protection = update.delete_protection.unwrap_or(terms.delete_protection);
        Ok(terms)
    }

    /// Gives a VPS another name. Its host name stays.
    pub async fn rename_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        name: VpsName,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let from = handle.name();
            if self.table.find(name.as_str()).is_ok_and(|other| other.id != handle.id) {
                return Err(name_taken(&name));
            }
            let job = Job::RenameVps { vps: handle.id, name: Swap { from, to: name } };
            self.request_now(asked, handle, job, journal).await
        })
        .await
    }

    /// Holds a VPS: it is shut down, and may not be started.
    pub async fn suspend_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        reason: String,
        force: bool,
        timeout: Option<Duration>,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let suspension = Suspension { reason: check_hold(&reason)?, at_ms: now_ms(), was_running: false };
            let job = Job::SuspendVps { vps: handle.id, suspension, stop: self.stop(force, timeout) };
            self.request_now(asked, handle, job, journal).await
        })
        .await
    }

    /// Ends the hold on a VPS, and boots it if it ran before.
    pub async fn unsuspend_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
    ) -> Result<OperationRecord, EngineError> {
        self.request(asked, handle, Job::UnsuspendVps { vps: handle.id, suspension: None }).await
    }

    /// Sets the password of a user inside a VPS.
    pub async fn set_password(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        user: String,
        password: &str,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let user = check_user(user)?;
            let job = Job::SetVpsPassword { vps: handle.id, user, hash: hashed(password).await? };
            self.request_now(asked, handle, job, journal).await
        })
        .await
    }
}

impl Engine {
    /// Changes which keys may log in as root of a VPS.
    pub async fn change_ssh_keys(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        add: &[String],
        remove: &[String],
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let checked = |field, keys: &[String]| {
                let keys = keys.iter().map(|key| check_ssh_key(key)).collect::<Result<Vec<_>, _>>();
                keys.map_err(|error| EngineError::invalid(field, error))
            };
            let (add, remove) = (checked("add", add)?, checked("remove", remove)?);
            if add.is_empty() && remove.is_empty() {
                return Err(EngineError::invalid("add", "there is no key to add or to remove"));
            }
            if add.len() + remove.len() > MAX_SSH_KEYS {
                return Err(EngineError::invalid("add", format!("more than {MAX_SSH_KEYS} keys at once")));
            }
            let keys = Swap { from: vec![], to: vec![] }; // known when it is its turn
            let job = Job::ChangeVpsSshKeys { vps: handle.id, add, remove, keys };
            self.request_now(asked, handle, job, journal).await
        })
        .await
    }
}

/// The most keys in one request.
const MAX_SSH_KEYS: usize = 100;

/// The keys with others at their end, and without some. Comments don't count.
pub(crate) fn change_ssh_keys(keys: &[String], add: &[String], remove: &[String]) -> Vec<String> {
    fn same(one: &str, other: &str) -> bool {
        one.split(' ').take(2).eq(other.split(' ').take(2))
    }
    let is_in = |keys: &[String], key: &str| keys.iter().any(|known| same(known, key));
    let mut changed: Vec<String> = keys.iter().filter(|key| !is_in(remove, key)).cloned().collect();
    for key in add {
        if !is_in(&changed, key) {
            changed.push(key.clone());
        }
    }
    changed
}

/// What writing keys into a root may say.
pub(crate) fn ssh_keys_error(error: GuestRootError) -> EngineError {
    let is_full = |error: &GuestRootError| {
        let kind = match error {
            GuestRootError::Refused { source, .. } => source.kind(),
            _ => return false,
        };
        matches!(kind, std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
    };
    let reason = match &error {
        error if is_full(error) => Reason::VpsDiskFull,
        GuestRootError::NotAFile { .. } => Reason::FileWrongKind,
        _ => Reason::FileFailed,
    };
    EngineError::new(reason, "failed to write the keys that may log in as root").caused_by(error)
}

/// The hash of a password. It is slow on purpose.
pub(crate) async fn hashed(password: &str) -> Result<String, EngineError> {
    let password = password.to_owned();
    crate::blocking("hash a password", move || {
        hash_password(&password).map_err(|error| EngineError::invalid("password", error))
    })
    .await
}

fn check_hold(reason: &str) -> Result<String, EngineError> {
    let reason = reason.trim();
    match reason.chars().count() {
        0 => Err(EngineError::invalid("reason", "a suspension needs a reason, for those who find it later")),
        1..=500 if !reason.contains(char::is_control) => Ok(reason.to_owned()),
        _ => Err(EngineError::invalid(
            "reason",
            "a reason is one line of at most 500 characters, without control characters",
        )),
    }
}

/// As useradd(8) has them by default.
fn check_user(user: String) -> Result<String, EngineError> {
    let is_plain =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.' | b'$');
    let first = user.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    match first && user.len() <= 32 && user.bytes().all(is_plain) {
        true => Ok(user),
        false => {
            let shown: String = user.chars().take(80).collect();
            Err(EngineError::invalid("user", format!("invalid user name {shown:?}")))
        }
    }
}

/// What setting a password in a root may say.
pub(crate) fn password_error(error: insula_runtime::PasswordError) -> EngineError {
    let reason = match &error {
        insula_runtime::PasswordError::NoSuchUser { .. } => Reason::UserNotFound,
        _ => Reason::Internal,
    };
    EngineError::new(reason, "failed to set the password").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_goes_back_to_the_profiles() {
        let mut limits = Limits { processes: Some(100), memory: Some(ByteSize::gib(1)), ..Limits::default() };
        LimitChange::Processes(None).apply(&mut limits);
        LimitChange::CpuWeight(Some(200)).apply(&mut limits);
        assert_eq!((limits.processes, limits.cpu_weight), (None, Some(200)));
        assert_eq!(limits.memory, Some(ByteSize::gib(1)));
        LimitChange::All(Box::default()).apply(&mut limits);
        assert_eq!(limits, Limits::default());
    }

    #[test]
    fn a_key_is_one_whatever_its_comment() {
        let keys = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
        let known = keys(&["ssh-rsa AAAA me", "ssh-rsa BBBB"]);
        let changed = |add: &[&str], remove: &[&str]| change_ssh_keys(&known, &keys(add), &keys(remove));
        assert_eq!(changed(&["ssh-rsa AAAA you", "ssh-rsa CCCC", "ssh-rsa CCCC x"], &[]).len(), 3);
        assert_eq!(changed(&[], &["ssh-rsa AAAA other"]), ["ssh-rsa BBBB"]);
        assert_eq!(changed(&["ssh-rsa AAAA new"], &["ssh-rsa AAAA"]), ["ssh-rsa BBBB", "ssh-rsa AAAA new"]);
    }

    #[test]
    fn reasons_and_users_are_plain() {
        assert_eq!(check_hold(" unpaid ").unwrap(), "unpaid");
        for bad in ["", "  ", "a\nb", &"x".repeat(501)] {
            assert!(check_hold(bad).is_err(), "{bad:?}");
        }
        for (user, good) in [("root", true), ("www-data", true), ("", false), ("a:b", false), ("-a", false)] {
            assert_eq!(check_user(user.to_owned()).is_ok(), good, "{user}");
        }
    }
}
