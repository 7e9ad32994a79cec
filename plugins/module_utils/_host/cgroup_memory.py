# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the files of one cgroup say: contents in, one schema out, for both cgroup versions. Private. Pure.

The tables below are the whole knowledge of which kernel file is which key. A kernel that lacks a file needs no row
of its own: the key is null there.
"""

import functools
import re
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

# Keys of a cgroup, in the order in which they are shown.
KEYS = (
    "path",
    "depth",
    "kind",
    "workload",
    "cgroup_version",
    "memory_current",
    "memory_peak",
    "memory_min",
    "memory_low",
    "memory_high",
    "memory_max",
    "memory_effective_max",
    "memory_effective_max_path",
    "utilisation",
    "peak_utilisation",
    "memory_swap_current",
    "memory_swap_peak",
    "memory_swap_high",
    "memory_swap_max",
    "memory_zswap_current",
    "memory_zswap_max",
    "memory_zswap_writeback",
    "oom_group",
    "events",
    "events_local",
    "swap_events",
    "pressure",
    "stat",
    "process_count",
    "soft_limit",
    "memsw",
    "kmem",
    "failcnt",
    "oom_kill_disable",
    "under_oom",
    "swappiness",
    "hugetlb",
    "pids_current",
    "pids_max",
)

# By version: the file that every cgroup with the memory controller has, but on v2 the root; its limit; who it is.
USAGE = {1: "memory.usage_in_bytes", 2: "memory.current"}
LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}
HIERARCHY = "memory.use_hierarchy"
CONTROL = "cgroup.subtree_control"
# What the cgroups below need to know of one.
INHERITED = {1: frozenset((LIMIT[1], HIERARCHY)), 2: frozenset((LIMIT[2], CONTROL))}
STAT = "memory.stat"
PRESSURE = "memory.pressure"
PROCESSES = "cgroup.procs"
SWAP = {1: "memory.memsw.limit_in_bytes", 2: "memory.swap.max"}

# Keys that the kernel has had longest; `oom_group_kill` came with 5.17, and more may come.
_EVENTS = ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")
_SWAP_EVENTS = ("high", "max", "fail")

# v1 prints LONG_MAX rounded down to a page (PAGE_COUNTER_MAX), for hugetlb to a huge page. The engines' update has no
# word for no limit: a policy gives it half of that for memory and half for swap. No machine has 2 EiB.
UNLIMITED = 2**61
_UNLIMITED_32_BIT = (2**31 - 1) * 4096
_LONGEST_NUMBER = 20
_KEY = re.compile(rb"[a-z][a-z0-9_]{0,63}")


def number(data: bytes) -> Optional[int]:
    """A file that is one number; None for anything else, `max` among it."""
    text = data.strip()
    return int(text) if len(text) <= _LONGEST_NUMBER and text.isdigit() else None


def limit(data: bytes) -> Optional[int]:
    """A limit in bytes; None where there is none: `max`, or the largest number that v1 can hold."""
    value = number(data)
    return None if value is None or value >= UNLIMITED or value == _UNLIMITED_32_BIT else value


_SWITCH: Mapping[Optional[int], bool] = {0: False, 1: True}


def _flag(data: bytes) -> Optional[bool]:
    return _SWITCH.get(number(data))


def _pairs(data: bytes) -> Dict[bytes, bytes]:
    """The words of a file of `key value` lines."""
    words = data.split()
    return dict(zip(words[::2], words[1::2]))


def counted(data: bytes, key: str) -> Optional[int]:
    """One number of a file of `key value` lines; None where it is not there."""
    return number(_pairs(data).get(key.encode("ascii"), b""))


def _counts(keys: Sequence[str]) -> Callable[[bytes], Dict[str, Optional[int]]]:
    """A parser of counters that always has ``keys``, and whatever else the kernel counts."""

    def parse(data: bytes) -> Dict[str, Optional[int]]:
        found: Dict[str, Optional[int]] = dict.fromkeys(keys)
        found.update((key.decode("ascii"), number(value)) for key, value in _pairs(data).items() if _KEY.fullmatch(key))
        return found

    return parse


def _oom_control(key: str) -> Callable[[bytes], Optional[bool]]:
    """A parser of one switch of v1's memory.oom_control."""

    def parse(data: bytes) -> Optional[bool]:
        return _SWITCH.get(counted(data, key))

    return parse


def _v1_kills(data: bytes) -> Dict[str, Optional[int]]:
    """v1 counts kills only, since 4.15, and of this cgroup's own processes (5.2, 5.3: and of those below it)."""
    return dict(dict.fromkeys(_EVENTS), oom_kill=counted(data, "oom_kill"))


_PRESSURE = re.compile(rb"avg10=(\d+\.\d+) avg60=(\d+\.\d+) avg300=(\d+\.\d+) total=(\d{1,20})")


def _pressure(data: bytes) -> Dict[str, Optional[Dict[str, Any]]]:
    """Stall time: percent of the last 10, 60 and 300 seconds, and microseconds since the cgroup was made."""
    found: Dict[str, Optional[Dict[str, Any]]] = {"some": None, "full": None}
    for line in data.splitlines():
        who, _blank, rest = line.partition(b" ")
        numbers = _PRESSURE.fullmatch(rest)
        if numbers and who in (b"some", b"full"):
            averages = zip(("avg10", "avg60", "avg300"), map(float, numbers.groups()[:3]))
            found[who.decode("ascii")] = dict(averages, total_usec=int(numbers.group(4)))
    return found


def _lines(data: bytes) -> int:
    return len(data.split())


class _Row(NamedTuple):
    key: str
    file: str
    parse: Callable[[bytes], Any]


_ROWS: Dict[int, Tuple[_Row, ...]] = {
    1: (
        _Row("memory_current", "memory.usage_in_bytes", number),
        _Row("memory_peak", "memory.max_usage_in_bytes", number),
        _Row("memory_max", "memory.limit_in_bytes", limit),
        _Row("soft_limit", "memory.soft_limit_in_bytes", limit),
        _Row("failcnt", "memory.failcnt", number),
        _Row("events", "memory.oom_control", _v1_kills),
        _Row("events_local", "memory.oom_control", _v1_kills),
        _Row("oom_kill_disable", "memory.oom_control", _oom_control("oom_kill_disable")),
        _Row("under_oom", "memory.oom_control", _oom_control("under_oom")),
        _Row("swappiness", "memory.swappiness", number),
    ),
    2: (
        _Row("memory_current", "memory.current", number),
        _Row("memory_peak", "memory.peak", number),
        _Row("memory_min", "memory.min", limit),
        _Row("memory_low", "memory.low", limit),
        _Row("memory_high", "memory.high", limit),
        _Row("memory_max", "memory.max", limit),
        _Row("memory_swap_current", "memory.swap.current", number),
        _Row("memory_swap_peak", "memory.swap.peak", number),
        _Row("memory_swap_high", "memory.swap.high", limit),
        _Row("memory_swap_max", "memory.swap.max", limit),
        _Row("memory_zswap_current", "memory.zswap.current", number),
        _Row("memory_zswap_max", "memory.zswap.max", limit),
        _Row("memory_zswap_writeback", "memory.zswap.writeback", _flag),
        _Row("oom_group", "memory.oom.group", _flag),
        _Row("events", "memory.events", _counts(_EVENTS)),
        _Row("events_local", "memory.events.local", _counts(_EVENTS)),
        _Row("swap_events", "memory.swap.events", _counts(_SWAP_EVENTS)),
    ),
}
# Of either version: on a hybrid host these may come from the other hierarchy.
_ANYWHERE = (
    _Row("pids_current", "pids.current", number),
    _Row("pids_max", "pids.max", limit),
    _Row("pressure", PRESSURE, _pressure),
)
# Only of the hierarchy that the memory controller is in: a process may be elsewhere in another.
_OWN = (_Row("process_count", PROCESSES, _lines),)


def _counter_rows(name: str) -> Tuple[_Row, ...]:
    """The four files of a v1 page counter."""
    return (
        _Row("current", "memory.{0}.usage_in_bytes".format(name), number),
        _Row("peak", "memory.{0}.max_usage_in_bytes".format(name), number),
        _Row("max", "memory.{0}.limit_in_bytes".format(name), limit),
        _Row("failcnt", "memory.{0}.failcnt".format(name), number),
    )


# Keys whose value is a dict of several files; null where none of them is there.
_BLOCKS: Dict[int, Dict[str, Tuple[_Row, ...]]] = {
    1: {"memsw": _counter_rows("memsw"), "kmem": _counter_rows("kmem")},
    2: {},
}


def files(version: int) -> FrozenSet[str]:
    """The files of the memory controller that the schema knows, of every kernel; without memory.stat."""
    rows = _ROWS[version] + tuple(row for block in _BLOCKS[version].values() for row in block)
    return frozenset(row.file for row in rows)


def beside(with_pressure: bool) -> FrozenSet[str]:
    """The files that may lie in another hierarchy than the memory controller's; without hugetlb."""
    return frozenset(row.file for row in _ANYWHERE if with_pressure or row.file != PRESSURE)


def wanted(version: int, with_stat: Sequence[str], with_pressure: bool) -> FrozenSet[str]:
    """The files to read in the memory controller's hierarchy; without hugetlb."""
    more = {PROCESSES, STAT} if with_stat else {PROCESSES}
    return files(version) | INHERITED[version] | beside(with_pressure) | more


_HUGETLB = re.compile(r"hugetlb\.([0-9]{1,12})([KMG])B\.(current|max|usage_in_bytes|limit_in_bytes)")
_UNIT_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_HUGETLB_ROWS = {
    "current": ("current", number),
    "max": ("max", limit),
    "usage_in_bytes": ("current", number),
    "limit_in_bytes": ("max", limit),
}


@functools.lru_cache(maxsize=1024)
def hugetlb_file(name: str) -> Optional[Tuple[int, str]]:
    """Page size in bytes and kind of value of a hugetlb file that the schema knows (mm/hugetlb_cgroup.c: mem_fmt)."""
    match = _HUGETLB.fullmatch(name)
    return (int(match.group(1)) * _UNIT_BYTES[match.group(2)], match.group(3)) if match else None


def _hugetlb(raw: Mapping[str, bytes]) -> List[Dict[str, Optional[int]]]:
    """One row per size of huge pages, the smallest first."""
    found: Dict[int, Dict[str, Optional[int]]] = {}
    for name, data in raw.items():
        known = hugetlb_file(name) if name.startswith("hugetlb.") else None
        if known:
            row = found.setdefault(known[0], {"page_size": known[0], "current": None, "max": None})
            key, parse = _HUGETLB_ROWS[known[1]]
            row[key] = parse(data)
    return [found[size] for size in sorted(found)]


# v2's words for what v1 counts under others. v1's total_ ones, because v2 always counts what is below a cgroup too.
_V1_STAT = {
    "anon": "total_rss",
    "anon_thp": "total_rss_huge",
    "file": "total_cache",
    "file_dirty": "total_dirty",
    "file_mapped": "total_mapped_file",
    "file_writeback": "total_writeback",
}


def _stat(version: int, data: bytes, keys: Iterable[str]) -> Dict[str, Optional[int]]:
    """The chosen keys of memory.stat; null for those that this kernel lacks."""
    found = _pairs(data)
    if version == 2:
        return {key: number(found.get(key.encode(), b"")) for key in keys}
    return {
        key: number(found.get(_V1_STAT.get(key, "total_" + key).encode(), found.get(key.encode(), b""))) for key in keys
    }


def hidden_limit(data: bytes) -> Optional[int]:
    """The smallest limit of a v1 cgroup and its ancestors, from its memory.stat, in or out of sight."""
    return limit(_pairs(data).get(b"hierarchical_memory_limit", b""))


class Effective(NamedTuple):
    """The smallest limit of a cgroup and its ancestors in bytes, and whose it is; None where there is none."""

    limit: Optional[int] = None
    path: Optional[str] = None


def effective(path: str, own: Optional[int], inherited: Effective) -> Effective:
    """The limit that binds first; of two equal ones the cgroup's own."""
    if own is None or (inherited.limit is not None and inherited.limit < own):
        return inherited
    return Effective(own, path)


def handed_down(raw: Mapping[str, bytes], own: Effective) -> Effective:
    """What a cgroup's children inherit: nothing where v1's use_hierarchy is 0 (before 5.11).

    mm/memcontrol.c, mem_cgroup_css_alloc: the child's page counter then has no parent.
    """
    return Effective() if raw.get(HIERARCHY, b"1").strip() == b"0" else own


def controls_children(version: int, raw: Mapping[str, bytes]) -> bool:
    """Whether the cgroups below have the memory controller; False also where that is not known."""
    return version == 1 or b"memory" in raw.get(CONTROL, b"").split()


def _ratio(amount: Optional[int], whole: Optional[int]) -> Optional[float]:
    return round(amount / float(whole), 4) if amount is not None and whole else None


def describe(
    version: int,
    raw: Mapping[str, bytes],
    bound: Effective = Effective(),  # noqa: B008 - a NamedTuple never changes
    with_stat: Sequence[str] = (),
) -> Dict[str, Any]:
    """A cgroup from the contents of its files; the caller says who it is (``path depth kind workload``).

    :arg raw: file name -> content, of all hierarchies; a file that is missing or unreadable is left out.
    :arg bound: the effective limit.
    :arg with_stat: keys of memory.stat to return, in v2's words or the kernel's own; none: ``stat`` is null.
    :returns: a dict with every key of ``KEYS``. Never raises, whatever the files hold.
    """
    found: Dict[str, Any] = dict.fromkeys(KEYS)
    found["cgroup_version"] = version
    for key, file, parse in _ROWS[version] + _ANYWHERE + _OWN:
        data = raw.get(file)
        if data is not None:
            found[key] = parse(data)
    for block, rows in _BLOCKS[version].items():
        if any(row.file in raw for row in rows):
            found[block] = {row.key: row.parse(raw[row.file]) if row.file in raw else None for row in rows}
    if with_stat:
        found["stat"] = _stat(version, raw.get(STAT, b""), with_stat)
    found["hugetlb"] = _hugetlb(raw)
    found["memory_effective_max"], found["memory_effective_max_path"] = bound
    found["utilisation"] = _ratio(found["memory_current"], bound.limit)
    found["peak_utilisation"] = _ratio(found["memory_peak"], bound.limit)
    return found
