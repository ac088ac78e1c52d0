//! `insula set`

use insula_api::Reason;
use insula_api::convert::set_amount;
use insula_api::v1::{self, FeatureList, GetVpsRequest, Operation, UpdateVpsRequest, Vps, VpsChanges};
use insula_types::{Autostart, CrashPolicy, Limit, Supervision};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{feature_list, parse_amount, parse_feature};
use crate::operations::{conclude, missing};
use crate::requests;

/// The arguments of `insula set`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula set web1 memory=4G cpus=2
  insula set web1 profile=large memory=           # another profile, with its memory
  insula set web1 label.env=prod label.old= tenant=acme
  insula set web1 features=nesting,fuse           # features=none: not even the profile's
  insula set web1 delete-protection=true
  insula set db1 on-crash=restart autostart=yes autostart-priority=10 autostart-delay=5

Keys: profile, cpus, cpu-weight, memory, swap, processes, disk, features, hostname, tenant, delete-protection, \
label.KEY, on-crash, autostart, autostart-priority, autostart-delay. KEY= removes a value; limits, features, on-crash and \
autostart settings then come from the profile. Either all changes are made or none. A running VPS gets new limits at once; \
the command says which changes wait for the next start.")]
pub struct Set {
    /// VPS, by name or id
    name: String,
    /// Settings to change
    #[arg(value_name = "KEY=VALUE", required = true)]
    assignments: Vec<Assignment>,
    /// Only if the VPS is unchanged: its etag, as `insula show` prints it
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
}

/// One change; `None`, or an empty text, removes the value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Assignment {
    Profile(String),
    Limit(Limit, Option<u64>),
    Features(Option<FeatureList>),
    Hostname(String),
    Tenant(String),
    DeleteProtection(bool),
    Label(String, Option<String>),
    OnCrash(Option<CrashPolicy>),
    Autostart(Option<Autostart>),
    AutostartPriority(Option<i32>),
    AutostartDelay(Option<u32>),
}

/// All keys, for the error about an unknown one.
fn keys() -> String {
    let limits: Vec<_> = Limit::ALL.iter().map(|limit| limit.row().name).collect();
    format!(
        "profile, {}, features, hostname, tenant, delete-protection, on-crash, autostart, autostart-priority, \
         autostart-delay or label.KEY",
        limits.join(", ")
    )
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        let plain = key.replace('_', "-");
        if let Some(limit) = Limit::named(&plain) {
            let amount = (!value.is_empty()).then(|| parse_amount(limit, value));
            return Ok(Self::Limit(limit, amount.transpose()?));
        }
        Ok(match &*plain {
            "profile" => Self::Profile(value.to_owned()),
            "features" => Self::Features(features(value)?),
            "hostname" => Self::Hostname(value.to_owned()),
            "tenant" => Self::Tenant(value.to_owned()),
            "on-crash" => Self::OnCrash(optional(value)?),
            "autostart" => Self::Autostart(optional(value)?),
            "autostart-priority" => Self::AutostartPriority(optional(value)?),
            "autostart-delay" => Self::AutostartDelay(optional(value)?),
            "delete-protection" => Self::DeleteProtection(switch(value)?),
            _ => match key.strip_prefix("label.") {
                Some(label) if !label.is_empty() => {
                    Self::Label(label.to_owned(), Some(value.to_owned()).filter(|value| !value.is_empty()))
                }
                _ => return Err(format!("unknown key {key:?}: expected {}", keys())),
            },
        })
    }
}

fn optional<T: FromStr<Err: Display>>(value: &str) -> Result<Option<T>, String> {
    let parsed = (!value.is_empty()).then(|| value.parse());
    parsed.transpose().map_err(|error: T::Err| error.to_string())
}

/// Words with commas between them; empty for those of the profile.
fn features(value: &str) -> Result<Option<FeatureList>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    let features = value.split(',').map(parse_feature).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(feature_list(&features)))
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" | "" => Ok(false),
        _ => Err(format!("expected true or false, not {value:?}")),
    }
}

impl Assignment {
    /// Its path in `VpsChanges`.
    fn path(&self) -> &'static str {
        match self {
            Self::Profile(_) => "profile",
            Self::Limit(limit, _) => limit.row().path,
            Self::Features(_) => "features",
            Self::Hostname(_) => "hostname",
            Self::Tenant(_) => "tenant",
            Self::DeleteProtection(_) => "delete_protection",
            Self::Label(..) => "labels",
            Self::OnCrash(_) => "supervision.on_crash",
            Self::Autostart(_) => "supervision.autostart",
            Self::AutostartPriority(_) => "supervision.autostart_priority",
            Self::AutostartDelay(_) => "supervision.autostart_delay",
        }
    }

    fn apply(&self, changes: &mut VpsChanges) {
        let limits = changes.limits.get_or_insert_default();
        let supervision = changes.supervision.get_or_insert_default();
        match self.clone() {
            Self::Profile(profile) => changes.profile = profile,
            Self::Limit(limit, amount) => set_amount(limits, limit, amount),
            Self::Features(features) => changes.features = features,
            Self::Hostname(hostname) => changes.hostname = hostname,
            Self::Tenant(tenant) => changes.tenant = tenant,
            Self::DeleteProtection(is_on) => changes.delete_protection = is_on,
            Self::Label(key, Some(value)) => {
                changes.labels.insert(key, value);
            }
            Self::Label(key, None) => {
                changes.labels.remove(&key);
            }
            Self::OnCrash(on_crash) => {
                supervision.on_crash = said(Supervision { on_crash, ..NOTHING }).on_crash
            }
            Self::Autostart(autostart) => {
                supervision.autostart = said(Supervision { autostart, ..NOTHING }).autostart;
            }
            Self::AutostartPriority(priority) => supervision.autostart_priority = priority,
            Self::AutostartDelay(autostart_delay_s) => {
                let said = said(Supervision { autostart_delay_s, ..NOTHING });
                supervision.autostart_delay = said.autostart_delay;
            }
        }
    }
}

const NOTHING: Supervision =
    Supervision { on_crash: None, autostart: None, autostart_priority: None, autostart_delay_s: None };

/// The setting in the form of the API.
fn said(supervision: Supervision) -> v1::Supervision {
    (&supervision).into()
}

/// The VPS with the changes, which keep its other labels, and the mask that names them.
fn changes(
    assignments: &[Assignment],
    labels: BTreeMap<String, String>,
) -> (VpsChanges, prost_types::FieldMask) {
    let mut changes = VpsChanges { labels, ..Default::default() };
    assignments.iter().for_each(|assignment| assignment.apply(&mut changes));
    let mut paths: Vec<_> = assignments.iter().map(|assignment| assignment.path().to_owned()).collect();
    paths.sort();
    paths.dedup();
    (changes, prost_types::FieldMask { paths })
}

impl Set {
    /// Makes the changes.
    ///
    /// Labels are changed one by one here and as a whole in the API: when somebody else changes the VPS between our look
    /// and our change, once more.
    pub async fn run(self, context: &Context) -> Outcome {
        const TRIES: usize = 5;
        let changes_labels = self.assignments.iter().any(|assignment| assignment.path() == "labels");
        let mut tries = if changes_labels && self.etag.is_none() { TRIES } else { 1 };
        loop {
            let seen = if changes_labels { look(context, &self.name).await? } else { Vps::default() };
            let begun = update(context, self.request(seen)).await;
            tries -= 1;
            match begun {
                Err(failure) if was_changed(&failure) && tries > 0 => {}
                begun => return conclude(context, begun?).await,
            }
        }
    }

    fn request(&self, seen: Vps) -> UpdateVpsRequest {
        let (changes, mask) = changes(&self.assignments, seen.labels);
        UpdateVpsRequest {
            vps: self.name.clone(),
            changes: Some(changes),
            update_mask: Some(mask),
            etag: self.etag.clone().unwrap_or(seen.etag),
            ..Default::default()
        }
    }
}

async fn look(context: &Context, vps: &str) -> Outcome<Vps> {
    let request = GetVpsRequest { vps: vps.to_owned() };
    let vps = context.client().await?.vps().get_vps(request).await?.into_inner().vps;
    vps.ok_or_else(|| missing("VPS"))
}

async fn update(context: &Context, request: UpdateVpsRequest) -> Outcome<Option<Operation>> {
    requests::send(context, async |request_id| {
        let request = UpdateVpsRequest { request_id, ..request.clone() };
        Ok(context.client().await?.vps().update_vps(request).await?.into_inner().operation)
    })
    .await
}

fn was_changed(failure: &Failure) -> bool {
    matches!(failure, Failure::Error(error) if error.reason() == Some(Reason::EtagMismatch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_api::v1::Limits;

    fn parse(texts: &[&str]) -> Vec<Assignment> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_typed_becomes_changes_and_their_mask() {
        let typed =
            parse(&["memory=4G", "cpus=1.5", "disk=", "profile=large", "delete-protection=on", "tenant="]);
        let (changes, mask) = changes(&typed, BTreeMap::new());
        let limits = Limits { cpu_milli: Some(1500), memory_bytes: Some(4 << 30), ..Default::default() };
        assert_eq!(changes.limits, Some(limits));
        assert_eq!((&*changes.profile, &*changes.tenant, changes.delete_protection), ("large", "", true));
        assert_eq!(
            mask.paths,
            [
                "delete_protection",
                "limits.cpu_milli",
                "limits.disk_bytes",
                "limits.memory_bytes",
                "profile",
                "tenant"
            ]
        );
    }

    #[test]
    fn the_help_names_every_limit() {
        use clap::Args as _;
        let help = Set::augment_args(clap::Command::new("set")).get_after_help().unwrap().to_string();
        for limit in Limit::ALL.iter().copied() {
            assert!(help.contains(&format!(" {},", limit.row().name)), "{limit:?}");
        }
    }

    #[test]
    fn features_are_a_list_or_the_profiles() {
        let list = |typed: &str| changes(&parse(&[typed]), BTreeMap::new()).0.features;
        let words = list("features=nesting,device:/dev/kvm").unwrap().features;
        assert_eq!(words, ["nesting", "device:kvm"]);
        assert_eq!(list("features=none"), Some(FeatureList::default()));
        assert_eq!(list("features="), None);
        assert_eq!(changes(&parse(&["features="]), BTreeMap::new()).1.paths, ["features"]);
    }

    #[test]
    fn what_follows_is_set_with_either_spelling() {
        let typed = parse(&["on_crash=restart", "autostart=", "autostart-priority=-2", "autostart-delay=5"]);
        let (changes, mask) = changes(&typed, BTreeMap::new());
        let supervision = changes.supervision.unwrap();
        assert_eq!(supervision.on_crash(), v1::CrashPolicy::Restart);
        assert_eq!(
            (supervision.autostart(), supervision.autostart_priority),
            (v1::Autostart::Unspecified, Some(-2))
        );
        assert_eq!(supervision.autostart_delay.unwrap().seconds, 5);
        assert_eq!(
            mask.paths,
            [
                "supervision.autostart",
                "supervision.autostart_delay",
                "supervision.autostart_priority",
                "supervision.on_crash"
            ]
        );
    }

    #[test]
    fn other_labels_stay() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let typed = parse(&["label.env=prod", "label.old=", "label.a/b=c=d"]);
        let (changes, mask) = changes(&typed, labels(&[("old", "1"), ("kept", "2"), ("env", "test")]));
        assert_eq!(changes.labels, labels(&[("kept", "2"), ("env", "prod"), ("a/b", "c=d")]));
        assert_eq!(mask.paths, ["labels"]);
    }

    #[test]
    fn what_can_not_be_set_is_named() {
        for (typed, said) in [
            ("memory", "KEY=VALUE"),
            ("memroy=1G", "memroy"),
            ("memory=much", "much"),
            ("cpus=-1", "-1"),
            ("processes=x", "invalid digit"),
            ("features=nesting,fuze", "fuze"),
            ("delete-protection=maybe", "maybe"),
            ("on-crash=reboot", "stop or restart"),
            ("autostart=on", "as-it-was, yes or no"),
            ("autostart-delay=-1", "invalid digit"),
            ("label.=x", "label."),
            ("=x", "unknown key"),
        ] {
            assert!(typed.parse::<Assignment>().unwrap_err().contains(said), "{typed}");
        }
    }
}
