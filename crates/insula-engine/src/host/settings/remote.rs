//! Settings of the way in over the network.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

/// The server's certificate.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// Host names and IP addresses that clients use, next to the host's own name and the address it listens at.
    pub names: Vec<String>,
}

/// Clients: their certificates, and how much they may ask for.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessSettings {
    /// Days that a client's certificate lives. Clients renew theirs before.
    pub certificate_days: u32,
    /// How many requests a client may make per second, for long; twice as many at once.
    pub requests_per_second: u32,
    /// How many calls a connection may have open.
    pub calls_per_connection: u32,
    /// How many connections there may be.
    pub connections: usize,
    /// How many of them from one IP address (IPv6: one /64).
    pub connections_per_address: usize,
}

/// gRPC-Web, for browsers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcWebSettings {
    /// Whether it is spoken.
    pub enabled: bool,
    /// The origins whose scripts may use it, such as `https://panel.example.net`.
    pub allowed_origins: Vec<String>,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self {
            certificate_days: 90,
            requests_per_second: 200,
            calls_per_connection: 200,
            connections: 4096,
            connections_per_address: 1024,
        }
    }
}

impl AccessSettings {
    /// How long a client's certificate lives.
    pub fn certificate_life(&self) -> Duration {
        Duration::from_secs(u64::from(self.certificate_days) * 24 * 3600)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=3650).contains(&self.certificate_days) {
            return Err("access.certificate_days: it must be 1 to 3650".to_owned());
        }
        let numbers = [
            ("requests_per_second", self.requests_per_second as usize),
            ("calls_per_connection", self.calls_per_connection as usize),
            ("connections", self.connections),
            ("connections_per_address", self.connections_per_address),
        ];
        match numbers.iter().find(|(_, number)| *number == 0) {
            Some((key, _)) => Err(format!("access.{key}: it must be at least 1")),
            None => Ok(()),
        }
    }
}

impl TlsSettings {
    pub(super) fn check(&self) -> Result<(), String> {
        match self.names.iter().find(|name| !is_host(name)) {
            Some(wrong) => Err(format!("tls.names: {wrong:?} must be a host name or an IP address")),
            None => Ok(()),
        }
    }
}

impl GrpcWebSettings {
    pub(super) fn check(&self) -> Result<(), String> {
        match self.allowed_origins.iter().find(|origin| !is_origin(origin)) {
            Some(wrong) => Err(format!(
                "grpc_web.allowed_origins: {wrong:?} must be an origin, such as https://panel.example.net"
            )),
            None => Ok(()),
        }
    }
}

/// A host name (RFC 1123) or an IP address.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(is_label))
}

/// Scheme, host and port, as browsers write it: RFC 6454 section 6.2.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_plain =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':' | b'[' | b']');
    host.is_some_and(|host| !host.is_empty() && host.bytes().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_certificate_can_be_for() {
        for good in ["vps1", "vps1.example.net", "192.0.2.1", "2001:db8::1"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "a b", "https://vps1", "vps1:8443", "-a", "a..b", "*.example.net", &"a".repeat(64)] {
            assert!(!is_host(bad), "{bad:?}");
        }
    }

    #[test]
    fn what_an_origin_is() {
        for good in ["https://panel.example.net", "http://localhost:8080", "https://[2001:db8::1]"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in ["", "*", "panel.example.net", "https://", "https://a/", "https://A", "https://a b"] {
            assert!(!is_origin(bad), "{bad:?}");
        }
    }
}
