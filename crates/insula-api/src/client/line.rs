//! A client's connection, which remembers why the agent ended it.
//!
//! With TLS 1.3 a client learns only after the handshake that its certificate was refused, and
//! HTTP/2 reports that as a lost connection. The two must be told apart, because only a lost
//! connection is worth a retry.

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

/// The TLS alert, such as `CertificateExpired`, with which the agent refused this client's
/// certificate. `None` if the call failed for another reason.
pub fn refused_certificate(status: &Status) -> Option<String> {
    ApiError::from(status).metadata.remove(ALERT)
}

/// Why the agent ended a connection, if it said so.
#[derive(Debug, Clone, Default)]
pub struct Refusal(Arc<Mutex<Option<rustls::AlertDescription>>>);

impl Refusal {
    /// Forgets the reason, when a new connection begins.
    pub fn forget(&self) {
        self.set(None);
    }

    fn set(&self, alert: Option<rustls::AlertDescription>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = alert;
    }

    /// Turns an error of the transport into one that says what it means.
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

/// A connection to an agent, for the generated clients. It reconnects by itself, and clones share
/// it.
#[derive(Debug, Clone)]
pub struct Line {
    channel: Channel,
    refusal: Refusal,
}

impl Line {
    /// Makes a connection from a channel whose streams note in `refusal` why they ended.
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

/// A TLS stream that notes the alert with which it ends.
pub struct Noted<S> {
    stream: S,
    refusal: Refusal,
    failed_write: Option<io::Error>,
}

impl<S> Noted<S> {
    /// Wraps a stream that has just been set up.
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

    /// The result of a write. A write to a connection that the agent has ended may fail before the
    /// reason has been read. The error is then held back until it has been. The end of the stream
    /// can always be read, so this does not wait for ever.
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
