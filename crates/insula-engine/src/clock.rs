//! The time of day. Durations are measured elsewhere, by monotonic clocks.

pub(crate) use insula_sys::clock::now_ms;

/// A day in milliseconds.
pub(crate) const DAY_MS: i64 = 86_400_000;
