//! What a guest is, on whichever host it runs. It names no path, id, bridge or group of the host's.
//!
//! This part of a plan goes along when a guest moves: the other host makes a [`HostBinding`](super::HostBinding) of its
//! own for it. What the VPS's limits come to is in that binding, because each host enforces them in its own way.

use std::net::IpAddr;

use insula_types::{Features, InitKind, InterfaceName, Limits, MacAddress};
use serde::{Deserialize, Serialize};

use super::capability::DROPPED_CAPABILITIES;
use super::device;
use super::error::{MAX_INTERFACES, PlanError};
use super::feature;
use super::filesystem::{self, MountStep, RunFile, Symlink};
use super::init::{InitPlan, plan_init};
use super::seccomp::SeccompFilter;

/// What a guest is, on whichever host it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSpec {
    /// The guest's name for itself.
    pub hostname: String,
    /// The program that is executed as init: its command line, its signal, its readiness.
    pub init: InitPlan,
    /// What is mounted in the guest, in this order.
    pub mounts: Vec<MountStep>,
    /// The device nodes that the guest gets, by their names below `/dev`.
    pub devices: Vec<String>,
    /// Symbolic links below `/dev`.
    pub links: Vec<Symlink>,
    /// Files below `/run`.
    pub run_files: Vec<RunFile>,
    /// Paths that are covered with nothing, where they exist.
    pub masked: Vec<String>,
    /// Paths that can't be written, where they exist.
    pub read_only: Vec<String>,
    /// The beginnings of the names of sysctls that it may write where the kernel lets it. Held where there are budgets.
    pub writable_sysctls: Vec<String>,
    /// Its network interfaces.
    pub nics: Vec<GuestNic>,
    /// The capabilities that no process of the guest ever has, by their numbers.
    pub dropped_capabilities: Vec<u32>,
    /// The system calls that are refused.
    pub seccomp: SeccompFilter,
}

/// A network interface as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNic {
    /// The interface's name inside the guest.
    pub name: InterfaceName,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Its addresses with the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where the default route goes.
    pub gateway: Option<IpAddr>,
}

/// What a guest is planned from: what the VPS's spec says, and nothing of a host.
#[derive(Debug, Clone)]
pub struct GuestInput<'a> {
    /// The guest's name for itself.
    pub hostname: &'a str,
    /// The limits of the VPS.
    pub limits: &'a Limits,
    /// What is open to it.
    pub features: &'a Features,
    /// Which init its image boots.
    pub init: InitKind,
    /// Its interfaces, at most [`MAX_INTERFACES`].
    pub nics: Vec<GuestNic>,
    /// Files for its `/run`.
    pub run_files: Vec<RunFile>,
    /// What init's environment has beyond the usual, as `NAME=value`.
    pub environment: Vec<String>,
}

/// Plans what a guest is. Pure, but for the compilation of the system call filter by libseccomp.
pub fn plan_guest(input: &GuestInput<'_>) -> Result<GuestSpec, PlanError> {
    check(input)?;
    let features = input.features;
    Ok(GuestSpec {
        hostname: input.hostname.to_owned(),
        init: plan_init(input.init, &input.environment),
        mounts: filesystem::plan_mounts(input.limits.memory, features),
        devices: device::plan_names(feature::wanted_devices(features)),
        links: filesystem::plan_links(),
        run_files: input.run_files.clone(),
        masked: filesystem::plan_masked(features),
        read_only: filesystem::READ_ONLY.map(str::to_owned).to_vec(),
        writable_sysctls: feature::plan_writable_sysctls(features),
        nics: input.nics.clone(),
        dropped_capabilities: DROPPED_CAPABILITIES.iter().map(|dropped| dropped.number).collect(),
        seccomp: SeccompFilter::of(features)?,
    })
}

fn check(input: &GuestInput<'_>) -> Result<(), PlanError> {
    if !(1..=64).contains(&input.hostname.len()) {
        return Err(PlanError::Hostname { hostname: input.hostname.to_owned() });
    }
    if input.nics.len() > MAX_INTERFACES {
        return Err(PlanError::Interfaces { count: input.nics.len() });
    }
    match input.run_files.iter().find(|file| !file.has_plain_path()) {
        Some(file) => Err(PlanError::RunFile { path: file.path.clone() }),
        None => Ok(()),
    }
}
