//! What the processes of a VPS's group may not do, whatever else they may: open devices that are not listed, and write
//! sysctls that are not listed, above all the budgets that the host has written into the guest's user namespace.
//!
//! Second walls, both. The first for devices: no process in a user namespace makes a device node, and what a volume holds
//! is on a mount without devices. The first for budgets: what one user may have of a thing on the whole host.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use insula_sys::bpf::{Hook, Instruction, attach_to_group};
use insula_sys::user_namespace::is_nested;
use insula_types::VpsId;

use super::groups::{refused, write};
use super::programs::{device_program, sysctl_program};
use super::{CgroupError, CgroupLayout, Controller, DeviceRule};

impl CgroupLayout {
    /// Lets the VPS's processes open these devices and no others: by the controller of v1 where the host has it, else by
    /// a program. Once for a group.
    pub(crate) fn guard_devices(&self, id: &VpsId, rules: &[DeviceRule]) -> Result<(), CgroupError> {
        match self.group_with(Controller::Devices, id) {
            Some(group) => {
                write(&group.join("devices.deny"), "a")?;
                let allow = group.join("devices.allow");
                rules.iter().try_for_each(|rule| write(&allow, &rule.as_legacy()))
            }
            None => self.attach(id, Hook::Device, device_program(rules)),
        }
    }

    /// Lets the VPS's processes make and open all devices, for as long as the monitor is the only one: where v1 has the
    /// controller, it is in the group itself.
    pub(crate) fn open_devices(&self, id: &VpsId) -> Result<(), CgroupError> {
        match self.group_with(Controller::Devices, id) {
            Some(group) => write(&group.join("devices.allow"), "a"),
            None => Ok(()),
        }
    }

    /// Keeps the VPS's processes from writing other sysctls than those whose names begin so: those of the host, which is
    /// the kernel's to see to, and the limits of their user namespaces, `user/`. Once for a group.
    pub(crate) fn guard_sysctls(&self, id: &VpsId, writable: &[String]) -> Result<(), CgroupError> {
        self.attach(id, Hook::Sysctl, sysctl_program(writable))
    }

    /// A VPS within a VPS has no programs of its own: those of the VPS around it are its, too.
    fn attach(
        &self,
        id: &VpsId,
        hook: Hook,
        program: io::Result<Vec<Instruction>>,
    ) -> Result<(), CgroupError> {
        let path = self.unified_group(id);
        let attach = || attach_to_group(fs::File::open(&path)?.as_fd(), hook, &program?);
        match attach() {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) && is_nested().unwrap_or_default() => {
                Ok(())
            }
            result => result
                .map_err(refused("attach a program (does the kernel have CONFIG_CGROUP_BPF?) to", &path)),
        }
    }
}
