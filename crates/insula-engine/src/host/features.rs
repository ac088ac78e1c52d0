//! Which features this host has: a feature that it lacks is refused, never ignored. The host is asked each time: a device
//! may come or go with a module of the kernel.

use std::io;

use insula_runtime::plan::wanted_devices;
use insula_runtime::{HostDevice, observe_device};
use insula_types::{Features, Reason};
use rustix::io::Errno;

use crate::EngineError;

/// Refuses a feature that this host does not have.
pub(crate) fn check_features(features: &Features) -> Result<(), EngineError> {
    observe_devices(features).map(drop)
}

/// The devices of the host that the features name.
pub(crate) fn observe_devices(features: &Features) -> Result<Vec<HostDevice>, EngineError> {
    let observe = |name: &str| observe_device(name).map_err(|error| no_device(name, error));
    wanted_devices(features).map(observe).collect()
}

fn no_device(name: &str, error: io::Error) -> EngineError {
    let hint = match name {
        "fuse" => "load the kernel's module: modprobe fuse",
        "net/tun" => "load the kernel's module: modprobe tun",
        _ => "see ls -l /dev on the host",
    };
    const NO_DEVICE: i32 = Errno::NODEV.raw_os_error();
    let message = match error.raw_os_error() {
        _ if error.kind() == io::ErrorKind::NotFound => format!("the host has no device /dev/{name}"),
        Some(NO_DEVICE) => format!("/dev/{name} of the host is not a device"),
        _ => format!("failed to look at the device /dev/{name} of the host"),
    };
    EngineError::new(Reason::FacilityMissing, message).hint(hint).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_the_host_lacks_is_named() {
        let features = |words: &[&str]| {
            Features::try_from(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        assert!(observe_devices(&features(&["nesting", "keyring"])).unwrap().is_empty());
        let error = observe_devices(&features(&["device:no-such-device"])).unwrap_err();
        assert_eq!(error.reason(), Reason::FacilityMissing);
        assert!(error.to_string().contains("/dev/no-such-device"), "{error}");
        let error = observe_devices(&features(&["device:block-no"])).unwrap_err();
        assert!(error.to_string().contains("no device"), "{error}");
    }
}
