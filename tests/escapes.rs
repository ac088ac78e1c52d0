//! What root inside of a VPS tries, and gets nowhere with: the attempts of the testkit, and traps for what the agent does.
//!
//! An attempt is refused when its program says so, and the host and its other guests are as they were ([`witness`]). While
//! attempts run, a neighbour and the agent answer as before ([`pulse`]). That the attempts can succeed where a wall is missing is
//! shown by `crates/insula-runtime/tests/weakened.rs`, and for the walls of storage and network here.

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
