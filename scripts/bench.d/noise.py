"""Three tenants at their worst at once: what a fourth's visitors and the agent's clients feel of it."""

import json
import socket
import subprocess
import time

import report
from host import Failure, run, say

LIMITS = ("--cpus", "1", "--memory", "256M", "--processes", "200", "--disk", "512M")
VISITED = "insula-visited"
# For so long there is noise; it is measured once all have had the time to step back who should.
SECONDS, SETTLED = 30, 5
NOISES = {
    "insula-forks": "perl -e 'fork while 1'",
    "insula-memory": "while :; do tail /dev/zero; done",
    "insula-disk": "while :; do dd if=/dev/zero of=/root/filler bs=1M; sync; rm /root/filler; done",
}
# Perl is what every Debian guest has. /page is a page that takes some 10 ms to make.
SERVER = r"""
use strict; use Socket;
socket(my $server, AF_INET, SOCK_STREAM, 0);
bind($server, sockaddr_in(80, INADDR_ANY)) or die $!;
listen($server, 100) or die $!;
exit if fork;
open(STDIN, "</dev/null"), open(STDOUT, ">/dev/null"), open(STDERR, ">/dev/null");
while (accept(my $client, $server)) {
    sysread($client, my $request, 4096);
    if ($request =~ m{^GET /page}) { my $sum = 0; $sum += $_ for 1 .. 600000 }
    syswrite($client, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
    close $client;
}
"""


def measure(agent, api):
    """How many times longer the fourth's answers take, a page's and a short one's (99th percentiles), and the longest
    `ListVpses` in ms."""
    say(f"Insula: booting {VISITED} and {len(NOISES)} others")
    for name in (VISITED, *NOISES):
        run(*agent.command("create", name, "--image", "debian-12", *LIMITS, "--wait", "ready"))
    run(*agent.command("exec", "--no-tty", VISITED, "--", "perl", "-e", SERVER))
    address = json.loads(run(*agent.command("show", VISITED, "-o", "json")))["interfaces"][0]["ipAddresses"][0]
    idle = ask(api, address, lambda: False)
    say(f"Insula: making noise for {SECONDS} s")
    noises = [start(agent, name, line) for name, line in NOISES.items()]
    time.sleep(SETTLED)
    busy = ask(api, address, lambda: any(noise.poll() is None for noise in noises))
    for name in (VISITED, *NOISES):
        api.perform("kill", name)
    times = {f"noise {what}": percentile_99(busy[what]) / percentile_99(idle[what]) for what in ("page", "short")}
    return times | {"noise list": max(busy["list"])}


def percentile_99(samples):
    return report.percentile(samples, 99)


def start(agent, name, line):
    words = agent.command("exec", "--no-tty", name, "--", "timeout", "--kill-after=1", str(SECONDS), "sh", "-c", line)
    quiet = {stream: subprocess.DEVNULL for stream in ("stdin", "stdout", "stderr")}
    return subprocess.Popen(words, start_new_session=True, **quiet)


def ask(api, address, goes_on, at_least=400):
    """Milliseconds of answers: of the server, a page and a short one, and of the agent."""
    answers = {"page": [], "short": [], "list": []}
    while len(answers["page"]) < at_least or goes_on():
        answers["page"].append(visit(address, "/page"))
        time.sleep(0.02)
        answers["short"].append(visit(address, "/"))
        if len(answers["page"]) % 5 == 0:
            answers["list"].append(api.perform("list"))
        time.sleep(0.02)
    return answers


def visit(address, path):
    began = time.perf_counter()
    with socket.create_connection((address, 80), timeout=60) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    if not answer.endswith(b"ok"):
        raise Failure(f"{address} answers {answer!r}")
    return (time.perf_counter() - began) * 1e3
