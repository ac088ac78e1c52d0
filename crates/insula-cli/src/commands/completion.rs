//! `insula completion`

use clap_complete::Shell;

use crate::failure::Outcome;
use crate::output::print;

/// The arguments of `insula completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula completion bash > /etc/bash_completion.d/insula
  source <(insula completion zsh)")]
pub struct Completion {
    /// Which shell
    shell: Shell,
}

impl Completion {
    /// Prints the completions of what is defined so.
    pub fn run(self, mut definition: clap::Command) -> Outcome {
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut definition, "insula", &mut script);
        print(&script)
    }
}
