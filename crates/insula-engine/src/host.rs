//! What the host has, and what is assigned of it. A file owns one matter: its state in memory, what the database has of
//! it, and what is made of it on the host. None knows the engine, jobs, or what a VPS is doing.

pub(crate) mod clients;
pub(crate) mod database;
pub(crate) mod features;
pub(crate) mod ids;
pub(crate) mod images;
pub(crate) mod nested;
pub(crate) mod networks;
pub(crate) mod pools;
pub(crate) mod profiles;
pub(crate) mod settings;
