//! The beginning and the end of an agent. Nothing else of the engine knows of it.

mod close;
mod find;
mod open;
mod strays;
