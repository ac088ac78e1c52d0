//! Asking the task of a VPS for something, and waiting for the outcome. The outcome is what is observed of the VPS:
//! nothing is kept here.

use std::time::Duration;

use insula_runtime::StartPlan;
use insula_runtime::cgroup::CgroupValue;
use insula_types::{CrashPolicy, Reason};
use tokio::sync::oneshot;

use crate::vps::command::Command;
use crate::{EngineError, Power, VpsHandle};

impl VpsHandle {
    /// Has a plan carried out, until init is executed.
    pub(crate) async fn launch(&self, plan: StartPlan, limit: Duration) -> Result<(), EngineError> {
        let (reply, answered) = oneshot::channel();
        self.command(Command::Launch(Box::new(plan), reply)).await?;
        match tokio::time::timeout(limit, answered).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(gone())),
            Err(_) => {
                self.command(Command::Stop(None)).await?;
                let message = format!("init was not executed within {} s; it was killed", limit.as_secs());
                Err(EngineError::new(Reason::StartFailed, message))
            }
        }
    }

    /// Ends the processes: shut down within the time, or killed at once. Nothing to do when there are none.
    pub(crate) async fn shut_down(&self, force: bool, timeout: Duration) -> Result<(), EngineError> {
        /// What killing and cleaning up may take.
        const GRACE: Duration = Duration::from_secs(30);
        let mut observed = self.observed.clone();
        if observed.borrow().power == Power::Off {
            return Ok(());
        }
        self.command(Command::Stop((!force).then_some(timeout))).await?;
        let off = observed.wait_for(|observed| observed.power == Power::Off);
        match tokio::time::timeout(timeout.saturating_add(GRACE), off).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(EngineError::new(
                Reason::Internal,
                "the processes of the VPS did not end after they were killed",
            )),
        }
    }

    /// Waits until the guest says that it has booted.
    pub(crate) async fn await_ready(&self, limit: Duration) -> Result<(), EngineError> {
        let mut observed = self.observed.clone();
        let booted = observed.wait_for(|observed| {
            !matches!(observed.power, Power::Starting | Power::Running | Power::Waiting)
        });
        let name = self.name();
        match tokio::time::timeout(limit, booted).await {
            Ok(Ok(observed)) => match (observed.power, &observed.last_exit) {
                (Power::Off | Power::Stopping, exit) => {
                    let why = exit.as_ref().map(|exit| format!(": {}", exit.reason)).unwrap_or_default();
                    let message = format!("VPS {:?} ended before it was ready{why}", name.as_str());
                    let error =
                        EngineError::new(Reason::NotReady, message).hint(format!("insula show {name}"));
                    Err(match exit.as_ref().and_then(|exit| exit.detail.clone()) {
                        Some(detail) => error.caused_by(LastWords(detail)),
                        None => error,
                    })
                }
                _ => Ok(()),
            },
            Ok(Err(_)) => Err(gone()),
            Err(_) => {
                let message =
                    format!("VPS {:?} runs, but was not ready within {} s", name.as_str(), limit.as_secs());
                Err(EngineError::new(Reason::NotReady, message)
                    .hint(format!("read its console: insula log {name}")))
            }
        }
    }

    /// Freezes or thaws the processes.
    pub(crate) async fn set_paused(&self, paused: bool) -> Result<(), EngineError> {
        let (reply, answered) = oneshot::channel();
        self.command(Command::SetPaused(paused, reply)).await?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Has limits applied at the guest's own reboots, too: by its monitor, which boots it.
    pub(crate) async fn remember_limits(&self, values: Vec<CgroupValue>) -> Result<(), EngineError> {
        let (reply, answered) = oneshot::channel();
        self.command(Command::RememberLimits(values, reply)).await?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Has this follow when init crashes. A monitor that is too old to know of it goes by it from the next start on.
    pub(crate) async fn set_on_crash(&self, on_crash: CrashPolicy) -> Result<(), EngineError> {
        let (reply, answered) = oneshot::channel();
        self.command(Command::SetOnCrash(on_crash, reply)).await?;
        match tokio::time::timeout(Duration::from_secs(10), answered).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(gone())),
            Err(_) => Err(EngineError::new(Reason::Internal, "the VPS's monitor does not answer")),
        }
    }

    async fn command(&self, command: Command) -> Result<(), EngineError> {
        self.commands.send(command).await.map_err(|_| gone())
    }
}

fn gone() -> EngineError {
    EngineError::new(Reason::VpsNotFound, "the VPS has just been deleted")
}

/// What is known of an end beyond its reason, such as the console's last lines.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct LastWords(String);
