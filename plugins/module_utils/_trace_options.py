# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of oom_trace, and what they may be. Private to this collection."""

from typing import Any, Dict

from ._host.tracer_backends import AUTO, BACKENDS
from ._options import OptionError

TRACE_SPEC: Dict[str, Dict[str, Any]] = {
    "backend": {"type": "str", "choices": [AUTO, *BACKENDS], "default": AUTO},
    "duration": {"type": "int", "default": 60},
    "max_events": {"type": "int", "default": 100},
    "cgroups": {"type": "list", "elements": "str", "default": []},
    "attach_timeout": {"type": "int", "default": 120},
    "kernel_log": {"type": "bool", "default": True},
    "ready_path": {"type": "path"},
}
MOST_EVENTS = 10000
_BOUNDS = {"duration": (1, 86400), "max_events": (1, MOST_EVENTS), "attach_timeout": (1, 600)}


def check(params: Dict[str, Any]) -> None:
    """Raise OptionError for the first option that cannot be used, before anything is touched."""
    for name, (least, most) in _BOUNDS.items():
        if not least <= params[name] <= most:
            raise OptionError("{0}: {1} is out of range; it takes {2} to {3}.".format(name, params[name], least, most))
    if not all(params["cgroups"]):
        raise OptionError("cgroups: an entry is empty; remove it.")
