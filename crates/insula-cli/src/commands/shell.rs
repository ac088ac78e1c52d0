//! `insula shell`

use std::io::IsTerminal as _;

use crate::context::Context;
use crate::failure::Outcome;
use crate::session::Program;

/// The arguments of `insula shell`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula shell web1
  insula shell web1 < script.sh")]
pub struct Shell {
    /// VPS, by name or id
    name: String,
}

impl Shell {
    /// Opens the shell: su(1) finds the one of root and makes it a login shell.
    pub async fn run(self, context: &Context) -> Outcome {
        let program = Program {
            vps: self.name,
            command: vec!["su".to_owned(), "-l".to_owned()],
            environment: vec![],
            working_directory: String::new(),
            has_terminal: std::io::stdin().is_terminal(),
        };
        program.run(context).await
    }
}
