# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time of one run of a memory policy over 200 containers of Docker, less the time that Docker itself takes.

Real containers, made and removed here; needs root. A run is a process of its own, as Ansible starts it, from the start
of Python to the printed result. The engine's time is that of the same `docker inspect` and `docker update` calls, made
one after the other by nobody but a loop; both take turns, and the difference is the median of the pairs'. The calls
are counted in a run more, by a `docker` before the real one.
"""

import argparse
import json
import os
import shutil
import signal
import stat
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(ROOT, ".collections"), os.path.join(ROOT, "tests", "system")]
import engines

BAR = 3.0
COMMAND = ("sleep", "100000")
RUN = """
import sys
sys.path.insert(0, {path!r})
from ansible_collections.oom.forensics.plugins.modules import memory_policy
memory_policy.main()
"""
COUNTER = """#!/bin/sh
echo "$*" >> {calls}
exec {real} "$@"
"""
HEAD = ("run", "all", "engine", "own", "bar", "inspect", "update", "changed")
RULE = {"name": "all", "match": {"engine": "docker", "name": "bench-*"}}
FIELDS = "[{{json .Id}},{{json .Name}},{{json .Config.Labels}},{{json .State.Pid}},{{json .HostConfig.Memory}}]"


class Bench:
    def __init__(self, folder, containers):
        self.folder, self.containers = folder, containers
        self.limit = 64

    def module(self, state, path=""):
        """One run of the module with a limit that no container has, or, to change nothing, with the one they have."""
        rules = [dict(RULE, memory_max="{0}M".format(self.limit))]
        options = {"state": state, "rules": rules, "state_path": os.path.join(self.folder, "state")}
        given = json.dumps({"ANSIBLE_MODULE_ARGS": options})
        environment = dict(os.environ, PATH=path + os.pathsep + os.environ["PATH"])
        argv = [sys.executable, "-c", RUN.format(path=os.path.join(ROOT, ".collections"))]
        start = time.perf_counter()
        done = subprocess.run(argv, input=given, capture_output=True, text=True, env=environment, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        counts = json.loads(done.stdout)["counts"]
        return seconds, counts["applied"] + counts["rolled_back"]

    def other_limit(self):
        self.limit += 1

    def bare(self, with_updates):
        """Seconds that the calls take without the module."""
        start = time.perf_counter()
        call(["inspect", "--type", "container", "--format", FIELDS, *self.containers])
        for container in self.containers if with_updates else ():
            call(["update", "--memory={0}m".format(self.limit), "--memory-swap={0}m".format(self.limit * 2), container])
        return time.perf_counter() - start

    def counted(self, state):
        """How often a run calls the engine to list and to change."""
        calls = os.path.join(self.folder, "calls")
        place = os.path.join(self.folder, "docker")
        with open(place, "w") as stream:
            stream.write(COUNTER.format(real=shutil.which("docker"), calls=calls))
        os.chmod(place, stat.S_IRWXU)
        self.module(state, self.folder)
        with open(calls) as stream:
            lines = [line.split() for line in stream]
        os.unlink(calls)
        return sum("inspect" in line for line in lines), sum("update" in line for line in lines)

    def measure(self, name, state, prepare, with_updates, rounds):
        times, changed = [], 0
        for _round in range(rounds):
            prepare()
            engine = self.bare(with_updates)
            prepare()
            seconds, changed = self.module(state)
            times.append((seconds, engine, seconds - engine))
        prepare()
        inspects, updates = self.counted(state)
        medians = [statistics.median(column) for column in zip(*times)]
        row = (name, *medians, BAR, inspects, updates, changed)
        print("%-12s %7.2fs %7.2fs %7.2fs %5s %8d %7d %8d" % row, flush=True)


def call(arguments):
    subprocess.run(["docker", *arguments], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True)


def measure(bench, rounds):
    print("%-12s %8s %8s %8s %5s %8s %7s %8s" % HEAD)
    bench.measure("plan", "planned", bench.other_limit, False, rounds)
    bench.measure("apply", "applied", bench.other_limit, True, rounds)
    bench.measure("apply again", "applied", lambda: None, False, rounds)

    def apply_another():
        bench.other_limit()
        bench.module("applied")

    bench.measure("roll back", "rolled_back", apply_another, True, rounds)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--containers", type=int, default=200)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    if engines.why_not("docker"):
        raise SystemExit(engines.why_not("docker"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the containers are removed
    with engines.docker() as docker, tempfile.TemporaryDirectory() as folder:
        names = ["bench-{0}".format(number) for number in range(options.containers)]
        measure(Bench(folder, [docker.run(name, command=COMMAND) for name in names]), options.rounds)


if __name__ == "__main__":
    main()
