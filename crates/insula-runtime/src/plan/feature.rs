//! What the features of a VPS open, and what `migratable` closes: one table for each wall. `docs/features.md` says the same
//! to people.
//!
//! No feature gives a capability back: all that they open is held against the guest's own namespaces by the kernel, or
//! is a device.

use insula_types::{Feature, Features};

use super::calls::{ArgumentTest, DENIED_CALLS, DeniedCall, DeniedWhen};
use super::error::PlanError;
use crate::host_device::HostDevice;

/// A system call of [`DENIED_CALLS`] that a feature opens.
#[derive(Debug, Clone)]
pub struct OpenedCall {
    /// The feature that opens it.
    pub feature: Feature,
    /// The system call's name.
    pub name: &'static str,
    /// Why it can be opened.
    pub reason: &'static str,
}

/// The calls that features open. Containers need none: the init of every guest makes namespaces and mounts, too.
pub const OPENED_CALLS: [OpenedCall; 3] = [
    opened(Feature::Keyring, "add_key", "keys count against the guest's own ids"),
    opened(Feature::Keyring, "keyctl", "keyrings belong to the guest's user namespace"),
    opened(
        Feature::Keyring,
        "request_key",
        "finds keys of the guest's own; what would ask the host is below",
    ),
];

const fn opened(feature: Feature, name: &'static str, reason: &'static str) -> OpenedCall {
    OpenedCall { feature, name, reason }
}

/// A system call that is refused, by its arguments, to a guest with a feature.
#[derive(Debug, Clone)]
pub struct ClosedCall {
    /// The feature that opens it.
    pub feature: Feature,
    /// Which call, and when.
    pub call: DeniedWhen,
}

const NESTED: &str = "a nested namespace of this kind can't be checkpointed";

/// All of them.
#[rustfmt::skip] // a table
pub const CLOSED_CALLS: &[ClosedCall] = &[
    closed(Feature::Keyring, "request_key", ArgumentTest::IsNotZero(2), libc::ENOSYS,
        "with callout information the kernel runs the host's /sbin/request-key: request_key(2)"),
    closed(Feature::Migratable, "unshare", flag(libc::CLONE_NEWUTS), libc::EPERM, NESTED),
    closed(Feature::Migratable, "unshare", flag(libc::CLONE_NEWIPC), libc::EPERM, NESTED),
    closed(Feature::Migratable, "unshare", flag(libc::CLONE_NEWUSER), libc::EPERM, NESTED),
    closed(Feature::Migratable, "unshare", flag(libc::CLONE_NEWPID), libc::EPERM, NESTED),
    closed(Feature::Migratable, "clone", flag(libc::CLONE_NEWUTS), libc::EPERM, NESTED),
    closed(Feature::Migratable, "clone", flag(libc::CLONE_NEWIPC), libc::EPERM, NESTED),
    closed(Feature::Migratable, "clone", flag(libc::CLONE_NEWUSER), libc::EPERM, NESTED),
    closed(Feature::Migratable, "clone", flag(libc::CLONE_NEWPID), libc::EPERM, NESTED),
    closed(Feature::Migratable, "clone3", ArgumentTest::Always, libc::ENOSYS,
        "its flags are in memory, which the filter can't look into; programs fall back to clone"),
    closed(Feature::Migratable, "io_uring_setup", ArgumentTest::Always, libc::ENOSYS,
        "a ring can't be checkpointed"),
];

const fn closed(
    feature: Feature,
    name: &'static str,
    test: ArgumentTest,
    errno: i32,
    reason: &'static str,
) -> ClosedCall {
    ClosedCall { feature, call: DeniedWhen { name, test, errno, reason } }
}

/// The flags of clone(2) and unshare(2) are their first argument: of clone on all architectures but s390 and CRIS.
const fn flag(flag: i32) -> ArgumentTest {
    ArgumentTest::HasBits(0, flag.cast_unsigned())
}

/// The calls that a guest with these features is refused.
pub(super) fn plan_calls(features: &Features) -> (Vec<DeniedCall>, Vec<DeniedWhen>) {
    let is_opened = |call: &&DeniedCall| {
        OPENED_CALLS.iter().any(|opened| opened.name == call.name && features.has(&opened.feature))
    };
    let denied: Vec<DeniedCall> = DENIED_CALLS.iter().filter(|call| !is_opened(call)).copied().collect();
    let is_denied = |name| denied.iter().any(|call| call.name == name);
    let closed = CLOSED_CALLS.iter().filter(|closed| features.has(&closed.feature)).map(|closed| closed.call);
    let closed = closed.filter(|call| !is_denied(call.name)).collect();
    (denied, closed)
}

/// The paths, below the host's `/dev`, of the devices that a guest with these features is given.
pub fn wanted_devices(features: &Features) -> impl Iterator<Item = &str> {
    features.iter().filter_map(|feature| match feature {
        Feature::Fuse => Some("fuse"),
        Feature::Tun => Some("net/tun"),
        Feature::Device(name) => Some(name.as_str()),
        _ => None,
    })
}

/// The devices that a guest with these features is given, each with the permissions of its node.
pub(super) fn plan_host_devices<'a>(
    features: &Features,
    observed: &'a [HostDevice],
) -> Result<Vec<(&'a HostDevice, u32)>, PlanError> {
    let find = |name: &str| {
        let device = observed.iter().find(|device| device.name == name);
        // What fuse and tun are for is what every user of a machine may do.
        let mode = if ["fuse", "net/tun"].contains(&name) { 0o666 } else { 0o660 };
        device.map(|device| (device, mode)).ok_or_else(|| PlanError::Device { name: name.to_owned() })
    };
    wanted_devices(features).map(find).collect()
}

/// Where below `/proc/sys` a guest may write what the kernel lets it. Network settings are those of its own interfaces and
/// sockets, and every guest may. `privileged-sysctls` opens those of its own IPC and pid namespaces, of which the
/// kernel keeps what they allow: no file of the host's belongs to a guest, whatever is written here.
pub(super) fn plan_writable_sysctls(features: &Features) -> Vec<String> {
    const EVERYBODY: [&str; 1] = ["net/"];
    const PRIVILEGED: [&str; 2] = ["kernel/", "fs/mqueue/"];
    let privileged = PRIVILEGED.into_iter().filter(|_| features.has(&Feature::PrivilegedSysctls));
    EVERYBODY.into_iter().chain(privileged).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::DeviceKind;
    use crate::plan::{budget, device, filesystem};

    fn features(words: &[&str]) -> Features {
        Features::try_from(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn device(name: &str, major: u32, minor: u32) -> HostDevice {
        HostDevice { name: name.to_owned(), kind: DeviceKind::Character, major, minor }
    }

    /// Every feature, and what is another than without it: calls that are open or closed, devices, sysctls, whether
    /// covers, mounts and budgets differ.
    #[test]
    fn each_feature_opens_what_its_row_says_and_nothing_else() {
        let observed = [device("fuse", 10, 229), device("net/tun", 10, 200), device("kvm", 10, 232)];
        let none = features(&[]);
        let names = |(denied, when): &(Vec<DeniedCall>, Vec<DeniedWhen>)| {
            let mut names: Vec<_> = denied.iter().map(|call| call.name).collect();
            names.extend(when.iter().map(|call| call.name));
            names.sort_unstable();
            names.dedup();
            names
        };
        type Row = (
            &'static str,
            &'static [&'static str],
            &'static [&'static str],
            &'static [&'static str],
            bool,
            bool,
        );
        let rows: [Row; 7] = [
            // feature, calls opened, calls closed, devices, covers differ, mounts and budgets differ
            ("nesting", &[], &[], &[], false, true),
            ("fuse", &[], &[], &["fuse"], false, false),
            ("tun", &[], &[], &["net/tun"], false, false),
            ("keyring", &["add_key", "keyctl"], &[], &[], true, false),
            ("migratable", &[], &["clone", "clone3", "unshare"], &[], false, false),
            ("privileged-sysctls", &[], &[], &[], false, false),
            ("device:kvm", &[], &[], &["kvm"], false, false),
        ];
        for (feature, opened, closed, devices, covers, nested) in rows {
            let own = features(&[feature]);
            let (before, after) = (names(&plan_calls(&none)), names(&plan_calls(&own)));
            let without = |all: &[&'static str], others: &[&'static str]| -> Vec<&'static str> {
                all.iter().copied().filter(|name| !others.contains(name)).collect()
            };
            assert_eq!(without(&before, &after), opened, "{feature}: opened");
            assert_eq!(without(&after, &before), closed, "{feature}: closed");
            let planned = plan_host_devices(&own, &observed).unwrap();
            assert_eq!(
                planned.iter().map(|(device, _)| &*device.name).collect::<Vec<_>>(),
                devices,
                "{feature}"
            );
            let is_privileged = feature == "privileged-sysctls";
            assert_eq!(plan_writable_sysctls(&own).len(), if is_privileged { 3 } else { 1 }, "{feature}");
            assert_eq!(filesystem::plan_masked(&own) != filesystem::plan_masked(&none), covers, "{feature}");
            let mounts = |features| filesystem::plan_mounts(None, features);
            assert_eq!(mounts(&own) != mounts(&none), nested, "{feature}");
            assert_eq!(budget::plan_budgets(&own) != budget::plan_budgets(&none), nested, "{feature}");
        }
    }

    #[test]
    fn what_is_nested_can_not_be_made_in_a_migratable_guest() {
        let (_, when) = plan_calls(&features(&["migratable"]));
        for call in ["unshare", "clone"] {
            let flags = when.iter().filter(|denied| denied.name == call).map(|denied| match denied.test {
                ArgumentTest::HasBits(0, bits) => bits.cast_signed(),
                test => panic!("{test:?}"),
            });
            let all = libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWUSER | libc::CLONE_NEWPID;
            assert_eq!(flags.fold(0, |all, flag| all | flag), all, "{call}");
        }
        let is_missing = |name| {
            let (denied, when) = plan_calls(&features(&["migratable"]));
            let errors = denied.iter().filter(|call| call.name == name).map(|call| call.errno);
            let errors = errors.chain(when.iter().filter(|call| call.name == name).map(|call| call.errno));
            errors.collect::<Vec<_>>() == [libc::ENOSYS]
        };
        assert!(is_missing("clone3") && is_missing("io_uring_setup"));
        let every_mount = filesystem::plan_mounts(None, &features(&["migratable"]));
        assert!(every_mount.iter().all(|mount| !mount.target.contains(".insula")));
    }

    #[test]
    fn the_host_is_never_asked_for_keys() {
        let (denied, when) = plan_calls(&features(&["keyring"]));
        assert!(!denied.iter().any(|call| call.name == "request_key"));
        assert!(
            when.iter().any(|call| call.name == "request_key" && call.test == ArgumentTest::IsNotZero(2))
        );
    }

    #[test]
    fn a_guests_node_of_a_device_is_its_own() {
        let observed = [device("fuse", 10, 229), device("dri/card0", 226, 0)];
        let wanted = features(&["fuse", "device:dri/card0"]);
        let devices = plan_host_devices(&wanted, &observed).unwrap();
        let nodes = device::plan_devices(&devices);
        let names = device::plan_names(wanted_devices(&wanted));
        assert_eq!(names.len(), nodes.len());
        let modes: Vec<_> = names
            .iter()
            .zip(&nodes)
            .filter_map(|(name, node)| Some((&**name, node.own.as_ref()?.mode)))
            .collect();
        assert_eq!(modes, [("fuse", 0o666), ("dri/card0", 0o660)]);
        let rules = device::plan_device_rules(&devices);
        assert_eq!(rules.len(), device::plan_device_rules(&[]).len() + 2);
        let missing = plan_host_devices(&wanted, &observed[..1]).unwrap_err();
        assert!(matches!(missing, PlanError::Device { name } if name == "dri/card0"));
    }

    #[test]
    fn each_row_has_a_reason() {
        assert!(OPENED_CALLS.iter().all(|call| !call.reason.is_empty()));
        assert!(CLOSED_CALLS.iter().all(|closed| !closed.call.reason.is_empty()));
        let is_known = |name| DENIED_CALLS.iter().any(|call| call.name == name);
        assert!(OPENED_CALLS.iter().all(|call| is_known(call.name)), "only what is closed is opened");
    }
}
