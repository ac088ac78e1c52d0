//! `insula create`

use clap::Args;
use insula_api::v1::CreateVpsRequest;
use insula_types::{Feature, Supervision};
use std::net::IpAddr;
use std::path::PathBuf;

use crate::context::Context;
use crate::failure::Outcome;
use crate::flags::{
    BootArguments, LimitArguments, SupervisionArguments, feature_list, parse_feature, parse_label, read_keys,
};
use crate::operations::{Subjects, run_operations};
use crate::prompt::read_new_password;

/// The arguments of `insula create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula create web1 --image debian-12 --start
  insula create db1 --image debian-12 --profile large --disk 40G --ssh-key key.pub --wait ready
  insula create dns1 --image debian-13 --ip 10.90.4.53 --hostname ns1.example.org
  insula create ci1 --image debian-12 --feature nesting --feature fuse
  insula create shop --image debian-12 --tenant acme --label whmcs/service=4711 --password-stdin < password")]
pub struct Create {
    /// Name of the VPS: a-z, 0-9 and hyphens
    name: String,
    /// Image to create it from: an alias, a fingerprint, or at least the first twelve digits of one
    #[arg(long)]
    image: String,
    /// Profile that gives it limits, features and networks [default: small]
    #[arg(long)]
    profile: Option<String>,
    /// Address from one of its networks; may be repeated [default: the next free one]
    #[arg(long = "ip", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// Network to connect it to; may be repeated [default: those of the profile]
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<String>,
    /// File of public keys that may log in as root; may be repeated
    #[arg(long = "ssh-key", value_name = "FILE")]
    ssh_keys: Vec<PathBuf>,
    /// Feature to open, instead of those of the profile; may be repeated. See docs/features.md
    #[arg(long = "feature", value_name = "FEATURE", value_parser = parse_feature)]
    features: Vec<Option<Feature>>,
    /// Host name of the guest [default: the name of the VPS]
    #[arg(long)]
    hostname: Option<String>,
    /// Read root's password from standard input; at a terminal, ask for it
    #[arg(long)]
    password_stdin: bool,
    /// Tenant that owns it
    #[arg(long)]
    tenant: Option<String>,
    /// Label to attach; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// Refuse to delete it until the protection is switched off
    #[arg(long)]
    delete_protection: bool,
    #[command(flatten)]
    boot: BootArguments,
    #[command(flatten)]
    supervision: SupervisionArguments,
    // Last, because its heading applies to all that follow.
    #[command(flatten)]
    limits: LimitArguments,
}

impl Create {
    /// Makes the VPS.
    pub async fn run(self, context: &Context) -> Outcome {
        let subject = Subjects::One(self.name.clone());
        let password = if self.password_stdin { read_new_password(context).await? } else { String::new() };
        let request = CreateVpsRequest { password, ..self.into_request()? };
        run_operations(context, subject, async |_, request_id| {
            let request = CreateVpsRequest { request_id, ..request.clone() };
            let answer = context.client().await?.vps().create_vps(request).await?;
            Ok(answer.into_inner().operation)
        })
        .await
    }

    fn into_request(self) -> Outcome<CreateVpsRequest> {
        let ssh_keys = self.ssh_keys.iter().map(|file| read_keys(file)).collect::<Outcome<Vec<_>>>()?;
        Ok(CreateVpsRequest {
            name: self.name,
            image: self.image,
            profile: self.profile.unwrap_or_default(),
            limits: Some(self.limits.0),
            hostname: self.hostname.unwrap_or_default(),
            networks: self.networks,
            ip_addresses: self.addresses.iter().map(ToString::to_string).collect(),
            ssh_keys: ssh_keys.concat(),
            start: self.boot.starts(),
            wait_ready: self.boot.waits_ready(),
            tenant: self.tenant.unwrap_or_default(),
            labels: self.labels.into_iter().collect(),
            delete_protection: self.delete_protection,
            features: (!self.features.is_empty()).then(|| feature_list(&self.features)),
            supervision: Some((&Supervision::from(self.supervision)).into()),
            ..Default::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use insula_api::v1::{self, FeatureList, Limits};

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        create: Create,
    }

    fn parse(flags: &[&str]) -> Result<CreateVpsRequest, String> {
        let typed = ["create", "web1", "--image", "debian-12"].iter().chain(flags);
        let typed = Typed::try_parse_from(typed).map_err(|error| error.to_string())?;
        Ok(typed.create.into_request().unwrap())
    }

    #[test]
    fn flags_become_a_request() {
        let request =
            parse(&["--cpus", "1.5", "--memory", "1G", "--ip", "10.0.0.2", "--wait", "ready"]).unwrap();
        let limits = Limits { cpu_milli: Some(1500), memory_bytes: Some(1 << 30), ..Default::default() };
        assert_eq!(request.limits, Some(limits));
        assert_eq!(request.ip_addresses, ["10.0.0.2"]);
        assert!(request.start && request.wait_ready);
        let labelled = parse(&["--label", "env=prod", "--label", "a/b=c=d", "--tenant", "acme"]).unwrap();
        assert_eq!((&*labelled.labels["env"], &*labelled.labels["a/b"]), ("prod", "c=d"));
        assert_eq!((&*labelled.tenant, labelled.delete_protection), ("acme", false));
        let supervised = parse(&["--on-crash", "restart", "--autostart", "no", "--autostart-priority", "-3"]);
        let supervised = supervised.unwrap().supervision.unwrap();
        assert_eq!(
            (supervised.on_crash(), supervised.autostart(), supervised.autostart_priority),
            (v1::CrashPolicy::Restart, v1::Autostart::No, Some(-3))
        );
        let plain = parse(&[]).unwrap();
        assert_eq!(plain.features, None, "the profile's");
        let words = parse(&["--feature", "nesting", "--feature", "device:/dev/kvm"]).unwrap().features;
        assert_eq!(words.unwrap().features, ["nesting", "device:kvm"]);
        assert_eq!(parse(&["--feature", "none"]).unwrap().features, Some(FeatureList::default()));
        assert!(!plain.start && !plain.wait_ready);
    }

    #[test]
    fn a_bad_value_names_its_flag() {
        for flags in [
            ["--memory", "much"],
            ["--memory", "-1G"],
            ["--cpus", "two"],
            ["--cpu-weight", "0"],
            ["--disk", "1e9"],
            ["--processes", "-1"],
            ["--ip", "10.0.0.300"],
            ["--wait", "forever"],
            ["--feature", "nestng"],
            ["--feature", "device:../x"],
            ["--label", "env"],
            ["--label", "=prod"],
            ["--on-crash", "reboot"],
            ["--autostart", "always"],
            ["--autostart-delay", "3601"],
        ] {
            let error = parse(&flags).unwrap_err();
            assert!(error.contains(flags[0]), "{flags:?}: {error}");
        }
    }
}
