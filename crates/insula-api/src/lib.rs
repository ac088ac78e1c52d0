//! The API of an agent for Rust: generated code, conversions, errors and a client.
//!
//! The contract itself is in `/proto`. This crate knows nothing of how an agent does its work.

pub mod access;
pub mod client;
pub mod convert;
pub mod error;
pub mod json;

/// The messages and services of package `insula.v1`, generated from `/proto/insula/v1`.
#[allow(missing_docs, clippy::all)] // generated
pub mod v1 {
    tonic::include_proto!("insula.v1");
}

/// The encoded descriptors of all protos and of what they import, for reflection and for JSON.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/insula.v1.bin"));

pub use client::{Client, ConnectError, Endpoint};
pub use error::ApiError;
pub use insula_types::Reason;
