# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would have to be installed so that OOM kills can be traced on the running kernel, and why not.

Private to this collection. Runs on the host, changes nothing.
"""

import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from . import _bcc_packages as table
from ._host import bpf, package_query
from ._host.package_managers import MANAGERS, Manager
from ._host.package_readers import NOTHING, Rehearsal
from ._host.run import Host
from ._host.tracer_backends import AUTO, BACKENDS, program

STATES = ("present", "latest", "absent")
HEADERS = ("auto", "always", "never")

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
    manager: Optional[Manager]
    installed: Dict[str, List[str]]
    offers: Dict[str, List[str]]
    lists: bool


def survey(host: Host) -> Survey:
    """Read the host: kernel, rights, tools, package manager."""
    kernel = bpf.read_kernel(host)
    released = bpf.os_release(host)
    row = table.distribution(released)
    manager = MANAGERS[row.manager] if row else None
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
        tools={backend: program(host, backend) for backend in BACKENDS},
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
    for name in _in_turn(seen) if backend == AUTO else (backend,):
        try:
            return _VERDICTS[name](seen, name, headers, state), refused
        except Refused as refusal:
            refused.append({"backend": name, "outcome": refusal.outcome, "sentence": str(refusal)})
            if refusal.outcome == "package_lists_missing":
                break  # not knowing is no reason to take less
    raise Refused(refused[0]["outcome"], refused[0]["sentence"], refused)


def _in_turn(seen: Survey) -> List[str]:
    """The order of auto: the tracers that are here, as oom_trace takes them; else bcc, or what else can be had."""
    here = [name for name in BACKENDS if seen.tools[name]]
    return list(dict.fromkeys(here + ["bcc"] + list(BACKENDS)))


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
    """oom_trace mounts tracefs for itself where nobody has."""
    if seen.kernel.tracefs is None and not seen.kernel.mountable:
        raise Refused(
            "no_tracefs",
            "The event oom:mark_victim is not there; use a kernel of 4.15 or newer with CONFIG_FTRACE, or another "
            "backend.",
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


def _can_install(seen: Survey) -> Tuple[table.Distribution, Manager]:
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


def plan_install(host: Host, seen: Survey, choice: Choice) -> Rehearsal:
    """What installing the choice would do, rehearsed by the package manager. Raises Refused where it would not work."""
    if not choice.names:
        return NOTHING
    _row, manager = _can_install(seen)
    support = [name for name in manager.support if name not in seen.installed]
    rehearsal = package_query.rehearse(host, manager, manager.install_argv, choice.names + support)
    if rehearsal.remove:
        raise Refused(
            "would_remove_packages",
            "Installing {0} would remove {1}; resolve that conflict by hand.".format(
                listed(choice.names), listed([each.name for each in rehearsal.remove])
            ),
        )
    if rehearsal.error:
        # apt looks for room by itself, of the archives only.
        full = re.search(r"free space|disk space|no space", rehearsal.error, re.I)
        raise Refused(
            "disk_full" if full else "package_manager_refused",
            "{0} would not install {1}: {2}.".format(manager.name, listed(choice.names), rehearsal.error),
        )
    short = package_query.shortage(host, manager, rehearsal)
    if short:
        place, wanted, free = short
        raise Refused(
            "disk_full",
            "Installing {0} needs {1} MiB on the file system of {2}, which has {3} MiB left; make room and run this "
            "again.".format(listed(choice.names), -(-wanted >> 20), place, free >> 20),
        )
    return rehearsal


def check_lock(host: Host, manager: Manager) -> None:
    """Refused while somebody else uses the package manager."""
    holder = package_query.lock_holder(host, manager)
    if holder:
        raise Refused(
            "package_manager_locked",
            "{0} is locked by {1}; wait for it to end and run this again.".format(manager.name, holder),
        )


def listed(names: Sequence[str]) -> str:
    """Some names for a sentence."""
    shown = list(names[:5])
    return ", ".join(shown) + (" and {0} more".format(len(names) - 5) if len(names) > 5 else "")
