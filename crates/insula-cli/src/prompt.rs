//! What is asked of the person at the command: secrets, which are never arguments because everybody on the machine can
//! see those, and whether to go on.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// The limit of a secret's length, in bytes.
const LONGEST: u64 = 64 << 10;

/// Reads a secret: asks at a terminal, without echo, or else takes the whole of standard input.
pub async fn read_secret(context: &Context, question: &str) -> Outcome<String> {
    let is_asked = io::stdin().is_terminal();
    let silence = if is_asked { Some(Silence::begin().map_err(failed)?) } else { None };
    if is_asked {
        context.ask(question);
    }
    let typed = read_input(is_asked).await;
    drop(silence);
    if is_asked {
        context.ask("\n"); // the one that was typed was not shown
    }
    typed
}

/// Reads a new password: twice at a terminal.
pub async fn read_new_password(context: &Context) -> Outcome<String> {
    let password = read_secret(context, "New password: ").await?;
    if io::stdin().is_terminal() && read_secret(context, "Repeat: ").await? != password {
        return Err(Failure::usage("the passwords are not the same"));
    }
    match &*password {
        "" => Err(Failure::usage("the password is empty")),
        text if text.contains(['\n', '\r']) => Err(Failure::usage("the password has more than one line")),
        _ => Ok(password),
    }
}

/// Asks for a confirmation at a terminal. Elsewhere, and with `--yes`, there is no question.
pub async fn confirm(context: &Context, what: &str, is_sure: bool) -> Outcome {
    if is_sure || !io::stdin().is_terminal() {
        return Ok(());
    }
    context.ask(&format!("{what} Continue? [y/N] "));
    match read_input(true).await?.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::usage("not done: it was not confirmed")),
    }
}

/// Reads a line, or everything, on a thread of its own, so that Ctrl-C can end the command meanwhile.
async fn read_input(is_line: bool) -> Outcome<String> {
    let read = move || {
        let (mut text, mut input) = (String::new(), io::stdin().lock().take(LONGEST));
        let result = if is_line { input.read_line(&mut text) } else { input.read_to_string(&mut text) };
        result.map(|_| one_line(text))
    };
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(io::Error::other).and_then(|read| read).map_err(failed)
}

fn failed(error: io::Error) -> Failure {
    Failure::io("failed to read from standard input", &error)
}

/// Removes the line feed at the end.
fn one_line(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    text
}

/// Standard input is a terminal that does not echo, until this is dropped.
struct Silence {
    saved: Termios,
}

impl Silence {
    fn begin() -> io::Result<Self> {
        let saved = tcgetattr(io::stdin())?;
        let mut silent = saved.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self { saved })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.saved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_line_is_left_out() {
        for (typed, secret) in [("a b \n", "a b "), ("a\r\n", "a"), ("a\n\n", "a\n"), ("", ""), ("a", "a")] {
            assert_eq!(one_line(typed.to_owned()), secret, "{typed:?}");
        }
    }
}
