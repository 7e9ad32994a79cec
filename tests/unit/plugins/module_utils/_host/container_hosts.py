# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with containers, as files and transcripts, for the tests of the managers of memory policies."""

import os

from ansible_collections.oom.forensics.plugins.module_utils._host import cgroupfs, policy_kernel, run

MIB = 1 << 20
NONE = 9223372036854771712  # what v1 prints for no limit
WEB = "c84aaecedfa0a130ad74388d0e0f31349db2b40de6a9c256a2956800a60bd2fc"
CACHE = "6a1c83ff96ad584cf831c473e0ab0473a6c12d0dc79ac22490e623a983d3b1af"
MOUNTS = {
    1: "30 20 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    2: "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
}
FOLDERS = {1: "/sys/fs/cgroup/memory", 2: "/sys/fs/cgroup"}


def v1(limit=NONE, both=NONE, soft=NONE, usage=MIB):
    """The files of a cgroup of version 1; `both` None: swap is not accounted."""
    files = {
        "memory.usage_in_bytes": usage,
        "memory.max_usage_in_bytes": 2 * MIB,
        "memory.limit_in_bytes": limit,
        "memory.soft_limit_in_bytes": soft,
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3",
        "memory.stat": "inactive_file 1\ntotal_inactive_file 4096\ntotal_active_file 8192\ntotal_cache 99999",
    }
    return files if both is None else dict(files, **{"memory.memsw.limit_in_bytes": both})


def v2(limit="max", swap="max", low=0, high="max", least=0):
    """The files of a cgroup of version 2; `swap` None: swap is not accounted."""
    files = {
        "memory.current": MIB,
        "memory.peak": 2 * MIB,
        "memory.max": limit,
        "memory.low": low,
        "memory.high": high,
        "memory.min": least,
        "memory.oom.group": 0,
        "memory.events": "oom_kill 3",
        "memory.stat": "inactive_file 4096\nactive_file 8192\nslab_reclaimable 512\nfile 99999",
    }
    return files if swap is None else dict(files, **{"memory.swap.current": 0, "memory.swap.max": swap})


class Transcript:
    """Commands by the script: each must be the next one. A call is `(argv, stdout, status, stderr)`."""

    def __init__(self, *calls):
        self.calls = list(calls)

    def __call__(self, argv):
        assert self.calls, "one call too many: {0}".format(argv)
        wanted, stdout, status, stderr = _whole(self.calls.pop(0))
        assert list(argv) == wanted
        return run.Running(iter([stdout]), lambda: run.Ended(status, stderr))


def _whole(call):
    return call + (b"", 0, "")[len(call) - 1 :]


def make(folder, version, cgroups, calls=(), files=None):
    """A host with these cgroups (path -> files), these other files, and these calls to come."""
    contents = {"/proc/self/mountinfo": MOUNTS[version]}
    above = {path[:end] for path in cgroups for end, letter in enumerate(path) if letter == "/"}
    for path, cgroup in dict(dict.fromkeys(above, v1() if version == 1 else {}), **cgroups).items():
        contents.update(("{0}{1}/{2}".format(FOLDERS[version], path, name), text) for name, text in cgroup.items())
    contents.update(files or {})
    for path, text in contents.items():
        place = os.path.join(str(folder), path.lstrip("/"))
        if not os.path.isdir(os.path.dirname(place)):
            os.makedirs(os.path.dirname(place))
        with open(place, "w") as stream:
            stream.write("{0}\n".format(text))
    return run.Host(str(folder), Transcript(*calls), "/usr/bin/{0}".format)


def cgroups_of(host):
    return list(cgroupfs.read(host, with_stat=policy_kernel.RECLAIMABLE)[0])
