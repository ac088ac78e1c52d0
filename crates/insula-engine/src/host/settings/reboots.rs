//! How often guests may boot in a row.

use insula_runtime::RebootPolicy;
use serde::Deserialize;

/// How often a guest may reboot or crash in a row: see [`RebootPolicy`].
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RebootSettings {
    /// How many boots that end quickly are followed by another at once.
    pub at_once: u32,
    /// Seconds that a guest must live for one of them to be forgotten.
    pub forget_after_s: u64,
    /// Milliseconds of the first pause; each is twice as long as the one before.
    pub first_pause_ms: u64,
    /// How many pauses there are before a guest is given up.
    pub pauses: u32,
}

impl Default for RebootSettings {
    fn default() -> Self {
        let RebootPolicy { at_once, forget_after_ms, first_pause_ms, pauses, .. } = RebootPolicy::default();
        Self { at_once, forget_after_s: forget_after_ms / 1000, first_pause_ms, pauses }
    }
}

impl RebootSettings {
    /// For a plan.
    pub(crate) fn policy(&self) -> RebootPolicy {
        RebootPolicy {
            at_once: self.at_once,
            forget_after_ms: self.forget_after_s.saturating_mul(1000),
            first_pause_ms: self.first_pause_ms,
            pauses: self.pauses,
            ..RebootPolicy::default()
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        const DAY_S: u64 = 24 * 60 * 60;
        if !(1..=DAY_S).contains(&self.forget_after_s) {
            return Err("reboots.forget_after_s: it must be at least 1 and at most 86400".to_owned());
        }
        if !(1..=DAY_S * 1000).contains(&self.first_pause_ms) {
            return Err("reboots.first_pause_ms: it must be at least 1 and at most 86400000".to_owned());
        }
        match self.pauses {
            0..=16 => Ok(()), // the last is 2^15 times the first
            _ => Err("reboots.pauses: it must be at most 16".to_owned()),
        }
    }
}
