//! The API of an agent for Rust: generated code, conversions, errors and a client.
//!
//! The contract itself is in `/proto`. This crate knows nothing of how an agent does its work.

pub mod access;
pub mod client;
pub mod convert;
pub mod error;
pub mod json;
#[allow(missing_docs, clippy::all)] // generated
pub mod v1;

pub use client::{Client, ConnectError, Endpoint};
pub use error::ApiError;
pub use insula_types::Reason;
pub use v1::FILE_DESCRIPTOR_SET;
