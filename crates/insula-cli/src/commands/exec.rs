//! `insula exec`

use std::io::IsTerminal as _;

use crate::context::Context;
use crate::failure::Outcome;
use crate::session::Program;

/// The arguments of `insula exec`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula exec web1 -- apt-get update
  insula exec web1 --env LANG=C --cwd /srv -- sh -c 'echo $LANG; pwd'
  tar -c site | insula exec web1 --cwd /srv -- tar -x

Exits with the program's exit code; with 128 plus the signal's number if a signal killed it; with 127 if there is \
no such program. Without a terminal, the signals INT, TERM, HUP and QUIT are forwarded to the program.")]
pub struct Exec {
    /// VPS, by name or id
    name: String,
    /// Give the program a terminal [default: if standard input and output are terminals]
    #[arg(short, long, overrides_with = "no_tty")]
    tty: bool,
    /// Don't give the program a terminal
    #[arg(long, overrides_with = "tty")]
    no_tty: bool,
    /// Environment variable to set; may be repeated
    #[arg(short, long = "env", value_name = "KEY=VALUE", value_parser = parse_variable)]
    environment: Vec<String>,
    /// Working directory [default: /root]
    #[arg(long = "cwd", value_name = "DIRECTORY")]
    working_directory: Option<String>,
    /// Program to run, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn parse_variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

impl Exec {
    /// Runs the program.
    pub async fn run(self, context: &Context) -> Outcome {
        let at_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let program = Program {
            vps: self.name,
            command: self.command,
            environment: self.environment,
            working_directory: self.working_directory.unwrap_or_default(),
            has_terminal: !self.no_tty && (self.tty || at_terminal),
        };
        program.run(context).await
    }
}
