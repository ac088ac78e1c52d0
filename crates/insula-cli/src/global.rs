//! What holds for every command, below all of them.

use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

use crate::text::parse_duration;

/// What holds for every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArguments {
    /// An agent elsewhere: the name or the URL of a remote [env: INSULA_HOST]
    #[arg(long, global = true, value_name = "NAME|URL", conflicts_with = "socket")]
    pub host: Option<String>,
    /// The socket of this host's agent [env: INSULA_SOCKET] [default: /run/insula/insulad.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// How to show the answer
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub output: Format,
    /// Say nothing but errors and what was asked for
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// No colours; also when NO_COLOR is set
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Stop waiting after this time, in seconds or as 5m; what was begun goes on. For stop, restart and suspend: how
    /// long the guest may take before it is killed
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Don't wait for what was begun: print the operation's id
    #[arg(long = "async", global = true)]
    pub no_wait: bool,
}

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// The API's message in the proto3 JSON mapping
    Json,
    /// The same as YAML
    Yaml,
    /// The table with commas
    Csv,
}
