//! What the suite observes of a VPS after an operation: its files, its groups, its plan.

use std::path::Path;

use insula_runtime::VpsDirectory;
use insula_runtime::cgroup::Controller;
use insula_types::VpsState;

use super::host::root_of;
use crate::Engine;

pub(super) fn is_file(engine: &Engine, vps: &str, path: &str) -> bool {
    engine.vps(vps).is_ok() && Path::exists(&root_of(engine, vps).join(path))
}

pub(super) fn has_password(engine: &Engine, vps: &str) -> bool {
    engine.vps(vps).is_ok()
        && std::fs::read_to_string(root_of(engine, vps).join("etc/shadow")).unwrap().contains("$6$")
}

pub(super) const ANOTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAOTHER";

/// Both in the file that the guest reads and in what the engine knows.
pub(super) fn has_another_key(engine: &Engine, vps: &str) -> bool {
    let Ok(handle) = engine.vps(vps) else { return false };
    let file = std::fs::read_to_string(root_of(engine, vps).join("root/.ssh/authorized_keys"));
    file.is_ok_and(|file| file.contains(ANOTHER_KEY))
        && handle.spec().ssh_keys.contains(&ANOTHER_KEY.to_owned())
}

pub(super) fn image_of(engine: &Engine, vps: &str) -> u8 {
    let image = engine.vps(vps).unwrap().spec().image.to_string();
    u8::from_str_radix(&image[..2], 16).unwrap()
}

pub(super) fn is(engine: &Engine, vps: &str, state: VpsState) -> bool {
    engine.vps(vps).is_ok_and(|handle| handle.state() == state)
}

/// The limit of memory in bytes, as the kernel has it.
pub(super) fn memory_limit(engine: &Engine, vps: &str) -> u64 {
    let group = engine.layout.group_with(Controller::Memory, &engine.vps(vps).unwrap().id).unwrap();
    let file = match engine.layout.is_unified(Controller::Memory) {
        true => "memory.max",
        false => "memory.limit_in_bytes",
    };
    std::fs::read_to_string(group.join(file)).unwrap().trim().parse().unwrap()
}

/// What the plan of a running VPS says is to be done when it crashes.
pub(super) fn planned_on_crash(engine: &Engine, vps: &str) -> String {
    let directory = VpsDirectory::new(&engine.settings.run_dir, &engine.vps(vps).unwrap().id);
    let plan: serde_json::Value = serde_json::from_slice(&std::fs::read(directory.plan()).unwrap()).unwrap();
    plan["reboots"]["on_crash"].as_str().unwrap().to_owned()
}
