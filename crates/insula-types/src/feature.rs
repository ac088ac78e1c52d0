//! Features: abilities that a VPS lacks unless an administrator grants them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An ability that a VPS lacks unless it is switched on. `docs/features.md` says what each one
/// opens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Containers inside the guest: Docker, Podman, systemd-nspawn, Insula.
    Nesting,
    /// File systems that are programs, by `/dev/fuse`.
    Fuse,
    /// Network tunnels, by `/dev/net/tun`.
    Tun,
    /// Use of the kernel's keyrings.
    Keyring,
    /// The guest stays movable: it gets nothing that can't be moved to another host while it runs.
    Migratable,
    /// Sysctls of the guest's own that cost the host something.
    PrivilegedSysctls,
    /// Access to a device of the host.
    Device(DeviceName),
}

/// Why a text names no feature, or why features can't be combined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    /// The text is not the word of a feature.
    #[error("unknown feature {0:?}: expected one of {words}", words = Feature::WORDS.join(", "))]
    Unknown(String),
    /// The text is not the name of a device that a guest may have.
    #[error("invalid device {name:?}: {rule}")]
    Device {
        /// The text that was asked for.
        name: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// Two of the features can't be combined.
    #[error(
        "the features nesting and migratable can't be combined: a running VPS with containers (nested \
        namespaces) can't be moved"
    )]
    NestingIsNotMigratable,
    /// There are more devices than a VPS may have.
    #[error("{0} devices are too many: a VPS has at most {most}", most = Features::MOST_DEVICES)]
    TooManyDevices(usize),
}

impl Feature {
    /// The words of all features, as people write them.
    pub const WORDS: [&str; 7] =
        ["nesting", "fuse", "tun", "keyring", "migratable", "privileged-sysctls", "device:NAME"];
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nesting => f.pad("nesting"),
            Self::Fuse => f.pad("fuse"),
            Self::Tun => f.pad("tun"),
            Self::Keyring => f.pad("keyring"),
            Self::Migratable => f.pad("migratable"),
            Self::PrivilegedSysctls => f.pad("privileged-sysctls"),
            Self::Device(name) => f.pad(&format!("device:{name}")),
        }
    }
}

impl FromStr for Feature {
    type Err = FeatureError;

    fn from_str(text: &str) -> Result<Self, FeatureError> {
        Ok(match text {
            "nesting" => Self::Nesting,
            "fuse" => Self::Fuse,
            "tun" => Self::Tun,
            "keyring" => Self::Keyring,
            "migratable" => Self::Migratable,
            "privileged-sysctls" => Self::PrivilegedSysctls,
            _ => match text.strip_prefix("device:") {
                Some(name) => Self::Device(name.parse()?),
                None => return Err(FeatureError::Unknown(text.chars().take(80).collect())),
            },
        })
    }
}

/// A device of the host, by its path below `/dev`, such as `kvm` or `dri/card0`. `/dev/kvm` is read
/// as `kvm`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(String);

impl DeviceName {
    /// Names in `/dev` that every guest has already, of its own or from the host.
    const TAKEN: [&str; 16] = [
        "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue", "fd",
        "stdin", "stdout", "stderr", "core",
    ];
    /// Devices that would give the whole machine away, and are therefore never given to a guest.
    const NEVER: [&str; 4] = ["mem", "kmem", "port", "kmsg"];

    /// The device's path below `/dev`, without the `/dev/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn check(path: &str) -> Result<(), &'static str> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+' | b':');
        let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(is_plain);
        let first = path.split('/').next().unwrap_or_default();
        if path.len() > 100 || !path.split('/').all(is_part) {
            return Err(
                "expected a path below /dev of letters, digits and - _ . + :, such as kvm or dri/card0",
            );
        }
        match path {
            "fuse" => Err("the feature is called fuse"),
            "net/tun" => Err("the feature is called tun"),
            _ if Self::TAKEN.contains(&first) => Err("every VPS has its own"),
            _ if Self::NEVER.contains(&path) => Err("it is the host's memory, ports or log"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for DeviceName {
    type Err = FeatureError;

    fn from_str(text: &str) -> Result<Self, FeatureError> {
        let path = text.strip_prefix("/dev/").unwrap_or(text);
        match Self::check(path) {
            Ok(()) => Ok(Self(path.to_owned())),
            Err(rule) => Err(FeatureError::Device { name: text.chars().take(80).collect(), rule }),
        }
    }
}

/// The features of a VPS. None by default, and never two that can't be combined. Serialized as a
/// list of texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Features(BTreeSet<Feature>);

impl Features {
    /// The most devices of the host that a VPS can have.
    pub const MOST_DEVICES: usize = 16;

    /// Makes a set of these features, if they can be combined.
    pub fn new(features: impl IntoIterator<Item = Feature>) -> Result<Self, FeatureError> {
        let features = Self(features.into_iter().collect());
        if features.has(&Feature::Nesting) && features.has(&Feature::Migratable) {
            return Err(FeatureError::NestingIsNotMigratable);
        }
        match features.devices().count() {
            count if count > Self::MOST_DEVICES => Err(FeatureError::TooManyDevices(count)),
            _ => Ok(features),
        }
    }

    /// Whether the set has this feature.
    pub fn has(&self, feature: &Feature) -> bool {
        self.0.contains(feature)
    }

    /// All features of the set, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Feature> {
        self.0.iter()
    }

    /// The names of the host's devices in the set.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceName> {
        self.0.iter().filter_map(|feature| match feature {
            Feature::Device(name) => Some(name),
            _ => None,
        })
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Features {
    /// The words of the features, separated by spaces. Empty if there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.iter().map(ToString::to_string).collect();
        f.pad(&words.join(" "))
    }
}

impl TryFrom<Vec<String>> for Features {
    type Error = FeatureError;

    fn try_from(texts: Vec<String>) -> Result<Self, FeatureError> {
        Self::new(texts.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>()?)
    }
}

impl From<Features> for Vec<String> {
    fn from(features: Features) -> Self {
        features.iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(words: &[&str]) -> Result<Features, FeatureError> {
        Features::try_from(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn features_are_read_as_they_are_written() {
        let words = ["nesting", "fuse", "tun", "keyring", "privileged-sysctls", "device:dri/card0"];
        let all = features(&words).unwrap();
        assert_eq!(all.to_string(), words.join(" "));
        assert_eq!(Vec::from(all.clone()), words);
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Features>(&json).unwrap(), all);
        assert_eq!(features(&["tun", "tun"]).unwrap(), features(&["tun"]).unwrap());
        assert!(Features::default().is_empty() && features(&[]).unwrap() == Features::default());
    }

    #[test]
    fn what_excludes_each_other_is_refused_with_the_reason() {
        let error = features(&["migratable", "fuse", "nesting"]).unwrap_err();
        assert_eq!(error, FeatureError::NestingIsNotMigratable);
        assert!(error.to_string().contains("nested namespaces"), "{error}");
        assert!(features(&["migratable", "fuse", "tun", "keyring"]).is_ok());
        let error = serde_json::from_str::<Features>(r#"["nesting", "migratable"]"#).unwrap_err();
        assert!(error.to_string().contains("can't be combined"), "{error}");
    }

    #[test]
    fn unknown_words_are_named() {
        for wrong in ["", "nestng", "Nesting", "device", "none"] {
            let error = wrong.parse::<Feature>().unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")) && error.contains("nesting"), "{error}");
        }
    }

    #[test]
    fn devices_are_named_by_their_path_below_dev() {
        for (text, name) in [
            ("kvm", "kvm"),
            ("/dev/kvm", "kvm"),
            ("dri/card0", "dri/card0"),
            ("disk/by-id/usb-x:0", "disk/by-id/usb-x:0"),
        ] {
            assert_eq!(text.parse::<DeviceName>().unwrap().as_str(), name);
        }
        let long = "a".repeat(101);
        for wrong in [
            "",
            "/",
            "/dev/",
            "/dev",
            "//kvm",
            "a//b",
            "..",
            "../etc/passwd",
            "a/../mem",
            ".hidden",
            "a b",
            "a\0",
            "é",
            &long,
            "mem",
            "/dev/kmem",
            "port",
            "kmsg",
            "null",
            "pts/0",
            "shm/x",
            "console",
        ] {
            assert!(wrong.parse::<DeviceName>().is_err(), "{wrong:?}");
        }
        for (name, feature) in [("fuse", "fuse"), ("/dev/net/tun", "tun")] {
            let error = name.parse::<DeviceName>().unwrap_err().to_string();
            assert!(error.ends_with(&format!("called {feature}")), "{error}");
        }
        let many: Vec<String> =
            (0..=Features::MOST_DEVICES).map(|index| format!("device:x{index}")).collect();
        assert_eq!(Features::try_from(many), Err(FeatureError::TooManyDevices(17)));
    }
}
