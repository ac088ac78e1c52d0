//! Errors on their way from an agent to a person: their form in messages, and one [table] of codes.
//!
//! An error is a `google.rpc.Status` (AIP-193). Its message is the whole chain, `failed to a:
//! failed to b: c`, because a foreign client shows nothing else. Its details are `ErrorInfo` (a
//! reason from the table, domain `insula`, metadata that may hold a `hint`), `DebugInfo` (one entry
//! for each error of the chain) and, where they apply, `BadRequest` and `PreconditionFailure`.

mod table;

pub use table::{Remedy, exit, remedy};

use insula_types::Reason;
use std::collections::{BTreeMap, HashMap};
use tonic::{Code, Status};
use tonic_types::{
    ErrorDetails, FieldViolation, PreconditionViolation, RpcStatusExt as _, StatusExt as _, pb,
};

use table::{exit_code_of, outside};

/// The domain of all reasons, as in `google.rpc.ErrorInfo.domain`.
pub const DOMAIN: &str = "insula";

/// The key of the hint in the metadata of `ErrorInfo`.
const HINT: &str = "hint";

/// An error on its way between an agent and its client.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// The gRPC code.
    pub code: Code,
    /// The text of a [`Reason`], or of one that only a newer agent knows. Empty where there is
    /// none.
    pub reason: Box<str>,
    /// First what was being done to what, then the causes, outermost first. Never empty.
    pub chain: Vec<String>,
    /// More facts for programs, with keys in lowerCamelCase. The hint is one of them.
    pub metadata: BTreeMap<String, String>,
    /// Which fields of the request are wrong.
    pub fields: Vec<FieldViolation>,
    /// What has to change before the request can succeed.
    pub preconditions: Vec<PreconditionViolation>,
}

impl ApiError {
    /// Makes an error without causes. The message says what was being done to what.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code: outside(reason).code,
            reason: reason.as_str().into(),
            chain: vec![message.into()],
            metadata: BTreeMap::new(),
            fields: vec![],
            preconditions: vec![],
        }
    }

    /// Makes an error from another one and all its sources.
    pub fn from_error(reason: Reason, error: &dyn std::error::Error) -> Self {
        let sources = std::iter::successors(error.source(), |error| error.source());
        Self::new(reason, error.to_string()).with_causes(sources.map(ToString::to_string))
    }

    /// Makes an error about an invalid field of a request. `field` is its path, such as
    /// `limits.memory_bytes`.
    pub fn invalid_field(field: impl Into<String>, description: impl Into<String>) -> Self {
        let description = description.into();
        let mut error = Self::new(Reason::InvalidArgument, description.clone());
        error.fields.push(FieldViolation::new(field, description));
        error
    }

    /// Adds causes, outermost first.
    pub fn with_causes(mut self, causes: impl IntoIterator<Item = String>) -> Self {
        self.chain.extend(causes);
        self
    }

    /// Adds a hint at what a person could do: an imperative, or a command.
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        self.with_metadata(HINT, hint)
    }

    /// Adds one more fact for programs.
    pub fn with_metadata(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// Adds something that has to change before the request can succeed: its type (such as
    /// `STATE`), its subject, and the change.
    pub fn with_precondition(mut self, kind: &str, subject: &str, description: impl Into<String>) -> Self {
        self.preconditions.push(PreconditionViolation::new(kind, subject, description));
        self
    }

    /// The reason, if the table has it.
    pub fn reason(&self) -> Option<Reason> {
        self.reason.parse().ok()
    }

    /// The hint at what a person could do.
    pub fn hint(&self) -> Option<&str> {
        self.metadata.get(HINT).map(String::as_str)
    }

    /// The exit code with which the command ends.
    pub fn exit_code(&self) -> u8 {
        self.reason().map_or_else(|| exit_code_of(self.code), |reason| outside(reason).exit)
    }

    /// The whole chain in one line.
    pub fn message(&self) -> String {
        self.chain.join(": ")
    }

    fn details(&self) -> ErrorDetails {
        let metadata: HashMap<_, _> = self.metadata.clone().into_iter().collect();
        let mut details = ErrorDetails::with_error_info(&*self.reason, DOMAIN, metadata);
        if self.chain.len() > 1 {
            details.set_debug_info(self.chain.clone(), "");
        }
        if !self.fields.is_empty() {
            details.set_bad_request(self.fields.clone());
        }
        if !self.preconditions.is_empty() {
            details.set_precondition_failure(self.preconditions.clone());
        }
        details
    }

    fn read(code: Code, message: &str, details: ErrorDetails) -> Self {
        let info = details.error_info().filter(|info| info.domain == DOMAIN).cloned();
        let (reason, metadata) = info.map(|info| (info.reason, info.metadata)).unwrap_or_default();
        let entries = details.debug_info().map(|info| info.stack_entries.clone()).unwrap_or_default();
        let message = if message.is_empty() { code.description() } else { message };
        let chain = if entries.is_empty() { vec![message.to_owned()] } else { entries };
        Self {
            code,
            reason: reason.into(),
            chain,
            metadata: metadata.into_iter().collect(),
            fields: details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default(),
            preconditions: details
                .precondition_failure()
                .map(|bad| bad.violations.clone())
                .unwrap_or_default(),
        }
    }

    /// Shortens the error until it fits into the headers of HTTP/2, which carry the status of a
    /// call. What it quotes of a request may be long.
    fn cut_for_headers(mut self) -> Self {
        /// The chain is sent three times, once percent-encoded, and gRPC's default limit is 8 KiB.
        const MAX_CHAIN_BYTES: usize = 1000;
        /// All else together. It is sent once, in Base64.
        const MAX_FACTS_BYTES: usize = 1400;
        let mut room = Room(MAX_CHAIN_BYTES);
        self.chain.retain_mut(|text| room.take([text]));
        let mut room = Room(MAX_FACTS_BYTES);
        self.fields.retain_mut(|wrong| room.take([&mut wrong.field, &mut wrong.description]));
        self.preconditions
            .retain_mut(|unmet| room.take([&mut unmet.r#type, &mut unmet.subject, &mut unmet.description]));
        self.metadata.retain(|_, value| room.take([value]));
        self
    }
}

/// How many bytes of text still fit.
struct Room(usize);

impl Room {
    /// Takes room for texts that belong together, and cuts them to it. False if no room was left.
    fn take<const N: usize>(&mut self, texts: [&mut String; N]) -> bool {
        let was_left = self.0 > 0;
        for text in texts {
            cut(text, self.0);
            self.0 = self.0.saturating_sub(text.len());
        }
        was_left
    }
}

/// Cuts a text to at most `most` bytes, and marks that it was cut.
fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for ApiError {}

impl From<ApiError> for Status {
    /// Cuts what is longer than the headers of HTTP/2 can hold.
    fn from(error: ApiError) -> Status {
        let error = error.cut_for_headers();
        Status::with_error_details(error.code, error.message(), error.details())
    }
}

impl From<&ApiError> for pb::Status {
    fn from(error: &ApiError) -> pb::Status {
        // A call's status carries this encoded message as its details.
        let status = Status::with_error_details(error.code, error.message(), error.details());
        prost::Message::decode(status.details()).expect("encoded one line above")
    }
}

impl From<&Status> for ApiError {
    /// A status that comes from the transport, and not from an agent, becomes
    /// [`Reason::AgentUnreachable`].
    fn from(status: &Status) -> Self {
        let of_transport = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled);
        if of_transport && status.details().is_empty() {
            return Self::new(Reason::AgentUnreachable, "the connection to the agent was lost")
                .with_causes([status.message().to_owned()]);
        }
        Self::read(status.code(), status.message(), status.get_error_details())
    }
}

impl From<&pb::Status> for ApiError {
    fn from(status: &pb::Status) -> Self {
        Self::read(Code::from_i32(status.code), &status.message, status.get_error_details())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full_error() -> ApiError {
        ApiError::new(Reason::VpsRunning, "failed to delete VPS web1")
            .with_causes(["it is running".to_owned(), "pid 4711".to_owned()])
            .with_hint("stop it first, or delete it with --force")
            .with_metadata("state", "running")
            .with_precondition("STATE", "web1", "it must be stopped")
    }

    #[test]
    fn nothing_is_lost_on_the_way() {
        for error in [full_error(), ApiError::invalid_field("limits.memory_bytes", "too small")] {
            let text = |error: &ApiError| format!("{error:#?}");
            assert_eq!(text(&ApiError::from(&Status::from(error.clone()))), text(&error));
            assert_eq!(text(&ApiError::from(&pb::Status::from(&error))), text(&error));
        }
    }

    #[test]
    fn a_foreign_client_sees_the_whole_chain() {
        let status = Status::from(full_error());
        assert_eq!(status.message(), "failed to delete VPS web1: it is running: pid 4711");
        assert_eq!(status.code(), Code::FailedPrecondition);
    }

    #[test]
    fn errors_from_elsewhere_exit_by_their_code() {
        let error = ApiError::from(&Status::new(Code::NotFound, "no such thing"));
        assert_eq!((error.exit_code(), error.reason()), (exit::NOT_FOUND, None));
        let mut newer = full_error();
        newer.reason = "INVENTED_LATER".into();
        assert_eq!(ApiError::from(&Status::from(newer)).exit_code(), exit::REFUSED);
    }

    /// An upper bound of what a status takes in headers: percent-encoded text, and Base64.
    fn bytes_on_the_wire(status: &Status) -> usize {
        status.message().len() * 3 + status.details().len() * 4 / 3
    }

    #[test]
    fn a_long_chain_fits_into_the_headers() {
        let error = full_error().with_causes((0..100).map(|n| format!("{n}: {}", "é".repeat(100))));
        let status = Status::from(error);
        assert!(bytes_on_the_wire(&status) < 8000, "{}", bytes_on_the_wire(&status));
        assert!(status.message().starts_with("failed to delete VPS web1: it is running: pid 4711: 0: é"));
        assert!(status.message().ends_with('…'));
    }

    #[test]
    fn what_is_quoted_of_a_request_fits_into_the_headers() {
        let long = "é".repeat(1 << 20);
        for error in [
            ApiError::invalid_field(format!("environment.{long}"), format!("{long} is not a name")),
            ApiError { fields: vec![FieldViolation::new("user", &*long); 20], ..full_error() },
            full_error().with_precondition("STATE", &long, long.clone()).with_hint(long.clone()),
            full_error().with_metadata("name", long.clone()).with_causes([long.clone()]),
        ] {
            let before = (error.code, error.reason());
            let status = Status::from(error);
            assert!(bytes_on_the_wire(&status) < 8000, "{}", bytes_on_the_wire(&status));
            let after = ApiError::from(&status);
            assert_eq!((after.code, after.reason()), before);
        }
    }
}
