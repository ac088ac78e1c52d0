//! Insula seen from outside: whole hosts with agents, guests and clients. Each file is a story, each test has a host
//! of its own. They need root, and what `scripts/test` looks for.

mod access;
mod answers;
mod apparmor;
mod bad_input;
mod bad_luck;
mod billing;
mod chaos;
mod cli_remote;
mod console;
mod contract;
mod dice;
mod escapes;
mod exec;
mod features;
mod files;
mod foreign_client;
mod full_disk;
mod fuzz;
mod hundred;
mod images;
mod isolation;
mod layers;
mod life;
mod limits;
mod model;
mod nested;
mod network;
mod phases;
mod plain_pool;
mod requests;
mod size;
mod supervision;
mod survival;
mod upgrade;
mod whole;
