"""LXC and LXD, as Debian has them, with what Insula gives its VPSes: the same tree, a user namespace, a bridge, limits."""

import contextlib
import os
import shutil
import stat
import subprocess
from pathlib import Path

from host import Failure, await_condition, cgroup_mounts, pss_bytes, remove_groups, rss_bytes, run, say, timed

BRIDGE, PIVOT = "benchbr", "lxc.pivot"
FIRST_ID = 1000000  # on the host, of LXC's guests
# Waits inside until systemd says that it has booted; at first it may not listen yet.
AWAIT_READY = """until s=$(systemctl is-system-running --wait 2>/dev/null); [ "$s" = running ] || [ "$s" = degraded ]
do sleep 0.02; done"""


def install():
    """From Debian."""
    say("installing lxc and lxd")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "install", "-y", "--no-install-recommends", "lxc", "lxd", "dnsmasq-base", env=environment)


def versions():
    """Those that are installed."""
    found = {"lxc": "lxc-start", "lxd": "lxd"}
    return {name: f"{name} {run(program, '--version').strip()}" for name, program in found.items() if shutil.which(program)}


def start_all(host, stack):
    """Makes those ready that are installed. One that can't be is left out, and it is said why."""
    started = []
    if not any((mount / PIVOT).exists() for mount in cgroup_mounts()):
        stack.callback(remove_pivot)
    for peer in (Lxc(host), Lxd(host)):
        if not peer.is_installed():
            say(f"{peer.title} is not installed (scripts/bench --install-peers)")
            continue
        if not started:
            run("ip", "link", "add", BRIDGE, "type", "bridge")
            run("ip", "address", "add", "10.78.0.1/16", "dev", BRIDGE)
            run("ip", "link", "set", BRIDGE, "up")
        try:
            started.append(stack.enter_context(peer))
        except Failure as failure:
            say(f"{peer.title} is left out: {failure}")
    return started


def remove_pivot():
    """Removes the groups that LXC leaves behind. They are busy for a moment after its last process."""
    def is_gone():
        remove_groups(PIVOT)
        return not any((mount / PIVOT).exists() for mount in cgroup_mounts())
    await_condition(is_gone, 10, f"removing the groups {PIVOT}")


class Lxc:
    """The lxc-* commands. What they clone is a btrfs snapshot, too."""

    name, title = "lxc", "LXC"

    def __init__(self, host):
        self.host = host

    def is_installed(self):
        return shutil.which("lxc-start") is not None

    def __enter__(self):
        say("LXC: making the container that others are cloned from")
        self.path = self.host.make_btrfs("lxc")
        base = self.path / "insula-base"
        base.mkdir()
        run("btrfs", "subvolume", "create", base / "rootfs")
        run("cp", "-a", f"{self.host.tree}/.", base / "rootfs")
        shift_owners(base / "rootfs")
        (base / "config").write_text(self.settings(base / "rootfs"))
        return self

    def __exit__(self, *_):
        for name in os.listdir(self.path):
            subprocess.run(["lxc-stop", "-k", "-P", self.path, "-n", name], capture_output=True, check=False)
        remove_groups("lxc.*.insula-*")

    @staticmethod
    def settings(root):
        limits = {"memory.limit_in_bytes": "1G", "pids.max": "1000", "cpu.cfs_quota_us": "100000"}
        prefix = "lxc.cgroup"
        if len(cgroup_mounts()) == 1:
            limits = {"memory.max": "1G", "pids.max": "1000", "cpu.max": "100000 100000"}
            prefix = "lxc.cgroup2"
        return "\n".join([
            "lxc.include = /usr/share/lxc/config/common.conf",
            "lxc.include = /usr/share/lxc/config/userns.conf",
            "lxc.idmap = u 0 1000000 65536",
            "lxc.idmap = g 0 1000000 65536",
            f"lxc.rootfs.path = btrfs:{root}",
            "lxc.mount.auto = proc:mixed sys:ro cgroup:mixed",
            "lxc.signal.halt = SIGRTMIN+3",
            "lxc.net.0.type = veth",
            f"lxc.net.0.link = {BRIDGE}",
            "lxc.net.0.flags = up",
            "lxc.net.0.ipv4.address = 10.78.1.2/16",
            "lxc.net.0.ipv4.gateway = 10.78.0.1",
            *(f"{prefix}.{key} = {value}" for key, value in limits.items()),
            "",
        ])

    def perform(self, what, *names):
        place = ["-P", self.path]
        named = [*place, "-n", *names]
        if what == "boot":
            return timed("lxc-start", *named) + timed("lxc-attach", *named, "--", "sh", "-c", AWAIT_READY)
        commands = {
            "create": ["lxc-copy", *place, "-n", "insula-base", "-N", *names, "-B", "btrfs", "-s"],
            "start": ["lxc-start", *named],
            "exec": ["lxc-attach", *named, "--", "true"],
            "stop": ["lxc-stop", *named],
            "kill": ["lxc-stop", "-k", *named],
            "delete": ["lxc-destroy", *named],
            "list": ["lxc-ls", *place, "-f"],
        }
        return timed(*commands[what])

    def monitor_pss_bytes(self, names):
        return [pss_bytes(monitor_of(f"{self.path} {name}")) for name in names]

    def daemon_rss_bytes(self):
        """It has none."""
        return None


class Lxd:
    """An LXD daemon with a directory of its own."""

    name, title = "lxd", "LXD"

    def __init__(self, host):
        self.host = host
        self.directory = host.directory / "lxd"
        self.environment = os.environ | {"LXD_DIR": str(self.directory), "LXD_CONF": str(host.directory / "lxd-client")}

    def is_installed(self):
        return shutil.which("lxd") is not None and shutil.which("lxc") is not None

    def lxc(self, *words):
        return run("lxc", *words, env=self.environment)

    def __enter__(self):
        say("LXD: starting a daemon and importing the image")
        self.directory.mkdir(mode=0o711)
        pool = self.host.make_btrfs("lxd-pool")
        self.host.directory.chmod(0o711)  # users of guests must reach their roots
        log = (self.host.directory / "lxd.log").open("wb")
        self.process = subprocess.Popen(
            ["lxd", "--group", "root"], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            self.set_up(pool)
        except BaseException:
            self.__exit__()
            raise
        return self

    def set_up(self, pool):
        run("lxd", "waitready", "--timeout=30", env=self.environment)
        run("btrfs", "subvolume", "create", pool / "lxd")
        self.lxc("storage", "create", "default", "btrfs", f"source={pool}/lxd")
        self.lxc("profile", "device", "add", "default", "root", "disk", "path=/", "pool=default", "size=10GiB")
        self.lxc("profile", "device", "add", "default", "eth0", "nic", "nictype=bridged", f"parent={BRIDGE}", "name=eth0")
        for setting in ("limits.memory=1GiB", "limits.processes=1000", "limits.cpu.allowance=100ms/100ms"):
            self.lxc("profile", "set", "default", setting)
        metadata = self.host.directory / "metadata.yaml"
        metadata.write_text("architecture: x86_64\ncreation_date: 1\nproperties: {description: bench}\n")
        archive = self.host.directory / "lxd-image.tar"
        run("tar", "-cf", archive, "--numeric-owner", "-C", metadata.parent, metadata.name,
            "-C", self.host.tree.parent, f"--transform=s,^{self.host.tree.name},rootfs,", self.host.tree.name)
        self.lxc("image", "import", archive, "--alias", "debian-12")
        archive.unlink()
        # The first one unpacks the image; those after it are clones.
        self.perform("create", "insula-first")

    def __exit__(self, *_):
        with contextlib.suppress(Failure):
            self.lxc("stop", "--force", "--all")
        self.process.terminate()
        self.process.wait(timeout=60)
        remove_groups("lxc.*.insula-*")

    def perform(self, what, *names):
        if what == "boot":
            return self.perform("start", *names) + timed(
                "lxc", "exec", *names, "--", "sh", "-c", AWAIT_READY, env=self.environment
            )
        commands = {
            "create": ["init", "debian-12", *names],
            "exec": ["exec", *names, "--", "true"],
            "kill": ["stop", "--force", *names],
        }
        return timed("lxc", *commands.get(what, [what, *names]), env=self.environment)

    def monitor_pss_bytes(self, names):
        return [pss_bytes(monitor_of(f"{self.directory}/containers {name}")) for name in names]

    def daemon_rss_bytes(self):
        return rss_bytes(self.process.pid)


def shift_owners(tree):
    """Gives a tree to the guests' ids: LXC has no idmapped mounts on btrfs."""
    for directory, names, files in os.walk(tree):
        for name in (".", *names, *files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            if status.st_uid < FIRST_ID:  # "." has been somebody's name before
                os.lchown(path, status.st_uid + FIRST_ID, status.st_gid + FIRST_ID)
                if not stat.S_ISLNK(status.st_mode):
                    os.chmod(path, stat.S_IMODE(status.st_mode))  # chown takes set-user-ID away


def monitor_of(container):
    """The process that LXC leaves beside a container; its title says of which."""
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if (directory / "cmdline").read_text().strip("\0 ") == f"[lxc monitor] {container}":
                return int(directory.name)
    raise Failure(f"no [lxc monitor] of {container} was found")
