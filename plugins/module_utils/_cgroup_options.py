# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of every module that reads cgroups, and what they mean. Private to this collection."""

import fnmatch
import re
from typing import Any, Dict

from ._options import OptionError

# The kinds of _oom/workload.py.
KINDS = ("container", "pod", "machine", "job", "unit", "session", "scope", "slice", "root", "cgroup")
STAT = ("anon", "file", "kernel", "kernel_stack", "pagetables", "percpu", "shmem", "slab", "sock")

# Documented in doc_fragments/_cgroups.py; validate-modules holds the two together.
CGROUP_SPEC: Dict[str, Dict[str, Any]] = {
    "patterns": {"type": "list", "elements": "str", "default": []},
    "kinds": {"type": "list", "elements": "str", "choices": list(KINDS), "default": []},
    "min_usage": {"type": "str", "default": "0"},
    "with_stat": {"type": "list", "elements": "str", "default": list(STAT)},
    "with_pressure": {"type": "bool", "default": False},
    "root": {"type": "path"},
}

_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,6}))? ?([KMGTP]?)(?:I?B)?", re.ASCII)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}
_STAT_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")


def size_bytes(name: str, text: str) -> int:
    """Bytes of a size such as `64M`, `1.5 GiB` or `67108864`; units are powers of 1024.

    Raises OptionError, which names the option ``name``, for everything else.
    """
    match = _SIZE.fullmatch(text.strip().upper())
    if match is None:
        raise OptionError("{0}: {1!r} is not a size; write bytes or a size such as 64M.".format(name, text[:80]))
    whole, fraction, unit = match.groups()
    parts: int = int(whole + (fraction or "")) << _UNITS[unit]
    scale: int = 10 ** len(fraction or "")
    return parts // scale


def cgroup_arguments(params: Dict[str, Any]) -> Dict[str, Any]:
    """The keyword arguments of ``cgroupfs.read`` for the module options ``params``.

    Raises OptionError before anything is read.
    """
    for pattern in params["patterns"]:
        _check_pattern(pattern)
    for key in params["with_stat"]:
        if not _STAT_KEY.fullmatch(key):
            raise OptionError("with_stat: {0!r} is not a key of memory.stat; write keys such as anon.".format(key[:80]))
    if params["root"] == "":
        raise OptionError("root: the path is empty; name a folder, or leave the option out.")
    return {
        "root": params["root"],
        "patterns": params["patterns"],
        "kinds": params["kinds"],
        "min_usage_bytes": size_bytes("min_usage", params["min_usage"]),
        "with_stat": params["with_stat"],
        "with_pressure": params["with_pressure"],
    }


def _check_pattern(pattern: str) -> None:
    if not pattern:
        raise OptionError("patterns: an entry is empty; remove it.")
    try:
        re.compile(fnmatch.translate(pattern))
    except re.error as error:
        raise OptionError("patterns: {0!r} is not a shell pattern: {1}.".format(pattern[:80], error)) from error
