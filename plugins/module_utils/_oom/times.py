# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a record was printed, as far as its transport tells. Private to this collection."""

from typing import Callable, NamedTuple, Optional, Tuple

from .rows import Stamp


class Context(NamedTuple):
    """What the reader of a source knows about all of its records. All of it may be unknown."""

    source: str = "text"  # journal, kmsg, file, text
    path: Optional[str] = None
    boot_id: Optional[str] = None
    machine_id: Optional[str] = None
    hostname: Optional[str] = None
    kernel: Optional[str] = None
    page_size: Optional[int] = None
    boot_time: Optional[float] = None  # epoch seconds of monotonic zero
    boot_time_error: Optional[float] = None
    reference: Optional[float] = None  # epoch seconds: no record is later
    to_epoch: Optional[Callable[[int, int, int, int, int, int], float]] = None  # local time; None: UTC
    max_tasks: Optional[int] = None
    raw: bool = False


def when(stamp: Stamp, context: Context) -> Tuple[Optional[float], Optional[str], Optional[float]]:
    """Wall time as epoch seconds, how it was derived, and its error bound in seconds (None: unknown).

    journald: the time when it read the record, at most the lag too late. A monotonic stamp and the host's
    boot time: as exact as the clocks agree. A daemon's stamp: to its printed resolution. What dmesg -T and
    the like print is off by every suspend, by an unknown amount.
    """
    if stamp.realtime_usec is not None:
        lag = stamp.lag_usec
        return stamp.realtime_usec / 1e6, "journal", None if lag is None else max(lag / 1e6, 0.001)
    if stamp.monotonic_usec is not None and context.boot_time is not None:
        return context.boot_time + stamp.monotonic_usec / 1e6, "boot_time", context.boot_time_error
    if stamp.printed is None:
        return None, None, None
    epoch = _epoch(stamp, context)
    if epoch is None:
        return None, None, None
    if stamp.daemon:
        return epoch, "syslog", 0.001 if stamp.fraction else 1.0
    return epoch, "printed", None


def _epoch(stamp: Stamp, context: Context) -> Optional[float]:
    if stamp.printed is None:
        return None
    year, month, day, hour, minute, second, microsecond = stamp.printed
    years = [year] if year else []
    if not years and context.reference is not None:
        latest = 1970 + int(context.reference // 31556952)
        years = [latest + 1, latest, latest - 1, latest - 2, latest - 3, latest - 4]  # 29 February may be years back
    for candidate in years:
        try:
            if stamp.offset_seconds is not None:
                epoch = float(_utc(candidate, month, day, hour, minute, second)) - stamp.offset_seconds
            else:
                epoch = float((context.to_epoch or _utc)(candidate, month, day, hour, minute, second))
        except (ValueError, OverflowError):
            continue
        epoch += microsecond / 1e6
        if year or context.reference is None or epoch <= context.reference + 86400:
            return epoch
    return None


def _utc(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    days = _days(year, month, day)
    if _civil(days) != (year, month, day) or hour > 23 or minute > 59:
        raise ValueError("no such time")
    return ((days * 24 + hour) * 60 + minute) * 60 + min(second, 59)


def iso(epoch: Optional[float]) -> Optional[str]:
    """Epoch seconds as ISO 8601 in UTC with microseconds; None where it is no year of four digits."""
    if epoch is None or not -62135596800 <= epoch < 253402300799:
        return None
    seconds, micro = divmod(int(round(epoch * 1e6)), 1000000)
    days, rest = divmod(seconds, 86400)
    year, month, day = _civil(days)
    return "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ" % (year, month, day, rest // 3600, rest // 60 % 60, rest % 60, micro)


def _days(year: int, month: int, day: int) -> int:
    """A date of the proleptic Gregorian calendar as days since the epoch: the inverse of :func:`_civil`."""
    era, year_of_era = divmod(year - (month <= 2), 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


def _civil(days: int) -> Tuple[int, int, int]:
    """Days since the epoch as a date of the proleptic Gregorian calendar."""
    days += 719468
    era, day_of_era = divmod(days, 146097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    part = (5 * day_of_year + 2) // 153
    month = part + 3 if part < 10 else part - 9
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * part + 2) // 5 + 1
