# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of oom_evidence, which its action and its module both check. Private to this collection."""

from typing import Any, Dict

from ._options import COLLECT_SPEC

EVIDENCE_SPEC: Dict[str, Dict[str, Any]] = dict(
    COLLECT_SPEC,
    spool={"type": "path", "default": "oom-evidence/spool"},
    keep={"type": "int", "default": 10},
    cursor_machine_id={"type": "str"},
    inventory_name={"type": "str"},
)
