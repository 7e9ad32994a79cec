# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fleet's newest evidence as a terminal table and as events.json. Private to this collection.

One host at a time is in memory; of the others only the rows that will be printed.
"""

from __future__ import annotations

import heapq
import json
import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from ansible_collections.oom.forensics.plugins.module_utils._oom.workload import label

from . import _evidence, _terminal
from ._terminal import visible, wrapped

SCHEMA = "oom.forensics/events/1"
_MIB = 1024 * 1024
_TITLES = ("HOST", "TIME (UTC)", "VICTIM", "WORKLOAD", "LIMIT", "MEMORY", "NOTE")
# A column that has to give way keeps at least this; the others are as wide as what they hold.
_LEAST = (6, 0, 8, 7, 7, 0, 7)
LEAST_WIDTH = 74
_PATHS = ("WORKLOAD",)  # may hold a cgroup's path, whose end says more than its beginning
_STALE = timedelta(hours=1)
_LONG_ID = re.compile(r"([0-9a-f]{12})[0-9a-f]{52}")
_WHAT_TO_DO = {
    "unreachable": "Check it with: ansible -m ansible.builtin.ping '{host}', then collect again.",
    "failed": "Collect again with -vvv for details.",
    "unreadable": "Remove that file, then collect again.",
    "missing": "Collect from it first; the output above says why it was not done.",
}


class Row(NamedTuple):
    """One line of the table, as text that is safe to print."""

    host: str
    time: str
    victim: str
    workload: str
    limit: str
    memory: str
    note: str


def entries(spool: str, hosts: list[str]) -> Iterator[dict[str, Any]]:
    """What is known of each host, one at a time; a host without readable evidence is an entry that says so."""
    for host in hosts:
        yield _entry(spool, host)


def _entry(spool: str, host: str) -> dict[str, Any]:
    document: dict[str, Any] = {}
    status, error = "missing", f"There is no evidence of this host in {spool}."
    try:
        paths = _evidence.documents(spool, host)
        if paths:
            document = _evidence.read(paths[0])
            status, error = document["status"], document.get("error")
    except _evidence.SpoolError as failure:
        status, error = "unreadable", str(failure)
    return {
        "inventory_name": host,
        "status": status,
        "error": error,
        "collected_at": document.get("collected_at"),
        "kernel": document.get("host", {}).get("kernel"),
        "coverage": document.get("coverage"),
        "events": document.get("events", []),
    }


def as_json(found: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """The pieces of events.json (schema ``oom.forensics/events/1``), one line per host."""
    head = json.dumps({"schema": SCHEMA, "generated_at": _evidence.now()}, separators=(",", ":"))
    yield head[:-1].encode("ascii") + b',"hosts":['
    for index, entry in enumerate(found):
        yield (b",\n" if index else b"\n") + json.dumps(entry, separators=(",", ":")).encode("ascii")
    yield b"\n]}\n"


def write_json(path: str, found: Iterator[dict[str, Any]]) -> None:
    """Write events.json. Raises SpoolError if it cannot be written, or if ``path`` is some other file."""
    try:
        if os.path.lexists(path) and not _is_ours(path):
            raise _evidence.SpoolError(
                f"{path} exists and is no document of the schema {SCHEMA}; move it away, or choose another events_path."
            )
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _evidence.atomically(path, as_json(found))
    except OSError as error:
        raise _evidence.SpoolError(f"{path} could not be written: {error.strerror}.") from error


def _is_ours(path: str) -> bool:
    with open(path, "rb") as stream:
        return stream.read(64).startswith(b'{"schema":"' + SCHEMA.encode("ascii"))


class Table:
    """Takes entries one by one and keeps the rows to print: the newest kills, the hosts without, the hosts not read."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.hosts = self.kills = self.without_kills = self.with_kills = self.unlogged = self._hidden = 0
        self.unread: list[tuple[str, str]] = []
        self._quiet: list[tuple[str, str]] = []
        self._advice: list[tuple[str, str]] = []
        self._newest: list[tuple[str, int, Row]] = []

    def watch(self, found: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Pass entries on and keep what the table needs of them."""
        for entry in found:
            self.add(entry)
            yield entry

    def add(self, entry: dict[str, Any]) -> None:
        host, coverage, events = visible(entry["inventory_name"]), entry["coverage"], entry["events"]
        self.hosts += 1
        self.with_kills += bool(events)
        unlogged = (coverage or {}).get("kills_unlogged") or 0
        self.unlogged += unlogged
        for index, event in enumerate(events):
            self._keep(event, event_row(host, event, unlogged if index == len(events) - 1 else 0))
        if entry["status"] != "ok":
            self.unread.append((host, _not_read(entry)))
            return
        advice = " ".join(visible(sentence) for sentence in coverage["advice"])
        if not any(source["available"] for source in coverage["sources"]):
            self.unread.append((host, f"{_nothing_read(coverage)} {advice}".rstrip()))
            return
        if advice:
            self._advice.append((host, advice if events else f"{_no_kill(entry)} {advice}"))
        if events:
            return
        self.without_kills += 1
        if advice:
            return
        if len(self._quiet) < self.max_rows:
            self._quiet.append((host, _no_kill(entry)))
        else:
            self._hidden += 1

    def _keep(self, event: dict[str, Any], row: Row) -> None:
        self.kills += 1
        item = (event["time"] or "", self.kills, row)
        if len(self._newest) < self.max_rows:
            heapq.heappush(self._newest, item)
        else:
            heapq.heappushpop(self._newest, item)

    def lines(self, width: int) -> list[str]:
        """The table for a terminal of ``width`` columns, the summary below it."""
        rows = [row for _time, _number, row in sorted(self._newest)]
        lines = []
        if self.kills > len(rows):
            lines.append(f"({self.kills - len(rows)} older kills are not shown; events.json has all of them)")
        if rows:
            lines += _terminal.grid(_TITLES, rows, _LEAST, width, _PATHS)
        notices = self._quiet + self._advice + self.unread
        lines += _terminal.notices(notices, width) if notices else []
        if self._hidden:
            lines.append(f"({_count(self._hidden, 'more host')} without OOM kills not shown)")
        return lines + ["", *wrapped(self.summary(), width)]

    def summary(self) -> str:
        parts = [f"{_count(self.kills, 'OOM kill')} on {self.with_kills} of {_count(self.hosts, 'host')}"]
        if self.unlogged:
            parts.append(f"{_count(self.unlogged, 'kill')} counted by a kernel but in no log")
        if self.unread:
            parts.append(f"{_count(len(self.unread), 'host')} not read")
        return "; ".join(parts) + "."


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


# --- one host or kill as text


def event_row(host: str, event: dict[str, Any], unlogged: int = 0) -> Row:
    """The table's row of one event, with nothing that a terminal would act on."""
    victim = event["victims"][0] if event["victims"] else None
    row = Row(
        host=host,
        time=_time(event),
        victim=f"{victim['comm'] or '?'}[{victim['pid']}]" if victim else "-",
        workload=_workload(event["workload"]),
        limit=_limit(event),
        memory=_size(_resident(victim)),
        note=_note(event, unlogged),
    )
    return Row(*map(visible, row))


def _time(event: dict[str, Any]) -> str:
    if event["time"]:
        return event["time"][:19].replace("T", " ")
    if event["monotonic_usec"] is not None:
        return f"boot +{event['monotonic_usec'] / 1e6:.3f} s"
    return "-"


def _workload(workload: dict[str, Any]) -> str:
    """Whose processes a cgroup holds, as short as it is still known."""
    return "-" if workload["kind"] is None else _LONG_ID.sub(r"\1", label(workload))


def _limit(event: dict[str, Any]) -> str:
    """Whose memory was full: a cgroup and its limit, or the host."""
    if event["scope"] != "memcg":
        return {"host": "host", "sysrq": "host (sysrq)", "unknown": "?"}.get(event["scope"], f"host ({event['scope']})")
    limits = [event[key]["limit_bytes"] for key in ("memory", "memory_swap", "kmem")]
    limit = next((value for value in limits if value is not None), None)
    owner = {None: _workload(event["limit_workload"]), "own": "own"}.get(event["limit_level"])
    owner = owner or f"of {_workload(event['limit_workload'])}"
    return f"{_size(limit) if limit is not None else '?'} {owner}"


def _resident(victim: dict[str, Any] | None) -> int | None:
    sizes = [victim[key] for key in ("anon_rss_bytes", "file_rss_bytes", "shmem_rss_bytes")] if victim else []
    present = [size for size in sizes if size is not None]
    return sum(present) if present else None


def _size(value: int | None) -> str:
    if value is None:
        return "-"
    mebibytes = value / _MIB
    return f"{mebibytes:.1f} MiB" if mebibytes < 10 and value % _MIB else f"{mebibytes:.0f} MiB"


_OUTCOMES = {
    "no_victim": "no victim",
    "already_exiting": "victim was exiting",
    "panic": "kernel panic",
    "unknown": "no kill seen",
}


def _note(event: dict[str, Any], unlogged: int) -> str:
    done = event["completeness"]
    notes = (
        (event["outcome"] in _OUTCOMES, _OUTCOMES.get(event["outcome"], "")),
        (event["group_kill"], f"group of {len(event['victims'])}"),
        (not event["group_kill"] and len(event["victims"]) > 1, f"{len(event['victims'])} victims"),
        (not done["complete"], "partial report"),
        (unlogged > 0, f"+{unlogged} unlogged"),
    )
    return ", ".join(text for holds, text in notes if holds)


def _no_kill(entry: dict[str, Any]) -> str:
    """The proof that a host had no kill, or why there is none."""
    coverage = entry["coverage"]
    counter = coverage["kernel_counter"]
    window = _window(coverage["sources"])
    counted = "unknown" if counter is None else str(counter)
    when = f"in {window[0]}..{window[1]}" if window else "found, but no log has a time"
    text = f"no OOM kill {when}; kernel counter {counted}"
    if coverage["kills_unlogged"]:
        text += f": {_count(coverage['kills_unlogged'], 'kill')} since boot left no line in any log"
    return text + _age(entry) + "."


def _nothing_read(coverage: dict[str, Any]) -> str:
    counter = coverage["kernel_counter"]
    counted = "" if counter is None else f", of which the kernel counted {counter} since boot"
    return f"UNREADABLE: no log could be read, so nothing is known of OOM kills{counted}."


def _age(entry: dict[str, Any]) -> str:
    """Says when evidence is not of this run."""
    try:
        collected = datetime.strptime(entry["collected_at"] or "", "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return ""
    return f" (as of {_short(entry['collected_at'])})" if datetime.now(timezone.utc) - collected > _STALE else ""


def _window(sources: list[dict[str, Any]]) -> tuple[str, str] | None:
    """First and last time of the unbroken stretch up to the newest record that the sources cover together."""
    spans = [
        (source["first_time"], source["last_time"])
        for source in sources
        if source["first_time"] and source["last_time"]
    ]
    if not spans:
        return None
    spans.sort(key=lambda span: span[1], reverse=True)
    first, last = spans[0]
    for start, end in spans[1:]:
        if end >= first:
            first = min(first, start)
    return _short(first), _short(last)


def _short(time: str) -> str:
    return visible(time)[:16].replace("T", " ")


def _not_read(entry: dict[str, Any]) -> str:
    status = entry["status"]
    error = visible(entry["error"] or "No reason was given.").rstrip(".")
    known = (
        f" Known from {_short(entry['collected_at'])}: {_count(len(entry['events']), 'OOM kill')}."
        if entry["collected_at"]
        else ""
    )
    return (
        f"{status.upper()}: {error}. {_WHAT_TO_DO.get(status, '').format(host=visible(entry['inventory_name']))}{known}"
    )
