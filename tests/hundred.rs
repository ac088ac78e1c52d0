//! A hundred VPSes on a host with default sysctls: all boot, and none is degraded.

use std::time::Instant;

use insula_api::v1::{CreateVpsRequest, Supervision, Vps, VpsState};
use insula_testkit::{Image, ScratchHost, eventually};

use crate::supervision::power_cycle;

const COUNT: usize = 100;

fn with_state(host: &ScratchHost, states: &[VpsState]) -> usize {
    host.vpses().iter().filter(|vps| states.contains(&vps.state())).count()
}

/// They are created first, and boot with the host. The kernel's defaults are made for one user with
/// a desktop (128 inotify instances, 200 keys), and other systems fail after 12 to 85 guests.
#[test]
fn a_hundred_vpses_boot_with_their_host() {
    let mut host = ScratchHost::with(Image::Debian12);
    let sysctls = || {
        [
            "fs/inotify/max_user_instances",
            "fs/inotify/max_user_watches",
            "kernel/keys/maxkeys",
            "kernel/pid_max",
        ]
        .map(|name| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap())
    };
    let before = sysctls();
    let made = Instant::now();
    let operations: Vec<String> = (0..COUNT).map(|number| create(&host, &format!("web{number}"))).collect();
    let wait = operations.iter().map(String::as_str);
    host.insula_ok(&["operation", "wait"].into_iter().chain(wait).collect::<Vec<_>>());
    println!("{COUNT} VPSes made in {} ms", made.elapsed().as_millis());

    let started = Instant::now();
    power_cycle(&mut host);
    let mut most_at_once = 0;
    // In parts, so that a standstill is noticed, however slow the machine is.
    for part in 1..=COUNT / 10 {
        eventually("ten more are ready", || {
            most_at_once = most_at_once.max(with_state(&host, &[VpsState::Starting, VpsState::Running]));
            (with_state(&host, &[VpsState::Ready]) >= part * 10).then_some(())
        });
    }
    println!("{COUNT} VPSes ready in {} ms, {most_at_once} at once", started.elapsed().as_millis());
    assert_eq!(sysctls(), before, "nothing of the host was changed");
    let failed = |vps: &Vps| vps.boots != 1 || vps.awaits_autostart;
    assert_eq!(host.vpses().iter().filter(|vps| failed(vps)).count(), 0);
    for name in ["web0", "web17", "web99"] {
        assert_eq!(host.sh(name, "systemctl is-system-running --wait"), "running", "{name}");
    }
}

fn create(host: &ScratchHost, name: &str) -> String {
    let supervision = Supervision { autostart: insula_api::v1::Autostart::Yes.into(), ..Default::default() };
    let request = CreateVpsRequest {
        name: name.to_owned(),
        image: Image::Debian12.alias().to_owned(),
        supervision: Some(supervision),
        ..Default::default()
    };
    let answer = host.block_on(host.client().vps().create_vps(request)).unwrap().into_inner();
    answer.operation.unwrap().id
}
