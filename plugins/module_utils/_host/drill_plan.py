# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a drill is safe on a host, and in which hierarchy it can make its cgroup. Reads only; private."""

import os
from typing import List, NamedTuple, Optional

from . import hierarchies, run
from .coverage import Unreadable
from .drill_files import FILES, MIB, number, read

LEAST_LIMIT = 16 * MIB
LARGEST_LIMIT = 64 * MIB
LONGEST_TIMEOUT = 120
NEEDED_AVAILABLE = 512 * MIB
# The process gives up at this multiple of its limit, killed or not.
GIVE_UP = 4
_NOWHERE = (
    "Looked in /proc/self/mountinfo for a cgroup hierarchy with the memory controller and found none; "
    "mount one, or boot without cgroup_disable=memory."
)


class DrillError(Exception):
    """The drill was refused, or could not be done. The message is for the user: what was tried, found, what to do."""


class Plan(NamedTuple):
    """A drill that was found safe."""

    hierarchy: hierarchies.Tree
    systemd: bool
    name: str
    limit: int
    timeout: float


def plan(host: run.Host, limit: int, timeout: float) -> Plan:
    """Decide where and how the drill runs; nothing is touched.

    :arg limit: bytes, 16 to 64 MiB.
    :arg timeout: seconds that the process has, 1 to 120.
    :raises DrillError: where a drill would not be safe, or could not be made; the message is one sentence.
    """
    _check_options(limit, timeout)
    _check_host(host)
    systemd = os.path.isdir(run.below(host, "/run/systemd/system"))
    hierarchy = _hierarchy(host)
    _check_hierarchy(hierarchy, systemd)
    name = "oom-forensics-drill-{0}".format(os.urandom(4).hex())
    return Plan(hierarchy, systemd, name, limit, timeout)


def _check_options(limit: int, timeout: float) -> None:
    if not LEAST_LIMIT <= limit <= LARGEST_LIMIT:
        raise DrillError(
            "limit: {0} bytes is out of range; a drill takes 16 MiB ({1}) to 64 MiB ({2}).".format(
                limit, LEAST_LIMIT, LARGEST_LIMIT
            )
        )
    if not 1 <= timeout <= LONGEST_TIMEOUT:
        raise DrillError(
            "timeout: {0} seconds is out of range; a drill takes 1 to {1} seconds.".format(timeout, LONGEST_TIMEOUT)
        )


def _check_host(host: run.Host) -> None:
    if os.geteuid() != 0:
        raise DrillError(
            "A drill makes a cgroup, which only root may do, and this user is uid {0}; run the task with become: "
            "true.".format(os.geteuid())
        )
    available = number(run.below(host, "/proc/meminfo"), "MemAvailable")
    if available is None or available * 1024 < NEEDED_AVAILABLE:
        raise DrillError(
            "Read MemAvailable from /proc/meminfo before the drill and found {0}; at least 512 MiB must be available, "
            "try again when the host has more free memory.".format(
                "no number" if available is None else "{0} MiB".format(available // 1024)
            )
        )
    if number(run.below(host, "/proc/sys/vm/panic_on_oom")) == 2:
        raise DrillError(
            "Read vm.panic_on_oom before the drill and found 2, with which the kill of a drill would panic the host; "
            "set it to 0 or 1 first."
        )


def _hierarchy(host: run.Host) -> hierarchies.Tree:
    """The memory controller's hierarchy. One of version 2 may be mounted without it."""
    try:
        hierarchy = hierarchies.find(host).memory
    except Unreadable as error:
        raise DrillError(_NOWHERE) from error
    if hierarchy.version == 2 and "memory" not in _words(hierarchy, "cgroup.controllers"):
        raise DrillError(_NOWHERE)
    return hierarchy


def _words(hierarchy: hierarchies.Tree, name: str) -> List[str]:
    return (read(os.path.join(hierarchy.folder, name)) or "").split()


def _headroom(hierarchy: hierarchies.Tree) -> Optional[int]:
    """Bytes below the limit of the cgroup at the mount's root, cache that yields at once not counted; null if none."""
    files = FILES[hierarchy.version]
    limit, usage = (number(os.path.join(hierarchy.folder, name)) for name in (files.limit, files.usage))
    cache = number(os.path.join(hierarchy.folder, "memory.stat"), files.cache) or 0
    return None if limit is None or usage is None else limit - usage + cache


def _check_hierarchy(hierarchy: hierarchies.Tree, systemd: bool) -> None:
    if number(os.path.join(hierarchy.folder, "memory.oom_control"), "oom_kill_disable") == 1:
        raise DrillError(
            "Read {0}/memory.oom_control and found oom_kill_disable 1, with which a process at its limit waits "
            "for ever instead of being killed; write 0 to it first.".format(hierarchy.folder)
        )
    headroom = _headroom(hierarchy)
    if headroom is not None and headroom < GIVE_UP * LARGEST_LIMIT:
        raise DrillError(
            "Compared limit and usage of {0} and found {1} MiB of room; with less than {2} MiB the drill could hit "
            "the limit of others, give the surrounding container more memory.".format(
                hierarchy.folder, headroom // MIB, GIVE_UP * LARGEST_LIMIT // MIB
            )
        )
    if systemd:
        return
    if not os.access(hierarchy.folder, os.W_OK):
        raise DrillError(
            "A drill needs a cgroup below {0}, which is mounted read-only; run it on the host itself, not in a "
            "container.".format(hierarchy.folder)
        )
    if hierarchy.version == 2 and "memory" not in _words(hierarchy, "cgroup.subtree_control"):
        raise DrillError(
            "Read {0}/cgroup.subtree_control and found no memory in it, so that a new cgroup has no limit; enable it "
            "with: echo +memory > {0}/cgroup.subtree_control".format(hierarchy.folder)
        )
