//! How a command ends if it does not succeed.

use insula_api::{ApiError, ConnectError, Reason};
use std::fmt::Write as _;
use tonic::Status;

use crate::text;

/// Why a command does not exit with 0.
#[derive(Debug)]
pub enum Failure {
    /// An error to be shown.
    Error(ApiError),
    /// Everything has been printed, and only the exit code is left: errors of several VPSes, or the code of a guest's program.
    Exit(u8),
}

/// How a command ends.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// The arguments make no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Error(ApiError::new(Reason::InvalidArgument, message))
    }

    /// The time to wait has passed without a result.
    pub fn timed_out(limit: std::time::Duration) -> Self {
        Self::Error(ApiError::new(Reason::Internal, format!("not done after {} s", limit.as_secs_f32())))
    }

    /// Something on this machine failed: a file, the terminal.
    pub fn io(doing: impl Into<String>, error: &std::io::Error) -> Self {
        Self::Error(ApiError::new(Reason::Internal, doing).with_causes([error.to_string()]))
    }

    /// Whether the agent was not reached, or the connection was lost: the same request may be sent again.
    pub fn is_lost_connection(&self) -> bool {
        matches!(self, Self::Error(error) if error.reason() == Some(Reason::AgentUnreachable))
    }

    /// Adds a hint, if the agent was not reached.
    pub fn with_hint_if_lost(self, hint: &str) -> Self {
        match self {
            Self::Error(error) if error.reason() == Some(Reason::AgentUnreachable) => {
                Self::Error(error.with_hint(hint))
            }
            other => other,
        }
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Error(error) => error.exit_code(),
            Self::Exit(code) => *code,
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Error(ApiError::from(&status))
    }
}

/// The hint about a remote agent that does not answer.
pub const REMOTE_IS_AWAY: &str =
    "check that `insulad` runs there, that its `listen` is set, and that no firewall blocks the port";

/// The hint about a certificate that the agent does not accept.
pub const ENROLL_AGAIN: &str = "ask an administrator of the agent for a new token (`insula access token create`); then run `insula remote \
    remove` and `insula remote add`";

const CHECK_THE_AGENT: &str = "check the address: its name must be one of `tls.names` in the agent's settings. An agent that was set up \
    again has a new CA: run `insula remote add` again";

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let (reason, hint) = match &error {
            ConnectError::Unreachable { .. } if error.is_permission_denied() => {
                (Reason::PermissionDenied, Some("the agent's socket is for root: use sudo"))
            }
            ConnectError::Unreachable { .. } => (Reason::AgentUnreachable, None),
            ConnectError::NotTheAgent { .. } => (Reason::Unauthenticated, Some(CHECK_THE_AGENT)),
            ConnectError::Credentials { .. } => (Reason::InvalidArgument, None),
        };
        let shown = ApiError::from_error(reason, &error);
        Self::Error(hint.into_iter().fold(shown, ApiError::with_hint))
    }
}

/// An error as lines: itself, its causes, the fields and conditions that they don't name, a hint.
pub fn render_error(error: &ApiError, colour: bool) -> String {
    let (red, cyan, plain) = if colour { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
    let mut rendered = String::new();
    let mut add = |head: String, body: &str| {
        for (number, line) in text::printable_lines(body).iter().enumerate() {
            let head = if number == 0 { &*head } else { "    " };
            let _ = writeln!(rendered, "{head}{line}"); // to a string
        }
    };
    let said = error.message();
    for (number, cause) in error.chain.iter().enumerate() {
        let head = if number == 0 { format!("{red}error:{plain} ") } else { "  caused by: ".to_owned() };
        add(head, cause);
    }
    let fields = error.fields.iter().map(|field| (&field.field, &field.description));
    let conditions = error.preconditions.iter().map(|condition| (&condition.subject, &condition.description));
    for (subject, description) in fields.chain(conditions).filter(|(_, text)| !said.contains(text.as_str())) {
        add(format!("  {}: ", text::printable(subject)), description);
    }
    if let Some(hint) = error.hint() {
        add(format!("{cyan}hint:{plain} "), hint);
    }
    rendered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_with_causes_and_hint() {
        let error = ApiError::new(Reason::StartFailed, "failed to start VPS web1")
            .with_causes(["init exited with code 1".to_owned(), "console:\n\x1b[31mno /sbin/init".to_owned()])
            .with_precondition("STATE", "web1", "it must be stopped")
            .with_hint("look at `insula log web1`");
        insta::assert_snapshot!(render_error(&error, false), @r"
        error: failed to start VPS web1
          caused by: init exited with code 1
          caused by: console:
            �[31mno /sbin/init
          web1: it must be stopped
        hint: look at `insula log web1`
        ");
    }

    #[test]
    fn what_is_said_is_not_said_twice() {
        let error =
            ApiError::invalid_field("name", "invalid VPS name \"Web\": it must begin with a letter a-z");
        assert_eq!(render_error(&error, false).lines().count(), 1);
    }

    #[test]
    fn a_lost_connection_is_told_from_a_refusal() {
        let failure = Failure::from(Status::unavailable("the agent is ending"));
        assert!(failure.is_lost_connection() && failure.exit_code() == 6);
        let failure = Failure::from(Status::from(ApiError::new(Reason::VpsBusy, "busy")));
        assert!(!failure.is_lost_connection() && failure.exit_code() == 4);
    }
}
