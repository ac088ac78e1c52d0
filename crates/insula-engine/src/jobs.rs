//! What operations do: one file per job. Each says what is asked for, and how ([`spec::JobSpec`]) it is checked, planned
//! and recovered. The enum is their form in the journal, and only dispatches. No job acts: its steps do.

mod build_image;
mod change_ssh_keys;
mod clone;
mod create;
mod create_snapshot;
pub(crate) mod delete;
mod delete_image;
mod delete_snapshot;
#[cfg(test)]
mod journaled;
mod pause;
mod rebuild;
mod rename;
mod restart;
mod restore_snapshot;
mod resume;
mod set_password;
pub(crate) mod spec;
mod start;
mod stop;
mod suspend;
mod trash;
mod undelete;
mod unsuspend;
mod update;

use std::ops::{Deref, DerefMut};

use insula_types::OperationKind;
use serde::{Deserialize, Serialize};

pub use self::build_image::BuildImage;
pub use self::clone::CloneVps;
pub use self::create::CreateVps;
use self::spec::JobSpec;

/// The enum of all jobs: `kind of the operation(what the job's file calls it)`.
macro_rules! jobs {
    ($($kind:ident($job:ty),)*) => {
        /// An operation's task, as the journal keeps it.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "job", rename_all = "kebab-case")]
        pub(crate) enum Job {
            $($kind($job),)*
        }

        impl Job {
            /// All kinds of operations that are jobs.
            #[cfg(test)]
            const KINDS: &[OperationKind] = &[$(OperationKind::$kind,)*];

            /// The kind of its operation.
            pub fn kind(&self) -> OperationKind {
                match self {
                    $(Self::$kind(_) => OperationKind::$kind,)*
                }
            }
        }

        impl Deref for Job {
            type Target = dyn JobSpec;

            fn deref(&self) -> &(dyn JobSpec + 'static) {
                match self {
                    $(Self::$kind(job) => job,)*
                }
            }
        }

        impl DerefMut for Job {
            fn deref_mut(&mut self) -> &mut (dyn JobSpec + 'static) {
                match self {
                    $(Self::$kind(job) => job,)*
                }
            }
        }

        $(
            impl From<$job> for Job {
                fn from(job: $job) -> Self {
                    Self::$kind(job)
                }
            }
        )*
    };
}

jobs! {
    BuildImage(build_image::BuildImageJob),
    ChangeVpsSshKeys(change_ssh_keys::ChangeSshKeysJob),
    CloneVps(clone::CloneJob),
    CreateSnapshot(create_snapshot::CreateSnapshotJob),
    CreateVps(create::CreateJob),
    DeleteImage(delete_image::DeleteImageJob),
    DeleteSnapshot(delete_snapshot::DeleteSnapshotJob),
    DeleteVps(delete::DeleteJob),
    PauseVps(pause::PauseJob),
    RebuildVps(rebuild::RebuildJob),
    RenameVps(rename::RenameJob),
    RestartVps(restart::RestartJob),
    RestoreSnapshot(restore_snapshot::RestoreSnapshotJob),
    ResumeVps(resume::ResumeJob),
    SetVpsPassword(set_password::SetPasswordJob),
    StartVps(start::StartJob),
    StopVps(stop::StopJob),
    SuspendVps(suspend::SuspendJob),
    TrashVps(trash::TrashJob),
    UndeleteVps(undelete::UndeleteJob),
    UnsuspendVps(unsuspend::UnsuspendJob),
    UpdateVps(update::UpdateJob),
}

impl Job {
    /// The same without what must not be kept when it is over.
    pub fn without_secrets(&self) -> Self {
        let mut kept = self.clone();
        kept.forget_secrets();
        kept
    }
}
