//! What may be typed: the whole of it, above all commands.

use clap::{Parser, Subcommand};

use crate::commands;
use crate::global::GlobalArguments;

/// Makes, runs and looks after VPSes
#[derive(Debug, Parser)]
#[command(name = "insula", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Arguments {
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalArguments,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  insula image build images/debian-12.yaml
  insula create web1 --image debian-12 --memory 1G --ssh-key ~/.ssh/id_ed25519.pub --wait ready
  insula list
  insula shell web1

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused by state or policy,
5 no permission, 6 agent unreachable; exec hands on the command's own.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a VPS from an image
    Create(commands::create::Create),
    /// Boot VPSes
    Start(commands::start::Start),
    /// Shut VPSes down
    Stop(commands::stop::Stop),
    /// Shut VPSes down and boot them
    Restart(commands::restart::Restart),
    /// Freeze the processes of VPSes
    Pause(commands::pause::Pause),
    /// Thaw the processes of paused VPSes
    Resume(commands::resume::Resume),
    /// Shut VPSes down and hold them, such as for an unpaid bill; data and addresses are kept
    Suspend(commands::suspend::Suspend),
    /// End the hold on VPSes, and boot those that ran before
    Unsuspend(commands::unsuspend::Unsuspend),
    /// Move VPSes to the trash, or remove them with all they have
    #[command(visible_alias = "rm")]
    Delete(commands::delete::Delete),
    /// Take a VPS out of the trash
    Undelete(commands::undelete::Undelete),
    /// List the VPSes
    #[command(visible_alias = "ls")]
    List(commands::list::List),
    /// Show all that is known of a VPS
    Show(commands::show::Show),
    /// Change what a VPS may use, its profile, its labels and more
    Set(commands::set::Set),
    /// Give a VPS another name
    Rename(commands::rename::Rename),
    /// Make a VPS from the root of another, or from a snapshot of it
    Clone(commands::clone::Clone),
    /// Give a stopped VPS a new root from an image; addresses, keys and limits stay, the old root becomes a snapshot
    Rebuild(commands::rebuild::Rebuild),
    /// Set the password of a user inside a VPS
    Passwd(commands::passwd::Passwd),
    /// Show what VPSes use now
    Usage(commands::usage::Usage),
    /// Run a program inside a VPS
    Exec(commands::exec::Exec),
    /// Open a login shell of root inside a VPS
    Shell(commands::shell::Shell),
    /// Connect to the console of a VPS
    Console(commands::console::Console),
    /// Print what the console of a VPS has shown last
    Log(commands::log::Log),
    /// Keys that may log in as root of a VPS
    #[command(subcommand)]
    SshKey(commands::ssh_key::SshKey),
    /// Copy files into a VPS and out of it
    #[command(subcommand)]
    File(commands::file::File),
    /// Points in time of a VPS's root file system
    #[command(subcommand)]
    Snapshot(commands::snapshot::Snapshot),
    /// What VPSes are made from
    #[command(subcommand)]
    Image(commands::image::Image),
    /// Named plans that VPSes take their limits and networks from
    #[command(subcommand)]
    Profile(commands::profile::Profile),
    /// What VPSes are plugged into
    #[command(subcommand)]
    Network(commands::network::Network),
    /// Where the file systems of VPSes and images are
    #[command(subcommand)]
    Pool(commands::pool::Pool),
    /// Jobs that take longer than a call
    #[command(subcommand)]
    Operation(commands::operation::Operation),
    /// What has happened, and what happens
    Events(commands::events::Events),
    /// Who may use the API over the network
    #[command(subcommand)]
    Access(commands::access::Access),
    /// Who has changed what: the audit log, newest first
    Audit(commands::audit::Audit),
    /// Agents elsewhere, and the certificates to use them with
    #[command(subcommand)]
    Remote(commands::remote::Remote),
    /// Look at what this host has and lacks
    Doctor(commands::doctor::Doctor),
    /// Show the versions of this command and of the agent
    Version(commands::version::Version),
    /// Print the completions for a shell
    Completion(commands::completion::Completion),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command as Definition, CommandFactory as _};

    /// The definition and those of all commands below, each with what is typed for it.
    fn definitions(definition: &Definition, typed: &str) -> Vec<(String, Definition)> {
        let own = (typed.to_owned(), definition.clone().bin_name(typed));
        let below = definition.get_subcommands().filter(|command| command.get_name() != "help");
        let below =
            below.flat_map(|command| definitions(command, &format!("{typed} {}", command.get_name())));
        std::iter::once(own).chain(below).collect()
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_how_it_is_typed() {
        let mut all = Arguments::command();
        all.build();
        for (typed, definition) in definitions(&all, "insula") {
            assert!(definition.get_about().is_some(), "{typed} has no description");
            let after = definition.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(&typed), "{typed} has no example");
            for argument in definition.get_arguments() {
                assert!(argument.get_help().is_some(), "{typed}: {} has no help", argument.get_id());
            }
        }
    }

    #[test]
    fn help_is_as_it_was() {
        let mut all = Arguments::command().term_width(100).mut_args(|argument| argument.hide_env(true));
        all.build();
        let help = definitions(&all, "insula").into_iter().map(|(typed, mut definition)| {
            let help = definition.render_help();
            format!("$ {typed} --help\n{help}\n")
        });
        insta::assert_snapshot!(help.collect::<String>());
    }
}
