# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that every module which collects events takes, and what they mean. Private to this collection."""

import re
import time
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, Optional

SOURCES = ("auto", "journal", "kmsg", "files")

# Documented in doc_fragments/_collect.py; test_options.py holds the two together.
COLLECT_SPEC: Dict[str, Dict[str, Any]] = {
    "sources": {"type": "list", "elements": "str", "choices": list(SOURCES), "default": ["auto"]},
    "paths": {"type": "list", "elements": "path", "default": []},
    "since": {"type": "str"},
    "until": {"type": "str"},
    "boots": {"type": "str", "choices": ["all", "current"], "default": "all"},
    "cursor": {"type": "str"},
    "journal_directory": {"type": "path"},
    "max_events": {"type": "int", "default": 1000},
    "max_tasks": {"type": "int", "default": 20},
    "raw": {"type": "bool", "default": False},
}

_UNIT_SECONDS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "seconds": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "minutes": 60,
    "h": 3600,
    "hr": 3600,
    "hour": 3600,
    "hours": 3600,
    "d": 86400,
    "day": 86400,
    "days": 86400,
    "w": 604800,
    "week": 604800,
    "weeks": 604800,
}
_SPAN = re.compile(r"-?((?:[0-9]{1,9} ?[a-z]+ ?)+?)(?: ago)?")
_SPAN_PART = re.compile(r"([0-9]+) ?([a-z]+)")
_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?"
    r"(?:Z|([+-])([0-9]{2}):?([0-9]{2}))?)?"
)
_TIME_HELP = (
    "write ISO 8601 such as 2026-11-22T21:50:30Z (UTC where no offset is given) or a span before now such as -2h or 1d"
)


class OptionError(ValueError):
    """An option that cannot be used; the message is one sentence for the user."""


def parse_time(name: str, text: Optional[str], now: float) -> Optional[float]:
    """Epoch seconds of an ISO 8601 time or of a span before ``now`` (``-2h``, ``2h``, ``1d12h``, ``30min ago``).

    A time without offset is UTC: the same task must mean the same moment on every host of a fleet.
    Raises OptionError, which names the option ``name``, for everything else.
    """
    if text is None:
        return None
    stripped = text.strip()
    seconds = _iso_seconds(stripped)
    if seconds is None:
        span = _span_seconds(stripped)
        seconds = None if span is None else now - span
    if seconds is None or seconds < 0:
        raise OptionError("{0}: {1!r} is not a time; {2}.".format(name, text[:80], _TIME_HELP))
    return seconds


def _iso_seconds(text: str) -> Optional[float]:
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    try:
        moment = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((fraction or "").ljust(6, "0")),
            tzinfo=timezone.utc,
        )
        offset = timedelta(hours=int(offset_hours or 0), minutes=int(offset_minutes or 0))
        moment = moment + offset if sign == "-" else moment - offset
    except (ValueError, OverflowError):
        return None
    return (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) / timedelta(seconds=1)


def _span_seconds(text: str) -> Optional[int]:
    match = _SPAN.fullmatch(text)
    if match is None:
        return None
    total = 0
    for amount, unit in _SPAN_PART.findall(match.group(1)):
        if unit not in _UNIT_SECONDS:
            return None
        total += int(amount) * _UNIT_SECONDS[unit]
    return total


def collect_arguments(params: Dict[str, Any], now: Optional[float] = None) -> Dict[str, Any]:
    """The keyword arguments of ``collect_events`` for the module options ``params``.

    Raises OptionError before anything is read.
    """
    moment = time.time() if now is None else now
    since = parse_time("since", params["since"], moment)
    until = parse_time("until", params["until"], moment)
    if since is not None and until is not None and since > until:
        raise OptionError("since ({0}) is later than until ({1}); swap them.".format(params["since"], params["until"]))
    for name, least in (("max_events", 1), ("max_tasks", 0)):
        if params[name] < least:
            raise OptionError("{0}: {1} is too small; the least is {2}.".format(name, params[name], least))
    for name in ("paths", "sources"):
        if any(not item for item in params[name]):
            raise OptionError("{0}: an entry is empty; remove it.".format(name))
    if not params["sources"] and not params["paths"]:
        raise OptionError("sources: the list is empty; name a source, or leave the option out.")
    arguments = {name: params[name] for name in COLLECT_SPEC}
    arguments.update(since=since, until=until)
    return arguments


def utf8(value: Any) -> Any:
    """``value`` with every string safe to encode: a lone surrogate, once a byte that was no UTF-8, is spelled out."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8") if _has_surrogate(value) else value
    if isinstance(value, dict):
        return {utf8(key): utf8(item) for key, item in value.items()}
    if isinstance(value, list):
        return [utf8(item) for item in value]
    return value


def _has_surrogate(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
