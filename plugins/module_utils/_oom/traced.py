# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Events of traced kills, and the kernel's own reports of the same kills joined to them. Private to this collection."""

import hashlib
from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from . import lines, report, workload
from .rows import Stamp, stamp
from .times import Context, iso, when
from .traces import Kill

SOURCE = "trace"
# Where a kill was read that was seen as it happened; of one that the tracing service logged the journal is told too.
ORIGIN: Dict[str, Optional[str]] = {"source": SOURCE, "path": None, "first": None, "last": None}
# A host frees a process number for another process only after tens of thousands of others.
_SAME_SECONDS = 30.0
_SCOPES = {
    "CONSTRAINT_NONE": "host",
    "CONSTRAINT_CPUSET": "cpuset",
    "CONSTRAINT_MEMORY_POLICY": "mempolicy",
    "CONSTRAINT_MEMCG": "memcg",
}


def event(kill: Kill, known: Context) -> Dict[str, Any]:
    """The event of a traced kill: every key of the kernel's events, and ``trace`` as well.

    ``trace`` is null in an event that nobody has traced, else ``backend``, ``loadavg`` (the text of /proc/loadavg) and
    ``domain_pages``: the size of the OOM domain in pages (a memcg's limit and the swap that it may use, or the host's
    memory and swap), not of the victim, though the tools print it beside the victim.

    The time is that of the kernel's own stamp, where the backend prints one, else when its line was read
    (``time_source`` is ``trace``, without an error bound: a host without memory may be slow).
    """
    where = Stamp(monotonic_usec=kill.monotonic_usec, boot_id=kill.boot_id)
    blank = report.Report(where)
    blank.kills = [(_as_line(kill), where)]
    made = report.event(blank, known._replace(boot_id=known.boot_id or kill.boot_id, source=SOURCE, path=None))
    limit, victim = report.printable(kill.limit_cgroup), report.printable(kill.victim_cgroup)
    scope = _scope(kill)
    made["trigger"].update(comm=report.printable(kill.trigger_comm), pid=kill.trigger_pid, order=kill.order)
    made["victims"][0].update(comm=report.printable(kill.victim_comm), cgroup=victim)
    made.update(
        scope=scope,
        constraint=kill.constraint,
        limit_cgroup=limit,
        victim_cgroup=victim,
        limit_level=_level(scope, limit, victim),
        workload=workload.identify(victim),
        limit_workload=workload.identify(limit),
        origins=[dict(ORIGIN)],
        trace={"backend": kill.backend, "loadavg": kill.loadavg, "domain_pages": kill.domain_pages},
    )
    if made["time"] is None and kill.time is not None:
        made.update(time=iso(kill.time), time_source=SOURCE, time_error_seconds=None)
    if kill.total_vm is None:  # no numbers that tell this kill from another one of the same name
        made["id"] = _identity(made)
    return made


def _as_line(kill: Kill) -> lines.Kill:
    return lines.Kill(
        reason=None,
        pid=kill.victim_pid,
        comm=kill.victim_comm or "",
        uid=kill.uid,
        total_vm_kb=kill.total_vm,
        anon_rss_kb=kill.anon_rss,
        file_rss_kb=kill.file_rss,
        shmem_rss_kb=kill.shmem_rss,
        pgtables_kb=kill.pgtables,
        oom_score_adj=kill.oom_score_adj,
        whole=True,
    )


def _scope(kill: Kill) -> str:
    return _SCOPES.get(kill.constraint or "", "memcg" if kill.limit_cgroup else "unknown")


def _level(scope: str, limit: Optional[str], victim: Optional[str]) -> Optional[str]:
    if scope == "memcg":
        return None if limit is None or victim is None else "own" if limit == victim else "ancestor"
    return None if scope == "unknown" else "host"


def _identity(made: Dict[str, Any]) -> str:
    minute = (made["time"] or "")[:16]
    words = "|".join(map(str, (SOURCE, made["boot_id"], report.fingerprint(made["victims"][0]), minute)))
    return hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()[:16]


# --- one kill, one event --------------------------------------------------------------------------------------------


class _Joined(NamedTuple):
    """An event that others may be joined to, and when it happened (epoch seconds)."""

    event: Dict[str, Any]
    moment: Optional[float]


def joined(events: Iterable[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """One event per kill, in the order of time: what a tracer saw is joined to the kernel's own report of the kill.

    Reports that several logs hold must be merged before (:func:`merging.merge`).
    They are one kill if boot and victim are the same and their times are at most 30 seconds (and what is known of the
    clocks' error) apart. The report's numbers stay; the trace adds itself and what the report lacks, because its
    header was rate-limited away: trigger, cgroups, scope. Kills that several tracers saw are joined as well. Events
    without the key ``trace`` get it. Input events are not changed.
    """
    plain: List[Dict[str, Any]] = []
    seen: List[Dict[str, Any]] = []
    for each in events:
        (seen if each.get("trace") and each["origins"] and _only_traced(each) else plain).append(each)
    kept = [dict(each, trace=each.get("trace")) for each in plain]
    by_victim: Dict[int, List[_Joined]] = {}
    for each in kept:
        _index(by_victim, each)
    # The best-told first: what comes later only fills gaps.
    for each in sorted(seen, key=lambda one: (one["victim_cgroup"] is None, one["trace"]["domain_pages"] is None)):
        same = _same(each, by_victim)
        if same is not None:
            _fill(same, each)
        else:
            alone = dict(each, victims=[dict(victim) for victim in each["victims"]])
            kept.append(alone)
            _index(by_victim, alone)
    return sorted(kept, key=lambda one: (one["time"] is not None, one["time"] or "", one["monotonic_usec"] or 0))


def _only_traced(each: Dict[str, Any]) -> bool:
    return all(origin["source"] == SOURCE for origin in each["origins"])


def _index(by_victim: Dict[int, List[_Joined]], each: Dict[str, Any]) -> None:
    if each["killer"] != "kernel":
        return
    for victim in each["victims"]:
        by_victim.setdefault(victim["pid"], []).append(_Joined(each, _seconds(each["time"])))


def _same(each: Dict[str, Any], by_victim: Dict[int, List[_Joined]]) -> Optional[Dict[str, Any]]:
    """The nearest event of the same victim."""
    moment = _seconds(each["time"])
    best: Optional[Dict[str, Any]] = None
    best_apart = 0.0
    for other in by_victim.get(each["victims"][0]["pid"], ()):
        if each["boot_id"] and other.event["boot_id"] and each["boot_id"] != other.event["boot_id"]:
            continue
        if moment is None or other.moment is None:
            continue
        slack = _SAME_SECONDS + (each["time_error_seconds"] or 0.0) + (other.event["time_error_seconds"] or 0.0)
        apart = abs(moment - other.moment)
        if apart <= slack and (best is None or apart < best_apart):
            best, best_apart = other.event, apart
    return best


def _seconds(time: Optional[str]) -> Optional[float]:
    return when(stamp(time[:-1] + "+00:00 "), Context())[0] if time else None


_FILLED = ("boot_id", "machine_id", "hostname", "kernel", "monotonic_usec", "page_size", "constraint", "trace")
_FILLED_VICTIM = ("uid", "pgtables_bytes", "oom_score_adj", "cgroup")


def _fill(told: Dict[str, Any], seen: Dict[str, Any]) -> None:
    """Add to an event (its own copy) what a tracer saw of it and what it lacks."""
    for key in _FILLED:
        if told[key] is None:
            told[key] = seen[key]
    told["trace"] = _trace(told["trace"], seen["trace"])
    if told["trigger"]["pid"] is None:
        known = {key: value for key, value in told["trigger"].items() if value is not None}
        told["trigger"] = dict(seen["trigger"], **{key: value for key, value in known.items() if value != []})
    told["victims"] = [_victim(victim, seen["victims"][0]) for victim in told["victims"]]
    # Of a group, the tracer tells each member; the event's cgroup is that of the one that was chosen.
    chosen = told["victims"][0]["pid"] == seen["victims"][0]["pid"]
    if told["victim_cgroup"] is None and chosen and seen["victim_cgroup"] is not None:
        told.update(victim_cgroup=seen["victim_cgroup"], workload=seen["workload"])
    if told["limit_cgroup"] is None and seen["limit_cgroup"] is not None:
        told.update(limit_cgroup=seen["limit_cgroup"], limit_workload=seen["limit_workload"])
    if told["scope"] == "unknown":
        told["scope"] = seen["scope"]
    if told["limit_level"] is None:
        told["limit_level"] = _level(told["scope"], told["limit_cgroup"], told["victim_cgroup"])
    told["origins"] = told["origins"] + [origin for origin in seen["origins"] if origin not in told["origins"]]


def _trace(one: Dict[str, Any], other: Dict[str, Any]) -> Dict[str, Any]:
    return {key: value if value is not None else other[key] for key, value in one.items()}


def _victim(victim: Dict[str, Any], seen: Dict[str, Any]) -> Dict[str, Any]:
    if victim["pid"] != seen["pid"]:
        return victim
    missing = {key: seen[key] for key in _FILLED_VICTIM if victim[key] is None}
    if victim["total_vm_bytes"] is None:  # sizes of one moment
        missing.update((key, value) for key, value in seen.items() if key.endswith("_bytes"))
    if not victim["comm"]:
        missing["comm"] = seen["comm"]
    return dict(victim, **missing)
