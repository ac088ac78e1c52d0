//! What the end of an init means. Pure.

use insula_types::{CrashPolicy, ExitReason};

use crate::protocol::ExecEnd;

/// What had been asked for when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing.
    Nothing,
    /// To shut down.
    Stop,
    /// To be killed.
    Kill,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The guest is booted again, as often as it may.
    Again(ExitReason),
    /// It is over.
    Over(ExitReason),
}

/// Judges the end of an init. In a pid namespace reboot(2) kills it: by SIGHUP to restart, by SIGINT to power off or halt.
/// `was_short_of_memory`: the kernel has killed a process of the guest because memory ran out.
pub(super) fn judge(end: ExecEnd, asked: Asked, was_short_of_memory: bool, on_crash: CrashPolicy) -> Verdict {
    let crash = |reason| match on_crash {
        CrashPolicy::Stop => Verdict::Over(reason),
        CrashPolicy::Restart => Verdict::Again(reason),
    };
    match (end, asked) {
        (ExecEnd::Signal(libc::SIGKILL), Asked::Kill) => Verdict::Over(ExitReason::Killed),
        (_, Asked::Stop | Asked::Kill) => Verdict::Over(ExitReason::Stopped),
        (ExecEnd::Signal(libc::SIGHUP), Asked::Nothing) => Verdict::Again(ExitReason::Reboot),
        (ExecEnd::Signal(libc::SIGINT), Asked::Nothing) => Verdict::Over(ExitReason::PowerOff),
        (ExecEnd::Signal(libc::SIGKILL), Asked::Nothing) if was_short_of_memory => {
            crash(ExitReason::OutOfMemory)
        }
        (ExecEnd::Signal(signal), Asked::Nothing) => crash(ExitReason::Signal(signal)),
        (ExecEnd::Code(0), Asked::Nothing) => Verdict::Over(ExitReason::Exited(0)),
        (ExecEnd::Code(code), Asked::Nothing) => crash(ExitReason::Exited(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_reason() {
        let over = Verdict::Over;
        let (hup, int, kill) = (ExecEnd::Signal(1), ExecEnd::Signal(2), ExecEnd::Signal(9));
        let cases = [
            (hup, Asked::Nothing, false, Verdict::Again(ExitReason::Reboot)),
            (hup, Asked::Stop, false, over(ExitReason::Stopped)),
            (hup, Asked::Kill, false, over(ExitReason::Stopped)),
            (int, Asked::Nothing, true, over(ExitReason::PowerOff)),
            (int, Asked::Stop, false, over(ExitReason::Stopped)),
            (kill, Asked::Kill, true, over(ExitReason::Killed)),
            (kill, Asked::Nothing, true, over(ExitReason::OutOfMemory)),
            (kill, Asked::Nothing, false, over(ExitReason::Signal(9))),
            (ExecEnd::Signal(11), Asked::Nothing, true, over(ExitReason::Signal(11))),
            (ExecEnd::Code(3), Asked::Nothing, false, over(ExitReason::Exited(3))),
            (ExecEnd::Code(0), Asked::Nothing, false, over(ExitReason::Exited(0))),
            (ExecEnd::Code(0), Asked::Stop, false, over(ExitReason::Stopped)),
        ];
        for (end, asked, was_short_of_memory, verdict) in cases {
            let judged = |on_crash| judge(end, asked, was_short_of_memory, on_crash);
            assert_eq!(judged(CrashPolicy::Stop), verdict, "{end:?} {asked:?}");
            // Only what nobody has asked for and is no good end is a crash.
            let again = match verdict {
                Verdict::Over(
                    reason @ (ExitReason::OutOfMemory | ExitReason::Signal(_) | ExitReason::Exited(1..)),
                ) => Verdict::Again(reason),
                other => other,
            };
            assert_eq!(judged(CrashPolicy::Restart), again, "{end:?} {asked:?}");
        }
    }
}
