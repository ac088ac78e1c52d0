//! The agent's own requests after the host's boot: a start is asked for as a client would.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use insula_types::{Reason, Requester};

use crate::model::asked::Asked;
use crate::watch::autostart::Starter;
use crate::{Engine, EngineError, Power, VpsHandle};

/// For how long an operation that has the VPS is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Whoever works on the VPS just now is waited for, a few times.
impl Starter for Engine {
    async fn start(&self, handle: &Arc<VpsHandle>) -> Result<(), EngineError> {
        let mut tries = 3;
        loop {
            tries -= 1;
            let asked = Asked::by(Requester::agent());
            match self.start_vps(&asked, handle, false, false).await {
                Err(error) if error.reason() == Reason::VpsBusy && tries > 0 => {
                    if let Some(work) = handle.work() {
                        self.wait_operation(work.operation, Some(LONGEST_WAIT)).await?;
                    }
                    let is_called_off = !handle.awaits_autostart.load(Ordering::Relaxed);
                    if is_called_off || handle.observed.borrow().power != Power::Off {
                        return Ok(());
                    }
                }
                accepted => return self.wait_operation(accepted?.id, None).await.map(drop),
            }
        }
    }
}
