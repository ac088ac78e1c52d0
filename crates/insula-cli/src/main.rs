//! `insula`, the command: a thin client of the agent.
//!
//! Each command is a file of `commands`: its arguments, and its requests to the agent. What commands share is below them:
//! their common arguments (`global`, `flags`, `places`), the connection to the agent (`context`, `remotes`), the format of
//! answers (`output`, `table`), requests that are repeated when the connection breaks (`requests`), waiting (`operations`,
//! `progress`), errors and exit codes (`failure`), and the terminal of a guest's program (`session`). Nothing here decides
//! anything about a VPS.

mod arguments;
mod columns;
mod commands;
mod context;
mod detach;
mod doctor;
mod failure;
mod files;
mod flags;
mod global;
mod operations;
mod output;
mod places;
mod progress;
mod prompt;
mod remotes;
mod requests;

mod session;
mod table;
mod targets;
mod terminal;
mod text;

use clap::{CommandFactory as _, Parser as _};
use std::process::ExitCode;
use std::time::Duration;

use arguments::{Arguments, Command};
use context::Context;
use failure::{Failure, Outcome};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to set up the event loop: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(arguments));
    runtime.shutdown_background(); // a thread may still wait for standard input
    ExitCode::from(code)
}

/// Runs the command to its end and returns the exit code.
async fn run(arguments: Arguments) -> u8 {
    let context = Context::new(arguments.global);
    let (limit, is_interruptible) =
        (wait_limit(&context, &arguments.command), arguments.command.is_interruptible());
    let outcome = tokio::select! {
        biased; // Ctrl-C is caught before the command asks its first question
        failure = interruption(), if is_interruptible => Err(failure),
        outcome = arguments.command.run(&context) => outcome,
        failure = time_over(limit) => Err(failure),
    };
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            context.report(&failure);
            say_what_goes_on(&context);
            failure.exit_code()
        }
    }
}

/// How long to wait. The `--timeout` of `stop`, `restart` and `suspend` limits the guest's shutdown instead.
fn wait_limit(context: &Context, command: &Command) -> Option<Duration> {
    match command {
        Command::Stop(_) | Command::Restart(_) | Command::Suspend(_) => None,
        _ => context.global.timeout,
    }
}

async fn time_over(limit: Option<Duration>) -> Failure {
    match limit {
        None => std::future::pending().await,
        // A timeout is a deadline, not a pause: there is nothing to wait for but the time itself.
        Some(limit) => {
            let _ = tokio::time::timeout(limit, std::future::pending::<()>()).await;
            Failure::timed_out(limit)
        }
    }
}

/// Ctrl-C: 130, as shells say.
async fn interruption() -> Failure {
    match tokio::signal::ctrl_c().await {
        Ok(()) => Failure::Exit(130),
        Err(_) => std::future::pending().await, // then Ctrl-C keeps ending the process
    }
}

/// Prints that operations continue after the command that waited for them, and how to wait again.
fn say_what_goes_on(context: &Context) {
    for (id, description) in context.pending.borrow().iter() {
        context.note(&format!("{description} continues; to wait for it: insula operation wait {id}"));
    }
}

impl Command {
    async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Create(command) => command.run(context).await,
            Self::Start(command) => command.run(context).await,
            Self::Stop(command) => command.run(context).await,
            Self::Restart(command) => command.run(context).await,
            Self::Pause(command) => command.run(context).await,
            Self::Resume(command) => command.run(context).await,
            Self::Suspend(command) => command.run(context).await,
            Self::Unsuspend(command) => command.run(context).await,
            Self::Delete(command) => command.run(context).await,
            Self::Undelete(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
            Self::Show(command) => command.run(context).await,
            Self::Set(command) => command.run(context).await,
            Self::Rename(command) => command.run(context).await,
            Self::Clone(command) => command.run(context).await,
            Self::Rebuild(command) => command.run(context).await,
            Self::Passwd(command) => command.run(context).await,
            Self::Usage(command) => command.run(context).await,
            Self::Exec(command) => command.run(context).await,
            Self::Shell(command) => command.run(context).await,
            Self::Console(command) => command.run(context).await,
            Self::Log(command) => command.run(context).await,
            Self::SshKey(command) => command.run(context).await,
            Self::File(command) => command.run(context).await,
            Self::Snapshot(command) => command.run(context).await,
            Self::Image(command) => command.run(context).await,
            Self::Profile(command) => command.run(context).await,
            Self::Network(command) => command.run(context).await,
            Self::Pool(command) => command.run(context).await,
            Self::Operation(command) => command.run(context).await,
            Self::Events(command) => command.run(context).await,
            Self::Access(command) => command.run(context).await,
            Self::Audit(command) => command.run(context).await,
            Self::Remote(command) => command.run(context).await,
            Self::Doctor(command) => command.run(context).await,
            Self::Version(command) => command.run(context).await,
            Self::Completion(command) => command.run(Arguments::command()),
        }
    }

    /// Whether Ctrl-C ends the command. In `exec`, `shell` and `console`, the guest receives it.
    fn is_interruptible(&self) -> bool {
        !matches!(self, Self::Exec(_) | Self::Shell(_) | Self::Console(_))
    }
}
