//! What both directions share: messages about a transfer, and its progress.

use indicatif::{ProgressBar, ProgressStyle};
use insula_api::convert::path_of;
use insula_api::v1::FileSkip;
use insula_api::{ApiError, Reason};
use insula_files::{FileError, FileErrorKind};
use std::io::IsTerminal as _;
use std::time::Duration;

use crate::context::Context;
use crate::failure::Failure;
use crate::text::printable;

/// How many messages a channel holds.
pub const QUEUE: usize = 4;

/// Prints which file a transfer leaves out, and returns whether that is an error.
pub fn warn_of_skip(context: &Context, skip: &FileSkip) -> bool {
    let path = insula_files::show(&path_of(&skip.path, &skip.path_bytes));
    let head = if skip.failed { "error: " } else { "warning: " };
    context.note(&format!("{head}{path} was left out: {}", printable(&skip.reason)));
    skip.failed
}

/// Something on this machine failed.
pub fn local_failure(error: FileError) -> Failure {
    let reason = match error.kind {
        FileErrorKind::Invalid => Reason::InvalidArgument,
        _ => Reason::Internal,
    };
    Failure::Error(ApiError::new(reason, error.message))
}

/// How many bytes were transferred: on a terminal a bar, which vanishes at the end; elsewhere nothing.
pub struct Bar(Option<ProgressBar>);

impl Bar {
    /// A bar with this name, for this many bytes if that is known.
    pub fn new(context: &Context, name: &str, length: Option<u64>) -> Self {
        const KNOWN: &str = "{prefix} {spinner} {bar:30} {bytes} of {total_bytes}, {binary_bytes_per_sec}";
        const UNKNOWN: &str = "{prefix} {spinner} {bytes}, {binary_bytes_per_sec}";
        if context.global.quiet || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let style = ProgressStyle::with_template(if length.is_some() { KNOWN } else { UNKNOWN });
        let bar = context.progress.add(bar.with_style(style.expect("a constant")));
        bar.set_prefix(printable(name));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(Some(bar))
    }

    /// Counts bytes that were transferred.
    pub fn add(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
