//! When a guest is booted again that has rebooted or crashed. Pure: times are handed in.

use std::time::Duration;

use crate::plan::RebootPolicy;

/// When the next boot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// At once.
    Now,
    /// After a pause.
    After(Duration),
    /// Never: it was tried too often.
    Never,
}

/// What is counted of boots that have ended.
#[derive(Debug, Default)]
pub(super) struct Reboots {
    /// How many, each as long as the life that lets one be forgotten: milliseconds.
    counted_ms: u64,
}

impl Reboots {
    /// Counts a boot that has ended after such a life, and says when the next one is.
    pub fn count(&mut self, policy: &RebootPolicy, lived: Duration) -> Next {
        let one = policy.forget_after_ms.max(1);
        let lived = u64::try_from(lived.as_millis()).unwrap_or(u64::MAX);
        self.counted_ms = self.counted_ms.saturating_sub(lived).saturating_add(one);
        let quick = self.counted_ms.div_ceil(one);
        match quick.saturating_sub(policy.at_once.into()) {
            0 => Next::Now,
            pauses if pauses > policy.pauses.into() => Next::Never,
            pauses => {
                let doubled = u32::try_from(pauses - 1).unwrap_or(u32::MAX).min(20);
                Next::After(Duration::from_millis(policy.first_pause_ms.saturating_mul(1 << doubled)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What follows, a letter for each end: `.` at once, `x` never, else a digit or two, the pause in seconds.
    fn told(policy: &RebootPolicy, lives_s: &[f64]) -> String {
        let mut reboots = Reboots::default();
        let next = lives_s.iter().map(|life| reboots.count(policy, Duration::from_secs_f64(*life)));
        let word = |next| match next {
            Next::Now => ".".to_owned(),
            Next::After(pause) => pause.as_secs().to_string(),
            Next::Never => "x".to_owned(),
        };
        next.map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_loop_gets_slower_and_is_given_up() {
        let policy = RebootPolicy::default();
        for (lives, expected) in [
            (vec![0.3; 12], ". . . . . 2 4 8 16 32 x x"),
            // The life of a guest that was up for long is no credit for a loop.
            ([vec![1e6], vec![0.3; 11]].concat(), ". . . . . 2 4 8 16 32 x x"),
            // Slower than five a minute goes on for ever.
            (vec![12.0; 12], ". . . . . . . . . . . ."),
            (vec![60.0; 8], ". . . . . . . ."),
            // Half as fast as they are forgotten: twice as many.
            (vec![6.0; 12], ". . . . . . . . . 2 2 4"),
            // Whoever has lived for a while after a loop may reboot as before.
            ([vec![0.3; 7], vec![100.0], vec![0.3; 5]].concat(), ". . . . . 2 4 . . . . . 2"),
            // A little life takes back a little.
            ([vec![0.3; 7], vec![25.0, 0.3]].concat(), ". . . . . 2 4 2 4"),
        ] {
            assert_eq!(told(&policy, &lives), expected, "{lives:?}");
        }
    }

    #[test]
    fn the_policy_decides() {
        let usual = RebootPolicy::default;
        for (policy, expected) in [
            (RebootPolicy { at_once: 0, ..usual() }, "2 4 8 16 32 x"),
            (RebootPolicy { at_once: 1, pauses: 0, ..usual() }, ". x x x x x"),
            (RebootPolicy { at_once: 0, pauses: 0, ..usual() }, "x x x x x x"),
            (RebootPolicy { at_once: 0, pauses: 3, first_pause_ms: 9_000, ..usual() }, "9 18 36 x x x"),
            // Nothing is ever too long ago to be computed with.
            (RebootPolicy { forget_after_ms: 0, ..usual() }, ". . . . . ."),
        ] {
            assert_eq!(told(&policy, &[0.5; 6]), expected, "{policy:?}");
        }
    }

    #[test]
    fn no_pause_is_too_long_to_be_computed() {
        let policy = RebootPolicy { at_once: 0, pauses: u32::MAX, ..RebootPolicy::default() };
        let mut reboots = Reboots { counted_ms: u64::MAX / 2 };
        assert_eq!(reboots.count(&policy, Duration::MAX), Next::After(Duration::from_secs(2)));
        let mut reboots = Reboots { counted_ms: u64::from(u32::MAX - 1) * 12_000 };
        assert!(
            matches!(reboots.count(&policy, Duration::ZERO), Next::After(pause) if pause.as_secs() > 1 << 20)
        );
    }
}
