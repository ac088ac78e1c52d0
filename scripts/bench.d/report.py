"""From samples to numbers, from numbers to tables and JSON."""

import json
import os
import platform
import statistics

# What is measured, how it is called, and what it should reach: at most so many milliseconds, and at most this part of
# the peer. Memory is in bytes, idle in percent of a CPU.
TIMES = {
    "create": ("create, 100 present", None, 1 / 5),
    "start": ("start, to init's execve", 15, 1 / 8),
    "boot": ("start, to ready", None, None),
    "exec": ("exec true", None, None),
    "stop": ("stop", None, None),
    "kill": ("stop by force", None, None),
    "delete": ("delete", None, None),
    "list 100": ("list of 100", None, None),
    "list 500": ("list of 500", 20, None),
}
SIZES = {
    "monitor": ("monitor, PSS per VPS, 10 run", 0.7 * (1 << 20)),
    "daemon": ("agent, RSS, 10 VPSes run", None),
    "agent": ("agent, RSS, 50 VPSes run", 40 * (1 << 20)),
    "idle": ("agent, CPU when idle", 0.5),
}
# What the API bears: a title, a unit, and what it should reach, at least or at most.
LOAD = {
    "get": ("GetVps on one connection", "/s", {"at_least": 10_000}),
    "list 1000": ("ListVpses of 1,000, 99th percentile", "ms", {"at_most": 30}),
    "list 1000 snapshots": ("the same with 100 snapshots each", "ms", {"at_most": 30}),
    "rush": ("16 clients create at once: 99th percentile : median", "", {"at_most": 3}),
    "journal": ("what the journal adds to a create", "ms", {"at_most": 1}),
    "noise page": ("a guest's pages of 10 ms beside three bombs : idle, 99th percentile", "", {"at_most": 2}),
    "noise short": ("its answers of 0.4 ms meanwhile : idle, 99th percentile", "", {"at_most": 2}),
    "noise list": ("the longest ListVpses meanwhile", "ms", {"at_most": 50}),
}
SYSTEMS = {"api": "API", "command": "insula", "lxc": "LXC", "lxd": "LXD"}


def median(samples):
    return statistics.median(samples)


def by_what(samples):
    """From system, what to what, system."""
    whats = {what for of in samples.values() for what in of}
    return {what: {system: of[what] for system, of in samples.items()} for what in whats}


def percentile(samples, percent):
    return sorted(samples)[min(len(samples) - 1, round(percent / 100 * (len(samples) - 1)))]


def evaluate(measured, versions, count, load):
    """The result as it is documented in docs/benchmark.md."""
    times = [evaluate_time(what, measured["times"][what]) for what in TIMES if what in measured["times"]]
    sizes = [evaluate_size(what, measured["sizes"][what]) for what in SIZES if what in measured["sizes"]]
    loads = [evaluate_load(what, measured["load"][what]) for what in LOAD if what in measured["load"]]
    host = {"kernel": platform.release(), "cpus": len(os.sched_getaffinity(0)), "cgroups": cgroup_mode(), "load": load}
    return {"host": host, "peers": versions, "count": count, "times": times, "sizes": sizes, "load": loads}


def cgroup_mode():
    return "unified" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "hybrid"


def evaluate_time(what, samples):
    title, at_most_ms, at_most_ratio = TIMES[what]
    systems = {
        system: {"p50_ms": round(median(of), 3), "p95_ms": round(percentile(of, 95), 3)} for system, of in samples.items()
    }
    ratios = {
        f"{ours}/{peer}": round(systems[ours]["p50_ms"] / systems[peer]["p50_ms"], 4)
        for ours in ("api", "command")
        for peer in ("lxc", "lxd")
        if peer in systems
    }
    targets = []
    if at_most_ms:
        targets.append(target("api p50_ms", systems["api"]["p50_ms"], at_most_ms))
    peer = next((peer for peer in ("lxd", "lxc") if peer in systems), None)
    if at_most_ratio and peer:
        targets.append(target(f"api/{peer}", ratios[f"api/{peer}"], at_most_ratio))
    return {"name": what, "title": title, "systems": systems, "ratios": ratios, "targets": targets}


def evaluate_size(what, systems):
    title, at_most = SIZES[what]
    rounded = {system: round(value, 3) for system, value in systems.items()}
    targets = [target("insula", rounded["insula"], at_most)] if at_most else []
    return {"name": what, "title": title, "systems": rounded, "targets": targets}


def evaluate_load(what, value):
    title, unit, bound = LOAD[what]
    reached = value >= bound["at_least"] if "at_least" in bound else value <= bound["at_most"]
    return {"name": what, "title": title, "unit": unit, "value": round(value, 3), **bound, "reached": reached}


def target(of, value, at_most):
    return {"of": of, "at_most": at_most, "value": value, "reached": value <= at_most}


def render_json(result):
    return json.dumps(result, indent=2)


def render_tables(result):
    """For people: markdown, which docs/benchmark.md takes over as it is."""
    host = result["host"]
    lines = [f"Linux {host['kernel']}, {host['cpus']} CPUs, {host['cgroups']} cgroups, load {host['load']:.1f} before; each {result['count']} times."]
    if result["times"]:
        lines += ["", *render_times(result["times"])]
    if result["sizes"]:
        lines += ["", *render_sizes(result["sizes"])]
    if result["load"]:
        lines += ["", *render_load(result["load"])]
    peers = [f"{SYSTEMS[name]} is {version}." for name, version in result["peers"].items()]
    return "\n".join([*lines, "", *(peers or ["Neither LXC nor LXD was measured, so there are no ratios."])])


def render_times(times):
    present = [system for system in SYSTEMS if any(system in row["systems"] for row in times)]
    ratios = [ratio for peer in ("lxc", "lxd") for ratio in (f"command/{peer}",) if any(ratio in row["ratios"] for row in times)]
    names = [f"insula : {SYSTEMS[ratio.split('/')[1]]}" for ratio in ratios]
    rows = []
    for row in times:
        numbers = [render_time(row["systems"].get(system)) for system in present]
        shares = [f"1 : {1 / row['ratios'][ratio]:.1f}" if ratio in row["ratios"] else "" for ratio in ratios]
        rows.append([row["title"], *shares, *numbers, render_targets(row["targets"])])
    header = ["ms, median (95th percentile)", *names, *(SYSTEMS[system] for system in present), "target"]
    return render_table(header, rows)


def render_time(numbers):
    return f"{numbers['p50_ms']:.1f} ({numbers['p95_ms']:.1f})" if numbers else ""


def render_sizes(sizes):
    rows = []
    for row in sizes:
        show = render_percent if row["name"] == "idle" else render_bytes
        systems = [show(row["systems"][name]) if name in row["systems"] else "" for name in ("insula", "lxc", "lxd")]
        targets = [f"{mark(target)} ≤ {show(target['at_most'])}" for target in row["targets"]]
        rows.append([row["title"], *systems, "".join(targets)])
    return render_table(["", "Insula", "LXC", "LXD", "target"], rows)


def render_percent(value):
    return f"{value:.2f} %"


def render_bytes(value):
    return f"{value / (1 << 20):.2f} MiB"


def render_targets(targets):
    return ", ".join(render_target(target) for target in targets)


def render_target(target):
    if "/" not in target["of"]:
        return f"{mark(target)} ≤ {target['at_most']} ms"
    return f"{mark(target)} API ≤ 1/{1 / target['at_most']:.0f} of {SYSTEMS[target['of'].split('/')[1]]} (1/{1 / target['value']:.0f})"


def mark(target):
    return "✓" if target["reached"] else "✗"


def render_table(header, rows):
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    def render_row(cells):
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"
    return [render_row(header), render_row(["-" * width for width in widths]), *map(render_row, rows)]


def render_load(loads):
    rows = []
    for row in loads:
        word, bound = ("≥", row["at_least"]) if "at_least" in row else ("≤", row["at_most"])
        number = f"{row['value']:,.0f}" if row["value"] >= 1000 else f"{row['value']:.2f}"
        rows.append([row["title"], f"{number} {row['unit']}".strip(), f"{mark(row)} {word} {bound:,}"])
    return render_table(["API", "", "target"], rows)
