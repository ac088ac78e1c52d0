//! Frozen copies of the messages of older versions of Insula. They must never follow changes of the
//! present ones.

pub mod protocol_2;
