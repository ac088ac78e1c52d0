//! Finds out who calls, by a list of authenticators. Each knows one way to prove an identity.
//!
//! The list is asked in order. The first authenticator that recognizes a proof decides, whether the
//! proof is good or not. A caller whose proof none recognizes is a stranger. The rest of the server
//! sees only the result.

use std::fmt;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use http::Request;
use insula_api::{ApiError, Reason};
use insula_engine::Engine;
use insula_types::Requester;
use tonic::body::Body;
use tonic::transport::server::UdsConnectInfo;

use crate::server::cut::access_ended;
use crate::server::tcp::Peer;

/// The proven identity of a caller, and how long it holds.
#[derive(Clone)]
pub struct Identity {
    /// The caller.
    pub requester: Requester,
    /// Whether the rate of the caller's requests is limited.
    pub is_limited: bool,
    /// Completes when the proof is no longer valid. Calls of the identity end then.
    pub ended: Shared<BoxFuture<'static, ()>>,
}

/// A way for a caller to prove its identity.
pub trait Authenticator: Send + Sync + fmt::Debug {
    /// Finds the caller of a request from its head and its connection. `None` if the request
    /// carries no proof that this authenticator knows; an error if it carries one that is not
    /// valid.
    fn authenticate(&self, request: &Request<Body>) -> Result<Option<Identity>, ApiError>;
}

/// The answer of the first authenticator in the list that has one.
pub fn authenticate(
    list: &[Box<dyn Authenticator>],
    request: &Request<Body>,
) -> Result<Option<Identity>, ApiError> {
    list.iter().find_map(|one| one.authenticate(request).transpose()).transpose()
}

/// Knows a caller by the process at the other end of the unix socket: root of the host, and nobody
/// else.
#[derive(Debug)]
pub struct UnixPeer;

impl Authenticator for UnixPeer {
    fn authenticate(&self, request: &Request<Body>) -> Result<Option<Identity>, ApiError> {
        let Some(socket) = request.extensions().get::<UdsConnectInfo>() else { return Ok(None) };
        match socket.peer_cred.map(|credentials| credentials.uid()) {
            Some(0) => Ok(Some(Identity {
                requester: Requester::root(),
                is_limited: false,
                ended: futures::future::pending().boxed().shared(),
            })),
            _ => Err(ApiError::new(Reason::PermissionDenied, "this socket is for root")),
        }
    }
}

/// Knows a caller by the client certificate of its TLS connection.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The engine that knows the clients.
    pub engine: Engine,
}

impl Authenticator for ClientCertificate {
    fn authenticate(&self, request: &Request<Body>) -> Result<Option<Identity>, ApiError> {
        let Some(Peer { address, certificate: Some(certificate) }) = request.extensions().get() else {
            return Ok(None);
        };
        let found = self.engine.requester_of(certificate, &address.to_string());
        Ok(Some(Identity {
            requester: found.ok_or_else(access_ended)?,
            is_limited: true,
            ended: self.engine.access_ended(certificate.to_string()).boxed().shared(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows a caller by a word in a header, as tokens will work.
    #[derive(Debug)]
    struct Word(&'static str, &'static str);

    impl Authenticator for Word {
        fn authenticate(&self, request: &Request<Body>) -> Result<Option<Identity>, ApiError> {
            let Some(shown) = request.headers().get(self.0) else { return Ok(None) };
            match shown == self.1 {
                true => Ok(Some(Identity {
                    requester: Requester { name: self.0.to_owned(), ..Requester::root() },
                    is_limited: true,
                    ended: futures::future::pending().boxed().shared(),
                })),
                false => Err(ApiError::new(Reason::Unauthenticated, self.0)),
            }
        }
    }

    #[test]
    fn the_first_that_recognizes_something_decides() {
        let list: [Box<dyn Authenticator>; 3] =
            [Box::new(UnixPeer), Box::new(Word("first", "x")), Box::new(Word("second", "y"))];
        for (shown, expected) in [
            (&[][..], Ok(None)),
            (&[("first", "x")], Ok(Some("first"))),
            (&[("second", "y")], Ok(Some("second"))),
            (&[("second", "y"), ("first", "x")], Ok(Some("first"))),
            (&[("second", "y"), ("first", "wrong")], Err("first")),
            (&[("second", "wrong")], Err("second")),
            (&[("third", "x")], Ok(None)),
        ] {
            let mut request = Request::builder();
            for (name, value) in shown {
                request = request.header(*name, *value);
            }
            let found = authenticate(&list, &request.body(Body::empty()).unwrap());
            let found = found.map(|identity| identity.map(|identity| identity.requester.name));
            let found = found.as_ref().map(Option::as_deref).map_err(|error| &*error.chain[0]);
            assert_eq!(found, expected, "{shown:?}");
        }
    }

    #[test]
    fn the_socket_is_for_root() {
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(UdsConnectInfo { peer_addr: None, peer_cred: None });
        let refused = UnixPeer.authenticate(&request).err().expect("nobody knows who it is");
        assert_eq!(refused.reason(), Some(Reason::PermissionDenied));
    }
}
