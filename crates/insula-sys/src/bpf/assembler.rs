//! Programs of cgroups, put together with labels: a jump names the place that it leads to, and nobody counts.
//!
//! Only the instructions that are needed: `Documentation/bpf/standardization/instruction-set.rst` of the kernel.

use std::io;

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

/// An instruction, as the kernel takes it: `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u8,
    /// The number of the register that is changed, and that of the other one in the upper half.
    pub registers: u8,
    /// How far it jumps, or where in memory.
    pub offset: i16,
    /// A number.
    pub value: i32,
}

/// A register of the kernel's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(u8);

impl Register {
    /// The answer: of a call, and of the program.
    pub const ANSWER: Self = Self(0);
    /// The program's only argument, and the first one of a call.
    pub const ARGUMENT: Self = Self(1);
    /// The further arguments of a call, which a call does not keep.
    pub const ARGUMENT_2: Self = Self(2);
    /// See [`Self::ARGUMENT_2`].
    pub const ARGUMENT_3: Self = Self(3);
    /// See [`Self::ARGUMENT_2`].
    pub const ARGUMENT_4: Self = Self(4);
    /// See [`Self::ARGUMENT_2`].
    pub const ARGUMENT_5: Self = Self(5);
    /// A register that a call keeps.
    pub const KEPT: Self = Self(6);
    /// The end of the program's stack, 512 bytes that lie before it.
    pub const STACK: Self = Self(10);
}

/// A place in a program, to which jumps lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// A program that is being put together.
#[derive(Debug, Default)]
pub struct Assembler {
    instructions: Vec<Instruction>,
    /// Where the jumps are, and where they lead.
    jumps: Vec<(usize, Label)>,
    /// Where the labels are, as far as that is known.
    places: Vec<Option<usize>>,
}

impl Assembler {
    /// A label whose place is not known yet.
    pub fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// The label's place is before the next instruction.
    pub fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.instructions.len());
    }

    /// Reads the byte at an address that a register has, plus `offset`.
    pub fn load_8(&mut self, to: Register, from: Register, offset: i16) {
        self.push(LOAD_8, to, from, offset, 0);
    }

    /// Reads four bytes.
    pub fn load_32(&mut self, to: Register, from: Register, offset: i16) {
        self.push(LOAD_32, to, from, offset, 0);
    }

    /// Writes a number as eight bytes.
    pub fn store_64(&mut self, to: Register, offset: i16, value: i32) {
        self.push(STORE_64, to, Register(0), offset, value);
    }

    /// Sets a register to a number.
    pub fn set(&mut self, register: Register, value: i32) {
        self.push(SET, register, Register(0), 0, value);
    }

    /// Copies a register to another.
    pub fn copy(&mut self, to: Register, from: Register) {
        self.push(COPY, to, from, 0, 0);
    }

    /// Adds a number.
    pub fn add(&mut self, register: Register, value: i32) {
        self.push(ADD, register, Register(0), 0, value);
    }

    /// Keeps only the bits of a number.
    pub fn and(&mut self, register: Register, value: i32) {
        self.push(AND, register, Register(0), 0, value);
    }

    /// Shifts to the right.
    pub fn shift_right(&mut self, register: Register, bits: i32) {
        self.push(SHIFT_RIGHT, register, Register(0), 0, bits);
    }

    /// Goes on at the label if a register has this value.
    pub fn jump_if_equal(&mut self, register: Register, value: i32, label: Label) {
        self.jump(JUMP_IF_EQUAL, register, value, label);
    }

    /// Goes on at the label unless a register has this value.
    pub fn jump_unless_equal(&mut self, register: Register, value: i32, label: Label) {
        self.jump(JUMP_UNLESS_EQUAL, register, value, label);
    }

    /// Calls a function of the kernel by its number: `enum bpf_func_id`.
    pub fn call(&mut self, function: i32) {
        self.push(CALL, Register(0), Register(0), 0, function);
    }

    /// Ends the program with [`Register::ANSWER`].
    pub fn end(&mut self) {
        self.push(RETURN, Register(0), Register(0), 0, 0);
    }

    /// The program.
    ///
    /// # Errors
    /// `EINVAL` for a jump that leads back or to a label without a place, `E2BIG` for one that leads too far.
    pub fn assemble(mut self) -> io::Result<Vec<Instruction>> {
        for (jump, label) in self.jumps {
            let place = self.places[label.0].and_then(|place| place.checked_sub(jump + 1));
            let distance = place.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
            self.instructions[jump].offset =
                distance.try_into().map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
        }
        Ok(self.instructions)
    }

    fn jump(&mut self, code: u8, register: Register, value: i32, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.push(code, register, Register(0), 0, value);
    }

    fn push(&mut self, code: u8, to: Register, from: Register, offset: i16, value: i32) {
        self.instructions.push(Instruction { code, registers: to.0 | from.0 << 4, offset, value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_lead_to_their_labels() {
        let mut program = Assembler::default();
        let (near, far) = (program.label(), program.label());
        program.jump_if_equal(Register::ARGUMENT, 1, far);
        program.jump_unless_equal(Register::ARGUMENT, 2, near);
        program.place(near);
        program.set(Register::ANSWER, 0);
        program.place(far);
        program.end();
        let offsets: Vec<i16> =
            program.assemble().unwrap().iter().map(|instruction| instruction.offset).collect();
        assert_eq!(offsets, [2, 0, 0, 0]);
    }

    #[test]
    fn a_jump_that_leads_nowhere_is_refused() {
        let errno = |program: Assembler| program.assemble().unwrap_err().raw_os_error();
        let mut nowhere = Assembler::default();
        let label = nowhere.label();
        nowhere.jump_if_equal(Register::ANSWER, 0, label);
        assert_eq!(errno(nowhere), Some(libc::EINVAL));
        let mut back = Assembler::default();
        let label = back.label();
        back.place(label);
        back.jump_if_equal(Register::ANSWER, 0, label);
        assert_eq!(errno(back), Some(libc::EINVAL));
        let mut too_far = Assembler::default();
        let label = too_far.label();
        too_far.jump_if_equal(Register::ANSWER, 0, label);
        (0..40_000).for_each(|_| too_far.end());
        too_far.place(label);
        assert_eq!(errno(too_far), Some(libc::E2BIG));
    }
}
