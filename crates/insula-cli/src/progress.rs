//! The progress of an operation: a bar on a terminal, lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use insula_api::v1::Operation;
use std::io::IsTerminal as _;
use std::time::Duration;

use crate::context::Context;
use crate::text::printable;

/// How the progress of one operation is shown.
pub enum Progress<'a> {
    /// Shows nothing.
    Hidden,
    /// A line for each change.
    Lines(&'a Context, Lines),
    /// A bar, which vanishes at the end.
    Bar(ProgressBar),
}

impl<'a> Progress<'a> {
    /// The kind of progress that suits the context.
    pub fn new(context: &'a Context) -> Self {
        match std::io::stderr().is_terminal() {
            _ if context.global.quiet => Self::Hidden,
            false => Self::Lines(context, Lines::default()),
            true => Self::Bar(context.progress.add(new_bar())),
        }
    }

    /// Shows a change.
    pub fn update(&mut self, operation: &Operation) {
        match self {
            Self::Hidden => {}
            Self::Lines(context, lines) => lines.next(operation).iter().for_each(|line| context.note(line)),
            Self::Bar(bar) => {
                bar.set_prefix(printable(&operation.target_name));
                bar.set_position(operation.percent.into());
                bar.set_message(printable(&operation.message));
            }
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn new_bar() -> ProgressBar {
    const TEMPLATE: &str = "{prefix} {spinner} {bar:30} {percent:>3} %  {wide_msg}";
    let style = ProgressStyle::with_template(TEMPLATE).expect("a constant");
    let bar = ProgressBar::new(100).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// The lines about an operation's progress. Each is printed only if it says something new.
#[derive(Default)]
pub struct Lines {
    last: Option<(String, u32)>,
}

impl Lines {
    /// The next line, if the message is new or ten percent more are done.
    fn next(&mut self, operation: &Operation) -> Option<String> {
        let now = (operation.message.clone(), operation.percent / 10);
        if operation.message.is_empty() || self.last.as_ref() == Some(&now) {
            return None;
        }
        self.last = Some(now);
        let (name, message) = (printable(&operation.target_name), printable(&operation.message));
        Some(format!("{name}: {message} ({} %)", operation.percent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_something_new() {
        let mut lines = Lines::default();
        let mut next = |percent, message: &str| {
            let (target_name, message) = ("web1".into(), message.into());
            lines.next(&Operation { target_name, percent, message, ..Default::default() })
        };
        assert_eq!(next(0, ""), None);
        assert_eq!(next(1, "cloning").as_deref(), Some("web1: cloning (1 %)"));
        assert_eq!(next(1, "cloning"), None);
        assert_eq!(next(9, "cloning"), None);
        assert_eq!(next(10, "cloning").as_deref(), Some("web1: cloning (10 %)"));
        assert_eq!(next(10, "booting\x1b[2J").as_deref(), Some("web1: booting\u{fffd}[2J (10 %)"));
    }
}
