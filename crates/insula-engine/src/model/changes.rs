//! What can be asked to be changed of a VPS or a profile, as the journal keeps it.

use insula_types::{
    Autostart, CrashPolicy, Features, Labels, Limit, Limits, ProfileName, Supervision, TenantName,
};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is to be changed of a VPS; `None`: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateVps {
    /// Another profile.
    pub profile: Option<ProfileName>,
    /// Limits of its own, one after the other.
    pub limits: Vec<LimitChange>,
    /// What is open to it.
    #[serde(default)]
    pub features: Option<FeatureChange>,
    /// What follows when it crashes or the host boots, one thing after the other.
    #[serde(default)]
    pub supervision: Vec<SupervisionChange>,
    /// Labels: what clients note about it, such as the id of a service in their own database.
    pub labels: Option<Labels>,
    /// Whose it is; `Some(None)`: nobody's.
    #[serde(default, with = "tenant")]
    pub tenant: Option<Option<TenantName>>,
    /// The guest's host name.
    pub hostname: Option<String>,
    /// Whether it refuses to be deleted.
    pub delete_protection: Option<bool>,
}

/// In the journal a change of the tenant is the tenant's name, an empty one where the VPS is to have none, and `null`
/// where nothing changes.
mod tenant {
    use insula_types::TenantName;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(
        change: &Option<Option<TenantName>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let name = |tenant: &Option<TenantName>| tenant.as_ref().map(ToString::to_string).unwrap_or_default();
        change.as_ref().map(name).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<TenantName>>, D::Error> {
        Ok(match Option::<String>::deserialize(deserializer)? {
            None => None,
            Some(name) if name.is_empty() => Some(None),
            Some(name) => Some(Some(name.parse().map_err(D::Error::custom)?)),
        })
    }
}

/// A change of limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitChange {
    /// All limits at once.
    All(Box<Limits>),
    /// One, to an amount in its unit; `None`: back to the profile's.
    One(Limit, Option<u64>),
}

/// In the journal a change is an object with one entry: the key of the limit or `all`, and the value as in [`Limits`].
impl Serialize for LimitChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object = |limits: &Limits| serde_json::to_value(limits).map_err(S::Error::custom);
        let (key, value) = match self {
            Self::All(all) => ("all", object(all)?),
            Self::One(limit, amount) => {
                let mut limits = Limits::default();
                limits.set(*limit, *amount);
                let key = limit.row().key;
                (key, object(&limits)?.get(key).cloned().unwrap_or_default())
            }
        };
        serializer.collect_map([(key, value)])
    }
}

impl<'de> Deserialize<'de> for LimitChange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = serde_json::Map::deserialize(deserializer)?;
        let entry = entries.into_iter().next().ok_or_else(|| D::Error::custom("a change of no limit"))?;
        let read = |value| serde_json::from_value::<Limits>(value).map_err(D::Error::custom);
        match entry {
            (key, all) if key == "all" => Ok(Self::All(Box::new(read(all)?))),
            (key, value) => {
                let limit = Limit::of_key(&key)
                    .ok_or_else(|| D::Error::custom(format!("there is no limit {key:?}")))?;
                Ok(Self::One(limit, read(serde_json::json!({ key: value }))?.get(limit)))
            }
        }
    }
}

/// A change of what follows when a VPS crashes or its host boots; `None`: back to what the profile says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisionChange {
    /// All settings at once.
    All(Supervision),
    /// What follows when init crashes.
    OnCrash(Option<CrashPolicy>),
    /// Whether it is started when the host has booted.
    Autostart(Option<Autostart>),
    /// Which are started first then.
    AutostartPriority(Option<i32>),
    /// The pause before the next VPS is started then, in seconds.
    AutostartDelay(Option<u32>),
}

impl SupervisionChange {
    /// Makes the change.
    pub fn apply(self, supervision: &mut Supervision) {
        match self {
            Self::All(all) => *supervision = all,
            Self::OnCrash(on_crash) => supervision.on_crash = on_crash,
            Self::Autostart(autostart) => supervision.autostart = autostart,
            Self::AutostartPriority(priority) => supervision.autostart_priority = priority,
            Self::AutostartDelay(delay_s) => supervision.autostart_delay_s = delay_s,
        }
    }
}

impl LimitChange {
    /// Makes the change.
    pub fn apply(&self, limits: &mut Limits) {
        match self {
            Self::All(all) => *limits = (**all).clone(),
            Self::One(limit, amount) => limits.set(*limit, *amount),
        }
    }
}

/// A change of a VPS's features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureChange {
    /// The features of its profile.
    OfProfile,
    /// These, whatever its profile has.
    Own(Features),
}

impl FeatureChange {
    /// The VPS's own features from now on.
    pub(crate) fn own(&self) -> Option<Features> {
        match self {
            Self::OfProfile => None,
            Self::Own(features) => Some(features.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_types::ByteSize;

    /// As agents of earlier versions wrote them.
    #[test]
    fn journals_of_before_are_read_and_written() {
        for (text, change) in [
            (r#"{"cpus":"1.5"}"#, LimitChange::One(Limit::Cpus, Some(1500))),
            (r#"{"cpu_weight":200}"#, LimitChange::One(Limit::CpuWeight, Some(200))),
            (r#"{"memory":1073741824}"#, LimitChange::One(Limit::Memory, Some(1 << 30))),
            (r#"{"swap":0}"#, LimitChange::One(Limit::Swap, Some(0))),
            (r#"{"processes":null}"#, LimitChange::One(Limit::Processes, None)),
            (r#"{"disk":67108864}"#, LimitChange::One(Limit::Disk, Some(64 << 20))),
            (r#"{"all":{}}"#, LimitChange::All(Box::default())),
            (
                r#"{"all":{"memory":1073741824}}"#,
                LimitChange::All(Box::new(Limits { memory: Some(ByteSize::gib(1)), ..Limits::default() })),
            ),
        ] {
            assert_eq!(serde_json::from_str::<LimitChange>(text).unwrap(), change);
            assert_eq!(serde_json::to_string(&change).unwrap(), text);
        }
        for wrong in [r#"{}"#, r#"{"memroy":1}"#, r#"{"memory":"much"}"#] {
            assert!(serde_json::from_str::<LimitChange>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tenant_that_is_taken_away_is_journaled() {
        let acme: TenantName = "acme".parse().unwrap();
        for (text, tenant) in [("null", None), (r#""acme""#, Some(Some(acme))), (r#""""#, Some(None))] {
            let update = UpdateVps { tenant, ..UpdateVps::default() };
            let journaled = serde_json::to_string(&update).unwrap();
            assert!(journaled.contains(&format!(r#""tenant":{text},"#)), "{journaled}");
            assert_eq!(serde_json::from_str::<UpdateVps>(&journaled).unwrap(), update);
        }
        let wrong = r#"{"limits":[],"tenant":"no tenant's name"}"#;
        assert!(serde_json::from_str::<UpdateVps>(wrong).is_err());
        assert_eq!(serde_json::from_str::<UpdateVps>(r#"{"limits":[]}"#).unwrap(), UpdateVps::default());
    }

    #[test]
    fn a_limit_goes_back_to_the_profiles() {
        let mut limits = Limits { processes: Some(100), memory: Some(ByteSize::gib(1)), ..Limits::default() };
        LimitChange::One(Limit::Processes, None).apply(&mut limits);
        LimitChange::One(Limit::CpuWeight, Some(200)).apply(&mut limits);
        assert_eq!((limits.processes, limits.cpu_weight), (None, Some(200)));
        assert_eq!(limits.memory, Some(ByteSize::gib(1)));
        LimitChange::All(Box::default()).apply(&mut limits);
        assert_eq!(limits, Limits::default());
    }
}
