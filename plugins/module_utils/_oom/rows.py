# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What framing yields: rows of kernel text, and what their prefixes say. Private to this collection."""

import functools
from typing import List, NamedTuple, Optional, Tuple, Union

from .patterns import lazy


class Stamp(NamedTuple):
    """What a transport says about a row: when (as printed), where, and in which boot."""

    monotonic_usec: Optional[int] = None
    realtime_usec: Optional[int] = None
    lag_usec: Optional[int] = None  # between printk and journald's reading of it
    printed: Optional[Tuple[Optional[int], int, int, int, int, int, int]] = None  # year..microsecond, local or below
    offset_seconds: Optional[int] = None  # of the printed time, None where the stamp names no zone
    fraction: bool = False  # the printed time has more than whole seconds
    daemon: bool = False  # stamped by a log daemon, else computed by the printing tool
    boot_id: Optional[str] = None
    machine_id: Optional[str] = None
    hostname: Optional[str] = None
    sequence: Optional[int] = None
    position: Optional[str] = None  # cursor, sequence number or the printed stamp itself


Where = Union[str, Stamp]
Row = Tuple[Where, str, str]


class Rows:
    """Rows as columns, since most are only counted and cut: texts, prefixes, callers (None: no row has one)."""

    __slots__ = ("callers", "texts", "wheres")

    def __init__(self, texts: List[str], wheres: List[Where], callers: Optional[List[str]]) -> None:
        self.texts = texts
        self.wheres = wheres
        self.callers = callers

    def __len__(self) -> int:
        return len(self.texts)

    def caller(self, index: int) -> str:
        return self.callers[index] if self.callers else ""

    def rest(self, index: int) -> "Rows":
        callers = self.callers[index:] if self.callers else None
        return Rows(self.texts[index:], self.wheres[index:], callers)

    def __add__(self, other: "Rows") -> "Rows":
        callers = None
        if self.callers or other.callers:
            callers = (self.callers or [""] * len(self)) + (other.callers or [""] * len(other))
        return Rows(self.texts + other.texts, self.wheres + other.wheres, callers)


def columns(rows: List[Row]) -> Rows:
    """Rows given one by one, as columns."""
    callers = [caller for _where, caller, _text in rows]
    return Rows([text for _where, _caller, text in rows], [row[0] for row in rows], callers if any(callers) else None)


_MONTHS = {  # first three letters, lower case: C, German, French, Spanish, Italian, Portuguese, Dutch
    name: index + 1
    for index, names in enumerate(
        (
            "jan ene gen",
            "feb fév fev",
            "mar mär mrt",
            "apr avr abr",
            "may mai mag mei",
            "jun giu",
            "jul lug",
            "aug aoû ago",
            "sep set",
            "oct okt ott out",
            "nov",
            "dec dez déc dic",
        )
    )
    for name in names.split()
}
_KMSG = lazy(r"\d+,(\d+),(\d+),")
_MONO = lazy(r"\[ *(\d+)\.(\d+)(?: +<[^>]*>)?\] *(?:\[ *[TC]\d+\] *)?(?:\S+ kernel: ?)?$")
_ISO = lazy(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:(Z| UTC)|([+-])(\d\d):?(\d\d))?")
_BSD = lazy(r"(?:(\d{4}) )?(\w{3,5})\.? +(\d{1,2}) (\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?: (\d{4}))?")
_UNIX = lazy(r"(?:^|\s)(\d{9,11})\.(\d{6}) ")


def stamp(where: Where) -> Stamp:
    """Read a row's prefix: printk time, printed wall time, sequence number."""
    return where if isinstance(where, Stamp) else _read(where)


def place(where: Where) -> Tuple[Optional[str], Optional[int]]:
    """Where a row stands in its source: position and, where the transport counts records, sequence number."""
    if isinstance(where, Stamp) or ";" in where:
        found = stamp(where)
        return found.position, found.sequence
    return where.strip() or None, None


def monotonic(where: Where) -> Optional[int]:
    """The printk time of a row in microseconds, without the rest of its prefix."""
    if isinstance(where, Stamp) or ";" in where:
        return stamp(where).monotonic_usec
    return _monotonic(where)


def _monotonic(where: str) -> Optional[int]:
    mono = _MONO.search(where) if "[" in where else None
    return int(mono.group(1)[:12]) * 1000000 + int(mono.group(2)[:6].ljust(6, "0")) if mono else None


@functools.lru_cache(maxsize=16)  # the lines of a report are often of one moment
def _read(where: str) -> Stamp:
    kmsg = _KMSG.search(where) if ";" in where else None
    if kmsg:
        return Stamp(monotonic_usec=_cap(kmsg.group(2)), sequence=_cap(kmsg.group(1)), position=kmsg.group(1))
    position = where.strip() or None
    usec = _monotonic(where)
    daemon = "kernel" in where
    unix = _UNIX.search(where) if usec is None or where.count(".") > 1 else None
    if unix:
        realtime = int(unix.group(1)) * 1000000 + int(unix.group(2))
        return Stamp(usec, realtime, position=position, daemon=daemon)
    printed, offset, fraction = _printed(where)
    return Stamp(usec, printed=printed, offset_seconds=offset, fraction=fraction, daemon=daemon, position=position)


def _cap(digits: str) -> int:
    return int(digits[:18])


def _printed(where: str) -> Tuple[Optional[Tuple[Optional[int], int, int, int, int, int, int]], Optional[int], bool]:
    iso = _ISO.search(where) if "-" in where else None
    if iso:
        year, month, day, hour, minute, second = (int(part) for part in iso.groups()[:6])
        offset = None
        if iso.group(8):
            offset = 0
        elif iso.group(9):
            offset = (int(iso.group(10)) * 60 + int(iso.group(11))) * 60 * (-1 if iso.group(9) == "-" else 1)
        microsecond = int((iso.group(7) or "0")[:6].ljust(6, "0"))
        return (year, month, day, hour, minute, second, microsecond), offset, bool(iso.group(7))
    bsd = _BSD.search(where)
    number = _MONTHS.get(bsd.group(2)[:3].lower()) if bsd else None
    if not bsd or not number:
        return None, None, False
    before, _month, date, hours, minutes, seconds, fraction, behind = bsd.groups()
    named_year = int(before or behind) if before or behind else None
    microsecond = int(fraction[:6].ljust(6, "0")) if fraction else 0
    return (named_year, number, int(date), int(hours), int(minutes), int(seconds), microsecond), None, bool(fraction)
