//! Rights: the one table of who may call what, and [`authorize`], the one function that reads it.
//!
//! The agent asks before every call, on the unix socket as well as over the network. It asks again
//! once it knows which object the call is about. Whatever is not in the table is refused. The guard
//! and the services only carry out the answer. `docs/access.md` says the same in words.

mod authorize;
mod table;

pub use authorize::{Action, Decision, Object, Refusal, authorize};
pub use table::{EXTRAS, Effect, Extra, METHODS, Method, OPEN_METHOD, Scope};
