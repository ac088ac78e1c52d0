//! The words of Insula as types: names, ids, sizes, limits, specs and states.
//!
//! Every value here is valid by construction: what can be parsed can be used. No I/O, no async, no other
//! Insula crate. The words are those of `docs/architecture.md`.

mod access;
mod cpus;
mod event;
mod feature;
mod id;
mod image;
mod labels;
mod limits;
mod name;
mod network;
mod operation;
mod placement;
mod profile;
mod reason;
mod size;
mod state;
mod supervision;
mod token;
mod vps;

pub use access::{
    AuditEntry, AuditLine, ClientCertificate, ClientRecord, RequestId, Requester, Role, UnknownRole,
};
pub use cpus::{CpuCount, CpuCountError};
pub use event::{AccessChange, Event, EventBody, EventRecord, EventSubject, LimitKind};
pub use feature::{DeviceName, Feature, FeatureError, Features};
pub use id::{ClientId, Fingerprint, HostId, IdParseError, IdRange, OperationId, VpsId};
pub use image::{Architecture, ImageInfo, InitKind};
pub use labels::{LabelError, Labels};
pub use limits::{Enforcer, Limit, LimitRow, Limits, LimitsError};
pub use name::{
    ClientName, ImageAlias, ImageRef, InterfaceName, NameError, NetworkName, PoolName, ProfileName,
    SnapshotName, TenantName, VpsName,
};
pub use network::{AddressAssignment, Attachment, MacAddress, NetworkOrigin, NetworkSpec, Nic};
pub use operation::{Failure, OperationKind, OperationRecord, OperationState, Progress};
pub use placement::{NicAddresses, Placement};
pub use profile::Profile;
pub use reason::{Reason, UnknownReason};
pub use size::{ByteSize, SizeError};
pub use state::{DesiredPower, ExitReason, ExitRecord, VpsState};
pub use supervision::{Autostart, CrashPolicy, Supervision};
pub use token::{EnrollmentToken, TokenParseError};
pub use vps::{PlacedNic, SnapshotInfo, Suspension, Trash, VpsSpec};
