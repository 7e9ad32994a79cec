# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence documents for tests: a real host's (cgroup v2, nothing wrong with it), with one thing changed.

Events are what the parser makes of a report, cgroups what the reader makes of a path, so that all keys are there.
"""

import copy

from ansible_collections.oom.forensics.plugins.module_utils._host import cgroup_memory
from ansible_collections.oom.forensics.plugins.module_utils._oom import events as oom
from ansible_collections.oom.forensics.plugins.module_utils._oom import workload

NOW = "2026-11-23T13:00:00.000000Z"  # of the documents
EPOCH = 1795438800.0  # the same moment
MIB = 1 << 20
GIB = 1 << 30
WEB, DB = "a1" * 32, "b2" * 32

HOST = {
    "inventory_name": "web01",
    "hostname": "vm",
    "machine_id": "3d1219c7c4c5404aaa1f6d2a48adfda4",
    "boot_id": "47a0a8b8391d424f839611c6d9f659db",
    "boot_time": "2026-11-20T09:35:44.000000Z",
    "kernel": "6.18.44",
    "arch": "x86_64",
    "page_size_bytes": 4096,
    "memory_total_bytes": 16 * GIB,
    "memory_available_bytes": 12 * GIB,
    "swap_total_bytes": 2 * GIB,
    "swap_free_bytes": 2 * GIB,
    "swaps": [],
    "zram": [],
    "zswap": None,
    "commit_limit_bytes": 10 * GIB,
    "committed_bytes": 4 * GIB,
    "cgroup_mode": "v2",
    "systemd_version": "252",
    "sysctls": {
        "vm_overcommit_memory": 0,
        "vm_overcommit_ratio": 50,
        "vm_overcommit_kbytes": 0,
        "vm_panic_on_oom": 0,
        "vm_oom_kill_allocating_task": 0,
        "vm_oom_dump_tasks": 1,
        "vm_min_free_kbytes": 67584,
        "vm_swappiness": 60,
        "kernel_printk": "4 4 1 7",
    },
    "journald": None,
    "userspace_oom_killers": [],
    "critical_processes": [{"name": "sshd", "pid": 700, "unit": "ssh.service", "oom_score_adj": -1000}],
}


def source(name, available=True, **changed):
    row = dict.fromkeys(("path", "first_time", "last_time", "error", "overrun", "missed"))
    return dict(row, source=name, available=available, records=10, bytes=1000, **changed)


COVERAGE = {
    "sources": [source("journal"), source("kmsg", overrun=False, missed=0), source("file")],
    "boot_id": HOST["boot_id"],
    "kernel_counter": 0,
    "kills_parsed": 0,
    "kills_unlogged": 0,
    "journal_persistent": True,
    "ring_buffer_overrun": False,
    "journal_missed": 0,
    "journal_cursor": None,
    "truncated": False,
    "events_total": 0,
    "events_returned": 0,
    "advice": [],
    "engines": [],
    "cgroups": {
        "mode": "v2",
        "mount": "/sys/fs/cgroup",
        "cgroups_total": 1,
        "cgroups_returned": 1,
        "vanished": 0,
        "unreadable": 0,
        "swap_accounting": True,
        "memory_delegated": True,
        "undelegated": [],
        "kernel_files_missing": [],
        "error": None,
        "advice": [],
    },
}


def scope(identifier=WEB, engine="docker"):
    return "/system.slice/{0}-{1}.scope".format(engine, identifier)


def cgroup(path=None, version=2, name=None, **changed):
    """A cgroup: by default a container with a limit, a throttle below it and no swap, a tenth of it used."""
    path = scope() if path is None else path
    found = cgroup_memory.describe(version, {})
    who = dict(workload.identify(path), name=name, name_source="engine") if name else workload.identify(path)
    found.update(path=path, depth=path.count("/"), kind=who["kind"], workload=who)
    found.update(memory_current=10 * MIB, memory_peak=12 * MIB, memory_max=100 * MIB, process_count=1)
    found.update(memory_effective_max=100 * MIB, memory_effective_max_path=path, utilisation=0.1, peak_utilisation=0.12)
    if version == 2:
        found.update(memory_high=90 * MIB, memory_swap_max=0, memory_min=0, memory_low=0, oom_group=False)
    else:
        found.update(oom_kill_disable=False, under_oom=False)
        found.update(memsw={"current": 0, "peak": 0, "max": 100 * MIB, "failcnt": 0})
    return dict(found, **changed)


LOG = """\
[{at:.6f}] {comm} invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
[{at:.6f}] memory: usage 8192kB, limit 8192kB, failcnt 42
[{at:.6f}] Tasks state (memory values in pages):
[{at:.6f}] [  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name
[{at:.6f}] [   4200]     0  4200      300      200      200        0         0    49152        0             0 init
[{at:.6f}] [   4242]     0  4242     2048     1792     1792        0         0    49152        0             0 {comm}
[{at:.6f}] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg={path},\
task_memcg={path},task={comm},pid=4242,uid=0
[{at:.6f}] Memory cgroup out of memory: Killed process 4242 ({comm}) total-vm:8192kB, anon-rss:7168kB, \
file-rss:1024kB, shmem-rss:512kB, UID:0 pgtables:48kB oom_score_adj:0
"""


def kill(hours_ago=1.0, path=None, name=None, comm="tail", **changed):
    """A kill in a container of two processes, so many hours before the document."""
    uptime = 100000.0
    text = LOG.format(at=uptime, path=path or scope(), comm=comm)
    context = oom.Context(boot_id=HOST["boot_id"], boot_time=EPOCH - hours_ago * 3600 - uptime)
    (found,) = oom.parse([text.encode()], context)
    who = dict(found["workload"], name=name, name_source="engine") if name else found["workload"]
    return dict(found, workload=who, limit_workload=who, **changed)


def document(host=None, coverage=None, **changed):
    """The document of a host with nothing wrong, changed; ``host`` and ``coverage`` change keys of their blocks."""
    made = {
        "schema": "oom.forensics/evidence/1",
        "status": "ok",
        "error": None,
        "collected_at": NOW,
        "host": dict(copy.deepcopy(HOST), **(host or {})),
        "request": None,
        "coverage": dict(copy.deepcopy(COVERAGE), **(coverage or {})),
        "events": [],
        "names": [],
        "cgroups": [cgroup()],
    }
    return dict(made, **changed)


def sysctls(**changed):
    return {"sysctls": dict(HOST["sysctls"], **changed)}


def cgroup_coverage(**changed):
    return {"cgroups": dict(COVERAGE["cgroups"], **changed)}
