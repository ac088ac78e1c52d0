//! What a job does, as data: a fixed list of steps, which [`crate::steps`] carries out.
//!
//! A plan is a pure function of its job, so the journal keeps the job, the names of the steps and the number of the one
//! under way: after a crash the plan goes on there. Every step may run twice.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::step::{Step, Swap};

/// How a VPS is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Whether it is done only when the guest has booted.
    pub wait_ready: bool,
}

/// How a VPS is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Kill it at once.
    pub force: bool,
    /// What the guest has to shut down before it is killed.
    pub timeout_ms: u64,
}

/// What a job does, step by step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// How many of them are taken back when one of them fails. From this step on, what was done stays.
    pub commit: usize,
}

/// Ends the processes at once.
pub(crate) const KILL: Step = Step::ShutDown { force: true, timeout: Duration::ZERO };

impl Boot {
    /// Launched, and perhaps waited for.
    pub(crate) fn steps(self) -> impl Iterator<Item = Step> {
        [Some(Step::Launch), self.wait_ready.then_some(Step::AwaitReady)].into_iter().flatten()
    }
}

impl Stop {
    /// The step that does it.
    pub(crate) fn step(self) -> Step {
        Step::ShutDown { force: self.force, timeout: Duration::from_millis(self.timeout_ms) }
    }
}

impl<T> Swap<T> {
    /// The same of something that is made of it.
    pub fn map<U>(self, make: impl Fn(T) -> U) -> Swap<U> {
        Swap { from: make(self.from), to: make(self.to) }
    }
}

impl Plan {
    /// Nothing of it is taken back: what it wants is also what a second try wants.
    pub(crate) fn lasting(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), commit: 0 }
    }

    /// All of it is taken back when a step fails.
    pub(crate) fn undoable(steps: impl IntoIterator<Item = Step>) -> Self {
        let steps: Vec<Step> = steps.into_iter().collect();
        Self { commit: steps.len(), steps }
    }

    /// With more steps, after the point of no return.
    pub(crate) fn and_then(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.steps.extend(steps);
        self
    }

    /// Whether it can be given up while this step is under way.
    pub fn is_cancellable(&self, step: usize) -> bool {
        step < self.commit || self.is_waiting(step)
    }

    /// Whether it does nothing but wait in this step.
    pub fn is_waiting(&self, step: usize) -> bool {
        self.steps.get(step).is_some_and(Step::is_wait)
    }
}
