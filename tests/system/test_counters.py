# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Honest counters: what the kernel counted, against what the ring buffer still tells. Real kills, as root.

Others may make kills on this machine too, before and meanwhile: these tests know their own victims by pid, and compare
the coverage with an independent count of the same ring buffer.
"""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import collect, drill, drill_files, hierarchies, run
from kernel import kernel_counter, ring_buffer, why_not

COMM = "oom-burst"
# The kernel prints at most 10 reports in 5 seconds (mm/oom_kill.c, oom_rs); kill lines are never limited.
REPORTS, INTERVAL = 10, 5.5
KILLED = re.compile(rf"Killed process (\d+) \({COMM}\)")

WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

# Makes `count` processes, each in one of the cgroups, lets all go at once and tells their pids. Extra processes sleep
# in the first cgroup: they make its reports long.
BURST = textwrap.dedent(
    """
    import json, mmap, os, signal, sys
    comm, count, sleepers, folders = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    gate, opener = os.pipe()
    ready, tell = os.pipe()

    def join(folder, adjust):
        with open(folder + '/cgroup.procs', 'w') as stream:
            stream.write(str(os.getpid()))
        with open('/proc/self/oom_score_adj', 'w') as stream:
            stream.write(adjust)
        with open('/proc/self/comm', 'w') as stream:
            stream.write(comm)

    def start(folder, hungry):
        pid = os.fork()
        if pid:
            return pid
        os.close(opener)
        join(folder, '1000' if hungry else '0')
        os.write(tell, b'x')
        if not hungry:
            signal.pause()
        os.read(gate, 1)
        memory = mmap.mmap(-1, 256 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for offset in range(0, len(memory), mmap.PAGESIZE):
            memory[offset] = 1
        os._exit(3)

    asleep = [start(folders[0], False) for _number in range(sleepers)]
    pids = [start(folders[number % len(folders)], True) for number in range(count)]
    try:
        for _number in asleep + pids:
            os.read(ready, 1)
        os.close(opener)
        ended = {pid: os.waitpid(pid, 0)[1] for pid in pids}
    finally:
        for pid in asleep:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    print(json.dumps([pid for pid, status in ended.items() if os.WIFSIGNALED(status)]))
    """
)


@pytest.fixture
def scratch():
    """Make cgroups with a limit below one scratch parent; all are gone afterwards."""
    hierarchy = hierarchies.find(run.Host()).memory
    files = drill_files.FILES[hierarchy.version]
    parent = Path(hierarchy.folder) / f"oom-forensics-burst-{os.getpid()}-{time.monotonic_ns()}"
    parent.mkdir()
    if hierarchy.version == 2:
        (parent / "cgroup.subtree_control").write_text("+memory")
    made = []

    def make(count, limit):
        for number in range(len(made), len(made) + count):
            folder = parent / str(number)
            folder.mkdir()
            made.append(folder)
            (folder / files.limit).write_text(str(limit))
        return made[-count:]

    yield make
    for folder in [*made, parent]:
        for pid in (folder / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        assert drill._remove(str(folder)), folder


def burst(folders, count, sleepers=0):
    """Kill `count` processes at once, in turn in each of `folders`; their pids."""
    argv = [sys.executable, "-I", "-S", "-c", BURST, COMM, str(count), str(sleepers), *map(str, folders)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    pids = json.loads(done.stdout)
    assert len(pids) == count, "the kernel killed only some of them"
    return pids


def kill_lines(text):
    """Kill lines of kernel records, counted by shape: the facility of a record is its priority / 8, the kernel's is 0."""
    records = (line.split(";", 1) for line in text.splitlines() if ";" in line and line[0] != " ")
    kernel = (words for prefix, words in records if int(prefix.split(",")[0]) < 8)
    return sum(
        bool(re.match(r"(?:Memory cgroup out of memory|Out of memory)[^:]*: Killed process \d+ ", x)) for x in kernel
    )


def settled(attempts=10):
    """Events and coverage of the ring buffer, counter and raw text of one moment in which nobody else was killed."""
    for _attempt in range(attempts):
        counter, text = kernel_counter(), ring_buffer()
        found = collect.collect_events(run.Host(), sources=("kmsg",), boots="current", max_events=100000)
        if counter == kernel_counter() == found["coverage"]["kernel_counter"]:
            return found["events"], found["coverage"], counter, text
        time.sleep(0.5)
    raise AssertionError("other kills never stopped while this test read the ring buffer")


def of(pids, events):
    return [event for event in events if any(victim["pid"] in pids for victim in event["victims"])]


def test_a_burst_is_complete_though_most_of_its_reports_are_not(scratch):
    folders = scratch(40, 4 << 20)
    time.sleep(INTERVAL)
    before = kernel_counter()
    pids = set(burst(folders, 40))
    events, coverage, counter, text = settled()
    mine = of(pids, events)
    headers = [event for event in mine if event["limit_cgroup"]]
    print(f"\n{len(mine)} events of {len(pids)} kills, {len(headers)} with a report; {coverage}")
    assert counter - before >= 40
    assert pids <= {int(pid) for pid in KILLED.findall(text)}
    assert {victim["pid"] for event in mine for victim in event["victims"]} == pids
    assert sum(event["kill_lines"] for event in mine) == 40
    assert 1 <= len(headers) <= REPORTS
    assert all(not event["completeness"]["complete"] for event in mine if event not in headers)
    # Nothing of the burst is unlogged: what is missing is what was missing in the ring buffer's own text.
    assert coverage["kills_parsed"] == kill_lines(text)
    assert coverage["kills_unlogged"] == counter - kill_lines(text)


def test_overwritten_kills_are_counted_as_unlogged(scratch):
    folder = scratch(1, 64 << 20)
    first = burst(folder, 1)[0]
    line = f"Killed process {first} ({COMM})"
    assert line in ring_buffer()
    before = settled()[1]["kills_unlogged"]
    made = {first}
    deadline = time.monotonic() + 60
    while line in ring_buffer() and time.monotonic() < deadline:
        time.sleep(INTERVAL)
        for _report in range(REPORTS):
            made.update(burst(folder, 1, sleepers=60))
    events, coverage, counter, text = settled()
    print(f"\n{len(made)} kills, {len(of(made, events))} still in the ring buffer; {coverage}")
    assert line not in text, "the ring buffer is too large for this test"
    assert of({first}, events) == []
    assert coverage["kernel_counter"] == counter
    assert coverage["kills_parsed"] == kill_lines(text)
    assert coverage["kills_unlogged"] == counter - kill_lines(text) > before
    assert coverage["kills_unlogged"] > 0
    assert coverage["ring_buffer_overrun"]
