//! Faults that tests inject into the steps of operations. [`Faults`] owns the one that is armed; without one, a step is
//! done as ever. Agents outside of tests have none.

use std::cell::RefCell;
use std::sync::Mutex;

use insula_types::Reason;
use tokio::sync::Notify;

use crate::error::EngineError;
use crate::model::step::{Recovery, Step};

thread_local! {
    /// What the agents of this thread are told about steps whose agent died, in this order, and nothing more after that.
    /// Empty: no step is in doubt.
    pub(crate) static ANSWERS: RefCell<Vec<Option<Recovery>>> = const { RefCell::new(vec![]) };
}

/// What becomes of an operation whose agent died in this step.
pub(crate) fn recovery_of(step: &Step) -> Recovery {
    match ANSWERS.with_borrow(|answers| answers.is_empty()) {
        true => step.recovery(),
        false => Recovery::Ask,
    }
}

/// The next answer; the last one again and again.
pub(crate) fn answer(_: &Step) -> Result<Recovery, EngineError> {
    let next = ANSWERS.with_borrow_mut(|answers| match answers.len() {
        0 => Some(Recovery::Ask),
        1 => answers[0],
        _ => answers.remove(0),
    });
    next.ok_or_else(|| EngineError::new(Reason::Internal, "the other side can't be reached"))
}

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
    pub(crate) async fn around<W, T>(&self, index: usize, work: impl Fn() -> W) -> Result<T, EngineError>
    where
        W: Future<Output = Result<T, EngineError>>,
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

    async fn crash<T>(&self) -> Result<T, EngineError> {
        self.crashed.notify_one();
        std::future::pending().await
    }
}
