//! Before every call, on every way in: who calls, how often, and whether they may.
//!
//! The guard stands in front of all services, health and reflection included, and lets through what the table of
//! [`insula_api::access`] has. It puts into the request's extensions who calls ([`Requester`]) and from where
//! ([`PeerName`]). What it refuses to somebody known is in the audit log; strangers are only logged, and seldom, so that
//! they can't fill the disk.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{Request, Response};
use insula_api::access::{Effect, Method, OPEN_METHOD};
use insula_api::{ApiError, Reason};
use insula_engine::Engine;
use insula_types::{AuditEntry, Requester};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::server::UdsConnectInfo;
use tonic_types::StatusExt as _;
use tower::{Layer, Service};

use crate::server::cut::{Cut, CutBody, access_ended, cut, time_limit};
use crate::server::places::origin;
use crate::server::rate::{Rate, may_log_stranger};
use crate::server::tcp::Peer;

/// How often all strangers together may ask per second, and each of them.
const STRANGERS_PER_SECOND: (u32, u32) = (50, 5);

/// How many refusals of a client are noted per second, and how many at once: the audit log is on disk for good.
const REFUSALS_PER_SECOND: (u32, u32) = (1, 200);

/// Where a call comes from, for people: `unix`, or an IP address with a port.
#[derive(Debug, Clone)]
pub struct PeerName(pub String);

/// The guard, as a layer. Copies are one.
#[derive(Debug, Clone)]
pub struct Guard {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    clients: Rate<String>,
    refusals: Rate<String>,
    strangers: Rate<IpAddr>,
    all_strangers: Rate<()>,
}

/// Who calls, as the connection tells.
enum Caller {
    /// On the unix socket, with this user id.
    Local(Option<u32>),
    /// Over the network.
    Remote(Peer),
}

/// A call that may be made.
struct Admitted {
    method: &'static Method,
    /// The certificate that it is made with; none on the unix socket, and for who enrolls.
    certificate: Option<Arc<str>>,
}

impl Guard {
    /// In front of the services of this engine.
    pub fn new(engine: Engine) -> Self {
        let per_second = engine.settings().access.requests_per_second;
        let (all, each) = STRANGERS_PER_SECOND;
        Self {
            shared: Arc::new(Shared {
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

/// What is guarded.
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
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone); // the one that is ready
        let guard = self.guard.clone();
        // Before the transport's own timer begins, which has another word for what happens then.
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
        let caller = Caller::of(request);
        let path = request.uri().path().to_owned();
        let (requester, certificate) = match self.identify(&caller) {
            Ok(found) => found,
            Err(error) => return self.admit_stranger(request, &caller, &path, error),
        };
        if certificate.is_some() {
            limit(self.clients.take(requester.name.clone(), Instant::now()))?;
        }
        let Some(method) = Method::of(&path) else {
            return Err(Status::unimplemented("there is no such method"));
        };
        if method.right(requester.role).is_none() {
            limit(self.refusals.take(requester.name.clone(), Instant::now()))?;
            return Err(self.refuse(requester, method).await);
        }
        request.extensions_mut().insert(PeerName(requester.peer.clone()));
        request.extensions_mut().insert(requester);
        Ok(Admitted { method, certificate })
    }

    /// Who it is, and by which certificate.
    fn identify(&self, caller: &Caller) -> Result<(Requester, Option<Arc<str>>), ApiError> {
        match caller {
            Caller::Local(Some(0)) => Ok((Requester::root(), None)),
            Caller::Local(_) => Err(ApiError::new(Reason::PermissionDenied, "this socket is for root")),
            Caller::Remote(Peer { certificate: None, .. }) => {
                Err(ApiError::new(Reason::Unauthenticated, "only clients with a certificate are served here")
                    .with_hint("ask for a token, and enroll with `insula remote add`"))
            }
            Caller::Remote(Peer { address, certificate: Some(certificate) }) => {
                let found = self.engine.requester_of(certificate, &address.to_string());
                found.map(|requester| (requester, Some(certificate.clone()))).ok_or_else(access_ended)
            }
        }
    }

    /// Somebody unknown may do one thing, and not often.
    fn admit_stranger(
        &self,
        request: &mut Request<Body>,
        caller: &Caller,
        path: &str,
        error: ApiError,
    ) -> Result<Admitted, Status> {
        let Caller::Remote(peer) = caller else { return Err(error.into()) };
        let now = Instant::now();
        limit(self.strangers.take(origin(peer.address.ip()), now))?;
        limit(self.all_strangers.take((), now))?;
        let open = Method::of(path).filter(|method| method.path == OPEN_METHOD && peer.certificate.is_none());
        let Some(method) = open else {
            if may_log_stranger() {
                tracing::info!(peer = %peer.address, path, "refused: {error}");
            }
            return Err(error.into());
        };
        request.extensions_mut().insert(PeerName(peer.address.to_string()));
        Ok(Admitted { method, certificate: None })
    }

    async fn refuse(&self, requester: Requester, method: &Method) -> Status {
        let role = requester.role;
        let entry = AuditEntry {
            at_ms: now_ms(),
            requester,
            action: method.name().to_owned(),
            object: String::new(),
            object_name: String::new(),
            result: Reason::PermissionDenied.as_str().to_owned(),
            request_id: None,
            operation: None,
        };
        if let Err(error) = self.engine.note_refusal(entry).await {
            tracing::error!("failed to note a refusal in the audit log: {}", error.chain());
        }
        ApiError::new(Reason::PermissionDenied, format!("the role {role} may not call {}", method.name()))
            .with_hint("docs/access.md says what each role may do")
            .into()
    }

    /// Makes the call. It may be cut off; what changes something goes on to its end nevertheless.
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
        let new_cut = || self.cut(admitted, deadline);
        let request = match admitted.method.effect {
            Effect::Session => request.map(|body| CutBody::request(body, new_cut())),
            Effect::Read | Effect::Change => request,
        };
        let mut cut = new_cut();
        let call = inner.call(request);
        let response = match admitted.method.effect {
            Effect::Change => {
                let call = tokio::spawn(call);
                tokio::select! {
                    response = call => response.unwrap_or_else(|_| Ok(Status::internal("the call has panicked").into_http())),
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

    fn cut(&self, admitted: &Admitted, deadline: Option<tokio::time::Instant>) -> Cut {
        match &admitted.certificate {
            Some(certificate) => cut(deadline, self.engine.access_ended(certificate.to_string())),
            None => cut(deadline, std::future::pending()),
        }
    }
}

impl Caller {
    fn of(request: &Request<Body>) -> Self {
        match request.extensions().get::<Peer>() {
            Some(peer) => Self::Remote(peer.clone()),
            None => {
                let local = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
                Self::Local(local.map(|credentials| credentials.uid()))
            }
        }
    }
}

/// The error for who asks too often; it says when to try again.
fn limit(taken: Result<(), Duration>) -> Result<(), Status> {
    let Err(wait) = taken else { return Ok(()) };
    let status: Status = ApiError::new(Reason::RateLimited, "too many requests").into();
    let mut details = status.get_error_details();
    details.set_retry_info(Some(wait));
    Err(Status::with_error_details(status.code(), status.message(), details))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
