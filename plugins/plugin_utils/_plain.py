# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values of plays as plain Python. Private to this collection.

Since ansible-core 2.19 they are subclasses of str, dict and so on, and jmespath knows a type by its name only.
"""

from __future__ import annotations

from typing import Any

_DEEPEST = 100
# The value itself, not what a subclass says in a __str__ of its own.
_EXACTLY = ((str, str.__str__), (int, int.__int__), (float, float.__float__))


def plain(value: Any, depth: int = 0) -> Any:
    """The same value of nothing but dict, list, str, int, float, bool and None.

    Raises TypeError for anything else, and for what is nested too deeply.
    """
    if value is None or isinstance(value, bool):
        return value
    for kind, exactly in _EXACTLY:
        if isinstance(value, kind):
            return exactly(value)
    if depth > _DEEPEST:
        raise TypeError(f"a value is nested more than {_DEEPEST} levels deep")
    if isinstance(value, dict):
        return {plain(key, depth + 1): plain(part, depth + 1) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part, depth + 1) for part in value]
    raise TypeError(f"{type(value).__name__} is no JSON value")
