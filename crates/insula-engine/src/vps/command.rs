//! The messages to the task of a VPS: what it is asked to do.

use std::time::Duration;

use insula_runtime::StartPlan;
use insula_runtime::cgroup::CgroupValue;
use insula_types::CrashPolicy;
use tokio::sync::oneshot;

use crate::error::EngineError;

/// What a task is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Hand the plan to a monitor. Answered when init has been executed, or could not be.
    Launch(Box<StartPlan>, oneshot::Sender<Result<(), EngineError>>),
    /// Shut down within the time; without one, kill.
    Stop(Option<Duration>),
    /// Freeze or thaw.
    SetPaused(bool, oneshot::Sender<Result<(), EngineError>>),
    /// Have these limits applied at the guest's own reboots, too.
    RememberLimits(Vec<CgroupValue>, oneshot::Sender<Result<(), EngineError>>),
    /// Have this follow when init crashes.
    SetOnCrash(CrashPolicy, oneshot::Sender<Result<(), EngineError>>),
}
