# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill refuses, on copied trees; where it looks. The kill itself is a system test: only a kernel can do it."""

import os
import subprocess
import sys
import time

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import drill

MIB = 1 << 20
# Observed: Linux 6.18 with cgroup v1, Debian 12 with v2, a container with the hierarchy's root out of sight.
V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
HYBRID = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
CONTAINER = "900 800 0:32 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"

HOST = {
    "proc/self/mountinfo": V1 + HYBRID,
    "proc/meminfo": "MemTotal: 4000000 kB\nMemAvailable: 2000000 kB\n",
    "proc/sys/vm/panic_on_oom": "0\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000000\n",
    "sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
    "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0\n",
    "sys/fs/cgroup/unified/cgroup.controllers": "\n",
}
HOST_V2 = {
    "proc/self/mountinfo": V2,
    "proc/meminfo": "MemTotal: 4000000 kB\nMemAvailable: 2000000 kB\n",
    "proc/sys/vm/panic_on_oom": "1\n",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
    "sys/fs/cgroup/cgroup.subtree_control": "cpu memory pids\n",
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Write a host's files below an empty root; the user is root."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(tmp_path)

    return write


def tree(root):
    return sorted(os.path.join(folder, name) for folder, names, files in os.walk(root) for name in names + files)


def test_plan_on_v1(root):
    plan = drill.plan(root(HOST), 16 * MIB, 30)
    assert plan.hierarchy == drill.Hierarchy(1, "/sys/fs/cgroup/memory", "")
    assert (plan.systemd, plan.limit, plan.timeout) == (False, 16 * MIB, 30)


def test_plan_on_v2(root):
    assert drill.plan(root(HOST_V2), 64 * MIB, 1).hierarchy == drill.Hierarchy(2, "/sys/fs/cgroup", "")


def test_plan_with_systemd_needs_no_subtree_control(root):
    files = dict(HOST_V2, **{"sys/fs/cgroup/cgroup.subtree_control": "", "run/systemd/system/.keep": ""})
    assert drill.plan(root(files), 16 * MIB, 30).systemd


def test_plans_have_names_of_their_own(root):
    path = root(HOST)
    assert drill.plan(path, 16 * MIB, 30).name != drill.plan(path, 16 * MIB, 30).name


@pytest.mark.parametrize(
    "files,limit,timeout,words",
    [
        ({}, 8 * MIB, 30, ["limit: 8388608", "16 MiB", "64 MiB"]),
        ({}, 1 << 30, 30, ["limit: 1073741824", "64 MiB"]),
        ({}, -1, 30, ["limit: -1"]),
        ({}, 16 * MIB, 0, ["timeout: 0", "120"]),
        ({}, 16 * MIB, 121, ["timeout: 121", "120"]),
        ({"proc/meminfo": "MemAvailable: 500000 kB\n"}, 16 * MIB, 30, ["MemAvailable", "488 MiB", "512 MiB"]),
        ({"proc/meminfo": "MemFree: 9000000 kB\n"}, 16 * MIB, 30, ["MemAvailable", "no number"]),
        ({"proc/sys/vm/panic_on_oom": "2\n"}, 16 * MIB, 30, ["vm.panic_on_oom", "found 2", "panic the host"]),
        ({"proc/self/mountinfo": HYBRID}, 16 * MIB, 30, ["mountinfo", "found none"]),
        ({"proc/self/mountinfo": "nonsense\n\n - \n1 2 3 - cgroup\n"}, 16 * MIB, 30, ["found none"]),
        (
            {"sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 1\nunder_oom 0\n"},
            16 * MIB,
            30,
            ["oom_kill_disable 1", "/sys/fs/cgroup/memory/memory.oom_control"],
        ),
        (
            {"sys/fs/cgroup/memory/memory.limit_in_bytes": "1100000000\n"},
            16 * MIB,
            30,
            ["/sys/fs/cgroup/memory", "95 MiB of room", "256 MiB"],
        ),
        (dict(HOST_V2, **{"sys/fs/cgroup/cgroup.subtree_control": "cpu\n"}), 16 * MIB, 30, ["subtree_control"]),
    ],
)
def test_refusals_are_one_sentence_and_touch_nothing(root, files, limit, timeout, words):
    path = root(dict(HOST, **files))
    before = tree(path)
    with pytest.raises(drill.DrillError) as error:
        drill.plan(path, limit, timeout)
    message = str(error.value)
    assert [word for word in words if word not in message] == []
    assert "\n" not in message and ". " not in message
    assert tree(path) == before


def test_cache_that_yields_is_room(root):
    files = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "1100000000\n",
        "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 500000000\n",
    }
    assert drill.plan(root(dict(HOST, **files)), 16 * MIB, 30)


def test_refuses_users(root, monkeypatch):
    path = root(HOST)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(drill.DrillError, match="uid 1000; run the task with become: true"):
        drill.plan(path, 16 * MIB, 30)


@pytest.mark.parametrize(
    "mounts,expected",
    [
        (CONTAINER, drill.Hierarchy(1, "/sys/fs/cgroup/memory", "/docker/ab")),
        (CONTAINER + "901 800 0:32 / /mnt/my\\040memory rw - cgroup none rw,memory\n", (1, "/mnt/my memory", "")),
        ("1 2 0:3 / /cg rw shared:9 master:1 - cgroup cgroup rw,cpu,memory\n", (1, "/cg", "")),
    ],
)
def test_hierarchy(root, mounts, expected):
    assert drill._hierarchy(root({"proc/self/mountinfo": mounts})) == expected


def test_folder_of_a_cgroup_the_kernel_names():
    container = drill.Hierarchy(1, "/sys/fs/cgroup/memory", "/docker/ab")
    assert drill._folder_of("/docker/ab/x", container) == "/sys/fs/cgroup/memory/x"
    assert drill._folder_of("/docker/abc", container) == "/sys/fs/cgroup/memory/docker/abc"


@pytest.mark.parametrize(
    "version,properties",
    [(1, ["-p", "MemoryLimit=16777216"]), (2, ["-p", "MemoryMax=16777216", "-p", "MemorySwapMax=0"])],
)
def test_scope_argv(version, properties):
    plan = drill.Plan(drill.Hierarchy(version, "/sys/fs/cgroup", ""), True, "oom-forensics-drill-1", 16 * MIB, 30)
    start = ["systemd-run", "--scope", "--quiet", "--unit", "oom-forensics-drill-1.scope"]
    assert drill.scope_argv(plan) == start + properties + ["--"]


@pytest.mark.parametrize("seconds,word,status", [("60", b"go\n", 3), ("-1", b"go\n", 4), ("60", b"", 5)])
def test_the_process_leaves_by_itself(seconds, word, status):
    """No cgroup here: nothing kills it, so every way out is its own."""
    argv = [sys.executable, "-I", "-S", "-c", drill._ALLOCATE, "", str(MIB), "4", seconds, drill.COMM]
    done = subprocess.run(argv, input=word, stdout=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (status, b"ready\n")
    assert status in drill.EXITS


def event(pid, comm=drill.COMM):
    return {
        "id": "e{0}".format(pid),
        "victims": [{"pid": pid, "comm": comm}],
        "origins": [{"source": "kmsg", "path": "/dev/kmsg"}],
    }


def coverage(**row):
    return {"sources": [dict({"path": None, "available": True, "error": None}, **row)]}


@pytest.fixture
def no_merge(monkeypatch):
    monkeypatch.setattr(drill._events, "merge", lambda found: list(found)[:1])


def test_search_polls_until_the_kill_is_there(no_merge):
    answers = {
        "journal": [{"events": [], "coverage": coverage(available=False, error="journalctl: not found")}],
        "kmsg": [
            {"events": [event(7), event(5, "other")], "coverage": coverage(path="/dev/kmsg")},
            {"events": [event(7), event(5)], "coverage": coverage(path="/dev/kmsg")},
        ],
        "files": [{"events": [event(5)], "coverage": coverage(path="/var/log/kern.log")}],
    }
    result = drill.search(lambda sources, **_rest: answers[sources[0]].pop(0), 5, time.monotonic())
    rows = {row["source"]: row for row in result["found"]}
    assert [(row["source"], row["found"], row["event_id"]) for row in result["found"]] == [
        ("journal", False, None),
        ("kmsg", True, "e5"),
        ("files", True, "e5"),
    ]
    assert rows["journal"]["error"] == "journalctl: not found"
    assert rows["kmsg"]["path"] == "/dev/kmsg" and rows["kmsg"]["milliseconds"] >= 50
    assert result["event"]["id"] == "e5"
    assert answers["journal"] == answers["kmsg"] == []


def test_search_ends(no_merge):
    asked = []

    def collect(sources, **_rest):
        asked.append(sources)
        return {"events": [event(6)], "coverage": coverage(path="/dev/kmsg")}

    result = drill.search(collect, 5, time.monotonic(), ["kmsg"], seconds=0.2)
    assert result == {
        "found": [
            {
                "source": "kmsg",
                "path": "/dev/kmsg",
                "found": False,
                "milliseconds": None,
                "event_id": None,
                "error": None,
            }
        ],
        "event": None,
    }
    assert 2 <= len(asked) < 20 and set(asked) == {("kmsg",)}


KILLED = {"pid": 5, "cgroup": "/d", "limit_bytes": 16 * MIB, "killed": True, "exit_status": None, "signal": 9}


@pytest.mark.parametrize(
    "changed,text",
    [
        (
            {"found": [dict(drill._row("kmsg"), found=True, milliseconds=12), drill._row("files")]},
            "was killed; found in kmsg after 12 ms",
        ),
        ({"found": [drill._row("kmsg")]}, "was killed; found in no log source"),
        (
            {"killed": False, "exit_status": 3, "signal": None},
            "was not killed by the kernel: it reached 4 times its limit",
        ),
        ({"killed": False}, "was not killed by the kernel: signal 9"),
    ],
)
def test_summary(changed, text):
    assert drill.summary(dict(KILLED, **changed)) == "pid 5 in /d with a limit of 16777216 bytes " + text
