# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traced kills as events, and joined to the kernel's own reports of the same kills."""

import json

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._oom import events, traced, traces

BOOT = "b84f02466e78440a8a878ed0a44e5350"
CONTEXT = events.Context(source="kmsg", boot_id=BOOT, page_size=4096, boot_time=1700000000.0, boot_time_error=1.0)
FULL = """\
6,1,1000000000,-;hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
6,2,1000000100,-;CPU: 1 PID: 1425 Comm: hog Not tainted 6.1.0-56-amd64 #1  Debian 6.1.192-2
6,3,1000000200,-;memory: usage 8192kB, limit 8192kB, failcnt 31
6,4,1000000300,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/lim,\
task_memcg=/lim/own,task=hog,pid=1425,uid=0
"""
KILL = """\
3,5,1000000400,-;Memory cgroup out of memory: Killed process 1425 (hog) total-vm:31720kB, anon-rss:7952kB, \
file-rss:4kB, shmem-rss:0kB, UID:0 pgtables:52kB oom_score_adj:0
"""
SEEN = traces.Kill(
    backend="bcc",
    victim_pid=1425,
    victim_comm="hog",
    trigger_pid=77,
    trigger_comm="other",
    domain_pages=2048,
    loadavg="0.65 0.97 0.87 2/107 1426",
    victim_cgroup="/lim/own",
    time=1700001000.5,
    boot_id=BOOT,
)
KNOWN = CONTEXT._replace(source="trace", boot_time=None)


def kernel(text):
    return list(events.parse([text.encode()], CONTEXT))


def keys(value):
    return {key: keys(item) for key, item in value.items()} if isinstance(value, dict) else None


def test_event_has_the_keys_of_the_kernels():
    (told,) = kernel(FULL + KILL)
    seen = traced.event(SEEN, KNOWN)
    for key in ("trigger", "memory", "completeness", "workload"):
        assert set(seen[key]) == set(told[key])
    assert set(seen) == set(told) | {"trace"}
    assert set(seen["victims"][0]) == set(told["victims"][0])
    json.dumps(seen)


def test_event():
    seen = traced.event(SEEN, KNOWN)
    assert (seen["killer"], seen["scope"], seen["outcome"], seen["kill_lines"]) == ("kernel", "unknown", "killed", 1)
    assert seen["trace"] == {"backend": "bcc", "loadavg": "0.65 0.97 0.87 2/107 1426", "domain_pages": 2048}
    assert (seen["time"], seen["time_source"]) == ("2023-11-14T22:30:00.500000Z", "trace")
    assert (seen["trigger"]["pid"], seen["trigger"]["comm"]) == (77, "other")
    victim = seen["victims"][0]
    assert (victim["pid"], victim["comm"], victim["cgroup"]) == (1425, "hog", "/lim/own")
    assert victim["total_vm_bytes"] is None
    assert seen["victim_cgroup"] == "/lim/own" and seen["limit_cgroup"] is None and seen["limit_level"] is None


@pytest.mark.parametrize(
    "constraint,limit,scope,level",
    [
        ("CONSTRAINT_MEMCG", "/lim", "memcg", "ancestor"),
        ("CONSTRAINT_MEMCG", "/lim/own", "memcg", "own"),
        ("CONSTRAINT_NONE", None, "host", "host"),
        ("CONSTRAINT_CPUSET", None, "cpuset", "host"),
        (None, "/lim", "memcg", "ancestor"),
        (None, None, "unknown", None),
    ],
)
def test_scope(constraint, limit, scope, level):
    seen = traced.event(SEEN._replace(constraint=constraint, limit_cgroup=limit), KNOWN)
    assert (seen["scope"], seen["constraint"], seen["limit_level"]) == (scope, constraint, level)


def test_nameless_victim_of_an_old_kernel():
    seen = traced.event(SEEN._replace(victim_comm=None), KNOWN)
    assert seen["victims"][0]["comm"] is None


def test_bytes_that_are_no_utf8():
    seen = traced.event(SEEN._replace(victim_comm="\udcff", trigger_comm="\udcfe", victim_cgroup="/\udcff"), KNOWN)
    assert (seen["victims"][0]["comm"], seen["trigger"]["comm"]) == ("\\xff", "\\xfe")
    assert seen["victim_cgroup"] == seen["victims"][0]["cgroup"] == "/\\xff"
    json.dumps(seen).encode("utf-8")


def test_joined_to_a_whole_report():
    (told,) = kernel(FULL + KILL)
    (both,) = traced.joined([told, traced.event(SEEN, KNOWN)])
    changed = {key for key in told if both[key] != told[key]} - {"trace"}
    # What the kernel says stays; the trigger too, though the tracer names another.
    assert changed == {"origins"}
    assert both["trace"]["domain_pages"] == 2048
    assert [origin["source"] for origin in both["origins"]] == ["kmsg", "trace"]


def test_joined_to_a_kill_line_whose_header_was_dropped():
    (told,) = kernel(KILL)
    assert told["trigger"]["pid"] is None and told["victim_cgroup"] is None
    seen = traced.event(SEEN._replace(limit_cgroup="/lim", constraint="CONSTRAINT_MEMCG", order=0), KNOWN)
    (both,) = traced.joined([told, seen])
    assert both["id"] == told["id"] and both["time"] == told["time"]
    assert (both["trigger"]["pid"], both["trigger"]["comm"]) == (77, "other")
    assert (both["victim_cgroup"], both["limit_cgroup"], both["limit_level"]) == ("/lim/own", "/lim", "ancestor")
    assert both["workload"]["name"] == "/lim/own" and both["limit_workload"]["name"] == "/lim"
    assert both["victims"][0]["cgroup"] == "/lim/own"
    assert both["victims"][0]["anon_rss_bytes"] == 7952 * 1024
    assert told["victim_cgroup"] is None  # the input is not changed


@pytest.mark.parametrize(
    "change",
    [
        {"boot_id": "0" * 32},
        {"time": 1700001100.0},
        {"victim_pid": 1426},
        {"time": None},
    ],
)
def test_another_kill_stays_another(change):
    kill = SEEN._replace(**change)
    context = KNOWN._replace(boot_id=kill.boot_id)
    found = traced.joined(kernel(FULL + KILL) + [traced.event(kill, context)])
    assert [each["trace"] is None for each in found].count(True) == 1
    assert len(found) == 2


def test_group_members_join_their_group():
    group = KILL + "".join(
        [
            "6,6,1000000500,-;Tasks in /lim are going to be killed due to memory.oom.group set\n",
            KILL.replace("1000000400", "1000000600"),
            KILL.replace("3,5,1000000400", "3,7,1000000700").replace("1425 (hog)", "1400 (parent)"),
        ]
    )
    (told,) = kernel(group)
    assert [victim["pid"] for victim in told["victims"]] == [1425, 1400]
    seen = [SEEN, SEEN._replace(victim_pid=1400, victim_comm="parent", victim_cgroup="/lim/two")]
    (both,) = traced.joined([told] + [traced.event(kill, KNOWN) for kill in seen])
    assert [victim["cgroup"] for victim in both["victims"]] == ["/lim/own", "/lim/two"]
    assert both["victim_cgroup"] == "/lim/own"


def test_two_tracers_saw_one_kill():
    other = SEEN._replace(
        backend="tracefs", domain_pages=None, total_vm=31720, anon_rss=7952, file_rss=4, shmem_rss=0, victim_cgroup=None
    )
    (both,) = traced.joined([traced.event(other, KNOWN), traced.event(SEEN, KNOWN)])
    assert both["trace"] == {"backend": "bcc", "loadavg": "0.65 0.97 0.87 2/107 1426", "domain_pages": 2048}
    assert both["victims"][0]["anon_rss_bytes"] == 7952 * 1024 and both["victim_cgroup"] == "/lim/own"


def test_kills_of_programs_are_not_the_kernels():
    (told,) = kernel(FULL + KILL)
    told["killer"] = "earlyoom"
    assert len(traced.joined([told, traced.event(SEEN, KNOWN)])) == 2


def test_without_a_trace_only_the_key_comes():
    (told,) = kernel(FULL + KILL)
    assert traced.joined([told]) == [dict(told, trace=None)]


def test_order_of_time():
    late = traced.event(SEEN._replace(victim_pid=9, time=1700009000.0), KNOWN)
    early = traced.event(SEEN._replace(victim_pid=8, time=1700000001.0), KNOWN)
    found = traced.joined([late] + kernel(FULL + KILL) + [early])
    assert [each["victims"][0]["pid"] for each in found] == [8, 1425, 9]
