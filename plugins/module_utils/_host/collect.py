# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every OOM kill that a host's logs remember, and what the logs cannot tell. Private to this collection."""

import datetime
import os
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .._oom import context as contexts
from .._oom import traced
from .._oom.events import Context, merge, parse
from . import companions, counters, engines, journal, kmsg, logfiles, naming, run, tracer_journal
from .coverage import Unreadable, counted, row

AUTO = "auto"
_UNFINISHED_SECONDS = 10.0
_CURSOR_SLACK_SECONDS = 60.0  # syslog stamps and boot times against journald's clock
_SAME_PAGES = ("x86_64", "i386", "i486", "i586", "i686", "s390x")  # every kernel of these has pages of 4096 bytes
_NOTHING_READ = "Nothing that holds kernel messages could be read on this host, so its OOM kills are unknown: {0}."
_FOR_USERS = "run as root (become: true), and have journald or a syslog daemon running"
_FOR_ROOT = (
    "have journald or a syslog daemon running; a container has no kernel log of its own, so collect from its host"
)
_CURSOR_VANISHED = (
    "The journal no longer has the record that the earlier run ended at, so all of it was read again: "
    "let it keep more (SystemMaxUse= in journald.conf), or collect more often."
)


class _Facts(NamedTuple):
    """What the running host says about its logs; all unknown where only given files are read."""

    boot_id: Optional[str] = None
    machine_id: Optional[str] = None
    hostname: Optional[str] = None
    kernel: Optional[str] = None
    page_size: Optional[int] = None
    boot_time: Optional[float] = None
    boot_time_error: Optional[float] = None
    kernel_counter: Optional[int] = None


class _Request(NamedTuple):
    """What to read, as asked for, and the moment when reading began."""

    host: run.Host
    paths: Sequence[str]
    since: Optional[float]
    until: Optional[float]
    current_boot: bool
    cursor: Optional[str]
    journal_directory: Optional[str]
    max_tasks: Optional[int]
    raw: bool
    facts: _Facts
    now: float


def collect_events(
    host: run.Host,
    sources: Sequence[str] = (AUTO,),
    paths: Sequence[str] = (),
    since: Optional[float] = None,
    until: Optional[float] = None,
    boots: str = "all",
    cursor: Optional[str] = None,
    journal_directory: Optional[str] = None,
    max_events: int = 1000,
    max_tasks: Optional[int] = None,
    raw: bool = False,
    names: Optional[engines.Names] = None,
) -> Dict[str, Any]:
    """Read the sources and return ``{'events': [...], 'coverage': {...}}``: one event per kill, oldest first.

    :arg sources: ``journal``, ``kmsg``, ``files``, or ``auto`` for all that exist.
    :arg paths: log files, patterns or directories; without named sources only these are read, and nothing is
        said about the running host.
    :arg since: and ``until``, epoch seconds of the kill, both inclusive. A kill of unknown time is never left out.
    :arg boots: ``all`` or ``current``.
    :arg cursor: ``journal_cursor`` of an earlier run: only what was logged since. Other sources are cut at its time.
    :arg max_events: the newest are returned; the totals count all.
    :arg names: what the host's engines call their workloads; without it an event names a container by its id.

    Nothing raises on an unreadable source: it is a row of ``coverage.sources`` with its error, and ``advice`` says
    what to do. A report that the kernel still prints is left for the next run: ``journal_cursor`` stands before it.

    ``kills_unlogged`` = ``kernel_counter`` - ``kills_parsed``, not below 0. The counter is read before the logs. It
    is null where the kernel does not count, no log of the running host was read, or only a part of the running boot
    was asked for (``since``, ``until``, ``cursor``).

    Kills by daemons in user space are events too (``killer``), which the kernel does not count. What other programs
    logged of a kill is its ``context``. ``coverage.companions`` says where that was read.
    """
    kept = _Kept(max_events)
    report = _Report(explicit=AUTO not in sources)
    named = [name for name in _READERS if AUTO in sources or name in sources]
    if paths:
        named = ["files"] if AUTO in sources else list(dict.fromkeys(named + ["files"]))
    of_host = not paths or named != ["files"]
    facts = _facts(host) if of_host else _Facts()
    request = _Request(
        host, paths, since, until, boots == "current", cursor, journal_directory, max_tasks, raw, facts, time.time()
    )
    for name in named:
        for event in _READERS[name](request, report):
            if _asked_for(event, request):
                kept.add(event)
    said = _companions(request, report, named)
    for event in said.events:
        if _asked_for(event, request):
            kept.add(event)
    found = _result(request, report, kept, of_host)
    found["coverage"]["companions"] = said.rows
    _join_service(request, named, found)
    found["events"] = contexts.join(found["events"], said.facts)
    if names is not None:
        found["events"] = naming.named(host, found["events"], names, journal_directory)
    return found


def _join_service(request: _Request, named: Sequence[str], found: Dict[str, Any]) -> None:
    """Join what the tracing service has logged to the events; a kill that only it saw is an event more."""
    if "journal" not in named:
        return
    options = journal.Options(
        directory=request.journal_directory,
        since=request.since,
        until=request.until,
        boot_id=request.facts.boot_id if request.current_boot else None,
    )
    seen, about = tracer_journal.of_service(request.host, options)
    if not about["records"] and not about["error"]:
        return
    found["coverage"]["companions"] = found["coverage"]["companions"] + [about]
    events, coverage = found["events"], found["coverage"]
    if coverage["truncated"] and events:  # of older kills it is not known whether a log has them
        seen = [each for each in seen if (each["time"] or "") >= (events[0]["time"] or "")]
    found["events"] = traced.joined(events + [each for each in seen if _asked_for(each, request)])
    more = len(found["events"]) - len(events)
    coverage.update(events_total=coverage["events_total"] + more, events_returned=len(found["events"]))


def _facts(host: run.Host) -> _Facts:
    boot_time, error = counters.boot_time(host)
    return _Facts(
        boot_id=counters.boot_id(host),
        machine_id=counters.machine_id(host),
        hostname=counters.hostname(host),
        kernel=counters.kernel(host),
        page_size=counters.page_size(host),
        boot_time=boot_time,
        boot_time_error=error,
        kernel_counter=counters.oom_kill(host),
    )


class _Report:
    """What the readers found out about their sources."""

    def __init__(self, explicit: bool) -> None:
        self.explicit = explicit  # a source that was named and does not exist is an error
        self.rows: List[Dict[str, Any]] = []
        self.advice: List[str] = []
        self.of_running_host = False  # whether a log of the running host was read
        self.journal_missed: Optional[int] = None
        self.journal_cursor: Optional[str] = None
        self.cursor_vanished = False
        self.read_from: Optional[float] = None  # epoch seconds that the earlier run had read up to

    def open(self, source: str, path: Optional[str]) -> Dict[str, Any]:
        about = row(source, path)
        self.rows.append(about)
        return about

    def unreadable(self, about: Dict[str, Any], error: Unreadable) -> None:
        about["available"] = False
        if error.exists or self.explicit:
            about["error"] = error.error
            if error.advice:
                self.advise(error.advice)

    def advise(self, sentence: str) -> None:
        if sentence not in self.advice:
            self.advice.append(sentence)


# --- one reader for each source -------------------------------------------------------------------------------------


def _read_journal(request: _Request, report: _Report) -> Iterator[Dict[str, Any]]:
    host, facts = request.host, request.facts
    place = request.journal_directory
    is_file = place is not None and os.path.isfile(run.below(host, place))
    options = journal.Options(
        directory=None if is_file else place,
        file=place if is_file else None,
        since=request.since,
        until=request.until,
        boot_id=facts.boot_id if request.current_boot else None,
        cursor=request.cursor,
    )
    about = report.open("journal", place or journal.DIRECTORIES[1 if journal.persistent(host) else 0])
    try:
        found = journal.look(host, options)
    except Unreadable as error:
        report.unreadable(about, error)
        return
    about["available"] = True
    report.of_running_host = report.of_running_host or place is None
    report.cursor_vanished = found.vanished
    if found.vanished:
        report.advise(_CURSOR_VANISHED)
    if found.begin:
        report.read_from = found.begin.usec / 1e6
    report.journal_cursor = found.newest.cursor if found.newest else request.cursor
    report.journal_missed = journal.missed(host, options)
    page_size = (
        facts.page_size if place is None and (request.current_boot or os.uname().machine in _SAME_PAGES) else None
    )
    context = _context(request, "journal", about["path"], page_size=page_size)
    left: Optional[Dict[str, Any]] = None  # the first event that is the next run's
    for window in journal.windows(host, options, found, about):
        for event in parse(window, context):
            if not _unfinished(event, request.now) and not _too_late(event, request):
                yield event
            elif left is None:
                left = event
    if left is not None:
        first = left["origins"][0]["first"]
        report.journal_cursor = (journal.before(host, options, first) if first else None) or request.cursor


def _read_kmsg(request: _Request, report: _Report) -> Iterator[Dict[str, Any]]:
    facts = request.facts
    about = report.open("kmsg", kmsg.PATH)
    context = _context(
        request,
        "kmsg",
        kmsg.PATH,
        boot_id=facts.boot_id,
        machine_id=facts.machine_id,
        hostname=facts.hostname,
        kernel=facts.kernel,
        page_size=facts.page_size,
        boot_time=facts.boot_time,
        boot_time_error=facts.boot_time_error,
        reference=request.now,
    )
    about["available"] = True
    try:
        for event in parse(counted(kmsg.read(request.host, about), about, context), context):
            if _new(event, report) and not _unfinished(event, request.now):
                yield event
        report.of_running_host = True
    except Unreadable as error:
        report.unreadable(about, error)


def _read_files(request: _Request, report: _Report) -> Iterator[Dict[str, Any]]:
    missing: List[Tuple[str, str]] = []
    if request.paths:
        logs, missing = logfiles.given(request.host, request.paths)
    else:
        logs = logfiles.kernel_logs(request.host)
        if not logs:
            nothing = "{0} has no log file of the kernel (kern.log, messages, syslog, warn).".format(logfiles.DIRECTORY)
            report.unreadable(report.open("file", logfiles.DIRECTORY), Unreadable(nothing, exists=False))
    for path, sentence in missing:
        report.open("file", path)["error"] = sentence
    for log in logs:
        yield from _read_file(request, report, log)


def _read_file(request: _Request, report: _Report, log: logfiles.LogFile) -> Iterator[Dict[str, Any]]:
    about = report.open("file", log.path)
    about["available"] = True
    if request.since is not None and log.modified < request.since:
        return
    if not request.paths and report.read_from is not None and log.modified < report.read_from - _CURSOR_SLACK_SECONDS:
        return
    context = _context(request, "file", log.path, reference=log.modified if log.modified > 0 else None)
    try:
        for event in parse(counted(logfiles.read(request.host, log.path, about), about, context), context):
            if request.paths or _new(event, report):
                yield event
        report.of_running_host = report.of_running_host or not request.paths
    except Unreadable as error:
        report.unreadable(about, error)


def _companions(request: _Request, report: _Report, named: Sequence[str]) -> companions.Found:
    """What the programs beside the kernel logged; the ring buffer alone has none of it."""
    if "journal" not in named and "files" not in named:
        return companions.Found([], [], [])
    return companions.read(
        request.host,
        since=request.since,
        until=request.until,
        cursor=None if report.cursor_vanished else request.cursor,
        current_boot=request.current_boot,
        journal_directory=request.journal_directory,
        log_paths=request.paths,
        raw=request.raw,
    )


_Reader = Callable[[_Request, _Report], Iterator[Dict[str, Any]]]
# The journal first: it knows where the earlier run ended.
_READERS: Dict[str, _Reader] = {"journal": _read_journal, "kmsg": _read_kmsg, "files": _read_files}


def _context(request: _Request, source: str, path: Optional[str], **known: Any) -> Context:
    local = _to_epoch if run.live(request.host) else None
    return Context(source=source, path=path, max_tasks=request.max_tasks, raw=request.raw, to_epoch=local, **known)


def _to_epoch(year: int, month: int, day: int, hour: int, minute: int, second: int) -> float:
    """Local wall time of this host as epoch seconds. Raises ValueError for what is no time."""
    return datetime.datetime(year, month, day, hour, minute, min(second, 59)).timestamp()


# --- which events ---------------------------------------------------------------------------------------------------


def _seconds(event: Dict[str, Any]) -> Optional[float]:
    if event["time"] is None:
        return None
    moment = datetime.datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%S.%fZ")
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


def _asked_for(event: Dict[str, Any], request: _Request) -> bool:
    moment = _seconds(event)
    if moment is not None and request.since is not None and moment < request.since:
        return False
    if _too_late(event, request):
        return False
    facts = request.facts
    return not request.current_boot or facts.boot_id is None or _of_boot(event, facts)


def _too_late(event: Dict[str, Any], request: _Request) -> bool:
    moment = _seconds(event)
    return moment is not None and request.until is not None and moment > request.until


def _of_boot(event: Dict[str, Any], facts: _Facts) -> bool:
    """Whether an event is of the running boot: by its boot ID, else by its time."""
    if event["boot_id"] is not None:
        return bool(event["boot_id"] == facts.boot_id)
    moment = _seconds(event)
    if moment is None or facts.boot_time is None:
        return False
    return moment >= facts.boot_time - (facts.boot_time_error or 0.0) - (event["time_error_seconds"] or 0.0)


def _new(event: Dict[str, Any], report: _Report) -> bool:
    """Whether a source without cursors shows an event that the earlier run cannot have seen."""
    moment = _seconds(event)
    return report.read_from is None or moment is None or moment >= report.read_from - _CURSOR_SLACK_SECONDS


def _unfinished(event: Dict[str, Any], now: float) -> bool:
    """Whether the kernel may still be printing the report."""
    moment = _seconds(event)
    return event["outcome"] == "unknown" and moment is not None and abs(now - moment) < _UNFINISHED_SECONDS


class _Kept:
    """The newest events whole, of the others only what recognises their copies and counts them."""

    def __init__(self, most: int) -> None:
        self.most = max(0, most)
        self._room = self.most + max(256, self.most // 2)
        self._whole: List[Dict[str, Any]] = []
        self._brief: List[Dict[str, Any]] = []

    def add(self, event: Dict[str, Any]) -> None:
        self._whole.append(event)
        if len(self._whole) > self._room:
            merged = merge(self._whole)
            cut = max(0, len(merged) - self.most)
            self._brief.extend(map(_brief, merged[:cut]))
            self._whole = merged[cut:]

    def all(self) -> List[Dict[str, Any]]:
        """One event per kill, oldest first."""
        return merge(self._brief + self._whole)


_BRIEF_KEYS = (
    "id",
    "boot_id",
    "machine_id",
    "hostname",
    "kernel",
    "time",
    "time_source",
    "time_error_seconds",
    "monotonic_usec",
    "page_size",
    "killer",
    "victims",
    "kill_lines",
    "group_kill",
    "origins",
)
_CUT_OFF = {"missing": ["all"] * 99, "gaps": 0}  # the least complete of all copies


def _brief(event: Dict[str, Any]) -> Dict[str, Any]:
    return dict({key: event[key] for key in _BRIEF_KEYS}, raw=None, context=[], completeness=_CUT_OFF)


def _newest(merged: Sequence[Dict[str, Any]], most: int) -> List[Dict[str, Any]]:
    newest = merged[max(0, len(merged) - most) :] if most > 0 else []
    return [event for event in newest if event["completeness"] is not _CUT_OFF]


# --- the result -----------------------------------------------------------------------------------------------------


def _result(request: _Request, report: _Report, kept: _Kept, of_host: bool) -> Dict[str, Any]:
    facts = request.facts
    merged = kept.all()
    events = _newest(merged, kept.most)
    parsed = sum(event["kill_lines"] for event in merged if _of_boot(event, facts)) if facts.boot_id else None
    if not parsed and not report.of_running_host:
        parsed = None
    if of_host and not any(about["available"] for about in report.rows):
        report.advise(_NOTHING_READ.format(_FOR_USERS if os.geteuid() else _FOR_ROOT))
    return {
        "events": events,
        "coverage": {
            "sources": report.rows,
            "boot_id": facts.boot_id,
            "kernel_counter": facts.kernel_counter,
            "kills_parsed": parsed,
            "kills_unlogged": _unlogged(request, report, parsed),
            "journal_persistent": journal.persistent(request.host) if of_host else None,
            "ring_buffer_overrun": _first(about["overrun"] for about in report.rows),
            "journal_missed": report.journal_missed,
            "journal_cursor": report.journal_cursor,
            "truncated": len(events) < len(merged),
            "events_total": len(merged),
            "events_returned": len(events),
            "advice": report.advice,
        },
    }


def _first(values: Iterable[Optional[bool]]) -> Optional[bool]:
    return next((value for value in values if value is not None), None)


def _unlogged(request: _Request, report: _Report, parsed: Optional[int]) -> Optional[int]:
    facts = request.facts
    if facts.kernel_counter is None or parsed is None:
        return None
    begins_late = request.since is not None and (facts.boot_time is None or request.since > facts.boot_time)
    ends_early = request.until is not None and request.until < request.now
    if begins_late or ends_early or report.read_from is not None:
        return None
    return max(0, facts.kernel_counter - parsed)
