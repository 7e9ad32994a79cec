# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a document has the shape that its schema says, as far as the controller relies on it. Private.

A document comes from a host that somebody may have taken over, and one host must not stop the report of a fleet.
"""

from __future__ import annotations

import re
from typing import Any

_ID = re.compile(r"[0-9a-f]{16}(?:-\d{1,9})?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

# A shape is a type (bool is no int), a pattern of text, [shape] for a list of it, {key: shape} for a dict that has at
# least these keys, or a tuple of alternatives; None stands for null.
_NUMBER, _TEXT, _MOMENT = (int, None), (str, None), (_TIME, None)
_USAGE = {"limit_bytes": _NUMBER}
_WORKLOAD = {
    **dict.fromkeys(
        (
            "kind",
            "engine",
            "id",
            "name",
            "image",
            "pod_uid",
            "pod_name",
            "namespace",
            "container_name",
            "unit",
            "slice",
        ),
        _TEXT,
    ),
    "compose_project": _TEXT,
    "compose_service": _TEXT,
    "labels": (dict, None),
    "name_source": _TEXT,
}
_SIZES = ("total_vm_bytes", "anon_rss_bytes", "file_rss_bytes", "shmem_rss_bytes")
_VICTIM = {**dict.fromkeys(_SIZES, _NUMBER), "pid": int, "comm": _TEXT, "reaped": (bool, None)}
_EVENT = {
    "id": _ID,
    "boot_id": _TEXT,
    "machine_id": _TEXT,
    "hostname": _TEXT,
    "kernel": _TEXT,
    "time": _MOMENT,
    "time_source": _TEXT,
    "time_error_seconds": (int, float, None),
    "monotonic_usec": _NUMBER,
    "scope": str,
    "outcome": str,
    "killer": str,
    "context": [{"source": str, "time": _MOMENT, "message": str}],
    "limit_level": _TEXT,
    "memory": _USAGE,
    "memory_swap": _USAGE,
    "kmem": _USAGE,
    "victims": [_VICTIM],
    "kill_lines": int,
    "group_kill": bool,
    "workload": _WORKLOAD,
    "limit_workload": _WORKLOAD,
    "page_size": _NUMBER,
    "completeness": {"complete": bool, "missing": [str], "gaps": int},
    "origins": [{"source": _TEXT, "path": _TEXT, "first": (str, int, None), "last": (str, int, None)}],
    "raw": _TEXT,
}
_COVERAGE = {
    "sources": [{"source": str, "path": _TEXT, "available": bool, "first_time": _MOMENT, "last_time": _MOMENT}],
    "boot_id": _TEXT,
    "kernel_counter": _NUMBER,
    "kills_parsed": _NUMBER,
    "kills_unlogged": _NUMBER,
    "journal_cursor": _TEXT,
    "truncated": bool,
    "events_total": int,
    "events_returned": int,
    "advice": [str],
}
_OF_CGROUPS = {
    **dict.fromkeys(("cgroups_total", "cgroups_returned", "vanished", "unreadable"), int),
    "error": _TEXT,
    "advice": [str],
}
_OF_ENGINE = {"engine": str, "error": _TEXT, "advice": _TEXT}
_SHARE = (int, float, None)
_SWAPPED = ({"max": _NUMBER}, None)
_CGROUP = {
    **dict.fromkeys(
        (
            "cgroup_version",
            "memory_current",
            "memory_peak",
            "memory_min",
            "memory_low",
            "memory_high",
            "memory_max",
            "memory_swap_max",
            "memory_effective_max",
            "process_count",
        ),
        _NUMBER,
    ),
    "path": str,
    "kind": str,
    "workload": _WORKLOAD,
    "memory_effective_max_path": _TEXT,
    "utilisation": _SHARE,
    "peak_utilisation": _SHARE,
    "memsw": _SWAPPED,
    "events": (dict, None),
    "oom_group": (bool, None),
    "oom_kill_disable": (bool, None),
    "under_oom": (bool, None),
}
_NAME = {
    **dict.fromkeys(
        (
            "engine",
            "id",
            "name",
            "image",
            "compose_project",
            "compose_service",
            "pod_uid",
            "pod_name",
            "namespace",
            "container_name",
            "name_source",
        ),
        _TEXT,
    ),
    "key": str,
    "uid": _NUMBER,
    "labels": (dict, None),
    "last_seen": _TIME,
}
_PROCESS = {"name": str, "pid": int, "unit": _TEXT, "oom_score_adj": _NUMBER}
_HOST = {
    **dict.fromkeys(
        (
            "memory_total_bytes",
            "memory_available_bytes",
            "swap_total_bytes",
            "swap_free_bytes",
            "commit_limit_bytes",
            "committed_bytes",
        ),
        _NUMBER,
    ),
    "machine_id": _TEXT,
    "kernel": _TEXT,
    "sysctls": (dict, None),
    "userspace_oom_killers": ([str], None),
    "critical_processes": ([_PROCESS], None),
}
DOCUMENT = {
    "status": re.compile("ok|unreachable|failed"),
    "error": _TEXT,
    "collected_at": _MOMENT,
    "host": _HOST,
    "coverage": ({**_COVERAGE, "cgroups": (_OF_CGROUPS, None), "engines": [_OF_ENGINE]}, None),
    "events": [_EVENT],
    "cgroups": ([_CGROUP], None),
    "names": [_NAME],
}


def wrong(value: Any, shape: Any = None, where: str = "") -> str | None:
    """Where ``value`` differs from the shape of a document, such as ``events[3].time``; None if it does not."""
    shape = DOCUMENT if shape is None and not where else shape
    if isinstance(shape, tuple):
        return _none_of(value, shape, where)
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return where or "the whole"
        found = (wrong(value.get(key, wrong), part, f"{where}.{key}".lstrip(".")) for key, part in shape.items())
        return next(filter(None, found), None)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return where
        found = (wrong(item, shape[0], f"{where}[{index}]") for index, item in enumerate(value))
        return next(filter(None, found), None)
    return None if _is(value, shape) else where


def _none_of(value: Any, shapes: tuple[Any, ...], where: str) -> str | None:
    places = [wrong(value, shape, where) for shape in shapes]
    return None if None in places else places[0]


def _is(value: Any, shape: Any) -> bool:
    if shape is None:
        return value is None
    if isinstance(shape, re.Pattern):
        return isinstance(value, str) and shape.fullmatch(value) is not None
    return isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
