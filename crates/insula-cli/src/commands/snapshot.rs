//! `insula snapshot`

use clap::{Args, Subcommand};
use insula_api::v1::{
    CreateSnapshotRequest, DeleteSnapshotRequest, ListSnapshotsRequest, RestoreSnapshotRequest,
};

use crate::columns::SNAPSHOT_COLUMNS;
use crate::context::Context;
use crate::failure::Outcome;
use crate::operations::{Subjects, run_operations};
use crate::table::ColumnChoice;

/// The commands of `insula snapshot`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  insula snapshot create web1 before-upgrade
  insula snapshot list web1
  insula snapshot restore web1 before-upgrade")]
pub enum Snapshot {
    /// Take a snapshot; that of a running VPS holds what a power loss would leave
    Create(Create),
    /// List the snapshots of a VPS, oldest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Reset the root of a stopped VPS to a snapshot
    Restore(Restore),
    /// Remove snapshots
    #[command(visible_alias = "rm")]
    Delete(Delete),
}

/// The arguments of `insula snapshot create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula snapshot create web1
  insula snapshot create web1 before-upgrade")]
pub struct Create {
    /// VPS, by name or id
    name: String,
    /// Name of the snapshot [default: the time, such as 20261123-101500]
    snapshot: Option<String>,
}

/// The arguments of `insula snapshot list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula snapshot list web1
  insula snapshot list web1 --columns name -o csv")]
pub struct List {
    /// VPS, by name or id
    name: String,
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

/// The arguments of `insula snapshot restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula stop web1 && insula snapshot restore web1 before-upgrade && insula start web1")]
pub struct Restore {
    /// VPS, by name or id
    name: String,
    /// Name of the snapshot
    snapshot: String,
}

/// The arguments of `insula snapshot delete`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula snapshot delete web1 before-upgrade")]
pub struct Delete {
    /// VPS, by name or id
    name: String,
    /// Names of the snapshots
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
}

impl Snapshot {
    /// Does what was asked for.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Create(create) => create.run(context).await,
            Self::List(list) => list.run(context).await,
            Self::Restore(restore) => restore.run(context).await,
            Self::Delete(delete) => delete.run(context).await,
        }
    }
}

impl Create {
    async fn run(self, context: &Context) -> Outcome {
        let snapshot = self.snapshot.unwrap_or_default();
        run_operations(context, Subjects::One(self.name), async |vps, request_id| {
            let snapshot = snapshot.clone();
            let request = CreateSnapshotRequest { vps, snapshot, request_id, validate_only: false };
            Ok(context.client().await?.snapshots().create_snapshot(request).await?.into_inner().operation)
        })
        .await
    }
}

impl List {
    async fn run(self, context: &Context) -> Outcome {
        let empty = format!("{} has no snapshots. To take one: insula snapshot create {0}", self.name);
        let request = ListSnapshotsRequest { vps: self.name };
        let answer = context.client().await?.snapshots().list_snapshots(request).await?.into_inner();
        context.print_list(&answer, &answer.snapshots, SNAPSHOT_COLUMNS, &self.columns, &empty)
    }
}

impl Restore {
    async fn run(self, context: &Context) -> Outcome {
        run_operations(context, Subjects::One(self.name), async |vps, request_id| {
            let snapshot = self.snapshot.clone();
            let request = RestoreSnapshotRequest { vps, snapshot, request_id, validate_only: false };
            Ok(context.client().await?.snapshots().restore_snapshot(request).await?.into_inner().operation)
        })
        .await
    }
}

impl Delete {
    async fn run(self, context: &Context) -> Outcome {
        run_operations(context, Subjects::named(self.snapshots), async |snapshot, request_id| {
            let vps = self.name.clone();
            let request = DeleteSnapshotRequest { vps, snapshot, request_id, validate_only: false };
            Ok(context.client().await?.snapshots().delete_snapshot(request).await?.into_inner().operation)
        })
        .await
    }
}
