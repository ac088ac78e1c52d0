//! What the kernel can do and no maintained library offers: system calls, ioctls; the one way to look up a path that
//! nobody vouches for, and the one way to run an external program. Thin: a function here does one thing, returns the
//! errno, and decides nothing.
//!
//! `unsafe` lives in this crate. Processes of the monitor alone call an unsafe function of it: they close what they have
//! inherited.

pub mod beneath;
pub mod bpf;
pub mod btrfs;
pub mod clock;
pub mod loopdev;
pub mod mount;
pub mod netlink;
pub mod process;
pub mod program;
pub mod user_namespace;
