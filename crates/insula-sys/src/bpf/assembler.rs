//! Assembles programs for cgroups. A jump names a label instead of a distance, so nobody has to count instructions.
//!
//! There are only the instructions that are needed. The kernel's `Documentation/bpf/standardization/instruction-set.rst` has
//! the whole set.

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

/// An instruction in the kernel's format: `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// The operation.
    pub code: u8,
    /// The register that is changed in the lower four bits, the other register in the upper four.
    pub registers: u8,
    /// The distance of a jump in instructions, or the offset of a memory address in bytes.
    pub offset: i16,
    /// A constant.
    pub value: i32,
}

/// A register of the kernel's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(u8);

impl Register {
    /// The result of a call, and of the program.
    pub const ANSWER: Self = Self(0);
    /// The program's only argument, and the first argument of a call.
    pub const ARGUMENT: Self = Self(1);
    /// The second argument of a call. A call destroys all arguments.
    pub const ARGUMENT_2: Self = Self(2);
    /// The third argument of a call.
    pub const ARGUMENT_3: Self = Self(3);
    /// The fourth argument of a call.
    pub const ARGUMENT_4: Self = Self(4);
    /// The fifth argument of a call.
    pub const ARGUMENT_5: Self = Self(5);
    /// A register that a call preserves.
    pub const KEPT: Self = Self(6);
    /// The address after the program's stack, which is the 512 bytes below it.
    pub const STACK: Self = Self(10);
}

/// A place in a program that jumps can lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// A program that is being assembled.
#[derive(Debug, Default)]
pub struct Assembler {
    instructions: Vec<Instruction>,
    /// For each jump, its index in `instructions` and its label.
    jumps: Vec<(usize, Label)>,
    /// For each label, the index of the instruction after it, once it is placed.
    places: Vec<Option<usize>>,
}

impl Assembler {
    /// Makes a label that has no place yet.
    pub fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Places a label before the next instruction.
    pub fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.instructions.len());
    }

    /// Reads the byte at the address in `from`, plus `offset` bytes.
    pub fn load_8(&mut self, to: Register, from: Register, offset: i16) {
        self.push(LOAD_8, to, from, offset, 0);
    }

    /// Reads four bytes at the address in `from`, plus `offset` bytes.
    pub fn load_32(&mut self, to: Register, from: Register, offset: i16) {
        self.push(LOAD_32, to, from, offset, 0);
    }

    /// Writes a number as eight bytes to the address in `to`, plus `offset` bytes.
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

    /// Adds a number to a register.
    pub fn add(&mut self, register: Register, value: i32) {
        self.push(ADD, register, Register(0), 0, value);
    }

    /// Clears the bits of a register that `value` has not set.
    pub fn and(&mut self, register: Register, value: i32) {
        self.push(AND, register, Register(0), 0, value);
    }

    /// Shifts a register to the right.
    pub fn shift_right(&mut self, register: Register, bits: i32) {
        self.push(SHIFT_RIGHT, register, Register(0), 0, bits);
    }

    /// Jumps to the label if a register has this value.
    pub fn jump_if_equal(&mut self, register: Register, value: i32, label: Label) {
        self.jump(JUMP_IF_EQUAL, register, value, label);
    }

    /// Jumps to the label unless a register has this value.
    pub fn jump_unless_equal(&mut self, register: Register, value: i32, label: Label) {
        self.jump(JUMP_UNLESS_EQUAL, register, value, label);
    }

    /// Calls a function of the kernel by its number: `enum bpf_func_id`.
    pub fn call(&mut self, function: i32) {
        self.push(CALL, Register(0), Register(0), 0, function);
    }

    /// Ends the program. Its result is in [`Register::ANSWER`].
    pub fn end(&mut self) {
        self.push(RETURN, Register(0), Register(0), 0, 0);
    }

    /// Resolves the labels and returns the program.
    ///
    /// # Errors
    /// `EINVAL` if a jump leads backwards or to a label without a place; `E2BIG` if it leads more than 32767 instructions ahead.
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
