# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Skip what cannot matter: blocks of lines near anything that could belong to a report.

Private to this collection.
"""

import functools
from typing import Callable, Dict, FrozenSet, Iterable, Iterator, Tuple

from .patterns import lazy

COLD, HOT = 0, 1
# Outside a report only lines with one of these matter: every report has its trigger, every kill a line of its own.
# They are long because bytes.find skips by the needle's length.
NEEDLES = (
    b"invoked oom-killer: gfp_mask=",
    b"Killed process ",
    b"oom-kill:constraint=CONSTRAINT_",
)
_TRIGGER_NEEDLE = NEEDLES[0]
# Shortly after a report also these, which complete its victims.
_WARM_NEEDLES = (b"oom_reaper: ", b"memory.oom.group set", b"sharing same memory", b"already exiting", b"panic_on_oom")
# A process name with odd bytes makes journald's JSON print the message as a list of byte numbers.
JSON_NEEDLES = (b'"MESSAGE":[', b'"MESSAGE" : [')

_HEAD = 256 * 1024  # a source may begin in the middle of a report: its start is read whole
_WARM = 64 * 1024
_SLICE = 128 * 1024  # a chunk with a needle is searched again
_BLOCK = (4 * 1024, 256 * 1024)  # first and largest block inside a report
LONGEST = 64 * 1024  # a longer line is no kernel record (kernel/printk: at most 1024 bytes of text)
_CONTINUED = b" " * 12
_LOOK_BACK = 64 * 1024
_LOOK_BACK_MISSES = 8
_SEAM = 64  # longer than any needle

# Lines that stand only in reports: how far back a report reaches whose first line is lost.
_KIN_BYTES = lazy(
    rb"Comm: |Mem-Info|\boom|[kK]illed|(?:memory|swap|kmem): usage|\[ *pid *\]|\] +\d+ +\d+ +\d+ |"
    rb"active_anon|Node \d|lowmem_reserve|hugepages_|pages |Memory cgroup|Hardware name|all [tT]race|\+0x[0-9a-f]+/|"
    rb"R[0-9A-Z]{2}: |Swap|swap |[a-z_]+ \d+\n|pagecache|</?TASK>|Code: "
)


def blocks(chunks: Iterable[bytes], mood: Callable[[], int], needles: Tuple[bytes, ...] = NEEDLES) -> Iterator[bytes]:
    """Cut a byte stream into blocks of whole lines near anything that could belong to a report.

    ``mood`` is asked before each step: :data:`HOT` while a report is open (every line is delivered),
    :data:`COLD` else (only lines with a needle, and what leads up to them). Memory is bounded by the
    chunk size whatever the stream holds; time is linear.
    """
    source = slices(chunks)
    buffer = b""
    position = floor = 0  # unread from here; delivered up to there
    head, size, warm_end = _HEAD, _BLOCK[0], 0
    ended = overlong = False
    while True:
        hot = head > 0 or mood() == HOT
        if hot:
            end = buffer.rfind(b"\n", position, position + size) + 1
            if end <= position:
                end = buffer.find(b"\n", position + size) + 1
        else:
            size = _BLOCK[0]
            start, end = _next_hit(buffer, position, warm_end, needles)
        if end > position:
            end = _whole_record(buffer, end, ended)
        if end <= position:  # nothing complete here: refill
            if ended:
                if hot and position < len(buffer):
                    yield buffer[position:] + b"\n"
                elif not hot and start >= 0:
                    yield buffer[_line_start(buffer, floor, position, start) :] + b"\n"
                return
            if not hot:  # nothing in the complete lines, or nothing before the hit
                position = max(position, buffer.rfind(b"\n", position, len(buffer) if start < 0 else start) + 1)
            tail = max(buffer.rfind(b"\n", position) + 1, position)
            if len(buffer) - tail > LONGEST:  # an over-long line: forget it
                buffer, overlong = buffer[:tail], True
            fresh = next(source, None)
            if not hot and start < 0 and not overlong and warm_end <= position:
                while fresh is not None and _nothing_in(fresh, buffer, needles):
                    buffer, position, floor, warm_end = fresh, 0, 0, 0
                    fresh = next(source, None)
                position = max(position, buffer.rfind(b"\n", position) + 1)
            if fresh is None:
                ended = True
                if hot and position < len(buffer):
                    size = len(buffer)
                continue
            if overlong:
                newline = fresh.find(b"\n")
                if newline < 0:
                    continue
                fresh, overlong = fresh[newline + 1 :], False
            keep = max(floor, position - _LOOK_BACK)
            buffer = buffer[keep:] + fresh
            position, floor, warm_end = position - keep, max(0, floor - keep), max(0, warm_end - keep)
            continue
        if hot:
            block = buffer[position:end]
            size = min(size * 2, _BLOCK[1])
        else:
            block = buffer[_line_start(buffer, floor, position, start) : end]
        head -= len(block)
        position = floor = end
        warm_end = end + _WARM
        yield block


def slices(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Chunks of at most 128 KiB, so that memory does not depend on the caller's."""
    for chunk in chunks:
        for start in range(0, len(chunk), _SLICE):
            yield chunk if len(chunk) <= _SLICE else chunk[start : start + _SLICE]


def _nothing_in(fresh: bytes, buffer: bytes, needles: Tuple[bytes, ...]) -> bool:
    """Whether a chunk can be passed over without being joined to the one before; the seam is looked at too."""
    if fresh.rfind(b"\n", -LONGEST) < 0:  # an over-long line may begin here
        return False
    seam = buffer[-_SEAM:] + fresh[:_SEAM]
    if any(needle in seam for needle in needles):
        return False
    # One byte is sought ten times faster than a needle, and where it is frequent, it is found at once.
    common, own = _bytes_of(needles)
    if any(byte not in fresh for byte in common):
        return True
    return not any(all(byte in fresh for byte in own[needle]) and needle in fresh for needle in needles)


@functools.lru_cache(maxsize=4)
def _bytes_of(needles: Tuple[bytes, ...]) -> Tuple[FrozenSet[int], Dict[bytes, FrozenSet[int]]]:
    """The bytes that every needle has, and the others of each: a text without one of them does not have the needle."""
    common = frozenset(needles[0]).intersection(*needles[1:])
    return common, {needle: frozenset(needle) - common for needle in needles}


def _whole_record(buffer: bytes, end: int, ended: bool) -> int:
    """Where the record ends whose first line ends at ``end``: multi-line records go on, indented. 0: not here yet."""
    furthest = end + LONGEST
    while end < furthest:
        if end + len(_CONTINUED) > len(buffer) and not ended:
            return 0
        if not buffer.startswith(_CONTINUED, end):
            return end
        newline = buffer.find(b"\n", end) + 1
        if newline <= 0:
            return len(buffer) if ended else 0
        end = newline
    return end


def _next_hit(buffer: bytes, position: int, warm_end: int, needles: Tuple[bytes, ...]) -> Tuple[int, int]:
    """First needle at or behind position: its offset and the end of its line (0 where the line is incomplete)."""
    first, last = -1, len(buffer)
    for needle in needles:
        found = buffer.find(needle, position, last)
        if found >= 0:
            first, last = found, found + len(needle)
    if position < warm_end:
        for needle in _WARM_NEEDLES:
            found = buffer.find(needle, position, min(last, warm_end))
            if found >= 0:
                first, last = found, found + len(needle)
    if first < 0:
        return -1, 0
    return first, buffer.find(b"\n", first) + 1


def _line_start(buffer: bytes, floor: int, position: int, hit: int) -> int:
    """Where to begin for a hit: its line, or the start of the report whose first lines are lost."""
    start = max(buffer.rfind(b"\n", position, hit) + 1, position)
    if buffer.startswith(_TRIGGER_NEEDLE, hit):
        return start
    begin, misses, lower = start, 0, max(floor, start - _LOOK_BACK)
    cursor = start
    while cursor > lower and misses < _LOOK_BACK_MISSES:
        previous = max(buffer.rfind(b"\n", lower, cursor - 1) + 1, lower)
        if _KIN_BYTES.search(buffer, previous, min(cursor, previous + 512)):
            begin, misses = previous, 0
        else:
            misses += 1
        cursor = previous
    return begin
