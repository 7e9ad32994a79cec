# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host's package manager knows and what it would do. Asks only; nothing is installed or removed here.

One row of :data:`MANAGERS` per package manager: the commands that ask it, who reads their output, its locks, and what
Ansible's own module for it is called. Adding a package manager is adding a row and its transcripts.
"""

import fcntl
import os
import re
import struct
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .run import Host, OverdueError, below, complaint, hurried, names, read_text

# A package manager that looks at its repositories over the network may take its time; one that waits forever may not.
SECONDS = 300.0
# Room that the file systems keep beside what the package manager says it needs.
MARGIN_BYTES = 32 << 20
_LONGEST_OUTPUT = 16 << 20


class Package(NamedTuple):
    """A package by name; ``version`` is None where it is not known or does not matter."""

    name: str
    version: Optional[str]


class Rehearsal(NamedTuple):
    """What the package manager would do. ``download``, ``disk``: bytes, None if it did not say.

    ``blockers``: installed packages that need what is to be removed. ``unknown``: names that no repository has.
    ``error``: the package manager's own words where it refused, else None.
    """

    install: List[Package]
    upgrade: List[Package]
    remove: List[Package]
    download: Optional[int]
    disk: Optional[int]
    blockers: List[str]
    unknown: List[str]
    error: Optional[str]


class Answer(NamedTuple):
    """How a command answered: exit status, stdout, and the first line of its complaint."""

    status: int
    out: str
    complaint: str
    stderr: str


class Lock(NamedTuple):
    """A file that says that a package manager is at work. ``kind``: fcntl (held), exists (is there), pid (of whom)."""

    kind: str
    path: str


class Manager(NamedTuple):
    """One package manager. Every ``*_argv`` is followed by package names.

    ``module``: Ansible's module for it, with ``common`` arguments in every call, ``purge`` in a removal, ``refresh`` to
    fetch the package lists, ``clean`` to give up downloaded packages. ``support``: packages that this module installs
    for itself if need be. ``lists``: where the package lists are, None if the commands fetch them themselves. ``spec``:
    how one version of a package is asked for. ``unneeded_argv`` rehearses a removal together with what nobody needs
    afterwards.
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
    clean: Dict[str, object] = {}
    support: Sequence[str] = ()


def ask(host: Host, argv: Sequence[str]) -> Answer:
    """Run a command that only asks."""
    running = hurried(host, SECONDS).stream(argv)
    pieces: List[bytes] = []
    size = 0
    overdue = False
    try:
        for chunk in running.chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size > _LONGEST_OUTPUT:
                break
    except OverdueError:
        overdue = True
    ended = running.end()
    said = "it did not answer in {0:g} seconds".format(SECONDS) if overdue else complaint(ended)
    return Answer(124 if overdue else ended.status, b"".join(pieces).decode("utf-8", "replace"), said, ended.stderr)


def installed(host: Host, manager: Manager) -> Dict[str, List[str]]:
    """Every installed package with its versions (of a kernel's headers there may be several)."""
    return _versions(manager.read_installed(ask(host, manager.installed_argv).out))


def offers(host: Host, manager: Manager, packages: Sequence[str]) -> Dict[str, List[str]]:
    """The versions of ``packages`` that the repositories have, the newest last; a package that none has is left out."""
    return _versions(manager.read_offers(ask(host, list(manager.offers_argv) + list(packages)).out))


def rehearse(host: Host, manager: Manager, argv: Sequence[str], packages: Sequence[str]) -> Rehearsal:
    """What ``argv`` followed by ``packages`` would do."""
    if not packages:
        return NOTHING
    answer = ask(host, list(argv) + list(packages))
    if answer.status in (124, 127):
        return NOTHING._replace(error=answer.complaint)
    return manager.read_rehearsal(answer)


def has_lists(host: Host, manager: Manager) -> bool:
    """Whether the package lists were ever fetched."""
    return manager.lists is None or any(name.endswith("Packages") for name in _list_names(host, manager.lists))


def _list_names(host: Host, directory: str) -> List[str]:
    """Names of package lists, without the suffix of their compression."""
    return [re.sub(r"\.(lz4|gz|xz|zst|bz2)$", "", name) for name in names(host, directory)]


def lock_holder(host: Host, manager: Manager) -> Optional[str]:
    """Who holds the package manager's lock, as ``pid 4711 (apt-get)``; None if it is free."""
    for lock in manager.locks:
        holder = _LOCKS[lock.kind](host, lock.path)
        if holder is not None:
            return holder
    return None


def shortage(host: Host, manager: Manager, rehearsal: Rehearsal) -> Optional[Tuple[str, int, int]]:
    """The directory that is too small, the bytes it needs and the bytes it has; None if there is room enough.

    Directories on one file system need their room together.
    """
    needs: Dict[int, List[Tuple[str, int]]] = {}
    for directory, amount in ((manager.cache, rehearsal.download), ("/usr", rehearsal.disk)):
        place = _existing(host, directory)
        if amount and amount > 0:
            needs.setdefault(os.stat(below(host, place)).st_dev, []).append((place, amount))
    for shares in needs.values():
        place, wanted = shares[0][0], sum(amount for _place, amount in shares) + MARGIN_BYTES
        there = os.statvfs(below(host, place))
        free = there.f_bavail * there.f_frsize
        if free < wanted:
            return place, wanted, free
    return None


def _existing(host: Host, directory: str) -> str:
    while directory != "/" and not os.path.isdir(below(host, directory)):
        directory = os.path.dirname(directory)
    return directory


def _held(host: Host, path: str) -> Optional[str]:
    """F_GETLK tells who would be in the way, without taking the lock. struct flock, fcntl(2)."""
    layout = "@hhlli"
    asked = struct.pack(layout, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with open(below(host, path), "rb") as stream:
            told = struct.unpack(layout, fcntl.fcntl(stream.fileno(), fcntl.F_GETLK, asked))
    except OSError:
        return None
    return None if told[0] == fcntl.F_UNLCK else _process(host, told[4])


def _exists(host: Host, path: str) -> Optional[str]:
    return "whoever made " + path if os.path.exists(below(host, path)) else None


def _pid_file(host: Host, path: str) -> Optional[str]:
    pid = (read_text(host, path) or "").strip()
    running = pid.isdigit() and os.path.isdir(below(host, "/proc/" + pid))
    return _process(host, int(pid)) if running else None


def _process(host: Host, pid: int) -> str:
    comm = (read_text(host, "/proc/{0}/comm".format(pid)) or "").strip()
    return "pid {0}{1}".format(pid, " ({0})".format(comm) if comm else "")


_LOCKS: Dict[str, Callable[[Host, str], Optional[str]]] = {"fcntl": _held, "exists": _exists, "pid": _pid_file}


def _versions(packages: Sequence[Package]) -> Dict[str, List[str]]:
    found: Dict[str, List[str]] = {}
    for package in packages:
        versions = found.setdefault(package.name, [])
        if package.version and package.version not in versions:
            versions.append(package.version)
    return found


# ---- sizes -----------------------------------------------------------------------------------------------------------

_SIZE = r"([0-9][0-9.,]*) ?([kKMGT]?i?B?)\b"
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def _bytes(amount: str, unit: str) -> int:
    """``21.9 MB``, ``150 M``, ``33.8 MiB`` in bytes. apt counts in thousands, the others in 1024; so does this, which
    is never too little."""
    return int(float(amount.replace(",", "")) * 1024 ** _UNITS[unit.lower().rstrip("b").rstrip("i")])


def _size(pattern: str, text: str) -> Optional[int]:
    match = re.search(pattern.replace("SIZE", _SIZE), text)
    return _bytes(match.group(1), match.group(2)) if match else None


NOTHING = Rehearsal([], [], [], None, None, [], [], None)


# ---- dpkg and apt ----------------------------------------------------------------------------------------------------


def read_dpkg(text: str) -> List[Package]:
    """``name<TAB>version<TAB>status``; only what is unpacked (a configuration file that was left is no package)."""
    rows = [line.split("\t") for line in text.splitlines()]
    return [Package(row[0], row[1]) for row in rows if len(row) == 3 and row[2][1:2] in ("i", "U", "F", "W", "t", "H")]


def read_apt_policy(text: str) -> List[Package]:
    """apt-cache policy. Its candidate is what it would install, so that comes last."""
    found: List[Package] = []
    name = ""
    for line in text.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            name = line[:-1]
        match = re.match(r"  Candidate: (\S+)$", line)
        if match and name and match.group(1) != "(none)":
            found.append(Package(name, match.group(1)))
    return found


_APT_SECTIONS = {
    "The following NEW packages will be installed:": "install",
    "The following packages will be upgraded:": "upgrade",
    "The following packages will be DOWNGRADED:": "upgrade",
    "The following packages will be REMOVED:": "remove",
}
_APT_UNKNOWN = re.compile(
    r"^E: (?:Unable to locate package (\S+)|Package '([^']+)' has no installation candidate)$", re.M
)
_APT_UNMET = re.compile(r"^ (\S+) : (?:Pre)?Depends: ", re.M)


def read_apt_rehearsal(answer: Answer) -> Rehearsal:
    """apt-get --assume-no --verbose-versions. It ends with status 1 and ``Abort.`` where it would have gone on."""
    parts: Dict[str, List[Package]] = {"install": [], "upgrade": [], "remove": []}
    section = None
    for line in answer.out.splitlines():
        if not line.startswith(" "):
            section = _APT_SECTIONS.get(line)
            continue
        match = re.match(r"   (\S+?)\*? \((?:\S+ => )?(\S+?)\)$", line)
        if section and match:
            parts[section].append(Package(match.group(1), match.group(2)))
    unknown = [one or other for one, other in _APT_UNKNOWN.findall(answer.stderr + answer.out)]
    agreed = answer.status == 0 or "\nAbort." in answer.out
    return NOTHING._replace(
        install=parts["install"],
        upgrade=parts["upgrade"],
        remove=parts["remove"],
        download=_size(r"Need to get SIZE(?:/\S+ \S+)? of archives", answer.out),
        disk=_size(r"After this operation, SIZE of additional disk space", answer.out),
        blockers=sorted(set(_APT_UNMET.findall(answer.out))),
        unknown=unknown,
        error=None if agreed else answer.complaint,
    )


# ---- rpm and dnf -----------------------------------------------------------------------------------------------------


def read_tabs(text: str) -> List[Package]:
    """``name<TAB>version`` or ``name version``; an epoch of 0 is not written."""
    rows = [line.split() for line in text.splitlines()]
    found = [Package(row[0], re.sub(r"^0:", "", row[1])) for row in rows if len(row) >= 2]
    return sorted(found, key=lambda package: (package.name, _order(package.version or "")))


def _order(version: str) -> List[int]:
    return [int(number) for number in re.findall(r"[0-9]{1,18}", version)]


_DNF_SECTION = re.compile(r"^(Installing|Upgrading|Downgrading|Reinstalling|Removing)\b[^:]*:$")
_DNF_PARTS = {"Installing": "install", "Upgrading": "upgrade", "Downgrading": "upgrade", "Removing": "remove"}
_DNF_UNKNOWN = re.compile(r"(?:Unable to find a match|No match for argument): (.+)$", re.M)
_DNF_NEEDED = re.compile(r"is needed by \(installed\) (\S+)|package (\S+) .*requires ", re.M)


def read_dnf_rehearsal(answer: Answer) -> Rehearsal:
    """dnf 4 and 5 with --assumeno: a table, a name too long for its column on a line of its own."""
    parts: Dict[str, List[Package]] = {"install": [], "upgrade": [], "remove": []}
    section, pending = None, []  # type: Tuple[Optional[str], List[str]]
    for line in answer.out.splitlines():
        header = _DNF_SECTION.match(line)
        if header:
            section, pending = _DNF_PARTS.get(header.group(1)), []
        elif not line.startswith(" ") or line.strip().startswith("replacing "):
            section = section if line.strip() and line.startswith(" ") else None
        elif section:
            words = pending + line.split()
            pending = words if len(words) < 3 else []
            if len(words) >= 3:
                parts[section].append(Package(words[0], re.sub(r"^0:", "", words[2])))
    text = answer.out + answer.stderr
    agreed = answer.status == 0 or "Operation aborted" in text
    unknown = [name for line in _DNF_UNKNOWN.findall(text) for name in line.split()]
    return NOTHING._replace(
        install=parts["install"],
        upgrade=parts["upgrade"],
        remove=parts["remove"],
        download=_size(r"(?:Total download size: |Need to download )SIZE", text),
        disk=_size(r"(?:Installed size: |After this operation, (?=[^\n]* extra))SIZE", text),
        blockers=sorted({one or other for one, other in _DNF_NEEDED.findall(text)}),
        unknown=unknown,
        error=None if agreed else answer.complaint,
    )


# ---- zypper ----------------------------------------------------------------------------------------------------------


def read_zypper_search(text: str) -> List[Package]:
    """The table of ``zypper search --details``: ``S | Name | Type | Version | Arch | Repository``."""
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    found = [Package(row[1], row[3]) for row in rows if len(row) >= 6 and row[2] == "package"]
    return sorted(found, key=lambda package: (package.name, _order(package.version or "")))


_ZYPPER_SECTION = re.compile(r"<to-(install|upgrade|downgrade|remove)[^>]*>(.*?)</to-\1[^>]*>", re.S)
_ZYPPER_PARTS = {"install": "install", "upgrade": "upgrade", "downgrade": "upgrade", "remove": "remove"}
_ZYPPER_PACKAGE = re.compile(r'<solvable type="package" name="([^"]+)" edition="([^"]+)"')
_ZYPPER_SUMMARY = re.compile(r'<install-summary download-size="([0-9]+)" space-usage-diff="(-?[0-9]+)"')
_ZYPPER_ERROR = re.compile(r'<message type="error">(.*?)</message>', re.S)
_ZYPPER_UNKNOWN = re.compile(r"No provider of '([^']+)' found|Package '([^']+)' not found")
_ZYPPER_NEEDED = re.compile(r"the installed (\S+) requires ")


def read_zypper_rehearsal(answer: Answer) -> Rehearsal:
    """zypper --xmlout --dry-run. Its text is made for eyes: how it is laid out depends on the terminal."""
    parts: Dict[str, List[Package]] = {"install": [], "upgrade": [], "remove": []}
    for section, solvables in _ZYPPER_SECTION.findall(answer.out):
        parts[_ZYPPER_PARTS[section]] += [Package(*found) for found in _ZYPPER_PACKAGE.findall(solvables)]
    summary = _ZYPPER_SUMMARY.search(answer.out)
    text = answer.out.replace("&apos;", "'") + answer.stderr
    errors = [" ".join(words.split()).rstrip(".") for words in _ZYPPER_ERROR.findall(text)]
    refused = answer.status != 0 or errors
    return NOTHING._replace(
        install=parts["install"],
        upgrade=parts["upgrade"],
        remove=parts["remove"],
        download=int(summary.group(1)) if summary else None,
        disk=int(summary.group(2)) if summary else None,
        blockers=sorted(set(_ZYPPER_NEEDED.findall(text))),
        unknown=[one or other for one, other in _ZYPPER_UNKNOWN.findall(text)],
        error=(errors[0] if errors else answer.complaint) if refused else None,
    )


# ---- pacman ----------------------------------------------------------------------------------------------------------


def read_pacman_info(text: str) -> List[Package]:
    """``pacman -Si``: a block of ``Key : value`` per package."""
    found: List[Package] = []
    name = ""
    for line in text.splitlines():
        key, _colon, value = (part.strip() for part in line.partition(":"))
        if key == "Name":
            name = value
        elif key == "Version" and name:
            found.append(Package(name, value))
    return found


_PACMAN_NEEDED = re.compile(r"required by (\S+)$", re.M)
_PACMAN_UNKNOWN = re.compile(r"target not found: (\S+)")


def _read_pacman(answer: Answer, part: str) -> Rehearsal:
    rows = [line.split() for line in answer.out.splitlines()]
    rows = [row for row in rows if len(row) == 3 and row[2].isdigit()]
    text = answer.out + answer.stderr
    result = NOTHING._replace(
        download=sum(int(row[2]) for row in rows),
        blockers=sorted(set(_PACMAN_NEEDED.findall(text))),
        unknown=_PACMAN_UNKNOWN.findall(text),
        error=None if answer.status == 0 else answer.complaint,
    )
    return result._replace(**{part: [Package(row[0], row[1]) for row in rows]})


def read_pacman_rehearsal(answer: Answer) -> Rehearsal:
    """``--print``: a row of name, version, bytes each. A removal marks its rows with a fourth word."""
    removal = any(line.endswith(" removed") for line in answer.out.splitlines())
    stripped = answer._replace(out=re.sub(r" removed$", "", answer.out, flags=re.M))
    return _read_pacman(stripped, "remove" if removal else "install")


# ---- apk -------------------------------------------------------------------------------------------------------------


def read_apk_installed(text: str) -> List[Package]:
    """``apk info -v``: name-version-rN."""
    found = [re.match(r"(\S+)-([0-9][^-]*-r[0-9]+)$", line.strip()) for line in text.splitlines()]
    return [Package(match.group(1), match.group(2)) for match in found if match]


def read_apk_policy(text: str) -> List[Package]:
    """``apk policy``: versions below each name, their repositories below each version; the newest version first."""
    found: List[Package] = []
    name, version = "", ""
    for line in text.splitlines():
        if line.endswith(" policy:"):
            name, version = line[: -len(" policy:")], ""
        elif re.match(r"  \S+:$", line):
            version = line.strip()[:-1]
        elif name and version and "://" in line or line.strip().startswith("/"):
            found.append(Package(name, version))
    return sorted(found, key=lambda package: (package.name, _order(package.version or "")))


_APK_STEP = re.compile(r"^\([ 0-9/]+\) (Installing|Upgrading|Downgrading|Purging) (\S+) \((?:\S+ -> )?(\S+)\)$", re.M)
_APK_PARTS = {"Installing": "install", "Upgrading": "upgrade", "Downgrading": "upgrade", "Purging": "remove"}
_APK_UNKNOWN = re.compile(r"^  (\S+) \(no such package\)", re.M)
_APK_KEPT = re.compile(r"^  \S+: (.+)$", re.M)


def read_apk_rehearsal(answer: Answer) -> Rehearsal:
    """``apk --simulate``. A removal keeps what others need and says who."""
    parts: Dict[str, List[Package]] = {"install": [], "upgrade": [], "remove": []}
    for step, name, version in _APK_STEP.findall(answer.out):
        parts[_APK_PARTS[step]].append(Package(name, version))
    text = answer.out + answer.stderr
    _before, _words, kept = text.partition("not removed due to:")
    return NOTHING._replace(
        install=parts["install"],
        upgrade=parts["upgrade"],
        remove=parts["remove"],
        blockers=sorted({name for line in _APK_KEPT.findall(kept) for name in line.split()}),
        unknown=_APK_UNKNOWN.findall(text),
        error=None if answer.status == 0 else answer.complaint,
    )


_APT_ASK = ("--assume-no", "--verbose-versions", "--option", "Debug::NoLocking=true")
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
            read_installed=read_dpkg,
            offers_argv=("apt-cache", "policy"),
            read_offers=read_apt_policy,
            install_argv=("apt-get", "install", "--no-install-recommends") + _APT_ASK,
            remove_argv=("apt-get", "remove") + _APT_ASK,
            unneeded_argv=("apt-get", "autoremove") + _APT_ASK + _APT_STRICT,
            read_rehearsal=read_apt_rehearsal,
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
            clean={"clean": True},
            support=("python3-apt",),
        ),
        Manager(
            name="dnf",
            program="dnf",
            module="ansible.builtin.dnf",
            installed_argv=_RPM_INSTALLED,
            read_installed=read_tabs,
            offers_argv=("dnf", "-q", "repoquery", "--qf", "%{name}\t%{evr}\n"),
            read_offers=read_tabs,
            install_argv=("dnf", "install", "--assumeno", "--setopt=install_weak_deps=False"),
            remove_argv=("dnf", "remove", "--assumeno", "--setopt=clean_requirements_on_remove=False"),
            unneeded_argv=("dnf", "remove", "--assumeno", "--setopt=clean_requirements_on_remove=True"),
            read_rehearsal=read_dnf_rehearsal,
            spec="{name}-{version}",
            locks=_RPM_LOCKS + (Lock("pid", "/var/cache/dnf/metadata_lock.pid"),),
            cache="/var/cache/dnf",
            lists=None,
            common={"install_weak_deps": False},
            purge={"autoremove": False},
        ),
        Manager(
            name="zypper",
            program="zypper",
            module="ansible.builtin.package",
            installed_argv=_RPM_INSTALLED,
            read_installed=read_tabs,
            offers_argv=("zypper", "--non-interactive", "--quiet", "search", "--details", "--match-exact"),
            read_offers=read_zypper_search,
            install_argv=_ZYPPER + ("install", "--dry-run", "--no-recommends"),
            remove_argv=_ZYPPER + ("remove", "--dry-run"),
            unneeded_argv=_ZYPPER + ("remove", "--dry-run", "--clean-deps"),
            read_rehearsal=read_zypper_rehearsal,
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
            read_installed=read_tabs,
            offers_argv=("pacman", "-Si"),
            read_offers=read_pacman_info,
            install_argv=("pacman", "-S", "--needed", "--print", "--print-format", "%n %v %s"),
            remove_argv=("pacman", "-R", "--print", "--print-format", "%n %v %s removed"),
            unneeded_argv=("pacman", "-Rs", "--print", "--print-format", "%n %v %s removed"),
            read_rehearsal=read_pacman_rehearsal,
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
            read_installed=read_apk_installed,
            offers_argv=("apk", "policy"),
            read_offers=read_apk_policy,
            install_argv=("apk", "add", "--simulate"),
            remove_argv=("apk", "del", "--simulate"),
            unneeded_argv=("apk", "del", "--simulate"),
            read_rehearsal=read_apk_rehearsal,
            spec="{name}",
            locks=(Lock("fcntl", "/lib/apk/db/lock"),),
            cache="/var/cache/apk",
            lists=None,
        ),
    )
}
