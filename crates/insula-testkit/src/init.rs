//! Guests that boot at once: a shell script in place of systemd.

use std::os::unix::fs::PermissionsExt;

use crate::host::ScratchHost;
use crate::process::Command;

/// An init that is ready at once, and ends when it is told to. Signal 37 is SIGRTMIN+3, at which
/// systemd ends.
pub const QUICK_INIT: &str = "#!/bin/sh
trap 'exit 0' 37
systemd-notify --ready
while :; do sleep 3600 & wait $!; done
";

/// An init that never reports to be ready, and ignores what it is told.
pub const STUBBORN_INIT: &str = "#!/bin/sh
trap '' 37
while :; do sleep 3600 & wait $!; done
";

/// An init that prints something and reboots at once.
pub const REBOOTING_INIT: &str = "#!/bin/sh
echo 'rebooting as ever' >/dev/console
exec systemctl reboot --force --force
";

/// An init that prints something and exits with code 7.
pub const CRASHING_INIT: &str = "#!/bin/sh
echo 'something is broken' >/dev/console
exit 7
";

impl ScratchHost {
    /// Gives VPSes that are created from this host's images from now on another init. Existing ones
    /// keep theirs.
    #[track_caller]
    pub fn replace_init(&self, script: &str) {
        let images = std::fs::read_dir(self.pool().join("images")).expect("the images");
        for image in images.map(|image| image.expect("an image").path()) {
            let seal = |value| {
                Command::new("btrfs").args(["property", "set"]).args([&image]).args(["ro", value]).run_ok()
            };
            seal("false");
            let init = image.join("usr/sbin/init"); // a link, or what was put here before
            std::fs::remove_file(&init).expect("an init");
            std::fs::write(&init, script).expect("another init");
            std::fs::set_permissions(&init, PermissionsExt::from_mode(0o755)).expect("a program");
            seal("true");
        }
    }
}
