//! The filter of system calls, compiled from the lists of [`calls`](super::calls).

use std::io::{Read, Seek};
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use insula_types::{Feature, Features};
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::calls::{ArgumentTest, DENIED_IOCTLS, DeniedCall, DeniedIoctl, DeniedWhen, NEWEST_CALL};
use super::error::PlanError;
use super::feature;

/// A compiled filter: the kernel's `struct sock_filter[]`. Base64 in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompFilter(pub Vec<u8>);

impl SeccompFilter {
    /// The filter of a guest without features.
    pub fn standard() -> Result<Self, PlanError> {
        Self::of(&Features::default())
    }

    /// The filter of every guest with these features, compiled once: libseccomp takes its time, and a start should not.
    pub fn of(features: &Features) -> Result<Self, PlanError> {
        // Of all features two make a difference.
        static COMPILED: [OnceLock<SeccompFilter>; 4] = [const { OnceLock::new() }; 4];
        let (keyring, migratable) = (features.has(&Feature::Keyring), features.has(&Feature::Migratable));
        let compiled = &COMPILED[usize::from(keyring) + 2 * usize::from(migratable)];
        if let Some(filter) = compiled.get() {
            return Ok(filter.clone());
        }
        let (calls, when) = feature::plan_calls(features);
        let filter = Self::compile(&calls, &when, &DENIED_IOCTLS)?.without_calls_above(NEWEST_CALL);
        Ok(compiled.get_or_init(|| filter).clone())
    }

    /// Compiles the lists for this machine's processors; on x86-64 for 32-bit programs too.
    pub fn compile(
        calls: &[DeniedCall],
        when: &[DeniedWhen],
        ioctls: &[DeniedIoctl],
    ) -> Result<Self, PlanError> {
        let mut filter = ScmpFilterContext::new(ScmpAction::Allow).map_err(PlanError::Seccomp)?;
        add_rules(&mut filter, calls).map_err(PlanError::Seccomp)?;
        add_conditional_rules(&mut filter, when).map_err(PlanError::Seccomp)?;
        add_ioctl_rules(&mut filter, ioctls).map_err(PlanError::Seccomp)?;
        export(&filter)
    }

    /// The filter that answers `ENOSYS` to calls with a higher number, and is as before for the others. libseccomp has no
    /// rule for numbers that it does not know, but a program can have another in front: its jumps are relative.
    #[must_use]
    pub fn without_calls_above(self, newest: u32) -> Self {
        const NUMBER: u32 = 0; // its offset in `struct seccomp_data`
        const SKIPPED: u32 = u32::MAX; // by a debugger: nothing is called
        let instruction = |code: u32, if_true: u8, if_false: u8, value: u32| {
            let [a, b] = u16::try_from(code).unwrap_or_default().to_ne_bytes();
            let [k0, k1, k2, k3] = value.to_ne_bytes();
            [a, b, if_true, if_false, k0, k1, k2, k3]
        };
        let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
        let mut program = [
            instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, NUMBER),
            instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 0, 2, newest),
            instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, SKIPPED),
            instruction(libc::BPF_RET | libc::BPF_K, 0, 0, missing),
        ]
        .concat();
        program.extend(self.0);
        Self(program)
    }
}

fn add_rules(
    filter: &mut ScmpFilterContext,
    calls: &[DeniedCall],
) -> Result<(), libseccomp::error::SeccompError> {
    if cfg!(target_arch = "x86_64") {
        filter.add_arch(ScmpArch::X86)?;
    }
    filter.set_act_badarch(ScmpAction::Errno(libc::ENOSYS))?;
    filter.set_ctl_optimize(2)?; // a binary tree instead of one comparison after the other
    for call in calls {
        // What the processor or the library does not know can't be called, or is refused by the kernel.
        if let Ok(number) = ScmpSyscall::from_name(call.name) {
            filter.add_rule(ScmpAction::Errno(call.errno), number)?;
        }
    }
    Ok(())
}

fn add_conditional_rules(
    filter: &mut ScmpFilterContext,
    calls: &[DeniedWhen],
) -> Result<(), libseccomp::error::SeccompError> {
    for call in calls {
        let Ok(number) = ScmpSyscall::from_name(call.name) else { continue };
        let action = ScmpAction::Errno(call.errno);
        let conditions = match call.test {
            ArgumentTest::Always => vec![],
            ArgumentTest::HasBits(argument, bits) => {
                let bits = u64::from(bits);
                vec![ScmpArgCompare::new(argument, ScmpCompareOp::MaskedEqual(bits), bits)]
            }
            ArgumentTest::IsNotZero(argument) => {
                vec![ScmpArgCompare::new(argument, ScmpCompareOp::NotEqual, 0)]
            }
        };
        filter.add_rule_conditional(action, number, &conditions)?;
    }
    Ok(())
}

fn add_ioctl_rules(
    filter: &mut ScmpFilterContext,
    ioctls: &[DeniedIoctl],
) -> Result<(), libseccomp::error::SeccompError> {
    let call = ScmpSyscall::from_name("ioctl")?;
    for ioctl in ioctls {
        // The kernel looks at the lower half of the register only, and so must the filter.
        let lower_half = ScmpCompareOp::MaskedEqual(u32::MAX.into());
        let is_it = ScmpArgCompare::new(1, lower_half, ioctl.number.into());
        filter.add_rule_conditional(ScmpAction::Errno(ioctl.errno), call, &[is_it])?;
    }
    Ok(())
}

fn export(filter: &ScmpFilterContext) -> Result<SeccompFilter, PlanError> {
    let io_error = PlanError::SeccompExport;
    let memory = rustix::fs::memfd_create("seccomp", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = std::fs::File::from(memory.map_err(|errno| io_error(errno.into()))?);
    filter.export_bpf(&file).map_err(PlanError::Seccomp)?;
    let mut program = vec![];
    file.rewind().and_then(|()| file.read_to_end(&mut program)).map_err(io_error)?;
    Ok(SeccompFilter(program))
}

impl Serialize for SeccompFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for SeccompFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        BASE64.decode(&*text).map(Self).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::calls::DENIED_CALLS;
    use insula_sys::{btrfs, process};
    use std::os::fd::AsFd;

    #[test]
    fn the_filter_is_compiled_and_survives_json() {
        let filter = SeccompFilter::compile(DENIED_CALLS, &[], &DENIED_IOCTLS).unwrap();
        assert!(
            filter.0.len().is_multiple_of(8) && filter.0.len() / 8 <= 4096,
            "BPF_MAXINSNS: {}",
            filter.0.len()
        );
        let json = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<SeccompFilter>(&json).unwrap(), filter);
    }

    #[test]
    fn a_call_newer_than_the_list_is_missing() {
        // openat2(2) stands for the calls to come: this filter knows those before it only.
        let newest = u32::try_from(libc::SYS_openat2).unwrap() - 1;
        let filter = SeccompFilter::compile(&[], &[], &[]).unwrap();
        let (before, after) = (filter.clone(), filter.without_calls_above(newest));
        let call = |filter: SeccompFilter| {
            std::thread::spawn(move || {
                process::load_seccomp(&filter.0).expect("the filter is loaded as root");
                let (root, flags) = (rustix::fs::CWD, rustix::fs::OFlags::PATH);
                insula_sys::beneath::open(root, "/", insula_sys::beneath::Reach::Anywhere, flags).map(drop)
            })
        };
        assert_eq!(call(before).join().unwrap(), Ok(()));
        assert_eq!(call(after).join().unwrap(), Err(rustix::io::Errno::NOSYS));
    }

    #[test]
    fn calls_and_ioctls_are_refused_as_listed() {
        // Errors of our own choice, which the kernel would not give.
        let call = DeniedCall { name: "keyctl", errno: libc::EXDEV, reason: "" };
        let ioctls = DENIED_IOCTLS.map(|ioctl| DeniedIoctl { errno: libc::EDOM, ..ioctl });
        let filter = SeccompFilter::compile(&[call], &[], &ioctls).unwrap();
        let errors = std::thread::spawn(move || {
            let directory = std::fs::File::open("/").unwrap();
            process::load_seccomp(&filter.0).expect("the filter is loaded as root");
            let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
            let keyring = process::join_new_session_keyring().map(drop);
            (errno(keyring), errno(btrfs::create_subvolume(directory.as_fd(), "x").map(drop)))
        });
        assert_eq!(errors.join().unwrap(), (Some(libc::EXDEV), Some(libc::EDOM)));
    }

    #[test]
    fn a_call_is_refused_by_its_arguments() {
        let errno = |error: std::io::Error| error.raw_os_error();
        let filter = |test| {
            // An error of our own choice, which the kernel would not give.
            let call = DeniedWhen { name: "unshare", test, errno: libc::EXDEV, reason: "" };
            SeccompFilter::compile(&[], &[call], &[]).unwrap()
        };
        let (uts, files) = (nix::sched::CloneFlags::CLONE_NEWUTS, nix::sched::CloneFlags::CLONE_FILES);
        let bits = u32::try_from(uts.bits()).unwrap();
        for (test, flags, is_refused) in [
            (ArgumentTest::HasBits(0, bits), uts, true),
            (ArgumentTest::HasBits(0, bits), uts | files, true),
            (ArgumentTest::HasBits(0, bits), files, false),
            (ArgumentTest::IsNotZero(0), files, true),
            (ArgumentTest::IsNotZero(0), nix::sched::CloneFlags::empty(), false),
            (ArgumentTest::Always, nix::sched::CloneFlags::empty(), true),
        ] {
            let filter = filter(test);
            let call = move || {
                process::load_seccomp(&filter.0).expect("the filter is loaded as root");
                nix::sched::unshare(flags).map_err(std::io::Error::from).map_err(errno)
            };
            let expected = if is_refused { Err(Some(libc::EXDEV)) } else { Ok(()) };
            assert_eq!(std::thread::spawn(call).join().unwrap(), expected, "{test:?} {flags:?}");
        }
    }

    #[test]
    fn every_choice_of_features_has_a_filter_of_its_own() {
        let filter = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            SeccompFilter::of(&Features::try_from(words).unwrap()).unwrap()
        };
        let all =
            [filter(&[]), filter(&["keyring"]), filter(&["migratable"]), filter(&["keyring", "migratable"])];
        for (index, one) in all.iter().enumerate() {
            assert!(all[..index].iter().all(|other| one != other), "{index}");
            assert!(one.0.len() / 8 <= 4096, "BPF_MAXINSNS: {}", one.0.len());
        }
        assert_eq!(filter(&["nesting", "fuse", "tun"]), all[0], "features without calls");
    }
}
