//! Conversions of VPSes, their states, interfaces and snapshots.

use insula_types::{ExitReason, ExitRecord, PlacedNic, SnapshotInfo, Suspension, VpsSpec, VpsState};

use super::field::{etag, timestamp, timestamp_ms};
use super::supervision::usual;
use crate::v1;

impl From<&VpsSpec> for v1::Vps {
    /// Takes what the spec knows. Whatever is observed (state, times, pid, usage, the host's
    /// interfaces) stays empty.
    fn from(spec: &VpsSpec) -> Self {
        Self {
            id: spec.id.to_string(),
            name: spec.name.to_string(),
            hostname: spec.hostname.clone(),
            image: spec.image.to_string(),
            profile: spec.profile.to_string(),
            pool: spec.placement.pool.to_string(),
            limits: Some((&spec.limits).into()),
            interfaces: spec.placed_nics().map(Into::into).collect(),
            id_range_start: spec.placement.ids.start,
            id_range_length: spec.placement.ids.length,
            create_time: Some(timestamp(spec.created_at)),
            tenant: spec.tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
            labels: spec.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            etag: etag(spec.revision),
            delete_protection: spec.delete_protection,
            suspension: spec.suspension.as_ref().map(Into::into),
            delete_time: spec.trash.map(|trash| timestamp_ms(trash.deleted_at_ms)),
            expire_time: spec.trash.map(|trash| timestamp_ms(trash.expires_at_ms)),
            own_limits: Some((&spec.own_limits).into()),
            features: spec.features.clone().into(),
            own_features: spec.own_features.as_ref().map(Into::into),
            supervision: Some((&usual(spec.supervision)).into()),
            own_supervision: Some((&spec.own_supervision).into()),
            ssh_keys: spec.ssh_keys.clone(),
            host: spec.placement.host_id.to_string(),
            epoch: spec.placement.epoch,
            ..Self::default()
        }
    }
}

macro_rules! states {
    ($($name:ident),*) => {
        impl From<VpsState> for v1::VpsState {
            fn from(state: VpsState) -> Self {
                match state {$(VpsState::$name => Self::$name),*}
            }
        }

        /// Converts the state of a message. `None` where it is unspecified.
        pub fn vps_state(state: v1::VpsState) -> Option<VpsState> {
            match state {
                v1::VpsState::Unspecified => None,
                $(v1::VpsState::$name => Some(VpsState::$name),)*
            }
        }
    };
}

states!(
    Creating, Stopped, Starting, Running, Ready, Paused, Stopping, Failed, Deleting, Suspended, Deleted,
    Waiting, Elsewhere
);

impl From<&Suspension> for v1::Suspension {
    fn from(suspension: &Suspension) -> Self {
        Self {
            reason: suspension.reason.clone(),
            suspend_time: Some(timestamp_ms(suspension.at_ms)),
            was_running: suspension.was_running,
        }
    }
}

impl From<PlacedNic<'_>> for v1::NetworkInterface {
    /// Leaves the host's end empty, because it is observed.
    fn from(PlacedNic { nic, addresses }: PlacedNic<'_>) -> Self {
        Self {
            name: nic.name.to_string(),
            network: nic.network.to_string(),
            mac_address: nic.mac.to_string(),
            ip_addresses: addresses.iter().map(ToString::to_string).collect(),
            host_interface: String::new(),
        }
    }
}

impl From<&ExitRecord> for v1::VpsExit {
    fn from(exit: &ExitRecord) -> Self {
        let (reason, code) = match exit.reason {
            ExitReason::PowerOff => ("power_off", 0),
            ExitReason::Stopped => ("stopped", 0),
            ExitReason::Killed => ("killed", 0),
            ExitReason::Exited(code) => ("exited", code),
            ExitReason::Signal(signal) => ("signal", signal),
            ExitReason::OutOfMemory => ("out_of_memory", 0),
            ExitReason::MonitorLost => ("monitor_lost", 0),
            ExitReason::StartFailed => ("start_failed", 0),
            ExitReason::Reboot => ("reboot", 0),
            ExitReason::BootLoop => ("boot_loop", 0),
            ExitReason::HostDown => ("host_down", 0),
        };
        Self {
            reason: reason.to_owned(),
            code,
            time: Some(timestamp_ms(exit.at_ms)),
            detail: exit.detail.clone().unwrap_or_default(),
        }
    }
}

impl From<&SnapshotInfo> for v1::Snapshot {
    fn from(snapshot: &SnapshotInfo) -> Self {
        Self {
            name: snapshot.name.to_string(),
            vps: snapshot.vps.to_string(),
            create_time: Some(timestamp(snapshot.created_at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_go_both_ways() {
        for state in VpsState::ALL {
            let message = v1::VpsState::from(state);
            assert_eq!(vps_state(message), Some(state));
            assert_eq!(message.as_str_name().to_lowercase(), format!("vps_state_{state}"));
        }
    }
}
