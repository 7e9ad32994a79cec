# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What other logs say of a kill: systemd's, the container engines', kubelet's lines, joined to events. Private."""

import bisect
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Pattern, Sequence, Set, Tuple

from . import companions, report
from .patterns import lazy
from .rows import stamp
from .times import Context, iso, when

_MESSAGE = 300
_PER_EVENT = 20
_AT_ONCE = 10.0  # seconds between a kill and what is logged because of it
_AT_THE_END = 60.0  # a unit may take that long until it has ended
_LATENESS = 60.0  # most that a clock's error bound may widen these
_NEIGHBOURS = 4


class Fact(NamedTuple):
    """A line about a kill, and what decides which event it belongs to."""

    source: str
    time: Optional[float]  # epoch seconds
    error: float
    boot_id: Optional[str]
    unit: Optional[str]
    container_id: Optional[str]
    pid: Optional[int]  # of the victim
    message: str
    uid: int  # 0: of the whole host, else of this user's workloads only
    killer: Optional[str]  # whose kills the line is about; None: anyone's
    reach: float  # seconds


class _Rule(NamedTuple):
    program: str
    pattern: Pattern[str]  # searched; may name the unit or container
    detail: Optional[Pattern[str]]  # searched too, must be there: names the container or process
    killer: Optional[str]
    reach: float


def _rule(
    program: str, pattern: str, killer: Optional[str] = None, detail: Optional[str] = None, reach: float = _AT_ONCE
) -> _Rule:
    return _Rule(program, lazy(pattern), lazy(detail) if detail else None, killer, reach)


_UNIT = r"\A(?P<unit>\S{1,256}): "
_CID = r"(?P<id>[0-9a-f]{12,64})"
# The first row of a program that matches wins. kubelet's, conmon's and CRI-O's are from descriptions, not observed.
_RULES = (
    _rule("systemd", _UNIT + r"A process of this unit has been killed by the OOM killer\.\Z", "kernel"),  # 243 … 256
    _rule("systemd", _UNIT + r"The kernel OOM killer killed some processes in this unit\.\Z", "kernel"),  # newer
    _rule("systemd", _UNIT + r"systemd-oomd killed (?:\d{1,18}|some) process\(es\) in this unit\.\Z", "systemd-oomd"),
    _rule("systemd", _UNIT + r"Failed with result 'oom-kill'\.\Z", reach=_AT_THE_END),
    _rule("systemd", _UNIT + r"Main process exited, code=killed, status=9/KILL\Z"),
    _rule("containerd", r'TaskOOM event container_id:\\?"' + _CID, "kernel"),  # CRI plugin, 1.7 and newer
    _rule("containerd", r"TaskOOM event &TaskOOM\{ContainerID:" + _CID, "kernel"),  # older
    _rule("dockerd", r'exitStatus="?\{137 ', detail=r'\bcontainer="?' + _CID + r"\b"),
    _rule("podman", r"\bcontainer oom " + _CID, "kernel"),
    _rule("podman", r"\bcontainer died " + _CID),
    _rule("conmon", r"OOM (?:event )?received", "kernel", detail=r"\bconmon " + _CID + r"|\A"),
    _rule("cri-o", r"OOM", "kernel", detail=r"\b(?P<id>[0-9a-f]{64})\b"),
    _rule("kubelet", r"[Ss]ys(?:tem)? (?:oom|OOM) e", "kernel", detail=r"\b[Pp]id\"?: ?(?P<pid>\d{1,10})"),
    _rule("kubelet", r"OOMKill", "kernel", detail=r"\b(?P<id>[0-9a-f]{64})\b"),
)
_KILLED = "137"


def fact(said: companions.Said, context: Context) -> Optional[Fact]:
    """What a line says of a kill; None for every other line."""
    matched = next(_matches(said), None)
    if matched is None or (said.exit_code is not None and said.exit_code != _KILLED):
        return None
    rule, named = matched
    if said.unit and named.get("unit") and said.unit != named["unit"]:
        return None
    time, _source, error = when(said.stamp, context)
    return Fact(
        source=said.program,
        time=time,
        error=min(error or 0.0, _LATENESS),
        boot_id=_plain(said.stamp.boot_id or context.boot_id),
        unit=said.unit or named.get("unit"),
        container_id=said.container_id or named.get("id"),
        pid=int(named.get("pid") or 0) or None,
        message=shown(said.text),
        uid=said.uid,
        killer=rule.killer,
        reach=rule.reach,
    )


def _matches(said: companions.Said) -> Iterator[Tuple[_Rule, Dict[str, Optional[str]]]]:
    for rule in _RULES:
        found = rule.pattern.search(said.text) if rule.program == said.program else None
        detail = rule.detail.search(said.text) if found and rule.detail else None
        if found and (detail or not rule.detail):
            yield rule, dict(found.groupdict(), **(detail.groupdict() if detail else {}))


def _plain(boot_id: Optional[str]) -> Optional[str]:
    return boot_id.replace("-", "").lower() if boot_id else None


def shown(text: str) -> str:
    """A line as it stands in a result: bounded, valid UTF-8, and without what may hold a password.

    That is the command line that earlyoom 1.8 prints, and the labels that Podman prints behind image and name.
    """
    text, _comma, _command_line = text.partition(", cmdline ")
    podman = _PODMAN_EVENT.match(text)
    if podman:
        kept = [found.group() for found in (_IMAGE.search(text), _NAME.search(text)) if found]
        text = podman.group() + (" ({0})".format(", ".join(kept)) if kept else "")
    return report.printable(text[:_MESSAGE]) or ""


_PODMAN_EVENT = lazy(r".*\bcontainer (?:died|oom) [0-9a-f]{64}(?= \()")
_IMAGE = lazy(r"(?<=\()image=[^,()]*")
_NAME = lazy(r"(?<=, )name=[^,()]*")


def entry(one: Fact) -> Dict[str, Any]:
    """A fact as an event's ``context`` shows it."""
    return {
        "source": one.source,
        "time": iso(one.time),
        "unit": report.printable(one.unit),
        "container_id": one.container_id,
        "message": one.message,
    }


# --- join -----------------------------------------------------------------------------------------------------------

_Name = Tuple[Optional[str], str, int, str]  # killer, kind, user, name
_ID = lazy(r"(?<![0-9a-f])[0-9a-f]{12,64}(?![0-9a-f])")
_SUFFIXES = (".service", ".scope", ".slice", ".mount", ".socket", ".swap")
_USER_MANAGER = lazy(r"user@([0-9]{1,10})\.service")
_LONGEST_PATH = 4096


def join(events: Sequence[Dict[str, Any]], facts: Iterable[Fact]) -> List[Dict[str, Any]]:
    """The events with the facts that belong to them in ``context``, in the order of time. Inputs are not changed.

    A fact belongs to the nearest event of the same boot, no more than 10 seconds away (60 for a unit's result, and in
    each case the error bound of the clocks more), whose victim or limit is in its unit or container: the unit of the
    kill itself, or a slice or unit above it, since cgroup v2 counts kills upwards. What a user's manager or Podman
    says joins only kills below that user's manager. At most 20 facts an event.

    Time is linear in events and facts, but for sorting.
    """
    places: Dict[_Name, List[Tuple[float, int]]] = {}
    for place, event in enumerate(events):
        moment = _seconds(event["time"])
        if moment is None:
            continue
        for kind, uid, name in _names(event):
            for killer in (None, event["killer"]):
                places.setdefault((killer, kind, uid, name), []).append((moment, place))
    for moments in places.values():
        moments.sort()
    told: Dict[int, List[Fact]] = {}
    for one in facts:
        nearest = _nearest(one, places, events)
        if nearest is not None:
            told.setdefault(nearest, []).append(one)
    return [
        dict(event, context=_merged(event["context"], told[place])) if place in told else event
        for place, event in enumerate(events)
    ]


def _names(event: Dict[str, Any]) -> Set[Tuple[str, int, str]]:
    """Every unit, container and process that a fact may call this event's, each with whose it is."""
    names: Set[Tuple[str, int, str]] = set()
    paths = {event["victim_cgroup"], event["limit_cgroup"]}.union(victim["cgroup"] for victim in event["victims"])
    for path in paths:
        names.update(_on_path(path or ""))
    for workload in (event["workload"], event["limit_workload"]):
        if workload["unit"] and not event["victim_cgroup"]:
            names.add(("unit", workload["uid"] or 0, workload["unit"]))
        if workload["id"]:
            names.add(("id", 0, workload["id"][:12]))
    names.update(("pid", 0, str(victim["pid"])) for victim in event["victims"])
    return names


def _on_path(path: str) -> Iterator[Tuple[str, int, str]]:
    owner = 0  # whose manager made the units
    for part in path[:_LONGEST_PATH].split("/"):
        if part.endswith(_SUFFIXES):
            yield "unit", owner, part
        for identifier in _ID.findall(part):
            yield "id", 0, identifier[:12]
            yield "id", owner, identifier[:12]
        manager = _USER_MANAGER.fullmatch(part)
        if manager:
            owner = int(manager.group(1))


def _nearest(
    one: Fact, places: Dict[_Name, List[Tuple[float, int]]], events: Sequence[Dict[str, Any]]
) -> Optional[int]:
    if one.time is None:
        return None
    keys: List[_Name] = []
    if one.unit:
        keys.append((one.killer, "unit", one.uid, one.unit))
        keys.extend((one.killer, "id", one.uid, found[:12]) for found in _ID.findall(one.unit[:_LONGEST_PATH]))
    if one.container_id:
        keys.append((one.killer, "id", one.uid, one.container_id[:12]))
    if one.pid is not None:
        keys.append((one.killer, "pid", one.uid, str(one.pid)))
    best: Optional[Tuple[float, int]] = None
    for key in keys:
        moments = places.get(key, [])
        middle = bisect.bisect_left(moments, (one.time, 0))
        for moment, place in moments[max(0, middle - _NEIGHBOURS) : middle + _NEIGHBOURS]:
            away = abs(moment - one.time)
            if _reaches(one, events[place], away) and (best is None or (away, place) < best):
                best = (away, place)
    return best[1] if best else None


def _reaches(one: Fact, event: Dict[str, Any], away: float) -> bool:
    if one.boot_id and event["boot_id"] and one.boot_id != event["boot_id"]:
        return False
    return away <= one.reach + one.error + min(event["time_error_seconds"] or 0.0, _LATENESS)


def _seconds(time: Optional[str]) -> Optional[float]:
    return when(stamp(time[:-1] + "+00:00 "), Context())[0] if time else None


def _merged(known: List[Dict[str, Any]], facts: List[Fact]) -> List[Dict[str, Any]]:
    entries = known + [entry(one) for one in facts]
    different = {(each["source"], each["time"], each["message"]): each for each in entries}
    return sorted(different.values(), key=lambda each: each["time"] or "")[:_PER_EVENT]
