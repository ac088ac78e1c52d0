//! Frozen copies of what older versions of Insula say. Nothing here follows the present: that is the point of it.

pub mod protocol_2;
