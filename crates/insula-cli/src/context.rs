//! What a command works with: the agent, the terminal, and the options of every command.

use indicatif::MultiProgress;
use insula_api::client::DEFAULT_SOCKET;
use insula_api::{Client, Endpoint};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use tokio::sync::OnceCell;

use crate::failure::{Failure, Outcome, REMOTE_IS_AWAY, render_error};
use crate::global::{Format, GlobalArguments};
use crate::remotes::{Remote, Remotes};

/// Where an agent is.
enum Destination {
    /// On this host, at a socket.
    Here(PathBuf),
    /// On another host.
    Remote(Remote),
}

/// The agent, the terminal, and the options of every command.
pub struct Context {
    /// The options of every command.
    pub global: GlobalArguments,
    /// The progress bars. Notes and questions are written through them.
    pub progress: MultiProgress,
    /// The operations that the command waits for: id and description.
    pub pending: RefCell<BTreeMap<String, String>>,
    client: OnceCell<Client>,
}

impl Context {
    /// Makes a context. It connects to the agent when a command first needs it.
    pub fn new(global: GlobalArguments) -> Self {
        Self { global, progress: MultiProgress::new(), pending: RefCell::default(), client: OnceCell::new() }
    }

    /// The agent.
    pub async fn client(&self) -> Outcome<&Client> {
        self.client.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Outcome<Client> {
        match self.destination()? {
            Destination::Here(socket) => Ok(Client::connect(Endpoint::Unix(socket)).await?),
            Destination::Remote(remote) => {
                let (client, renewed) = remote.connect().await?;
                if let Err(failure) = renewed {
                    self.note(&format!("The certificate for {} could not be renewed:", remote.name));
                    self.report(&failure);
                }
                Ok(client)
            }
        }
    }

    /// Which agent to talk to. Options override the environment.
    fn destination(&self) -> Outcome<Destination> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let typed = (self.global.host.clone(), self.global.socket.clone());
        let host = match typed {
            (None, None) => variable("INSULA_HOST").map(|host| host.to_string_lossy().into_owned()),
            (host, _) => host,
        };
        if let Some(host) = host {
            return Remotes::open()?.find(&host).map(Destination::Remote);
        }
        let named = self.global.socket.clone().or_else(|| variable("INSULA_SOCKET").map(PathBuf::from));
        Ok(Destination::Here(named.unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))))
    }

    /// The value of `--timeout` for commands in which it limits the guest's shutdown.
    pub fn guest_timeout(&self) -> Option<prost_types::Duration> {
        self.global.timeout.and_then(|timeout| timeout.try_into().ok())
    }

    /// Whether to print what was done.
    pub fn says_what_is_done(&self) -> bool {
        self.global.output == Format::Table && !self.global.quiet && !self.global.no_wait
    }

    /// Prints a note beside the answer, unless `--quiet` was given.
    pub fn note(&self, text: &str) {
        if !self.global.quiet {
            self.error_line(text);
        }
    }

    /// Prints a note beside the answer, if a person is at the terminal.
    pub fn note_at_terminal(&self, text: &str) {
        if std::io::stderr().is_terminal() {
            self.note(text);
        }
    }

    /// Writes a question, without a line feed.
    pub fn ask(&self, text: &str) {
        self.progress.suspend(|| eprint!("{text}"));
    }

    /// Shows an error.
    pub fn report(&self, failure: &Failure) {
        if let Failure::Error(error) = failure {
            let lacks_hint = failure.is_lost_connection() && error.hint().is_none();
            let error =
                if lacks_hint { error.clone().with_hint(self.hint_for_lost()) } else { error.clone() };
            self.error_line(render_error(&error, self.has_colour()).trim_end());
        }
    }

    /// The hint about an agent that does not answer.
    fn hint_for_lost(&self) -> &'static str {
        match self.destination() {
            Ok(Destination::Remote(_)) => REMOTE_IS_AWAY,
            _ => {
                "start the agent with `systemctl start insulad`, or run `insulad` as root; name another \
                socket with --socket, or a remote agent with --host"
            }
        }
    }

    fn has_colour(&self) -> bool {
        let unwanted =
            self.global.no_color || std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        std::io::stderr().is_terminal() && !unwanted
    }

    fn error_line(&self, text: &str) {
        self.progress.suspend(|| eprintln!("{text}"));
    }
}
