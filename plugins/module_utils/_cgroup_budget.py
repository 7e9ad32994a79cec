# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps as many cgroups as a module result may carry, the largest, while they stream by. Private to this collection."""

import heapq
import json
import math
from typing import Any, Dict, Iterable, List, Tuple

# What the result may be sorted by, the largest first; null is smaller than everything. "path" is the tree's own order.
SORTS = ("path", "memory_current", "memory_peak", "utilisation", "peak_utilisation")
_UNSORTED_RANK = "memory_current"


def largest(cgroups: Iterable[Dict[str, Any]], sort: str, max_bytes: int) -> Tuple[List[Dict[str, Any]], bool]:
    """The cgroups whose JSON fits into ``max_bytes``, in the order of ``sort``, and whether any was left out.

    What does not fit is what comes last in that order; with the sort ``path``, what uses least memory. Of equal ones
    the earlier stays. One that would take more than half of the room alone, as a hostile name may, is left out too.
    Never more than ``max_bytes`` are held in memory.
    """
    by = _UNSORTED_RANK if sort == "path" else sort
    kept: List[Tuple[Tuple[float, int], int, Dict[str, Any]]] = []  # a heap: the smallest is first
    room, truncated, least = max_bytes, False, (-math.inf, 0)
    for place, cgroup in enumerate(cgroups):
        rank = (-1.0 if cgroup[by] is None else cgroup[by], -place)
        size = len(json.dumps(cgroup)) + 2
        if rank < least or size * 2 > max_bytes:
            truncated = True
            continue
        heapq.heappush(kept, (rank, size, cgroup))
        room -= size
        while room < 0:
            least, size, _dropped = heapq.heappop(kept)
            room += size
            truncated = True
    if sort == "path":
        kept.sort(key=lambda entry: -entry[0][1])
    else:
        kept.sort(key=lambda entry: entry[0], reverse=True)
    return [cgroup for _rank, _size, cgroup in kept], truncated
