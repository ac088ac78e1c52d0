//! `insula ssh-key`

use clap::{Args, Subcommand};
use insula_api::v1::{ChangeVpsSshKeysRequest, GetVpsRequest, Vps};
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::read_keys;
use crate::operations::{Subjects, missing, run_operations};
use crate::table::{Column, ColumnChoice, Shown};

/// The commands of `insula ssh-key`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  insula ssh-key add web1 ~/.ssh/id_ed25519.pub
  insula ssh-key list web1
  insula ssh-key remove web1 me@laptop")]
pub enum SshKey {
    /// Allow keys to log in as root
    Add(Add),
    /// Remove a key, so that it can no longer log in
    Remove(Remove),
    /// List the keys that were added to a VPS
    #[command(visible_alias = "ls")]
    List(List),
}

/// The arguments of `insula ssh-key add`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula ssh-key add web1 ~/.ssh/id_ed25519.pub

The VPS need not be running. The keys are added to its /root/.ssh/authorized_keys, where all other lines stay, and are \
added again when the VPS is rebuilt.")]
pub struct Add {
    /// VPS, by name or id
    name: String,
    /// Files of public keys
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// The arguments of `insula ssh-key remove`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula ssh-key remove web1 me@laptop
  insula ssh-key remove web1 old.pub

Name the key by its file, or by its comment as `insula ssh-key list` shows it.")]
pub struct Remove {
    /// VPS, by name or id
    name: String,
    /// File of public keys, or the comment of a key
    #[arg(value_name = "FILE|COMMENT")]
    key: String,
}

/// The arguments of `insula ssh-key list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula ssh-key list web1
  insula ssh-key list web1 -o json

Lists keys from `create --ssh-key` and `ssh-key add`. Keys that were added inside the guest are not shown.")]
pub struct List {
    /// VPS, by name or id
    name: String,
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

const COLUMNS: &[Column<String>] = &[
    Column { name: "type", shown: Shown::Usually, value: |key| word(key, 0) },
    Column { name: "comment", shown: Shown::Usually, value: |key| comment(key).to_owned() },
    Column { name: "key", shown: Shown::Usually, value: |key| word(key, 1) },
];

fn word(key: &str, index: usize) -> String {
    key.split(' ').nth(index).unwrap_or_default().to_owned()
}

fn comment(key: &str) -> &str {
    key.splitn(3, ' ').nth(2).unwrap_or_default().trim()
}

impl SshKey {
    /// Does what was asked for.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Add(add) => add.run(context).await,
            Self::Remove(remove) => remove.run(context).await,
            Self::List(list) => list.run(context).await,
        }
    }
}

impl Add {
    async fn run(self, context: &Context) -> Outcome {
        let keys = self.files.iter().map(|file| read_keys(file)).collect::<Outcome<Vec<_>>>()?.concat();
        change(context, self.name, keys, vec![]).await
    }
}

impl Remove {
    async fn run(self, context: &Context) -> Outcome {
        let keys = match Path::new(&self.key).is_file() {
            true => read_keys(Path::new(&self.key))?,
            false => {
                let known = get(context, &self.name).await?.ssh_keys;
                let named: Vec<String> = known.into_iter().filter(|key| comment(key) == self.key).collect();
                if named.is_empty() {
                    let message =
                        format!("VPS {:?} has no added key with the comment {:?}", self.name, self.key);
                    return Err(Failure::usage(message));
                }
                named
            }
        };
        change(context, self.name, vec![], keys).await
    }
}

impl List {
    async fn run(self, context: &Context) -> Outcome {
        let keys = get(context, &self.name).await?.ssh_keys;
        let value = || serde_json::json!({ "sshKeys": keys });
        context.print_rows(value, &keys, COLUMNS, &self.columns, "No keys were added to it.")
    }
}

async fn get(context: &Context, name: &str) -> Outcome<Vps> {
    let request = GetVpsRequest { vps: name.to_owned() };
    context.client().await?.vps().get_vps(request).await?.into_inner().vps.ok_or_else(|| missing("VPS"))
}

async fn change(context: &Context, name: String, add: Vec<String>, remove: Vec<String>) -> Outcome {
    run_operations(context, Subjects::One(name), async |vps, request_id| {
        let (add, remove) = (add.clone(), remove.clone());
        let request = ChangeVpsSshKeysRequest { vps, add, remove, request_id, validate_only: false };
        Ok(context.client().await?.vps().change_vps_ssh_keys(request).await?.into_inner().operation)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_in_parts() {
        let key = "ssh-ed25519 AAAA me at home";
        assert_eq!(
            (word(key, 0), word(key, 1), comment(key)),
            ("ssh-ed25519".into(), "AAAA".into(), "me at home")
        );
        assert_eq!(comment("ssh-ed25519 AAAA"), "");
    }
}
