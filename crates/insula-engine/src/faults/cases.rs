//! What is tried of each operation.
//!
//! A new kind of operation does not compile until this file says how it is asked for.

use std::sync::Arc;

use insula_types::{
    ByteSize, CrashPolicy, Feature, Features, IdRange, ImageRef, Limit, OperationKind, VpsState,
};

use super::host::{HAS_PLAIN_POOL, asked, create_request, root_of};
use super::observe::{
    ANOTHER_KEY, has_another_key, has_password, image_of, is, is_file, memory_limit, planned_on_crash,
};
use super::{Case, try_all};
use crate::{
    Boot, CloneVps, CreateVps, Engine, FeatureChange, LimitChange, SupervisionChange, UpdateVps, VpsHandle,
};

/// A VPS to work on.
fn with(engine: &Engine, vps: &str) -> Arc<VpsHandle> {
    engine.vps_or_deleted(vps).unwrap()
}

/// The request that is tried with a VPS that is there, as one of [`Case`].
macro_rules! request {
    (|$engine:ident, $vps:ident = $name:literal| $request:expr) => {
        |$engine| {
            Box::pin(async move {
                let $vps = with($engine, $name);
                $request
            })
        }
    };
}

fn nesting() -> Features {
    Features::new([Feature::Nesting]).unwrap()
}

fn clone_request() -> CloneVps {
    CloneVps { name: "new".parse().unwrap(), snapshot: None, hostname: None, addresses: vec![], boot: None }
}

macro_rules! cases {
    ($($kind:ident: $test:ident $cases:expr;)*) => {
        $(
            #[test]
            fn $test() {
                cases(OperationKind::$kind).iter().for_each(try_all);
            }
        )*

        /// How an operation of this kind is asked for.
        fn cases(kind: OperationKind) -> Vec<Case> {
            match kind {
                $(OperationKind::$kind => $cases,)*
                // Builds are killed in the tests of whole hosts: one takes half a minute.
                OperationKind::BuildImage => vec![],
                // Those have no steps: they are done in the transaction that journals them.
                OperationKind::SetImageAlias
                | OperationKind::DeleteImageAlias
                | OperationKind::CreateProfile
                | OperationKind::UpdateProfile
                | OperationKind::DeleteProfile
                | OperationKind::CreateAccessToken
                | OperationKind::RevokeClient => vec![],
            }
        }
    };
}

cases! {
    CreateVps: creating_a_vps vec![
        Case {
            request: |engine| Box::pin(async { engine.create_vps(&asked(), create_request("new")).await }),
            is_done: |engine| is_file(engine, "new", "root/.ssh/authorized_keys") && has_password(engine, "new"),
        },
        Case {
            request: |engine| {
                Box::pin(async {
                    let request = CreateVps { start: true, wait_ready: true, ..create_request("new") };
                    engine.create_vps(&asked(), request).await
                })
            },
            is_done: |engine| is(engine, "new", VpsState::Ready),
        },
    ];
    CloneVps: cloning_a_vps vec![
        Case {
            request: request!(|engine, vps = "old"| {
                let clone = clone_request();
                engine.clone_vps(&asked(), &vps, clone).await
            }),
            is_done: |engine| is_file(engine, "new", "later"),
        },
        Case {
            request: request!(|engine, vps = "live"| {
                let clone = CloneVps { boot: Some(Boot { wait_ready: true }), ..clone_request() };
                engine.clone_vps(&asked(), &vps, clone).await
            }),
            is_done: |engine| is(engine, "new", VpsState::Ready),
        },
    ];
    StartVps: starting_a_vps vec![
        Case {
            request: request!(|engine, vps = "old"| engine.start_vps(&asked(), &vps, true, false).await),
            is_done: |engine| is(engine, "old", VpsState::Ready),
        },
        Case {
            request: request!(|engine, vps = "old"| {
                // Its features were changed since it ran: it gets other ids first.
                engine.change_spec(&vps.id, |spec| spec.features = nesting()).await.unwrap();
                engine.start_vps(&asked(), &vps, true, false).await
            }),
            is_done: |engine| {
                let is_ready = is(engine, "old", VpsState::Ready);
                let ids = engine.vps("old").unwrap().spec().placement.ids;
                assert!(!is_ready || ids.length == 8 * IdRange::DEFAULT_LENGTH);
                is_ready
            },
        },
    ];
    StopVps: stopping_a_vps vec![
        Case {
            request: request!(|engine, vps = "live"| engine.stop_vps(&asked(), &vps, false, None).await),
            is_done: |engine| is(engine, "live", VpsState::Stopped),
        },
    ];
    RestartVps: restarting_a_vps vec![
        Case {
            request: request!(|engine, vps = "live"| {
                engine.restart_vps(&asked(), &vps, false, None, true).await
            }),
            is_done: |engine| is(engine, "live", VpsState::Ready),
        },
    ];
    PauseVps: pausing_a_vps vec![
        Case {
            request: request!(|engine, vps = "live"| engine.pause_vps(&asked(), &vps).await),
            is_done: |engine| is(engine, "live", VpsState::Paused),
        },
    ];
    ResumeVps: resuming_a_vps vec![
        Case {
            request: request!(|engine, vps = "live"| {
                engine.layout.freeze(&vps.id).unwrap();
                vps.set_paused(true).await.unwrap();
                engine.resume_vps(&asked(), &vps).await
            }),
            is_done: |engine| is(engine, "live", VpsState::Ready),
        },
    ];
    UpdateVps: changing_a_vps vec![
        Case {
            request: request!(|engine, vps = "old"| {
                let update = UpdateVps {
                    profile: Some("large".parse().unwrap()),
                    limits: vec![LimitChange::One(Limit::Disk, Some(512 << 20))],
                    ..UpdateVps::default()
                };
                engine.update_vps(&asked(), &vps, update).await
            }),
            is_done: |engine| {
                let spec = engine.vps("old").unwrap().spec();
                let large = spec.profile.as_str() == "large";
                assert_eq!(spec.limits.disk, Some(ByteSize::mib(if large { 512 } else { 256 })));
                assert_eq!(engine.pools.of(&spec).unwrap().driver().usage(spec.id).unwrap().limit, spec.limits.disk);
                large
            },
        },
        Case {
            request: request!(|engine, vps = "live"| {
                let limits = vec![
                    LimitChange::One(Limit::Memory, Some(512 << 20)),
                    LimitChange::One(Limit::Disk, Some(512 << 20)),
                ];
                let supervision = vec![SupervisionChange::OnCrash(Some(CrashPolicy::Restart))];
                let update = UpdateVps { limits, supervision, ..UpdateVps::default() };
                engine.update_vps(&asked(), &vps, update).await
            }),
            is_done: |engine| {
                let spec = engine.vps("live").unwrap().spec();
                let memory = spec.limits.memory.unwrap();
                let on_crash = planned_on_crash(engine, "live");
                assert_eq!(on_crash, spec.supervision.on_crash.unwrap_or_default().as_str());
                assert_eq!(memory_limit(engine, "live"), memory.bytes());
                assert_eq!(engine.pools.of(&spec).unwrap().driver().usage(spec.id).unwrap().limit, spec.limits.disk);
                memory == ByteSize::mib(512)
            },
        },
        Case {
            request: request!(|engine, vps = "live"| {
                let features = Some(FeatureChange::Own(nesting()));
                engine.update_vps(&asked(), &vps, UpdateVps { features, ..UpdateVps::default() }).await
            }),
            is_done: |engine| {
                let spec = engine.vps("live").unwrap().spec();
                assert_eq!(spec.own_features.is_some(), spec.features == nesting());
                spec.own_features.is_some()
            },
        },
    ];
    RenameVps: renaming_a_vps vec![
        Case {
            request: request!(|engine, vps = "old"| {
                engine.rename_vps(&asked(), &vps, "young".parse().unwrap()).await
            }),
            is_done: |engine| engine.vps("young").is_ok() && engine.vps("old").is_err(),
        },
    ];
    SuspendVps: suspending_a_vps vec![
        Case {
            request: request!(|engine, vps = "old"| {
                engine.suspend_vps(&asked(), &vps, "unpaid".to_owned(), true, None).await
            }),
            is_done: |engine| engine.vps("old").unwrap().state() == VpsState::Suspended,
        },
        Case {
            request: request!(|engine, vps = "live"| {
                engine.suspend_vps(&asked(), &vps, "unpaid".to_owned(), false, None).await
            }),
            is_done: |engine| is(engine, "live", VpsState::Suspended),
        },
    ];
    UnsuspendVps: ending_a_suspension vec![
        Case {
            request: request!(|engine, vps = "held"| engine.unsuspend_vps(&asked(), &vps).await),
            is_done: |engine| engine.vps("held").unwrap().state().is_alive(),
        },
    ];
    SetVpsPassword: setting_a_password vec![
        Case {
            request: request!(|engine, vps = "old"| {
                std::fs::write(root_of(engine, "old").join("etc/shadow"), "root:*:1::::::\n").unwrap();
                engine.set_password(&asked(), &vps, "root".to_owned(), "another").await
            }),
            is_done: |engine| has_password(engine, "old"),
        },
    ];
    ChangeVpsSshKeys: changing_ssh_keys vec![
        Case {
            request: request!(|engine, vps = "old"| {
                engine.change_ssh_keys(&asked(), &vps, &[ANOTHER_KEY.to_owned()], &[]).await
            }),
            is_done: |engine| has_another_key(engine, "old"),
        },
        Case {
            request: request!(|engine, vps = "live"| {
                engine.change_ssh_keys(&asked(), &vps, &[ANOTHER_KEY.to_owned()], &[]).await
            }),
            is_done: |engine| has_another_key(engine, "live"),
        },
    ];
    RebuildVps: rebuilding_a_vps vec![
        Case {
            request: request!(|engine, vps = "old"| {
                engine.rebuild_vps(&asked(), &vps, ImageRef::Alias("other".parse().unwrap()), true, None).await
            }),
            is_done: |engine| {
                let is_new = image_of(engine, "old") == 8;
                assert_eq!(is_file(engine, "old", "later"), !is_new);
                assert_eq!(engine.vps("old").unwrap().snapshots().len(), 1 + usize::from(is_new));
                is_new
            },
        },
        Case {
            request: request!(|engine, vps = "live"| {
                let (image, boot) = (ImageRef::Alias("other".parse().unwrap()), Boot { wait_ready: true });
                engine.rebuild_vps(&asked(), &vps, image, true, Some(boot)).await
            }),
            is_done: |engine| image_of(engine, "live") == 8 && is(engine, "live", VpsState::Ready),
        },
    ];
    TrashVps: moving_a_vps_to_the_trash vec![
        Case {
            request: request!(|engine, vps = "old"| engine.delete_vps(&asked(), &vps, false, false).await),
            is_done: |engine| engine.vps("old").is_err() && engine.deleted_vps("old").is_ok(),
        },
        Case {
            request: request!(|engine, vps = "live"| engine.delete_vps(&asked(), &vps, true, false).await),
            is_done: |engine| engine.deleted_vps("live").is_ok(),
        },
    ];
    UndeleteVps: taking_a_vps_out_of_the_trash vec![
        Case {
            request: request!(|engine, vps = "gone"| {
                engine.undelete_vps(&asked(), &vps, Some("back".parse().unwrap())).await
            }),
            is_done: |engine| engine.vps("back").is_ok() && engine.deleted_vps("gone").is_err(),
        },
    ];
    DeleteVps: deleting_a_vps vec![
        Case {
            request: request!(|engine, vps = "old"| engine.delete_vps(&asked(), &vps, false, true).await),
            is_done: |engine| engine.vps_or_deleted("old").is_err(),
        },
        Case {
            request: request!(|engine, vps = "gone"| engine.delete_vps(&asked(), &vps, false, true).await),
            is_done: |engine| engine.deleted_vps("gone").is_err(),
        },
        Case {
            request: request!(|engine, vps = "live"| engine.delete_vps(&asked(), &vps, true, true).await),
            is_done: |engine| engine.vps_or_deleted("live").is_err(),
        },
    ];
    CreateSnapshot: taking_a_snapshot vec![
        Case {
            request: request!(|engine, vps = "old"| {
                engine.create_snapshot(&asked(), &vps, Some("two".parse().unwrap())).await
            }),
            is_done: |engine| {
                engine.vps("old").unwrap().snapshots().iter().any(|snapshot| snapshot.name.as_str() == "two")
            },
        },
    ];
    RestoreSnapshot: restoring_a_snapshot vec![
        Case {
            request: request!(|engine, vps = "old"| {
                engine.restore_snapshot(&asked(), &vps, "one".parse().unwrap()).await
            }),
            is_done: |engine| !is_file(engine, "old", "later"),
        },
    ];
    DeleteSnapshot: deleting_a_snapshot vec![
        Case {
            request: request!(|engine, vps = "old"| {
                engine.delete_snapshot(&asked(), &vps, "one".parse().unwrap()).await
            }),
            is_done: |engine| engine.vps("old").unwrap().snapshots().is_empty(),
        },
    ];
    DeleteImage: deleting_an_image vec![
        Case {
            request: |engine| {
                Box::pin(async { engine.delete_image(&asked(), &ImageRef::Alias("tiny".parse().unwrap())).await })
            },
            is_done: |engine| engine.images().len() == 1,
        },
    ];
}

/// Lets the first case of a kind go wrong where volumes are plain directories, and their copies not done in an instant.
fn try_in_plain_directories(kind: OperationKind) {
    HAS_PLAIN_POOL.set(true);
    try_all(&cases(kind)[0]);
}

#[test]
fn cloning_a_vps_in_plain_directories() {
    try_in_plain_directories(OperationKind::CloneVps);
}

#[test]
fn rebuilding_a_vps_in_plain_directories() {
    try_in_plain_directories(OperationKind::RebuildVps);
}

#[test]
fn restoring_a_snapshot_in_plain_directories() {
    try_in_plain_directories(OperationKind::RestoreSnapshot);
}

#[test]
fn deleting_a_vps_in_plain_directories() {
    try_in_plain_directories(OperationKind::DeleteVps);
}
