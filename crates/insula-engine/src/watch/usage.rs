//! What VPSes use now, as the kernel counts it. Nothing is kept between two looks.

use std::sync::Arc;

use insula_net::{Traffic, observe_traffic};
use insula_runtime::CgroupLayout;
use insula_runtime::plan::host_interface_name;
use insula_types::{ByteSize, VpsSpec};

use crate::host::pools::Pools;
use crate::vps::handle::VpsHandle;
use crate::{EngineError, now_ms};

/// What a VPS uses. Counters begin anew when it is started; 0 where nothing counts, and for one that is stopped.
#[derive(Debug, Clone)]
pub struct Usage {
    /// Whose, and with which limits.
    pub spec: Arc<VpsSpec>,
    /// Memory in bytes, file cache included.
    pub memory_bytes: u64,
    /// CPU time in ns since the start.
    pub cpu_ns: u64,
    /// Processes and threads together.
    pub processes: u32,
    /// What it has written on top of its image, snapshots included, up to half a minute ago.
    pub disk_bytes: u64,
    /// What its interfaces have received, as the VPS sees it.
    pub received_bytes: u64,
    /// What its interfaces have sent, as the VPS sees it.
    pub sent_bytes: u64,
    /// When this was read: milliseconds since 1970, UTC.
    pub at_ms: i64,
}

/// What these VPSes use now, all in one go.
pub(crate) async fn observe_usage(
    layout: CgroupLayout,
    pools: Arc<Pools>,
    handles: Vec<Arc<VpsHandle>>,
) -> Result<Vec<Usage>, EngineError> {
    crate::blocking("look at what VPSes use", move || {
        let traffic = observe_traffic()
            .map_err(|error| EngineError::internal("failed to read the traffic counters", error))?;
        let use_of = |handle: &Arc<VpsHandle>| {
            let (id, spec) = (handle.id, handle.spec());
            let disk = pools.of(&spec).ok().and_then(|pool| pool.driver().usage(id).ok());
            let live = match handle.state().is_alive() {
                true => layout.observe_usage(&id),
                false => Default::default(),
            };
            let spec = handle.spec();
            let host_ends = (0..spec.nics.len()).filter_map(|index| host_interface_name(&id, index));
            let host_ends = host_ends.filter_map(|name| traffic.get(&name));
            // What the host's ends have received, the VPS has sent.
            let sum = |bytes: fn(&Traffic) -> u64| host_ends.clone().map(bytes).sum();
            let (sent_bytes, received_bytes) = (sum(|end| end.received_bytes), sum(|end| end.sent_bytes));
            Usage {
                spec,
                memory_bytes: live.memory_bytes.unwrap_or(0),
                cpu_ns: live.cpu_ns.unwrap_or(0),
                processes: live.processes.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
                disk_bytes: disk.and_then(|usage| usage.used).map_or(0, ByteSize::bytes),
                received_bytes,
                sent_bytes,
                at_ms: now_ms(),
            }
        };
        Ok(handles.iter().map(use_of).collect())
    })
    .await
}
