# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Regular expressions that cost nothing until they are used. Private to this collection.

A log has one of many transports and a few of many lines: compiling the patterns of all takes longer than
searching a hundred megabytes.
"""

import re
from typing import Any, AnyStr, Optional, Pattern, Tuple


class _Lazy:
    """Stands for a compiled pattern: its methods are the pattern's own from their first use on."""

    def __init__(self, text: AnyStr, flags: int) -> None:
        self._source: Tuple[Any, int] = (text, flags)
        self._compiled: Optional[Pattern[Any]] = None

    def __getattr__(self, name: str) -> Any:  # called only for what is not there yet
        if self._compiled is None:
            self._compiled = re.compile(*self._source)
        method = getattr(self._compiled, name)
        setattr(self, name, method)
        return method


def lazy(text: AnyStr, flags: int = 0) -> Pattern[AnyStr]:
    """The pattern of ``re.compile(text, flags)``, compiled when it is first used."""
    pattern: Any = _Lazy(text, flags)
    return pattern  # type: ignore[no-any-return]
