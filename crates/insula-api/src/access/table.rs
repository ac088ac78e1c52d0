//! The table of rights: which role may call which method, and what else a call may ask for.

use insula_types::Role;

/// The one method that can be called without a certificate: it is how a client gets one.
pub const OPEN_METHOD: &str = "/insula.v1.AccessService/EnrollClient";

/// How far a role's right to call a method reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole host.
    Host,
    /// The caller's own VPSes, and what belongs to them. All others are hidden, as if they did not
    /// exist.
    Own,
}

/// The effect of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It only looks.
    Read,
    /// It changes something. Once begun it is completed, even if the caller is gone.
    Change,
    /// It connects the caller with something until one side ends the connection.
    Session,
}

/// A method of the API, and which roles may call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// The path by which it is called: `/insula.v1.VpsService/GetVps`.
    pub path: &'static str,
    /// The effect of a call of this method.
    pub effect: Effect,
    /// The right of each role, in the order of [`Role::ALL`]. `None` means that the role may not
    /// call it.
    rights: [Option<Scope>; Role::ALL.len()],
}

impl Method {
    /// Finds a method by its path.
    pub fn of(path: &str) -> Option<&'static Method> {
        METHODS.binary_search_by(|method| method.path.cmp(path)).ok().map(|found| &METHODS[found])
    }

    /// How far this role's right to call the method reaches. `None` where the role may not call it.
    pub fn right(&self, role: Role) -> Option<Scope> {
        entry(self.rights, role)
    }

    /// The method's name without its service.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// Something that a call may ask for in addition, by a field or because of the state of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Starting a VPS although it is suspended.
    OverrideSuspension,
    /// Granting a VPS a feature that neither it nor its profile has. Features make walls lower.
    OpenFeature,
    /// Giving a VPS a device of the host.
    GiveDevice,
    /// Reading or writing files of a suspended VPS.
    ReachSuspendedFiles,
}

impl Extra {
    /// How far this role's right to it reaches. `None` where the role has none.
    pub fn right(self, role: Role) -> Option<Scope> {
        EXTRAS.iter().find(|(extra, _)| *extra == self).and_then(|(_, rights)| entry(*rights, role))
    }
}

fn entry(rights: [Option<Scope>; Role::ALL.len()], role: Role) -> Option<Scope> {
    let column = Role::ALL.iter().position(|known| *known == role)?;
    rights[column]
}

const ALL: Option<Scope> = Some(Scope::Host);
const OWN: Option<Scope> = Some(Scope::Own);
const ___: Option<Scope> = None;

const fn read(path: &'static str, rights: [Option<Scope>; 5]) -> Method {
    Method { path, effect: Effect::Read, rights }
}

const fn change(path: &'static str, rights: [Option<Scope>; 5]) -> Method {
    Method { path, effect: Effect::Change, rights }
}

const fn session(path: &'static str, rights: [Option<Scope>; 5]) -> Method {
    Method { path, effect: Effect::Session, rights }
}

/// All methods, by path.
#[rustfmt::skip]
pub const METHODS: &[Method] = &[
    //                                                                super-admin  billing    viewer
    //                                                                     operator     tenant
    read   ("/grpc.health.v1.Health/Check",                               [ALL, ALL, ALL, ALL, ALL]),
    read   ("/grpc.health.v1.Health/Watch",                               [ALL, ALL, ALL, ALL, ALL]),
    read   ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",  [ALL, ALL, ALL, ALL, ALL]),
    read   ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", [ALL, ALL, ALL, ALL, ALL]),

    change ("/insula.v1.AccessService/CreateAccessToken",                 [ALL, ___, ___, ___, ___]),
    change (OPEN_METHOD,                                                  [ALL, ALL, ALL, ALL, ALL]),
    read   ("/insula.v1.AccessService/GetCaller",                         [ALL, ALL, ALL, ALL, ALL]),
    read   ("/insula.v1.AccessService/ListAuditEntries",                  [ALL, ALL, ___, ___, ALL]),
    read   ("/insula.v1.AccessService/ListClients",                       [ALL, ___, ___, ___, ___]),
    change ("/insula.v1.AccessService/RenewCertificate",                  [ALL, ALL, ALL, ALL, ALL]),
    change ("/insula.v1.AccessService/RevokeClient",                      [ALL, ___, ___, ___, ___]),
    read   ("/insula.v1.AccessService/VerifyAuditLog",                    [ALL, ALL, ___, ___, ALL]),

    read   ("/insula.v1.EventService/ListEvents",                         [ALL, ALL, ALL, OWN, ALL]),
    read   ("/insula.v1.EventService/WatchEvents",                        [ALL, ALL, ALL, OWN, ALL]),

    session("/insula.v1.FileService/ListFiles",                           [ALL, ALL, ___, OWN, ___]),
    session("/insula.v1.FileService/PullFiles",                           [ALL, ALL, ___, OWN, ___]),
    session("/insula.v1.FileService/PushFiles",                           [ALL, ALL, ___, OWN, ___]),
    session("/insula.v1.FileService/SendPushItems",                       [ALL, ALL, ___, OWN, ___]),
    session("/insula.v1.FileService/StartPush",                           [ALL, ALL, ___, OWN, ___]),

    read   ("/insula.v1.HostService/GetHost",                             [ALL, ALL, ALL, ___, ALL]),

    change ("/insula.v1.ImageService/BuildImage",                         [ALL, ALL, ___, ___, ___]),
    change ("/insula.v1.ImageService/DeleteImage",                        [ALL, ALL, ___, ___, ___]),
    change ("/insula.v1.ImageService/DeleteImageAlias",                   [ALL, ALL, ___, ___, ___]),
    read   ("/insula.v1.ImageService/GetImage",                           [ALL, ALL, ALL, ALL, ALL]),
    read   ("/insula.v1.ImageService/ListImages",                         [ALL, ALL, ALL, ALL, ALL]),
    change ("/insula.v1.ImageService/SetImageAlias",                      [ALL, ALL, ___, ___, ___]),

    read   ("/insula.v1.NetworkService/GetNetwork",                       [ALL, ALL, ALL, ___, ALL]),
    read   ("/insula.v1.NetworkService/ListNetworks",                     [ALL, ALL, ALL, ___, ALL]),

    change ("/insula.v1.OperationService/CancelOperation",                [ALL, ALL, ALL, OWN, ___]),
    read   ("/insula.v1.OperationService/GetOperation",                   [ALL, ALL, ALL, OWN, ALL]),
    read   ("/insula.v1.OperationService/ListOperations",                 [ALL, ALL, ALL, OWN, ALL]),
    read   ("/insula.v1.OperationService/WaitOperation",                  [ALL, ALL, ALL, OWN, ALL]),
    read   ("/insula.v1.OperationService/WatchOperation",                 [ALL, ALL, ALL, OWN, ALL]),

    change ("/insula.v1.ProfileService/CreateProfile",                    [ALL, ALL, ___, ___, ___]),
    change ("/insula.v1.ProfileService/DeleteProfile",                    [ALL, ALL, ___, ___, ___]),
    read   ("/insula.v1.ProfileService/GetProfile",                       [ALL, ALL, ALL, ALL, ALL]),
    read   ("/insula.v1.ProfileService/ListProfiles",                     [ALL, ALL, ALL, ALL, ALL]),
    change ("/insula.v1.ProfileService/UpdateProfile",                    [ALL, ALL, ___, ___, ___]),

    change ("/insula.v1.SnapshotService/CreateSnapshot",                  [ALL, ALL, ___, OWN, ___]),
    change ("/insula.v1.SnapshotService/DeleteSnapshot",                  [ALL, ALL, ___, OWN, ___]),
    read   ("/insula.v1.SnapshotService/ListSnapshots",                   [ALL, ALL, ALL, OWN, ALL]),
    change ("/insula.v1.SnapshotService/RestoreSnapshot",                 [ALL, ALL, ___, OWN, ___]),

    read   ("/insula.v1.StorageService/GetPool",                          [ALL, ALL, ALL, ___, ALL]),
    read   ("/insula.v1.StorageService/ListPools",                        [ALL, ALL, ALL, ___, ALL]),

    read   ("/insula.v1.UsageService/GetUsage",                           [ALL, ALL, ALL, OWN, ALL]),
    read   ("/insula.v1.UsageService/ListUsage",                          [ALL, ALL, ALL, OWN, ALL]),

    session("/insula.v1.VpsService/AttachConsole",                        [ALL, ALL, ___, OWN, ___]),
    change ("/insula.v1.VpsService/ChangeVpsSshKeys",                     [ALL, ALL, ALL, OWN, ___]),
    change ("/insula.v1.VpsService/CloneVps",                             [ALL, ALL, ALL, ___, ___]),
    change ("/insula.v1.VpsService/CreateVps",                            [ALL, ALL, ALL, ___, ___]),
    change ("/insula.v1.VpsService/DeleteVps",                            [ALL, ALL, ALL, ___, ___]),
    session("/insula.v1.VpsService/ExecVps",                              [ALL, ALL, ___, OWN, ___]),
    read   ("/insula.v1.VpsService/GetConsoleLog",                        [ALL, ALL, ___, OWN, ___]),
    read   ("/insula.v1.VpsService/GetVps",                               [ALL, ALL, ALL, OWN, ALL]),
    read   ("/insula.v1.VpsService/ListVpses",                            [ALL, ALL, ALL, OWN, ALL]),
    change ("/insula.v1.VpsService/PauseVps",                             [ALL, ALL, ALL, OWN, ___]),
    change ("/insula.v1.VpsService/RebuildVps",                           [ALL, ALL, ALL, OWN, ___]),
    change ("/insula.v1.VpsService/RenameVps",                            [ALL, ALL, ALL, ___, ___]),
    change ("/insula.v1.VpsService/RestartVps",                           [ALL, ALL, ALL, OWN, ___]),
    change ("/insula.v1.VpsService/ResumeVps",                            [ALL, ALL, ALL, OWN, ___]),
    session("/insula.v1.VpsService/SendConsoleInput",                     [ALL, ALL, ___, OWN, ___]),
    session("/insula.v1.VpsService/SendExecInput",                        [ALL, ALL, ___, OWN, ___]),
    change ("/insula.v1.VpsService/SetVpsPassword",                       [ALL, ALL, ALL, OWN, ___]),
    session("/insula.v1.VpsService/StartConsole",                         [ALL, ALL, ___, OWN, ___]),
    session("/insula.v1.VpsService/StartExec",                            [ALL, ALL, ___, OWN, ___]),
    change ("/insula.v1.VpsService/StartVps",                             [ALL, ALL, ALL, OWN, ___]),
    change ("/insula.v1.VpsService/StopVps",                              [ALL, ALL, ALL, OWN, ___]),
    change ("/insula.v1.VpsService/SuspendVps",                           [ALL, ALL, ALL, ___, ___]),
    change ("/insula.v1.VpsService/UndeleteVps",                          [ALL, ALL, ALL, ___, ___]),
    change ("/insula.v1.VpsService/UnsuspendVps",                         [ALL, ALL, ALL, ___, ___]),
    change ("/insula.v1.VpsService/UpdateVps",                            [ALL, ALL, ALL, ___, ___]),
];

/// What a call may ask for in addition, and which roles have a right to it.
#[rustfmt::skip]
pub const EXTRAS: &[(Extra, [Option<Scope>; Role::ALL.len()])] = &[
    //                                                                super-admin  billing    viewer
    //                                                                     operator     tenant
    (Extra::OverrideSuspension,                                           [ALL, ALL, ALL, ___, ___]),
    (Extra::OpenFeature,                                                  [ALL, ALL, ___, ___, ___]),
    (Extra::GiveDevice,                                                   [ALL, ___, ___, ___, ___]),
    (Extra::ReachSuspendedFiles,                                          [ALL, ALL, ___, ___, ___]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::DescriptorPool;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_has_every_method_and_no_other() {
        let pool = DescriptorPool::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
        let services = pool.services().collect::<Vec<_>>();
        let methods = services.iter().flat_map(|service| service.methods());
        let there: BTreeSet<String> = methods
            .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
            .collect();
        let in_table: BTreeSet<String> = METHODS.iter().map(|method| method.path.to_owned()).collect();
        let foreign = |path: &&String| path.starts_with("/grpc.");
        let ours: BTreeSet<_> = in_table.iter().filter(|path| !foreign(path)).cloned().collect();
        assert_eq!(ours, there, "left: the table, right: the protos");
        assert_eq!(in_table.len(), METHODS.len());
    }

    #[test]
    fn every_method_is_found() {
        for method in METHODS {
            assert_eq!(Method::of(method.path), Some(method), "METHODS must be sorted by path");
        }
        for unknown in ["", "/", "/insula.v1.VpsService/", "/insula.v1.VpsService/getvps", "/metrics"] {
            assert_eq!(Method::of(unknown), None, "{unknown:?}");
        }
    }

    /// A browser's session, which consists of several calls, needs the same right as the streaming
    /// method.
    #[test]
    fn sessions_of_browsers_have_the_rights_of_all_sessions() {
        for (stream, alone) in [
            ("VpsService/ExecVps", ["VpsService/StartExec", "VpsService/SendExecInput"]),
            ("VpsService/AttachConsole", ["VpsService/StartConsole", "VpsService/SendConsoleInput"]),
            ("FileService/PushFiles", ["FileService/StartPush", "FileService/SendPushItems"]),
        ] {
            let method = |name: &str| Method::of(&format!("/insula.v1.{name}")).unwrap();
            for other in alone.map(method) {
                assert_eq!((other.effect, other.rights), (method(stream).effect, method(stream).rights));
            }
        }
    }

    /// Checks what the words of each role promise, whatever methods are added.
    #[test]
    fn no_role_has_more_than_it_says() {
        for method in METHODS {
            let path = method.path;
            assert_eq!(method.right(Role::SuperAdmin), ALL, "{path}");
            let may_change_nothing = [OPEN_METHOD, "/insula.v1.AccessService/RenewCertificate"];
            if !may_change_nothing.contains(&path) && method.effect != Effect::Read {
                assert_eq!(method.right(Role::Viewer), None, "{path}");
            }
            if path.contains(".VpsService/") || path.contains(".SnapshotService/") {
                assert_ne!(method.right(Role::Tenant), ALL, "{path}");
            }
            if method.effect == Effect::Session || method.name() == "GetConsoleLog" {
                assert_eq!((method.right(Role::Billing), method.right(Role::Viewer)), (None, None), "{path}");
            }
            for role in [Role::Operator, Role::Billing, Role::Viewer, Role::SuperAdmin] {
                assert_ne!(method.right(role), OWN, "{path}: {role} has no VPSes of its own");
            }
        }
    }
}
