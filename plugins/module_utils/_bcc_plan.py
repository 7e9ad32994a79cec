# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would have to be installed or removed so that OOM kills can be traced on the running kernel, and why not.

Private to this collection. Runs on the host, changes nothing but the record of what was installed.
"""

import errno
import json
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from . import _bcc_packages as table
from ._host import bpf, package_query
from ._host.run import Host, below, read_text, reason

# What the host did not have before. Beside it nothing of this collection stays on a host.
RECORD = "/var/lib/oom-forensics/bcc_tools.json"
SCHEMA = "oom.forensics/bcc_tools/1"

STATES = ("present", "latest", "absent")
HEADERS = ("auto", "always", "never")
# The order of auto: bcc, which brings its other tools along; then what needs less, down to nothing at all.
BACKENDS = ("auto",) + bpf.BACKENDS

# Every outcome: whether the task fails, and whether fetching the package lists might change it.
OUTCOMES: Dict[str, Tuple[bool, bool]] = {
    "ready": (False, False),
    "installed": (False, False),
    "headers_present": (False, False),
    "kheaders_suffice": (False, False),
    "btf_makes_headers_needless": (False, False),
    "tracefs_suffices": (False, False),
    "removed": (False, False),
    "nothing_to_remove": (False, False),
    "lockdown": (True, False),
    "container_host_denied": (True, False),
    "missing_capability": (True, False),
    "unsupported_distribution": (True, False),
    "image_based_host": (True, False),
    "no_header_package_for_custom_kernel": (True, False),
    "newer_kernel_installed_not_booted": (True, True),
    "headers_gone_from_repository": (True, True),
    "headers_forbidden": (True, False),
    "tools_not_in_repository": (True, True),
    "package_lists_missing": (True, True),
    "no_btf": (True, False),
    "no_tracefs": (True, False),
    "package_manager_missing": (True, False),
    "package_manager_locked": (True, False),
    "package_manager_refused": (True, True),
    "would_remove_packages": (True, True),
    "disk_full": (True, False),
    "still_needed": (True, False),
    "record_unreadable": (True, False),
    "record_not_written": (True, False),
    # Of the controller's half.
    "repository_unreachable": (True, False),
    "package_module_missing": (True, False),
    "package_module_failed": (True, False),
    "not_ready_after_install": (True, False),
}


class Refused(Exception):
    """Nothing can be done. ``outcome``: its name; the message: what was found and what to do.

    ``refused``: every backend that was considered, with an outcome and a sentence of its own.
    """

    def __init__(self, outcome: str, sentence: str, refused: Sequence[Dict[str, str]] = ()) -> None:
        super().__init__(sentence)
        self.outcome = outcome
        self.refused = list(refused)


class Choice(NamedTuple):
    """A backend that works, or would with ``names`` installed. ``header``: the package of headers among them."""

    backend: str
    outcome: str
    sentence: str
    names: List[str]
    header: Optional[table.Header]
    header_version: Optional[str]


class Survey(NamedTuple):
    """Everything that was read of the host before anything is decided.

    ``offers`` are of the packages in question only. ``manager`` is None where the distribution is not known.
    """

    kernel: bpf.Kernel
    rights: bpf.Rights
    os_release: Dict[str, str]
    tools: Dict[str, Optional[str]]
    row: Optional[table.Distribution]
    manager: Optional[package_query.Manager]
    installed: Dict[str, List[str]]
    offers: Dict[str, List[str]]
    lists: bool


def survey(host: Host) -> Survey:
    """Read the host: kernel, rights, tools, package manager."""
    kernel = bpf.read_kernel(host)
    released = bpf.os_release(host)
    row = table.distribution(released)
    manager = package_query.MANAGERS[row.manager] if row else None
    installed: Dict[str, List[str]] = {}
    offers: Dict[str, List[str]] = {}
    lists = False
    if row and manager and host.which(manager.program):
        installed = package_query.installed(host, manager)
        asked = list(row.tools.values()) + [header.name for header in table.header_packages(row, kernel.release)]
        offers = package_query.offers(host, manager, asked + list(manager.support))
        lists = package_query.has_lists(host, manager)
    return Survey(
        kernel=kernel,
        rights=bpf.read_rights(host),
        os_release=released,
        tools={backend: bpf.tool_path(host, backend) for backend in bpf.BACKENDS},
        row=row,
        manager=manager,
        installed=installed,
        offers=offers,
        lists=lists,
    )


# ---- which backend ---------------------------------------------------------------------------------------------------


def choose(seen: Survey, backend: str, headers: str, state: str) -> Tuple[Choice, List[Dict[str, str]]]:
    """The backend to use, and why each one before it is not it. Raises Refused where none works.

    ``backend``, ``headers``, ``state`` as the options of the module.
    """
    _check_rights(seen)
    refused: List[Dict[str, str]] = []
    for name in bpf.BACKENDS if backend == "auto" else (backend,):
        try:
            return _VERDICTS[name](seen, name, headers, state), refused
        except Refused as refusal:
            refused.append({"backend": name, "outcome": refusal.outcome, "sentence": str(refusal)})
            if refusal.outcome == "package_lists_missing":
                break  # not knowing is no reason to take less
    raise Refused(refused[0]["outcome"], refused[0]["sentence"], refused)


def _check_rights(seen: Survey) -> None:
    """What no package can help against."""
    if seen.kernel.lockdown == "confidentiality":
        raise Refused(
            "lockdown",
            "The kernel is locked down (confidentiality), so it lets nobody trace it; boot it with lockdown=integrity "
            "or without lockdown, or rely on the kernel log, which oom_events_info reads.",
        )
    if seen.rights.may_trace:
        return
    if seen.rights.container:
        raise Refused(
            "container_host_denied",
            "This is a container ({0}) without the right to trace the kernel of its host; run the task on the host "
            "itself, or give the container CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8) outside of a user "
            "namespace.".format(seen.rights.container),
        )
    if seen.rights.user_namespace:
        raise Refused(
            "missing_capability",
            "The task runs in a user namespace, whose capabilities do not reach the kernel's tracers; run it outside.",
        )
    raise Refused(
        "missing_capability",
        "The task has neither CAP_SYS_ADMIN nor CAP_BPF and CAP_PERFMON; {0}.".format(
            "let the service that runs it keep them" if seen.rights.root else "run it as root (become: true)"
        ),
    )


def _bcc(seen: Survey, name: str, headers: str, state: str) -> Choice:
    """bcc compiles against the running kernel's headers when it starts; BTF does not replace them."""
    kernel = seen.kernel
    names = _tool_names(seen, name, state)
    if kernel.headers.complete:
        return _choice(name, names, "headers_present", "The headers of {0} are there.".format(kernel.release))
    if headers != "always" and kernel.kheaders:
        return _choice(
            name, names, "kheaders_suffice", "The kernel brings its own headers ({0}).".format(kernel.kheaders)
        )
    if headers == "never":
        raise Refused(
            "headers_forbidden",
            "bcc needs the headers of {0}, which are not there, and the option headers is never; choose auto, or "
            "another backend.".format(kernel.release),
        )
    return _with_headers(seen, name, names)


def _with_btf(seen: Survey, name: str, headers: str, state: str) -> Choice:
    """libbpf's oomkill is compiled already, bpftrace takes the kernel's types from BTF."""
    kernel = seen.kernel
    if kernel.btf is None:
        raise Refused(
            "no_btf",
            "{0} needs the kernel's BTF, and {1} has no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF).".format(
                name, kernel.release
            ),
        )
    names = _tool_names(seen, name, state)
    if headers == "always" and not kernel.headers.complete:
        return _with_headers(seen, name, names)
    return _choice(
        name, names, "btf_makes_headers_needless", "{0} has BTF, so no headers are needed.".format(kernel.release)
    )


def _tracefs(seen: Survey, name: str, headers: str, state: str) -> Choice:
    if seen.kernel.tracefs is None:
        raise Refused(
            "no_tracefs",
            "The event oom:mark_victim is not there; mount tracefs (mount -t tracefs nodev /sys/kernel/tracing), or "
            "use a kernel of 4.15 or newer with CONFIG_FTRACE.",
        )
    return Choice(name, "tracefs_suffices", "The kernel's own event oom:mark_victim needs no package.", [], None, None)


_VERDICTS = {"bcc": _bcc, "libbpf": _with_btf, "bpftrace": _with_btf, "tracefs": _tracefs}


def _choice(backend: str, names: List[str], outcome: str, sentence: str) -> Choice:
    return Choice(backend, outcome if names else "ready", sentence, names, None, None)


def _tool_names(seen: Survey, backend: str, state: str) -> List[str]:
    """The package to install or upgrade for a backend's program; none if it is there (and new enough)."""
    path = seen.tools[backend]
    if path and state != "latest":
        return []
    row, _manager = _can_install(seen)
    name = row.tools[backend]
    offered = seen.offers.get(name, [])
    have = seen.installed.get(name, [])
    if path and (not have or not offered or offered[-1] in have):
        return []
    if not offered:
        _lists_or(seen)
        raise Refused(
            "tools_not_in_repository",
            "No repository of this host has {0}; {1}.".format(name, row.hint),
        )
    return [name]


def _with_headers(seen: Survey, backend: str, names: List[str]) -> Choice:
    """The backend together with the one package of headers that fits the running kernel."""
    row, manager = _can_install(seen)
    release = seen.kernel.release
    candidates = table.header_packages(row, release)
    if not candidates:
        raise Refused(
            "no_header_package_for_custom_kernel",
            "{0} is no kernel of {1}, so no repository has its headers; install those that came with it below "
            "{2}, or boot a kernel of the distribution.".format(release, _called(seen), seen.kernel.headers.path),
        )
    for header in candidates:
        version = table.fitting(header, seen.offers.get(header.name, []))
        if version:
            spec = header.name if header.version is None else manager.spec.format(name=header.name, version=version)
            return Choice(
                backend,
                "installed",
                "The headers of {0} are in the repository.".format(release),
                names + [spec],
                header,
                version,
            )
    _lists_or(seen)
    wanted = " or ".join(_words(header) for header in candidates)
    if seen.kernel.newer:
        raise Refused(
            "newer_kernel_installed_not_booted",
            "No repository has {0} any more, and the newer kernel {1} is installed but not booted; reboot into it and "
            "run this again.".format(wanted, seen.kernel.newer),
        )
    raise Refused(
        "headers_gone_from_repository",
        "No repository has {0}; upgrade the kernel and reboot, or add a repository that keeps old packages.".format(
            wanted
        ),
    )


def _words(header: table.Header) -> str:
    return header.name if header.version is None else "{0} {1}".format(header.name, header.version)


def _lists_or(seen: Survey) -> None:
    """Without package lists nothing can be said of what the repositories have."""
    if not seen.lists:
        raise Refused(
            "package_lists_missing",
            "The package lists of this host were never fetched, so it is not known what its repositories have; let "
            "update_cache be true and run this without check mode, or fetch them first.",
        )


def _can_install(seen: Survey) -> Tuple[table.Distribution, package_query.Manager]:
    if seen.row is None or seen.manager is None:
        raise Refused(
            "unsupported_distribution",
            "The host runs {0}, whose packages are not known here; install bcc's tools and the kernel's headers by "
            "hand, or use the backend tracefs.".format(_called(seen)),
        )
    if seen.rights.image_based:
        raise Refused(
            "image_based_host",
            "The system of this host is an image that its package manager does not change; layer the packages "
            "(rpm-ostree install, transactional-update pkg install) and reboot, or use the backend tracefs.",
        )
    if not seen.installed:
        raise Refused(
            "package_manager_missing",
            "{0} did not say what is installed; the host needs a working {0}.".format(seen.manager.program),
        )
    return seen.row, seen.manager


def _called(seen: Survey) -> str:
    return seen.os_release.get("PRETTY_NAME") or seen.os_release.get("ID") or "a system without os-release"


# ---- what has to be installed ----------------------------------------------------------------------------------------


def plan_install(host: Host, seen: Survey, choice: Choice) -> package_query.Rehearsal:
    """What installing the choice would do, rehearsed by the package manager. Raises Refused where it would not work."""
    if not choice.names:
        return package_query.NOTHING
    _row, manager = _can_install(seen)
    support = [name for name in manager.support if name not in seen.installed]
    rehearsal = package_query.rehearse(host, manager, manager.install_argv, choice.names + support)
    if rehearsal.remove:
        raise Refused(
            "would_remove_packages",
            "Installing {0} would remove {1}; resolve that conflict by hand.".format(
                _list(choice.names), _list([each.name for each in rehearsal.remove])
            ),
        )
    if rehearsal.error:
        # apt looks for room by itself, of the archives only.
        full = re.search(r"free space|disk space|no space", rehearsal.error, re.I)
        raise Refused(
            "disk_full" if full else "package_manager_refused",
            "{0} would not install {1}: {2}.".format(manager.name, _list(choice.names), rehearsal.error),
        )
    short = package_query.shortage(host, manager, rehearsal)
    if short:
        place, wanted, free = short
        raise Refused(
            "disk_full",
            "Installing {0} needs {1} MiB on the file system of {2}, which has {3} MiB left; make room and run this "
            "again.".format(_list(choice.names), -(-wanted >> 20), place, free >> 20),
        )
    return rehearsal


def _check_lock(host: Host, manager: package_query.Manager) -> None:
    """Refused while somebody else uses the package manager."""
    holder = package_query.lock_holder(host, manager)
    if holder:
        raise Refused(
            "package_manager_locked",
            "{0} is locked by {1}; wait for it to end and run this again.".format(manager.name, holder),
        )


def _list(names: Sequence[str]) -> str:
    shown = list(names[:5])
    return ", ".join(shown) + (" and {0} more".format(len(names) - 5) if len(names) > 5 else "")


# ---- what was installed, and its removal -----------------------------------------------------------------------------


class Removal(NamedTuple):
    """``remove``: what goes. ``keep``: what this collection installed and somebody else needs now."""

    remove: List[package_query.Package]
    keep: List[str]


def plan_removal(host: Host, seen: Survey, recorded: Sequence[package_query.Package]) -> Removal:
    """What of the recorded packages can go without taking anything else along. Raises Refused if nothing of it can."""
    mine = [package for package in recorded if is_installed(package, seen.installed)]
    if not mine or seen.manager is None:
        return Removal([], [])
    others = _in_the_way(host, seen, mine)
    if not others:
        return Removal(_with_versions(mine, seen.installed), [])
    # Somebody needs something of it. What was asked for goes with all that nobody needs then, and nothing else.
    asked = [package for package in mine if package.name in _asked(seen)]
    rehearsal = package_query.rehearse(
        host, seen.manager, seen.manager.unneeded_argv, specs(seen.manager, asked, seen.installed)
    )
    unneeded = {package.name for package in rehearsal.remove}
    remove = [package for package in mine if package.name in unneeded]
    if not remove or _in_the_way(host, seen, remove):
        raise Refused(
            "still_needed",
            "{0} cannot be removed, as {1} would go too or break; remove that first, or keep them.".format(
                _list([package.name for package in mine]), _list(others)
            ),
        )
    kept = [package.name for package in mine if package not in remove]
    return Removal(_with_versions(remove, seen.installed), kept)


def _in_the_way(host: Host, seen: Survey, mine: Sequence[package_query.Package]) -> List[str]:
    """Who stands in the way of a removal: packages that would go too, or that the package manager names."""
    if seen.manager is None:
        return []
    wanted = specs(seen.manager, mine, seen.installed)
    rehearsal = package_query.rehearse(host, seen.manager, seen.manager.remove_argv, wanted)
    names = {package.name for package in mine}
    others = {package.name for package in rehearsal.remove} | set(rehearsal.blockers)
    if rehearsal.error and not others:
        return [rehearsal.error]
    return sorted(others - names)


def _asked(seen: Survey) -> List[str]:
    """Names that are installed for their own sake, the rest came with them."""
    if seen.row is None or seen.manager is None:
        return []
    headers = [name for name in seen.installed if "headers" in name or name.endswith(("-devel", "-dev"))]
    return list(seen.row.tools.values()) + list(seen.manager.support) + headers


def _with_versions(
    packages: Sequence[package_query.Package], installed: Dict[str, List[str]]
) -> List[package_query.Package]:
    return [package_query.Package(each.name, each.version or installed[each.name][-1]) for each in packages]


def specs(
    manager: package_query.Manager, packages: Sequence[package_query.Package], installed: Dict[str, List[str]]
) -> List[str]:
    """How to name packages to the package manager: by version only where several are installed side by side."""
    return [
        manager.spec.format(name=each.name, version=each.version)
        if each.version and len(installed.get(each.name, [])) > 1
        else each.name
        for each in packages
    ]


def is_installed(package: package_query.Package, installed: Dict[str, List[str]]) -> bool:
    """Whether a recorded package is there; one recorded with its version only in that version."""
    versions = installed.get(package.name, [])
    return bool(versions) and (package.version is None or package.version in versions)


def to_record(rehearsal: package_query.Rehearsal, header: Optional[table.Header]) -> List[package_query.Package]:
    """The packages that a host does not have yet. The version matters where several may be there side by side."""
    return [
        package_query.Package(
            package.name, package.version if header and header.version and package.name == header.name else None
        )
        for package in rehearsal.install
    ]


def read_record(host: Host) -> List[package_query.Package]:
    """The packages that this collection installed and the host did not have before. Raises Refused if unreadable."""
    path = below(host, RECORD)
    if not os.path.exists(path):
        return []
    try:
        rows = json.loads(read_text(host, RECORD) or "")["packages"]
        return [package_query.Package(str(row["name"]), row["version"] and str(row["version"])) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(
            "record_unreadable",
            "{0}, the record of what was installed, cannot be read ({1}); remove the packages by hand, then the "
            "file.".format(RECORD, error),
        ) from None


def write_record(host: Host, packages: Sequence[package_query.Package]) -> None:
    """Replace the record, or remove it and its directory when nothing is left to remember. Raises Refused."""
    path = below(host, RECORD)
    try:
        if not packages:
            _forget(path)
            return
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        rows = [
            dict(each._asdict()) for each in sorted(set(packages), key=lambda each: (each.name, each.version or ""))
        ]
        with open(path + ".new", "w") as stream:
            json.dump({"schema": SCHEMA, "packages": rows}, stream, indent=1, sort_keys=True)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(path + ".new", path)
    except OSError as error:
        raise Refused(
            "disk_full" if error.errno == errno.ENOSPC else "record_not_written",
            "{0}, the record of what will be installed, cannot be written: {1}; without it nothing is "
            "installed.".format(RECORD, reason(error)),
        ) from error


def _forget(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)
    folder = os.path.dirname(path)
    if os.path.isdir(folder) and not os.listdir(folder):
        os.rmdir(folder)


# ---- the module's answer ---------------------------------------------------------------------------------------------


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
    result.update(_UNCHANGED, module=_module(seen))
    result.update(packages_since=_rows(_with_versions(_rows_since(params["before"], seen), seen.installed)))
    try:
        recorded = _recorded(host, params, seen, check)
        plan = _absent if params["state"] == "absent" else _present
        result.update(plan(host, seen, params, recorded, result))
        if not check and seen.manager and (result["install_names"] or result["remove_names"]):
            _check_lock(host, seen.manager)
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


def _recorded(host: Host, params: Dict[str, Any], seen: Survey, check: bool) -> List[package_query.Package]:
    """The record, brought up to date first if the action asks for it."""
    before = recorded = read_record(host)
    news = [package_query.Package(str(each["name"]), each.get("version")) for each in params["remember"] or []]
    news += _rows_since(params["before"], seen)
    recorded = recorded + [package for package in news if package not in recorded]
    if params["settle"]:
        # What was kept has another owner now; what is not there was never installed, or somebody removed it.
        gone = [] if params["state"] != "absent" else [each for each in recorded if _is_meant(each, params)]
        recorded = [each for each in recorded if each not in gone and is_installed(each, seen.installed)]
    if recorded != before and not check:
        write_record(host, recorded)
    return [each for each in recorded if _is_meant(each, params)]


def _rows_since(before: Optional[Sequence[str]], seen: Survey) -> List[package_query.Package]:
    """The packages that are installed and were not before."""
    if before is None:
        return []
    known = set(before)
    return [package_query.Package(name, None) for name in sorted(seen.installed) if name not in known]


def _is_meant(package: package_query.Package, params: Dict[str, Any]) -> bool:
    return params["only"] is None or package.name in params["only"]


def _present(
    host: Host,
    seen: Survey,
    params: Dict[str, Any],
    _recorded_packages: Sequence[package_query.Package],
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
        "remember": _rows(to_record(rehearsal, choice.header)),
    }


def _absent(
    host: Host,
    seen: Survey,
    _params: Dict[str, Any],
    recorded: Sequence[package_query.Package],
    _result: Dict[str, Any],
) -> Dict[str, Any]:
    removal = plan_removal(host, seen, recorded)
    if not removal.remove or seen.manager is None:
        return {
            "outcome": "nothing_to_remove",
            "sentence": "Nothing that this collection installed here is still there.",
        }
    return {
        "outcome": "removed",
        "sentence": "What this collection installed goes, and nothing else.",
        "remove_names": specs(seen.manager, removal.remove, seen.installed),
        "packages_remove": _rows(removal.remove),
        "packages_keep": removal.keep,
    }


def _rows(packages: Sequence[package_query.Package]) -> List[Dict[str, Any]]:
    return [dict(package._asdict()) for package in packages]


def _module(seen: Survey) -> Optional[Dict[str, Any]]:
    """Ansible's module for the package manager and what to give it.

    ``before``: where that module would install something for itself, all that is installed without it; else None.
    """
    manager = seen.manager
    if manager is None or not seen.installed or seen.rights.image_based:
        return None
    return {
        "action": manager.module,
        "common": manager.common,
        "purge": manager.purge,
        "refresh": manager.refresh,
        "clean": manager.clean,
        "before": sorted(seen.installed) if any(name not in seen.installed for name in manager.support) else None,
    }
