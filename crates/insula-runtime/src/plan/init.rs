//! What is executed as init, and how one talks to it.

use insula_types::InitKind;
use serde::{Deserialize, Serialize};

/// Where programs are found in a guest.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The guest's init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitPlan {
    /// The program's path in the guest, and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment, as `NAME=value`.
    pub environment: Vec<String>,
    /// The number of the signal that makes it shut the guest down.
    pub stop_signal: i32,
    /// How it says that the guest has booted.
    pub ready: ReadyMode,
    /// Whether it drops the signal at times, though it listens to it: then it is told again until it ends.
    #[serde(default)]
    pub tell_again: bool,
    /// Whether its standard streams are the console, as a kernel hands them to its init, instead of `/dev/null`.
    #[serde(default)]
    pub console_streams: bool,
}

/// How a guest says that it has booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadyMode {
    /// By `READY=1` on the socket `/run/host/notify`, as in sd_notify(3).
    Notify,
    /// By the prompt of a getty(8) on the console: a line that begins with `<word> login:`. `READY=1` counts, too.
    LoginPrompt,
}

/// Signals as the kernel counts them.
const SIGUSR2: i32 = 12;
const SIGTERM: i32 = 15;
const SIGPWR: i32 = 30;
const SIGRTMIN_3: i32 = 37;

/// The init of a kind. `extra` is what its environment has beyond the usual, as `NAME=value`.
///
/// Only systemd knows the socket for `READY=1`: the others would hand its name on to services that use it, too, and say
/// there that *they* are ready.
pub fn plan_init(kind: InitKind, extra: &[String]) -> InitPlan {
    let is_systemd = kind == InitKind::Systemd;
    let notify = is_systemd.then_some("NOTIFY_SOCKET=/run/host/notify");
    let usual = ["container=insula"].into_iter().chain(notify).chain([DEFAULT_PATH, "TERM=linux"]);
    InitPlan {
        argv: vec!["/sbin/init".into()],
        environment: usual.map(str::to_owned).chain(extra.iter().cloned()).collect(),
        stop_signal: stop_signal(kind),
        ready: if is_systemd { ReadyMode::Notify } else { ReadyMode::LoginPrompt },
        tell_again: !is_systemd,
        console_streams: !is_systemd,
    }
}

/// The signal that makes it shut the guest down.
fn stop_signal(kind: InitKind) -> i32 {
    match kind {
        InitKind::Systemd => SIGRTMIN_3, // halt.target: systemd(1)
        // The power fails. What to do then is the guest's to say, by a line `powerfail` in /etc/inittab: inittab(5).
        InitKind::Sysvinit => SIGPWR,
        InitKind::OpenRc => SIGTERM, // the runlevel "shutdown"; openrc-init.c, its manual is silent
        // In stage 2 only: runit(8), as Debian has it. Where it does not listen to it, it ends at the time-out.
        InitKind::Runit => SIGPWR,
        InitKind::Busybox => SIGUSR2, // as poweroff(8) sends it: init.c of busybox
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_init_is_told_what_it_understands() {
        let cases = [
            (InitKind::Systemd, 37, ReadyMode::Notify),
            (InitKind::Sysvinit, 30, ReadyMode::LoginPrompt),
            (InitKind::OpenRc, 15, ReadyMode::LoginPrompt),
            (InitKind::Runit, 30, ReadyMode::LoginPrompt),
            (InitKind::Busybox, 12, ReadyMode::LoginPrompt),
        ];
        assert_eq!(cases.map(|(kind, ..)| kind), InitKind::ALL);
        for (kind, stop_signal, ready) in cases {
            let plan = plan_init(kind, &["A=b".to_owned()]);
            assert_eq!((plan.stop_signal, plan.ready), (stop_signal, ready), "{kind}");
            assert_eq!(plan.argv, ["/sbin/init"], "{kind}");
            let has = |entry: &str| plan.environment.iter().any(|known| known == entry);
            assert!(has("container=insula") && has("A=b") && has(DEFAULT_PATH), "{plan:?}");
            assert_eq!(has("NOTIFY_SOCKET=/run/host/notify"), ready == ReadyMode::Notify, "{plan:?}");
        }
    }

    #[test]
    fn the_numbers_are_those_of_this_machine() {
        assert_eq!((SIGUSR2, SIGTERM, SIGPWR), (libc::SIGUSR2, libc::SIGTERM, libc::SIGPWR));
        assert_eq!(SIGRTMIN_3, libc::SIGRTMIN() + 3);
    }
}
