//! What root inside a VPS tries in vain: the attempts of the testkit, and traps for what the agent
//! does.
//!
//! An attempt counts as refused if its program says so, and if the host and its other guests are as
//! they were ([`witness`]). During attempts, a neighbour and the agent answer as before
//! ([`pulse`]). That attempts can succeed where a wall is missing is shown by
//! `crates/insula-runtime/tests/weakened.rs`, and for the walls of storage and network here.

mod arena;
mod bombs;
mod noise;
mod pulse;
mod transfers;
mod traps;
mod walls;
mod witness;

use insula_testkit::hostile::{CALLS, FILES, PROCESSES};

use arena::Arena;

#[test]
fn no_forbidden_call_comes_through() {
    Arena::new().run_all(CALLS);
}

#[test]
fn no_file_leads_out() {
    Arena::new().run_all(FILES);
}

#[test]
fn no_process_reaches_what_belongs_to_others() {
    Arena::new().run_all(PROCESSES);
}
