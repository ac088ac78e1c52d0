//! `insula-monitor`: the parent of one VPS's init. Run by `insulad`, never by hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    insula_runtime::monitor::run()
}
