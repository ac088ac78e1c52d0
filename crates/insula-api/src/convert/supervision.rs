//! Conversions of supervision: restarts after a crash, and starts with the host.

use insula_types::{Autostart, CrashPolicy, Supervision};
use prost_types::Duration;

use crate::error::ApiError;
use crate::v1;

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

/// Fills in the defaults of what is not set.
pub(super) fn usual(supervision: Supervision) -> Supervision {
    supervision.or(&Supervision {
        on_crash: Some(CrashPolicy::default()),
        autostart: Some(Autostart::default()),
        autostart_priority: Some(0),
        autostart_delay_s: Some(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
