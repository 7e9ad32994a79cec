# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From bytes of any transport to rows of kernel text. Private to this collection.

A row is ``(where, caller, text)``: the transport's own prefix, the printk caller (``T123``, ``C0`` or
empty) and the kernel's words. The prefix stays raw, because most rows never need their time;
:func:`rows.stamp` reads it when one does.

The prefix of a text line is a sequence of layers (:data:`_LAYERS`). The first line that the general
grammar understands tells which layers this stream has; a pattern of just these layers then frames whole
blocks in one call, and lines that it misses go through the general grammar one by one.

Records that cannot matter are never decoded: outside an open report the stream is only searched for
the few words that every report contains (:data:`skim.NEEDLES`).
"""

import re
from typing import Callable, Dict, Iterable, Iterator, List, Match, NamedTuple, Optional, Pattern, Tuple, Union

from . import records, skim
from .patterns import lazy
from .records import ESCAPE, UNPRINTABLE_ESCAPE, unescape
from .rows import Row, Rows, Where

_INDENT = " " * 12
_CONTINUATIONS = 1024  # lines of one record
_CLOCKS = (  # name, pattern (oom-formats: /dev/kmsg, dmesg of util-linux, journalctl short*, syslog daemons)
    ("kmsg", r"\d+,\d+,\d+,[^;\s]*;"),
    ("mono", r"\[ *\d+\.\d+(?: +< *[\d.]+ ?>)?\]"),
    ("ctime", r"\[\w{2,5}\.? +\w{3,5}\.? +\d{1,2} \d\d:\d\d:\d\d \d{4}\]"),
    ("delta", r"\[(?:[A-Z][a-z]{2}\d\d \d\d:\d\d| *\+\d+\.\d+|< *\d+\.\d+ ?>)\]"),
    ("iso", r"(?:\w{3} )?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d| [A-Z]{3,5}(?= ))?"),
    ("bsd", r"(?:\d{4} )?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d+)?(?: \d{4}(?= ))?"),
    ("unix", r"\d{9,11}\.\d{6}(?= )"),
)
_HOST = r"(?:\S+ )?kernel(?:\[\d+\]: ?|: ?| - - (?:-|\[[^\]]*\]) )"
_LAYERS = (
    (
        ("quote", r"(?:(?:>|&gt;)[ \xa0]?)+"),
        ("cri", r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d) (?:stdout|stderr) [FP] "),
        ("indent", r"[ \t\xa0]+(?=[\[<\d])"),
        ("level", r"<\d{1,3}>(?:1 )?|[a-z]+ *:[a-z]+ *: "),
    )
    + tuple((name, pattern + ("" if name == "kmsg" else " ?")) for name, pattern in _CLOCKS)
    + (
        ("host", _HOST),
        ("stamp", r"\[ *\d+\.\d+\] ?"),
        ("caller", r"\[ *[TC]\d+\] ?"),
    )
)
_CLOCK_NAMES = frozenset(name for name, _pattern in _CLOCKS)


def _grammar(caller: str) -> Pattern[str]:
    """All layers in their order, each optional; one clock at most."""
    before = ["(?:(?P<%s>%s))?" % layer for layer in _LAYERS[:4]]
    clocks = "|".join("(?P<%s>%s)" % layer for layer in _LAYERS if layer[0] in _CLOCK_NAMES)
    behind = ["(?:(?P<%s>%s))?" % layer for layer in _LAYERS[-3:-1]]
    return lazy("".join(before + ["(?:%s)?" % clocks] + behind + ["(?P<caller>%s)?" % caller]))


_GENERAL = _grammar(dict(_LAYERS)["caller"])
_NO_CALLER = _grammar("(?!)")
# What a log daemon prints for other programs: `host tag[pid]: `. Only behind a daemon's clock.
_FOREIGN = lazy(r"\S+ (?!kernel\b)[^\s\[:]+(?:\[[^\]\n]*\])?: ?")
_FOREIGN_MONOTONIC = lazy(r"\S+ (?!kernel\b)[\w.@-]+\[\d+\]: ")  # the same in `journalctl -o short-monotonic`
_DAEMON_CLOCKS = frozenset(("iso", "bsd", "unix"))
_COLOURED = lazy(r"^\x1b\[", re.M)  # dmesg --color begins each line so; elsewhere it is part of a name
_ANSI = lazy(r"\x1b\[[0-9;]*[A-Za-z]")


class _Format(NamedTuple):
    """The layers that a stream turned out to have, and the pattern that finds just these."""

    layers: Tuple[str, ...]
    pattern: Pattern[str]


def _format(layers: Tuple[str, ...]) -> _Format:
    present = dict(_LAYERS)
    pattern = "".join("(?P<%s>%s)" % (name, present[name]) for name in layers)
    if "caller" not in layers:
        pattern += r"(?! ?\[ *[TC]\d+\])"
    if "stamp" not in layers and "host" in layers:
        pattern += r"(?! ?\[ *\d+\.\d+\])"
    # The general grammar asks for groups that this stream lacks.
    pattern += "".join("(?P<%s>(?!))?" % name for name, _pattern in _LAYERS if name not in layers)
    return _Format(layers, re.compile(pattern))


_PLAIN = _Format((), lazy(r"(?!)"))


class Lines:
    """Frames blocks of text lines. One per stream, since it learns the stream's prefix."""

    def __init__(self) -> None:
        self._form = _PLAIN
        self._formats: Dict[Tuple[str, ...], _Format] = {(): _PLAIN}
        self._fixed: Optional[_Fixed] = None
        self._cut: Optional[Pattern[str]] = None
        self._bare = False  # the stream's prefix has no printk stamp, though one may follow

    def rows(self, block: bytes) -> Rows:
        """Frame a block of whole lines; rows of other programs are left out."""
        text = block.decode("utf-8", "surrogateescape")
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "")
        if "\x1b" in text and _COLOURED.search(text):  # one character is sought far faster than two
            text = _ANSI.sub("", text)
        if "\xa0" in text:
            text = text.replace("\xa0", " ")
        if text.endswith("\n"):
            text = text[:-1]
        rows = self._records(text)
        return self._one_by_one(text.split("\n")) if rows is None else rows

    def _records(self, text: str) -> Optional[Rows]:
        """A block at once, where every line has the known prefix or goes on a record; None: not so simple."""
        if self._fixed is None or self._bare and _STAMPED.search(text):
            return None
        if self._cut is None:
            self._cut = _cut(self._fixed)
        parts = self._cut.split("\n" + text)  # what is before the first prefix, then prefix and text in turn
        texts = parts[2::2]
        continued = [each for each in texts if "\n" in each]
        escaped = "\\" in text and "\\x" in text
        if parts[0] or continued and escaped:
            return None
        if any(each.count("\n") != each.count("\n" + _INDENT) for each in continued):
            return None
        if continued:
            texts = [_outdented_record(each, self._fixed[0]) if "\n" in each else each for each in texts]
        elif escaped:
            texts = [unescape(each, UNPRINTABLE_ESCAPE) for each in texts]
        return Rows(texts, parts[1::2], None)

    def _one_by_one(self, lines: List[str]) -> Rows:
        texts: List[str] = []
        wheres: List[Where] = []
        callers: List[str] = []
        index, count = 0, len(lines)
        while index < count:
            if self._fixed:
                index = self._fixed_width(lines, index, texts, wheres)
                callers.extend([""] * (len(texts) - len(callers)))
                if index == count:
                    break
            line = lines[index]
            index += 1
            if texts and line.startswith(_INDENT) and wheres[-1]:  # a multi-line record goes on
                width = len(wheres[-1]) if isinstance(wheres[-1], str) else 0
                more = [line]
                while index < count and lines[index].startswith(_INDENT):
                    more.append(lines[index])
                    index += 1
                texts[-1] = "\n".join([texts[-1]] + [_outdented(each, width) for each in more[:_CONTINUATIONS]])
                continue
            for where, caller, text in self._row(line, texts, lines[index] if index < count else ""):
                texts.append(text)
                wheres.append(where)
                callers.append(caller)
        return Rows(texts, wheres, callers if any(callers) else None)

    def _fixed_width(self, lines: List[str], index: int, texts: List[str], wheres: List[Where]) -> int:
        """Cut lines of the known width from ``index`` on; returns the first that is something else."""
        if not self._fixed:
            return index
        width, one_start, one_end, one, two_start, two_end, two = self._fixed
        for place in range(index, len(lines)):
            line = lines[place]
            if line[one_start:one_end] != one or line[two_start:two_end] != two:
                return place
            text = line[width:]
            if self._bare and text.startswith("[") and _STAMP.match(text):
                return place
            texts.append(unescape(text, UNPRINTABLE_ESCAPE) if "\\x" in text else text)
            wheres.append(line[:width])
        return len(lines)

    def _row(self, line: str, texts: List[str], following: str) -> Iterator[Row]:
        """A line that the stream's own pattern missed: another prefix or program, a wrapped rest, or no prefix."""
        if not line.strip(" >\t"):
            return
        if line[0] == "{":
            row = _json_row(line)
            if row is None:
                return
            if not isinstance(row, str):
                yield row
                return
            line = row
        match = self._form.pattern.match(line) or _GENERAL.match(line)
        if match and match.group("caller") and "caller" not in self._form.layers and not _has_caller(following):
            match = _NO_CALLER.match(line)  # a task's name may look like a caller; callers stand on every line
        names = _names(match) if match else []
        layers = tuple(name for name in names if name not in ("quote", "indent"))
        if not match or not layers:
            yield from self._without_prefix(line[match.end("quote") :] if "quote" in names and match else line, texts)
            return
        by_daemon = "host" not in layers and _DAEMON_CLOCKS.intersection(layers)
        if by_daemon and "," not in (match.group("iso") or "") and _FOREIGN.match(line, _clock_end(match)):
            return
        prefix, rest = match.group(), line[match.end() :]
        if layers == ("mono",) and _FOREIGN_MONOTONIC.match(rest):
            return
        self._learn(tuple(names), prefix)
        if "kmsg" in layers:
            yield _kmsg_row(prefix, rest)
            return
        caller = match.group("caller") if "caller" in layers else ""
        where = prefix[: len(prefix) - len(caller)] if caller else prefix
        yield where, caller.strip(), unescape(rest, UNPRINTABLE_ESCAPE)

    def _without_prefix(self, line: str, texts: List[str]) -> Iterator[Row]:
        if self._form.layers and texts:  # the stream has prefixes: a soft-wrapped record goes on
            if not _FIELD.match(line) and len(texts[-1]) < skim.LONGEST:
                texts[-1] += "\n" + line.strip(" ")
            return
        yield "", "", unescape(line.strip(" \t"), UNPRINTABLE_ESCAPE)

    def _learn(self, layers: Tuple[str, ...], prefix: str) -> None:
        fixed = _fixed(layers, prefix)
        if fixed != self._fixed:
            self._fixed, self._cut = fixed, None
        self._bare = "host" in layers and "stamp" not in layers
        if layers != self._form.layers:
            self._form = self._formats.setdefault(layers, _format(layers))


_FIELD = lazy(r" [A-Z_]+=")  # /dev/kmsg: what the kernel knows of the record
_CALLER = lazy(r",caller=([TC]\d+)")
_STAMP = lazy(r"\[ *\d+\.\d{6}\]")
_STAMPED = lazy(r"kernel: \[ *\d+\.\d{6}\]")


def _outdented(line: str, width: int) -> str:
    return line[width:] if line[:width].isspace() else line.lstrip()


_MARGIN = lazy(r"\n( *)")
_INDENTED = lazy(r"\n\s")


def _outdented_record(text: str, width: int) -> str:
    """A record without the indentation of its further lines, most often the same on each."""
    margin = _MARGIN.search(text)
    if margin and len(margin.group(1)) <= width and text.count("\n") <= _CONTINUATIONS:
        flush = text.replace(margin.group(), "\n")
        if not _INDENTED.search(flush):
            return flush
    first, *more = text.split("\n")
    return "\n".join([first] + [_outdented(each, width) for each in more[:_CONTINUATIONS]])


# Width of a prefix and two slices of it that are the same on every line.
_Fixed = Tuple[int, int, int, str, int, int, str]


def _fixed(layers: Tuple[str, ...], prefix: str) -> Optional[_Fixed]:
    """How to cut lines whose prefix has a fixed width: journalctl short*, dmesg, syslog. None: not so simple."""
    if "caller" in layers or "kmsg" in layers or "quote" in layers or "indent" in layers or not prefix:
        return None
    width = len(prefix)
    if "host" in layers:
        begin = prefix.find("kernel")
        host = prefix.rfind(" ", 0, begin - 1)
        end = begin + len("kernel:") if "stamp" in layers else width
        if begin < 0 or host < 0:
            return None
        tail = width - 2 if "stamp" in layers else end
        return width, host, end, prefix[host:end], tail, width, prefix[tail:]
    if prefix[0] == "[" and prefix.endswith("] ") and set(layers) <= {"mono", "ctime"}:
        return width, 0, 1, "[", width - 2, width, "] "
    return None


def _cut(fixed: _Fixed) -> Pattern[str]:
    """What splits a block of lines with such prefixes."""
    width, one_start, one_end, one, two_start, two_end, two = fixed
    pieces = (one_start, re.escape(one), two_start - one_end, re.escape(two), width - two_end)
    return re.compile("\n(?!%s)(.{%d}%s.{%d}%s.{%d})" % ((_INDENT,) + pieces))


def _has_caller(line: str) -> bool:
    match = _GENERAL.match(line)
    return bool(match and match.group("caller"))


def _names(match: Match[str]) -> List[str]:
    return [name for name, _pattern in _LAYERS if match.group(name) is not None]


def _clock_end(match: Match[str]) -> int:
    return max(match.end(name) for name in _CLOCK_NAMES if match.group(name) is not None)


def _kmsg_row(where: str, text: str) -> Row:
    caller = _CALLER.search(where)
    return where, caller.group(1) if caller else "", unescape(text, ESCAPE)


def _json_row(line: str) -> Union[None, str, Row]:
    """A journald JSON record (row), a docker json-file record (its inner line), or None."""
    import json

    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    if isinstance(record.get("log"), str):
        return str(record["log"]).rstrip("\n")
    return records.journal_row(record)


def rows(chunks: Iterable[bytes], mood: Callable[[], int]) -> Iterator[Rows]:
    """Frame a stream of bytes in any transport; see :func:`skim.blocks` for ``mood``. Nothing raises on any bytes."""
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= 4096:
            break
    stream = _chain(head, source)
    if b"__" in head and records.EXPORT_START.match(head[:65536]):
        yield from records.export_rows(stream)
    elif b'"dmesg"' in head and records.DMESG_JSON.match(head[:256]):
        yield from records.dmesg_json_rows(stream)
    else:
        lines = Lines()
        needles = skim.NEEDLES + skim.JSON_NEEDLES if head.lstrip()[:1] == b"{" else skim.NEEDLES
        for block in skim.blocks(stream, mood, needles):
            yield lines.rows(block)


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest
