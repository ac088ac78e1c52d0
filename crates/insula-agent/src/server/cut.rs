//! Calls that are cut off, because their deadline has passed or their caller's access has ended.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use http_body::Frame;
use insula_api::{ApiError, Reason};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

type Data = <Body as http_body::Body>::Data;

/// Completes when a call must end early, with the status that it then gets.
pub type Cut = Pin<Box<dyn Future<Output = Status> + Send>>;

/// The cut for a call with this deadline, by a caller whose access ends when `ended` completes.
pub fn cut(deadline: Option<Instant>, ended: impl Future<Output = ()> + Send + 'static) -> Cut {
    Box::pin(async move {
        let over = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => Status::deadline_exceeded("the call has taken longer than its deadline allows"),
            () = ended => access_ended().into(),
        }
    })
}

/// The error for a client whose certificate is no longer valid.
pub fn access_ended() -> ApiError {
    ApiError::new(Reason::Unauthenticated, "this certificate is not, or no longer, that of a client")
        .with_hint("ask for a token, and enroll with `insula remote add`")
}

/// The time that a caller gives a call: the header `grpc-timeout` of gRPC over HTTP/2. `None` if it
/// is malformed.
pub fn time_limit(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// A body that may be cut off.
pub struct CutBody {
    body: Body,
    cut: Option<Cut>,
    ends_with: fn(Status) -> Option<Result<Frame<Data>, Status>>,
}

impl CutBody {
    /// Wraps the body of a response. When it is cut, it ends with the status, in the way of gRPC.
    pub fn response(body: Body, cut: Cut) -> Body {
        Body::new(Self { body, cut: Some(cut), ends_with: |status| trailers(&status).map(Ok) })
    }

    /// Wraps the body of a request. When it is cut, its reader gets the status as an error.
    pub fn request(body: Body, cut: Cut) -> Body {
        Body::new(Self { body, cut: Some(cut), ends_with: |status| Some(Err(status)) })
    }
}

fn trailers(status: &Status) -> Option<Frame<Data>> {
    let mut headers = HeaderMap::new();
    status.add_header(&mut headers).ok()?;
    Some(Frame::trailers(headers))
}

impl http_body::Body for CutBody {
    type Data = Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, Status>>> {
        let Some(cut) = &mut self.cut else { return Poll::Ready(None) };
        if let Poll::Ready(status) = cut.as_mut().poll(cx) {
            self.cut = None;
            self.body = Body::empty();
            return Poll::Ready((self.ends_with)(status));
        }
        http_body::Body::poll_frame(Pin::new(&mut self.body), cx)
    }

    fn is_end_stream(&self) -> bool {
        self.cut.is_none() || http_body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits_are_read_as_grpc_writes_them() {
        let limit = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            time_limit(&headers)
        };
        assert_eq!(limit("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(limit("1M"), Some(Duration::from_secs(60)));
        assert_eq!(limit("250m"), Some(Duration::from_millis(250)));
        assert_eq!(
            (limit("7u"), limit("7n")),
            (Some(Duration::from_micros(7)), Some(Duration::from_nanos(7)))
        );
        for bad in ["", "1", "S", "+1S", "123456789S", "1s", "1.5S", "-1S"] {
            assert_eq!(limit(bad), None, "{bad:?}");
        }
        assert_eq!(time_limit(&HeaderMap::new()), None);
    }
}
