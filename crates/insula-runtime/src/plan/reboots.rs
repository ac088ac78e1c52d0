//! How often a guest may boot in a row, as data for its monitor.

use insula_types::CrashPolicy;
use serde::{Deserialize, Serialize};

/// What the monitor does when its guest reboots or crashes.
///
/// The monitor counts the boots that have ended, and forgets one for each [`forget_after_ms`](Self::forget_after_ms) that the
/// guest has lived. Up to [`at_once`](Self::at_once), it boots the guest again without a pause. Beyond that, it pauses before
/// each boot, twice as long as the time before. After [`pauses`](Self::pauses) of them, it gives up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RebootPolicy {
    /// What the monitor does when init crashes.
    pub on_crash: CrashPolicy,
    /// How many boots that end quickly are followed by another at once.
    pub at_once: u32,
    /// How long a guest must live for one end to be forgotten: milliseconds.
    pub forget_after_ms: u64,
    /// The first pause: milliseconds.
    pub first_pause_ms: u64,
    /// How many pauses there are before it is given up.
    pub pauses: u32,
}

impl Default for RebootPolicy {
    /// Five within a minute at once, as systemd's units are limited; then pauses of 2, 4, 8, 16 and 32 seconds.
    fn default() -> Self {
        Self {
            on_crash: CrashPolicy::default(),
            at_once: 5,
            forget_after_ms: 12_000,
            first_pause_ms: 2_000,
            pauses: 5,
        }
    }
}
