//! Containers in a VPS with the feature `nesting`. Their images are built in the guest from
//! busybox, without a registry.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use insula_testkit::{Image, Outcome, ScratchHost};

/// The deadline for building, unpacking and starting on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// A root file system that has only busybox, and an image definition for it.
const CONTEXT: &str = r#"
mkdir -p /root/made/bin /root/made/usr /root/made/etc && cd /root/made && cp /bin/busybox bin/busybox
cat >Dockerfile <<'END'
FROM scratch
COPY bin /bin
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir /tmp && echo "of the build" >/word && chown 1000:1000 /word && rm /bin/vi
CMD cat /word; stat -c %u:%g /word; ls /bin/vi 2>&1; id -u
END
"#;

/// Runs a line of shell in the VPS, with a long deadline.
fn run(host: &ScratchHost, line: &str) -> Outcome {
    let exec = ["exec", "web1", "--no-tty", "--", "sh", "-c", line];
    host.command("insula").args(exec).limit(PATIENCE).run()
}

fn sh(host: &ScratchHost, line: &str) -> String {
    run(host, line).expect_code(0).text()
}

fn host() -> ScratchHost {
    let host = ScratchHost::with(Image::Debian12Docker);
    let arguments = ["--feature", "nesting", "--memory", "2G", "--disk", "4G", "--cpus", "2"];
    host.create_ready("web1", Image::Debian12Docker, &arguments);
    sh(&host, CONTEXT);
    host
}

#[test]
fn docker_builds_and_runs_what_it_has_built() {
    let host = host();
    assert_eq!(sh(&host, "docker info -f '{{.Driver}} {{.CgroupVersion}}'"), "overlay2 2");
    sh(&host, "cd /root/made && docker build --tag made . >&2");
    let said = "of the build\n1000:1000\nls: /bin/vi: No such file or directory\n0";
    assert_eq!(sh(&host, "docker run --rm made"), said);
    sh(&host, "cd /root/made && tar --create bin | docker import - imported");
    assert_eq!(sh(&host, "docker run --rm imported /bin/busybox echo imported"), "imported");
    // Layers belong to the overlay, and what a container writes is not in the image.
    sh(&host, "docker run --name writer made sh -c 'echo more >>/word; mount | grep -q \"^overlay on / \"'");
    assert_eq!(sh(&host, "docker diff writer"), "C /word");
    a_service_is_reached_from_outside(&host);
    it_outlives_a_restart(&host);
}

/// Reaches a service through Docker's own bridge and NAT, in the VPS.
fn a_service_is_reached_from_outside(host: &ScratchHost) {
    sh(host, "docker run --detach --restart always --name web --publish 8080:80 made httpd -f -p 80 -h /");
    let address = host.vps("web1").interfaces[0].ip_addresses[0].clone();
    let address = format!("{address}:8080").parse().unwrap();
    let mut server = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    server.write_all(b"GET /word HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    server.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nof the build\n"), "{answer}");
    let inside = "docker exec web sh -c 'hostname; ps | grep -c \"[h]ttpd -f\"'";
    assert_eq!(sh(host, inside).lines().last(), Some("1"), "a container sees its own processes");
}

fn it_outlives_a_restart(host: &ScratchHost) {
    host.insula_ok(&["restart", "web1", "--wait", "ready"]);
    let up = insula_testkit::eventually("the container runs again", || {
        let state = run(host, "docker inspect -f '{{.State.Status}}' web").text();
        (state == "running").then_some(state)
    });
    assert_eq!(up, "running");
}

#[test]
fn podman_and_nspawn_run_containers() {
    let host = host();
    // Where the host keeps the pids controller on v1, containers inside can't have that limit.
    let podman = "cd /root/made && podman build --tag made . >&2 && podman run --pids-limit 0 --rm made";
    assert!(sh(&host, podman).starts_with("of the build\n1000:1000"));
    // systemd-nspawn would take a tree without systemd for one that needs cgroup v1.
    let nspawn = "systemd-run --quiet --wait --pipe --collect --property Delegate=yes \
                  --setenv SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --register=no --keep-unit --directory /root/made";
    assert_eq!(sh(&host, &format!("{nspawn} /bin/busybox echo in a container")), "in a container");
    a_user_runs_containers(&host);
}

/// Containers of a user of the guest, with ids that are not among the guest's first 65,536.
fn a_user_runs_containers(host: &ScratchHost) {
    sh(host, "useradd --create-home user && cp -r /root/made /home/user/ && chown -R user: /home/user");
    sh(host, "mkdir -p /run/user/1000 && chown user: /run/user/1000");
    let podman = "cd /home/user/made && runuser -u user -- env HOME=/home/user XDG_RUNTIME_DIR=/run/user/1000 \
                  podman --cgroup-manager cgroupfs --storage-driver overlay";
    let build = format!("{podman} build --network none --tag made . >&2");
    let run = format!("{podman} run --pids-limit 0 --network none --rm made");
    assert!(sh(host, &format!("{build} && {run}")).starts_with("of the build\n1000:1000"));
}
