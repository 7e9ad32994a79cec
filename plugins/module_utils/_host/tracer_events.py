# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kills of a trace as events, and what was not seen. Private to this collection."""

import fnmatch
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .._oom import traced, traces
from .._oom.times import Context, iso
from . import collect, counters, engines, kmsg, naming, run

SOURCE = "trace"
_LOG_SECONDS = 0.5  # until journald has read what the kernel has printed
_MAX_TASKS = 20


class Wanted(NamedTuple):
    """Which kills to return: patterns of shells (fnmatch) for the cgroup of the victim or of the limit; none: all."""

    cgroups: Sequence[str] = ()

    def cgroup(self, *paths: Optional[str]) -> bool:
        """Whether one of the cgroups is asked for. A cgroup that is not known is not."""
        if not self.cgroups:
            return True
        return any(fnmatch.fnmatchcase(path, pattern) for path in paths if path for pattern in self.cgroups)


class Seen:
    """The kills of a trace, as they come; the answer to each is whether that was the last one.

    :ivar kills: all of them.
    """

    def __init__(self, wanted: Wanted, most_wanted: int, most: int) -> None:
        self.kills: List[traces.Kill] = []
        self._wanted, self._most_wanted, self._most = wanted, most_wanted, most
        self._matching = 0

    def __call__(self, kill: traces.Kill) -> bool:
        self.kills.append(kill)
        self._matching += self._wanted.cgroup(kill.victim_cgroup, kill.limit_cgroup)
        return self._matching >= self._most_wanted or len(self.kills) >= self._most


def known(host: run.Host) -> Context:
    """What this host says of itself, for events that happen on it now."""
    boot_time, error = counters.boot_time(host)
    return Context(
        source=SOURCE,
        boot_id=counters.boot_id(host),
        machine_id=counters.machine_id(host),
        hostname=counters.hostname(host),
        kernel=counters.kernel(host),
        page_size=counters.page_size(host),
        boot_time=boot_time,
        boot_time_error=error,
    )


def of_trace(
    host: run.Host,
    kills: Sequence[traces.Kill],
    outcome: Dict[str, Any],
    wanted: Wanted,
    printed: Optional[kmsg.Span],
) -> Tuple[List[Dict[str, Any]], Dict[str, Any]]:
    """Events of the kills of a trace, the kernel's own reports joined to them, and what was and was not seen.

    :arg outcome: what ``tracers.trace`` returned.
    :arg printed: what the kernel printed meanwhile, of which to read its reports: they add kills that the tracer lost.
        None: read none.
    :returns: the events that are asked for, oldest first, and ``started``, ``ended`` (ISO 8601), ``seconds``,
        ``kills_traced``, ``kills_counted`` (by the kernel meanwhile; null where it does not count), ``kills_lost``
        (that the backend says it lost), ``kills_untraced`` (counted and not traced), ``events_total``,
        ``events_filtered`` (cgroup not asked for), ``events_without_cgroup`` (filtered because nobody knows it).
    """
    facts = known(host)
    seen = [traced.event(kill, facts) for kill in kills]
    events = traced.joined(seen + (_reports(host, outcome, facts, bool(kills)) if printed else []))
    bounds = printed.bounds() if printed else None
    events = [each for each in events if traced.ORIGIN in each["origins"] or _meanwhile(each, outcome, bounds)]
    asked = [each for each in events if wanted.cgroup(each["victim_cgroup"], each["limit_cgroup"])]
    left_out = [each for each in events if not wanted.cgroup(each["victim_cgroup"], each["limit_cgroup"])]
    counted = _difference(outcome["counter_after"], outcome["counter_before"])
    about = {
        "started": iso(outcome["started_at"]),
        "ended": iso(outcome["ended_at"]),
        "seconds": round(outcome["ended_at"] - outcome["started_at"], 3),
        "kills_traced": len(kills),
        "kills_counted": counted,
        "kills_lost": outcome["lost"],
        "kills_untraced": None if counted is None else max(0, counted - len(kills)),
        "events_total": len(events),
        "events_filtered": len(left_out),
        "events_without_cgroup": sum(1 for each in left_out if not each["victim_cgroup"] and not each["limit_cgroup"]),
    }
    names = engines.read(host) if any(each["workload"]["id"] for each in asked) else None
    return naming.named(host, asked, names) if names else asked, about


def _difference(after: Optional[int], before: Optional[int]) -> Optional[int]:
    return None if after is None or before is None else after - before


def _reports(host: run.Host, outcome: Dict[str, Any], facts: Context, any_kill: bool) -> List[Dict[str, Any]]:
    """The kernel's reports of about the traced time, as the logs of this host have them."""
    if any_kill and time.time() - outcome["ended_at"] < _LOG_SECONDS:
        time.sleep(_LOG_SECONDS)
    error = facts.boot_time_error or 0.0
    found = collect.collect_events(
        host,
        since=outcome["started_at"] - error,
        until=outcome["ended_at"] + error,
        boots="current",
        max_tasks=_MAX_TASKS,
    )
    first, last = iso(outcome["started_at"] - error) or "", iso(outcome["ended_at"] + error) or ""
    return [each for each in found["events"] if each["time"] is not None and first <= each["time"] <= last]


def _meanwhile(each: Dict[str, Any], outcome: Dict[str, Any], bounds: Optional[Tuple[float, float]]) -> bool:
    """Whether a kill that this trace did not see is one of its time: by printk's stamp, else by the wall clock."""
    if bounds is not None and each["monotonic_usec"] is not None:
        return bounds[0] <= each["monotonic_usec"] < bounds[1]
    return (iso(outcome["started_at"]) or "") <= each["time"] <= (iso(outcome["ended_at"]) or "")
