# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes as people write them. Private to this collection. Pure.

========================  ==================================================================================
``max``                   no limit; of a protection: all of it
``536870912``             bytes
``512M``                  K, M, G and T are powers of 1024, with or without B or iB after them
``25%``                   of the host's memory for memory_max, of memory_max for every other setting
``25% of host``           of MemTotal
``90% of memory_max``     of what the same rule sets, else of what the workload has
``peak * 1.3``            of the most that the workload has used since it started; see ``settled``
========================  ==================================================================================
"""

import re
from fractions import Fraction
from typing import Any, Dict, NamedTuple, Optional, Tuple

from .model import PolicyError, Settings
from .wording import described

_FORMS = "write bytes, 512M, 25%, 25% of host, 90% of memory_max, peak * 1.3, or max for no limit"
_NUMBER = r"(?P<number>[0-9]{1,20}(?:\.[0-9]{1,9})?)"
_BYTES = re.compile(r"(?P<number>[0-9]{1,20})\s*b?")
_UNITS = re.compile(_NUMBER + r"\s*(?P<unit>[kmgt])(?:i?b)?")
_SHARE = re.compile(_NUMBER + r"\s*%(?:\s*of\s+(?P<whole>host|memory_max))?")
_PEAK = re.compile(r"peak(?:\s*\*\s*" + _NUMBER + ")?")
_UNIT_BYTES: Dict[Optional[str], int] = {None: 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SHOWN = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))

_TOO_LARGE = 2**62  # what v1 prints for no limit is above it, and no machine has 4 EiB
_LARGEST_FACTOR = 100
# A workload without memory cannot start, and Docker takes 0 for no limit.
NEVER_NOTHING = ("memory_max", "memory_high")


class Size(NamedTuple):
    """A size that was understood.

    :ivar amount: bytes, or times the whole; None: no limit.
    :ivar whole: `host`, `memory_max` or `peak`; `bare` for a share that does not say of what; None: `amount` is bytes.
    :ivar expression: as it was written.
    """

    amount: Optional[Fraction]
    whole: Optional[str]
    expression: str


class Facts(NamedTuple):
    """What sizes may be shares of, in bytes.

    :ivar peak: None where the kernel does not tell (v2 before 5.19), or there is no cgroup yet.
    :ivar settings: `memory_max` here is what shares of it are of; no key: not known.
    """

    memory_total: int
    page_size: int
    peak: Optional[int]
    settings: Settings


# --- reading


def parse(value: Any) -> Size:
    """The size that a text or an integer means. Raises PolicyError with a clause that says what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise _no_size(value)
    text = value.strip() if isinstance(value, str) else str(min(value, _TOO_LARGE))
    if text.lower() == "max":
        return Size(None, None, text)
    for pattern, read in _READERS:
        found = pattern.fullmatch(text.lower())
        if found:
            return Size(*read(found), expression=text)
    raise _no_size(value)


def _no_size(value: Any) -> PolicyError:
    return PolicyError("{0} is no size; {1}".format(described(value), _FORMS))


_Read = Tuple[Fraction, Optional[str]]


def _read_bytes(found: "re.Match[str]") -> _Read:
    amount = Fraction(found.group("number")) * _UNIT_BYTES[found.groupdict().get("unit")]
    if amount >= _TOO_LARGE:
        raise PolicyError("a size of 4 EiB and above is more than any machine has; write max where no limit is meant")
    return amount, None


def _read_share(found: "re.Match[str]") -> _Read:
    percent = Fraction(found.group("number"))
    if percent > 100 * _LARGEST_FACTOR:
        raise PolicyError("{0}% is out of range; a share is at most 10000%".format(found.group("number")))
    return percent / 100, found.group("whole") or "bare"


def _read_peak(found: "re.Match[str]") -> _Read:
    factor = Fraction(found.group("number") or 1)
    if not 0 < factor <= _LARGEST_FACTOR:
        raise PolicyError("the factor {0} is out of range; it is above 0 and at most 100".format(found.group("number")))
    return factor, "peak"


_READERS = ((_BYTES, _read_bytes), (_UNITS, _read_bytes), (_SHARE, _read_share), (_PEAK, _read_peak))


# --- resolving


def resolve(size: Size, setting: str, facts: Facts) -> Optional[int]:
    """The size in bytes, down to a page as the kernel rounds it; None: no limit.

    Raises PolicyError with a clause that says why it cannot be told of this workload.
    """
    if size.amount is None:
        return None
    value = int(size.amount * _whole(size, setting, facts))
    value -= value % facts.page_size
    if not value and setting in NEVER_NOTHING:
        raise PolicyError(
            "{0} of {1} is less than one page ({2}), and no process runs in that".format(
                setting, size.expression, shown(facts.page_size)
            )
        )
    return value


def settled(size: Size, value: Optional[int], facts: Facts) -> bool:
    """Whether a size of the peak may stay the value that it once had: half of its room above the peak is left.

    A peak creeps, and begins anew when a workload starts: a limit that followed it would never rest, and would shrink
    with each restart.
    """
    if size.whole != "peak" or size.amount is None or size.amount <= 1 or value is None or facts.peak is None:
        return False
    return value >= facts.peak * (1 + size.amount) / 2


def _whole(size: Size, setting: str, facts: Facts) -> int:
    whole = size.whole
    if whole == "bare":
        whole = "host" if setting == "memory_max" else "memory_max"
    if whole == "host":
        return facts.memory_total
    if whole == "memory_max":
        return _memory_max(size, facts.settings)
    return _peak(size, facts.peak) if whole == "peak" else 1


def _memory_max(size: Size, settings: Settings) -> int:
    value = settings.get("memory_max")
    if value is None:
        raise PolicyError(
            "{0} is a share of memory_max, {1}; set memory_max in the same rule, or write bytes".format(
                size.expression, "and there is no limit" if "memory_max" in settings else "which is not known"
            )
        )
    return int(value)


def _peak(size: Size, peak: Optional[int]) -> int:
    if peak is None:
        raise PolicyError(
            "{0} needs the peak, which the kernel does not tell here (with cgroup v2 it does since 5.19); "
            "write bytes or a share".format(size.expression)
        )
    return peak


def reserve(value: Any, memory_total: int) -> int:
    """The bytes of the option `reserve`, which is bytes or a share of the host's memory. Raises PolicyError."""
    try:
        size = parse(value)
    except PolicyError as error:
        raise PolicyError("reserve: {0}.".format(error)) from None
    if size.amount is None or size.whole not in (None, "host", "bare"):
        raise PolicyError(
            "reserve: {0} is no part of the host's memory; write bytes, 2G or 10%.".format(size.expression)
        )
    amount = int(size.amount if size.whole is None else size.amount * memory_total)
    if amount > memory_total:
        raise PolicyError(
            "reserve: {0} is more than the host's memory of {1}.".format(size.expression, shown(memory_total))
        )
    return amount


# --- showing


def shown(value: Optional[int]) -> str:
    """Bytes for people, with at most one decimal: `512 MiB`, `15.6 GiB`, `1000 bytes`, `no limit`."""
    if value is None:
        return "no limit"
    for unit, name in _SHOWN:
        number = "{0:.1f}".format(value / unit)
        if float(number) >= 1 and not (value % 1024):
            return "{0} {1}".format(number[:-2] if number.endswith(".0") else number, name)
    return "0" if not value else "1 byte" if value == 1 else "{0} bytes".format(value)
