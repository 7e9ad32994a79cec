# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text and aligned columns for a terminal, safe whatever the text holds. Private to this collection."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence

_GAP = 2
_INDENT = 4
_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))  # controls, bidi and other format characters
_NO_TERMINAL_COLUMNS = 120
_DISPLAY_LEAST = 79  # what Display says where there is no terminal, and where it is narrow
# Asked where the plugin is loaded: the worker that runs it has no terminal any more (ansible-core 2.19).
_HAS_TERMINAL = os.isatty(1)


def visible(text: str) -> str:
    r"""Text with everything that a terminal would act on spelled out: ESC becomes ``\x1b``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelled(character) for character in text)


def _spelled(character: str) -> str:
    category = unicodedata.category(character)
    if category not in _UNSAFE and (category != "Zs" or character == " "):
        return character
    return character.encode("unicode_escape").decode("ascii")


def width_of(text: str) -> int:
    """Terminal columns of printable text: two for wide East Asian characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, width: int, at_left: bool = False) -> str:
    """Text of at most ``width`` columns; an ellipsis stands for what is left out."""
    if width_of(text) <= width:
        return text
    kept, used = [], 1
    for character in reversed(text) if at_left else text:
        used += _columns(character)
        if used > width:
            break
        kept.append(character)
    return "…" + "".join(reversed(kept)) if at_left else "".join(kept) + "…"


def wrapped(text: str, width: int) -> list[str]:
    """Text in lines of at most ``width`` columns, broken between words where possible."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        while word:
            if not line:
                piece = _prefix(word, width)
                line, word = piece, word[len(piece) :]
            elif width_of(line) + 1 + width_of(word) <= width:
                line, word = f"{line} {word}", ""
            else:
                lines.append(line)
                line = ""
            if word and line and width_of(line) >= width:
                lines.append(line)
                line = ""
    return [*lines, line] if line else lines


def _prefix(word: str, width: int) -> str:
    used = 0
    for index, character in enumerate(word):
        used += _columns(character)
        if used > width and index:
            return word[:index]
    return word


def grid(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    least: Sequence[int],
    width: int,
    paths: Sequence[str] = (),
    below: Sequence[str] = (),
) -> list[str]:
    """Titles and rows with aligned columns; the last column wraps, what is too long elsewhere is cut.

    :arg least: per column, the width that it keeps where not all have room; 0 for one that is never cut.
    :arg paths: titles of columns that may hold a path, whose end says more than its beginning.
    :arg below: a text for each row, wrapped and indented below it.
    """
    widths = _widths([titles, *rows], least, width)
    left = sum(widths[:-1]) + _GAP * (len(widths) - 1)
    lines = []
    for row, text_below in zip([titles, *rows], ["", *(below or [""] * len(rows))]):
        cells = [
            _filled(cut(text, size, at_left="/" in text and title in paths), size)
            for title, text, size in zip(titles[:-1], row, widths)
        ]
        last = wrapped(row[-1], widths[-1]) or [""]
        lines.append((" " * _GAP).join([*cells, last[0]]).rstrip())
        lines += [" " * left + more for more in last[1:]]
        lines += [" " * _INDENT + more for more in wrapped(text_below, width - _INDENT)]
    return lines


def cuts(rows: Sequence[Sequence[str]], least: Sequence[int], width: int, whole_columns: Sequence[int]) -> bool:
    """Whether ``grid`` would cut any of these columns, or have no room for the least width of all."""
    widths = _widths(rows, least, width)
    whole = all(width_of(row[index]) <= widths[index] for row in rows for index in whole_columns)
    return not whole or sum(widths) + _GAP * (len(widths) - 1) > width


def notices(pairs: Sequence[tuple[str, str]], width: int) -> list[str]:
    """A name and a wrapped text beside it, for each pair; the texts begin in one column."""
    indent = min(max([width_of(name) for name, _text in pairs] + [4]), width // 3) + _GAP
    lines = []
    for name, text in pairs:
        body = wrapped(text, max(20, width - indent)) or [""]
        lines.append(_filled(cut(name, indent - _GAP), indent) + body[0])
        lines += [" " * indent + more for more in body[1:]]
    return lines


def columns(display_columns: int, least: int) -> int:
    """COLUMNS, else the terminal's width as Display measured it, else 120 where the output is no terminal."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdigit() and int(asked) > 0:
        return max(int(asked), least)
    return max(least, display_columns) if _HAS_TERMINAL or display_columns > _DISPLAY_LEAST else _NO_TERMINAL_COLUMNS


def _filled(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


def _widths(rows: Sequence[Sequence[str]], least: Sequence[int], width: int) -> list[int]:
    """What each column holds, then taken from the widest that can give until the row fits."""
    widths = [max(width_of(row[index]) for row in rows) for index in range(len(least))]
    room = width - _GAP * (len(least) - 1)
    while sum(widths) > room:
        can_give = [index for index, size in enumerate(widths) if least[index] and size > least[index]]
        if not can_give:
            break
        widths[max(can_give, key=lambda index: widths[index])] -= 1
    return widths
