//! How often a guest may boot in a row: the data that the monitor goes by.

use insula_types::CrashPolicy;
use serde::{Deserialize, Serialize};

/// What follows when a guest reboots or crashes.
///
/// A boot that ends counts one, and one is forgotten for each [`forget_after_ms`](Self::forget_after_ms) that the guest
/// has lived. Up to [`at_once`](Self::at_once) it is booted again at once; beyond that, after pauses of which each is twice
/// as long as the one before; and when there were [`pauses`](Self::pauses) of them, not any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RebootPolicy {
    /// What follows when init crashes.
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
