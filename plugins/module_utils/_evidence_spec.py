# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of oom_evidence, which its action and its module both check. Private to this collection."""

from typing import Any, Dict

from ._options import COLLECT_SPEC, OptionError, collect_arguments

EVIDENCE_SPEC: Dict[str, Dict[str, Any]] = dict(
    COLLECT_SPEC,
    spool={"type": "path", "default": "oom-evidence/spool"},
    keep={"type": "int", "default": 10},
    cgroups={"type": "bool", "default": True},
    max_cgroups={"type": "int", "default": 20000},
    cursor_machine_id={"type": "str"},
    inventory_name={"type": "str"},
)


def evidence_arguments(params: Dict[str, Any]) -> Dict[str, Any]:
    """The keyword arguments of ``collect_events`` for the options ``params``. Raises OptionError for a wrong one."""
    for name, least in (("keep", 1), ("max_cgroups", 1)):
        if params[name] < least:
            raise OptionError("{0}: {1} is too small; the least is {2}.".format(name, params[name], least))
    return collect_arguments(params)
