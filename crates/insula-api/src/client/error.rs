//! Why a client could not connect.

use std::error::Error;
use std::io;

/// Why a client could not connect.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens at the address, or it does not accept this client.
    #[error("failed to connect to the agent at {address}")]
    Unreachable {
        /// The address that was tried.
        address: String,
        /// The error of the socket.
        #[source]
        source: io::Error,
    },
    /// The server at the address can't prove that it is the agent.
    #[error("failed to verify the identity of the agent at {address}")]
    NotTheAgent {
        /// The address that was tried.
        address: String,
        /// The error of TLS.
        #[source]
        source: rustls::Error,
    },
    /// The client's credentials can't be used.
    #[error("failed to use {what} for the agent at {address}")]
    Credentials {
        /// Which of them: the address, the CA, the client's certificate, or its key.
        what: &'static str,
        /// The address of the agent that they are for.
        address: String,
        /// What is wrong with them.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ConnectError {
    /// Whether an agent may be there that this user has no permission to talk to.
    pub fn is_permission_denied(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}
