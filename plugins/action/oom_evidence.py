# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of oom_evidence: cursor in, document out, nothing of it in the result."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.oom.forensics.plugins.module_utils._evidence_spec import EVIDENCE_SPEC, evidence_arguments
from ansible_collections.oom.forensics.plugins.module_utils._options import OptionError
from ansible_collections.oom.forensics.plugins.plugin_utils import _evidence

MODULE = "oom.forensics.oom_evidence"
_COUNTS = ("kernel_counter", "kills_parsed", "kills_unlogged", "truncated", "advice")
_LONGEST_ERROR = 500
_LONGEST_ADVICE = 10  # a result has to stay small; the document has all of it


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        options = self._options()
        spool = _evidence.spool_path(options["spool"])
        host = task_vars.get("inventory_hostname") or self._play_context.remote_addr or "localhost"
        request = {key: options[key] for key in _evidence.REQUEST_KEYS}
        previous = next(_evidence.known(spool, host), None)
        try:
            result = self._execute_module(
                module_name=MODULE, module_args=_module_args(options, host, previous, request), task_vars=task_vars
            )
        except AnsibleConnectionFailure as error:
            self._keep_failure(spool, host, "unreachable", str(error), previous, options)
            raise
        except AnsibleError as error:
            self._keep_failure(spool, host, "failed", str(error), previous, options)
            raise
        if result.get("unreachable") or result.get("failed"):
            status = "unreachable" if result.get("unreachable") else "failed"
            self._keep_failure(spool, host, status, _reason(result), previous, options)
            return result
        return self._spooled(result, spool, host, request, options)

    def _options(self) -> dict[str, Any]:
        """The checked options. A wrong one fails here, before the host is contacted."""
        _validated, options = self.validate_argument_spec(argument_spec=EVIDENCE_SPEC)
        try:
            evidence_arguments(options)
        except OptionError as error:
            raise AnsibleActionFail(str(error)) from error
        return options

    def _spooled(
        self, result: dict[str, Any], spool: str, host: str, request: dict[str, Any], options: dict[str, Any]
    ) -> dict[str, Any]:
        """The module's result with its document replaced by where that went and what is in it."""
        try:
            data = base64.b64decode(result.pop("document"), validate=True)
            fresh = dict(
                _evidence.unpack(data, f"The document that {host} sent"), request=request, status="ok", error=None
            )
            previous = _evidence.of_machine(spool, host, fresh["host"]["machine_id"])
            document, new = _evidence.merged(fresh, previous)
            path = None if self._task.check_mode else _evidence.write(spool, host, document, options["keep"])
        except (KeyError, TypeError, binascii.Error) as error:
            raise AnsibleActionFail(f"{host} sent no document that could be decoded: {error}.") from error
        except _evidence.SpoolError as error:
            raise AnsibleActionFail(str(error)) from error
        coverage = document["coverage"]
        result.pop("invocation", None)
        result.update({key: coverage[key] for key in _COUNTS}, path=path, status="ok")
        result.update(events_total=len(document["events"]), events_new=new, workloads_named=len(document["names"]))
        result["cgroups_total"] = (coverage.get("cgroups") or {}).get("cgroups_total")
        result["advice"] = _advice(coverage)[:_LONGEST_ADVICE]
        if path is None:
            result["msg"] = "Check mode: the host was read, and nothing was written to the spool."
        return result

    def _keep_failure(
        self, spool: str, host: str, status: str, error: str, previous: dict[str, Any] | None, options: dict[str, Any]
    ) -> None:
        """Put the failure where the report will look. It must not hide the failure itself."""
        if self._task.check_mode:
            return
        sentence = " ".join(error.split())[:_LONGEST_ERROR]
        try:
            _evidence.write(spool, host, _evidence.not_read(host, status, sentence, previous), options["keep"])
        except _evidence.SpoolError as spool_error:
            self._display.warning(str(spool_error))


def _module_args(
    options: dict[str, Any], host: str, previous: dict[str, Any] | None, request: dict[str, Any]
) -> dict[str, Any]:
    arguments = {key: value for key, value in options.items() if value is not None}
    arguments["inventory_name"] = host
    machine_id = previous["host"].get("machine_id") if previous else None
    cursor = _evidence.usable_cursor(previous, request)
    if cursor and machine_id and not options["cursor"]:
        arguments.update(cursor=cursor, cursor_machine_id=machine_id)
    return arguments


def _advice(coverage: dict[str, Any]) -> list[str]:
    """What to do where logs, cgroups or an engine could not be read; each sentence once."""
    parts = [coverage, coverage.get("cgroups") or {}]
    sentences = [sentence for part in parts for sentence in part.get("advice") or []]
    sentences += [engine["advice"] for engine in coverage.get("engines") or [] if engine["advice"]]
    return list(dict.fromkeys(sentences))


def _reason(result: dict[str, Any]) -> str:
    """What a failed module said; without a Python on the host only its stderr does."""
    message = str(result.get("msg") or "The module failed without a message.")
    details = str(result.get("module_stderr") or result.get("module_stdout") or "").strip()
    return f"{message} {details}" if details else message
