# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records that carry their fields by name: journald's export and JSON, dmesg's JSON. Private to this collection."""

from typing import Any, Dict, Iterable, Iterator, List, Match, Optional, Pattern, Tuple

from .patterns import lazy
from .rows import Row, Rows, Stamp, columns
from .skim import slices

ESCAPE = lazy(rb"\\x([0-9a-f]{2})")
UNPRINTABLE_ESCAPE = lazy(rb"\\x([01][0-9a-f]|7f|[89a-f][0-9a-f])")


def unescape(text: str, escape: Pattern[bytes]) -> str:
    r"""Undo ``\xNN``: every one in /dev/kmsg (:data:`ESCAPE`), only what dmesg cannot print elsewhere."""
    if "\\x" not in text:
        return text
    data = escape.sub(_byte, text.encode("utf-8", "surrogateescape"))  # escaped bytes may form UTF-8 together
    return data.decode("utf-8", "surrogateescape")


def _byte(found: Match[bytes]) -> bytes:
    return bytes((int(found.group(1), 16),))


def journal_row(record: Dict[str, Any]) -> Optional[Row]:
    """The row of a journald record; None for what is not the kernel's own (a user may log any text)."""
    if record.get("_TRANSPORT", "kernel") != "kernel":
        return None
    message = record.get("MESSAGE")
    if isinstance(message, list):
        if not all(isinstance(number, int) and 0 <= number < 256 for number in message):
            return None
        message = bytes(message).decode("utf-8", "surrogateescape")
    if not isinstance(message, str):
        return None
    monotonic = _integer(record.get("_SOURCE_MONOTONIC_TIMESTAMP"))
    read_at = _integer(record.get("__MONOTONIC_TIMESTAMP"))
    lag = max(0, read_at - monotonic) if monotonic is not None and read_at is not None else None
    return (
        Stamp(
            monotonic_usec=monotonic,
            realtime_usec=_integer(record.get("__REALTIME_TIMESTAMP")),
            lag_usec=lag,
            boot_id=_text(record.get("_BOOT_ID")),
            machine_id=_text(record.get("_MACHINE_ID")),
            hostname=_text(record.get("_HOSTNAME")),
            position=_text(record.get("__CURSOR")),
        ),
        "",
        message,
    )


def _integer(value: Any) -> Optional[int]:
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 20 else None


def _text(value: Any) -> Optional[str]:
    return value if isinstance(value, str) else None


_EXPORT_TEXT = lazy(rb"(?:[A-Z_][A-Z0-9_]*=[^\n]*\n)+")
_EXPORT_BINARY = lazy(rb"([A-Z_][A-Z0-9_]*)\n")
EXPORT_START = lazy(rb"\s*(?:[A-Z_][A-Z0-9_]*=[^\n]*\n)*__(?:CURSOR|REALTIME_TIMESTAMP)=")
_EXPORT_KEYS = frozenset(
    [
        "MESSAGE",
        "_TRANSPORT",
        "_BOOT_ID",
        "_MACHINE_ID",
        "_HOSTNAME",
        "_SOURCE_MONOTONIC_TIMESTAMP",
        "__MONOTONIC_TIMESTAMP",
        "__REALTIME_TIMESTAMP",
        "__CURSOR",
    ]
)
_EXPORT_RECORD = 4 * 1024 * 1024
_KEPT = 1024 * 1024


def export_rows(chunks: Iterable[bytes]) -> Iterator[Rows]:
    """Rows of `journalctl -o export`. Read in order, since a message may hold what looks like a record."""
    buffer = bytearray()
    skip = 0  # bytes of an over-long binary field still to come
    for chunk in slices(chunks):
        if skip:
            taken = min(skip, len(chunk))
            chunk, skip = chunk[taken:], skip - taken
        buffer += chunk
        rows: List[Row] = []
        used = 0
        while True:
            fields, end, missing = _export_record(bytes(buffer[used : used + _EXPORT_RECORD]))
            if end <= 0:
                if missing > _EXPORT_RECORD or len(buffer) - used > _EXPORT_RECORD:
                    skip = max(0, missing - (len(buffer) - used))
                    used = len(buffer)
                break
            used += end
            row = journal_row(fields)
            if row:
                rows.append(row)
        del buffer[:used]
        yield columns(rows)
    fields, end, _missing = _export_record(bytes(buffer) + b"\n\n")
    row = journal_row(fields) if end > 0 else None
    if row:
        yield columns([row])


def _export_record(data: bytes) -> Tuple[Dict[str, Any], int, int]:
    """One record: fields, its length (0 if incomplete), the length that a binary field asks for."""
    fields: Dict[str, Any] = {}
    position = len(data) - len(data.lstrip(b"\n"))
    while position < len(data):
        run = _EXPORT_TEXT.match(data, position)
        if run:
            for line in run.group().split(b"\n"):
                name, _equals, value = line.partition(b"=")
                key = name.decode("ascii")
                if key in _EXPORT_KEYS:
                    fields[key] = value.decode("utf-8", "surrogateescape")
            position = run.end()
            continue
        if data[position : position + 1] == b"\n":
            return fields, position + 1, 0
        binary = _EXPORT_BINARY.match(data, position)
        if not binary:
            newline = data.find(b"\n", position)  # no field at all: leave the line out
            if newline < 0:
                return fields, 0, 0
            position = newline + 1
            continue
        start = binary.end() + 8
        length = int.from_bytes(data[binary.end() : start], "little")
        if start > len(data) or start + length + 1 > len(data):
            return fields, 0, start + length + 1
        key = binary.group(1).decode("ascii")
        if key in _EXPORT_KEYS:
            fields[key] = data[start : start + length].decode("utf-8", "surrogateescape")
        position = start + length + 1
    return fields, 0, 0


DMESG_JSON = lazy(rb'\s*\{\s*"dmesg" *: *\[')
_DMESG_RECORD = lazy(
    r'"time": +(?P<time>\d+\.\d+),\s*(?:"caller": *"(?P<caller>[^"\n]*)",\s*)?"msg": *"(?P<msg>(?:[^"\\]|\\.)*)"'
)


def dmesg_json_rows(chunks: Iterable[bytes]) -> Iterator[Rows]:
    """Rows of `dmesg --json`, which may be invalid UTF-8 (observed with util-linux 2.38.1)."""
    kept = ""
    decoder = _Decoder()
    for chunk in slices(chunks):
        text = kept + decoder(chunk)
        cut = text.rfind("}")
        yield columns([_dmesg_row(found) for found in _DMESG_RECORD.finditer(text, 0, cut + 1)])
        kept = text[cut + 1 :][-_KEPT:]


class _Decoder:
    """Incremental UTF-8 with surrogateescape; a character may be cut by a chunk's end."""

    def __init__(self) -> None:
        self._rest = b""

    def __call__(self, chunk: bytes) -> str:
        data = self._rest + chunk
        cut = max(data.rfind(b"\n") + 1, len(data) - 8)
        self._rest = data[cut:]
        return data[:cut].decode("utf-8", "surrogateescape")


def _dmesg_row(found: Match[str]) -> Row:
    import json

    try:
        message = json.loads('"%s"' % found.group("msg"), strict=False)
    except ValueError:
        message = found.group("msg")
    return "[%s]" % found.group("time"), found.group("caller") or "", unescape(str(message), UNPRINTABLE_ESCAPE)
