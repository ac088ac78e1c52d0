//! Which client asks for a change, and how.

use insula_types::{RequestId, Requester};

/// What comes with every request for a change, whatever it asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The client that asks.
    pub requester: Requester,
    /// The client's own id for the request.
    pub request_id: Option<RequestId>,
    /// The method and the encoded request: what a retry must be equal in.
    pub body: Vec<u8>,
    /// The version that the client has seen of what it wants to change.
    pub etag: Option<String>,
    /// Whether all is checked and nothing done.
    pub validate_only: bool,
}

impl Asked {
    /// By a requester that retries nothing.
    pub fn by(requester: Requester) -> Self {
        Self { requester, request_id: None, body: vec![], etag: None, validate_only: false }
    }
}
