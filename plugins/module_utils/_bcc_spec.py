# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of bcc_tools, which its action and its module share. Private to this collection."""

from typing import Any, Dict

from ._bcc_plan import HEADERS, STATES
from ._host.tracer_backends import AUTO, BACKENDS

# What a user may set.
SPEC: Dict[str, Dict[str, Any]] = {
    "state": {"type": "str", "choices": list(STATES), "default": "present"},
    "backend": {"type": "str", "choices": [AUTO, *BACKENDS], "default": AUTO},
    "headers": {"type": "str", "choices": list(HEADERS), "default": "auto"},
    "update_cache": {"type": "bool", "default": True},
    "lock_timeout": {"type": "int", "default": 60},
}
# What the action adds.
MODULE_SPEC: Dict[str, Dict[str, Any]] = dict(
    SPEC,
    remember={
        "type": "list",
        "elements": "dict",
        "options": {"name": {"type": "str", "required": True}, "version": {"type": "str"}},
    },
    before={"type": "list", "elements": "str"},
    settle={"type": "bool", "default": False},
    only={"type": "list", "elements": "str"},
)
