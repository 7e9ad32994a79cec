# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps a module result small enough for what carries it. Private to this collection.

AWX empties a result of more than 700,000 characters without a word (ansible-runner, MAX_EVENT_RES).
"""

import json
from typing import Any, Dict, List

# Left out of an event by detail=summary: the long blocks of a report, which only a closer look needs.
DETAIL_KEYS = ("tasks", "cgroup_stat", "host_memory")


def summarize(event: Dict[str, Any]) -> Dict[str, Any]:
    """The event with its long blocks null; every key stays."""
    brief = dict(event)
    brief.update((key, None) for key in DETAIL_KEYS)
    return brief


def newest(events: List[Dict[str, Any]], most: int) -> List[Dict[str, Any]]:
    """So many events, the newest that were traced first: a report of the log does not take the place of what was."""
    ranked = sorted(range(len(events)), key=lambda index: (events[index]["trace"] is not None, index))
    return [events[index] for index in sorted(ranked[-most:])]


def fit(events: List[Dict[str, Any]], coverage: Dict[str, Any], max_bytes: int) -> Dict[str, Any]:
    """``{'events', 'coverage'}`` whose JSON has at most ``max_bytes`` bytes.

    The oldest events (the first ones) are dropped; ``coverage`` then says so. The coverage itself is never cut.
    """
    coverage = dict(coverage)
    # Room for the three values that change below, at their longest.
    room = max_bytes - _size({"events": [], "coverage": coverage}) - 40
    kept = len(events)
    for index in range(len(events) - 1, -1, -1):
        room -= _size(events[index]) + 2
        if room < 0:
            kept = len(events) - 1 - index
            break
    if kept < len(events):
        coverage["truncated"] = True
    coverage["events_returned"] = kept
    return {"events": events[len(events) - kept :], "coverage": coverage}


def _size(value: Any) -> int:
    return len(json.dumps(value))
