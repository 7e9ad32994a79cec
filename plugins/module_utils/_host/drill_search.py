# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the host's logs, and this collection, saw the kill of a drill. Private to this collection."""

import time
from typing import Any, Callable, Dict, List, Sequence

from .._oom import events as _events
from .drill import COMM, EXITS

SOURCES = ("journal", "kmsg", "files")
SEARCH_SECONDS = 5.0
_POLL_SECONDS = 0.05
# The wall time of a ring buffer record drifts by what the host slept since boot. The pid tells the kill, not the time.
_SINCE_MARGIN = 3600.0
_MAX_TASKS = 5


def _is_kill_of(event: Dict[str, Any], pid: int) -> bool:
    return any(victim.get("pid") == pid and victim.get("comm") == COMM for victim in event.get("victims") or [])


def _row(source: str) -> Dict[str, Any]:
    return {"source": source, "path": None, "found": False, "milliseconds": None, "event_id": None, "error": None}


def _note(row: Dict[str, Any], event: Dict[str, Any], ended: float) -> None:
    paths = [origin.get("path") for origin in event.get("origins") or []]
    row.update(
        found=True,
        path=next((path for path in paths if path), row["path"]),
        milliseconds=int((time.monotonic() - ended) * 1000),
        event_id=event.get("id"),
        error=None,
    )


def _look_again(row: Dict[str, Any], collected: Dict[str, Any]) -> bool:
    """Note what the coverage says about a source where the kill is not; False where looking again is useless."""
    rows = collected["coverage"]["sources"]
    errors = [part["error"] for part in rows if part.get("error")]
    row["path"] = next((part["path"] for part in rows if part.get("path")), None)
    row["error"] = errors[0] if errors else None
    return any(part.get("available") for part in rows)


def search(
    collect: Callable[..., Dict[str, Any]],
    pid: int,
    ended: float,
    sources: Sequence[str] = ("auto",),
    seconds: float = SEARCH_SECONDS,
) -> Dict[str, Any]:
    """Poll every log source until it shows the kill of ``pid`` or ``seconds`` pass.

    :arg collect: ``collect_events`` with its host already given.
    :arg ended: monotonic seconds at the process's end; milliseconds count from there.
    :returns: ``found``, a row for each source, and ``event``, the kill as parsed, its sources merged; null if unseen.
    """
    wanted = [source for source in SOURCES if "auto" in sources or source in sources]
    rows = {source: _row(source) for source in wanted}
    since = time.time() - _SINCE_MARGIN
    seen: List[Dict[str, Any]] = []
    pending = list(wanted)
    while pending:
        for source in list(pending):
            collected = collect(sources=(source,), since=since, boots="current", max_tasks=_MAX_TASKS)
            hit = next((event for event in collected["events"] if _is_kill_of(event, pid)), None)
            if hit is not None:
                _note(rows[source], hit, ended)
                seen.append(hit)
            if hit is not None or not _look_again(rows[source], collected):
                pending.remove(source)
        if time.monotonic() - ended > seconds:
            break
        if pending:
            time.sleep(_POLL_SECONDS)
    merged = _events.merge(seen)
    return {"found": [rows[source] for source in wanted], "event": merged[0] if merged else None}


def summary(result: Dict[str, Any]) -> str:
    """One line for people about a drill and its search."""
    who = "pid {pid} in {cgroup} with a limit of {limit_bytes} bytes".format(**result)
    if not result["killed"]:
        why = EXITS.get(result["exit_status"], "signal {0}".format(result["signal"]))
        return "{0} was not killed by the kernel: {1}".format(who, why)
    seen = ["{source} after {milliseconds} ms".format(**row) for row in result["found"] if row["found"]]
    return "{0} was killed; found in {1}".format(who, ", ".join(seen) or "no log source")
