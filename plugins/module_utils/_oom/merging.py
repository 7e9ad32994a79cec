# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same kill from several carriers is one event. Private to this collection."""

from typing import Any, Dict, Iterable, List, Tuple

from .report import fingerprint
from .rows import stamp
from .times import Context, when

_SAME_SECONDS = 5.0


def merge(events: Iterable[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """One event per kill, in the order of time: the most complete copy, with the origins of all.

    Copies are recognised by their victims' numbers; two kills with the same numbers that provably differ
    in boot or time stay two, the later with `-2`, `-3` … behind its id; so do kills of one process by two killers.
    Input events are not changed.
    """
    groups: List[List[Dict[str, Any]]] = []
    known: Dict[Tuple[str, str], List[int]] = {}
    for each in events:
        numbers = [fingerprint(victim) for victim in each["victims"]] or [each["id"].split("-")[0]]
        marks = [(each["killer"], number) for number in numbers]
        candidates = (index for mark in marks for index in known.get(mark, ()))
        # The first and the last copy bound a group's times: comparing with each would take quadratic time in a flood.
        place = next(
            (index for index in candidates if _same(each, groups[index][0]) and _same(each, groups[index][-1])), None
        )
        if place is None:
            place = len(groups)
            groups.append([])
        groups[place].append(each)
        for mark in marks:
            if place not in known.setdefault(mark, []):
                known[mark].append(place)
    merged = sorted(map(_joined_event, groups), key=_order)
    seen: Dict[str, int] = {}
    for each in merged:
        base = each["id"].split("-")[0]
        seen[base] = seen.get(base, 0) + 1
        each["id"] = base if seen[base] == 1 else "%s-%d" % (base, seen[base])
    return merged


def _order(each: Dict[str, Any]) -> Tuple[bool, str, int]:
    return each["time"] is not None, each["time"] or "", each["monotonic_usec"] or 0


def _same(one: Dict[str, Any], other: Dict[str, Any]) -> bool:
    if one["boot_id"] and other["boot_id"] and one["boot_id"] != other["boot_id"]:
        return False
    stamps = [each["monotonic_usec"] for each in (one, other) if each["monotonic_usec"] is not None]
    if len(stamps) == 2 and abs(stamps[0] - stamps[1]) > 1000000:
        return False
    if one["time"] is None or other["time"] is None or "printed" in (one["time_source"], other["time_source"]):
        return True
    slack = _SAME_SECONDS + (one["time_error_seconds"] or 0) + (other["time_error_seconds"] or 0)
    return abs(_seconds(one["time"]) - _seconds(other["time"])) <= slack


def _seconds(time: str) -> float:
    printed = stamp(time[:-1] + "+00:00 ")
    return when(printed, Context())[0] or 0.0


_TIME_RANK = {"journal": 0, "boot_time": 1, "syslog": 2, "printed": 3, None: 4}
_FILL = ("boot_id", "machine_id", "hostname", "kernel", "monotonic_usec", "page_size", "raw", "trace")


def _joined_event(copies: List[Dict[str, Any]]) -> Dict[str, Any]:
    if len(copies) == 1:
        return dict(copies[0])
    ranked = sorted(copies, key=_fullness)
    best = dict(ranked[0])
    timed = min(copies, key=lambda each: _TIME_RANK.get(each["time_source"], 4))
    best.update((key, timed[key]) for key in ("time", "time_source", "time_error_seconds"))
    for key in _FILL:
        if best.get(key) is None:  # an older document has no trace
            best[key] = next((each[key] for each in ranked if each.get(key) is not None), None)
    victims = {victim["pid"]: dict(victim) for each in reversed(ranked) for victim in each["victims"]}
    order = [victim["pid"] for each in ranked for victim in each["victims"]]
    best["victims"] = [victims[pid] for pid in dict.fromkeys(order)]
    for victim in best["victims"]:
        reaped = [other["reaped"] for each in copies for other in each["victims"] if other["pid"] == victim["pid"]]
        victim["reaped"] = next((value for value in reaped if value is not None), None)
    best["kill_lines"] = max(each["kill_lines"] for each in copies)
    best["group_kill"] = any(each["group_kill"] for each in copies)
    best["context"] = _distinct(said for each in ranked for said in each["context"])
    origins = [origin for each in copies for origin in each["origins"]]
    best["origins"] = _distinct(origins)
    return best


def _distinct(entries: Iterable[Dict[str, Any]]) -> List[Dict[str, Any]]:
    return list({tuple(sorted(each.items(), key=str)): each for each in entries}.values())


def _fullness(each: Dict[str, Any]) -> Tuple[int, int, int, int]:
    done = each["completeness"]
    return (len(done["missing"]), done["gaps"], -each["kill_lines"], _TIME_RANK.get(each["time_source"], 4))
