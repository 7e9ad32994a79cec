# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of package managers: the commands that ask it, who reads their output, its locks, Ansible's module for it.

Private to this collection. Adding a package manager is adding a row and its transcripts.
"""

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

from . import package_readers as readers
from .package_readers import Answer, Package, Rehearsal


class Lock(NamedTuple):
    """A file that says that a package manager is at work. ``kind``: fcntl (held), exists (is there), pid (of whom)."""

    kind: str
    path: str


class Manager(NamedTuple):
    """One package manager. Every ``*_argv`` is followed by package names.

    ``module``: Ansible's module for it, with ``common`` arguments in every installation, ``purge`` in a removal,
    ``refresh`` to fetch the package lists, ``fresh`` to fetch only those that are older than an hour, ``clean`` to give
    up downloaded packages. ``waits``: whether it takes ``lock_timeout``. ``support``: packages that this module
    installs for itself if need be. ``lists``: where the package lists are, None if the commands fetch them themselves.
    ``spec``: how one version of a package is asked for. ``unneeded_argv`` rehearses a removal together with what nobody
    needs afterwards.
    """

    name: str
    program: str
    module: str
    installed_argv: Sequence[str]
    read_installed: Callable[[str], List[Package]]
    offers_argv: Sequence[str]
    read_offers: Callable[[str], List[Package]]
    install_argv: Sequence[str]
    remove_argv: Sequence[str]
    unneeded_argv: Sequence[str]
    read_rehearsal: Callable[[Answer], Rehearsal]
    spec: str
    locks: Sequence[Lock]
    cache: str
    lists: Optional[str]
    common: Dict[str, object] = {}
    purge: Dict[str, object] = {}
    refresh: Dict[str, object] = {}
    fresh: Dict[str, object] = {}
    clean: Dict[str, object] = {}
    waits: bool = False
    support: Sequence[str] = ()


# apt asks nothing, and so takes no for no answer, where it would do just what it was told: only --print-uris stops it.
_APT_ASK = ("--assume-no", "--print-uris", "--verbose-versions", "--option", "Debug::NoLocking=true")
# apt keeps what an installed package merely recommends or suggests; that is not what "needed" means here.
_APT_STRICT = (
    "--option",
    "APT::AutoRemove::RecommendsImportant=false",
    "--option",
    "APT::AutoRemove::SuggestsImportant=false",
)
_ZYPPER = ("zypper", "--non-interactive", "--xmlout")
_RPM_INSTALLED = ("rpm", "-qa", "--qf", "%{NAME}\t%{VERSION}-%{RELEASE}\n")
_RPM_LOCKS = (
    Lock("fcntl", "/var/lib/rpm/.rpm.lock"),
    Lock("fcntl", "/usr/lib/sysimage/rpm/.rpm.lock"),
)

MANAGERS = {
    manager.name: manager
    for manager in (
        Manager(
            name="apt",
            program="apt-get",
            module="ansible.builtin.apt",
            installed_argv=("dpkg-query", "-W", "-f", "${Package}\t${Version}\t${db:Status-Abbrev}\n"),
            read_installed=readers.read_dpkg,
            offers_argv=("apt-cache", "policy"),
            read_offers=readers.read_apt_policy,
            install_argv=("apt-get", "install", "--no-install-recommends") + _APT_ASK,
            remove_argv=("apt-get", "remove") + _APT_ASK,
            unneeded_argv=("apt-get", "autoremove") + _APT_ASK + _APT_STRICT,
            read_rehearsal=readers.read_apt_rehearsal,
            spec="{name}={version}",
            locks=(
                Lock("fcntl", "/var/lib/dpkg/lock-frontend"),
                Lock("fcntl", "/var/lib/dpkg/lock"),
                Lock("fcntl", "/var/lib/apt/lists/lock"),
            ),
            cache="/var/cache/apt/archives",
            lists="/var/lib/apt/lists",
            common={"install_recommends": False},
            purge={"purge": True},
            refresh={"update_cache": True},
            fresh={"cache_valid_time": 3600},
            clean={"clean": True},
            waits=True,
            support=("python3-apt",),
        ),
        Manager(
            name="dnf",
            program="dnf",
            module="ansible.builtin.dnf",
            installed_argv=_RPM_INSTALLED,
            read_installed=readers.read_tabs,
            offers_argv=("dnf", "-q", "repoquery", "--qf", "%{name}\t%{evr}\n"),
            read_offers=readers.read_tabs,
            install_argv=("dnf", "install", "--assumeno", "--setopt=install_weak_deps=False"),
            remove_argv=("dnf", "remove", "--assumeno", "--setopt=clean_requirements_on_remove=False"),
            unneeded_argv=("dnf", "remove", "--assumeno", "--setopt=clean_requirements_on_remove=True"),
            read_rehearsal=readers.read_dnf_rehearsal,
            spec="{name}-{version}",
            locks=_RPM_LOCKS + (Lock("pid", "/var/cache/dnf/metadata_lock.pid"),),
            cache="/var/cache/dnf",
            lists=None,
            common={"install_weak_deps": False},
            purge={"autoremove": False},
            waits=True,
        ),
        Manager(
            name="zypper",
            program="zypper",
            module="ansible.builtin.package",
            installed_argv=_RPM_INSTALLED,
            read_installed=readers.read_tabs,
            offers_argv=("zypper", "--non-interactive", "--quiet", "search", "--details", "--match-exact"),
            read_offers=readers.read_zypper_search,
            install_argv=_ZYPPER + ("install", "--dry-run", "--no-recommends"),
            remove_argv=_ZYPPER + ("remove", "--dry-run"),
            unneeded_argv=_ZYPPER + ("remove", "--dry-run", "--clean-deps"),
            read_rehearsal=readers.read_zypper_rehearsal,
            spec="{name}={version}",
            locks=(Lock("pid", "/run/zypp.pid"), Lock("pid", "/var/run/zypp.pid")) + _RPM_LOCKS,
            cache="/var/cache/zypp",
            lists=None,
        ),
        Manager(
            name="pacman",
            program="pacman",
            module="ansible.builtin.package",
            installed_argv=("pacman", "-Q"),
            read_installed=readers.read_tabs,
            offers_argv=("pacman", "-Si"),
            read_offers=readers.read_pacman_info,
            install_argv=("pacman", "-S", "--needed", "--print", "--print-format", "%n %v %s"),
            remove_argv=("pacman", "-R", "--print", "--print-format", "%n %v %s removed"),
            unneeded_argv=("pacman", "-Rs", "--print", "--print-format", "%n %v %s removed"),
            read_rehearsal=readers.read_pacman_rehearsal,
            spec="{name}",
            locks=(Lock("exists", "/var/lib/pacman/db.lck"),),
            cache="/var/cache/pacman/pkg",
            lists=None,
        ),
        Manager(
            name="apk",
            program="apk",
            module="ansible.builtin.package",
            installed_argv=("apk", "info", "-v"),
            read_installed=readers.read_apk_installed,
            offers_argv=("apk", "policy"),
            read_offers=readers.read_apk_policy,
            install_argv=("apk", "add", "--simulate"),
            remove_argv=("apk", "del", "--simulate"),
            unneeded_argv=("apk", "del", "--simulate"),
            read_rehearsal=readers.read_apk_rehearsal,
            spec="{name}",
            locks=(Lock("fcntl", "/lib/apk/db/lock"),),
            cache="/var/cache/apk",
            lists=None,
        ),
    )
}
