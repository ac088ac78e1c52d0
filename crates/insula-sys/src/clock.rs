//! The time of day. Code that measures a duration uses a monotonic clock instead.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time of day in milliseconds since 1970, UTC. 0 if the clock is set to a time before 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
