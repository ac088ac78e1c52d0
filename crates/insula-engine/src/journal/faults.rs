//! Faults that tests inject into the steps of operations. [`Faults`] owns the one that is armed; without one, a step is
//! done as ever. Agents outside of tests have none.

use std::sync::Mutex;

use insula_types::Reason;
use tokio::sync::Notify;

use crate::error::EngineError;

/// What goes wrong with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails without having done anything.
    FailBefore,
    /// It fails when all is done.
    FailAfter,
    /// The agent dies when the step is journaled and not begun.
    CrashBefore,
    /// The agent dies when the step is done and the next is not journaled.
    CrashAfter,
    /// It is done twice.
    Twice,
}

/// The fault that is armed, if one is.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Mutex<Option<(usize, Fault)>>,
    pub(crate) crashed: Notify,
}

impl Faults {
    pub(crate) fn arm(&self, step: usize, fault: Fault) {
        *self.armed.lock().unwrap() = Some((step, fault));
    }

    /// Does a step with what is to go wrong.
    pub(crate) async fn around<W>(&self, index: usize, work: impl Fn() -> W) -> Result<(), EngineError>
    where
        W: Future<Output = Result<(), EngineError>>,
    {
        let armed = *self.armed.lock().unwrap();
        let fault = armed.filter(|(step, _)| *step == index).map(|(_, fault)| fault);
        let failure = || Err(EngineError::new(Reason::Internal, "a fault was injected"));
        match fault {
            None => work().await,
            Some(Fault::FailBefore) => failure(),
            Some(Fault::FailAfter) => {
                work().await?;
                failure()
            }
            Some(Fault::CrashBefore) => self.crash().await,
            Some(Fault::CrashAfter) => {
                work().await?;
                self.crash().await
            }
            Some(Fault::Twice) => {
                work().await?;
                work().await
            }
        }
    }

    async fn crash(&self) -> Result<(), EngineError> {
        self.crashed.notify_one();
        std::future::pending().await
    }
}
