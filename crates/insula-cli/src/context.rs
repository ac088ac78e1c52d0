//! What a command works with: the agent, the terminal, and what was typed for every command.

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
    /// On this host, behind a socket.
    Here(PathBuf),
    /// Elsewhere.
    Remote(Remote),
}

/// What a command works with.
pub struct Context {
    /// What holds for every command.
    pub global: GlobalArguments,
    /// The progress bars; what is written beside them goes through here.
    pub progress: MultiProgress,
    /// The operations that are being waited for: id, and the line that says what they do.
    pub pending: RefCell<BTreeMap<String, String>>,
    client: OnceCell<Client>,
}

impl Context {
    /// Connects when it is needed.
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

    /// Which agent is meant. What was typed counts more than the environment.
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

    /// `--timeout` where it is how long a guest may take to end.
    pub fn guest_timeout(&self) -> Option<prost_types::Duration> {
        self.global.timeout.and_then(|timeout| timeout.try_into().ok())
    }

    /// Whether people are told what was done.
    pub fn says_what_is_done(&self) -> bool {
        self.global.output == Format::Table && !self.global.quiet && !self.global.no_wait
    }

    /// Says something that is no answer, if people want to know.
    pub fn note(&self, text: &str) {
        if !self.global.quiet {
            self.error_line(text);
        }
    }

    /// Says something that is no answer, if somebody looks.
    pub fn note_at_terminal(&self, text: &str) {
        if std::io::stderr().is_terminal() {
            self.note(text);
        }
    }

    /// Asks something: writes without an end of line.
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

    /// What to do about an agent that does not answer.
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
