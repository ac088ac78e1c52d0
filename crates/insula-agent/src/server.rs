//! The gRPC server. It offers all services on the unix socket, for root, and over the network, for
//! clients that have enrolled.
//!
//! Both ways lead through the same [`guard`].

mod authenticators;
mod cut;
mod guard;
mod places;
mod rate;
mod tcp;
mod tls;
mod web;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use insula_api::v1;
use insula_engine::{Engine, Settings};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use crate::pki::{Authority, Remote};
use crate::services;

pub use guard::PeerName;
pub use rate::may_log_stranger;
pub use tls::Identity;

use guard::Guard;

/// The longest request that the server accepts. The definition of an image is by far the longest.
const MAX_REQUEST_BYTES: usize = 4 << 20;
/// The maximum size of a request's headers.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// How often a connection over the network is probed, and how long the answer to a probe may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// The server's side of the network.
#[derive(Debug)]
pub struct Network {
    listener: TcpListener,
    /// The CA, and the agent's addresses.
    pub remote: Arc<Remote>,
    /// The server's certificate.
    pub identity: Arc<Identity>,
}

impl Network {
    /// Listens at the address in the settings. `None` if there is none.
    pub async fn open(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let Some(address) = settings.listen else { return Ok(None) };
        let listening = || format!("failed to listen on {address}");
        let listener = TcpListener::bind(address).await.with_context(listening)?;
        let address = listener.local_addr().with_context(listening)?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let names = names(settings, &host, address);
        let remote = Arc::new(Remote {
            authority: Authority::open(&settings.state_dir.join("pki"), &host)?,
            addresses: names.iter().map(|name| authority(name, address.port())).collect(),
            certificate_life: settings.access.certificate_life(),
        });
        let identity = Identity::new(remote.clone(), names)?;
        tracing::info!(%address, ca = ?remote.authority, "clients may connect");
        Ok(Some(Self { listener, remote, identity }))
    }
}

/// The names that the server's certificate is valid for, the ones that clients most likely use
/// first.
fn names(settings: &Settings, host: &str, address: SocketAddr) -> Vec<String> {
    let mut names = settings.tls.names.clone();
    let listens_at = Some(address.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
    for name in listens_at.into_iter().chain([host.to_owned()]) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Host and port in the form of a URL.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Listens on the socket, which only root may use. A socket that a dead agent left is replaced,
/// which is safe because this agent has the lock on the state directory.
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("failed to replace {}", path.display()));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("failed to listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("failed to protect {}", path.display()))?;
    Ok(listener)
}

/// Serves until `ended`, then lets calls in progress finish.
pub async fn serve(
    engine: Engine,
    socket: UnixListener,
    network: Option<Network>,
    ended: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let remote = network.as_ref().map(|network| network.remote.clone());
    let shared = services::Shared::new(engine.clone(), remote);
    let routes = routes(&shared).await?;
    let guard = Guard::new(engine.clone());
    let ending = watch::Sender::new(false);
    let local = Server::builder().layer(guard.clone()).add_routes(routes.clone());
    let local = local.serve_with_incoming_shutdown(UnixListenerStream::new(socket), until(&ending));
    let remote = serve_network(engine, network, guard, routes, until(&ending));
    let serving = async {
        let (local, remote) =
            tokio::join!(async { local.await.context("failed to serve the socket") }, remote);
        local.and(remote)
    };
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => return served,
        () = ended => {}
    }
    shared.end_streams();
    ending.send_replace(true);
    // After this time, calls that don't end by themselves are cut off.
    const GRACE: Duration = Duration::from_secs(5);
    tokio::time::timeout(GRACE, serving).await.unwrap_or(Ok(()))
}

/// Waits until the flag is true.
fn until(flag: &watch::Sender<bool>) -> impl Future<Output = ()> + use<> {
    let mut flag = flag.subscribe();
    async move {
        let _ = flag.wait_for(|flag| *flag).await; // gone is ended
    }
}

/// Serves clients over the network. Does nothing without a network.
async fn serve_network(
    engine: Engine,
    network: Option<Network>,
    guard: Guard,
    routes: Routes,
    ended: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let Some(network) = network else { return Ok(()) };
    let settings = engine.settings().clone();
    let browsers = settings.grpc_web.enabled;
    let connections = tcp::incoming(engine, network.listener, tls::config(network.identity, browsers)?);
    let server = Server::builder()
        .max_concurrent_streams(settings.access.calls_per_connection)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE.0))
        .http2_keepalive_timeout(Some(KEEP_ALIVE.1));
    let served = match browsers {
        false => {
            server.layer(guard).add_routes(routes).serve_with_incoming_shutdown(connections, ended).await
        }
        true => {
            let server = server.accept_http1(true).layer(web::origins(&settings.grpc_web.allowed_origins)?);
            let server = server.layer(tonic_web::GrpcWebLayer::new()).layer(guard).add_routes(routes);
            server.serve_with_incoming_shutdown(connections, ended).await
        }
    };
    served.context("failed to serve the network")
}

/// Registers all services.
async fn routes(shared: &services::Shared) -> anyhow::Result<Routes> {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_service_status("", ServingStatus::Serving).await;
    let reflection = describe_itself().build_v1().context("failed to build the reflection service")?;
    // Python's and older clients ask for this name, which has the same messages.
    let reflection_alpha =
        describe_itself().build_v1alpha().context("failed to build the reflection service")?;
    macro_rules! service {
        ($server:ty) => {
            <$server>::new(shared.clone()).max_decoding_message_size(MAX_REQUEST_BYTES)
        };
    }
    Ok(Routes::new(health)
        .add_service(reflection)
        .add_service(reflection_alpha)
        .add_service(service!(v1::access_service_server::AccessServiceServer<_>))
        .add_service(service!(v1::event_service_server::EventServiceServer<_>))
        .add_service(service!(v1::file_service_server::FileServiceServer<_>))
        .add_service(service!(v1::host_service_server::HostServiceServer<_>))
        .add_service(service!(v1::image_service_server::ImageServiceServer<_>))
        .add_service(service!(v1::network_service_server::NetworkServiceServer<_>))
        .add_service(service!(v1::operation_service_server::OperationServiceServer<_>))
        .add_service(service!(v1::profile_service_server::ProfileServiceServer<_>))
        .add_service(service!(v1::snapshot_service_server::SnapshotServiceServer<_>))
        .add_service(service!(v1::storage_service_server::StorageServiceServer<_>))
        .add_service(service!(v1::usage_service_server::UsageServiceServer<_>))
        .add_service(service!(v1::vps_service_server::VpsServiceServer<_>)))
}

/// The server's description of itself, for reflection.
fn describe_itself() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(insula_api::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_for_what_clients_may_use() {
        let mut settings = Settings::default();
        settings.tls.names = vec!["vps1.example.net".into(), "192.0.2.1".into()];
        let names = |address: &str| names(&settings, "vps1", address.parse().unwrap());
        assert_eq!(names("0.0.0.0:8443"), ["vps1.example.net", "192.0.2.1", "vps1"]);
        assert_eq!(names("192.0.2.1:8443"), ["vps1.example.net", "192.0.2.1", "vps1"]);
        assert_eq!(names("[2001:db8::1]:8443"), ["vps1.example.net", "192.0.2.1", "2001:db8::1", "vps1"]);
        assert_eq!(authority("2001:db8::1", 8443), "[2001:db8::1]:8443");
    }
}
