//! Mounts that are attached to a guest while it runs: the agent's side.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use insula_sys::mount::{MountAttrFlags, set_attributes};
use insula_sys::user_namespace::with_ids;
use insula_types::IdRange;

use crate::connection::{ConnectionError, MonitorConnection};
use crate::monitor::clone_mount_at;
use crate::protocol::{ATTACHES_MOUNTS, Event, ExecFailure, PROTOCOL_VERSION, Request};

/// A mount that is attached nowhere, has no peers on the host, and has no devices. It ends when it is dropped, unless it was
/// attached before.
///
/// Root in the guest may change the attributes of a mount that was attached for it, such as that it can't be written. What a
/// guest must not write has to be read-only by itself, or belong to ids that the guest does not have.
#[derive(Debug)]
pub struct DetachedMount {
    mount: OwnedFd,
}

impl DetachedMount {
    /// A mount of what is at a path of the host, without what is mounted below it.
    pub fn clone_of(path: &Path) -> io::Result<Self> {
        let mount = clone_mount_at(path)?;
        set_attributes(mount.as_fd(), MountAttrFlags::MOUNT_ATTR_NODEV, None)?;
        Ok(Self { mount })
    }

    /// The same, with files whose ids on disk are the guest's own: they appear with the ids that the guest has on the host.
    pub fn with_ids(self, ids: IdRange) -> io::Result<Self> {
        let namespace = with_ids(ids.start, ids.length)?;
        set_attributes(self.mount.as_fd(), MountAttrFlags::MOUNT_ATTR_IDMAP, Some(namespace.as_fd()))?;
        Ok(self)
    }
}

/// Why a mount could not be attached to a guest.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Its monitor can't be talked to, or is too old.
    #[error("failed to ask the monitor to attach a mount")]
    Connection(#[from] ConnectionError),
    /// The monitor could not do it.
    #[error("failed to attach a mount at {target} of the guest: {}", chain.join(": "))]
    Failed {
        /// The path in the guest.
        target: String,
        /// Which kind of failure.
        reason: ExecFailure,
        /// What was being done, then the causes.
        chain: Vec<String>,
    },
}

impl MonitorConnection {
    /// Attaches a mount at a path of the running guest: [`Request::AttachMount`]. It blocks, and takes a connection that
    /// nothing else was asked on.
    ///
    /// # Errors
    /// [`ConnectionError::TooOld`] for a monitor that does not know how. After [`ConnectionError::TimedOut`] the mount may
    /// have been attached.
    pub fn attach_mount(
        &self,
        mount: &DetachedMount,
        target: &str,
        deadline: Instant,
    ) -> Result<(), AttachError> {
        const NUMBER: u32 = 1;
        self.send(&Request::Hello { version: PROTOCOL_VERSION }, &[])?;
        loop {
            match self.receive(deadline)?.0 {
                Event::Hello { version, .. } if version < ATTACHES_MOUNTS => {
                    return Err(ConnectionError::TooOld { version, needed: ATTACHES_MOUNTS }.into());
                }
                Event::Hello { .. } => {
                    let request = Request::AttachMount { exec: NUMBER, target: target.to_owned() };
                    self.send(&request, &[mount.mount.as_fd()])?;
                }
                Event::MountAttached { exec: NUMBER } => return Ok(()),
                Event::ExecFailed { exec: NUMBER, reason, chain } => {
                    return Err(AttachError::Failed { target: target.to_owned(), reason, chain });
                }
                _ => {} // the guest's phase
            }
        }
    }
}
