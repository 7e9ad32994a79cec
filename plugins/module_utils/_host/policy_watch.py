# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a memory policy hurts: kills, pressure and hangs of the workloads that a run has changed. Private.

The kernel's own counters say whether there was a kill; the logs say whose, also where the workload was started anew
and its cgroup with its counter is another one. Kills count from the start of the run, pressure from the start of the
watch: what a workload waited before is not the policy's.
"""

import collections
import datetime
import os
import re
import time
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from . import cgroup_memory, cgroupfs, collect, counters, run
from .hierarchies import Hierarchies, Tree, find
from .policy_record import Entry, Run

_POLL_SECONDS = 1.0
_PRESSURE_SECONDS = 10.0  # as long as the kernel's own avg10
_LOG_SECONDS = 10.0  # how long a log may take to show a kill
_MOST_SHOWN = 20
_HOST_PRESSURE = "/proc/pressure/memory"


def _events(host: run.Host, since: float) -> List[Dict[str, Any]]:
    found: List[Dict[str, Any]] = collect.collect_events(host, since=since, max_tasks=1)["events"]
    return found


class Tools(NamedTuple):
    """The clock, and what reads the kills since a moment (epoch seconds) from the logs; a test hands in others."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    events: Callable[[run.Host, float], List[Dict[str, Any]]] = _events


def watch(
    host: run.Host,
    found: Run,
    seconds: float,
    most_pressure: Optional[float],
    tools: Tools = Tools(),  # noqa: B008 - a NamedTuple never changes
) -> Dict[str, Any]:
    """Watch the workloads that a run has changed, until the time is over or one of them is hurt.

    :arg most_pressure: percent of the time that some process of a workload may wait for memory; None: any.
    :returns: ``violations`` (`manager identity label path kind message`; `kind` is `kill`, `pressure` or `hang`),
        ``kills`` (`counted in_changed elsewhere unattributed`), ``pressure`` (`source highest`), ``ended`` (labels of
        workloads that are gone), ``seconds``.

    Raises Unreadable where the host has no memory cgroups.
    """
    trees = find(host)
    places = list(_places(host, trees, found))
    deaths = _Kills(host, found, places, tools)
    stalls = _Stalls(host, trees, places)
    hangs = _Hangs(places)
    began = tools.clock()
    while True:
        left = began + seconds - tools.clock()
        violations = deaths.look(left <= 0) + stalls.look(tools.clock(), left <= 0, most_pressure) + hangs.look()
        if violations or left <= 0:
            break
        tools.sleep(min(_POLL_SECONDS, left))
    return {
        "violations": violations,
        "kills": deaths.sums,
        "pressure": {"source": stalls.source, "highest": stalls.highest()},
        "ended": sorted({place.entry.label for place in places if place.gone()}),
        "seconds": round(tools.clock() - began, 3),
    }


def kills(tree: Tree, path: str) -> Optional[int]:
    """Kills that a cgroup and those below it have counted; None where it is gone or the kernel does not count.

    :arg tree: of the memory controller.
    """
    folder = _folder(tree, path)
    if tree.version == 2:  # counts what is below too (5.2)
        return _counter(folder, 2)
    found = [_counter(each, 1) for each, _folders, _files in os.walk(folder)]
    known = [count for count in found if count is not None]
    return sum(known) if known else None


_KILLS = {1: "memory.oom_control", 2: "memory.events"}


def _counter(folder: str, version: int) -> Optional[int]:
    return cgroup_memory.counted(_read(folder, version), "oom_kill")


def _read(folder: str, version: int) -> bytes:
    try:
        with open(os.path.join(folder, _KILLS[version]), "rb") as stream:
            return stream.read()
    except OSError:
        return b""  # it went meanwhile


def _folder(tree: Tree, path: str) -> str:
    return tree.folder + path[len(tree.top) :]


class _Place(NamedTuple):
    """One cgroup to watch, the entry it is of, and how many kills it had counted before the change."""

    entry: Entry
    path: str
    tree: Tree
    before: Optional[int]

    def gone(self) -> bool:
        return not os.path.isdir(_folder(self.tree, self.path))

    def kills(self) -> Optional[int]:
        return kills(self.tree, self.path)


def _places(host: run.Host, trees: Hierarchies, found: Run) -> Iterator[_Place]:
    """Where the changes of a run have their effect; each cgroup once, with the count before the first change."""
    boot_id = counters.boot_id(host)
    seen: Set[str] = set()
    for entry in found.entries:
        before = entry.kills if entry.boot_id == boot_id else 0  # the kernel counts from the boot on
        for path in _paths(host, entry) if entry.status in ("open", "done") else ():
            if path not in seen:
                seen.add(path)
                place = _Place(entry, path, trees.memory, before)
                yield place if entry.path else place._replace(before=place.kills())


def _paths(host: run.Host, entry: Entry) -> List[str]:
    """The cgroup of an entry; of a prefix drop-in (`docker-.scope`) those of the units that it is for and that run."""
    if entry.path:
        return [entry.path]
    stem, _dot, kind = entry.identity.rpartition(".")
    cgroups, _coverage = cgroupfs.read(host, patterns=["{0}?*.{1}".format(stem, kind)])
    return [cgroup["path"] for cgroup in cgroups]


# --- kills ----------------------------------------------------------------------------------------------------------


class _Kills:
    """Kills since the run began. ``sums``: what the kernel counted, and whose they were.

    The files of the cgroups are read again when the host's counter has changed, the logs until they explain it.
    """

    def __init__(self, host: run.Host, found: Run, places: Sequence[_Place], tools: Tools) -> None:
        self._host, self._places, self._tools = host, places, tools
        self._since = _epoch(found.started)
        self._base = found.kills if found.boot_id == counters.boot_id(host) else 0
        self._counted: Optional[int] = None
        self._risen = [0] * len(places)
        self._logged: List[Dict[str, Any]] = []
        self._read_until = 0.0  # on the tools' clock
        self.sums: Dict[str, Optional[int]] = {}

    def look(self, last: bool) -> List[Dict[str, Any]]:
        """What is wrong by now; ``last``: nobody will look again."""
        now = counters.oom_kill(self._host)
        counted = None if now is None or self._base is None else max(0, now - self._base)
        if counted is None or counted != (self._counted or 0):
            self._risen = [_risen(place) for place in self._places]
            self._read_until = self._tools.clock() + (_LOG_SECONDS if counted else 0)
        self._counted = counted
        if last or (self._tools.clock() < self._read_until and self.sums.get("unattributed") != 0):
            told = self._tools.events(self._host, self._since)
            self._logged = [event for event in told if event["outcome"] == "killed" and event["time"]]
        by_place = [[event for event in self._logged if _is_of(event, place.path)] for place in self._places]
        self._sum_up(by_place)
        rows = zip(self._places, self._risen, by_place)
        found = [_killed(place, max(1, risen, _lines(events))) for place, risen, events in rows if risen or events]
        return found or (self._doubtful() if last else [])

    def _sum_up(self, by_place: Sequence[List[Dict[str, Any]]]) -> None:
        ours = {event["id"]: event for events in by_place for event in events}
        others = [event for event in self._logged if event["id"] not in ours]
        in_changed = max(sum(self._risen), _lines(ours.values()))
        elsewhere = _lines(event for event in others if event["victim_cgroup"] or event["limit_cgroup"])
        left = None if self._counted is None else max(0, self._counted - in_changed - elsewhere)
        self.sums = {
            "counted": self._counted,
            "in_changed": in_changed,
            "elsewhere": elsewhere,
            "unattributed": left,
        }

    def _doubtful(self) -> List[Dict[str, Any]]:
        """Workloads that ended while there were kills of which no log says whose they were."""
        count = self.sums["unattributed"]
        return [_maybe_killed(place, count) for place in self._places if place.gone()] if count else []


def _epoch(text: str) -> float:
    moment = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


def _risen(place: _Place) -> int:
    """Kills that the cgroup has counted since the change. One that was made anew counts from 0 on."""
    now = place.kills()
    if now is None or place.before is None:
        return 0
    return now - place.before if now >= place.before else now


def _is_of(event: Dict[str, Any], path: str) -> bool:
    """Whether a process of this cgroup, or of one below it, was killed, or its limit was the reason."""
    paths = [event["victim_cgroup"], event["limit_cgroup"]] + [victim["cgroup"] for victim in event["victims"]]
    return any(((each or "") + "/").startswith(path + "/") for each in paths)


def _lines(events: Iterable[Dict[str, Any]]) -> int:
    """Kills that the kernel printed for these events."""
    return sum(event["kill_lines"] for event in events)


def _killed(place: _Place, count: int) -> Dict[str, Any]:
    what = "1 process of {0} was" if count == 1 else str(count) + " processes of {0} were"
    said = what.format(place.entry.label) + " killed for want of memory since the run began."
    return _violation(place, "kill", said)


def _maybe_killed(place: _Place, count: Optional[int]) -> Dict[str, Any]:
    said = "{0} has ended, and of {1} kills since the run began no log says whose they were."
    return _violation(place, "kill", said.format(place.entry.label, count))


def _violation(place: Optional[_Place], kind: str, message: str) -> Dict[str, Any]:
    entry = place.entry if place else None
    return {
        "manager": entry.manager if entry else None,
        "identity": entry.identity if entry else None,
        "label": entry.label if entry else None,
        "path": place.path if place else None,
        "kind": kind,
        "message": message,
    }


# --- hangs ----------------------------------------------------------------------------------------------------------


class _Hangs:
    """Workloads with processes that wait at a limit where the kernel may kill nobody, as v1 can be told.

    Nothing else tells of them: no kill is counted, and v1 measures no pressure of a cgroup. Who switches the killer off
    may see to it himself, in a moment: only what is seen twice is a hang.
    """

    def __init__(self, places: Sequence[_Place]) -> None:
        self._places = [place for place in places if place.tree.version == 1]
        self._before: Set[str] = set()

    def look(self) -> List[Dict[str, Any]]:
        found = [(place, path) for place, path in zip(self._places, map(_hung, self._places)) if path]
        before, self._before = self._before, {path for _place, path in found}
        again = ((place, path) for place, path in found if path in before)
        return [_violation(place, "hang", _HANGS.format(place.entry.label, path)) for place, path in again]


_HANGS = (
    "Processes of {0} wait for memory that they will not get: the OOM killer is off for {1} (memory.oom_control), and "
    "it is at its limit."
)


def _hung(place: _Place) -> Optional[str]:
    """The path of the cgroup, or of one below it, at whose limit processes hang."""
    top = _folder(place.tree, place.path)
    hung = (each for each, _folders, _files in os.walk(top) if _waits_for_nobody(_read(each, 1)))
    return next((place.path + each[len(top) :] for each in hung), None)


def _waits_for_nobody(control: bytes) -> bool:
    return all(cgroup_memory.counted(control, key) == 1 for key in ("oom_kill_disable", "under_oom"))


# --- pressure -------------------------------------------------------------------------------------------------------


class _Stalls:
    """Shares of the time in which some process waited for memory, in percent, from the kernel's totals.

    Not its averages: they also tell of the time before the change, and would blame the policy that ended it.

    :ivar source: `cgroup`; `host` where no cgroup has pressure (v1); None where the kernel does not measure it.
    """

    def __init__(self, host: run.Host, trees: Hierarchies, places: Sequence[_Place]) -> None:
        files = [_pressure_file(trees, place.path) for place in places]
        hosts = run.below(host, _HOST_PRESSURE)
        self.source = "cgroup" if any(files) else "host" if os.path.exists(hosts) else None
        self._meters: List[Tuple[Optional[_Place], _Meter]] = [
            (place, _Meter(file)) for place, file in zip(places, files) if file
        ]
        if self.source == "host":
            self._meters = [(None, _Meter(hosts))]

    def look(self, moment: float, last: bool, most: Optional[float]) -> List[Dict[str, Any]]:
        """Where it is more than ``most`` in ten seconds; ``last``: or in a watch that was shorter."""
        shares = [(place, meter.share(moment, last)) for place, meter in self._meters]
        return [
            _stalled(place, share, most)
            for place, share in shares
            if share is not None and most is not None and share > most
        ]

    def highest(self) -> List[Dict[str, Any]]:
        rows = [(meter.highest, place) for place, meter in self._meters if meter.highest is not None]
        return [
            {"label": place.entry.label if place else None, "path": place.path if place else None, "percent": share}
            for share, place in sorted(rows, key=lambda row: -row[0])[:_MOST_SHOWN]
        ]


def _stalled(place: Optional[_Place], share: float, most: float) -> Dict[str, Any]:
    said = "Processes of {0} waited for memory {1:g} % of the time; the bound is {2:g} %.".format(
        place.entry.label if place else "the host", share, most
    )
    return _violation(place, "pressure", said)


def _pressure_file(trees: Hierarchies, path: str) -> Optional[str]:
    """The cgroup's file; on a hybrid host that of the cgroup of the same path in the v2 hierarchy."""
    trees_with_pressure = (tree for tree in (trees.memory,) + trees.beside if tree.version == 2)
    files = (os.path.join(_folder(tree, path), cgroup_memory.PRESSURE) for tree in trees_with_pressure)
    return next((file for file in files if os.path.exists(file)), None)


_TOTAL = re.compile(rb"^some .*\btotal=([0-9]{1,20})$", re.MULTILINE)


class _Meter:
    """One pressure file. ``highest``: the highest share so far."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._samples: Deque[Tuple[float, int]] = collections.deque()
        self.highest: Optional[float] = None

    def share(self, moment: float, last: bool) -> Optional[float]:
        """The share of the last ten seconds; None as long as they are not over, or, at last, of what there was."""
        total = self._stalled_usec()
        if total is None or (self._samples and total < self._samples[-1][1]):
            self._samples.clear()  # the cgroup is gone, or it is another one
        if total is None:
            return None
        self._samples.append((moment, total))
        while len(self._samples) > 1 and moment - self._samples[1][0] >= _PRESSURE_SECONDS:
            self._samples.popleft()
        elapsed = moment - self._samples[0][0]
        if elapsed <= 0 or (elapsed < _PRESSURE_SECONDS and not last):
            return None
        share = round(min(100.0, (total - self._samples[0][1]) / 1e4 / elapsed), 2)
        self.highest = max(share, self.highest or 0.0)
        return share

    def _stalled_usec(self) -> Optional[int]:
        try:
            with open(self._file, "rb") as stream:
                found = _TOTAL.search(stream.read(4096))
        except OSError:
            return None  # gone, or switched off
        return int(found.group(1)) if found else None
