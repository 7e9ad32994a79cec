# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was read from a source: one row of the coverage, filled in while the source streams. Private."""

from typing import Any, Dict, Iterable, Iterator, Optional

from .._oom import framing, rows
from .._oom.times import Context, iso, when

_EDGE = 16 * 1024  # bytes at a stream's start and end that are searched for a time


class Unreadable(Exception):
    """A source that cannot be read: one sentence what happened, one what to do (or None), and whether it exists."""

    def __init__(self, error: str, advice: Optional[str] = None, exists: bool = True) -> None:
        super().__init__(error)
        self.error = error
        self.advice = advice
        self.exists = exists


def row(source: str, path: Optional[str]) -> Dict[str, Any]:
    """A coverage row of a source not read yet. Times are ISO 8601; `overrun` and `missed` are of the ring buffer."""
    return {
        "source": source,
        "path": path,
        "available": False,
        "first_time": None,
        "last_time": None,
        "records": 0,
        "bytes": 0,
        "error": None,
        "overrun": None,
        "missed": None,
    }


def counted(chunks: Iterable[bytes], about: Dict[str, Any], context: Context) -> Iterator[bytes]:
    """Pass a stream of text lines on, counting lines and bytes into the row, and its first and last time."""
    first = last = b""
    for chunk in chunks:
        about["records"] += chunk.count(b"\n")
        about["bytes"] += len(chunk)
        if len(first) < _EDGE:
            first = (first + chunk)[:_EDGE]
        last = (last + chunk[-_EDGE:])[-_EDGE:]
        yield chunk
    about["first_time"] = _time(first, context, 0)
    about["last_time"] = _time(last, context, -1)


def _time(block: bytes, context: Context, which: int) -> Optional[str]:
    """Time of the first (0) or last (-1) line of the block that has one."""
    wheres = framing.Lines().rows(block.rpartition(b"\n")[0] or block).wheres
    places = range(len(wheres)) if which == 0 else range(len(wheres) - 1, -1, -1)
    times = (when(rows.stamp(wheres[place]), context)[0] for place in places)
    return next((iso(time) for time in times if time is not None), None)
