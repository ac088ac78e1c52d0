//! The agent's settings: the defaults, overridden by the file, overridden by the flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use insula_engine::Settings;

/// The path of the settings by default. The file may be absent.
const DEFAULT_FILE: &str = "/etc/insula/agent.yaml";

/// What can be set on the command line.
#[derive(Debug, Args)]
pub struct Flags {
    /// The settings; every key has a default [default: /etc/insula/agent.yaml, where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the state is kept, instead of the setting state_dir
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where sockets are, instead of the setting run_dir
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Where clients connect over the network, instead of the setting listen
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

/// Loads and checks the settings.
pub fn load(flags: &Flags) -> anyhow::Result<Settings> {
    let mut settings = match &flags.config {
        Some(path) => read(path)?,
        None if Path::new(DEFAULT_FILE).exists() => read(Path::new(DEFAULT_FILE))?,
        None => Settings::default(),
    };
    if let Some(directory) = &flags.state_dir {
        settings.state_dir = absolute(directory)?;
    }
    if let Some(directory) = &flags.run_dir {
        settings.run_dir = absolute(directory)?;
    }
    settings.listen = flags.listen.or(settings.listen);
    settings.check().map_err(|wrong| anyhow::anyhow!("wrong settings: {wrong}"))?;
    Ok(settings)
}

fn read(path: &Path) -> anyhow::Result<Settings> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read the settings {}", path.display()))?;
    parse(&text).with_context(|| format!("invalid settings in {}", path.display()))
}

fn parse(text: &str) -> anyhow::Result<Settings> {
    match text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        true => Ok(Settings::default()), // an empty document is no mapping
        false => Ok(serde_norway::from_str(text)?),
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("wrong directory {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_sets_what_it_names_and_nothing_else() {
        let settings =
            parse("run_dir: /run/other\npool:\n  size: 20GiB\nnetwork:\n  bridge: insbr1\n").unwrap();
        assert_eq!(settings.run_dir, Path::new("/run/other"));
        assert_eq!(settings.pool.size.unwrap().bytes(), 20 << 30);
        assert_eq!(settings.network.bridge.as_str(), "insbr1");
        assert_eq!(settings.state_dir, Settings::default().state_dir);
        assert_eq!(parse("# nothing\n\n").unwrap().run_dir, Settings::default().run_dir);
    }

    #[test]
    fn a_wrong_file_says_what_and_where() {
        for (text, expected) in [
            ("run_dri: /run", "run_dri"),
            ("pool:\n  size: much", "invalid size \"much\""),
            ("network:\n  bridge: a/b", "interface name \"a/b\""),
            ("- a list", "invalid type"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    /// The keys that a mapping may have. serde lists them when it meets an unknown one.
    fn keys(mapping: &str) -> Vec<String> {
        let text = if mapping.is_empty() { "none: 1".to_owned() } else { format!("{mapping}: {{none: 1}}") };
        let error = format!("{:#}", parse(&text).unwrap_err());
        let (_, list) = error.split_once("expected").unwrap();
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_documentation_has_every_key_and_the_true_defaults() {
        let text = include_str!("../../../docs/configuration.md");
        let (_, rest) = text.split_once("```yaml\n").unwrap();
        let (example, _) = rest.split_once("```").unwrap();
        assert_eq!(format!("{:?}", parse(example).unwrap()), format!("{:?}", Settings::default()));
        // Keys without a default are in the example as comments.
        let full = example.replace("\n#", "\n").replace("\n  #", "\n  ");
        let mappings =
            ["pool", "network", "tls", "access", "grpc_web", "reboots"].map(|mapping| (mapping, "  "));
        for (mapping, indent) in [("", "")].into_iter().chain(mappings) {
            let keys = keys(mapping);
            assert!(!keys.is_empty(), "{mapping}");
            for key in keys {
                assert!(full.contains(&format!("\n{indent}{key}:")), "{mapping} {key} is not documented");
            }
        }
    }
}
