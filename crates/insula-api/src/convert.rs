//! Conversions between the messages of the API and the types of Insula.
//!
//! Types always convert to messages. Messages are checked as they convert to types: an error names
//! the path of the field, as `BadRequest` wants it.

mod access;
mod event;
mod feature;
mod field;
mod file;
mod host;
mod limits;
mod operation;
mod supervision;
mod vps;

pub use access::role;
pub use feature::features;
pub use field::{duration, parse, parse_all, parse_optional, timestamp, timestamp_ms};
pub use file::{file_item, path_fields, path_of, skip};
pub use limits::{amount, limits, set_amount};
pub use supervision::supervision;
pub use vps::vps_state;
