//! The command line as a whole: it knows all commands.

use clap::{Parser, Subcommand};

use crate::commands;
use crate::global::GlobalArguments;

/// Manages the virtual private servers (VPSes) of a host
#[derive(Debug, Parser)]
#[command(name = "insula", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Arguments {
    /// The options of every command.
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
5 no permission, 6 agent unreachable; exec passes on the command's own.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a VPS from an image
    Create(commands::create::Create),
    /// Start VPSes
    Start(commands::start::Start),
    /// Shut down VPSes
    Stop(commands::stop::Stop),
    /// Shut down VPSes and start them again
    Restart(commands::restart::Restart),
    /// Freeze the processes of VPSes
    Pause(commands::pause::Pause),
    /// Thaw the processes of paused VPSes
    Resume(commands::resume::Resume),
    /// Shut down VPSes and keep them from starting, such as for an unpaid bill; data and addresses stay
    Suspend(commands::suspend::Suspend),
    /// Lift the suspension of VPSes, and start those that were running
    Unsuspend(commands::unsuspend::Unsuspend),
    /// Move VPSes to the trash, or remove them for good
    #[command(visible_alias = "rm")]
    Delete(commands::delete::Delete),
    /// Restore a VPS from the trash
    Undelete(commands::undelete::Undelete),
    /// List VPSes
    #[command(visible_alias = "ls")]
    List(commands::list::List),
    /// Show the details of a VPS
    Show(commands::show::Show),
    /// Change the limits, profile, labels and other settings of a VPS
    Set(commands::set::Set),
    /// Rename a VPS
    Rename(commands::rename::Rename),
    /// Create a VPS from the root of another one, or from a snapshot of it
    Clone(commands::clone::Clone),
    /// Replace the root of a stopped VPS with a fresh one from an image
    Rebuild(commands::rebuild::Rebuild),
    /// Set the password of a user in a VPS
    Passwd(commands::passwd::Passwd),
    /// Show what VPSes use at the moment
    Usage(commands::usage::Usage),
    /// Run a program in a VPS
    Exec(commands::exec::Exec),
    /// Open a login shell as root in a VPS
    Shell(commands::shell::Shell),
    /// Attach to the console of a VPS
    Console(commands::console::Console),
    /// Print the latest output of a VPS's console
    Log(commands::log::Log),
    /// Manage the SSH keys that may log in to a VPS as root
    #[command(subcommand)]
    SshKey(commands::ssh_key::SshKey),
    /// Copy files into and out of a VPS
    #[command(subcommand)]
    File(commands::file::File),
    /// Take, list, restore and delete snapshots of a VPS's root
    #[command(subcommand)]
    Snapshot(commands::snapshot::Snapshot),
    /// Manage the images that VPSes are created from
    #[command(subcommand)]
    Image(commands::image::Image),
    /// Manage profiles: named plans with limits, features and networks
    #[command(subcommand)]
    Profile(commands::profile::Profile),
    /// Show the networks that VPSes are connected to
    #[command(subcommand)]
    Network(commands::network::Network),
    /// Show the storage pools that hold VPSes and images
    #[command(subcommand)]
    Pool(commands::pool::Pool),
    /// List, wait for and cancel operations
    #[command(subcommand)]
    Operation(commands::operation::Operation),
    /// Show what has happened on the host, or follow it live
    Events(commands::events::Events),
    /// Manage the clients that may use the API over the network
    #[command(subcommand)]
    Access(commands::access::Access),
    /// Show who changed what: the audit log, newest entries first
    Audit(commands::audit::Audit),
    /// Manage remote agents and the certificates for them
    #[command(subcommand)]
    Remote(commands::remote::Remote),
    /// Check what this host has and lacks
    Doctor(commands::doctor::Doctor),
    /// Show the versions of this command and of the agent
    Version(commands::version::Version),
    /// Print a completion script for a shell
    Completion(commands::completion::Completion),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command as Definition, CommandFactory as _};

    /// This definition and those of all its subcommands, each with the words that call it.
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
