# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The answer of the module bcc_tools: what would be installed or removed on a host, and why, or why not.

Private to this collection. Runs on the host, changes nothing but the record of what was installed.
"""

from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import _bcc_packages as table
from . import _bcc_record as record
from ._bcc_plan import OUTCOMES, Refused, Survey, check_lock, choose, plan_install, survey
from ._host.package_readers import Package
from ._host.run import Host


def describe(seen: Survey) -> Dict[str, Any]:
    """The host as every answer has it."""
    kernel = seen.kernel
    header = _header_package(seen)
    return {
        "kernel": kernel.release,
        "newer_kernel": kernel.newer,
        "distribution": seen.row.name if seen.row else None,
        "package_manager": seen.manager.name if seen.manager else None,
        "btf": kernel.btf is not None,
        "kheaders": kernel.kheaders,
        "headers_path": kernel.headers.path if kernel.headers.complete else None,
        "headers_complete": kernel.headers.complete,
        "headers_package": header[0],
        "headers_version": header[1],
        "tracefs_event": kernel.tracefs,
        "lockdown": kernel.lockdown,
        "capabilities": seen.rights.capabilities,
        "container": seen.rights.container,
        "tools": seen.tools,
    }


def _header_package(seen: Survey) -> Tuple[Optional[str], Optional[str]]:
    """The installed package of the running kernel's headers, and its version."""
    for header in table.header_packages(seen.row, seen.kernel.release) if seen.row else []:
        version = table.fitting(header, seen.installed.get(header.name, []))
        if version:
            return header.name, version
    return None, None


# Of an answer after which nothing is installed or removed.
_UNCHANGED: Dict[str, Any] = {
    "packages_install": [],
    "packages_upgrade": [],
    "packages_remove": [],
    "packages_keep": [],
    "install_names": [],
    "remove_names": [],
    "remember": [],
}


def answer(host: Host, params: Dict[str, Any], check: bool) -> Dict[str, Any]:
    """Everything that the module says. ``params``: its options. Nothing is raised; a refusal is an outcome.

    With ``check`` nothing is written, and a lock of the package manager is no obstacle.
    """
    seen = survey(host)
    result: Dict[str, Any] = dict(describe(seen), backend=None, tool=None, refused=[])
    result.update(_UNCHANGED, module=_module(seen, params))
    result.update(packages_since=_rows(record.with_versions(_rows_since(params["before"], seen), seen.installed)))
    try:
        recorded = _recorded(host, params, seen, check)
        plan = _absent if params["state"] == "absent" else _present
        result.update(plan(host, seen, params, recorded, result))
        if not check and seen.manager and (result["install_names"] or result["remove_names"]):
            check_lock(host, seen.manager)
    except Refused as refusal:
        refused = refusal.refused or result["refused"]
        result.update(_UNCHANGED, outcome=refusal.outcome, sentence=str(refusal), refused=refused)
    result["fails"] = OUTCOMES[result["outcome"]][0]
    result["stale"] = _stale(result)
    return result


def _stale(result: Dict[str, Any]) -> bool:
    """Whether newer package lists might lead to another answer, so that they are worth fetching."""
    passed_over = any(OUTCOMES[each["outcome"]][1] for each in result["refused"])
    settled = result["backend"] not in (None, "tracefs") and not result["install_names"]
    return OUTCOMES[result["outcome"]][1] or bool(result["install_names"]) or (passed_over and not settled)


def _recorded(host: Host, params: Dict[str, Any], seen: Survey, check: bool) -> List[Package]:
    """The record, brought up to date first if the action asks for it."""
    before = recorded = record.read(host)
    news = [Package(str(each["name"]), each.get("version")) for each in params["remember"] or []]
    news += _rows_since(params["before"], seen)
    recorded = recorded + [package for package in news if package not in recorded]
    if params["settle"]:
        # What was kept has another owner now; what is not there was never installed, or somebody removed it.
        gone = [] if params["state"] != "absent" else [each for each in recorded if _is_meant(each, params)]
        recorded = [each for each in recorded if each not in gone and record.is_installed(each, seen.installed)]
    if recorded != before and not check:
        record.write(host, recorded)
    return [each for each in recorded if _is_meant(each, params)]


def _rows_since(before: Optional[Sequence[str]], seen: Survey) -> List[Package]:
    """The packages that are installed and were not before."""
    if before is None:
        return []
    known = set(before)
    return [Package(name, None) for name in sorted(seen.installed) if name not in known]


def _is_meant(package: Package, params: Dict[str, Any]) -> bool:
    return params["only"] is None or package.name in params["only"]


def _present(
    host: Host,
    seen: Survey,
    params: Dict[str, Any],
    _recorded_packages: Sequence[Package],
    result: Dict[str, Any],
) -> Dict[str, Any]:
    choice, result["refused"] = choose(seen, params["backend"], params["headers"], params["state"])
    result.update(backend=choice.backend, tool=seen.tools[choice.backend])
    rehearsal = plan_install(host, seen, choice)
    if choice.header:
        result.update(headers_package=choice.header.name, headers_version=choice.header_version)
    return {
        "outcome": choice.outcome,
        "sentence": choice.sentence,
        "install_names": choice.names,
        "packages_install": _rows(rehearsal.install),
        "packages_upgrade": [
            dict(row, replaces=seen.installed.get(row["name"], [None])[-1]) for row in _rows(rehearsal.upgrade)
        ],
        "remember": _rows(record.to_record(rehearsal, choice.header)),
    }


def _absent(
    host: Host,
    seen: Survey,
    _params: Dict[str, Any],
    recorded: Sequence[Package],
    _result: Dict[str, Any],
) -> Dict[str, Any]:
    removal = record.plan_removal(host, seen, recorded)
    if not removal.remove or seen.manager is None:
        return {
            "outcome": "nothing_to_remove",
            "sentence": "Nothing that this collection installed here is still there.",
        }
    return {
        "outcome": "removed",
        "sentence": "What this collection installed goes, and nothing else.",
        "remove_names": record.specs(seen.manager, removal.remove, seen.installed),
        "packages_remove": _rows(removal.remove),
        "packages_keep": removal.keep,
    }


def _rows(packages: Sequence[Package]) -> List[Dict[str, Any]]:
    return [dict(package._asdict()) for package in packages]


def _module(seen: Survey, params: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """Ansible's module for the package manager and what to give it.

    ``always``: in every call. Where there are no package lists the age of their directory says nothing.
    ``before``: where that module would install something for itself, all that is installed without it; else None.
    """
    manager = seen.manager
    if manager is None or not seen.installed or seen.rights.image_based:
        return None
    return {
        "action": manager.module,
        "common": manager.common,
        "purge": manager.purge,
        "refresh": dict(manager.refresh, **manager.fresh) if seen.lists else manager.refresh,
        "clean": manager.clean,
        "always": {"lock_timeout": params["lock_timeout"]} if manager.waits else {},
        "before": sorted(seen.installed) if any(name not in seen.installed for name in manager.support) else None,
    }
