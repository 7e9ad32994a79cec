# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What options that come from YAML have to be, whatever they are for. Private to this collection. Pure.

Each raises PolicyError with one sentence that begins with `where`.
"""

import re
from typing import Any, Optional, Tuple

from .model import PolicyError
from .wording import described, listed, sentence, similar

_WHOLE_NUMBER = re.compile("-?[0-9]{1,10}")
_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def mapping(value: Any, where: str) -> None:
    """The value is a mapping."""
    if not isinstance(value, dict):
        raise PolicyError("{0} must be a mapping, not {1}.".format(where, described(value)))


def keys(value: Any, known: Tuple[str, ...], where: str) -> None:
    """The value is a mapping that has no keys but known ones."""
    mapping(value, where)
    unknown = next((key for key in value if key not in known), known[0])
    if unknown not in known:
        hint = similar(unknown, known) if isinstance(unknown, str) else ""
        problem = "{0} has the unknown key {1}".format(where, described(unknown))
        raise PolicyError(sentence(problem + (hint or "; it may have {0}".format(listed(known)))))


def switch(value: Any, where: str) -> bool:
    """A boolean, or the text of one, which is what a template gives."""
    found = value if isinstance(value, bool) else _SWITCHES.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise PolicyError("{0}: {1} is no switch; write true or false.".format(where, described(value)))
    return found


def whole_number(value: Any) -> Optional[int]:
    """A whole number, or the text of one; None for anything else."""
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
