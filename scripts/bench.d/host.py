"""A place of its own for the run: a directory, a mount namespace, later a network namespace, and names of its own."""

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000  # linux/sched.h


class Failure(Exception):
    """What went wrong, for people."""


def say(text):
    """Tells those who wait. Results go to standard output, and nothing else."""
    print(f"bench: {text}", file=sys.stderr)


def run(*command, **options):
    """Runs a program to its end; what it wrote to standard output. It is in a session of its own, so that Ctrl-C
    reaches this program alone, which then cleans up."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, start_new_session=True, stdin=subprocess.DEVNULL, **options)
    if done.returncode:
        raise Failure(f"{' '.join(words)} failed with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def timed(*command, **options):
    """Runs a program to its end; how many milliseconds that took."""
    began = time.perf_counter()
    run(*command, **options)
    return (time.perf_counter() - began) * 1e3


def await_condition(condition, seconds, what):
    """Waits until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def cgroup_mounts():
    """Where the cgroup hierarchies are mounted: cgroup2 first."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        if (kind := right.split()[0]) in ("cgroup", "cgroup2") and left.split()[3] == "/":
            mounts.append((kind != "cgroup2", Path(left.split()[4])))
    return [mount for _, mount in sorted(set(mounts))]


def remove_groups(pattern):
    """Removes the cgroups of a name, where nobody is in them any more."""
    for mount in cgroup_mounts():
        for group in mount.glob(pattern):
            for directory, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):  # of those that have gone meanwhile
                    os.rmdir(directory)


def pss_bytes(pid):
    """A process's share of memory: proc(5), smaps_rollup."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise Failure(f"/proc/{pid}/smaps_rollup has no Pss")


def rss_bytes(pid):
    """A process's memory: proc(5), status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise Failure(f"/proc/{pid}/status has no VmRSS")


class ScratchHost:
    """The directory and the namespaces. Mounts vanish with the run, however it ends: nobody else sees them."""

    def __init__(self, kept):
        self.kept = kept
        self.directory = None
        self.tree = None  # the image's, while the agent runs

    def __enter__(self):
        unshare(CLONE_NEWNS)
        run("mount", "--make-rprivate", "/")
        if self.kept:
            self.kept.mkdir(parents=True, exist_ok=True)
        self.directory = self.kept.resolve() if self.kept else Path(tempfile.mkdtemp(prefix="insula-bench-", dir="/var/tmp"))
        self.clear()
        return self

    def clear(self):
        """Removes all but the state, which is the agent's."""
        run("find", self.directory, "-xdev", "-mindepth", "1", "-not", "-path", f"{self.directory}/state*", "-delete")

    def __exit__(self, *_):
        below = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in sorted((path for path in below if path.startswith(f"{self.directory}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False)
        self.clear()
        if not self.kept:
            shutil.rmtree(self.directory)

    def leave_network(self):
        """From here on in a network of its own, which has a loopback device and nothing else."""
        unshare(CLONE_NEWNET)
        run("ip", "link", "set", "lo", "up")
        # LXC looks for bridges in /sys, which shows the network that it was mounted in. The cgroups stay where they are.
        cgroups = self.directory / "cgroups"
        cgroups.mkdir(exist_ok=True)
        run("mount", "--rbind", "/sys/fs/cgroup", cgroups)
        run("mount", "-t", "sysfs", "sysfs", "/sys")
        run("mount", "--rbind", cgroups, "/sys/fs/cgroup")
        run("umount", "--lazy", cgroups)

    def make_btrfs(self, name):
        """A btrfs in a sparse file, mounted at a directory of that name."""
        file, mount_point = self.directory / f"{name}.btrfs", self.directory / name
        mount_point.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        with file.open("wb") as sparse:
            sparse.truncate(20 << 30)
        run("mkfs.btrfs", "--quiet", file)
        run("mount", "-o", "loop", file, mount_point)
        return mount_point


def unshare(flags):
    """unshare(2), which Python has since 3.12 only."""
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        raise Failure(f"no namespaces of its own: {os.strerror(ctypes.get_errno())}")
