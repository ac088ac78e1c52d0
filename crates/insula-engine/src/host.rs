//! What the host has, and what is assigned of it. Nothing here knows jobs or what a VPS is doing.

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
