# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one line of an OOM report says. Private to this collection.

Each function takes the text of one record (embedded newlines allowed) and returns a named tuple, or
None where the text is something else. Shapes are those of mm/oom_kill.c, mm/memcontrol.c and
lib/dump_stack.c from 2.6.32 to 7.3; a shape is recognised whatever the kernel's version.

Process names may hold any byte but NUL, so the numbers behind a name anchor it, from the right.
"""

import functools
import itertools
import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Pattern, Tuple

from .patterns import lazy

_LONGEST = 8192  # a record is at most 1024 bytes; a few joined ones stay below this
_UNLIMITED_KB = 2**52  # PAGE_COUNTER_MAX and RESOURCE_MAX, in kB, are above this


class Trigger(NamedTuple):
    comm: str
    gfp_mask: Optional[str]
    gfp_flags: Optional[str]
    nodemask: Optional[str]
    order: Optional[int]
    oom_score_adj: Optional[int]


class Stack(NamedTuple):
    comm: str
    pid: Optional[int]
    uid: Optional[int]
    kernel: Optional[str]


class Summary(NamedTuple):
    constraint: str
    nodemask: Optional[str]
    cpuset: Optional[str]
    mems_allowed: Optional[str]
    global_oom: bool
    oom_memcg: Optional[str]
    task_memcg: Optional[str]
    comm: Optional[str]
    pid: Optional[int]
    uid: Optional[int]


class Selection(NamedTuple):
    reason: Optional[str]
    pid: int
    comm: str
    score: int


class Kill(NamedTuple):
    reason: Optional[str]
    pid: int
    comm: str
    uid: Optional[int]
    total_vm_kb: Optional[int]
    anon_rss_kb: Optional[int]
    file_rss_kb: Optional[int]
    shmem_rss_kb: Optional[int]
    pgtables_kb: Optional[int]
    oom_score_adj: Optional[int]
    whole: bool  # ends as a kill line ends


_NO_KILL = Kill(None, 0, "", None, None, None, None, None, None, None, False)

_TRIGGER = lazy(
    r"(.*?) ?invoked\s+oom-killer:\s*(?:gfp_mask=(0x[0-9a-f]+|0)?(?:\(([^)\n]*)\))?)?"
    r"(?:,\s*nodemask=([\d,-]+?|\(null\)))?(?:,\s*order=(-?\d+))?(?:,\s*oom_adj=-?\d+)?"
    r"(?:,\s*oom_score_adj=(-?\d+))?",
    re.S,
)


def trigger(text: str) -> Optional[Trigger]:
    """`X invoked oom-killer: …` (dump_header, all versions). The task is the allocating one, not the victim."""
    match = _TRIGGER.match(text[:_LONGEST])
    if not match:
        return None
    comm, mask, flags, nodes, order, adj = match.groups()
    return Trigger(comm, mask, flags, nodes, _number(order), _number(adj))


_STACK = lazy(
    r"(?:.*?\b)??(?:CPU: \d+ (?:UID: (\d+) )?PID: (\d+) Comm: |Pid: (\d+), comm: )(.*)",
    re.S,
)
_STACK_END = lazy(r"\s(?:Kdump: loaded |Not\s+tainted|Tainted: )")
_KERNEL = lazy(r"\s(\d+\.\d+[^\s#]*)")


def stack(text: str) -> Optional[Stack]:
    """`CPU: … PID: … Comm: …` (dump_stack_print_info, lib/dump_stack.c): the allocating task again."""
    match = _STACK.match(text[:_LONGEST])
    if not match:
        return None
    uid, pid, old_pid, rest = match.groups()
    end = _STACK_END.search(rest[:512])
    comm = rest[: end.start()] if end else rest.split("\n")[0][:15].rstrip()
    kernel = _KERNEL.search(rest, end.end() if end else 0)
    return Stack(comm, _number(pid or old_pid), _number(uid), kernel and kernel.group(1))


_USAGE = lazy(r"(memory|memory\+swap|swap|kmem): usage (\d+)kB, limit (\d+)kB, failcnt (\d+)")


def usage(text: str) -> Optional[Tuple[str, int, Optional[int], int]]:
    """`memory: usage …, limit …, failcnt …`: name, usage in bytes, limit in bytes (None: none), failcnt."""
    match = _USAGE.match(text)
    if not match:
        return None
    name, used, limit, failcnt = match.groups()
    return name, int(used[:18]) * 1024, _limit(int(limit[:20])), int(failcnt[:20])


def _limit(kilobytes: int) -> Optional[int]:
    return None if kilobytes >= _UNLIMITED_KB else kilobytes * 1024


_TASK_IN = lazy(r"Task in (?P<task>/.*) killed as a result of limit of (?P<limit>/.*)", re.S)
_TASK_IN_PART = lazy(r"Task in (?P<task>/\S*) killed$")


def task_in(text: str) -> Optional[Tuple[Optional[str], Optional[str]]]:
    """`Task in A killed as a result of limit of B` (mem_cgroup_print_oom_info, up to 4.19): A and B."""
    match = _TASK_IN.match(text[:_LONGEST])
    if match:
        return match.group("task"), match.group("limit").rstrip()
    part = _TASK_IN_PART.match(text[:_LONGEST])
    return (part.group("task"), None) if part else None


def stats_of(text: str) -> Optional[Tuple[str, str]]:
    """`Memory cgroup stats for P:` with or without the values behind it: P and the rest."""
    head = "Memory cgroup stats for "
    if not text.startswith(head):
        return None
    first, newline, rest = text[len(head) :].partition("\n")
    match = re.match(r"(.*?): ?((?:\S+:\d+KB ?)*)$", first, re.S)
    if not match:
        return first.rstrip(": "), rest
    return match.group(1), match.group(2) + newline + rest


_NEW_STAT = lazy(r"^(\w+) (\d{1,20})$", re.M)
_OLD_STAT = lazy(r"(\w+):(\d+)KB")


def stats(text: str, into: Dict[str, int]) -> None:
    """Add `key value` lines (5.3+) or `key:NKB` words (up to 5.2; summed over the subtree, in bytes) to a dict."""
    if "KB" in text:
        for key, value in _OLD_STAT.findall(text):
            into[key] = into.get(key, 0) + int(value[:18]) * 1024
        return
    into.update({key: int(value) for key, value in _NEW_STAT.findall(text)})


Columns = Tuple[str, ...]
# Columns of the task table by their header names: key, and how many bytes a unit has (None: count; 0: pages).
_COLUMNS: Dict[str, Tuple[str, Optional[int]]] = {
    "uid": ("uid", None),
    "tgid": ("tgid", None),
    "total_vm": ("total_vm_bytes", 0),
    "rss": ("rss_bytes", 0),
    "rss_anon": ("rss_anon_bytes", 0),
    "rss_file": ("rss_file_bytes", 0),
    "rss_shmem": ("rss_shmem_bytes", 0),
    "nr_ptes": ("pgtables_bytes", 0),
    "nr_pmds": ("pgtables_bytes", 0),
    "pgtables_bytes": ("pgtables_bytes", 1),
    "swapents": ("swap_bytes", 0),
    "cpu": ("cpu", None),
    "oom_adj": ("oom_adj", None),
    "oom_score_adj": ("oom_score_adj", None),
}
TASK_KEYS = [
    "pid",
    "uid",
    "tgid",
    "name",
    "total_vm_bytes",
    "rss_bytes",
    "rss_anon_bytes",
    "rss_file_bytes",
    "rss_shmem_bytes",
    "pgtables_bytes",
    "swap_bytes",
    "oom_score_adj",
]
_TABLE_HEADER = lazy(r"\[ *pid *\]((?:\s+\w+)+?)\s+name\s*$")


def table_header(text: str) -> Optional[Columns]:
    """`[  pid  ]   uid  tgid total_vm … name`: the column names between pid and name."""
    return _table_header(text[:512])


@functools.lru_cache(maxsize=16)
def _table_header(text: str) -> Optional[Columns]:
    match = _TABLE_HEADER.match(text)
    return tuple(match.group(1).split()) if match else None


class _Layout(NamedTuple):
    """How to read the rows of a table with such columns."""

    row: Pattern[str]
    keys: List[str]
    sources: List[List[Tuple[int, Optional[int]]]]  # of each key but the name: places in a row, and what a unit is
    rss: Optional[int]


@functools.lru_cache(maxsize=16)
def _layout(columns: Columns) -> _Layout:
    sources: Dict[str, List[Tuple[int, Optional[int]]]] = {key: [] for key in TASK_KEYS if key != "name"}
    sources["pid"].append((0, None))
    for place, column in enumerate(columns, 1):
        key, unit = _COLUMNS.get(column, ("", None))
        if key in sources or key == "oom_adj":
            sources.setdefault(key, []).append((place, unit))
    return _Layout(
        re.compile(r"\[ *(\d{1,20})\]" + r"\s+(-?\d{1,20})" * len(columns) + r"\s(.*)", re.S),
        list(sources) + ["name"],
        list(sources.values()),
        columns.index("rss") + 1 if "rss" in columns else None,
    )


def table(
    columns: Columns, rows: List[str], page_size: Optional[int], most: Optional[int]
) -> Tuple[List[Dict[str, object]], int]:
    """The task table: rows in bytes, largest resident set first, at most ``most``; and their number.

    Sizes in pages become None where the page size is unknown. Columns that no kernel here prints are left out.
    """
    layout = _layout(columns)
    found = [match.groups() for match in map(layout.row.match, rows) if match]
    total, rss = len(found), layout.rss
    if most is not None and total > most and rss is not None:
        found = sorted(found, key=lambda row: -int(row[rss]))[:most]
    if not found:
        return [], total
    cells = list(zip(*found))
    values = [_values(cells, sources, page_size) for sources in layout.sources]
    tasks: List[Dict[str, object]] = [dict(zip(layout.keys, each)) for each in zip(*values, cells[-1])]
    tasks.sort(key=_resident, reverse=True)
    return tasks, total


def _values(
    cells: List[Tuple[str, ...]], sources: List[Tuple[int, Optional[int]]], page_size: Optional[int]
) -> Iterable[Optional[int]]:
    """One key of every task: the sum of its columns."""
    if not sources:
        return itertools.repeat(None)
    return functools.reduce(_sum, [_column(cells[place], unit, page_size) for place, unit in sources])


def _column(cells: Tuple[str, ...], unit: Optional[int], page_size: Optional[int]) -> List[Optional[int]]:
    if unit is None or unit == 1:
        return list(map(int, cells))
    if not page_size:
        return [None] * len(cells)
    return [int(cell) * page_size for cell in cells]


def _sum(left: List[Optional[int]], right: List[Optional[int]]) -> List[Optional[int]]:
    return [None if one is None or two is None else one + two for one, two in zip(left, right)]


def _resident(task: Dict[str, object]) -> int:
    rss = task["rss_bytes"]
    return rss if isinstance(rss, int) else 0


_SUMMARY_TAIL = lazy(r",pid=\s*(\d+)(?:,\s*uid=?\s*(-?\d+)?)?\s*$")


def summary(text: str, victim: Optional[str] = None) -> Optional[Summary]:
    """`oom-kill:constraint=…` (dump_oom_summary, 5.0+ and el8.3).

    Commas, `=` and whole keys may stand in names, so the keys are sought from the right. ``victim`` is the
    name that the kill line gives, which settles what a path or a name ending like a key leaves open.
    """
    head = "oom-kill:constraint="
    begin = text.find(head)
    if begin < 0:
        return None
    body = text[begin + len(head) :][:_LONGEST]
    constraint, _comma, rest = body.partition(",")
    tail = _SUMMARY_TAIL.search(rest)
    comm = pid = uid = None
    if tail:
        pid, uid = int(tail.group(1)[:18]), _number(tail.group(2))
        rest = rest[: tail.start()]
        known = ",task=" + victim if victim is not None else None
        if known and rest.endswith(known):
            comm, rest = victim, rest[: -len(known)]
        else:
            rest, found, comm = rest.rpartition(",task=")
            if not found:
                rest, comm = comm, None
    rest, task_found, task_memcg = _cut(rest, ",task_memcg=")
    memcg_at = rest.find(",oom_memcg=")
    oom_memcg = rest[memcg_at + 11 :] if memcg_at >= 0 else None
    global_oom = memcg_at < 0 and ",global_oom" in rest
    rest = rest[:memcg_at] if memcg_at >= 0 else rest.replace(",global_oom", "", 1)
    rest, mems_found, mems = _cut(rest, ",mems_allowed=")
    rest, cpuset_found, cpuset = _cut(rest, ",cpuset=")
    nodemask = rest[len("nodemask=") :] if rest.startswith("nodemask=") else None
    return Summary(
        constraint.strip(),
        None if nodemask in (None, "(null)") else nodemask,
        cpuset if cpuset_found else None,
        mems if mems_found else None,
        global_oom,
        oom_memcg,
        task_memcg if task_found else None,
        comm,
        pid,
        uid,
    )


def _cut(text: str, key: str) -> Tuple[str, bool, str]:
    before, found, after = text.rpartition(key)
    return (before, True, after) if found else (after, False, "")


_SELECTION = lazy(
    r"(?:(?P<reason>[^:\n]{1,80}): )?[Kk]ill process (?P<pid>\d+) \((?P<comm>.*)\) score (?P<score>\d+) "
    r"or (?:sacrifice|a) ?child",
    re.S,
)
_SHARING = lazy(r"Kill process (\d+) \((.*)\) sharing same memory", re.S)


def selection(text: str) -> Optional[Selection]:
    """`…: Kill process N (c) score S or sacrifice child` (up to 5.0): the chosen process, maybe not the killed one."""
    match = _SELECTION.search(text[:_LONGEST])
    if not match:
        return None
    return Selection(
        match.group("reason"), int(match.group("pid")[:18]), match.group("comm"), int(match.group("score")[:18])
    )


def sharing(text: str) -> Optional[Tuple[int, str]]:
    """`Kill process N (c) sharing same memory` (el6 to 3.16): killed with the victim, without a kill line."""
    match = _SHARING.match(text[:_LONGEST])
    return (int(match.group(1)[:18]), match.group(2)) if match else None


_SIZES = (
    r"(?:,?\s*(?:total-vm|vsz)\s*:\s*(?P<vm>\d+)\s*k\s*B,\s*anon-rss\s*:\s*(?P<anon>\d+)\s*k\s*B"
    r"(?:,\s*file-rss\s*:\s*(?P<file>\d+)\s*k\s*B(?:,\s*shmem-rss\s*:\s*(?P<shmem>\d+)\s*k\s*B)?)?)"
)
_KILL_HEAD = lazy(
    r"(?P<junk>(?:.*?[\]:;>|,] ?)??)(?:(?P<reason>Memory cgroup out of memory|Out of memory(?: \([^)\n]*\))?): *)?"
    r"Killed process\s+(?P<pid>\d+)(?:, UID (?P<uid6>\d+),)?\s+\(",
    re.S,
)
_KILL_TAIL = lazy(
    r"\)(?:, UID (?P<uid7>\d+))?" + _SIZES + r"(?:,?\s*UID\s*:\s*(?P<uid>\d+))?"
    r"(?:\s*pgtables\s*:\s*(?P<pgt>\d+)\s*kB)?(?:\s*oom_score_adj\s*:\s*(?P<adj>-?\d+))?"
)
_KILL_REGULAR = lazy(  # 3.2 to 7.3; a name of 15 bytes has no room for what follows one, so this is no other line
    r"(?:(Memory cgroup out of memory|Out of memory): )?Killed process (\d{1,18}) \((.{0,15})\) total-vm:(\d{1,18})kB, "
    r"anon-rss:(\d{1,18})kB, file-rss:(\d{1,18})kB(?:, shmem-rss:(\d{1,18})kB)?(?:, UID:(\d{1,18}))?"
    r"(?: pgtables:(\d{1,18})kB)?(?: oom_score_adj:(-?\d{1,17}))?\s*",
    re.S,
)
_KILL_CUT = lazy(r"(?:(Memory cgroup out of memory|Out of memory(?: \([^)\n]*\))?): )?Killed process (\d+)\s*$")
_KILL_BARE = lazy(r"(?P<comm>[^\n]{0,64})\)(?P<rest>[^\n]*)")


def kill(text: str) -> Optional[Kill]:
    """`…Killed process N (c) …` (K1 to K9, all versions). ``whole`` is false where the line is cut."""
    regular = _KILL_REGULAR.fullmatch(text)
    if regular:
        reason, pid, comm, *numbers = regular.groups()
        sizes = [None if number is None else int(number) for number in numbers]
        return Kill(reason, int(pid), comm, sizes[4], sizes[0], sizes[1], sizes[2], sizes[3], sizes[5], sizes[6], True)
    text = text[:_LONGEST]
    head = _KILL_HEAD.match(text)
    if not head:
        cut = _KILL_CUT.match(text)
        return _NO_KILL._replace(reason=cut.group(1), pid=int(cut.group(2)[:18])) if cut else None
    junk = head.group("junk")
    reason = head.group("reason") or (junk.rstrip(": ") if junk.endswith(": ") and "\n" not in junk else None)
    start, tails = head.end(), list(_KILL_TAIL.finditer(text, head.end()))
    # A name has at most 15 bytes: of several tails the last that such a name can reach is the kernel's own.
    reachable = [tail for tail in tails if tail.start() - start <= 64]
    if not reachable:
        bare = _KILL_BARE.match(text, start)
        comm = bare.group("comm") if bare else text[start : start + 64].split("\n")[0]
        whole = bool(bare and not bare.group("rest").strip())
        pid, uid = int(head.group("pid")[:18]), _number(head.group("uid6"))
        return _NO_KILL._replace(reason=reason, pid=pid, comm=comm, uid=uid, whole=whole)
    tail = reachable[-1]
    rest = text[tail.end() :].strip()
    return Kill(
        reason,
        int(head.group("pid")[:18]),
        text[start : tail.start()],
        _number(head.group("uid6") or tail.group("uid7") or tail.group("uid")),
        _number(tail.group("vm")),
        _number(tail.group("anon")),
        _number(tail.group("file")),
        _number(tail.group("shmem")),
        _number(tail.group("pgt")),
        _number(tail.group("adj")),
        not rest,
    )


_REAPED = lazy(r"oom_reaper: reaped process (\d+) \(|oom_reaper: unable to reap pid:(\d+) ")


def reaped(text: str) -> Optional[Tuple[int, bool]]:
    """`oom_reaper: …`: pid and whether its memory was reaped."""
    match = _REAPED.match(text)
    if not match:
        return None
    return int((match.group(1) or match.group(2))[:18]), match.group(1) is not None


_SUPPRESSED = lazy(r"(?:oom_kill_process|dump_header|__ratelimit|out_of_memory): (\d+) callbacks suppressed")


def suppressed(text: str) -> int:
    """`oom_kill_process: N callbacks suppressed`: reports that the rate limit left out before this one, else 0."""
    match = _SUPPRESSED.match(text)
    return int(match.group(1)[:9]) if match else 0


_PANIC = lazy(
    r"Kernel panic - not syncing: (?:out of memory.*panic_on_oom|Out of memory|System is deadlocked on memory)", re.I
)


def panic(text: str) -> bool:
    """`Kernel panic - not syncing: …` with one of the texts of out_of_memory() and check_panic_on_oom()."""
    return bool(_PANIC.match(text))


def _number(text: Optional[str]) -> Optional[int]:
    return int(text[:18]) if text else None
