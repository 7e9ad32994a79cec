# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the collected lines of one report to an event. Private to this collection.

Every number in an event comes from a line of the report. What no line says is None.
"""

import hashlib
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from . import lines, meminfo, workload
from .rows import Where, place, stamp
from .times import Context, iso, when

SCHEMA = "oom.forensics/event/1"


class Report:
    """The lines of one report while they come in, and what its key lines say."""

    def __init__(self, first: Where) -> None:
        self.first = self.last = first
        self.checked = first  # the last key line before the report's end, and how many rows behind the first it stands
        self.begin = self.rows = 0
        self.texts: List[str] = []
        self.size = 0
        self.since_key = 0  # lines since the last one that only a report has
        self.key = False  # has a line that only an OOM report has
        self.truncated = False
        self.suppressed = 0
        self.trigger: Optional[lines.Trigger] = None
        self.summary: Optional[str] = None  # its text: parsed when the victim's name is known
        self.selection: Optional[lines.Selection] = None
        self.kills: List[Tuple[lines.Kill, Where]] = []
        self.sharing: List[Tuple[int, str]] = []
        self.reaped: Dict[int, bool] = {}
        self.group: Optional[str] = None
        self.outcome: Optional[str] = None


# What a line is, by its first four characters.
_HEADS = {
    "memo": "usage",
    "swap": "usage",
    "kmem": "usage",
    "Memo": "stats",
    "[ pi": "table",
    "[  p": "table",
    "Task": "task",
    "Code": "code",
}
# Registers that only x86 has, where a page has 4096 bytes.
_X86 = ("RIP:", "RSP:", "RAX:", "RDX:", "RBP:", "R10:", "R13:", "EIP:", "EAX:", "ESI:", "ORIG")
_HEADS.update(dict.fromkeys(_X86, "x86"))


class _Sections(NamedTuple):
    stack: Optional[lines.Stack]
    cpuset: Optional[str]
    mems_allowed: Optional[str]
    task_in: Tuple[Optional[str], Optional[str]]
    usage: Dict[str, Tuple[int, Optional[int], int]]
    stats_of: Optional[str]
    stats: Dict[str, int]
    columns: Optional[lines.Columns]
    rows: List[str]
    x86: bool


def event(report: Report, context: Context) -> Dict[str, Any]:
    """Build the event of a report (schema ``oom.forensics/event/1``)."""
    texts = report.texts
    # Without their outer blanks, which pasting and some transports change.
    stripped = "\n".join(map(str.strip, texts))
    sections = _sections(texts, stripped)
    kill = report.kills[0][0] if report.kills else None
    summary = lines.summary(report.summary, kill.comm if kill else None) if report.summary else None
    page = context.page_size or _page_size(sections, texts, kill)
    tasks, tasks_total = (
        lines.table(sections.columns, sections.rows, page, context.max_tasks) if sections.columns else ([], 0)
    )
    encoded = stripped.encode("utf-8", "surrogateescape")
    plain = len(encoded) == len(encoded.decode("ascii", "ignore"))
    memory = meminfo.host_memory(texts, page) if "active_anon:" in stripped or "pages RAM" in stripped else None
    printed = stamp(report.kills[0][1] if report.kills else report.first)
    time, time_source, time_error = when(printed, context)
    scope, constraint = _scope(report, sections, summary, memory, kill)
    limit_cgroup = (
        (summary.oom_memcg if summary else None)
        or sections.task_in[1]
        or (sections.stats_of if scope == "memcg" else None)
    )
    victim_cgroup = (summary.task_memcg if summary else None) or sections.task_in[0]
    victims = _victims(report, summary, victim_cgroup)
    first, last = place(report.first), place(report.last)
    limit_cgroup, victim_cgroup = printable(limit_cgroup), printable(victim_cgroup)
    return {
        "schema": SCHEMA,
        "id": _identity(report, sections, summary, victims),
        "boot_id": _plain_id(printed.boot_id or context.boot_id),
        "machine_id": printed.machine_id or context.machine_id,
        "hostname": printable(printed.hostname or context.hostname),
        "kernel": printable((sections.stack.kernel if sections.stack else None) or context.kernel),
        "time": iso(time),
        "time_source": time_source,
        "time_error_seconds": time_error,
        "monotonic_usec": printed.monotonic_usec,
        "killer": "kernel",
        "scope": scope,
        "constraint": printable(constraint),
        "outcome": report.outcome or ("killed" if report.kills else "unknown"),
        "trigger": _trigger(report, sections, summary),
        "limit_cgroup": limit_cgroup,
        "victim_cgroup": victim_cgroup,
        "limit_level": _limit_level(scope, limit_cgroup, victim_cgroup),
        "memory": _usage(sections, "memory"),
        "swap": _usage(sections, "swap"),
        "memory_swap": _usage(sections, "memory+swap"),
        "kmem": _usage(sections, "kmem"),
        # Before 5.3 cgroup v2 printed memory+swap too; that line proves v1 only beside the newer statistics.
        "cgroup_version": 2 if "swap" in sections.usage else 1 if _has_new_v1(sections) else None,
        "cgroup_stat": sections.stats,
        "host_memory": memory,
        "tasks": tasks if plain else [_clean(task) for task in tasks],
        "tasks_total": tasks_total if sections.columns else None,
        "victims": victims,
        "kill_lines": len(report.kills),
        "group_kill": report.group is not None,
        "workload": workload.identify(victim_cgroup),
        "limit_workload": workload.identify(limit_cgroup),
        "page_size": page,
        "completeness": _completeness(report, sections, summary, memory, kill, scope),
        "origins": [{"source": context.source, "path": context.path, "first": first[0], "last": last[0]}],
        "context": [],
        "trace": None,
        "raw": printable("\n".join(texts)) if context.raw else None,
        "raw_sha256": hashlib.sha256(encoded).hexdigest(),
        "verdict": None,
    }


def printable(text: Optional[str]) -> Optional[str]:
    r"""Text as strict UTF-8: a byte that is no UTF-8 becomes ``\xNN``, as dmesg prints it."""
    if text is None:
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text


def _clean(task: Dict[str, Any]) -> Dict[str, Any]:
    task["name"] = printable(task["name"])
    return task


def _plain_id(boot_id: Optional[str]) -> Optional[str]:
    return boot_id.replace("-", "").lower() if boot_id else None


def _sections(texts: List[str], stripped: str) -> _Sections:
    """One pass over the lines of a report, by what a line begins with."""
    stack = cpuset = mems = stats_of = columns = None
    task_in: Tuple[Optional[str], Optional[str]] = (None, None)
    usage: Dict[str, Tuple[int, Optional[int], int]] = {}
    stats: Dict[str, int] = {}
    rows: List[str] = []
    in_stats = x86 = False
    cpuset_due = " mems_allowed=" in stripped
    for index, text in enumerate(texts):
        if text[:1] == " ":
            continue
        if in_stats:
            key, _space, value = text.partition(" ")
            if value.isdecimal() and len(value) < 21 and key:
                stats[key] = int(value)
                continue
        head = _HEADS.get(text[:4])
        if head == "x86":
            x86 = True
        elif head is None:
            if stack is None and "omm: " in text:
                stack = lines.stack(text)
            elif in_stats and "\n" in text:
                lines.stats(text, stats)
            elif cpuset_due and " mems_allowed=" in text and "oom-kill:" not in text:
                left, _key, mems = text.rpartition(" mems_allowed=")
                cpuset = left.rpartition(" cpuset=")[2]
                cpuset_due = False
        elif head == "usage":
            found = lines.usage(text)
            if found:
                usage[found[0]] = found[1:]
                in_stats = False
        elif head == "stats":
            named = lines.stats_of(text)
            if named:
                stats_of = stats_of or named[0]
                lines.stats(named[1], stats)
                in_stats = True
        elif head == "table":
            columns = lines.table_header(text)
            if columns:
                rows = [row for row in texts[index + 1 :] if row[:1] == "["]
                break
        elif head == "task":
            task_in = lines.task_in(text) or task_in
            in_stats = False
    return _Sections(stack, cpuset, mems, task_in, usage, stats_of, stats, columns, rows, x86)


def _page_size(sections: _Sections, texts: List[str], kill: Optional[lines.Kill]) -> Optional[int]:
    """From the victim's row (pages) and kill line (kB), from the buddy lists, or from x86 register names."""
    if kill and kill.total_vm_kb and sections.columns and "total_vm" in sections.columns:
        pid = str(kill.pid)
        for row in sections.rows:
            cell, _bracket, rest = row[1:].partition("]") if pid in row else ("", "", "")
            if cell.strip() == pid:
                pages = rest.split()[sections.columns.index("total_vm") :][:1]
                count = int(pages[0][:18]) if pages and pages[0].isdecimal() else 0
                size = kill.total_vm_kb * 1024 / count if count else 0
                if size in (4096, 16384, 65536):
                    return int(size)
    return 4096 if sections.x86 else meminfo.page_size(texts)


_SCOPES = {
    "CONSTRAINT_NONE": "host",
    "CONSTRAINT_MEMCG": "memcg",
    "CONSTRAINT_CPUSET": "cpuset",
    "CONSTRAINT_MEMORY_POLICY": "mempolicy",
}


def _scope(
    report: Report,
    sections: _Sections,
    summary: Optional[lines.Summary],
    memory: Optional[Dict[str, Any]],
    kill: Optional[lines.Kill],
) -> Tuple[str, Optional[str]]:
    """Scope and the kernel's own constraint word. Without a summary the other lines tell memcg from host."""
    constraint = summary.constraint if summary else None
    reason = (kill.reason if kill else None) or (report.selection.reason if report.selection else None) or ""
    if report.trigger and report.trigger.order == -1:
        return "sysrq", constraint
    if constraint:
        return _SCOPES.get(constraint, "unknown"), constraint
    if reason.startswith("Memory cgroup") or sections.task_in[0] or sections.task_in[1] or "memory" in sections.usage:
        return "memcg", None
    if "MPOL_BIND" in reason:
        return "mempolicy", None
    if reason.startswith("Out of memory") or memory:
        return "host", None
    return "unknown", None


def _limit_level(scope: str, limit: Optional[str], victim: Optional[str]) -> Optional[str]:
    if scope == "memcg":
        if limit is None or victim is None:
            return None
        return "own" if limit == victim else "ancestor"
    return None if scope == "unknown" else "host"


def _has_new_v1(sections: _Sections) -> bool:
    return "memory+swap" in sections.usage and ("anon" in sections.stats or "total_rss" in sections.stats)


def _usage(sections: _Sections, name: str) -> Dict[str, Optional[int]]:
    used, limit, failcnt = sections.usage.get(name, (None, None, None))
    return {"usage_bytes": used, "limit_bytes": limit, "failcnt": failcnt}


def _trigger(report: Report, sections: _Sections, summary: Optional[lines.Summary]) -> Dict[str, Any]:
    trigger, stack = report.trigger, sections.stack
    comm = trigger.comm if trigger else None
    # A name has at most 15 bytes: more is an unknown prefix. A prefix may also have swallowed a part of the name.
    if stack and (comm is None or len(comm) > 15 or stack.comm.endswith(comm)):
        comm = stack.comm
    for kill, _where in report.kills:  # a transport may split a name with a newline: the kill line has it whole
        if stack and comm and stack.pid == kill.pid and kill.comm.endswith("\n" + comm):
            comm = kill.comm
    flags = trigger.gfp_flags if trigger else None
    return {
        "comm": printable(comm),
        "pid": stack.pid if stack else None,
        "uid": stack.uid if stack else None,
        "gfp_mask": trigger.gfp_mask if trigger else None,
        "gfp_flags": [printable(flag) for flag in flags.split("|")] if flags else [],
        "order": trigger.order if trigger else None,
        "oom_score_adj": trigger.oom_score_adj if trigger else None,
        "cpuset": printable((summary.cpuset if summary else None) or sections.cpuset),
        "mems_allowed": (summary.mems_allowed if summary else None) or sections.mems_allowed,
        "nodemask": (trigger.nodemask if trigger else None) or (summary.nodemask if summary else None),
    }


def _bytes(kilobytes: Optional[int]) -> Optional[int]:
    return None if kilobytes is None else kilobytes * 1024


def _victims(report: Report, summary: Optional[lines.Summary], cgroup: Optional[str]) -> List[Dict[str, Any]]:
    """One entry per process: a group kill logs its chosen victim twice (mm/oom_kill.c, oom_kill_process)."""
    victims: Dict[int, Dict[str, Any]] = {}
    selection = report.selection
    for index, (kill, _where) in enumerate(report.kills):
        if kill.pid in victims:
            continue
        role = "group" if index else "child" if selection and selection.pid != kill.pid else "chosen"
        uid = kill.uid
        if uid is None and index == 0 and summary and summary.pid == kill.pid:
            uid = summary.uid
        victims[kill.pid] = _victim(kill, uid, role, cgroup if index == 0 else None, report)
        if index == 0 and selection:
            victims[kill.pid]["score"] = selection.score
    for pid, comm in report.sharing:
        if pid not in victims:
            empty = lines.Kill(None, pid, comm, None, None, None, None, None, None, None, True)
            victims[pid] = _victim(empty, None, "sharing", None, report)
    return list(victims.values())


def _victim(kill: lines.Kill, uid: Optional[int], role: str, cgroup: Optional[str], report: Report) -> Dict[str, Any]:
    return {
        "pid": kill.pid,
        "comm": printable(kill.comm),
        "uid": uid,
        "total_vm_bytes": _bytes(kill.total_vm_kb),
        "anon_rss_bytes": _bytes(kill.anon_rss_kb),
        "file_rss_bytes": _bytes(kill.file_rss_kb),
        "shmem_rss_bytes": _bytes(kill.shmem_rss_kb),
        "pgtables_bytes": _bytes(kill.pgtables_kb),
        "oom_score_adj": kill.oom_score_adj,
        "score": None,
        "role": role,
        "cgroup": printable(cgroup),
        "reaped": report.reaped.get(kill.pid),
    }


def fingerprint(victim: Dict[str, Any]) -> str:
    """The numbers of a kill line: the same in every transport, whatever that does to names and times."""
    sizes = [victim[key] for key in ("pid", "total_vm_bytes", "anon_rss_bytes", "file_rss_bytes", "shmem_rss_bytes")]
    if sizes[1] is None:
        sizes.append(victim["comm"])
    return "/".join(map(str, sizes))


def _identity(
    report: Report, sections: _Sections, summary: Optional[lines.Summary], victims: List[Dict[str, Any]]
) -> str:
    """16 hex digits of a digest over what every transport and every partial copy of the report carries."""
    if report.kills:
        words = fingerprint(victims[0])
    else:
        trigger, stack = report.trigger, sections.stack
        words = "|".join(
            map(
                str,
                (
                    report.outcome,
                    trigger and (trigger.gfp_mask, trigger.order, trigger.oom_score_adj),
                    stack and stack.pid,
                    sorted(sections.usage.items()),
                    sorted(sections.stats.items()),
                    summary and (summary.pid, summary.uid),
                    [row.split() for row in sections.rows],
                ),
            )
        )
    return hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _completeness(
    report: Report,
    sections: _Sections,
    summary: Optional[lines.Summary],
    memory: Optional[Dict[str, Any]],
    kill: Optional[lines.Kill],
    scope: str,
) -> Dict[str, Any]:
    memcg = scope == "memcg"
    # The summary came with 5.0; the kill line that ends in UID: and more is as new.
    summary_due = bool(kill and kill.uid is not None and kill.reason) or summary is not None
    present = (
        ("trigger", report.trigger is not None),
        ("stack", sections.stack is not None),
        ("limits" if memcg else "host_memory", bool(sections.usage) if memcg else memory is not None),
        ("tasks", sections.columns is not None),
        ("summary", summary is not None or not summary_due),
        ("kill", bool(report.kills) or report.outcome is not None),
    )
    missing = [name for name, there in present if not there]
    first, last = place(report.first)[1], place(report.checked)[1]
    gaps = 0 if first is None or last is None else max(0, last - first - report.rows)
    truncated = report.truncated or any(not each.whole for each, _where in report.kills)
    return {
        "complete": not missing and not gaps and not truncated,
        "missing": missing,
        "suppressed_headers": report.suppressed,
        "gaps": gaps,
        "truncated": truncated,
    }
