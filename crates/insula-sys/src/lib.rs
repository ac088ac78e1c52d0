//! What the kernel can do and no maintained library offers: system calls and ioctls. Also the one way to look up a path
//! that somebody else has chosen, the one way through a tree of files, and the one way to run an external program. Thin: a
//! function here does one thing, returns the errno, and decides nothing.
//!
//! `unsafe` lives in this crate. Only processes of the monitor call an unsafe function of it: they close what they have
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
pub mod walk;
