//! `insula log`

use insula_api::v1::GetConsoleLogRequest;
use std::io::IsTerminal as _;

use crate::context::Context;
use crate::failure::Outcome;
use crate::global::Format;
use crate::output::print;
use crate::text::strip_escapes;

/// The arguments of `insula log`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula log web1
  insula log web1 --raw > boot.log

On a terminal, control sequences are removed; elsewhere the guest's bytes are printed unchanged.")]
pub struct Log {
    /// VPS, by name or id
    name: String,
    /// Print the guest's bytes unchanged, even to a terminal
    #[arg(long)]
    raw: bool,
}

impl Log {
    /// Prints the console's scrollback.
    pub async fn run(self, context: &Context) -> Outcome {
        let request = GetConsoleLogRequest { vps: self.name };
        let answer = context.client().await?.vps().get_console_log(request).await?.into_inner();
        match context.global.output {
            Format::Json | Format::Yaml => context.print_value(&insula_api::json::to_json(&answer)),
            _ if self.raw || !std::io::stdout().is_terminal() => print(&answer.log),
            _ => print(strip_escapes(&answer.log).as_bytes()),
        }
    }
}
