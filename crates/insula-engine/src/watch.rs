//! What is watched all the time: events, usage, pressure, and the VPSes that step back or are started because of it.
//! Nothing here asks for an operation but by a trait that it is given.

pub(crate) mod autostart;
pub(crate) mod events;
pub(crate) mod fairness;
pub(crate) mod pressure;
pub(crate) mod standing;
pub(crate) mod usage;
