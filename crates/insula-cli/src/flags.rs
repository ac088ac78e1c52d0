//! Flags that several commands share, and the parsers of their values. This module knows no command.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use insula_api::convert::set_amount;
use insula_api::v1::{FeatureList, Limits};
use insula_types::{Autostart, CrashPolicy, Feature, Limit, LimitRow, Supervision};
use std::path::Path;

use crate::failure::{Failure, Outcome};

/// Whether a VPS is booted when it is made.
#[derive(Debug, Clone, Default, Args)]
pub struct BootArguments {
    /// Start it afterwards
    #[arg(long)]
    start: bool,
    /// Start it, and wait until its init runs or the guest has booted
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

/// What happens after a crash of a VPS or a boot of its host, if that differs from its profile.
#[derive(Debug, Default, Args)]
pub struct SupervisionArguments {
    /// What to do when its init crashes: stop or restart
    #[arg(long, value_name = "POLICY")]
    on_crash: Option<CrashPolicy>,
    /// Start it when the host has booted: yes, no or as-it-was
    #[arg(long, value_name = "WHEN")]
    autostart: Option<Autostart>,
    /// Order of that start: higher numbers first
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    autostart_priority: Option<i32>,
    /// Pause after that start, in seconds, before the next VPS is started
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

/// A feature, or `none`.
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

/// The stage of a boot that a command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// Its init runs
    Running,
    /// The guest has booted
    Ready,
}

/// The limits of a VPS that differ from its profile: a flag for each limit of the table.
#[derive(Debug, Default)]
pub struct LimitArguments(pub Limits);

impl Args for LimitArguments {
    fn augment_args(command: Command) -> Command {
        let flag = |limit: Limit| {
            let LimitRow { name, placeholder, help, .. } = limit.row();
            let flag = Arg::new(name).long(name).value_name(placeholder).help(help);
            flag.allow_hyphen_values(true).value_parser(move |text: &str| parse_amount(limit, text))
        };
        command.next_help_heading("Limits").args(Limit::ALL.iter().copied().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for LimitArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut limits = Self::default();
        limits.update_from_arg_matches(matches)?;
        Ok(limits)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for limit in Limit::ALL.iter().copied() {
            set_amount(&mut self.0, limit, matches.get_one(limit.row().name).copied());
        }
        Ok(())
    }
}

/// The value of a limit, as people write it.
pub fn parse_amount(limit: Limit, text: &str) -> Result<u64, String> {
    let amount = limit.parse(text)?;
    limit.check(amount).map(|()| amount).map_err(|error| error.to_string())
}

/// The public keys in a file.
pub fn read_keys(file: &Path) -> Outcome<Vec<String>> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("failed to read the SSH key {shown}: {error}")))?;
    public_keys(&text)
        .map_err(|rule| Failure::usage(format!("{shown} is not a file of public SSH keys: {rule}")))
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

    #[test]
    fn keys_are_public() {
        let two = "# mine\nssh-ed25519 AAAA me\n\n  ssh-rsa BBBB you \n";
        assert_eq!(public_keys(two).unwrap(), ["ssh-ed25519 AAAA me", "ssh-rsa BBBB you"]);
        assert!(public_keys("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n").is_err());
        assert!(public_keys("# none\n").is_err());
    }
}
