//! The options of every command. This module knows no command.

use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

use crate::text::parse_duration;

/// The options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArguments {
    /// Remote agent, by name or URL [env: INSULA_HOST]
    #[arg(long, global = true, value_name = "NAME|URL", conflicts_with = "socket")]
    pub host: Option<String>,
    /// Socket of the local agent [env: INSULA_SOCKET] [default: /run/insula/insulad.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Output format
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub output: Format,
    /// Print only errors and what was asked for
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Don't use colours; the variable NO_COLOR does the same
    #[arg(long, global = true)]
    pub no_color: bool,
    /// How long to wait, in seconds or such as 5m; the operation goes on afterwards. For stop, restart and suspend: how
    /// long the guest may take to shut down before it is killed
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Don't wait for the operation: print its id
    #[arg(long = "async", global = true)]
    pub no_wait: bool,
}

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people
    Table,
    /// The API's message as JSON (proto3 mapping)
    Json,
    /// The same as YAML
    Yaml,
    /// The table as comma-separated values
    Csv,
}
