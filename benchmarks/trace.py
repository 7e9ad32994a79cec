# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tracing costs: seconds until each backend is attached, milliseconds that it adds to a kill, kills it loses.

Real kills, one after the other, each of a process of its own in a cgroup with a small limit; needs root. A kill is
timed from the moment when its process begins to allocate until it is gone; series of kills with and without the tracer
take turns, and the cost is the median of the pairs' differences. A backend that cannot be attached here says why.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, ".collections"))
from ansible_collections.oom.forensics.plugins.module_utils._host import drill, drill_plan, run
from ansible_collections.oom.forensics.plugins.module_utils._host.tracer_backends import BACKENDS
from ansible_collections.oom.forensics.plugins.module_utils._oom import traces

SERVICE = "ansible_collections.oom.forensics.plugins.module_utils._host.tracer_service"
ATTACH_SECONDS = 180
KILLS = 10  # of a series
HEAD = ("backend", "attach", "kill", "cost", "RSS MiB", "traced", "with cgroup", "of")


def kill():
    """Seconds that a process needs to reach its limit and die, and its number."""
    made = drill.kill(drill_plan.plan(run.Host(), drill_plan.LEAST_LIMIT, 60))
    if not made["killed"]:
        raise SystemExit("A drill's process was not killed; nothing can be measured here.")
    return made["seconds"], made["pid"]


def series():
    """Milliseconds of the median of several kills, and the numbers of all victims."""
    times, pids = zip(*(kill() for _number in range(KILLS)))
    return statistics.median(times) * 1000, pids


def start(backend, log):
    """The tracing service without systemd; None and its last words where the backend cannot be attached."""
    argv = [sys.executable, "-m", SERVICE, "--backend", backend, "--attach-timeout", str(ATTACH_SECONDS)]
    environment = dict(os.environ, PYTHONPATH=os.path.join(ROOT, ".collections"))
    began = time.perf_counter()
    service = subprocess.Popen(argv, env=environment, stdout=log, cwd=ROOT)
    while "Tracing OOM kills with" not in words(log):
        if service.poll() is not None:
            return None, words(log).strip().replace("<3>", "")
        time.sleep(0.01)
    return service, time.perf_counter() - began


def words(log):
    return pathlib.Path(log.name).read_text()


def resident(pid):
    """Resident MiB of a process and of those that it started."""
    pids = [pid] + [int(each) for each in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    lines = [line for each in pids for line in pathlib.Path(f"/proc/{each}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def measure(backend, rounds):
    costs, times, attached, pids, seen = [], [], [], [], []
    rss = 0.0
    for _round in range(rounds):
        without = series()[0]
        with tempfile.NamedTemporaryFile() as log:
            service, found = start(backend, log)
            if service is None:
                print("%-10s %s" % (backend, found))
                return
            try:
                rss = resident(service.pid)
                # The first one pays for what the kernel and the tools load late.
                kill()
                traced, victims = series()
                time.sleep(0.5)
            finally:
                service.terminate()
                service.wait()
            seen += filter(None, (traces.load(line[3:]) for line in words(log).splitlines()))
        costs.append(traced - without)
        times.append(traced)
        attached.append(found)
        pids += victims
    own = [each for each in seen if each.victim_pid in pids]
    cells = (backend, *map(statistics.median, (attached, times, costs)), rss, len(own))
    known = sum(each.victim_cgroup is not None for each in own)
    print("%-10s %8.2fs %7.1fms %7.2fms %8.0f %7d %12d %4d" % (*cells, known, len(pids)), flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--backends", nargs="*", choices=BACKENDS, default=BACKENDS)
    options = arguments.parse_args()
    if os.geteuid():
        raise SystemExit("This benchmark makes kills, which only root may do; run it as root.")
    print("%-10s %9s %9s %9s %8s %7s %12s %4s" % HEAD)
    for backend in options.backends:
        measure(backend, options.rounds)


if __name__ == "__main__":
    main()
