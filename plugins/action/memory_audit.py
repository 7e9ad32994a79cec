# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Audits the spool: a table on the terminal, findings.json and junit.xml beside the spool. Never connects to a host."""

from __future__ import annotations

import os
from collections import deque
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.oom.forensics.plugins.plugin_utils import _evidence, _findings, _plain, _rules, _terminal
from ansible_collections.oom.forensics.plugins.plugin_utils._terminal import visible

_SPEC: dict[str, dict[str, Any]] = {
    "spool": {"type": "path", "default": "oom-evidence/spool"},
    "hosts": {"type": "list", "elements": "str"},
    "unwritten": {"type": "list", "elements": "str", "default": []},
    "rules": {"type": "raw"},
    "rules_only": {"type": "bool", "default": False},
    "min_severity": {"type": "str", "choices": list(_rules.SEVERITIES), "default": "info"},
    "fail_on": {"type": "str", "choices": list(_rules.SEVERITIES)},
    "findings_path": {"type": "path"},
    "junit_path": {"type": "path"},
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
        _check_severities(options)
        try:
            rules = _rules.load(_plain.plain(options["rules"]))
        except _rules.RulesError as error:
            raise AnsibleActionFail(str(error)) from None  # Ansible prints the cause as well
        result.update(changed=False, rules_total=len(rules))
        return result if options["rules_only"] else self._audited(result, options, rules)

    def _audited(self, result: dict[str, Any], options: dict[str, Any], rules: list[_rules.Rule]) -> dict[str, Any]:
        spool = _evidence.spool_path(options["spool"])
        findings_path, junit_path = _paths(options, spool)
        table = _findings.Table(options["max_rows"])
        try:
            every = _evidence.hosts(spool) if options["hosts"] is None else list(dict.fromkeys(options["hosts"]))
            hosts = [host for host in every if host not in set(options["unwritten"])]
            table.skipped = len(every) - len(hosts)
            asked = _findings.Asked(spool, hosts, rules, _evidence.now(), options["min_severity"])
            found = table.watch(_findings.entries(asked))
            if self._task.check_mode:
                deque(found, maxlen=0)
            else:
                _findings.write(findings_path, junit_path, asked, found, table)
        except _evidence.SpoolError as error:
            raise AnsibleActionFail(str(error)) from None  # Ansible prints the cause as well
        written = None if self._task.check_mode else (findings_path, junit_path)
        self._print(table, written)
        result.update(table.counts(), spool=spool)
        result.update(findings_path=written and findings_path, junit_path=written and junit_path)
        too_bad = table.at_least(options["fail_on"]) if options["fail_on"] else 0
        if too_bad:
            what = "finding has" if too_bad == 1 else "findings have"
            result.update(
                failed=True,
                msg=f"{too_bad} {what} the severity {options['fail_on']} or a worse one; the table has the worst.",
            )
        return result

    def _print(self, table: _findings.Table, written: tuple[str, str] | None) -> None:
        lines = table.lines(_terminal.columns(self._display.columns, _findings.LEAST_WIDTH))
        if written:
            lines += [f"All findings: {visible(written[0])}", f"JUnit XML: {visible(written[1])}"]
        else:
            lines.append("All findings: not written in check mode")
        self._display.display("\n" + "\n".join(lines) + "\n")


def _check_severities(options: dict[str, Any]) -> None:
    """A finding that is not told cannot fail the task, so asking for both is a mistake."""
    worst, least = options["fail_on"], options["min_severity"]
    if worst and _rules.rank(worst) < _rules.rank(least):
        raise AnsibleActionFail(
            f"fail_on: {worst} is below min_severity, which is {least}; such findings are left out."
        )


def _paths(options: dict[str, Any], spool: str) -> tuple[str, str]:
    folder = os.path.dirname(spool)
    findings = _evidence.spool_path(options["findings_path"] or os.path.join(folder, "findings.json"))
    junit = _evidence.spool_path(options["junit_path"] or os.path.join(folder, "junit.xml"))
    if findings == junit:
        raise AnsibleActionFail(f"findings_path and junit_path are both {findings}; they must differ.")
    return findings, junit
