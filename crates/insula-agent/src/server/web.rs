//! Tells browsers which origins' scripts may call the API (CORS, <https://fetch.spec.whatwg.org/>).

use std::time::Duration;

use anyhow::Context;
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::CorsLayer;

/// How long a browser may remember the answer.
const REMEMBER: Duration = Duration::from_secs(3600);

/// Answers preflights, which browsers send without a certificate, and lets scripts of the allowed
/// origins read the answers to calls.
pub fn origins(allowed: &[String]) -> anyhow::Result<CorsLayer> {
    let origin = |text: &String| {
        HeaderValue::from_str(text)
            .with_context(|| format!("grpc_web.allowed_origins: wrong origin {text:?}"))
    };
    let origins: Vec<HeaderValue> = allowed.iter().map(origin).collect::<Result<_, _>>()?;
    let named =
        |names: &[&'static str]| names.iter().copied().map(HeaderName::from_static).collect::<Vec<_>>();
    Ok(CorsLayer::new()
        .allow_origin(origins)
        .allow_credentials(true) // a client's certificate is one
        .allow_methods([Method::POST])
        .allow_headers(
            [vec![header::CONTENT_TYPE], named(&["x-grpc-web", "x-user-agent", "grpc-timeout"])].concat(),
        )
        .expose_headers(named(&["grpc-status", "grpc-message", "grpc-status-details-bin"]))
        .max_age(REMEMBER))
}
