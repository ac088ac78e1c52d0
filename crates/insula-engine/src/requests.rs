//! What can be asked of the engine: checked, turned into a job, and handed to the journal.

pub(crate) mod audit;
pub(crate) mod autostart;
pub(crate) mod changes;
pub(crate) mod clients;
pub(crate) mod clone;
pub(crate) mod create;
pub(crate) mod events;
pub(crate) mod images;
pub(crate) mod profiles;
pub(crate) mod snapshots;
pub(crate) mod trash;
pub(crate) mod usage;
pub(crate) mod vps;
