# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words for the sentences of policies. Private to this collection. Pure."""

import difflib
from typing import Any, Iterable, Sequence

_LONGEST = 100
_KINDS = ((dict, "a mapping"), ((list, tuple), "a list"), (type(None), "nothing"))
_SCALARS = (str, int, float)  # and bool, which is an int


def described(value: Any) -> str:
    """A value of YAML for a sentence, short and printable whatever it is: itself, or what kind of thing it is."""
    if not isinstance(value, _SCALARS):
        return next((name for types, name in _KINDS if isinstance(value, types)), type(value).__name__)
    if isinstance(value, int) and abs(value) >= 2**64:  # Python 3.11 prints none with more than 4300 digits
        return "so large a number"
    text = ascii(value[:_LONGEST] + "..." if isinstance(value, str) and len(value) > _LONGEST else value)
    return text if len(text) <= 2 * _LONGEST else text[: 2 * _LONGEST] + "..."


def listed(words: Sequence[str]) -> str:
    """`a`, or `a and b`, or `a, b and c`."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def similar(name: str, known: Iterable[str]) -> str:
    """`; did you mean image?`, or nothing where no known name is near."""
    close = difflib.get_close_matches(name[:_LONGEST], list(known), 1)
    return "; did you mean {0}?".format(close[0]) if close else ""


def sentence(text: str) -> str:
    """The text with a full stop at its end."""
    return text if text.endswith((".", "?", "!")) else text + "."
