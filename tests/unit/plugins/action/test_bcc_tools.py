# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half: what it asks, in which order, and what it makes of it. Real hosts: tests/system."""

import ast
import copy
import pathlib
import types

import ansible.modules
import pytest
import yaml
from ansible.errors import AnsibleError
from ansible_collections.oom.forensics.plugins.action import bcc_tools
from ansible_collections.oom.forensics.plugins.module_utils import _bcc_plan, _bcc_spec
from ansible_collections.oom.forensics.plugins.module_utils._host.package_managers import MANAGERS

PLUGINS = pathlib.Path(_bcc_plan.__file__).resolve().parents[1]
TOOL = {"name": "bpfcc-tools", "version": "0.26"}
LIBRARY = {"name": "python3-apt", "version": "2.6"}
MODULE = {
    "action": "ansible.builtin.apt",
    "common": {"install_recommends": False},
    "purge": {"purge": True},
    "refresh": {"update_cache": True},
    "clean": {"clean": True},
    "always": {"lock_timeout": 60},
    "before": None,
}
READY = {
    "outcome": "ready",
    "sentence": "All is there.",
    "fails": False,
    "stale": False,
    "backend": "bcc",
    "tool": "/usr/sbin/oomkill-bpfcc",
    "kernel": "6.1.0-56-amd64",
    "refused": [],
    "install_names": [],
    "remove_names": [],
    "remember": [],
    "module": MODULE,
    "packages_install": [],
    "packages_upgrade": [],
    "packages_remove": [],
    "packages_keep": [],
    "packages_since": [],
}
TO_INSTALL = {
    **READY,
    "outcome": "installed",
    "sentence": "The headers are in the repository.",
    "tool": None,
    "stale": True,
    "install_names": ["bpfcc-tools"],
    "packages_install": [TOOL],
    "remember": [{"name": "bpfcc-tools", "version": None}],
}
NOTHING = {**READY, "outcome": "nothing_to_remove", "backend": None, "tool": None}
TO_REMOVE = {**NOTHING, "outcome": "removed", "remove_names": ["bpfcc-tools"], "packages_remove": [TOOL]}
GONE = {**READY, "outcome": "headers_gone_from_repository", "fails": True, "stale": True, "backend": None, "tool": None}
LOCKED = {**READY, "outcome": "package_manager_locked", "fails": True, "sentence": "apt is locked by pid 7 (apt)."}


def apt(**arguments):
    """What apt's module is given: it may wait for a lock as long as the task."""
    return {**MODULE["always"], **arguments}


class Host:
    """Answers the module's questions in turn, and the package module's calls; keeps both as ``calls``."""

    def __init__(self, answers, packages=()):
        self.answers, self.packages, self.calls = list(answers), list(packages), []

    def execute(self, module_name, module_args, task_vars):
        if module_name != bcc_tools.MODULE:
            self.calls.append((module_name, dict(module_args)))
            reply = self.packages.pop(0) if self.packages else {"changed": True}
            return reply() if callable(reply) else reply
        own = {key: value for key, value in module_args.items() if key not in _bcc_spec.SPEC}
        if module_args["state"] != self.state:
            own["state"] = module_args["state"]
        self.calls.append(("ask", own))
        return {"changed": False, "invocation": {}, **copy.deepcopy(self.answers.pop(0))}

    def run(self, check_mode=False, diff=False, **options):
        self.state = options.get("state", "present")

        class Task(types.SimpleNamespace):
            copy = copy.copy

        task = Task(args=options, check_mode=check_mode, diff=diff, async_val=0, action="bcc_tools", environment=None)
        connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir=None))
        loaders = types.SimpleNamespace(action_loader=types.SimpleNamespace(get=lambda *args, **kwargs: None))
        action = bcc_tools.ActionModule(task, connection, types.SimpleNamespace(remote_addr="h"), None, None, loaders)
        action._load_name = "oom.forensics.bcc_tools"  # the loader does it
        action._execute_module = self.execute
        result = action.run(task_vars={})
        assert not self.answers, "not everything was asked"
        return result


def test_nothing_to_do_is_one_question():
    host = Host([READY])
    result = host.run()
    assert (result["changed"], result["outcome"], result["msg"]) == (False, "ready", "All is there.")
    assert host.calls == [("ask", {})] and "failed" not in result
    assert not set(result) & set(bcc_tools._INNER)


def test_lists_are_fetched_then_it_is_remembered_then_installed():
    host = Host([TO_INSTALL, TO_INSTALL, TO_INSTALL, READY])
    result = host.run(diff=True)
    assert host.calls == [
        ("ask", {}),
        ("ansible.builtin.apt", apt(**MODULE["refresh"])),
        ("ask", {}),
        ("ask", {"remember": TO_INSTALL["remember"]}),
        ("ansible.builtin.apt", apt(name=["bpfcc-tools"], state="present", install_recommends=False)),
        ("ask", {"settle": True}),
    ]
    assert result["changed"] and result["outcome"] == "installed" and result["tool"] == READY["tool"]
    assert result["packages_installed"] == [TOOL] and result["diff"][0]["after"] == "bpfcc-tools 0.26\n"
    assert result["msg"] == "The headers are in the repository. Installed: 1 package."


@pytest.mark.parametrize("outcome", ["record_not_written", "disk_full", "package_manager_locked"])
def test_what_cannot_be_remembered_is_not_installed(outcome):
    refused = {**TO_INSTALL, "outcome": outcome, "sentence": "It cannot.", "fails": True, "install_names": []}
    host = Host([{**TO_INSTALL, "stale": False}, refused, NOTHING, NOTHING])
    result = host.run(lock_timeout=0)
    assert result["failed"] and not result["changed"] and result["rolled_back"] and result["msg"] == "It cannot."
    assert result["outcome"] == outcome and result["packages_installed"] == []
    assert [name for name, _arguments in host.calls] == ["ask"] * 4


def test_what_apt_brought_goes_where_nothing_can_be_remembered():
    first = {**TO_INSTALL, "module": {**MODULE, "before": ["dpkg"]}}
    refused = {**TO_INSTALL, "outcome": "disk_full", "fails": True}
    gone = {**TO_REMOVE, "remove_names": ["python3-apt"], "packages_remove": [LIBRARY]}
    host = Host([first, {**TO_INSTALL, "packages_since": [LIBRARY]}, refused, gone, NOTHING])
    assert host.run()["rolled_back"]
    assert host.calls[4] == ("ask", {"state": "absent", "only": ["python3-apt", "bpfcc-tools"]})
    assert host.calls[5][1]["name"] == ["python3-apt"]


def test_what_apt_brings_for_itself_is_remembered_and_told():
    first = {**TO_INSTALL, "module": {**MODULE, "before": ["dpkg"]}}
    host = Host([first, {**TO_INSTALL, "packages_since": [LIBRARY]}, TO_INSTALL, READY])
    result = host.run()
    assert host.calls[2] == ("ask", {"before": ["dpkg"]})
    assert result["packages_installed"] == [TOOL, LIBRARY]


def test_what_apt_brought_for_nothing_goes_again():
    first = {**GONE, "module": {**MODULE, "before": ["dpkg"]}}
    gone = {**TO_REMOVE, "remove_names": ["python3-apt"], "packages_remove": [LIBRARY]}
    host = Host([first, {**GONE, "packages_since": [LIBRARY]}, gone, NOTHING])
    result = host.run()
    assert host.calls[3:] == [
        ("ask", {"state": "absent", "only": ["python3-apt"]}),
        ("ansible.builtin.apt", apt(name=["python3-apt"], state="absent", purge=True)),
        ("ask", {"state": "absent", "only": ["python3-apt"], "settle": True}),
    ]
    assert result["failed"] and not result["changed"] and result["rolled_back"]
    assert result["outcome"] == "headers_gone_from_repository"


def test_lists_are_left_alone_if_asked():
    host = Host([TO_INSTALL, TO_INSTALL, READY])
    host.run(update_cache=False)
    assert [name for name, _arguments in host.calls] == ["ask", "ask", "ansible.builtin.apt", "ask"]


def test_refusal_fails_with_its_name():
    host = Host([GONE, GONE])
    result = host.run()
    assert result["failed"] and not result["changed"] and result["outcome"] == "headers_gone_from_repository"


@pytest.mark.parametrize("answer,changed", [(TO_INSTALL, True), (READY, False), (GONE, False)])
def test_check_mode_asks_once(answer, changed):
    host = Host([answer])
    result = host.run(check_mode=True, diff=True)
    assert result["changed"] is changed and host.calls == [("ask", {})] and ("diff" in result) is changed
    if changed:
        assert result["msg"].endswith("Would be installed: 1 package.")


def test_check_mode_without_package_lists():
    unknown = {**READY, "outcome": "package_lists_missing", "fails": True, "stale": True}
    assert Host([unknown]).run(check_mode=True)["changed"]
    assert Host([unknown]).run(check_mode=True, update_cache=False)["failed"]


def test_latest():
    upgraded = {
        **TO_INSTALL,
        "packages_install": [],
        "packages_upgrade": [{**TOOL, "replaces": "0.25"}],
        "stale": False,
    }
    host = Host([upgraded, upgraded, READY])
    result = host.run(state="latest", diff=True)
    assert host.calls[2][1]["state"] == "latest"
    assert result["diff"][0]["before"] == "bpfcc-tools 0.25\n" and result["msg"].endswith("Upgraded: 1 package.")


def test_absent():
    host = Host([TO_REMOVE, {**NOTHING, "kernel": "later"}])
    result = host.run(state="absent", diff=True)
    assert host.calls == [
        ("ask", {}),
        ("ansible.builtin.apt", apt(name=["bpfcc-tools"], state="absent", purge=True)),
        ("ask", {"settle": True}),
    ]
    assert result["changed"] and result["outcome"] == "removed" and result["packages_removed"] == [TOOL]
    assert result["diff"][0]["before"] == "bpfcc-tools 0.26\n"
    assert not Host([NOTHING, NOTHING]).run(state="absent")["changed"]


def test_waits_for_the_lock(monkeypatch):
    slept = []
    monkeypatch.setattr(bcc_tools.time, "sleep", slept.append)
    assert Host([LOCKED, LOCKED, READY]).run()["outcome"] == "ready"
    assert slept == [bcc_tools._POLL_SECONDS] * 2
    result = Host([LOCKED]).run(lock_timeout=0)
    assert result["failed"] and result["outcome"] == "package_manager_locked"


FAILURES = [
    ("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt)", "package_manager_locked"),
    (
        "Failed to lock apt for exclusive operation: Failed to lock directory /var/lib/apt/lists/",
        "package_manager_locked",
    ),
    ("E: Write error - write (28: No space left on device)", "disk_full"),
    ("E: You don't have enough free space in /var/cache/apt/archives/.", "disk_full"),
    ("Disk Requirements: At least 12MB more space needed on the / filesystem.", "disk_full"),
    ("Failed to update apt cache: unknown reason", "repository_unreachable"),
    ("E: Failed to fetch http://x/y.deb 404 Not Found", "repository_unreachable"),
    ('Could not find a matching action for the "zypper" package manager.', "package_module_missing"),
    ("dpkg: error processing package", "package_module_failed"),
]


@pytest.mark.parametrize("words,outcome", FAILURES)
def test_failed_installation_is_taken_back(words, outcome):
    answers = [{**TO_INSTALL, "stale": False}, TO_INSTALL, TO_REMOVE, NOTHING]
    host = Host(answers, [{"failed": True, "msg": words}])
    result = host.run()
    assert result["failed"] and result["outcome"] == outcome and words.rstrip(".") in result["msg"]
    assert result["rolled_back"] and not result["changed"] and result["packages_installed"] == []
    cleaned = [("ansible.builtin.apt", apt(clean=True))] if outcome == "disk_full" else []
    undone = [("ask", {"state": "absent", "only": ["bpfcc-tools"]})]
    assert host.calls[3 : 4 + len(cleaned)] == cleaned + undone


def test_error_of_an_action_is_a_failure_too():
    def fail():
        raise AnsibleError("No space left on device")

    host = Host([{**TO_INSTALL, "stale": False}, TO_INSTALL, NOTHING, NOTHING], [fail])
    assert host.run()["outcome"] == "disk_full"


def test_what_cannot_be_taken_back_is_said():
    answers = [{**TO_INSTALL, "stale": False}, TO_INSTALL, TO_REMOVE]
    host = Host(answers, [{"failed": True, "msg": "x"}, {"failed": True, "msg": "dpkg was interrupted"}])
    result = host.run()
    assert result["failed"] and result["changed"] and not result["rolled_back"] and "state: absent" in result["msg"]


def test_installed_and_still_not_ready():
    after = {**READY, "outcome": "installed", "sentence": "The headers are in the repository."}
    result = Host([{**TO_INSTALL, "stale": False}, TO_INSTALL, after]).run()
    assert result["failed"] and result["changed"] and result["outcome"] == "not_ready_after_install"


def test_module_that_fails_is_the_result():
    result = Host([{"failed": True, "msg": "no Python"}]).run()
    assert result["failed"] and result["msg"] == "no Python"


@pytest.mark.parametrize("name", sorted(MANAGERS))
def test_every_module_is_given_what_it_takes(name):
    """By the documentation of Ansible's own modules, which refuse what they do not know."""
    manager = MANAGERS[name]
    source = (pathlib.Path(ansible.modules.__file__).parent / manager.module.rpartition(".")[2]).with_suffix(".py")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    assigned = {each.targets[0].id: each.value for each in tree.body if isinstance(each, ast.Assign)}
    options = set(yaml.safe_load(assigned["DOCUMENTATION"].value)["options"])
    given = {**manager.common, **manager.purge, **manager.refresh, **manager.fresh, **manager.clean}
    assert manager.waits == ("lock_timeout" in options)
    assert set(given) <= options


# ---- documentation ---------------------------------------------------------------------------------------------------


def documented(name):
    source = (PLUGINS / "modules/bcc_tools.py").read_text(encoding="utf-8")
    start = source.index(name + ' = r"""') + len(name) + 7
    return yaml.safe_load(source[start : source.index('"""', start)])


def test_every_outcome_is_documented():
    text = " ".join(documented("RETURN")["outcome"]["description"])
    missing = [name for name in _bcc_plan.OUTCOMES if "V({0})".format(name) not in text]
    readme = (PLUGINS.parent / "roles/bcc_tools/README.md").read_text(encoding="utf-8")
    assert not missing and [name for name in _bcc_plan.OUTCOMES if "`{0}`".format(name) not in readme] == []


def test_options_are_documented():
    options = documented("DOCUMENTATION")["options"]
    assert sorted(options) == sorted(_bcc_spec.MODULE_SPEC)
    for name, spec in _bcc_spec.MODULE_SPEC.items():
        assert options[name].get("choices") == spec.get("choices") and options[name].get("default") == spec.get(
            "default"
        )


def test_role_has_the_options_of_a_user():
    specs = yaml.safe_load((PLUGINS.parent / "roles/bcc_tools/meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = specs["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((PLUGINS.parent / "roles/bcc_tools/defaults/main.yml").read_text(encoding="utf-8"))
    assert {"bcc_tools_" + name for name in _bcc_spec.SPEC} == set(options) == set(defaults)
    for name, spec in _bcc_spec.SPEC.items():
        option = options["bcc_tools_" + name]
        assert option["default"] == spec["default"] == defaults["bcc_tools_" + name]
        assert option.get("choices") == spec.get("choices")
