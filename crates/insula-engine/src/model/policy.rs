//! What is allowed in which state: a pure table, so that it can be read and tested as one.

use insula_types::{Reason, VpsState};

use crate::EngineError;

/// What somebody wants of a VPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Boot it; also when it is suspended.
    Start { override_suspension: bool },
    /// Shut it down, or kill it.
    Stop,
    /// Shut it down and boot it.
    Restart,
    /// Freeze it.
    Pause,
    /// Thaw it.
    Resume,
    /// Change what it may use, what is noted about it, or a password.
    Change,
    /// Hold it, or end the hold.
    Hold,
    /// Move it to the trash; by force also when it runs.
    Trash { force: bool },
    /// Take it out of the trash.
    Undelete,
    /// Remove it for good; by force also when it runs.
    Delete { force: bool },
    /// Give it a new root; by force also when it runs.
    Rebuild { force: bool },
    /// Take or remove a snapshot, or clone it.
    Snapshot,
    /// Go back to a snapshot.
    Restore,
    /// Run a program inside.
    Exec,
    /// Connect to its console.
    Console,
    /// Read or write its files.
    Files,
}

/// What the policy decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Carry it out.
    Accept,
    /// There is nothing to do: the VPS is in that state already.
    NothingToDo,
    /// Not in this state: the reason and what to do.
    Refuse(Reason, &'static str),
}

const START_FIRST: &str = "start it first: insula start NAME";
const STOP_FIRST: &str = "stop it first: insula stop NAME";
const RESUME_FIRST: &str = "resume it first: insula resume NAME";
const BOOT_LOOP: &str = "it will boot again after a pause; see why: insula log NAME";
const FORCE: &str = "stop it first, or add --force";
const OTHER_HOST: &str = "send the request to that host (insula show NAME); if it is this one, restore its id: docs/configuration.md, \
    The host's id";
const UNSUSPEND: &str = "a client that may unsuspend it must do that first: insula unsuspend NAME";

/// Whether the request is allowed in the state.
pub fn judge(request: Request, state: VpsState) -> Verdict {
    use Request::*;
    use Verdict::*;
    use VpsState::*;
    match (request, state) {
        (_, Elsewhere) => Refuse(Reason::VpsElsewhere, OTHER_HOST),
        (_, Creating | Deleting) => Refuse(Reason::VpsBusy, "wait until it is done: insula operation list"),

        (Undelete | Delete { .. }, Deleted) => Accept,
        (Trash { .. }, Deleted) => NothingToDo,
        (_, Deleted) => Refuse(Reason::VpsDeleted, "restore it first: insula undelete NAME"),
        (Undelete, _) => NothingToDo,

        (Start { override_suspension: true }, Suspended) => Accept,
        (Start { .. } | Restart | Exec | Console, Suspended) => Refuse(Reason::VpsSuspended, UNSUSPEND),
        (Restore | Rebuild { .. }, Suspended) => Refuse(Reason::VpsSuspended, UNSUSPEND),

        (Start { .. }, Running | Ready) => NothingToDo,
        (Start { .. }, Paused) => Refuse(Reason::VpsPaused, RESUME_FIRST),
        (Start { .. }, Starting | Stopping) => Refuse(Reason::VpsBusy, "wait until it has stopped"),
        (Start { .. }, Waiting) => NothingToDo, // it will be; a client that does not want to wait restarts it
        (Start { .. }, Stopped | Failed) => Accept,

        (Stop, Stopped | Failed | Suspended) => NothingToDo,
        (Stop, _) => Accept,
        (Restart, Starting) => Refuse(Reason::VpsBusy, "wait until it runs"),
        (Restart, _) => Accept,

        (Pause, Running | Ready) | (Resume, Paused) => Accept,
        (Pause, Paused) | (Resume, Running | Ready) => NothingToDo,
        (Pause | Resume, Waiting) => Refuse(Reason::VpsNotRunning, BOOT_LOOP),
        (Pause | Resume, _) => Refuse(Reason::VpsNotRunning, START_FIRST),

        (Change | Hold | Snapshot, _) => Accept,

        (Trash { .. } | Delete { .. } | Rebuild { .. }, Stopped | Failed | Suspended) => Accept,
        (Trash { force } | Delete { force } | Rebuild { force }, _) => match force {
            true => Accept,
            false => Refuse(Reason::VpsRunning, FORCE),
        },
        (Restore, Stopped | Failed) => Accept,
        (Restore, _) => Refuse(Reason::VpsRunning, STOP_FIRST),

        (Exec, Running | Ready | Stopping) => Accept,
        (Exec, Paused) => Refuse(Reason::VpsPaused, RESUME_FIRST),
        (Files, Paused) => Refuse(Reason::VpsPaused, RESUME_FIRST),
        (Files, Starting) => Refuse(Reason::VpsBusy, "wait until it runs"),
        (Files, _) => Accept,
        (Console, Running | Ready | Stopping | Paused) => Accept,
        (Exec, Waiting) => Refuse(Reason::VpsNotRunning, BOOT_LOOP),
        (Console, Waiting) => Accept,
        (Exec | Console, Stopped | Failed | Starting) => Refuse(Reason::VpsNotRunning, START_FIRST),
    }
}

/// Whether a request may wait for the operation that works on its VPS. What an administrator must get done waits; what
/// somebody does by hand is refused, and said why: the VPS may not be what they expect when it comes to it.
pub fn may_wait(request: Request) -> bool {
    use Request::*;
    matches!(request, Stop | Change | Hold | Trash { .. } | Delete { .. })
}

/// Like [`judge`], with a refusal as an error about the VPS. `false`: nothing to do.
pub(crate) fn admit(request: Request, name: &str, state: VpsState) -> Result<bool, EngineError> {
    match judge(request, state) {
        Verdict::Accept => Ok(true),
        Verdict::NothingToDo => Ok(false),
        Verdict::Refuse(reason, hint) => {
            let message = match state {
                VpsState::Deleted => format!("VPS {name:?} is in the trash"),
                VpsState::Elsewhere => format!("VPS {name:?} lives on another host"),
                _ => format!("VPS {name:?} is {state}"),
            };
            Err(EngineError::new(reason, message).hint(hint.replace("NAME", name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTS: [Request; 20] = [
        Request::Start { override_suspension: false },
        Request::Start { override_suspension: true },
        Request::Stop,
        Request::Restart,
        Request::Pause,
        Request::Resume,
        Request::Change,
        Request::Hold,
        Request::Trash { force: false },
        Request::Trash { force: true },
        Request::Undelete,
        Request::Delete { force: false },
        Request::Delete { force: true },
        Request::Rebuild { force: false },
        Request::Rebuild { force: true },
        Request::Snapshot,
        Request::Restore,
        Request::Exec,
        Request::Console,
        Request::Files,
    ];

    /// One row a state: + accept, = nothing to do, - refuse; columns as in `REQUESTS`.
    #[test]
    fn the_whole_table() {
        let table = [
            (VpsState::Creating, "--------------------"),
            (VpsState::Stopped, "++=+--++++=++++++--+"),
            (VpsState::Starting, "--+---++-+=-+-++----"),
            (VpsState::Running, "==+++=++-+=-+-++-+++"),
            (VpsState::Ready, "==+++=++-+=-+-++-+++"),
            (VpsState::Paused, "--++=+++-+=-+-++--+-"),
            (VpsState::Stopping, "--++--++-+=-+-++-+++"),
            (VpsState::Failed, "++=+--++++=++++++--+"),
            (VpsState::Suspended, "-+=---++++=++--+---+"),
            (VpsState::Waiting, "==++--++-+=-+-++--++"),
            (VpsState::Deleted, "--------==+++-------"),
            (VpsState::Deleting, "--------------------"),
            (VpsState::Elsewhere, "--------------------"),
        ];
        for (state, row) in table {
            for (request, expected) in REQUESTS.into_iter().zip(row.chars()) {
                let verdict = match judge(request, state) {
                    Verdict::Accept => '+',
                    Verdict::NothingToDo => '=',
                    Verdict::Refuse(..) => '-',
                };
                assert_eq!(verdict, expected, "{request:?} while {state}");
            }
        }
        assert_eq!(table.map(|(state, _)| state).len(), VpsState::ALL.len());
    }

    #[test]
    fn what_an_administrator_must_get_done_waits() {
        let waiting = REQUESTS.into_iter().map(|request| if may_wait(request) { '+' } else { '-' });
        assert_eq!(waiting.collect::<String>(), "--+---++++-++-------");
    }

    #[test]
    fn a_refusal_names_the_vps_the_state_and_the_way_out() {
        let error = admit(Request::Exec, "web1", VpsState::Stopped).unwrap_err();
        assert_eq!(error.to_string(), r#"VPS "web1" is stopped"#);
        assert_eq!(error.hint_text(), Some("start it first: insula start web1"));
    }
}
