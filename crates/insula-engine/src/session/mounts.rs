//! Mounts of the host that are attached to a VPS while it runs. They are the monitor's after that: nothing is kept here.

use std::time::{Duration, Instant};

use insula_runtime::protocol::ExecFailure;
use insula_runtime::{AttachError, DetachedMount, MonitorConnection, VpsDirectory};
use insula_types::Reason;

use crate::model::policy::{Request, admit};
use crate::vps::link::monitor_failed;
use crate::{Engine, EngineError, VpsHandle};

/// How long a monitor may take to answer: longer than it gives the guest to be looked into.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

impl Engine {
    /// Attaches a mount at a path of a VPS that runs, which its guest must have. It ends with the guest's boot: a reboot
    /// takes it away.
    pub async fn attach_mount(
        &self,
        handle: &VpsHandle,
        mount: DetachedMount,
        target: String,
    ) -> Result<(), EngineError> {
        admit(Request::Exec, handle.name().as_str(), handle.state())?;
        let socket = VpsDirectory::new(&self.run_dir(), &handle.id).socket();
        crate::blocking("attach a mount", move || {
            let attach = || {
                let monitor = MonitorConnection::connect(&socket)?;
                monitor.attach_mount(&mount, &target, Instant::now() + ANSWER_LIMIT)
            };
            attach().map_err(attach_failed)
        })
        .await
    }
}

fn attach_failed(error: AttachError) -> EngineError {
    let reason = match error {
        AttachError::Connection(error) => return monitor_failed("attach a mount to the VPS", error),
        AttachError::Failed { reason: ExecFailure::NotFound, .. } => Reason::FileNotFound,
        AttachError::Failed { reason: ExecFailure::NotRunning, .. } => Reason::VpsNotRunning,
        AttachError::Failed { reason: ExecFailure::Paused, .. } => Reason::VpsPaused,
        AttachError::Failed { .. } => Reason::Internal,
    };
    EngineError::new(reason, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_runtime::ConnectionError;

    #[test]
    fn a_failure_has_its_reason() {
        let failed =
            |reason| AttachError::Failed { target: "/mnt".into(), reason, chain: vec!["why".into()] };
        for (error, reason) in [
            (ConnectionError::TooOld { version: 4, needed: 5 }.into(), Reason::MonitorTooOld),
            (ConnectionError::Closed.into(), Reason::Internal),
            (failed(ExecFailure::NotFound), Reason::FileNotFound),
            (failed(ExecFailure::NotRunning), Reason::VpsNotRunning),
            (failed(ExecFailure::Paused), Reason::VpsPaused),
            (failed(ExecFailure::TooMany), Reason::Internal),
        ] {
            let text = format!("{error:?}");
            assert_eq!(attach_failed(error).reason(), reason, "{text}");
        }
    }
}
