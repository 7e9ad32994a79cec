# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills by user space, and what systemd and the container engines say of kills. Private to this collection.

A few calls of journalctl: matches that the journal has indexes for, so that records of the kernel and of containers
are never touched, and `--grep` inside journalctl for the programs that talk much; the newest first and for a bounded
time. Syslog files are read only where a host has no journal that can be read: there a line's tag is all that tells
who wrote it (see ``_oom/companions.py``).
"""

import collections
import datetime
import json
import os
import re
import time
from typing import Any, Deque, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .._oom import companions, context, killers
from .._oom.times import Context, iso, when
from . import counters, journal, logfiles, run
from .coverage import Unreadable, row

SOURCE = "companions"
_MOST_LINES = 20000
_LATER = 60.0  # what is said of the last kill asked for
_RECORD = 1024 * 1024
_NO_SEARCH = ("unrecognized option", "pattern matching", "pcre2", "PCRE2")


class Found(NamedTuple):
    """Kills by user space as events, what was said of kills, and a row for each source read (keys of coverage.row)."""

    events: List[Dict[str, Any]]
    facts: List[context.Fact]
    rows: List[Dict[str, Any]]


class _Ask(NamedTuple):
    host: run.Host
    options: journal.Options
    raw: bool
    reference: float


class _Sink:
    """Takes lines of any program and keeps of them what matters, bounded."""

    def __init__(self, known: Context, most_events: int, most_facts: int) -> None:
        self._known = known
        self._killers = killers.Killers(known, most_events)
        self._facts: Deque[context.Fact] = collections.deque(maxlen=most_facts)

    def take(self, said: Optional[companions.Said]) -> None:
        if said is None:
            return
        self._killers.see(said)
        one = context.fact(said, self._known)
        if one is not None:
            self._facts.append(one)

    def give(self) -> Tuple[List[Dict[str, Any]], List[context.Fact]]:
        return self._killers.events(), list(self._facts)


def read(
    host: run.Host,
    since: Optional[float] = None,
    until: Optional[float] = None,
    cursor: Optional[str] = None,
    current_boot: bool = False,
    journal_directory: Optional[str] = None,
    log_paths: Sequence[str] = (),
    raw: bool = False,
    max_events: int = 1000,
    max_facts: int = 8000,
) -> Found:
    """Read what other programs than the kernel say of kills.

    :arg since: and ``until``, epoch seconds; facts are read to a minute behind ``until``.
    :arg cursor: only what the journal has behind the time of this record, of an earlier run.
    :arg log_paths: only these log files. Without them the journal; where that cannot be read, the syslog files.
    :arg max_events: and ``max_facts``: the newest are kept.

    Nothing raises: a source that cannot be read is a row with its error.
    """
    place = journal_directory
    is_file = place is not None and os.path.isfile(run.below(host, place))
    options = journal.Options(
        directory=None if is_file else place,
        file=place if is_file else None,
        since=since,
        until=None if until is None else until + _LATER,
        boot_id=counters.boot_id(host) if current_boot else None,
        cursor=cursor,
    )
    ask = _Ask(host, options, raw, time.time())
    if log_paths:
        return _from_files(ask, log_paths, max_events, max_facts)
    found = _from_journal(ask, max_events, max_facts)
    if found.rows[0]["available"] or place is not None:
        return found
    files = _from_files(ask, (), max_events, max_facts)
    return files._replace(rows=found.rows + files.rows)


# --- the journal ----------------------------------------------------------------------------------------------------

# Matches that the journal has an index for; of several it takes all (OR). Each is one field: the journal would look
# through both fields' records anew for every step, were one of an OR an AND. Whose words they are is judged here.
_SIGNS = (
    "MESSAGE_ID=fe6faa94e7774663a0da52717891d8ef",  # SD_MESSAGE_UNIT_OUT_OF_MEMORY
    "MESSAGE_ID=d989611b15e44c9dbf31e3c81256e4ed",  # SD_MESSAGE_UNIT_OOMD_KILL
    "UNIT_RESULT=oom-kill",  # of SD_MESSAGE_UNIT_FAILURE_RESULT
    "EXIT_STATUS=9",  # of SD_MESSAGE_UNIT_PROCESS_EXIT
    "PODMAN_EXIT_CODE=137",
    "PODMAN_EVENT=oom",
    "SYSLOG_IDENTIFIER=conmon",  # not what containers print, which has their names there
)
_KILLERS = ("_COMM=systemd-oomd", "_COMM=earlyoom", "_COMM=nohang", "_COMM=oomd")
_CONTAINERD = ("_COMM=containerd",)
# Docker stores its containers' output as its own, but with another identifier.
_DOCKERD = ("_COMM=dockerd", "SYSLOG_IDENTIFIER=dockerd")
_OOMD_KMSG = ("_TRANSPORT=kernel", "SYSLOG_FACILITY=1")  # what user space has written to /dev/kmsg
# For --grep; capital letters make it case-sensitive.
_PATTERN = "|".join(
    (
        r"OOM|oom-kill|oomd |status=9/KILL|container (died|oom) |exitStatus=",
        r"SIG(KILL|TERM) to |escalating to |illing process |exited after |did not exit|kill failed: ",
        r"not actually sending|, VmRSS ",
        r"[Kk]illed |Marked /|to kill|processed killed",
        r"PID: |Vm, MiB|cgroup_v|EUID|, oom_score|ighest badness|=== STARTING|corrective action|the command: ",
        r"he victim|ached victim|a signal: |, badness: ",
    )
)


class _Call(NamedTuple):
    """One call of journalctl: its matches, how long it may take, and what it is about, for people."""

    matches: Tuple[Tuple[str, ...], ...]  # an OR of ANDs
    seconds: float
    about: str


class _NoSearchError(Exception):
    """This journalctl cannot search."""


def _any(matches: Iterable[str]) -> Tuple[Tuple[str, ...], ...]:
    return tuple((match,) for match in matches)


# kubelet and CRI-O are not asked: of their very many lines hardly one speaks of a kill.
_CALLS = (
    _Call(_any(_SIGNS), 20.0, "what systemd and Podman say"),
    _Call(_any(_KILLERS), 10.0, "the killers of user space"),
    _Call(_any(_CONTAINERD), 5.0, "containerd"),
    _Call((_DOCKERD,), 5.0, "dockerd"),
)
_WITHOUT_SEARCH = _CALLS[:2]
_KMSG_CALL = _Call((_OOMD_KMSG,), 5.0, "oomd in the kernel's log")


def _from_journal(ask: _Ask, max_events: int, max_facts: int) -> Found:
    about = row(SOURCE, ask.options.directory or ask.options.file or "journal")
    kept: List[Tuple[int, companions.Said]] = []
    try:
        journal.require_journal(ask.host, ask.options)
        kept.extend(_of_all(ask, about))
        about["available"] = True
    except Unreadable as error:
        about["error"] = error.error if error.exists else None
    sink = _Sink(Context(source="journal", path=about["path"], raw=ask.raw), max_events, max_facts)
    for _usec, said in sorted(kept, key=lambda each: each[0]):
        sink.take(said)
    return Found(*(sink.give() + ([about],)))


def _of_all(ask: _Ask, about: Dict[str, Any]) -> List[Tuple[int, companions.Said]]:
    """Lines of all calls, those of each in the journal's order."""
    try:
        kept = [each for call in _CALLS for each in _of_call(ask, call, about, True)]
    except _NoSearchError:
        kept = [each for call in _WITHOUT_SEARCH for each in _of_call(ask, call, about, False)]
    if any(said.program == "oomd" for _usec, said in kept):
        kept += _of_call(ask, _KMSG_CALL, about, False)
    return kept


def _of_call(ask: _Ask, call: _Call, about: Dict[str, Any], search: bool) -> List[Tuple[int, companions.Said]]:
    """The newest lines of programs that are what they say, in the journal's order, each with when it was read."""
    running = run.hurried(ask.host, call.seconds).stream(_argv(ask, call, search))
    kept: List[Tuple[int, companions.Said]] = []
    seen = False
    try:
        for line in _lines(running.chunks):
            about["records"] += 1
            about["bytes"] += len(line)
            record = _decoded(line)
            said = companions.from_journal(record) if record is not None else None
            seen = seen or record is not None
            if record is not None and said is not None:
                kept.append((_usec(record), said))
                _note_seconds(about, _usec(record) / 1e6)
            if len(kept) >= _MOST_LINES:
                break
    except run.OverdueError:
        since = iso(kept[-1][0] / 1e6) if kept else None
        words = "back to {0}".format(since) if since else "not far enough back"
        about["error"] = "In {0:.0f} s the journal was read {1} only for {2}.".format(call.seconds, words, call.about)
    finally:
        ended = running.end()
    if search and ended.status and any(words in ended.stderr for words in _NO_SEARCH):
        raise _NoSearchError()
    journal.check(ask.options, ended, failed=not seen and ended.status > 0 and bool(ended.stderr.strip()))
    return kept[::-1]


def _argv(ask: _Ask, call: _Call, search: bool) -> List[str]:
    options = ask.options
    # The newest first: where time or room ends, the oldest are lost.
    arguments = ["-o", "json", "--reverse"] + (["--grep=" + _PATTERN] if search else [])
    arguments += _from(options) + journal.no_later(options)
    for place, match in enumerate(call.matches):
        arguments += (["+"] if place else []) + list(match) + journal.of_boot(options)
    return journal.command(ask.host, options, arguments)


_CURSOR_TIME = re.compile(r"(?:^|;)t=([0-9a-f]{1,15})(?:;|$)")


def _from(options: journal.Options) -> List[str]:
    """Behind the time of the cursor, or from a later time; journalctl reads backwards from a cursor itself."""
    at = _CURSOR_TIME.search(options.cursor or "")
    behind = int(at.group(1), 16) + 1 if at else 0
    since = journal.microseconds(options.since) if options.since is not None else 0
    return ["--since=" + journal.moment(max(behind, since))] if behind or since else []


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        yield from lines
        if len(rest) > _RECORD:  # nothing that these programs write
            rest = b""
    if rest:
        yield rest


def _decoded(line: bytes) -> Optional[Dict[str, Any]]:
    try:
        record = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _usec(record: Dict[str, Any]) -> int:
    usec = record.get("__REALTIME_TIMESTAMP")
    return int(usec) if isinstance(usec, str) and re.match(r"[0-9]{1,18}\Z", usec) else 0


# --- syslog files ---------------------------------------------------------------------------------------------------

_DAEMON_LOG = re.compile(r"daemon\.log(?:[.-][\w.-]+)?")  # where Debian's rsyslog put services up to release 11
_NEEDLES = tuple(companions.needles())


def _from_files(ask: _Ask, paths: Sequence[str], max_events: int, max_facts: int) -> Found:
    rows: List[Dict[str, Any]] = []
    local = _to_epoch if run.live(ask.host) else None
    logs, missing = _files(ask.host, paths)
    for path, sentence in missing:
        rows.append(row(SOURCE, path))
        rows[-1]["error"] = sentence
    events: List[Dict[str, Any]] = []
    facts: List[context.Fact] = []
    for log in logs:
        about = row(SOURCE, log.path)
        rows.append(about)
        if ask.options.since is not None and log.modified < ask.options.since:
            about["available"] = True
            continue
        reference = log.modified if log.modified > 0 else ask.reference
        known = Context(source="file", path=log.path, raw=ask.raw, reference=reference, to_epoch=local)
        sink = _Sink(known, max_events, max_facts)
        try:
            for line in _needled(logfiles.read(ask.host, log.path, about), about):
                said = companions.from_text(line)
                if said is not None and _asked_for(said, known, ask.options):
                    _note_seconds(about, when(said.stamp, known)[0])
                    sink.take(said)
            about["available"] = True
        except Unreadable as error:
            about["error"] = error.error
        new_events, new_facts = sink.give()
        events, facts = (events + new_events)[-max_events:], (facts + new_facts)[-max_facts:]
    return Found(events, facts, rows)


def _files(host: run.Host, paths: Sequence[str]) -> Tuple[List[logfiles.LogFile], List[Tuple[str, str]]]:
    if paths:
        return logfiles.given(host, paths)
    names = [name for name in run.names(host, logfiles.DIRECTORY) if _DAEMON_LOG.fullmatch(name)]
    daemons = logfiles.given(host, [os.path.join(logfiles.DIRECTORY, name) for name in names])[0] if names else []
    logs = sorted(logfiles.kernel_logs(host) + daemons, key=lambda log: (log.modified, log.path))
    nothing = "{0} has no log file of a syslog daemon.".format(logfiles.DIRECTORY)
    return logs, [] if logs else [(logfiles.DIRECTORY, nothing)]


def _needled(chunks: Iterable[bytes], about: Dict[str, Any]) -> Iterator[str]:
    """The lines that have a needle; all bytes and lines are counted."""
    rest = b""
    for chunk in chunks:
        about["records"] += chunk.count(b"\n")
        about["bytes"] += len(chunk)
        block = rest + chunk
        end = block.rfind(b"\n") + 1
        rest = block[end:] if len(block) - end <= _RECORD else b""
        for line in _hits(block[:end]):
            yield line.decode("utf-8", "surrogateescape")
    for line in _hits(rest):
        yield line.decode("utf-8", "surrogateescape")


def _hits(block: bytes) -> List[bytes]:
    lines: Dict[int, bytes] = {}
    for needle in _NEEDLES:
        at = block.find(needle)
        while at >= 0:
            begin = block.rfind(b"\n", 0, at) + 1
            end = block.find(b"\n", at)
            end = len(block) if end < 0 else end
            lines[begin] = block[begin:end]
            at = block.find(needle, end)
    return [lines[begin] for begin in sorted(lines)]


def _asked_for(said: companions.Said, known: Context, options: journal.Options) -> bool:
    moment = when(said.stamp, known)[0]
    if moment is None:
        return True
    if options.since is not None and moment < options.since:
        return False
    return options.until is None or moment <= options.until


def _note_seconds(about: Dict[str, Any], moment: Optional[float]) -> None:
    said = iso(moment)
    if said is not None:
        about["first_time"] = min(said, about["first_time"] or said)
        about["last_time"] = max(said, about["last_time"] or said)


def _to_epoch(year: int, month: int, day: int, hour: int, minute: int, second: int) -> float:
    """Local wall time of this host as epoch seconds. Raises ValueError for what is no time."""
    return datetime.datetime(year, month, day, hour, minute, min(second, 59)).timestamp()
