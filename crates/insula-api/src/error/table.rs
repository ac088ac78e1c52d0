//! The one table that says how each [`Reason`] shows outside. `docs/errors.md` is generated from
//! it.

use insula_types::Reason;
use tonic::Code;

/// The exit codes of the command.
pub mod exit {
    /// The request failed on the way.
    pub const FAILED: u8 = 1;
    /// The command line makes no sense.
    pub const USAGE: u8 = 2;
    /// The object was not found.
    pub const NOT_FOUND: u8 = 3;
    /// The request was refused because of state or policy.
    pub const REFUSED: u8 = 4;
    /// The caller has no permission.
    pub const PERMISSION: u8 = 5;
    /// The agent can't be reached.
    pub const UNREACHABLE: u8 = 6;
    /// The guest has the program but can't execute it, as in a shell.
    pub const NOT_EXECUTABLE: u8 = 126;
    /// The guest has no such program, as in a shell.
    pub const NO_COMMAND: u8 = 127;
}

/// What a program that meets an error should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Send the request again as it is, with its request id.
    Repeat,
    /// Send the request again, but after a while.
    Later,
    /// Change the request.
    Fix,
    /// Read the present state, and decide again.
    Read,
    /// Tell a person.
    Person,
}

/// How a reason shows outside the agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outside {
    /// The gRPC code of the call, or of the error of an operation.
    pub code: Code,
    /// The exit code of the command.
    pub exit: u8,
    /// What a program that meets the error should do.
    pub remedy: Remedy,
}

/// The row of a reason.
pub(super) fn outside(reason: Reason) -> Outside {
    use Reason::*;
    use Remedy::*;
    let (code, exit, remedy) = match reason {
        VpsNotFound | SnapshotNotFound | OperationNotFound | SessionNotFound => {
            (Code::NotFound, exit::NOT_FOUND, Read)
        }
        ImageNotFound | ProfileNotFound | NetworkNotFound | PoolNotFound | UserNotFound | ClientNotFound
        | FileNotFound => (Code::NotFound, exit::NOT_FOUND, Fix),
        InvalidArgument | AddressOutOfRange | RequestIdReused => (Code::InvalidArgument, exit::USAGE, Fix),
        CursorExpired => (Code::OutOfRange, exit::USAGE, Read),
        VpsExists | SnapshotExists | ProfileExists | ClientExists => {
            (Code::AlreadyExists, exit::REFUSED, Read)
        }
        AddressInUse => (Code::AlreadyExists, exit::REFUSED, Fix),
        VpsNotRunning | VpsRunning | VpsPaused | VpsSuspended | VpsDeleted | ProfileInUse
        | NotCancellable => (Code::FailedPrecondition, exit::REFUSED, Read),
        VpsElsewhere => (Code::FailedPrecondition, exit::REFUSED, Person),
        FileWrongKind => (Code::FailedPrecondition, exit::REFUSED, Fix),
        MonitorTooOld => (Code::FailedPrecondition, exit::REFUSED, Fix),
        LimitRefused => (Code::FailedPrecondition, exit::REFUSED, Fix),
        DeleteProtected | FacilityMissing => (Code::FailedPrecondition, exit::REFUSED, Person),
        VpsBusy => (Code::Aborted, exit::REFUSED, Later),
        EtagMismatch | InputOutOfOrder => (Code::Aborted, exit::REFUSED, Read),
        AddressesExhausted | IdsExhausted | PoolFull | HostDiskFull | VpsDiskFull => {
            (Code::ResourceExhausted, exit::REFUSED, Person)
        }
        RateLimited => (Code::ResourceExhausted, exit::REFUSED, Later),
        PermissionDenied => (Code::PermissionDenied, exit::PERMISSION, Person),
        Unauthenticated | TokenRefused => (Code::Unauthenticated, exit::PERMISSION, Person),
        Cancelled => (Code::Cancelled, exit::FAILED, Person),
        AgentUnreachable => (Code::Unavailable, exit::UNREACHABLE, Repeat),
        NotReady => (Code::DeadlineExceeded, exit::FAILED, Person),
        Interrupted => (Code::Aborted, exit::FAILED, Later),
        CommandNotFound => (Code::NotFound, exit::NO_COMMAND, Fix),
        CommandNotExecutable => (Code::FailedPrecondition, exit::NOT_EXECUTABLE, Fix),
        StartFailed | ExecFailed | BuildFailed | FileFailed | Internal => {
            (Code::Internal, exit::FAILED, Person)
        }
    };
    Outside { code, exit, remedy }
}

/// What a program that meets an error of this reason should do.
pub fn remedy(reason: Reason) -> Remedy {
    outside(reason).remedy
}

/// The exit code of an error whose reason is not in the table, because it comes from a proxy or a
/// newer agent.
pub(super) fn exit_code_of(code: Code) -> u8 {
    match code {
        Code::InvalidArgument | Code::OutOfRange => exit::USAGE,
        Code::NotFound => exit::NOT_FOUND,
        Code::AlreadyExists | Code::FailedPrecondition | Code::ResourceExhausted | Code::Aborted => {
            exit::REFUSED
        }
        Code::PermissionDenied | Code::Unauthenticated => exit::PERMISSION,
        Code::Unavailable => exit::UNREACHABLE,
        _ => exit::FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    const BEFORE: &str = "\
# Errors

<!-- Generated from the table in crates/insula-api/src/error/table.rs by its test. To regenerate it:
     INSULA_WRITE_DOCS=1 cargo test -p insula-api errors -->

A call that is refused ends with a `google.rpc.Status` (AIP-193); an operation that failed has one in its field `error`.
Its message is the whole chain of causes, for people. Its details are

* `ErrorInfo`, always: a `reason` from this table, the `domain` `insula`, and `metadata`, of which `hint` says what a
  person could do. Reasons are stable: programs may branch on them. New ones may be added: treat an
  unknown one by its code.
* `BadRequest` if fields of the request are wrong: the path of each, and why.
* `PreconditionFailure` if a state does not allow the request: the object, and its state.
* `DebugInfo` if there are causes: the chain, one entry each.

An error without `ErrorInfo` does not come from an agent but from the way to it, such as `UNAVAILABLE` for a broken connection.

What to do:

| word | a program that meets the error should |
|---|---|
| repeat | send the same request again with the same request id, because it may have arrived: first at once, then with growing pauses |
| later | do the same after a while. If an operation failed, use a new request id, because the old one stands for the failure |
| fix | change the request; unchanged, it will be refused again |
| read | read the current state and decide again; often it is already what was wanted |
| person | tell a person |

";

    fn render_errors() -> String {
        let mut page = BEFORE.to_owned();
        page.push_str("| reason | code | exit code | means | do |\n|---|---|---|---|---|\n");
        for reason in Reason::ALL {
            let Outside { code, exit, remedy } = outside(*reason);
            let code = constant_case(&format!("{code:?}"));
            let remedy = format!("{remedy:?}").to_lowercase();
            writeln!(page, "| `{reason}` | `{code}` | {exit} | {} | {remedy} |", reason.meaning()).unwrap();
        }
        page
    }

    /// A code's name as gRPC writes it: `NotFound` is `NOT_FOUND`.
    fn constant_case(name: &str) -> String {
        name.chars().enumerate().fold(String::new(), |mut text, (at, letter)| {
            if at > 0 && letter.is_ascii_uppercase() {
                text.push('_');
            }
            text.push(letter.to_ascii_uppercase());
            text
        })
    }

    #[test]
    fn errors_are_documented_as_they_are() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        if std::env::var_os("INSULA_WRITE_DOCS").is_some() {
            std::fs::write(path, render_errors()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == render_errors(),
            "docs/errors.md is another: INSULA_WRITE_DOCS=1 cargo test -p insula-api errors"
        );
    }

    #[test]
    fn an_exit_code_fits_its_grpc_code() {
        let special = [exit::FAILED, exit::NO_COMMAND, exit::NOT_EXECUTABLE];
        for reason in Reason::ALL {
            let Outside { code, exit, .. } = outside(*reason);
            assert!(special.contains(&exit) || exit == exit_code_of(code), "{reason}: {code:?}, {exit}");
        }
    }

    /// gRPC tells clients to retry calls that fail with UNAVAILABLE. A retry must help for these
    /// reasons, and for no others.
    #[test]
    fn what_is_to_be_repeated_is_unavailable() {
        for reason in Reason::ALL {
            let Outside { code, remedy, .. } = outside(*reason);
            assert_eq!(remedy == Remedy::Repeat, code == Code::Unavailable, "{reason}");
        }
    }
}
