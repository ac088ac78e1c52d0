//! Conversions between the messages of the API and the types of Insula.
//!
//! Types always convert to messages. Messages are checked as they convert to types: an error names
//! the path of the field, as `BadRequest` wants it.

mod access;
mod event;
mod file;
mod limits;

pub use access::role;
pub use file::{file_item, path_fields, path_of, skip};
use insula_types::{
    Autostart, CrashPolicy, ExitReason, ExitRecord, Failure, Features, ImageInfo, OperationRecord,
    OperationState, PlacedNic, Profile, Reason, SnapshotInfo, Supervision, Suspension, VpsSpec, VpsState,
};
pub use limits::{amount, limits, set_amount};
use prost_types::{Duration, Timestamp};
use std::fmt::Display;
use std::str::FromStr;

use crate::error::ApiError;
use crate::v1;

/// Parses a field of a request. `field` is its path.
pub fn parse<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error: T::Err| {
        let said = error.to_string();
        // The errors of other libraries don't say which text they are about.
        let shown: String = text.chars().take(80).collect();
        let names_it = said.contains(&shown) || shown.is_empty();
        ApiError::invalid_field(field, if names_it { said } else { format!("invalid {shown:?}: {said}") })
    })
}

/// Parses a field of a request that may be absent, that is empty.
pub fn parse_optional<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<Option<T>, ApiError> {
    if text.is_empty() { Ok(None) } else { parse(field, text).map(Some) }
}

/// Parses each element of a repeated field of a request.
pub fn parse_all<T: FromStr<Err: Display>>(field: &str, texts: &[String]) -> Result<Vec<T>, ApiError> {
    texts.iter().enumerate().map(|(index, text)| parse(&format!("{field}[{index}]"), text)).collect()
}

/// Converts a duration of a request, which must not be negative.
pub fn duration(field: &str, duration: Duration) -> Result<std::time::Duration, ApiError> {
    let negative = || ApiError::invalid_field(field, "a duration must not be negative");
    // Checked first, because negating the smallest number of seconds would overflow.
    if duration.seconds < 0 {
        return Err(negative());
    }
    duration.try_into().map_err(|_| negative())
}

/// Converts a time in milliseconds since 1970, UTC.
pub fn timestamp_ms(at_ms: i64) -> Timestamp {
    let nanos = i32::try_from(at_ms.rem_euclid(1000) * 1_000_000).unwrap_or(0); // below 10^9
    Timestamp { seconds: at_ms.div_euclid(1000), nanos }
}

/// Converts a time in seconds since 1970, UTC.
pub fn timestamp(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

/// Converts and checks the features of a request. `field` is the path of the list.
pub fn features(field: &str, words: Vec<String>) -> Result<Features, ApiError> {
    words
        .try_into()
        .map_err(|error: insula_types::FeatureError| ApiError::invalid_field(field, error.to_string()))
}

impl From<&Features> for v1::FeatureList {
    fn from(features: &Features) -> Self {
        Self { features: features.clone().into() }
    }
}

/// Converts and checks the supervision of a request. `field` is the path of the message,
/// `supervision`.
pub fn supervision(field: &str, message: v1::Supervision) -> Result<Supervision, ApiError> {
    let late = |error: String| ApiError::invalid_field(format!("{field}.autostart_delay"), error);
    let delay = message.autostart_delay.map(|delay| match (u32::try_from(delay.seconds), delay.nanos) {
        (Ok(seconds), 0) => Ok(seconds),
        _ => Err(late("it must be a number of whole seconds, not negative".to_owned())),
    });
    let unknown = |path: &str| ApiError::invalid_field(format!("{field}.{path}"), "an unknown value");
    let supervision = Supervision {
        on_crash: match v1::CrashPolicy::try_from(message.on_crash).map_err(|_| unknown("on_crash"))? {
            v1::CrashPolicy::Unspecified => None,
            v1::CrashPolicy::Stop => Some(CrashPolicy::Stop),
            v1::CrashPolicy::Restart => Some(CrashPolicy::Restart),
        },
        autostart: match v1::Autostart::try_from(message.autostart).map_err(|_| unknown("autostart"))? {
            v1::Autostart::Unspecified => None,
            v1::Autostart::AsItWas => Some(Autostart::AsItWas),
            v1::Autostart::Yes => Some(Autostart::Yes),
            v1::Autostart::No => Some(Autostart::No),
        },
        autostart_priority: message.autostart_priority,
        autostart_delay_s: delay.transpose()?,
    };
    supervision.check().map(|()| supervision).map_err(late)
}

impl From<&Supervision> for v1::Supervision {
    fn from(supervision: &Supervision) -> Self {
        let on_crash = supervision.on_crash.map_or(v1::CrashPolicy::Unspecified, |policy| match policy {
            CrashPolicy::Stop => v1::CrashPolicy::Stop,
            CrashPolicy::Restart => v1::CrashPolicy::Restart,
        });
        let autostart =
            supervision.autostart.map_or(v1::Autostart::Unspecified, |autostart| match autostart {
                Autostart::AsItWas => v1::Autostart::AsItWas,
                Autostart::Yes => v1::Autostart::Yes,
                Autostart::No => v1::Autostart::No,
            });
        let delay = |seconds: u32| Duration { seconds: seconds.into(), nanos: 0 };
        Self {
            on_crash: on_crash.into(),
            autostart: autostart.into(),
            autostart_priority: supervision.autostart_priority,
            autostart_delay: supervision.autostart_delay_s.map(delay),
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

/// Fills in the defaults of what is not set.
fn usual(supervision: Supervision) -> Supervision {
    supervision.or(&Supervision {
        on_crash: Some(CrashPolicy::default()),
        autostart: Some(Autostart::default()),
        autostart_priority: Some(0),
        autostart_delay_s: Some(0),
    })
}

/// The etag of a revision: a text without meaning for clients (AIP-154).
pub fn etag(revision: u64) -> String {
    format!("r{revision}")
}

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

impl From<&ImageInfo> for v1::Image {
    fn from(image: &ImageInfo) -> Self {
        Self {
            fingerprint: image.fingerprint.to_string(),
            aliases: image.aliases.iter().map(ToString::to_string).collect(),
            description: image.description.clone(),
            distribution: image.distribution.clone(),
            release: image.release.clone(),
            architecture: image.architecture.to_string(),
            init: image.init.to_string(),
            pool: image.pool.to_string(),
            size_bytes: image.size.bytes(),
            create_time: Some(timestamp(image.created_at)),
        }
    }
}

impl From<&Profile> for v1::Profile {
    fn from(profile: &Profile) -> Self {
        Self {
            name: profile.name.to_string(),
            description: profile.description.clone(),
            limits: Some((&profile.limits).into()),
            networks: profile.networks.iter().map(ToString::to_string).collect(),
            supervision: Some((&profile.supervision).into()),
            etag: etag(profile.revision),
            features: profile.features.clone().into(),
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

impl From<OperationState> for v1::operation::State {
    fn from(state: OperationState) -> Self {
        match state {
            OperationState::Queued => Self::Queued,
            OperationState::Running => Self::Running,
            OperationState::Undoing => Self::Undoing,
            OperationState::InDoubt => Self::InDoubt,
            OperationState::Succeeded => Self::Succeeded,
            OperationState::Failed => Self::Failed,
        }
    }
}

impl From<&OperationRecord> for v1::Operation {
    fn from(record: &OperationRecord) -> Self {
        Self {
            id: record.id.to_string(),
            host: String::new(), // the agent knows it, the record does not
            kind: record.kind.to_string(),
            target: record.target.clone(),
            target_name: record.target_name.clone(),
            state: v1::operation::State::from(record.state).into(),
            percent: record.progress.percent.into(),
            message: record.progress.message.clone(),
            error: record.error.as_ref().map(|failure| (&recorded_error(failure)).into()),
            create_time: Some(timestamp_ms(record.created_at_ms)),
            update_time: Some(timestamp_ms(record.updated_at_ms)),
            steps: record.steps.clone(),
            step: record.step,
            requester: record.requester.name.clone(),
            request_id: record.request_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            notes: record.notes.clone(),
            tenant: record.tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

/// Converts the error of an operation as the journal keeps it. Errors of its undo follow its
/// causes.
pub fn recorded_error(failure: &Failure) -> ApiError {
    let reason = failure.reason.parse().unwrap_or(Reason::Internal);
    let mut messages = failure.messages.iter().cloned();
    let error = ApiError::new(reason, messages.next().unwrap_or_default());
    let undo = failure.undo.iter().map(|chain| format!("the rollback failed, too: {chain}"));
    let error = error.with_causes(messages.chain(undo));
    failure.hint.iter().fold(error, ApiError::with_hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_types::{ImageRef, NetworkName, OperationId, OperationKind, Progress, VpsName};
    use std::time::Duration as StdDuration;

    #[test]
    fn a_bad_field_is_named() {
        let error = parse::<VpsName>("name", "Web").unwrap_err();
        assert_eq!((&*error.fields[0].field, error.reason()), ("name", Some(Reason::InvalidArgument)));
        let networks = ["a".to_owned(), "B".to_owned()];
        let error = parse::<std::net::Ipv4Addr>("ip", "10.0.0.300").unwrap_err();
        assert!(error.message().contains("10.0.0.300"), "{error:?}");
        let error = parse_all::<NetworkName>("networks", &networks).unwrap_err();
        assert_eq!(error.fields[0].field, "networks[1]");
        assert_eq!(parse_optional::<ImageRef>("image", "").unwrap(), None);
        for (seconds, nanos) in [(-1, 0), (0, -1), (i64::MIN, -2), (0, i32::MIN)] {
            assert!(duration("timeout", Duration { seconds, nanos }).is_err());
        }
        assert!(duration("timeout", Duration { seconds: i64::MAX, nanos: i32::MAX }).is_ok());
        let read = duration("timeout", Duration { seconds: 1, nanos: 5 });
        assert_eq!(read.unwrap(), StdDuration::new(1, 5));
    }

    #[test]
    fn features_are_checked() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let read = features("features", words(&["tun", "nesting"])).unwrap();
        assert_eq!(v1::FeatureList::from(&read).features, ["nesting", "tun"]);
        for wrong in [words(&["nestng"]), words(&["nesting", "migratable"]), words(&["device:../x"])] {
            let error = features("changes.features", wrong).unwrap_err();
            assert_eq!(
                (&*error.fields[0].field, error.reason()),
                ("changes.features", Some(Reason::InvalidArgument))
            );
        }
    }

    #[test]
    fn supervision_goes_both_ways_and_names_what_is_wrong() {
        let late = |seconds, nanos| v1::Supervision {
            autostart_delay: Some(Duration { seconds, nanos }),
            ..v1::Supervision::default()
        };
        for message in [
            v1::Supervision::default(),
            late(3600, 0),
            v1::Supervision {
                on_crash: v1::CrashPolicy::Restart.into(),
                autostart: v1::Autostart::No.into(),
                autostart_priority: Some(-5),
                autostart_delay: None,
            },
        ] {
            assert_eq!(v1::Supervision::from(&supervision("supervision", message).unwrap()), message);
        }
        for (message, field) in [
            (late(3601, 0), "supervision.autostart_delay"),
            (late(-1, 0), "supervision.autostart_delay"),
            (late(1, 5), "supervision.autostart_delay"),
            (v1::Supervision { on_crash: 99, ..Default::default() }, "supervision.on_crash"),
            (v1::Supervision { autostart: 99, ..Default::default() }, "supervision.autostart"),
        ] {
            assert_eq!(supervision("supervision", message).unwrap_err().fields[0].field, field);
        }
    }

    #[test]
    fn states_go_both_ways() {
        for state in VpsState::ALL {
            let message = v1::VpsState::from(state);
            assert_eq!(vps_state(message), Some(state));
            assert_eq!(message.as_str_name().to_lowercase(), format!("vps_state_{state}"));
        }
    }

    #[test]
    fn times_before_1970_are_times() {
        assert_eq!(timestamp_ms(1500), Timestamp { seconds: 1, nanos: 500_000_000 });
        assert_eq!(timestamp_ms(-1), Timestamp { seconds: -1, nanos: 999_000_000 });
    }

    #[test]
    fn the_journal_keeps_reason_and_chain() {
        let record = OperationRecord {
            id: OperationId::new(),
            kind: OperationKind::CreateVps,
            target: String::new(),
            target_name: "web1".into(),
            request: String::new(),
            state: OperationState::Failed,
            step: 0,
            progress: Progress::default(),
            error: Some(Failure {
                messages: vec!["failed to create VPS web1".into(), "no room".into()],
                hint: Some("delete a snapshot".into()),
                undo: vec!["the pool refused: EIO".into()],
                ..Failure::new(Reason::PoolFull, "")
            }),
            steps: vec![],
            step_names: vec![],
            outputs: Default::default(),
            notes: vec![],
            requester: insula_types::Requester::root(),
            request_id: None,
            digest: String::new(),
            tenant: None,
            created_at_ms: 0,
            updated_at_ms: 0,
        };
        let message = v1::Operation::from(&record);
        let error = ApiError::from(&message.error.unwrap());
        assert_eq!(error.reason(), Some(Reason::PoolFull));
        let chain =
            ["failed to create VPS web1", "no room", "the rollback failed, too: the pool refused: EIO"];
        assert_eq!(error.chain, chain);
        assert_eq!(error.hint(), Some("delete a snapshot"));
    }
}
