# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel applies to one cgroup, and what is used there, in a policy's words. Private to this collection."""

import re
from typing import Any, Dict, Optional, Sequence

from .._policy.model import Usage
from . import cgroup_memory, hierarchies, run

# Keys of memory.stat: what the kernel gives back before it kills. v1 does not count slabs there.
RECLAIMABLE = ("inactive_file", "active_file", "slab_reclaimable")

_OWN_WORD = {
    1: ("memory_max",),
    2: ("memory_max", "memory_high", "memory_low", "memory_min"),
}


# crun keeps what its container may use one cgroup further down, and leaves the scope of systemd without limits (1.8).
_INSIDE = "/container"
_OF_PODMAN = re.compile("libpod-[0-9a-f]{64}(?:[.]scope)?")


def inside(path: str) -> Optional[str]:
    """Where the limits of a container may be instead, if its runtime is crun; None for what is none of Podman's."""
    return path + _INSIDE if _OF_PODMAN.fullmatch(path.rpartition("/")[2]) else None


def read(host: run.Host, path: str) -> Optional[Dict[str, Any]]:
    """One cgroup as it is now, with the keys of ``cgroup_memory.KEYS``; None where it is gone.

    :arg path: as the kernel logs it. The numbers are those of the cgroup that has the limits (``inside``).

    Raises Unreadable where no memory controller is mounted.
    """
    trees = hierarchies.find(host)
    places = filter(None, (inside(path) if trees.memory.version == 2 else None, path))
    found = next((each for each in (_files(host, trees, place) for place in places) if each), None)
    if found is None:
        return None
    return dict(cgroup_memory.describe(trees.memory.version, found, with_stat=RECLAIMABLE), path=path)


def _files(host: run.Host, trees: hierarchies.Hierarchies, path: str) -> Dict[str, bytes]:
    """What the files of a cgroup hold; nothing where it is gone, or has no memory controller."""
    version, _folder, top = trees.memory
    place = trees.mount + path[len(top) :].rstrip("/")
    names = cgroup_memory.files(version) | {cgroup_memory.STAT}
    contents = ((name, run.read_bytes(host, "{0}/{1}".format(place, name))) for name in names)
    raw = {name: data for name, data in contents if data is not None}
    return raw if cgroup_memory.USAGE[version] in raw else {}


def effective(host: run.Host, path: str, pids: Sequence[int] = ()) -> Optional[Dict[str, Any]]:
    """The settings of a cgroup as the kernel has them now; None where it is gone.

    :arg pids: its processes: ``oom_score_adjust`` is that of the first one that still runs.

    Raises Unreadable where no memory controller is mounted.
    """
    cgroup = read(host, path)
    if cgroup is None:
        return None
    found = settings(cgroup)
    adjustments = (oom_score_adj(host, pid) for pid in pids)
    adjustment = next((each for each in adjustments if each is not None), None)
    if adjustment is not None:
        found["oom_score_adjust"] = adjustment
    return found


def settings(cgroup: Dict[str, Any]) -> Dict[str, Any]:
    """The settings that a cgroup (``cgroup_memory.KEYS``) has; without a key where its kernel has no such setting."""
    version = cgroup["cgroup_version"]
    if cgroup["memory_current"] is None:
        return {}  # without the memory controller
    found = {key: cgroup[key] for key in _OWN_WORD[version]}
    if version == 1:
        found["memory_low"] = low_of_soft_limit(cgroup["soft_limit"], cgroup["memory_max"])
        if cgroup["memsw"] is not None:
            found["memory_swap_max"] = swap_of_both(cgroup["memsw"]["max"], cgroup["memory_max"])
        return found
    if cgroup["memory_swap_current"] is not None:
        found["memory_swap_max"] = cgroup["memory_swap_max"]
    if cgroup["oom_group"] is not None:
        found["oom_group"] = cgroup["oom_group"]
    return found


def swap_of_both(both: Optional[int], memory: Optional[int]) -> Optional[int]:
    """v1 limits memory and swap together: the swap alone, in bytes; None where nothing limits it."""
    return None if both is None or memory is None else max(0, both - memory)


def low_of_soft_limit(soft_limit: Optional[int], memory_max: Optional[int]) -> int:
    """v1's soft limit as memory_low, in bytes: 0 where usage never gets above it, because that is as if it had none."""
    return 0 if soft_limit is None or (memory_max is not None and soft_limit >= memory_max) else soft_limit


def oom_score_adj(host: run.Host, pid: int) -> Optional[int]:
    """What the kernel adds to the badness of a process; None where it is gone."""
    text = run.read_text(host, "/proc/{0}/oom_score_adj".format(pid)) or ""
    return int(text) if text.lstrip("-").isdigit() else None


def usage(cgroup: Dict[str, Any]) -> Usage:
    """What a cgroup (``cgroup_memory.KEYS``, ``with_stat=RECLAIMABLE``) uses, in bytes, and its kills.

    v2 counts the kills of the cgroups below too, v1 does not (but 5.2 and 5.3).
    """
    stat = cgroup["stat"] or {}
    counted = [stat[key] for key in RECLAIMABLE if stat.get(key) is not None]
    return Usage(
        cgroup["memory_current"],
        cgroup["memory_peak"],
        sum(counted) if counted else None,
        (cgroup["events"] or {}).get("oom_kill"),
        _swapped(cgroup),
    )


def _swapped(cgroup: Dict[str, Any]) -> Optional[int]:
    """Bytes in swap. v1 counts them only together with memory, which may have changed between the two readings."""
    both = (cgroup["memsw"] or {}).get("current")
    if both is None or cgroup["memory_current"] is None:
        swapped: Optional[int] = cgroup["memory_swap_current"]
        return swapped
    return max(0, int(both - cgroup["memory_current"]))
