# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel records of the systemd journal near OOM reports, through journalctl alone. Private to this collection.

Two passes, because `-o export` takes three times as long as finding the few records that matter: `--grep`
runs inside journalctl and gives the key lines of reports with their cursors; then the windows of time
around them are exported whole. The plan weighs a call of journalctl against the records that a wider
window would export for nothing. Where journalctl cannot grep (before systemd 237, or built without
PCRE2), everything is exported once.

Windows are of wall time, which may have been set back while the journal was written: a window must show
the key lines that it was made for, else it is read again from their cursor on.
"""

import re
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from .._oom import records, skim
from .._oom.rows import stamp
from .._oom.times import iso
from . import counters, run
from .coverage import Unreadable

DIRECTORIES = ("/run/log/journal", "/var/log/journal")
_KERNEL = "_TRANSPORT=kernel"  # journald sets it: a user's `logger` cannot
# journald's own record that it could not keep up with the kernel (SD_MESSAGE_JOURNAL_MISSED).
_MISSED = ("_TRANSPORT=driver", "MESSAGE_ID=e9bf28e6e834481bb6f48f548ad13606")
_EDGES = ("ut of memory and no killable", "oom_kill_process: [0-9]+ callbacks suppressed")
# Capital letters make --grep case-sensitive; none of the needles has a character that is special in PCRE.
_PATTERN = "|".join([needle.decode("ascii") for needle in skim.NEEDLES] + list(_EDGES))
_OPENING = ("invoked oom-killer: ", "oom-kill:constraint=", "callbacks suppressed")

_SECOND = 1000000
_LEAD = 2 * _SECOND  # before a key line that begins a report
_LEAD_UNOPENED = 30 * _SECOND  # before one whose report has lost its beginning
_TRAIL = 5 * _SECOND  # behind a kill: the reaper's line
_TRAIL_UNENDED = 60 * _SECOND
_LONGEST = 900 * _SECOND  # a table of 5000 tasks on a serial console of 9600 baud takes 7 minutes
_CALL_COST = 500  # records whose export and parsing take as long as one more call (6 ms, systemd 252)
_WINDOWS = 256
_WINDOWS_PLANNED = 4096
_AFTERWARDS = 200  # records read behind the last key line where windows of time failed
_BATCH = 256
_RECORD = 16 * 1024 * 1024


class Options(NamedTuple):
    """Which journal and which part of it. Times are epoch seconds; both ends count."""

    directory: Optional[str] = None
    file: Optional[str] = None
    root: Optional[str] = None
    since: Optional[float] = None
    until: Optional[float] = None
    boot_id: Optional[str] = None  # only this boot, 32 hex digits
    cursor: Optional[str] = None  # only what comes behind this record


class Entry(NamedTuple):
    """Where a record stands: its cursor, and microseconds of the epoch when journald read it."""

    cursor: str
    usec: int


class Journal(NamedTuple):
    """What is known of the journal before it is read."""

    oldest: Optional[Entry]  # of its kernel records in the asked part
    newest: Optional[Entry]
    begin: Optional[Entry]  # the record of options.cursor, to read on behind it
    vanished: bool  # options.cursor was given but the journal no longer has it


class _Window(NamedTuple):
    start: int  # microseconds of the epoch
    end: int
    first: str  # cursors of the first and the last key line inside
    last: str
    numbers: Tuple[Optional[str], int, int]  # journal sequence: its id, numbers of the first and the last key line
    open: bool  # the last key line begins a report or stands inside one


# --- before reading -------------------------------------------------------------------------------------------------


def look(host: run.Host, options: Options) -> Journal:
    """Find the ends of the journal, before anything is read: what is logged later is for the next run.

    Raises Unreadable where there is no journal or it may not be read.
    """
    require_journal(host, options)
    # Reversed: with -n alone systemd 252 begins at the journal's end and finds nothing before --until.
    newest = _one(host, options, ["--reverse", "-n", "1", _KERNEL] + of_boot(options) + no_later(options))
    if newest is None and options.until is None:
        raise Unreadable("{0} has no records of the kernel.".format(_name(options)), exists=bool(_given(options)))
    begin = _one(host, options, ["--cursor=" + options.cursor, "-n", "1"], tolerant=True) if options.cursor else None
    vanished = options.cursor is not None and (begin is None or begin.cursor != options.cursor)
    oldest = _one(host, options, [_KERNEL] + of_boot(options) + _since(options) + no_later(options))
    return Journal(oldest, newest, None if vanished else begin, vanished)


def require_journal(host: run.Host, options: Options) -> None:
    """Raise Unreadable where the host has no journalctl, or no journal where it should be."""
    if host.which("journalctl") is None:
        raise Unreadable("This host has no journalctl.", exists=False)
    if _given(options):
        return
    if not any(run.names(host, directory) or _is_there(host, directory) for directory in DIRECTORIES):
        raise Unreadable("This host keeps no journal: {0} and {1} do not exist.".format(*DIRECTORIES), exists=False)


def _is_there(host: run.Host, directory: str) -> bool:
    parent, _slash, name = directory.rpartition("/")
    return name in run.names(host, parent)


def _one(host: run.Host, options: Options, arguments: List[str], tolerant: bool = False) -> Optional[Entry]:
    """The first record that a call gives; None if there is none (or, if tolerant, if the call fails)."""
    running = host.stream(command(host, options, ["-o", "export"] + arguments))
    try:
        entry = next((_entry(record) for record in split(running.chunks)), None)
    finally:
        ended = running.end()
    if entry is None and ended.status and tolerant:
        return None
    check(options, ended, failed=entry is None and ended.status != 0 and bool(ended.stderr.strip()))
    return entry


_DENIED = (
    "insufficient permissions",
    "Permission denied",
    "messages from other users and the system",
    "from the system",
)
_NONE = ("No journal files were found", "No journal files were opened", "no persistent journal was found")
_ADVICE = (
    "Read the journal as root (become: true), or add the user to the group systemd-journal (or adm) and connect anew."
)


def _given(options: Options) -> Optional[str]:
    return options.directory or options.file or options.root


def _name(options: Options) -> str:
    place = _given(options)
    return "The journal in {0}".format(place) if place else "The system journal"


def check(options: Options, ended: run.Ended, failed: bool) -> None:
    """Raise Unreadable where journalctl ended because it could not read."""
    which = _name(options)
    if any(words in ended.stderr for words in _DENIED):
        raise Unreadable("{0} could not be read: this user may not.".format(which), _ADVICE)
    if any(words in ended.stderr for words in _NONE):
        raise Unreadable("{0} has no files.".format(which), exists=bool(_given(options)))
    if failed:
        raise Unreadable("{0} could not be read: {1}.".format(which, run.complaint(ended)))


def persistent(host: run.Host) -> Optional[bool]:
    """Whether journald keeps files in /var/log/journal, so that they outlive a reboot; None without a machine ID."""
    machine = counters.machine_id(host)
    if machine is None:
        return None
    return any(name.endswith(".journal") for name in run.names(host, "/var/log/journal/" + machine))


def missed(host: run.Host, options: Options) -> Optional[int]:
    """How many kernel messages journald itself says that it missed, in the asked part; None if it cannot be asked."""
    arguments = ["-o", "cat"] + list(_MISSED) + of_boot(options) + _since(options) + no_later(options)
    running = host.stream(command(host, options, arguments))
    said = b"".join(running.chunks)
    ended = running.end()
    if ended.status and ended.stderr.strip():
        return None
    return sum(int(number) for number in re.findall(rb"(?m)^Missed (\d{1,18}) kernel messages", said))


def before(host: run.Host, options: Options, cursor: str) -> Optional[str]:
    """Cursor of the kernel record before the one of ``cursor``; None if there is none."""
    arguments = ["-o", "export", "--cursor=" + cursor, "--reverse", "-n", "2", _KERNEL]
    running = host.stream(command(host, options, arguments))
    entries = [_entry(record) for record in split(running.chunks)]
    running.end()
    return next((entry.cursor for entry in entries if entry.cursor != cursor), None)


# --- reading --------------------------------------------------------------------------------------------------------


def windows(host: run.Host, options: Options, journal: Journal, about: Dict[str, Any]) -> Iterator[Iterator[bytes]]:
    """The parts of the journal that hold OOM reports, each a stream of `-o export` text; read each to its end.

    The row counts the records and bytes that were read whole; its times are those of the journal's ends.
    """
    about["first_time"] = iso(journal.oldest.usec / 1e6) if journal.oldest else None
    about["last_time"] = iso(journal.newest.usec / 1e6) if journal.newest else None
    if journal.newest is None or (journal.begin and journal.begin.cursor == journal.newest.cursor):
        return
    begin = journal.begin
    if begin and options.since is not None and microseconds(options.since) > begin.usec:
        begin = None  # journalctl takes only one of the two: the later
    try:
        plan = _planned(_hits(host, options, begin, about))
    except _NoGrepError:
        running = _start(host, options, _from(options, begin) + no_later(options))
        yield _exported(running, begin, about, set())
        return
    calls = (_start(host, options, _limits(begin, window)) for window in plan)
    for window, running in zip(plan, _one_ahead(calls)):
        wanted: Set[Optional[str]] = {window.first, window.last}
        yield _exported(running, begin, about, wanted)
        if wanted:
            yield _export_from(host, options, window, about)


def _one_ahead(calls: Iterator[run.Running]) -> Iterator[run.Running]:
    """Each call when the next one has been started: journalctl works while this process parses."""
    coming: Optional[run.Running] = None
    try:
        for call in calls:
            current, coming = coming, call
            if current is not None:
                yield current
        if coming is not None:
            current, coming = coming, None
            yield current
    finally:
        if coming is not None:
            coming.end()


class _NoGrepError(Exception):
    """This journalctl cannot search."""


_NO_GREP = ("unrecognized option", "pattern matching", "pcre2", "PCRE2")


class _Hit(NamedTuple):
    entry: Entry
    opening: bool


def _hits(host: run.Host, options: Options, begin: Optional[Entry], about: Dict[str, Any]) -> Iterator[_Hit]:
    """The key lines of reports, in the journal's order."""
    arguments = (
        ["-o", "export", "--grep=" + _PATTERN, _KERNEL] + of_boot(options) + _from(options, begin) + no_later(options)
    )
    running = host.stream(command(host, options, arguments))
    skipped = begin.cursor if begin else None
    try:
        for rows in records.export_rows(running.chunks):
            for place, where in enumerate(rows.wheres):
                at = stamp(where)
                if at.position and at.position != skipped and at.realtime_usec is not None:
                    opening = any(words in rows.texts[place] for words in _OPENING)
                    yield _Hit(Entry(at.position, at.realtime_usec), opening)
    finally:
        ended = running.end()
    if ended.status and any(words in ended.stderr for words in _NO_GREP):
        raise _NoGrepError()
    _note(ended, about)


def _planned(hits: Iterable[_Hit]) -> List[_Window]:
    """Windows around the hits, few enough and small enough that reading them takes the least time."""
    plan: List[_Window] = []
    for hit in hits:
        window = _around(hit)
        if plan and _joins(plan[-1], window, hit):
            plan[-1] = _joined(plan[-1], window)
        else:
            plan.append(window)
        if len(plan) > _WINDOWS_PLANNED:
            plan = _fewer(plan, _WINDOWS_PLANNED // 4)
    return _fewer(plan, _WINDOWS)


def _around(hit: _Hit) -> _Window:
    cursor, usec = hit.entry
    lead, trail = (_LEAD, _TRAIL_UNENDED) if hit.opening else (_LEAD_UNOPENED, _TRAIL)
    fields = dict(part.partition("=")[::2] for part in cursor.split(";"))
    number = int(fields["i"], 16) if re.match(r"[0-9a-f]{1,16}$", fields.get("i", "")) else -1
    return _Window(usec - lead, usec + trail, cursor, cursor, (fields.get("s"), number, number), hit.opening)


def _joins(window: _Window, following: _Window, hit: _Hit) -> bool:
    if hit.entry.usec < window.start:
        return False  # the clock was set back
    if following.start <= window.end or (window.open and hit.entry.usec - window.end < _LONGEST and not hit.opening):
        return True
    return _between(window, following) < _CALL_COST


def _between(window: _Window, following: _Window) -> int:
    """Records between two windows, of any transport; very many where the journal does not tell."""
    (one, _first, last), (other, first, _last) = window.numbers, following.numbers
    return first - last if one == other and 0 <= last <= first else 1 << 62


def _joined(window: _Window, following: _Window) -> _Window:
    return window._replace(
        end=following.end if window.open else max(window.end, following.end),
        last=following.last,
        numbers=(window.numbers[0], window.numbers[1], following.numbers[2])
        if window.numbers[0] == following.numbers[0]
        else following.numbers,
        open=following.open,
    )


def _fewer(plan: List[_Window], most: int) -> List[_Window]:
    """At most so many windows, joined where the least lies between; windows against the clock's order stay apart."""
    if len(plan) <= most:
        return plan
    gaps = sorted(
        range(1, len(plan)),
        key=lambda place: (_between(plan[place - 1], plan[place]), plan[place].start - plan[place - 1].end),
    )
    glue = set(gaps[: len(plan) - most])
    fewer = plan[:1]
    for place in range(1, len(plan)):
        if place in glue and plan[place].end >= fewer[-1].start:
            fewer[-1] = _joined(fewer[-1], plan[place])
        else:
            fewer.append(plan[place])
    return fewer


def _limits(begin: Optional[Entry], window: _Window) -> List[str]:
    """Of `since` and `until` the events are judged, not their records: a report may begin before, or end behind."""
    first = "--cursor=" + begin.cursor if begin and window.start <= begin.usec else "--since=" + moment(window.start)
    return [first, "--until=" + moment(window.end)]


def _start(host: run.Host, options: Options, limits: List[str]) -> run.Running:
    return host.stream(command(host, options, ["-o", "export", _KERNEL] + of_boot(options) + limits))


def _exported(
    running: run.Running, begin: Optional[Entry], about: Dict[str, Any], wanted: Set[Optional[str]]
) -> Iterator[bytes]:
    """What a call gives, in batches, without the record to begin behind; takes cursors seen off ``wanted``."""
    skipped = begin.cursor if begin else None
    try:
        batch: List[bytes] = []
        for record in split(running.chunks):
            cursor = _cursor(record)
            if cursor == skipped:
                continue
            wanted.discard(cursor)
            batch.append(record)
            if len(batch) >= _BATCH:
                yield _counted(batch, about)
                batch = []
        if batch:
            yield _counted(batch, about)
    finally:
        ended = running.end()
    _note(ended, about)


def _export_from(host: run.Host, options: Options, window: _Window, about: Dict[str, Any]) -> Iterator[bytes]:
    """The records of a window found by cursor, not by time: from its first key line to a little behind its last."""
    running = _start(host, options, ["--cursor=" + window.first])
    try:
        left = -1
        for record in split(running.chunks):
            yield _counted([record], about)
            if _cursor(record) == window.last:
                left = _AFTERWARDS
            left -= 1
            if left == 0:
                break
    finally:
        running.end()


def _counted(batch: List[bytes], about: Dict[str, Any]) -> bytes:
    data = b"".join(batch)
    about["records"] += len(batch)
    about["bytes"] += len(data)
    return data


def _note(ended: run.Ended, about: Dict[str, Any]) -> None:
    """Keep a complaint of journalctl, such as a damaged file, in the row. Without one, a status of 1 means no match."""
    said = [line for line in ended.stderr.splitlines() if line.strip() and not line.startswith("-- ")]
    if said and about["error"] is None:
        about["error"] = "journalctl said: {0}.".format(run.complaint(ended))


# --- arguments ------------------------------------------------------------------------------------------------------


def command(host: run.Host, options: Options, arguments: Sequence[str]) -> List[str]:
    """The argv of journalctl for this journal, with further arguments."""
    return [host.which("journalctl") or "journalctl", "--no-pager", "--all"] + _place(host, options) + list(arguments)


def _place(host: run.Host, options: Options) -> List[str]:
    if options.directory:
        return ["--directory=" + run.below(host, options.directory)]
    if options.file:
        return ["--file=" + run.below(host, options.file)]
    if options.root:
        return ["--root=" + run.below(host, options.root)]
    return [] if run.live(host) else ["--root=" + host.root]


def of_boot(options: Options) -> List[str]:
    """The match of one boot; nothing where all are asked for."""
    return ["_BOOT_ID=" + options.boot_id] if options.boot_id else []


def _since(options: Options) -> List[str]:
    return [] if options.since is None else ["--since=" + moment(microseconds(options.since))]


def no_later(options: Options) -> List[str]:
    """The argument for the end of the time asked for."""
    return [] if options.until is None else ["--until=" + moment(microseconds(options.until))]


def _from(options: Options, begin: Optional[Entry]) -> List[str]:
    # Not --after-cursor: systemd 252 then loses the first record that matches, if the cursor's own does not.
    return ["--cursor=" + begin.cursor] if begin else _since(options)


def microseconds(seconds: float) -> int:
    return int(round(seconds * 1000000))


def moment(usec: int) -> str:
    """A time as journalctl takes it: `@` and seconds since the epoch."""
    return "@{0}.{1:06d}".format(*divmod(max(0, usec), 1000000))


# --- the export format ----------------------------------------------------------------------------------------------

_TEXT_RECORD = re.compile(rb"(?:[A-Z0-9_]+=[^\n]*\n)+")
_ENTRY = re.compile(rb"(?:[A-Z0-9_]+=[^\n]*\n)*?__REALTIME_TIMESTAMP=(\d{1,18})\n")


def split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Whole records of `-o export`, with their empty line. A binary field may hold what looks like a record's end."""
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        position = 0
        while True:
            end = _record_end(buffer, position)
            if end < 0:
                break
            if end - position > 1:
                yield buffer[position:end]
            position = end
        buffer = buffer[position:]
        if len(buffer) > _RECORD:  # nothing that the kernel wrote: go on at the next record
            buffer = buffer[max(0, buffer.find(b"\n\n__CURSOR=") + 2) :] if b"\n\n__CURSOR=" in buffer else b""


def _record_end(buffer: bytes, position: int) -> int:
    blank = buffer.find(b"\n\n", position)
    if blank < 0:
        return -1
    if _TEXT_RECORD.fullmatch(buffer, position, blank + 1):
        return blank + 2
    while True:
        newline = buffer.find(b"\n", position)
        if newline < 0:
            return -1
        if newline == position:
            return position + 1
        if buffer.find(b"=", position, newline) >= 0:
            position = newline + 1
            continue
        start = newline + 9
        if start > len(buffer):
            return -1
        position = start + int.from_bytes(buffer[newline + 1 : start], "little") + 1
        if position > len(buffer):
            return -1


def _cursor(record: bytes) -> Optional[str]:
    return record[9 : record.find(b"\n")].decode("ascii", "replace") if record.startswith(b"__CURSOR=") else None


def _entry(record: bytes) -> Entry:
    found = _ENTRY.match(record)
    return Entry(_cursor(record) or "", int(found.group(1)) if found else 0)
