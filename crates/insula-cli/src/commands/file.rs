//! `insula file`

use clap::{Args, Subcommand};
use insula_api::convert::{path_fields, path_of};
use insula_api::v1::{ListFilesRequest, ListFilesResponse};
use std::path::PathBuf;

use crate::columns::FILE_COLUMNS;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::files::{Pull as PullFiles, Push as PushFiles, warn_of_skip};
use crate::places::{FilePlace, parse_place};
use crate::table::ColumnChoice;

/// The commands of `insula file`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  insula file push index.html web1/srv/www/
  insula file pull web1/etc/nginx . -r
  insula file list web1/var/log")]
pub enum File {
    /// Copy files into a VPS
    Push(Push),
    /// Copy files out of a VPS
    Pull(Pull),
    /// List a directory of a VPS
    #[command(visible_alias = "ls")]
    List(List),
}

/// The arguments of `insula file push`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula file push index.html web1/srv/www/
  insula file push -p motd web1/srv/new/directory/motd --mode 644 --uid 0 --gid 0
  insula file push -r site web1/srv/
  echo hello | insula file push - web1/root/hello

The VPS need not be running. Owner, group and permissions are kept, times are not; --uid and --gid are ids inside the \
VPS. A file appears complete or not at all. It replaces a file or link of the same name; links are not followed. With -r, \
links are copied as links; pipes, sockets and devices are left out with a warning.")]
pub struct Push {
    /// Local files and directories; - for standard input
    #[arg(required = true, num_args = 1.., value_name = "LOCAL")]
    locals: Vec<PathBuf>,
    /// Destination: a directory, or the name of the single file
    #[arg(value_name = "NAME/PATH", value_parser = parse_place())]
    place: FilePlace,
    /// Copy directories with everything in them
    #[arg(short, long)]
    recursive: bool,
    /// Create missing directories in the VPS
    #[arg(short = 'p', long)]
    create_dirs: bool,
    /// Permissions, in octal
    #[arg(long, value_parser = parse_mode, conflicts_with = "recursive")]
    mode: Option<u32>,
    /// Owner, by number
    #[arg(long)]
    uid: Option<u32>,
    /// Group, by number
    #[arg(long)]
    gid: Option<u32>,
}

/// The arguments of `insula file pull`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula file pull web1/etc/hosts .
  insula file pull web1/etc/hosts -
  insula file pull -r web1/etc/nginx web1/srv/www backup/

The VPS need not be running. Permissions are kept, but not set-user-ID and the like; root also keeps owner and group, by \
number. With -r, links are copied as links. Pipes, sockets, devices and whatever is mounted below a directory are left out \
with a warning.")]
pub struct Pull {
    /// Files and directories of VPSes
    #[arg(required = true, num_args = 1.., value_name = "NAME/PATH", value_parser = parse_place())]
    places: Vec<FilePlace>,
    /// Destination: a directory, or the name of the single file; - for standard output
    #[arg(value_name = "LOCAL")]
    local: PathBuf,
    /// Copy directories with everything in them
    #[arg(short, long)]
    recursive: bool,
    /// Create missing local directories
    #[arg(short = 'p', long)]
    create_dirs: bool,
}

/// The arguments of `insula file list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula file list web1/var/log
  insula file list web1/var/log --columns name,size -o csv")]
pub struct List {
    /// Directory or file of a VPS
    #[arg(value_name = "NAME/PATH", value_parser = parse_place())]
    place: FilePlace,
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let expected = || "expected permissions in octal, such as 644 or 0755".to_owned();
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777 && !text.starts_with('+'))
        .ok_or_else(expected)
}

impl File {
    /// Does what was asked for.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Push(push) => push.run(context).await,
            Self::Pull(pull) => pull.run(context).await,
            Self::List(list) => list.run(context).await,
        }
    }
}

impl Push {
    async fn run(self, context: &Context) -> Outcome {
        let Self { locals, place, recursive, create_dirs, mode, uid, gid } = self;
        PushFiles { locals, place, recursive, create_dirs, mode, uid, gid }.run(context).await
    }
}

impl Pull {
    async fn run(self, context: &Context) -> Outcome {
        let Self { places, local, recursive, create_dirs } = self;
        PullFiles { places, local, recursive, create_dirs }.run(context).await
    }
}

impl List {
    async fn run(self, context: &Context) -> Outcome {
        let (path, path_bytes) = path_fields(&self.place.path);
        let request = ListFilesRequest { vps: self.place.vps, path, path_bytes };
        let mut stream = context.client().await?.files().list_files(request).await?.into_inner();
        let mut answer = ListFilesResponse::default();
        while let Some(part) = stream.message().await? {
            answer.files.extend(part.files);
            answer.skips.extend(part.skips);
        }
        answer.files.sort_by_cached_key(|file| path_of(&file.path, &file.path_bytes));
        context.print_list(&answer, &answer.files, FILE_COLUMNS, &self.columns, "The directory is empty.")?;
        let mut outcome = Ok(());
        for skip in &answer.skips {
            if warn_of_skip(context, skip) {
                outcome = Err(Failure::Exit(1));
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_octal() {
        for (text, expected) in [("644", Some(0o644)), ("0755", Some(0o755)), ("4755", Some(0o4755))] {
            assert_eq!(parse_mode(text).ok(), expected);
        }
        for bad in ["", "8", "u+x", "+7", "-1", "17777"] {
            assert!(parse_mode(bad).is_err(), "{bad}");
        }
    }
}
