# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the bytes: nothing raises, the result is JSON, the split does not matter, time is linear."""

import glob
import json
import os
import sys
import time

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._oom import events
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from corpus import fixture, read  # noqa: E402

LOGS = [read(path) for path in sorted(glob.glob(fixture("vm-6.1", "*", "*"))) if "truth" not in path]
LOGS += [read(path) for path in sorted(glob.glob(fixture("host-6.18-cgroupv1", "0*"))) if "truth" not in path]
WORDS = [
    b"hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
    b"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a,task=b,pid=1,uid=0",
    b"Memory cgroup out of memory: Killed process 1 (b) total-vm:4kB, anon-rss:0kB, file-rss:0kB, shmem-rss:0kB, UID:0",
    b"Killed process ",
    b"Tasks in /a are going to be killed due to memory.oom.group set",
    b"Memory cgroup stats for /a:",
    b"[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name",
    b"[      1]     0     1  1 1 4096 0 0 x",
    b"Mem-Info:",
    b"active_anon:1 inactive_anon:2",
    b"Node 0 DMA free:1kB min:2kB",
    b"CPU: 0 PID: 1 Comm: x Not tainted 6.1 #1",
    b"oom_reaper: reaped process 1 (b), now anon-rss:0kB",
    b"Out of memory and no killable processes...",
    b"Kernel panic - not syncing: System is deadlocked on memory",
    b"[ 12.345678] ",
    b"Nov 22 21:50:30 host kernel: ",
    b"4,1,2,-;",
    b"\n",
    b"\x00",
    b"\xff\xfe",
    b"\\x0a",
    b'{"MESSAGE":[1,2]}',
    b"__CURSOR=a\n",
    b"MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\x7f",
    b" " * 30,
]


def parse(chunks):
    found = list(events.parse(chunks))
    json.dumps(found).encode("utf-8")
    json.dumps(events.merge(found)).encode("utf-8")
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(WORDS) | st.binary(max_size=40), max_size=60))
def test_any_words_in_any_order(words):
    parse([b"".join(words)])
    parse([b"\n".join(words)])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(LOGS), st.data())
def test_damaged_logs(log, data):
    damaged = bytearray(log[:20000])
    for _number in range(data.draw(st.integers(1, 20))):
        place = data.draw(st.integers(0, max(0, len(damaged) - 1)))
        how = data.draw(st.integers(0, 3))
        if how == 0:
            damaged[place : place + 1] = data.draw(st.binary(max_size=3))
        elif how == 1:
            del damaged[place : place + data.draw(st.integers(1, 500))]
        elif how == 2:
            damaged[place:place] = data.draw(st.sampled_from(WORDS))
        else:
            damaged[place:place] = damaged[place : place + 200]
    parse([bytes(damaged)])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(LOGS), st.integers(1, 5000))
def test_the_split_does_not_matter(log, size):
    log = b"".join(line for line in log[:60000].splitlines(True) if not line.startswith(b"# event"))
    whole = parse([log])
    assert parse(log[start : start + size] for start in range(0, len(log), size)) == whole


def filler(number):
    return (
        b"Nov 22 21:50:30 host kernel: [ 100.%06d] IN=eth0 OUT= SRC=203.0.113.7 DST=10.0.2.15 LEN=60 PROTO=TCP\n"
        % number
    )


@pytest.mark.parametrize("name", ["a1-docker-memcg-8m-pid1", "b2-systemd-service-OOMPolicy-kill", "d1-global-session"])
@pytest.mark.parametrize("skip", [0, 1, 20, -2])
def test_what_lies_between_reports_is_skipped_without_loss(name, skip):
    """A report far inside a large log gives the event that it gives alone, even where its first lines are lost."""
    report = read(fixture("vm-6.1", name, "dmesg.log")).splitlines(True)
    begin = next(number for number, line in enumerate(report) if b"invoked oom" in line)
    end = max(number for number, line in enumerate(report) if b"Killed process" in line)
    lines = [b"Nov 22 21:50:30 host kernel: " + line for line in report[begin : end + 1]]
    lines = lines[skip:] if skip >= 0 else lines[-1:]
    padding = [filler(number) for number in range(8000)]
    alone = parse([b"".join(lines)])
    buried = parse([b"".join(padding + lines + padding)])
    assert len(alone) == 1 and buried == alone


@pytest.mark.parametrize(
    "line",
    [
        WORDS[0] + b"\n",
        WORDS[1] + b"\n",
        WORDS[2] + b"\n",
        WORDS[7] + b"\n",
        b"Killed process 1 (\n",
        b"Killed process 1 (" * 40 + b"\n",
        b"oom-kill:constraint=CONSTRAINT_X,cpuset=,cpuset=,task=,task_memcg=,task=" * 20 + b"\n",
        b"CPU: 0 PID: 1 Comm: x\n",
        b"oom_score_adj memory Comm: \n",
        b"[  pid  ] " + b"uid " * 200 + b"\n",
        b" " * 200 + b"\n",
        b"Mem-Info:\nactive_anon:1 inactive_anon:1\n",
        b"MESSAGE=\n\n",
        b"{" * 200 + b"\n",
        b"> " * 100 + b"\n",
        b"\\x0a" * 100 + b"\n",
        b"kernel: " * 50 + b"\n",
    ],
)
def test_floods_take_linear_time(line):
    """Ten times the flood must not take a hundred times as long; the bound is loose, since machines are shared."""

    def seconds(size):
        start = time.process_time()
        for _event in events.parse([line * (size // len(line))]):
            pass
        return time.process_time() - start

    small = min(seconds(100000) for _attempt in range(3))
    assert seconds(1000000) < 40 * small + 2


def test_a_line_of_a_hundred_megabytes():
    piece = b"Out of memory: Killed process 1 (x) total-vm:4kB, anon-rss:0kB, file-rss:0kB " * 12800
    kill = b"[ 1.000000] Out of memory: Killed process 7 (y) total-vm:4kB, anon-rss:0kB, file-rss:0kB, shmem-rss:0kB\n"

    def chunks():
        yield b"quiet\n" * 100000 + b"A"
        for _number in range(100):
            yield piece
        yield b"\n" + kill

    start = time.process_time()
    assert [event["victims"][0]["pid"] for event in events.parse(chunks())] == [7]
    assert time.process_time() - start < 20


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 70000), st.integers(0, 300))
def test_no_split_loses_a_kill_in_a_large_log(size, shift):
    kill = b"Nov 22 21:50:30 host kernel: [ 1.000000] Out of memory: Killed process %d (y) total-vm:4kB, anon-rss:0kB, file-rss:0kB\n"
    log = (
        b"".join(filler(number) for number in range(3300 + shift))
        + kill % 7
        + filler(1) * 700
        + kill % 8
        + filler(2) * 700
        + kill % 9
    )
    pids = [event["victims"][0]["pid"] for event in parse(log[at : at + size] for at in range(0, len(log), size))]
    assert pids == [7, 8, 9]
