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
import unicodedata
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from . import _evidence

SCHEMA = "oom.forensics/events/1"
_MIB = 1024 * 1024
_TITLES = ("HOST", "TIME (UTC)", "VICTIM", "WORKLOAD", "LIMIT", "MEMORY", "NOTE")
_GAP = 2
# A column that has to give way keeps at least this; the others are as wide as what they hold.
_LEAST = {"HOST": 6, "VICTIM": 8, "WORKLOAD": 7, "LIMIT": 7, "NOTE": 7}
LEAST_WIDTH = 74
_PATHS = ("WORKLOAD",)  # may hold a cgroup's path, whose end says more than its beginning
_STALE = timedelta(hours=1)
_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))  # controls, bidi and other format characters
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
            lines += _grid(rows, width)
        notices = self._quiet + self._advice + self.unread
        indent = min(max([width_of(host) for host, _text in notices] + [4]), width // 3) + _GAP
        for host, text in notices:
            lines += _notice(host, text, indent, width)
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


# By kind of workload: whether its engine is said, and what may name it, the best first.
_LABELS = {
    "container": (True, ("container_name", "name", "id")),
    "pod": (True, ("pod_name", "name", "pod_uid")),
    "machine": (True, ("name", "id")),
    "job": (True, ("id", "name")),
    "unit": (False, ("unit",)),
    "scope": (False, ("unit",)),
    "session": (False, ("unit",)),
    "slice": (False, ("slice",)),
    "cgroup": (False, ("name",)),  # of no runtime or manager that is known: the path is all there is
}


def _workload(workload: dict[str, Any]) -> str:
    """Whose processes a cgroup holds, as short as it is still known."""
    kind = workload["kind"]
    if kind not in _LABELS:
        return {None: "-", "root": "/"}.get(kind, kind)
    says_engine, keys = _LABELS[kind]
    name = next((workload[key] for key in keys if workload[key]), "?")
    label = f"{workload['engine'] or kind} {name}" if says_engine else name
    pod = workload["pod_name"] or (workload["pod_uid"] or "")[:8]
    if kind == "container" and pod:
        label += f" in pod {pod}"
    elif not says_engine and workload["engine"]:
        label += f" in {workload['engine']} {workload['name'] or workload['id']}"
    return _LONG_ID.sub(r"\1", label)


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


# --- text on a terminal


def visible(text: str) -> str:
    r"""Text with everything that a terminal would act on spelled out: ESC becomes ``\x1b``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelled(character) for character in text)


def _spelled(character: str) -> str:
    category = unicodedata.category(character)
    if category not in _UNSAFE and (category != "Zs" or character == " "):
        return character
    return character.encode("unicode_escape").decode("ascii")


def width_of(text: str) -> int:
    """Terminal columns of printable text: two for wide East Asian characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, width: int, at_left: bool = False) -> str:
    """Text of at most ``width`` columns; an ellipsis stands for what is left out."""
    if width_of(text) <= width:
        return text
    kept, used = [], 1
    for character in reversed(text) if at_left else text:
        used += _columns(character)
        if used > width:
            break
        kept.append(character)
    return "…" + "".join(reversed(kept)) if at_left else "".join(kept) + "…"


def _fill(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


def wrapped(text: str, width: int) -> list[str]:
    """Text in lines of at most ``width`` columns, broken between words where possible."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        while word:
            if not line:
                piece = _prefix(word, width)
                line, word = piece, word[len(piece) :]
            elif width_of(line) + 1 + width_of(word) <= width:
                line, word = f"{line} {word}", ""
            else:
                lines.append(line)
                line = ""
            if word and line and width_of(line) >= width:
                lines.append(line)
                line = ""
    return [*lines, line] if line else lines


def _prefix(word: str, width: int) -> str:
    used = 0
    for index, character in enumerate(word):
        used += _columns(character)
        if used > width and index:
            return word[:index]
    return word


def _grid(rows: list[Row], width: int) -> list[str]:
    """Title and rows with aligned columns; the note wraps, what is too long elsewhere is cut."""
    widths = _widths(rows, width)
    lines = []
    for row in (Row(*_TITLES), *rows):
        cells = [
            _fill(cut(text, size, at_left="/" in text and title in _PATHS), size)
            for title, text, size in zip(_TITLES[:-1], row, widths)
        ]
        notes = wrapped(row.note, widths[-1]) or [""]
        lines.append((" " * _GAP).join([*cells, notes[0]]).rstrip())
        left = sum(widths[:-1]) + _GAP * len(cells)
        lines += [" " * left + note for note in notes[1:]]
    return lines


def _widths(rows: list[Row], width: int) -> list[int]:
    """Column widths: what each holds, then taken from the widest that can give until the row fits."""
    widths = [max(width_of(row[index]) for row in (Row(*_TITLES), *rows)) for index in range(len(_TITLES))]
    room = width - _GAP * (len(_TITLES) - 1)
    while sum(widths) > room:
        can_give = [index for index, title in enumerate(_TITLES) if widths[index] > _LEAST.get(title, widths[index])]
        if not can_give:
            break
        widest = max(can_give, key=lambda index: widths[index])
        widths[widest] -= 1
    return widths


def _notice(host: str, text: str, indent: int, width: int) -> list[str]:
    body = wrapped(text, max(20, width - indent)) or [""]
    first = _fill(cut(host, indent - _GAP), indent) + body[0]
    return [first, *(" " * indent + line for line in body[1:])]
