//! What the processes of a VPS's group may not do, whatever else they may: open other devices than those of a list, and
//! write sysctls that it may not, the budgets above
//! all that the host has written into its user namespace.
//!
//! Second walls, both. The first for devices: no process in a user namespace makes a device node, and what a volume holds
//! is on a mount without devices. The first for budgets: what one user may have of a thing on the whole host.

use std::fs;
use std::os::fd::AsFd;

use insula_sys::bpf::{Hook, Instruction, attach_to_group};
use insula_types::VpsId;
use serde::{Deserialize, Serialize};

use super::groups::{refused, write};
use super::{CgroupError, CgroupLayout, Controller};

/// Devices that may be opened. None may be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Which kind of device.
    pub kind: DeviceKind,
    /// Its driver's number.
    pub major: u32,
    /// Its number; `None` for all of the driver.
    pub minor: Option<u32>,
}

/// The kinds of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// Such as a terminal.
    Character,
    /// Such as a disk.
    Block,
}

impl DeviceRule {
    /// A character device.
    pub const fn character(major: u32, minor: u32) -> Self {
        Self { kind: DeviceKind::Character, major, minor: Some(minor) }
    }

    /// As `devices.allow` takes it, cgroup-v1/devices.rst.
    fn as_legacy(&self) -> String {
        let kind = match self.kind {
            DeviceKind::Character => 'c',
            DeviceKind::Block => 'b',
        };
        let minor = self.minor.map_or("*".to_owned(), |minor| minor.to_string());
        format!("{kind} {}:{minor} rw", self.major)
    }
}

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
            None => self.attach(id, Hook::Device, &device_program(rules)),
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
        self.attach(id, Hook::Sysctl, &sysctl_program(writable))
    }

    /// A VPS within a VPS has no programs of its own: those of the VPS around it are its, too.
    fn attach(&self, id: &VpsId, hook: Hook, program: &[Instruction]) -> Result<(), CgroupError> {
        let path = self.unified_group(id);
        let attach = || attach_to_group(fs::File::open(&path)?.as_fd(), hook, program);
        match attach() {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) && is_in_user_namespace() => Ok(()),
            result => result
                .map_err(refused("attach a program (does the kernel have CONFIG_CGROUP_BPF?) to", &path)),
        }
    }
}

/// Whether this process has not all ids of the machine: user_namespaces(7).
pub(crate) fn is_in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map");
    map.is_ok_and(|map| !map.split_whitespace().eq(["0", "0", "4294967295"]))
}

// The instructions that are needed: Documentation/bpf/standardization/instruction-set.rst of the kernel.
const LOAD_8: u8 = 0x71;
const LOAD_32: u8 = 0x61;
const STORE_64: u8 = 0x7a;
const SET: u8 = 0xb7;
const COPY: u8 = 0xbf;
const ADD: u8 = 0x07;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const CALL: u8 = 0x85;
const RETURN: u8 = 0x95;

/// The register of the answer, that of the first argument, and that of the end of the program's stack.
const ANSWER: u8 = 0;
const ARGUMENT: u8 = 1;
const STACK: u8 = 10;

const fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, value }
}

/// Ends the program with an answer.
fn answer(is_allowed: bool) -> [Instruction; 2] {
    [instruction(SET, ANSWER, 0, 0, is_allowed.into()), instruction(RETURN, 0, 0, 0, 0)]
}

/// The registers of what a rule is compared with.
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Decides over devices. It is given a `struct bpf_cgroup_dev_ctx`: kind and access in one word, major, minor.
fn device_program(rules: &[DeviceRule]) -> Vec<Instruction> {
    const MAKE: i32 = 1;
    const ACCESS: u8 = 2;
    let mut program = vec![
        instruction(LOAD_32, KIND, ARGUMENT, 0, 0),
        instruction(COPY, ACCESS, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_32, MAJOR, ARGUMENT, 4, 0),
        instruction(LOAD_32, MINOR, ARGUMENT, 8, 0),
        instruction(AND, ACCESS, 0, 0, MAKE),
        instruction(JUMP_IF_EQUAL, ACCESS, 0, 2, 0),
    ];
    program.extend(answer(false)); // to who would make one
    for rule in rules {
        program.extend(compare(rule));
        program.extend(answer(true));
    }
    program.extend(answer(false));
    program
}

/// Goes on with the two instructions of an answer if the device is one of the rule's, else behind them.
fn compare(rule: &DeviceRule) -> Vec<Instruction> {
    let kind = match rule.kind {
        DeviceKind::Block => 1,
        DeviceKind::Character => 2,
    };
    let numbers = [Some((KIND, kind)), Some((MAJOR, rule.major)), rule.minor.map(|minor| (MINOR, minor))];
    let numbers: Vec<_> = numbers.into_iter().flatten().collect();
    let compare = |(done, &(register, number)): (usize, &(u8, u32))| {
        let left = i16::try_from(numbers.len() - 1 - done).unwrap_or(0); // three at most
        instruction(JUMP_UNLESS_EQUAL, register, 0, left + 2, number.cast_signed())
    };
    numbers.iter().enumerate().map(compare).collect()
}

/// How much of a sysctl's name is looked at.
const NAME_LENGTH: usize = 16;

/// Decides over sysctls. It is given a `struct bpf_sysctl`, which begins with whether it is written. Its name is asked for:
/// the beginning is enough.
fn sysctl_program(writable: &[String]) -> Vec<Instruction> {
    const GET_NAME: i32 = 101; // bpf_sysctl_get_name(argument, buffer, its size, flags)
    const CONTEXT: u8 = 6; // a register that a call leaves alone
    let mut program = vec![
        instruction(COPY, CONTEXT, ARGUMENT, 0, 0),
        instruction(LOAD_32, 2, CONTEXT, 0, 0),
        instruction(JUMP_UNLESS_EQUAL, 2, 0, 2, 0),
    ];
    program.extend(answer(true)); // to who reads
    program.extend([
        instruction(STORE_64, STACK, 0, -8, 0),
        instruction(STORE_64, STACK, 0, -16, 0),
        instruction(COPY, ARGUMENT, CONTEXT, 0, 0),
        instruction(COPY, 2, STACK, 0, 0),
        instruction(ADD, 2, 0, 0, -16),
        instruction(SET, 3, 0, 0, 16),
        instruction(SET, 4, 0, 0, 0),
        instruction(CALL, 0, 0, 0, GET_NAME),
    ]);
    for beginning in writable {
        program.extend(begins_with(beginning.as_bytes()));
        program.extend(answer(true));
    }
    program.extend(answer(false));
    program
}

/// Goes on with the two instructions of an answer if the name on the stack begins so, else behind them. The name ends with
/// a zero, which is why only so much fits.
fn begins_with(beginning: &[u8]) -> Vec<Instruction> {
    let beginning = &beginning[..beginning.len().min(NAME_LENGTH - 1)];
    let compare = |(index, letter): (usize, &u8)| {
        let left = beginning.len() - 1 - index; // both below 16
        let (place, left) = (i16::try_from(index).unwrap_or(0) - 16, i16::try_from(left).unwrap_or(0));
        [
            instruction(LOAD_8, 2, STACK, place, 0),
            instruction(JUMP_UNLESS_EQUAL, 2, 0, 2 * left + 2, i32::from(*letter)),
        ]
    };
    beginning.iter().enumerate().flat_map(compare).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers: the few instructions that it has, interpreted.
    fn decide(program: &[Instruction], access: u32, kind: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut next) = ([0_u64; 11], 0);
        loop {
            let Instruction { code, registers: names, offset, value } = program[next];
            let (to, from) = (usize::from(names & 0xf), usize::from(names >> 4));
            let value = u64::from(value.cast_unsigned());
            next += 1;
            let jump = usize::try_from(offset).unwrap();
            match code {
                LOAD_32 => registers[to] = context[jump / 4].into(),
                SET => registers[to] = value,
                COPY => registers[to] = registers[from],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                JUMP_IF_EQUAL if registers[to] == value => next += jump,
                JUMP_UNLESS_EQUAL if registers[to] != value => next += jump,
                JUMP_IF_EQUAL | JUMP_UNLESS_EQUAL => {}
                RETURN => return registers[0] == 1,
                _ => panic!("{code:#x}"),
            }
        }
    }

    #[test]
    fn a_program_allows_what_is_listed() {
        let (block, character, make, read, write) = (1, 2, 1, 2, 4);
        let rules = [
            DeviceRule::character(1, 3),
            DeviceRule { kind: DeviceKind::Character, major: 136, minor: None },
            DeviceRule { kind: DeviceKind::Block, major: 8, minor: Some(1) },
        ];
        let program = device_program(&rules);
        for (access, kind, major, minor, is_allowed) in [
            (read, character, 1, 3, true),
            (read | write, character, 1, 3, true),
            (read, block, 1, 3, false),
            (read, character, 1, 4, false),
            (read, character, 2, 3, false),
            (make, character, 1, 3, false),
            (make | read, character, 136, 9, false),
            (write, character, 136, 9, true),
            (read, block, 8, 1, true),
            (read, block, 8, 2, false),
        ] {
            let decided = decide(&program, access, kind, major, minor);
            assert_eq!(decided, is_allowed, "{access} {kind} {major}:{minor}");
            assert!(!decide(&device_program(&[]), access, kind, major, minor));
        }
    }

    #[test]
    fn rules_are_written_as_v1_takes_them() {
        let all = DeviceRule { kind: DeviceKind::Block, major: 8, minor: None };
        assert_eq!(DeviceRule::character(1, 3).as_legacy(), "c 1:3 rw");
        assert_eq!(all.as_legacy(), "b 8:* rw");
    }
}
