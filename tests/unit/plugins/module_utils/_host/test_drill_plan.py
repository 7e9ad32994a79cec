# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a drill may be, and what it refuses, on copied trees."""

import os

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import drill_plan, run
from ansible_collections.oom.forensics.plugins.module_utils._host.hierarchies import Tree

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
        return run.Host(str(tmp_path))

    return write


def tree(host):
    return sorted(os.path.join(folder, name) for folder, names, files in os.walk(host.root) for name in names + files)


def test_plan_on_v1(root):
    host = root(HOST)
    plan = drill_plan.plan(host, 16 * MIB, 30)
    assert plan.hierarchy == Tree(1, host.root + "/sys/fs/cgroup/memory", "")
    assert (plan.systemd, plan.limit, plan.timeout) == (False, 16 * MIB, 30)


def test_plan_on_v2(root):
    host = root(HOST_V2)
    assert drill_plan.plan(host, 64 * MIB, 1).hierarchy == Tree(2, host.root + "/sys/fs/cgroup", "")


def test_plan_with_systemd_needs_no_subtree_control(root):
    files = dict(HOST_V2, **{"sys/fs/cgroup/cgroup.subtree_control": "", "run/systemd/system/.keep": ""})
    assert drill_plan.plan(root(files), 16 * MIB, 30).systemd


def test_plans_have_names_of_their_own(root):
    host = root(HOST)
    assert drill_plan.plan(host, 16 * MIB, 30).name != drill_plan.plan(host, 16 * MIB, 30).name


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
    host = root(dict(HOST, **files))
    before = tree(host)
    with pytest.raises(drill_plan.DrillError) as error:
        drill_plan.plan(host, limit, timeout)
    message = str(error.value)
    assert [word for word in words if word not in message] == []
    assert "\n" not in message and ". " not in message
    assert tree(host) == before


def test_cache_that_yields_is_room(root):
    files = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "1100000000\n",
        "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 500000000\n",
    }
    assert drill_plan.plan(root(dict(HOST, **files)), 16 * MIB, 30)


def test_refuses_users(root, monkeypatch):
    host = root(HOST)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(drill_plan.DrillError, match="uid 1000; run the task with become: true"):
        drill_plan.plan(host, 16 * MIB, 30)


@pytest.mark.parametrize(
    "mounts,mount,top",
    [
        (CONTAINER, "/sys/fs/cgroup/memory", "/docker/ab"),
        (CONTAINER + "901 800 0:32 / /mnt/my\\040memory rw - cgroup none rw,memory\n", "/mnt/my memory", ""),
        ("1 2 0:3 / /cg rw shared:9 master:1 - cgroup cgroup rw,cpu,memory\n", "/cg", ""),
    ],
)
def test_hierarchy(root, mounts, mount, top):
    host = root({"proc/self/mountinfo": mounts})
    assert drill_plan._hierarchy(host) == Tree(1, host.root + mount, top)
