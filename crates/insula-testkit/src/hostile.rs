//! Hostile programs: what root inside a VPS tries in order to escape, or to take what belongs to
//! others.
//!
//! An [`Attempt`] is data: a program in shell or in Perl, which every Debian guest has and which
//! can make any system call. The program reports its result in a line of its own: one that reports
//! nothing is broken, not refused. It learns what it needs to know about the host from its
//! environment:
//!
//! * `CANARY`: the path of a file of the host; a process that can see it is outside
//! * `HOST_PID`: the pid of a process of the host
//! * `HOST_SOCKET`: the abstract name of a socket that the host listens on
//! * `HOST_NAMES`: a regular expression for the names of the host's directories and groups
//! * `GATEWAY`, `NEIGHBOUR`: addresses of the host and of another guest
//! * `PROCESSES`, `MEMORY_MIB`, `DISK_MIB`: the limits of the VPS

mod attempt;
mod bombs;
mod calls;
mod files;
mod numbers;
mod outside;
mod processes;

pub use attempt::{Attempt, Verdict};
pub use bombs::{BOMBS, DISK_FILLER, LIMITED_BOMBS};
pub use calls::CALLS;
pub use files::FILES;
pub use outside::{ENTERING, FORGED_NEIGHBOUR, FORGED_SOURCE};
pub use processes::PROCESSES;

/// The number of the system call inotify_init1(2).
pub const INOTIFY_INIT1: i64 = libc::SYS_inotify_init1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Command;

    /// Runs an attempt outside of any guest.
    fn verdict(attempt: Attempt) -> Option<Verdict> {
        let [program, arguments @ ..] = attempt.argv();
        Verdict::parse(&Command::new(program).args(arguments).run_ok().text())
    }

    #[test]
    fn every_attempt_has_a_name_of_its_own_and_is_a_program() {
        let all = || {
            [CALLS, FILES, PROCESSES, LIMITED_BOMBS, BOMBS, ENTERING, &[FORGED_SOURCE, FORGED_NEIGHBOUR]]
                .concat()
        };
        let names: std::collections::BTreeSet<_> = all().iter().map(|attempt| attempt.name).collect();
        assert_eq!(names.len(), all().len());
        for attempt in all() {
            let [program, _, text] = attempt.argv();
            let check = if program == "perl" { "-ce" } else { "-nc" };
            Command::new(program).args([check, &text]).run_ok();
        }
    }

    #[test]
    fn what_works_is_told_and_so_is_what_does_not() {
        let perl = |program| verdict(Attempt::perl("", "", program));
        let is_success = |verdict| matches!(verdict, Some(Verdict::Succeeded(_)));
        assert!(is_success(perl("try_call('getppid');")));
        assert!(is_success(perl("try_write('/dev/null', 'x');")));
        assert!(is_success(perl("reach('kcmp', 0, 0, 99, 0, 0);")), "ESRCH or EINVAL, but not EPERM");
        assert_eq!(
            perl("try_open('/none');"),
            Some(Verdict::Refused("/none: No such file or directory".into()))
        );
        assert_eq!(perl(""), None);
        assert_eq!(perl("exit;"), None);
        let shell = |program| verdict(Attempt::shell("", "", program));
        assert!(is_success(shell("try 'test -e /'")));
        assert_eq!(shell("try 'echo no; false'"), Some(Verdict::Refused("echo no; false: no".into())));
    }
}
