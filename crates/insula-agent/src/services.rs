//! The services of the API. They translate messages for the engine and back, and decide nothing.

mod access;
mod browser;
mod caller;
mod event;
mod file;
mod filter;
mod host;
mod image;
mod inputs;
mod mask;
mod mutation;
mod network;
mod operation;
mod page;
mod profile;
mod session;
mod snapshot;
mod storage;
mod usage;
mod vps;

use std::sync::Arc;

use insula_api::v1;
use insula_engine::{Engine, VpsView};
use insula_runtime::plan::host_interface_name;
use insula_types::{HostId, OperationRecord, VpsState};
use tokio::sync::watch;
use tonic::Status;

use crate::pki::Remote;
use crate::services::inputs::Inputs;

pub use caller::Caller;

/// The state that all services share.
#[derive(Debug, Clone)]
pub struct Shared {
    engine: Engine,
    /// `None` if the agent does not listen on the network.
    remote: Option<Arc<Remote>>,
    ending: Arc<watch::Sender<bool>>,
    /// Inputs of sessions, for clients that can't send a stream.
    execs: Inputs<v1::exec_vps_request::Request>,
    consoles: Inputs<v1::attach_console_request::Request>,
    pushes: Inputs<v1::SendPushItemsRequest>,
}

impl Shared {
    /// Makes the state for services of this engine. `remote` is `None` if the agent does not listen
    /// on the network.
    pub fn new(engine: Engine, remote: Option<Arc<Remote>>) -> Self {
        Self {
            engine,
            remote,
            ending: Arc::new(watch::channel(false).0),
            execs: Inputs::default(),
            consoles: Inputs::default(),
            pushes: Inputs::default(),
        }
    }

    /// Ends the streams that would otherwise go on for ever.
    pub fn end_streams(&self) {
        self.ending.send_replace(true);
    }

    /// Completes when the agent ends.
    fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut ending = self.ending.subscribe();
        async move {
            let _ = ending.wait_for(|ending| *ending).await; // gone is ended
        }
    }
}

/// The status of a stream that is still open when the agent ends.
fn agent_ends() -> Status {
    insula_api::ApiError::new(insula_api::Reason::AgentUnreachable, "the agent is ending")
        .with_hint("the VPS keeps running; try again when the agent is back")
        .into()
}

/// An operation of this host as a message.
fn operation(record: &OperationRecord, host_id: HostId) -> Option<v1::Operation> {
    Some(v1::Operation { host: host_id.to_string(), ..record.into() })
}

/// A VPS as a message: its spec and its observed state.
fn vps(view: &VpsView) -> v1::Vps {
    let observed = &view.observed;
    let mut message = v1::Vps {
        state: v1::VpsState::from(view.state).into(),
        start_time: observed.started_at_ms.map(insula_api::convert::timestamp_ms),
        ready_time: observed.ready_at_ms.map(insula_api::convert::timestamp_ms),
        boots: observed.boots,
        init_pid: observed.init_pid.unwrap_or_default(),
        next_boot_time: observed.boot_at_ms.map(insula_api::convert::timestamp_ms),
        last_exit: observed.last_exit.as_ref().map(Into::into),
        operation: view.work.map(|work| work.operation.to_string()).unwrap_or_default(),
        starts_with_host: view.state != VpsState::Elsewhere && insula_engine::starts_with_host(&view.spec),
        awaits_autostart: view.awaits_autostart,
        ..v1::Vps::from(&*view.spec)
    };
    if view.state.is_alive() {
        for (index, interface) in message.interfaces.iter_mut().enumerate() {
            let name = host_interface_name(&view.spec.id, index);
            interface.host_interface = name.map(|name| name.to_string()).unwrap_or_default();
        }
    }
    message
}
