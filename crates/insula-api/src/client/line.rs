//! The connection of a client, which remembers why the agent has ended it.
//!
//! With TLS 1.3 a client hears only after the handshake that its certificate was refused, and HTTP/2 makes a lost
//! connection of that. Who asks must be told the one from the other: only a lost connection is worth another try.

use insula_types::Reason;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::Channel;
use tower::Service;

use crate::error::ApiError;

/// The key of the alert in the metadata of `ErrorInfo`.
const ALERT: &str = "alert";

/// The alert of TLS, such as `CertificateExpired`, with which the agent refused this client's certificate, if a call has failed
/// for that.
pub fn refused_certificate(status: &Status) -> Option<String> {
    ApiError::from(status).metadata.remove(ALERT)
}

/// Why the agent has ended a connection, where it has said so.
#[derive(Debug, Clone, Default)]
pub struct Refusal(Arc<Mutex<Option<rustls::AlertDescription>>>);

impl Refusal {
    /// A new connection, a new chance.
    pub fn forget(&self) {
        self.set(None);
    }

    fn set(&self, alert: Option<rustls::AlertDescription>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = alert;
    }

    /// What an error of the transport means.
    fn explain(&self, error: tonic::transport::Error) -> Box<dyn Error + Send + Sync> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            None => error.into(),
            Some(alert) => {
                let error =
                    ApiError::new(Reason::Unauthenticated, "the agent refused this client's certificate")
                        .with_causes([format!("TLS alert {alert:?}")])
                        .with_metadata(ALERT, format!("{alert:?}"))
                        .with_hint(
                            "enroll again with a new token: insula access token create, insula remote add",
                        );
                Status::from(error).into()
            }
        }
    }
}

/// A connection to an agent, for the generated clients. It reconnects by itself; copies share it.
#[derive(Debug, Clone)]
pub struct Line {
    channel: Channel,
    refusal: Refusal,
}

impl Line {
    /// A connection whose streams note their ends in `refusal`.
    pub fn new(channel: Channel, refusal: Refusal) -> Self {
        Self { channel, refusal }
    }
}

impl Service<Request<Body>> for Line {
    type Response = Response<Body>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context).map_err(|error| self.refusal.explain(error))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (answer, refusal) = (self.channel.call(request), self.refusal.clone());
        Box::pin(async move { answer.await.map_err(|error| refusal.explain(error)) })
    }
}

/// A stream of TLS that notes with what alert it ends.
pub struct Noted<S> {
    stream: S,
    refusal: Refusal,
    failed_write: Option<io::Error>,
}

impl<S> Noted<S> {
    /// A stream that has just been set up.
    pub fn new(stream: S, refusal: Refusal) -> Self {
        refusal.forget();
        Self { stream, refusal, failed_write: None }
    }
}

impl<S: AsyncRead + Unpin> Noted<S> {
    fn note_end(&self, error: &io::Error) {
        if let Some(rustls::Error::AlertReceived(alert)) = super::tls::find_error(error) {
            self.refusal.set(Some(*alert));
        }
    }

    /// The result of a write. What is written to a connection that the agent has ended may fail before we have read why:
    /// then it fails when we have. The end can be read in any case, so that does not wait for ever.
    fn poll_written<T>(&mut self, context: &mut Context<'_>, written: io::Result<T>) -> Poll<io::Result<T>> {
        let error = match written {
            Ok(written) => return Poll::Ready(Ok(written)),
            Err(error) => error,
        };
        let mut scratch = [0; 1024];
        match Pin::new(&mut self.stream).poll_read(context, &mut ReadBuf::new(&mut scratch)) {
            Poll::Pending => {
                self.failed_write = Some(error);
                return Poll::Pending;
            }
            Poll::Ready(Err(end)) => self.note_end(&end),
            Poll::Ready(Ok(())) => {}
        }
        Poll::Ready(Err(error))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        read.map(|read| read.inspect_err(|error| self.note_end(error)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match self.failed_write.take() {
            Some(error) => Err(error),
            None => ready!(Pin::new(&mut self.stream).poll_write(context, bytes)),
        };
        self.poll_written(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match self.failed_write.take() {
            Some(error) => Err(error),
            None => ready!(Pin::new(&mut self.stream).poll_flush(context)),
        };
        self.poll_written(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
