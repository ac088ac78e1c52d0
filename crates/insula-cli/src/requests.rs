//! Requests that change something. Each has an id, and is sent again with the same id if the connection breaks.
//!
//! The agent answers the same id with the same operation (AIP-155): a lost request or a lost answer makes no
//! difference.

use std::time::Duration;
use uuid::Uuid;

use crate::context::Context;
use crate::failure::Outcome;

/// Sends a request until there is an answer, each time with the same id; gives up after some seconds.
pub async fn send<T>(context: &Context, request: impl AsyncFn(String) -> Outcome<T>) -> Outcome<T> {
    context.client().await?; // do not wait for an agent that is not running at the beginning
    let id = Uuid::now_v7().to_string();
    repeat(context, async || request(id.clone()).await).await
}

/// Repeats an idempotent request as long as the connection breaks; gives up after some seconds.
pub async fn repeat<T>(context: &Context, request: impl AsyncFn() -> Outcome<T>) -> Outcome<T> {
    let mut back_off = BackOff::new(TRIES);
    loop {
        match request().await {
            Err(failure) if failure.is_lost_connection() => {
                if !back_off.wait(context).await {
                    return Err(failure);
                }
            }
            outcome => return outcome,
        }
    }
}

/// How many times a request is repeated. It takes about six seconds, in which an agent restarts.
pub const TRIES: u32 = 6;

/// The times between tries: 0.1 s, then twice as long each time, at most 5 s.
pub struct BackOff {
    tries: u32,
    done: u32,
}

impl BackOff {
    /// At most this many tries.
    pub fn new(tries: u32) -> Self {
        Self { tries, done: 0 }
    }

    /// Without a limit.
    pub fn endless() -> Self {
        Self::new(u32::MAX)
    }

    /// Waits for the time of the next try; `false` if there were enough.
    pub async fn wait(&mut self, context: &Context) -> bool {
        if self.done == self.tries {
            return false; // without a limit: after centuries
        }
        if self.done == 0 {
            context.note("The connection to the agent was lost; trying again.");
        }
        // A deadline without an event: nothing tells us that the agent is back.
        let _ = tokio::time::timeout(self.delay(), std::future::pending::<()>()).await;
        self.done = self.done.saturating_add(1);
        true
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(100 << self.done.min(6)).min(Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rare_and_never_stop_being_bounded() {
        let delay = |done| BackOff { tries: u32::MAX, done }.delay().as_millis();
        assert_eq!([0, 1, 5, 6, 7, u32::MAX].map(delay), [100, 200, 3200, 5000, 5000, 5000]);
        let whole: u128 = (0..TRIES).map(delay).sum();
        assert!((5_000..10_000).contains(&whole), "{whole}");
    }
}
