//! The beginning and the end of an agent. No other room of the engine knows of it.

mod close;
mod find;
mod open;
mod strays;
