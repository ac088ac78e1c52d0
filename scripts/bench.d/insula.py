"""Insula: its agent, its API, its command."""

import contextlib
import json
import os
import sqlite3
import subprocess
import time
from pathlib import Path

from host import Failure, await_condition, cgroup_mounts, pss_bytes, remove_groups, rss_bytes, run, say, timed

CHECKOUT = Path(__file__).resolve().parents[2]
BINARIES = CHECKOUT / "target/release"
GROUP = f"insula-bench-{os.getpid()}"

# The names differ from those of an agent that may run here; the range of addresses is in a network of its own.
SETTINGS = """\
state_dir: {directory}/state
run_dir: {directory}/run
cgroup_root: {group}
ids: {{start: 1610612736, length: 134217728}}
network: {{bridge: insbench, nft_table: insula_bench, subnet: 10.77.0.0/16, dns: [10.77.0.1]}}
pool: {{size: 20GiB}}
"""


class Agent:
    """An agent with a pool and a network of its own."""

    name, title = "insula", "Insula"

    def __init__(self, host):
        self.host, self.directory = host, host.directory
        self.socket = host.directory / "run/insulad.sock"
        self.settings = host.directory / "agent.yaml"
        self.log = host.directory / "insulad.log"
        self.process = None

    def __enter__(self):
        self.settings.write_text(SETTINGS.format(directory=self.directory, group=GROUP))
        return self

    def __exit__(self, *_):
        self.take_down()
        remove_groups(GROUP)

    def start(self):
        log = self.log.open("ab")
        command = [BINARIES / "insulad", "--config", self.settings]
        environment = os.environ | {"RUST_LOG": "warn"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
        )
        await_condition(self.answers, 60, "the agent's start")

    def answers(self):
        if self.process.poll() is not None:
            raise Failure(f"the agent ended at once: {self.log.read_text()}")
        return self.socket.exists()

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=30)
            self.process = None

    def take_down(self):
        """Ends the agent and all of its VPSes."""
        self.stop()
        run(BINARIES / "insulad", "--config", self.settings, "--teardown")

    def command(self, *words):
        return [BINARIES / "insula", "--socket", self.socket, "--quiet", *words]

    def ensure_image(self):
        """Builds the image, where packages can be had from: in the host's network."""
        say("building image debian-12")
        self.start()
        run(*self.command("image", "build", CHECKOUT / "images/debian-12.yaml"))
        if left := json.loads(run(*self.command("list", "-o", "json"))).get("vpses"):  # by an earlier run
            run(*self.command("delete", "--force", "--now", *(vps["name"] for vps in left)))
        fingerprint = json.loads(run(*self.command("image", "show", "debian-12", "-o", "json")))["fingerprint"]
        self.host.tree = self.directory / f"state/pools/default/images/{fingerprint}"
        self.take_down()

    def daemon_rss_bytes(self):
        return rss_bytes(self.process.pid)

    def idle_cpu_percent(self, seconds):
        """Of one CPU."""
        before = self.cpu_ns()
        time.sleep(seconds)
        return (self.cpu_ns() - before) / 1e9 / seconds * 100

    def cpu_ns(self):
        """Of all threads, also of those that have ended: clock_getcpuclockid(3), whose clock is computed so."""
        return time.clock_gettime_ns(~self.process.pid << 3 | 2)

    def monitor_pss_bytes(self, names):
        """Of each monitor that has a guest."""
        monitors = (cgroup_mounts()[0] / GROUP / "monitors/cgroup.procs").read_text().split()
        has_guest = [pid for pid in monitors if Path(f"/proc/{pid}/task/{pid}/children").read_text()]
        if len(has_guest) != len(names):
            raise Failure(f"{len(names)} VPSes should run, and {len(has_guest)} do")
        return [pss_bytes(pid) for pid in has_guest]


    def load(self, what, *words):
        """What the program that puts load on the agent says."""
        return json.loads(run(BINARIES / "examples/load", what, self.socket, *map(str, words)))

    def journal_ms(self, count):
        """What journaling costs a create, on the disk of the agent's state."""
        return json.loads(run(BINARIES / "examples/journal", self.directory / "state", str(count)))["ms"]

    def count_vpses(self):
        return len(json.loads(run(*self.command("list", "-o", "json"))).get("vpses", []))

    def note_snapshots(self, each):
        """Writes down so many snapshots of each VPS, without taking them: that would take hours, and a list asks nobody."""
        noted = [(f"noted-{number}", number) for number in range(each)]
        self.change_database("INSERT INTO snapshot (vps, name, created_at) SELECT id, ?, ? FROM vps", noted)

    def forget_snapshots(self):
        """Those that were only noted."""
        self.change_database("DELETE FROM snapshot WHERE name LIKE ?", [("noted-%",)])

    def change_database(self, statement, rows):
        self.stop()
        with contextlib.closing(sqlite3.connect(self.directory / "state/insula.db")) as database, database:
            database.executemany(statement, rows)
        self.start()


class Api:
    """The agent through its API, over one connection."""

    name, title = "api", "Insula's API"

    def __init__(self, agent):
        self.agent = agent

    def __enter__(self):
        command = [BINARIES / "examples/measure", self.agent.socket]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True
        )
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def perform(self, what, *names):
        words = {"create": [*names, "debian-12"], "exec": [*names, "true"]}.get(what, names)
        self.process.stdin.write(" ".join([what, *words]) + "\n")
        answer = json.loads(self.process.stdout.readline() or '{"error": "the measuring program ended"}')
        if "error" in answer:
            raise Failure(f"{what} {' '.join(names)} failed: {answer['error']}")
        return answer["ms"]


class Command:
    """The agent through the command, a process each time."""

    name, title = "command", "insula"

    def __init__(self, agent):
        self.agent = agent

    def perform(self, what, *names):
        words = {
            "create": ["create", *names, "--image", "debian-12"],
            "boot": ["start", *names, "--wait", "ready"],
            "exec": ["exec", *names, "--", "true"],
            "kill": ["stop", "--force", *names],
        }
        return timed(*self.agent.command(*words.get(what, [what, *names])))
