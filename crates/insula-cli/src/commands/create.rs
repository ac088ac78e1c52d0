//! `insula create`

use clap::{Args, ValueEnum};
use insula_api::v1::{CreateVpsRequest, FeatureList, Limits};
use insula_types::{Autostart, ByteSize, CpuCount, CrashPolicy, Feature, Supervision};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
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
    /// Its name: a-z, 0-9 and hyphens
    name: String,
    /// The image to make it from: an alias, a fingerprint, or at least its first twelve digits
    #[arg(long)]
    image: String,
    /// The profile that its limits and networks come from [default: small]
    #[arg(long)]
    profile: Option<String>,
    /// An address for its first interface; may be repeated. Otherwise the next free one
    #[arg(long = "ip", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// A network to plug it into; may be repeated. Otherwise those of the profile
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<String>,
    /// A file with public keys that may log in as root; may be repeated
    #[arg(long = "ssh-key", value_name = "FILE")]
    ssh_keys: Vec<PathBuf>,
    /// What to open to it, in the place of its profile's features; may be repeated. See docs/features.md
    #[arg(long = "feature", value_name = "FEATURE", value_parser = parse_feature)]
    features: Vec<Option<Feature>>,
    /// What it calls itself [default: the name]
    #[arg(long)]
    hostname: Option<String>,
    /// Take root's password from standard input; at a terminal, ask for it
    #[arg(long)]
    password_stdin: bool,
    /// Whose it is
    #[arg(long)]
    tenant: Option<String>,
    /// Something to note about it; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// Refuse to delete it until that is changed
    #[arg(long)]
    delete_protection: bool,
    #[command(flatten)]
    boot: BootArguments,
    #[command(flatten)]
    supervision: SupervisionArguments,
    // Last, because its heading holds for what follows.
    #[command(flatten)]
    limits: LimitArguments,
}

/// Whether a VPS is booted when it is made.
#[derive(Debug, Clone, Default, Args)]
pub struct BootArguments {
    /// Boot it when it is made
    #[arg(long)]
    start: bool,
    /// Boot it, and wait until it runs or says that it has booted
    #[arg(long, value_enum, value_name = "STATE")]
    wait: Option<WaitFor>,
}

impl BootArguments {
    /// Whether it is booted.
    pub fn starts(&self) -> bool {
        self.start || self.wait.is_some()
    }

    /// Whether we wait until it has booted.
    pub fn waits_ready(&self) -> bool {
        self.wait == Some(WaitFor::Ready)
    }
}

/// What follows when a VPS crashes or its host boots, where that differs from its profile.
#[derive(Debug, Default, Args)]
pub struct SupervisionArguments {
    /// What follows when its init crashes: stop or restart
    #[arg(long, value_name = "POLICY")]
    on_crash: Option<CrashPolicy>,
    /// Whether it is started when the host has booted: yes, no or as-it-was
    #[arg(long, value_name = "WHEN")]
    autostart: Option<Autostart>,
    /// Which are started first then: the higher ones
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    autostart_priority: Option<i32>,
    /// Seconds that no other is started behind it then
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=3600))]
    autostart_delay: Option<u32>,
}

impl From<SupervisionArguments> for Supervision {
    fn from(arguments: SupervisionArguments) -> Self {
        let SupervisionArguments { on_crash, autostart, autostart_priority, autostart_delay } = arguments;
        Self { on_crash, autostart, autostart_priority, autostart_delay_s: autostart_delay }
    }
}

/// A label as `KEY=VALUE`.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".to_owned()),
    }
}

/// A feature, or `none` for none at all.
pub fn parse_feature(text: &str) -> Result<Option<Feature>, String> {
    match text {
        "none" => Ok(None),
        _ => text.parse().map(Some).map_err(|error: insula_types::FeatureError| format!("{error}, or none")),
    }
}

/// The list of features that were named.
pub fn feature_list(features: &[Option<Feature>]) -> FeatureList {
    FeatureList { features: features.iter().flatten().map(ToString::to_string).collect() }
}

/// How far a boot should be before a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// Its init lives
    Running,
    /// The guest says that it has booted
    Ready,
}

/// What a VPS may use, where that differs from its profile.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArguments {
    /// CPU time, as a number of CPUs such as 2 or 0.5
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    cpus: Option<CpuCount>,
    /// The share of CPU when there is not enough, 1 to 10000; 100 is usual
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    cpu_weight: Option<u32>,
    /// Memory, file cache included
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory: Option<ByteSize>,
    /// Swap, on top of the memory
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    swap: Option<ByteSize>,
    /// What may be written on top of the image
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    disk: Option<ByteSize>,
    /// Processes and threads together
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    processes: Option<u32>,
}

impl From<LimitArguments> for Limits {
    fn from(arguments: LimitArguments) -> Self {
        Self {
            cpu_milli: arguments.cpus.map(CpuCount::milli),
            cpu_weight: arguments.cpu_weight,
            memory_bytes: arguments.memory.map(ByteSize::bytes),
            swap_bytes: arguments.swap.map(ByteSize::bytes),
            processes: arguments.processes,
            disk_bytes: arguments.disk.map(ByteSize::bytes),
        }
    }
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
            limits: Some(self.limits.into()),
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

/// The public keys in a file.
pub fn read_keys(file: &Path) -> Outcome<Vec<String>> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("failed to read the SSH key {shown}: {error}")))?;
    public_keys(&text)
        .map_err(|rule| Failure::usage(format!("{shown} is no file of public SSH keys: {rule}")))
}

/// The keys of a file in the form of authorized_keys.
fn public_keys(text: &str) -> Result<Vec<String>, &'static str> {
    if text.contains("PRIVATE KEY-----") {
        return Err(
            "it holds a private key, which must not leave this machine; take the file that ends with .pub",
        );
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<_> = lines.map(str::to_owned).collect();
    if keys.is_empty() { Err("it holds no key") } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser as _;
    use insula_api::v1;

    fn parse(flags: &[&str]) -> Result<CreateVpsRequest, String> {
        let typed = ["insula", "create", "web1", "--image", "debian-12"].iter().chain(flags);
        let arguments = Arguments::try_parse_from(typed).map_err(|error| error.to_string())?;
        let Command::Create(create) = arguments.command else { panic!("{arguments:?}") };
        Ok(create.into_request().unwrap())
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

    #[test]
    fn keys_are_public() {
        let two = "# mine\nssh-ed25519 AAAA me\n\n  ssh-rsa BBBB you \n";
        assert_eq!(public_keys(two).unwrap(), ["ssh-ed25519 AAAA me", "ssh-rsa BBBB you"]);
        assert!(public_keys("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n").is_err());
        assert!(public_keys("# none\n").is_err());
    }
}
