# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the runs of a memory policy did on this host, written down before it is done. Private to this collection.

A run is a file `runs/<id>.jsonl`: its head, then one line for each thing that begins or ends. That a change begins is
on the disk before its manager is called. Of a line that a power failure has cut nothing was done yet, and it is
dropped; anything else that cannot be read is an error, because nobody shall guess what a rollback restores.

The oldest runs are removed. What they have declared is carried forward in `declared.json`.

One line for each thing, not the whole run anew each time: with 200 changes the lines take 0.2 to 1 s to reach the
disk, and the whole file, written 200 times, 1.4 to 2.6 s (ext4 on a virtual disk).
"""

import errno
import json
import os
import re
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .._oom.times import iso
from .._policy.model import Declared
from . import counters, run

DIRECTORY = "/var/lib/oom-forensics/memory_policy"
SCHEMA = "oom.forensics/policy-run/1"
KEPT = 20
CARRIED_SCHEMA = "oom.forensics/policy-declared/1"
_CARRIED = "declared.json"
MOST_CARRIED = 5000  # most workloads of old runs have ended long ago
# A running number first, because clocks may be set back: 000017-20261122T215030Z
_FILE = re.compile(r"([0-9]{6,12})-[0-9]{8}T[0-9]{6}Z\.jsonl")

# `open`: the change was about to be made, and may have been, in whole or in part. `gone`: the workload has ended, and
# there is nothing to undo.
STATUSES = ("open", "done", "undone", "gone")
_TO_UNDO = ("open", "done")


class RecordError(Exception):
    """The record cannot be read or written. The message is for the user: what was tried, found, what to do."""


class Store(NamedTuple):
    """Where the record is: a directory of the host that nobody else may write to."""

    host: run.Host
    directory: str = DIRECTORY


class Entry(NamedTuple):
    """One change of one target.

    :ivar label: what people call the target; ``who`` is `kind engine name unit` of its workload.
    :ivar before: what its manager needs to undo the change.
    :ivar settings: by name, `before wanted expression live`: the values, what the rule says, and whether the running
        workload has the new one.
    :ivar kills: processes of the target that the kernel had killed before the change; None where it does not count.
    :ivar boot_id: of the boot in which the change was made.
    """

    manager: str
    identity: str
    label: str
    path: Optional[str]
    rule: str
    who: Dict[str, Any]
    before: Dict[str, Any]
    settings: Dict[str, Dict[str, Any]]
    kills: Optional[int]
    status: str = "open"
    boot_id: Optional[str] = None

    @property
    def key(self) -> Tuple[str, str]:
        """Manager and identity, which no other target has."""
        return self.manager, self.identity


class Run(NamedTuple):
    """A recorded run. Times are ISO 8601; ``finished`` and ``rolled_back`` are None until then.

    :ivar kills: what the kernel had counted on the whole host at its start.
    """

    id: str
    boot_id: Optional[str]
    started: str
    kills: Optional[int]
    entries: Tuple[Entry, ...]
    finished: Optional[str]
    rolled_back: Optional[str]

    def undoable(self) -> List[Tuple[int, Entry]]:
        """What a rollback has to undo, the latest first, each with its number."""
        numbered = reversed(list(enumerate(self.entries)))
        return [(number, entry) for number, entry in numbered if entry.status in _TO_UNDO]

    def count(self, status: str) -> int:
        return sum(entry.status == status for entry in self.entries)


# --- reading --------------------------------------------------------------------------------------------------------


def read(store: Store) -> List[Run]:
    """Every recorded run, the oldest first; none where there is no record. Raises RecordError."""
    return [_read_run(path_of(store, "runs", name)) for name in _names(store)]


def unfinished(runs: Sequence[Run]) -> Optional[Run]:
    """The run that was interrupted, and that the next one goes on with."""
    return runs[-1] if runs and not runs[-1].finished and not runs[-1].rolled_back else None


def _names(store: Store) -> List[str]:
    folder = path_of(store, "runs")
    try:
        return sorted(filter(_FILE.fullmatch, os.listdir(folder)), key=_number)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return []
        raise _unreadable(folder, run.reason(error)) from error


def _number(name: str) -> int:
    return int(name.partition("-")[0])


def path_of(store: Store, *parts: str) -> str:
    """A place in the record's directory."""
    return os.path.join(run.below(store.host, store.directory), *parts)


def _read_run(path: str) -> Run:
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise _unreadable(path, run.reason(error)) from error
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    folded = _Fold()
    for number, line in enumerate(lines, 1):
        try:
            folded.add(json.loads(line.decode("ascii")))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise _unreadable(path, "line {0} is none that a run writes: {1!r}".format(number, error)) from error
    if folded.head is None:
        raise _unreadable(path, "it is empty")
    return folded.head._replace(entries=tuple(folded.entries))


def _unreadable(path: str, what: str) -> RecordError:
    return RecordError(
        "{0} could not be read: {1}. It says what an earlier run of a memory policy has changed on this host, and "
        "nothing is done until that is known. Run as root (become: true); if it is damaged, set by hand what it was to "
        "roll back, and move it away.".format(path, what)
    )


class _Fold:
    """A run, built line by line. ``add`` raises whatever a wrong line raises."""

    def __init__(self) -> None:
        self.head: Optional[Run] = None
        self.entries: List[Entry] = []
        self._boot_id: Optional[str] = None

    def add(self, line: Dict[str, Any]) -> None:
        event = line["event"]
        if (self.head is None) != (event == "began"):
            raise ValueError("the head is not where it belongs")
        _EVENTS[event](self, line)

    def began(self, line: Dict[str, Any]) -> None:
        if line["schema"] != SCHEMA:
            raise ValueError("its schema is {0}, not {1}".format(line["schema"], SCHEMA))
        self.head = Run(line["run"], line["boot_id"], line["time"], line["kills"], (), None, None)
        self.resumed(line)

    def resumed(self, line: Dict[str, Any]) -> None:
        self._boot_id = line["boot_id"]

    def opened(self, line: Dict[str, Any]) -> None:
        self.entries.append(Entry(boot_id=self._boot_id, **line["entry"]))

    def closed(self, line: Dict[str, Any]) -> None:
        number, status = line["entry"], line["status"]
        if number < 0 or status not in STATUSES:
            raise ValueError("no such entry or status")
        self.entries[number] = self.entries[number]._replace(status=status)

    def ended(self, line: Dict[str, Any]) -> None:
        if self.head is not None:
            self.head = self.head._replace(**{line["event"]: line["time"]})


_EVENTS: Dict[str, Callable[[_Fold, Dict[str, Any]], None]] = {
    "began": _Fold.began,
    "resumed": _Fold.resumed,
    "opened": _Fold.opened,
    "closed": _Fold.closed,
    "finished": _Fold.ended,
    "rolled_back": _Fold.ended,
}


# --- what was declared ----------------------------------------------------------------------------------------------

# By manager, identity and setting.
Declarations = Dict[Tuple[str, str, str], Declared]


def declared(store: Store, runs: Iterable[Run]) -> Declarations:
    """What was set last and not rolled back, the oldest first; also by runs that were removed.

    :arg runs: as they were read before: one that is removed meanwhile is then told twice, and not left out.
    """
    found = _carried(store)
    for each in runs:
        for key, value in _declared_by(each):
            found.pop(key, None)
            found[key] = value
    return found


def _declared_by(found: Run) -> Iterator[Tuple[Tuple[str, str, str], Declared]]:
    for entry in found.entries:
        for setting, row in entry.settings.items() if entry.status == "done" else ():
            yield (entry.manager, entry.identity, setting), Declared(row["wanted"], found.started, row["expression"])


def _carried(store: Store) -> Declarations:
    """What removed runs have declared.

    Nothing where that cannot be read. Unlike a run it is needed for no rollback: without it no drift is told of what
    they set, and a share of a peak is computed anew.
    """
    try:
        with open(path_of(store, _CARRIED), "rb") as stream:
            told = json.loads(stream.read().decode("ascii"))
        rows = told["declared"] if told["schema"] == CARRIED_SCHEMA else []
        return {(row["manager"], row["identity"], row["setting"]): _read_declared(row) for row in rows}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _read_declared(row: Dict[str, Any]) -> Declared:
    return Declared(*(row[name] for name in Declared._fields))


def _carry(store: Store, names: Sequence[str]) -> None:
    """Keep what these runs have declared, beside what was kept before. Raises OSError, RecordError."""
    if not names:
        return
    runs = [_read_run(path_of(store, "runs", name)) for name in names]
    newest = list(declared(store, runs).items())[-MOST_CARRIED:]
    rows = [
        dict(value._asdict(), manager=manager, identity=identity, setting=setting)
        for (manager, identity, setting), value in newest
    ]
    told = {"schema": CARRIED_SCHEMA, "declared": rows}
    _put(path_of(store, _CARRIED), json.dumps(told).encode("ascii") + b"\n")


# --- writing --------------------------------------------------------------------------------------------------------


def unwritable(path: str, error: OSError) -> RecordError:
    """What to say where something of the record could not be written."""
    return RecordError(
        "{0} could not be written: {1}. What a run changes is written there first, so that it can be rolled back; "
        "without it nothing is changed. Run as root (become: true) on a disk with room, or name another directory "
        "(state_path).".format(path, run.reason(error))
    )


class Writer:
    """The file of one run, at its end. Every method raises RecordError where the line cannot be written."""

    def __init__(self, path: str, identifier: str, entries: int) -> None:
        self.id = identifier
        self._path = path
        self._entries = entries
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            _drop_cut_line(self._descriptor)
        except OSError as error:
            raise unwritable(path, error) from error

    def opened(self, entry: Entry) -> int:
        """A change is about to be made; its number, once that is on the disk."""
        told = entry._asdict()
        self._line({"event": "opened", "entry": {name: told[name] for name in told if name not in _NOT_WRITTEN}})
        self._sync()
        self._entries += 1
        return self._entries - 1

    def closed(self, number: int, status: str) -> None:
        """What became of a change. On the disk before the next one begins."""
        self._line({"event": "closed", "entry": number, "status": status})

    def ended(self, event: str) -> None:
        """The run is `finished`, or `rolled_back`."""
        self._line({"event": event, "time": iso(time.time())})
        self._sync()

    def resumed(self, boot_id: Optional[str]) -> None:
        """Another process goes on with the run."""
        self._line({"event": "resumed", "time": iso(time.time()), "boot_id": boot_id})

    def close(self) -> None:
        os.close(self._descriptor)

    def _line(self, line: Dict[str, Any]) -> None:
        write(self._descriptor, self._path, json.dumps(line).encode("ascii") + b"\n")

    def _sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise unwritable(self._path, error) from error


_NOT_WRITTEN = ("status", "boot_id")  # which other lines tell


def _drop_cut_line(descriptor: int) -> None:
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    os.ftruncate(descriptor, data.rfind(b"\n") + 1)
    os.lseek(descriptor, 0, os.SEEK_END)


def write(descriptor: int, path: str, data: bytes) -> None:
    """All of the data, to a file that is open. Raises RecordError."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError as error:
        raise unwritable(path, error) from error


def begin(store: Store) -> Writer:
    """A new run, under the lock; the oldest ones are removed, but for what they have declared. Raises RecordError."""
    names = _names(store)
    moment = time.time()
    number = _number(names[-1]) + 1 if names else 1
    identifier = "{0:06d}-{1}".format(number, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment)))
    head = {
        "event": "began",
        "schema": SCHEMA,
        "run": identifier,
        "time": iso(moment),
        "boot_id": counters.boot_id(store.host),
        "kills": counters.oom_kill(store.host),
    }
    path = path_of(store, "runs", identifier + ".jsonl")
    oldest = names[: max(0, len(names) + 1 - KEPT)]
    try:
        _carry(store, oldest)
        _put(path, json.dumps(head).encode("ascii") + b"\n")
        for name in oldest:
            os.unlink(path_of(store, "runs", name))
    except OSError as error:
        raise unwritable(path, error) from error
    return Writer(path, identifier, 0)


def _put(path: str, data: bytes) -> None:
    """A file, which is there as a whole or not at all."""
    temporary = path + ".new"
    with open(temporary, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(temporary, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def resume(store: Store, found: Run) -> Writer:
    """Go on with a run, under the lock. Raises RecordError."""
    writer = Writer(path_of(store, "runs", found.id + ".jsonl"), found.id, len(found.entries))
    writer.resumed(counters.boot_id(store.host))
    return writer
