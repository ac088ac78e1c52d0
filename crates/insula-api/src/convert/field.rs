//! Conversions of single fields: parsed texts, times, durations and etags.

use prost_types::{Duration, Timestamp};
use std::fmt::Display;
use std::str::FromStr;

use crate::error::ApiError;

/// Parses a field of a request. `field` is its path.
pub fn parse<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error: T::Err| {
        let said = error.to_string();
        // The errors of other libraries don't say which text they are about.
        let shown: String = text.chars().take(80).collect();
        let names_it = said.contains(&shown) || shown.is_empty();
        ApiError::invalid_field(field, if names_it { said } else { format!("invalid {shown:?}: {said}") })
    })
}

/// Parses a field of a request that may be absent, that is empty.
pub fn parse_optional<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<Option<T>, ApiError> {
    if text.is_empty() { Ok(None) } else { parse(field, text).map(Some) }
}

/// Parses each element of a repeated field of a request.
pub fn parse_all<T: FromStr<Err: Display>>(field: &str, texts: &[String]) -> Result<Vec<T>, ApiError> {
    texts.iter().enumerate().map(|(index, text)| parse(&format!("{field}[{index}]"), text)).collect()
}

/// Converts a duration of a request, which must not be negative.
pub fn duration(field: &str, duration: Duration) -> Result<std::time::Duration, ApiError> {
    let negative = || ApiError::invalid_field(field, "a duration must not be negative");
    // Checked first, because negating the smallest number of seconds would overflow.
    if duration.seconds < 0 {
        return Err(negative());
    }
    duration.try_into().map_err(|_| negative())
}

/// Converts a time in milliseconds since 1970, UTC.
pub fn timestamp_ms(at_ms: i64) -> Timestamp {
    let nanos = i32::try_from(at_ms.rem_euclid(1000) * 1_000_000).unwrap_or(0); // below 10^9
    Timestamp { seconds: at_ms.div_euclid(1000), nanos }
}

/// Converts a time in seconds since 1970, UTC.
pub fn timestamp(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

/// The etag of a revision: a text without meaning for clients (AIP-154).
pub(super) fn etag(revision: u64) -> String {
    format!("r{revision}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_types::{ImageRef, NetworkName, Reason, VpsName};
    use std::time::Duration as StdDuration;

    #[test]
    fn a_bad_field_is_named() {
        let error = parse::<VpsName>("name", "Web").unwrap_err();
        assert_eq!((&*error.fields[0].field, error.reason()), ("name", Some(Reason::InvalidArgument)));
        let networks = ["a".to_owned(), "B".to_owned()];
        let error = parse::<std::net::Ipv4Addr>("ip", "10.0.0.300").unwrap_err();
        assert!(error.message().contains("10.0.0.300"), "{error:?}");
        let error = parse_all::<NetworkName>("networks", &networks).unwrap_err();
        assert_eq!(error.fields[0].field, "networks[1]");
        assert_eq!(parse_optional::<ImageRef>("image", "").unwrap(), None);
        for (seconds, nanos) in [(-1, 0), (0, -1), (i64::MIN, -2), (0, i32::MIN)] {
            assert!(duration("timeout", Duration { seconds, nanos }).is_err());
        }
        assert!(duration("timeout", Duration { seconds: i64::MAX, nanos: i32::MAX }).is_ok());
        let read = duration("timeout", Duration { seconds: 1, nanos: 5 });
        assert_eq!(read.unwrap(), StdDuration::new(1, 5));
    }

    #[test]
    fn times_before_1970_are_times() {
        assert_eq!(timestamp_ms(1500), Timestamp { seconds: 1, nanos: 500_000_000 });
        assert_eq!(timestamp_ms(-1), Timestamp { seconds: -1, nanos: 999_000_000 });
    }
}
