//! Limits how often a caller may send requests.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When this many callers are remembered, those are forgotten that have been quiet for a while.
const SWEEP_AT: usize = 1024;

/// A rate for each of many callers: a number of requests per second over time, and a burst on top.
///
/// A leaky bucket kept as a virtual clock ("generic cell rate algorithm"). Each request advances
/// the caller's clock by one interval. The clock may be ahead of the true time by as much as the
/// burst takes.
#[derive(Debug)]
pub struct Rate<K> {
    interval: Duration,
    ahead: Duration,
    clocks: Mutex<HashMap<K, Instant>>,
}

/// Whether a stranger may cause one more line in the log: a hundred at once, and at most some 20 MB
/// a day.
pub fn may_log_stranger() -> bool {
    static LINES: LazyLock<Rate<()>> = LazyLock::new(|| Rate::new(1, 100));
    LINES.take((), Instant::now()).is_ok()
}

impl<K: Hash + Eq> Rate<K> {
    /// Allows `per_second` requests over time, and `burst` at once. Both are at least 1.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, ahead: interval * burst.saturating_sub(1), clocks: Mutex::default() }
    }

    /// Counts a request of the caller. The error says how long to wait.
    pub fn take(&self, caller: K, now: Instant) -> Result<(), Duration> {
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        if clocks.len() >= SWEEP_AT {
            clocks.retain(|_, clock| *clock > now);
        }
        let clock = clocks.entry(caller).or_insert(now);
        let begin = (*clock).max(now);
        match (begin - now).checked_sub(self.ahead) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *clock = begin + self.interval;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate = Rate::new(10, 20);
        let begin = Instant::now();
        let taken = |now| (0..100).take_while(|_| rate.take("panel", now).is_ok()).count();
        assert_eq!(taken(begin), 20);
        let wait = rate.take("panel", begin).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert_eq!(taken(begin + wait), 1);
        assert_eq!(rate.take("other", begin), Ok(()), "others have their own");
        assert_eq!(taken(begin + Duration::from_secs(60)), 20, "no more than a burst after a pause");
    }

    #[test]
    fn who_was_quiet_is_forgotten() {
        let rate = Rate::new(1, 1);
        let begin = Instant::now();
        for caller in 0..SWEEP_AT {
            rate.take(caller, begin).unwrap();
        }
        rate.take(SWEEP_AT, begin + Duration::from_secs(2)).unwrap();
        assert_eq!(rate.clocks.lock().unwrap().len(), 1);
    }
}
