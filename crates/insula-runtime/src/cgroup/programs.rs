//! The programs that decide for the kernel what a VPS's group may do: over devices, and over sysctls. Pure: rules in,
//! instructions out.

use std::io;

use insula_sys::bpf::{Assembler, Instruction, Register};

use super::{DeviceKind, DeviceRule};

/// Ends the program with an answer.
fn answer(program: &mut Assembler, is_allowed: bool) {
    program.set(Register::ANSWER, is_allowed.into());
    program.end();
}

/// Decides over devices. It is given a `struct bpf_cgroup_dev_ctx`: kind and access in one word, major, minor. Nobody
/// makes a device; what a rule names may be opened.
pub(super) fn device_program(rules: &[DeviceRule]) -> io::Result<Vec<Instruction>> {
    const MAKE: i32 = 1;
    const ACCESS: Register = Register::ARGUMENT_2;
    const KIND: Register = Register::ARGUMENT_3;
    const MAJOR: Register = Register::ARGUMENT_4;
    const MINOR: Register = Register::ARGUMENT_5;
    let mut program = Assembler::default();
    let opens = program.label();
    program.load_32(KIND, Register::ARGUMENT, 0);
    program.copy(ACCESS, KIND);
    program.and(KIND, 0xffff);
    program.shift_right(ACCESS, 16);
    program.load_32(MAJOR, Register::ARGUMENT, 4);
    program.load_32(MINOR, Register::ARGUMENT, 8);
    program.and(ACCESS, MAKE);
    program.jump_if_equal(ACCESS, 0, opens);
    answer(&mut program, false);
    program.place(opens);
    for rule in rules {
        let kind = match rule.kind {
            DeviceKind::Block => 1,
            DeviceKind::Character => 2,
        };
        let next_rule = program.label();
        program.jump_unless_equal(KIND, kind, next_rule);
        program.jump_unless_equal(MAJOR, rule.major.cast_signed(), next_rule);
        if let Some(minor) = rule.minor {
            program.jump_unless_equal(MINOR, minor.cast_signed(), next_rule);
        }
        answer(&mut program, true);
        program.place(next_rule);
    }
    answer(&mut program, false);
    program.assemble()
}

/// How much of a sysctl's name is looked at. It ends with a zero, which is why only so much fits.
const NAME_LENGTH: i16 = 16;

/// Decides over sysctls. It is given a `struct bpf_sysctl`, which begins with whether the sysctl is written. All may be
/// read; those whose names begin as one of `writable` may be written. The name is asked for.
pub(super) fn sysctl_program(writable: &[String]) -> io::Result<Vec<Instruction>> {
    const IS_WRITTEN: Register = Register::ARGUMENT_2;
    let mut program = Assembler::default();
    let writes = program.label();
    program.copy(Register::KEPT, Register::ARGUMENT);
    program.load_32(IS_WRITTEN, Register::KEPT, 0);
    program.jump_unless_equal(IS_WRITTEN, 0, writes);
    answer(&mut program, true);
    program.place(writes);
    ask_for_name(&mut program, Register::KEPT);
    for beginning in writable {
        const LETTER: Register = Register::ARGUMENT_2;
        let next_name = program.label();
        for (place, letter) in (-NAME_LENGTH..-1).zip(beginning.bytes()) {
            program.load_8(LETTER, Register::STACK, place);
            program.jump_unless_equal(LETTER, letter.into(), next_name);
        }
        answer(&mut program, true);
        program.place(next_name);
    }
    answer(&mut program, false);
    program.assemble()
}

/// Puts the beginning of the sysctl's name at the end of the stack.
fn ask_for_name(program: &mut Assembler, context: Register) {
    const GET_NAME: i32 = 101; // bpf_sysctl_get_name(context, buffer, its size, flags)
    program.store_64(Register::STACK, -8, 0);
    program.store_64(Register::STACK, -16, 0);
    program.copy(Register::ARGUMENT, context);
    program.copy(Register::ARGUMENT_2, Register::STACK);
    program.add(Register::ARGUMENT_2, (-NAME_LENGTH).into());
    program.set(Register::ARGUMENT_3, NAME_LENGTH.into());
    program.set(Register::ARGUMENT_4, 0);
    program.call(GET_NAME);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers: the few instructions that it has, interpreted. Of addresses there are two kinds: offsets
    /// in the context, and from 1,000 on those in the stack, where a call puts the name.
    fn run(program: &[Instruction], context: [u32; 3], name: &str) -> bool {
        const STACK_END: u64 = 1512;
        let (mut registers, mut next) = ([0_u64; 11], 0);
        registers[10] = STACK_END;
        let mut stack = [0_u8; 512];
        loop {
            let Instruction { code, registers: names, offset, value } = program[next];
            let (to, from) = (usize::from(names & 0xf), usize::from(names >> 4));
            let number = i64::from(value).cast_unsigned();
            let address = registers[from].wrapping_add_signed(offset.into());
            next += 1;
            let jump = || usize::try_from(offset).unwrap();
            match code {
                0x61 => registers[to] = context[usize::try_from(address / 4).unwrap()].into(),
                0x71 => registers[to] = stack[usize::try_from(address - 1000).unwrap()].into(),
                0x7a => {} // the stack is empty
                0xb7 => registers[to] = number,
                0xbf => registers[to] = registers[from],
                0x07 => registers[to] = registers[to].wrapping_add(number),
                0x57 => registers[to] &= number,
                0x77 => registers[to] >>= number,
                0x15 if registers[to] == number => next += jump(),
                0x55 if registers[to] != number => next += jump(),
                0x15 | 0x55 => {}
                0x85 => {
                    let (buffer, size) = (registers[2] - 1000, registers[3]);
                    assert_eq!((value, registers[1], registers[4]), (101, 0, 0), "asks for the name");
                    let space =
                        &mut stack[usize::try_from(buffer).unwrap()..][..usize::try_from(size).unwrap()];
                    let last = space.len() - 1; // for the zero at the end
                    space.iter_mut().take(last).zip(name.bytes()).for_each(|(place, letter)| *place = letter);
                }
                0x95 => return registers[0] == 1,
                _ => panic!("{code:#x}"),
            }
        }
    }

    #[test]
    fn devices_that_are_listed_may_be_opened() {
        let (block, character, make, read, write) = (1, 2, 1, 2, 4);
        let rules = [
            DeviceRule::character(1, 3),
            DeviceRule { kind: DeviceKind::Character, major: 136, minor: None },
            DeviceRule { kind: DeviceKind::Block, major: 8, minor: Some(1) },
        ];
        let (program, empty) = (device_program(&rules).unwrap(), device_program(&[]).unwrap());
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
            let context = [access << 16 | kind, major, minor];
            assert_eq!(run(&program, context, ""), is_allowed, "{access} {kind} {major}:{minor}");
            assert!(!run(&empty, context, ""));
        }
    }

    #[test]
    fn sysctls_that_are_listed_may_be_written() {
        let program = sysctl_program(&["net/".to_owned(), "fs/mqueue/".to_owned()]).unwrap();
        for (name, is_writable) in [
            ("net/ipv4/ip_forward", true),
            ("net/", true),
            ("net", false),
            ("fs/mqueue/msg_max", true),
            ("fs/mqueu", false),
            ("fs/file-max", false),
            ("user/max_user_namespaces", false),
            ("", false),
        ] {
            assert!(run(&program, [0, 0, 0], name), "{name} may be read");
            assert_eq!(run(&program, [1, 0, 0], name), is_writable, "{name}");
        }
        assert!(!run(&sysctl_program(&[]).unwrap(), [1, 0, 0], "net/"));
        let long = sysctl_program(&["kernel/a_very_long_name".to_owned()]).unwrap();
        assert!(run(&long, [1, 0, 0], "kernel/a_very_long_name"), "only the beginning is looked at");
    }
}
