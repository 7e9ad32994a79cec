# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host's package manager knows and what it would do. Asks only; nothing is installed or removed here.

Private to this collection.
"""

import fcntl
import os
import re
import struct
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from .package_managers import Manager
from .package_readers import NOTHING, Answer, Package, Rehearsal
from .run import Host, OverdueError, below, complaint, hurried, names, read_text

# A package manager that looks at its repositories over the network may take its time; one that waits forever may not.
SECONDS = 300.0
# Room that the file systems keep beside what the package manager says it needs.
MARGIN_BYTES = 32 << 20
_LONGEST_OUTPUT = 16 << 20


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
