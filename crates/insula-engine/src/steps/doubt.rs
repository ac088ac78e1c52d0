//! Operations in doubt: their agent died in a step, and someone else knows whether it was done.
//!
//! ```text
//!          the agent died             it may go on
//! running ───────────────> in doubt ───────────────> running
//!                           │    ^ │ it may not
//!                 no answer └────┘ └───────────────> undoing
//! ```
//!
//! The state is in the journal, so that agents after this one go on asking. Meanwhile the operation keeps its VPS from
//! others, and takes no turn from other operations.

use std::time::Duration;

use insula_types::{Failure, OperationState, Reason};

use crate::model::step::{Recovery, Step};
use crate::{Engine, EngineError};

use crate::steps::execution::Execution;

/// How long the agent waits before it asks again: twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Engine {
    /// Asks the other side about a step. [`Recovery::Ask`]: there is no answer yet.
    async fn ask(&self, step: &Step) -> Result<Recovery, EngineError> {
        #[cfg(test)]
        return crate::journal::faults::answer(step);
        #[cfg(not(test))]
        Ok(step.recovery()) // no step of today has anybody to ask
    }
}

impl Execution {
    /// Asks until there is an answer, and notes what follows from it.
    pub(super) async fn settle_doubt(&mut self, step: usize) {
        let mut pause = FIRST_PAUSE;
        loop {
            let asked = match self.plan.steps.get(step) {
                Some(step) => self.engine.ask(step).await,
                None => Ok(Recovery::Resume),
            };
            let message = match asked {
                Ok(Recovery::Ask) => "there is no answer yet".to_owned(),
                Err(error) => error.chain(),
                Ok(answer) => return self.note_answer(answer).await,
            };
            self.record.send_modify(|record| record.progress.message = format!("in doubt: {message}"));
            #[expect(clippy::disallowed_methods, reason = "nobody tells when the other side has an answer")]
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(2 * pause);
        }
    }

    async fn note_answer(&self, answer: Recovery) {
        let noted = self.journal(|record| match answer {
            Recovery::TakeBack => {
                record.state = OperationState::Undoing;
                let message =
                    "the agent ended during the operation, which could not be continued; it was rolled back";
                record.error = Some(Failure::new(Reason::Interrupted, message));
            }
            Recovery::Resume | Recovery::Ask => record.state = OperationState::Running,
        });
        if let Err(error) = noted.await {
            tracing::error!("journal: {}", error.chain()); // it is written again with the next step
        }
    }
}
