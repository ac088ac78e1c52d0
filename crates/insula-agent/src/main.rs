//! `insulad`: the agent of a host.
//!
//! A thin program: it reads the settings, takes the lock on the state directory, opens the engine,
//! and serves it over gRPC. Guests go on running when the agent ends.

mod config;
mod lock;
mod pki;
mod server;
mod services;
mod status;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use insula_engine::{Engine, Settings};
use insula_sys::process::limit_heaps;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::lock::StateLock;
use crate::server::{Identity, Network};

/// The agent of an Insula host: makes VPSes, boots them, and serves the API.
#[derive(Debug, Parser)]
#[command(name = "insulad", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    config: config::Flags,
    /// Stop every VPS, unmount the pool, remove bridge, nft table and cgroups, and end. Data stays.
    #[arg(long)]
    teardown: bool,
}

const EXAMPLES: &str = "Examples:
  insulad                                   an agent with default settings
  insulad --config /etc/insula/agent.yaml   with settings from a file
  insulad --listen 0.0.0.0:8443             also for clients over the network
  insulad --teardown                        take everything down, keep the data

Signals: SIGTERM and SIGINT end the agent; guests keep running. SIGHUP gives the server a new certificate.
Environment: RUST_LOG sets what is logged, such as insula=debug.";

/// The threads that serve requests. What blocks has further threads for a while.
const WORKERS: u8 = 2;

fn main() -> ExitCode {
    limit_heaps(WORKERS); // for those further threads, too: they are many after a rush
    let arguments = Arguments::parse();
    start_logging();
    let result = run(&arguments);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if let Some(hint) = hint(&error) {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The hint of an engine's error, if it has one.
fn hint(error: &anyhow::Error) -> Option<String> {
    let known = error.downcast_ref::<insula_engine::EngineError>()?;
    known.hint_text().map(str::to_owned)
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config)?;
    if !rustix::process::geteuid().is_root() {
        anyhow::bail!("insulad makes namespaces, mounts and networks: it must run as root");
    }
    // Files of the agent are for root alone, even before their mode is set.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    raise_descriptor_limit();
    let lock = StateLock::take(&settings.state_dir)?;
    std::fs::create_dir_all(&settings.run_dir)
        .with_context(|| format!("failed to make the run directory {}", settings.run_dir.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS.into())
        .enable_all()
        .build()
        .context("failed to start the async runtime")?;
    let result = match arguments.teardown {
        true => teardown(runtime, settings),
        false => runtime.block_on(serve(settings)),
    };
    drop(lock);
    result
}

/// Raises the limit on descriptors to what root has allowed, because each client's connection needs
/// one.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(errno) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!("failed to raise the limit of open files: {errno}");
    }
}

/// Removes everything but the data. Pools come last, when no task uses them any longer.
fn teardown(runtime: tokio::runtime::Runtime, settings: Settings) -> anyhow::Result<()> {
    let run_dir = settings.run_dir.clone();
    let pools = runtime.block_on(async { Engine::open(settings).await?.teardown().await })?;
    drop(runtime);
    for pool in pools {
        pool.close().context("failed to close the pool")?;
    }
    std::fs::remove_dir_all(&run_dir).with_context(|| format!("failed to remove {}", run_dir.display()))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let socket = settings.run_dir.join("insulad.sock");
    let engine = Engine::open(settings).await?;
    let listener = server::listen(&socket)?;
    let network = Network::open(engine.settings()).await?;
    // Needed even without a network: a signal without a handler would end the agent.
    let hangup = signal(SignalKind::hangup()).context("failed to wait for SIGHUP")?;
    let identity = network.as_ref().map(|network| network.identity.clone());
    let rotation = tokio::spawn(rotate(identity, hangup));
    tracing::info!(socket = %socket.display(), vpses = engine.vpses().len(), "serving");
    // Only systemd listens for this.
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!("failed to tell systemd that the agent is ready: {error}");
    }
    server::serve(engine.clone(), listener, network, ended()).await?;
    rotation.abort();
    engine.close().await;
    std::fs::remove_file(&socket).with_context(|| format!("failed to remove {}", socket.display()))?;
    tracing::info!("ended; guests keep running");
    Ok(())
}

/// Waits until somebody ends the agent.
async fn ended() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Replaces the server's certificate before it expires, and whenever the agent gets SIGHUP.
async fn rotate(identity: Option<Arc<Identity>>, mut hangup: Signal) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut daily = tokio::time::interval(DAY);
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            _ = daily.tick() => false,
        };
        let Some(identity) = identity.as_ref().filter(|identity| asked || identity.is_due()) else {
            continue;
        };
        if let Err(error) = identity.renew() {
            tracing::error!("the server keeps its certificate: {:#}", anyhow::Error::new(error));
        }
    }
}

/// Logs as text on a terminal, as JSON elsewhere.
fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match std::io::stderr().is_terminal() {
        true => builder.with_target(false).init(),
        false => builder.json().flatten_event(true).init(),
    }
}
