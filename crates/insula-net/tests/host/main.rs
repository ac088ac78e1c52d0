//! Tests against the kernel: bridges, veth pairs, NAT and the guard, each in network namespaces of its own.
//! They need root.

mod bridge;
mod elements;
mod guard;
mod nat;
mod scratch;
mod subnet;
mod traffic;
mod veth;
