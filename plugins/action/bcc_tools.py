# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of bcc_tools: asks the host for a plan, lets Ansible's own package module do it, asks again."""

from __future__ import annotations

import re
import time
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.oom.forensics.plugins.module_utils._bcc_plan import OUTCOMES
from ansible_collections.oom.forensics.plugins.module_utils._bcc_spec import SPEC

MODULE = "oom.forensics.bcc_tools"
_POLL_SECONDS = 2.0
_LONGEST_MESSAGE = 500
# What the action needs of the module's answer and the user does not.
_INNER = (
    "packages_since",
    "install_names",
    "remove_names",
    "remember",
    "module",
    "fails",
    "stale",
    "sentence",
    "invocation",
)
_RENAMED = {
    "packages_install": "packages_installed",
    "packages_upgrade": "packages_upgraded",
    "packages_remove": "packages_removed",
    "packages_keep": "packages_kept",
}
# What package managers and Ansible's modules say, and what to do. The first that matches.
_FAILURES = (
    (
        r"could not get lock|unable to (?:acquire|lock)|failed to lock|is locked by|database is locked"
        r"|waiting for process|holding the yum lock|management is locked|lockfile is held",
        "package_manager_locked",
        "wait for whoever uses the package manager and run this again",
    ),
    (
        r"no space left|not enough free|enough free space|more space needed|insufficient space|at least .* more space",
        "disk_full",
        "make room and run this again",
    ),
    (
        r"failed to fetch|could not resolve|temporary failure|cannot download|failed to download|unable to connect"
        r"|404 +not found|failed to update apt cache|failed to retrieve|unable to fetch",
        "repository_unreachable",
        "see that the host reaches its repositories and run this again",
    ),
    (
        r"could not find a matching action|couldn't resolve module|could not detect (?:a|which) package manager",
        "package_module_missing",
        "install the collection community.general on the controller, which has the module for this package manager",
    ),
)


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        _validated, self._options = self.validate_argument_spec(argument_spec=SPEC)
        if self._options["lock_timeout"] < 0:
            raise AnsibleActionFail(f"lock_timeout: {self._options['lock_timeout']} is negative; the least is 0.")
        try:
            answer = self._ask()
            if self._task.check_mode:
                return self._predicted(answer)
            return self._removed(answer) if self._options["state"] == "absent" else self._installed(answer)
        except _HostFailed as failure:
            return failure.result

    # ---- the two ways ------------------------------------------------------------------------------------------------

    def _installed(self, answer: dict[str, Any]) -> dict[str, Any]:
        brought: list[dict[str, Any]] = []
        if answer["stale"] and self._options["update_cache"] and answer["module"] and answer["module"]["refresh"]:
            before = answer["module"]["before"]
            failure = self._package_module(answer["module"], answer["module"]["refresh"])
            # apt's module installs its Python library, if it has to, even before it fetches the lists.
            refreshed = self._ask(before=before) if before is not None else self._ask()
            brought = refreshed["packages_since"]
            if failure:
                return self._undone(answer, failure, brought)
            answer = refreshed
        if answer["fails"] or not answer["install_names"]:
            return self._undone(answer, {}, brought) if brought else self._result(answer, changed=False)
        noted = self._ask(remember=answer["remember"])
        if noted["fails"]:
            return self._undone(noted, {}, brought + answer["remember"])
        state = "latest" if self._options["state"] == "latest" else "present"
        arguments = {"name": answer["install_names"], "state": state, **answer["module"]["common"]}
        failure = self._package_module(answer["module"], arguments)
        if failure:
            return self._undone(answer, failure, brought + answer["remember"])
        answer["packages_install"] += brought
        return self._result(self._confirmed(answer), changed=True)

    def _removed(self, answer: dict[str, Any]) -> dict[str, Any]:
        if answer["fails"]:
            return self._result(answer, changed=False)
        failure = self._remove(answer)
        if failure:
            return self._result({**answer, **failure, "packages_remove": []}, changed=False)
        after = self._ask(settle=True)
        kept = {key: answer[key] for key in (*_RENAMED, "outcome", "sentence", "fails")}
        return self._result({**after, **kept}, changed=bool(answer["packages_remove"]))

    def _predicted(self, answer: dict[str, Any]) -> dict[str, Any]:
        if answer["outcome"] == "package_lists_missing" and self._options["update_cache"]:
            # The run itself would fetch them; what it would find is not known.
            return self._result({**answer, "fails": False}, changed=True)
        return self._result(answer, changed=not answer["fails"] and any(answer[key] for key in list(_RENAMED)[:3]))

    # ---- steps -------------------------------------------------------------------------------------------------------

    def _ask(self, **more: Any) -> dict[str, Any]:
        """The module's answer; while somebody else holds the package manager's lock, asked again."""
        deadline = time.monotonic() + self._options["lock_timeout"]
        while True:
            answer = self._execute_module(
                module_name=MODULE, module_args={**self._options, **more}, task_vars=self._vars
            )
            if answer.get("failed") or answer.get("unreachable") or "outcome" not in answer:
                raise _HostFailed(answer)
            if answer["outcome"] != "package_manager_locked" or time.monotonic() >= deadline:
                return answer
            time.sleep(_POLL_SECONDS)

    def _package_module(self, module: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any] | None:
        """Run Ansible's module for the host's package manager. None if it went well, else the outcome."""
        arguments = {**module["always"], **arguments}
        task = self._task.copy()
        task.args = arguments
        try:
            action = self._shared_loader_obj.action_loader.get(
                module["action"],
                task=task,
                connection=self._connection,
                play_context=self._play_context,
                loader=self._loader,
                templar=self._templar,
                shared_loader_obj=self._shared_loader_obj,
            )
            result = (
                action.run(task_vars=self._vars)
                if action
                else self._execute_module(module_name=module["action"], module_args=arguments, task_vars=self._vars)
            )
        except AnsibleError as error:
            result = {"failed": True, "msg": str(error)}
        if result.get("unreachable"):
            raise _HostFailed(result)
        return _failure(module["action"], result) if result.get("failed") else None

    def _remove(self, answer: dict[str, Any]) -> dict[str, Any] | None:
        """Remove what the answer says. None if it went well, or if there was nothing to do."""
        if not answer["remove_names"]:
            return None
        arguments = {"name": answer["remove_names"], "state": "absent", **answer["module"]["purge"]}
        return self._package_module(answer["module"], arguments)

    def _undone(
        self, answer: dict[str, Any], failure: dict[str, Any], packages: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Where the installation failed, or had no sense after all, the host gets back what it had."""
        names = [row["name"] for row in packages]
        if failure.get("outcome") == "disk_full" and answer["module"]["clean"]:
            # On a full disk apt cannot even remove; what it downloaded is the room that it needs.
            self._package_module(answer["module"], answer["module"]["clean"])
        plan = self._ask(state="absent", only=names)
        rolled_back = not plan["fails"] and self._remove(plan) is None
        if rolled_back:
            after = self._ask(state="absent", only=names, settle=True)
            rolled_back = not after["packages_remove"] and not plan["packages_keep"]
        nothing = {"packages_install": [], "packages_upgrade": []}
        result = self._result({**answer, **failure, **nothing}, changed=not rolled_back)
        result["rolled_back"] = rolled_back
        if not rolled_back:
            result["msg"] += " Some of its packages are still there; state: absent removes them."
        return result

    def _confirmed(self, planned: dict[str, Any]) -> dict[str, Any]:
        """The host as it is after the installation; the plan's outcome if it worked."""
        after = self._ask(settle=True)
        done = {key: planned[key] for key in (*_RENAMED, "outcome", "sentence")}
        if after["outcome"] == "ready":
            return {**after, **done}
        why = f"All was installed, and still: {after['sentence']}"
        return {**after, **done, "outcome": "not_ready_after_install", "sentence": why, "fails": True}

    # ---- the result --------------------------------------------------------------------------------------------------

    def _result(self, answer: dict[str, Any], changed: bool) -> dict[str, Any]:
        result = {_RENAMED.get(key, key): value for key, value in answer.items() if key not in _INNER}
        result.update(changed=changed, msg=" ".join([answer["sentence"], *self._counts(result)]))
        if answer["fails"]:
            result["failed"] = True
        if self._task.diff and changed:
            result["diff"] = [_diff(result)]
        return result

    def _counts(self, result: dict[str, Any]) -> list[str]:
        would = "Would be " if self._task.check_mode else ""
        return [
            f"{would}{verb if would else verb.capitalize()}: {_packages(len(result[f'packages_{verb}']))}."
            for verb in ("installed", "upgraded", "removed")
            if result[f"packages_{verb}"]
        ]


class _HostFailed(Exception):
    """The host did not answer as asked; ``result`` is the task's."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__()
        self.result = result


def _packages(count: int) -> str:
    return f"{count} package{'' if count == 1 else 's'}"


def _failure(action: str, result: dict[str, Any]) -> dict[str, Any]:
    """The outcome of a failed package module: what it said, by name, and what to do."""
    said = " ".join(str(result.get(key) or "") for key in ("msg", "stderr", "stdout", "results", "module_stderr"))
    outcome, advice = next(
        ((name, what) for pattern, name, what in _FAILURES if re.search(pattern, said, re.IGNORECASE)),
        ("package_module_failed", "see what it said, resolve that on the host, and run this again"),
    )
    words = " ".join(str(result.get("msg") or said).split())[:_LONGEST_MESSAGE].rstrip(". ")
    fails = OUTCOMES[outcome][0]
    return {"outcome": outcome, "sentence": f"{action} failed: {words}; {advice}.", "fails": fails}


def _diff(result: dict[str, Any]) -> dict[str, str]:
    """Before and after as lists of the packages that differ."""
    upgraded = result["packages_upgraded"]
    before = [*result["packages_removed"], *({**row, "version": row["replaces"]} for row in upgraded)]
    after = [*result["packages_installed"], *upgraded]
    return {"before_header": "packages", "after_header": "packages", "before": _lines(before), "after": _lines(after)}


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(sorted(f"{row['name']} {row['version'] or '(version not known)'}\n" for row in rows))
