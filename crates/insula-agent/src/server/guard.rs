//! The guard: what happens before every call, on every way in. It checks who calls, how often, and
//! whether the call is allowed.
//!
//! The guard stands in front of all services, health and reflection included. A list of
//! authenticators tells it who calls, and [`authorize`] whether the call is allowed. The guard
//! carries out both answers. It puts the caller and the method ([`Caller`]) and the caller's
//! address ([`PeerName`]) into the request's extensions. A refusal to a known client is noted in
//! the audit log. One to a stranger is only logged, and rarely, so that strangers can't fill the
//! disk.
//!
//! A request that does not declare itself gRPC is not a call, whoever sends it ([`is_grpc`]).

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response, StatusCode, header};
use insula_api::access::{Action, Decision, Effect, Method, Object, Refusal, authorize};
use insula_api::{ApiError, Reason};
use insula_engine::Engine;
use insula_sys::clock::now_ms;
use insula_types::{AuditEntry, Requester};
use tonic::Status;
use tonic::body::Body;
use tonic_types::StatusExt as _;
use tower::{Layer, Service};

use crate::server::authenticators::{Authenticator, ClientCertificate, Identity, UnixPeer, authenticate};
use crate::server::cut::{Cut, CutBody, cut, time_limit};
use crate::server::places::origin;
use crate::server::rate::{Rate, may_log_stranger};
use crate::server::tcp::Peer;
use crate::services::Caller;

/// How many requests per second strangers may send: all of them together, and each.
const STRANGERS_PER_SECOND: (u32, u32) = (50, 5);

/// How many refusals to one client are noted, per second and in a burst. The audit log is never
/// shortened.
const REFUSALS_PER_SECOND: (u32, u32) = (1, 200);

/// The address that a call comes from, for people: `unix`, or an IP address with a port.
#[derive(Debug, Clone)]
pub struct PeerName(pub String);

/// The guard, as a layer. Clones share its state.
#[derive(Debug, Clone)]
pub struct Guard {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    authenticators: Vec<Box<dyn Authenticator>>,
    clients: Rate<String>,
    refusals: Rate<String>,
    strangers: Rate<IpAddr>,
    all_strangers: Rate<()>,
}

/// A call that the guard has admitted.
struct Admitted {
    method: &'static Method,
    /// The caller. `None` for a stranger that enrolls.
    identity: Option<Identity>,
}

impl Guard {
    /// Makes a guard for the services of this engine.
    pub fn new(engine: Engine) -> Self {
        let per_second = engine.settings().access.requests_per_second;
        let (all, each) = STRANGERS_PER_SECOND;
        Self {
            shared: Arc::new(Shared {
                authenticators: vec![
                    Box::new(UnixPeer),
                    Box::new(ClientCertificate { engine: engine.clone() }),
                ],
                engine,
                clients: Rate::new(per_second, per_second.saturating_mul(2)),
                refusals: Rate::new(REFUSALS_PER_SECOND.0, REFUSALS_PER_SECOND.1),
                strangers: Rate::new(each, each * 2),
                all_strangers: Rate::new(all, all * 2),
            }),
        }
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.shared.clone(), inner }
    }
}

/// A service behind the guard.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    guard: Arc<Shared>,
    inner: S,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if !is_grpc(request.headers()) {
            return Box::pin(std::future::ready(Ok(not_grpc())));
        }
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone); // the one that is ready
        let guard = self.guard.clone();
        // Taken before the transport starts its own timer, whose error would be a different one.
        let now = tokio::time::Instant::now();
        let deadline = time_limit(request.headers()).and_then(|time| now.checked_add(time));
        Box::pin(async move {
            match guard.admit(&mut request).await {
                Ok(admitted) => Ok(guard.run(&admitted, deadline, inner, request).await),
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

impl Shared {
    async fn admit(&self, request: &mut Request<Body>) -> Result<Admitted, Status> {
        let method = Method::of(request.uri().path());
        let identity = match authenticate(&self.authenticators, request) {
            Ok(Some(identity)) => identity,
            Ok(None) => return self.admit_stranger(request, method),
            Err(error) => return Err(self.turn_away(request, error)),
        };
        let requester = &identity.requester;
        if identity.is_limited {
            limit(self.clients.take(requester.name.clone(), Instant::now()))?;
        }
        let method = method.ok_or_else(|| Status::unimplemented("there is no such method"))?;
        if let Decision::Forbidden(why) = authorize(Some(requester), Action::Call(method), Object::Host) {
            limit(self.refusals.take(requester.name.clone(), Instant::now()))?;
            return Err(self.refuse(requester.clone(), method, why).await);
        }
        request.extensions_mut().insert(PeerName(requester.peer.clone()));
        request.extensions_mut().insert(Caller { requester: requester.clone(), method });
        Ok(Admitted { method, identity: Some(identity) })
    }

    /// Admits a stranger to what needs no identity.
    fn admit_stranger(
        &self,
        request: &mut Request<Body>,
        method: Option<&'static Method>,
    ) -> Result<Admitted, Status> {
        let open = method.filter(|method| {
            matches!(authorize(None, Action::Call(method), Object::Host), Decision::Allowed { .. })
        });
        let Some(method) = open else { return Err(self.turn_away(request, Refusal::of_stranger().into())) };
        let peer = self.limit_stranger(request)?;
        request.extensions_mut().insert(PeerName(peer.map_or_else(String::new, |peer| peer.to_string())));
        Ok(Admitted { method, identity: None })
    }

    /// The answer to a stranger, or to a caller whose proof is not valid.
    fn turn_away(&self, request: &Request<Body>, error: ApiError) -> Status {
        match self.limit_stranger(request) {
            Err(too_often) => too_often,
            Ok(None) => error.into(),
            Ok(Some(peer)) => {
                if may_log_stranger() {
                    tracing::info!(%peer, path = request.uri().path(), "refused: {error}");
                }
                error.into()
            }
        }
    }

    /// Limits how often strangers may send requests. Returns the stranger's address, if it calls
    /// over the network.
    fn limit_stranger(&self, request: &Request<Body>) -> Result<Option<SocketAddr>, Status> {
        let Some(Peer { address, .. }) = request.extensions().get() else { return Ok(None) };
        let now = Instant::now();
        limit(self.strangers.take(origin(address.ip()), now))?;
        limit(self.all_strangers.take((), now))?;
        Ok(Some(*address))
    }

    async fn refuse(&self, requester: Requester, method: &Method, why: Refusal) -> Status {
        let entry = AuditEntry {
            at_ms: now_ms(),
            requester,
            action: method.name().to_owned(),
            object: String::new(),
            object_name: String::new(),
            result: why.reason.as_str().to_owned(),
            request_id: None,
            operation: None,
        };
        if let Err(error) = self.engine.note_refusal(entry).await {
            tracing::error!("failed to note a refusal in the audit log: {}", error.chain());
        }
        ApiError::from(why).into()
    }

    /// Runs the call. The call may be cut off, but a change that it has begun is completed.
    async fn run<S>(
        &self,
        admitted: &Admitted,
        deadline: Option<tokio::time::Instant>,
        mut inner: S,
        request: Request<Body>,
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
    {
        let request = match admitted.method.effect {
            Effect::Session => request.map(|body| CutBody::request(body, new_cut(admitted, deadline))),
            Effect::Read | Effect::Change => request,
        };
        let mut cut = new_cut(admitted, deadline);
        let call = inner.call(request);
        let response = match admitted.method.effect {
            Effect::Change => {
                let call = tokio::spawn(call);
                tokio::select! {
                    response = call => response.unwrap_or_else(|_| Ok(Status::internal("the call panicked").into_http())),
                    status = &mut cut => Ok(status.into_http()),
                }
            }
            Effect::Read | Effect::Session => tokio::select! {
                response = call => response,
                status = &mut cut => Ok(status.into_http()),
            },
        };
        response.unwrap_or_else(|never| match never {}).map(|body| CutBody::response(body, cut))
    }
}

/// Whether a request declares itself gRPC. tonic would serve any request, which must not happen. A
/// page of any origin can make a browser send a request with the content type of a form, or with
/// none, and the browser adds its user's certificate. With the content type of gRPC it first asks
/// whether the origin is allowed (CORS). At this point gRPC-Web has already been translated to
/// gRPC.
fn is_grpc(headers: &HeaderMap) -> bool {
    let shown = headers.get(header::CONTENT_TYPE).and_then(|shown| shown.to_str().ok());
    let format = shown.and_then(|shown| shown.strip_prefix("application/grpc"));
    format.is_some_and(|format| format.is_empty() || format.starts_with(['+', ';']))
}

/// The answer that the protocol of gRPC has for such requests.
fn not_grpc() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

/// What may end this call early.
fn new_cut(admitted: &Admitted, deadline: Option<tokio::time::Instant>) -> Cut {
    match &admitted.identity {
        Some(identity) => cut(deadline, identity.ended.clone()),
        None => cut(deadline, std::future::pending()),
    }
}

/// The error for a caller that sends requests too often. It says when to try again.
fn limit(taken: Result<(), Duration>) -> Result<(), Status> {
    let Err(wait) = taken else { return Ok(()) };
    let status: Status = ApiError::new(Reason::RateLimited, "too many requests").into();
    let mut details = status.get_error_details();
    details.set_retry_info(Some(wait));
    Err(Status::with_error_details(status.code(), status.message(), details))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pages_of_all_origins_can_send_is_not_grpc() {
        let has_type =
            |shown: &str| is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, shown.parse().unwrap())]));
        for grpc in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            assert!(has_type(grpc), "{grpc}");
        }
        for other in [
            "",
            "text/plain",
            "text/plain;application/grpc",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/grpc-web+proto", // where it is off
        ] {
            assert!(!has_type(other), "{other:?}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
