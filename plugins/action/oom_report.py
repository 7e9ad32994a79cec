# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shows the spool: a table on the terminal, events.json beside the spool. Never connects to a host."""

from __future__ import annotations

import os
from collections import deque
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.oom.forensics.plugins.plugin_utils import _evidence, _report, _terminal
from ansible_collections.oom.forensics.plugins.plugin_utils._terminal import visible

_SPEC: dict[str, dict[str, Any]] = {
    "spool": {"type": "path", "default": "oom-evidence/spool"},
    "hosts": {"type": "list", "elements": "str"},
    "events_path": {"type": "path"},
    "max_rows": {"type": "int", "default": 50},
}


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(argument_spec=_SPEC)
        if options["max_rows"] < 1:
            raise AnsibleActionFail(f"max_rows: {options['max_rows']} is too small; the least is 1.")
        spool = _evidence.spool_path(options["spool"])
        events_path = _evidence.spool_path(
            options["events_path"] or os.path.join(os.path.dirname(spool), "events.json")
        )
        table = _report.Table(options["max_rows"])
        try:
            hosts = _evidence.hosts(spool) if options["hosts"] is None else list(dict.fromkeys(options["hosts"]))
            found = table.watch(_report.entries(spool, hosts))
            if self._task.check_mode:
                deque(found, maxlen=0)
            else:
                _report.write_json(events_path, found)
        except _evidence.SpoolError as error:
            raise AnsibleActionFail(str(error)) from error
        written = None if self._task.check_mode else events_path
        self._print(table, spool, written)
        result.update(
            changed=False,
            events_path=written,
            spool=spool,
            hosts_total=table.hosts,
            hosts_without_kills=table.without_kills,
            hosts_unread=len(table.unread),
            events_total=table.kills,
        )
        return result

    def _print(self, table: _report.Table, spool: str, events_path: str | None) -> None:
        lines = table.lines(_terminal.columns(self._display.columns, _report.LEAST_WIDTH))
        lines.append(f"Evidence of each host: {visible(spool)}")
        lines.append(f"All events: {visible(events_path) if events_path else 'not written in check mode'}")
        self._display.display("\n" + "\n".join(lines) + "\n")
