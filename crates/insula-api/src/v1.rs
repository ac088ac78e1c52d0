//! The messages and services of package `insula.v1`, generated from `/proto/insula/v1`.

tonic::include_proto!("insula.v1");

/// The encoded descriptors of all protos and of what they import, for reflection and for JSON.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/insula.v1.bin"));
