//! How what is asked for is accepted, and what can be asked for beside jobs with steps. The files hold methods of the
//! engine and no state; what they change is owned by the subsystems. They must not touch the host themselves.

pub(crate) mod acceptance;
pub(crate) mod audit;
pub(crate) mod autostart;
pub(crate) mod clients;
pub(crate) mod events;
pub(crate) mod host;
pub(crate) mod housekeeping;
pub(crate) mod images;
pub(crate) mod networks;
pub(crate) mod once;
pub(crate) mod operations;
pub(crate) mod profiles;
pub(crate) mod usage;
pub(crate) mod vps;
