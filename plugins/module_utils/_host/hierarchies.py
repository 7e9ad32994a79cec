# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the cgroup hierarchies of a host, or of a copied tree, are. Private to this collection."""

import errno
import os
import re
from typing import FrozenSet, Iterable, List, NamedTuple, Optional, Tuple

from . import run
from .coverage import Unreadable

_MOST_PROBED = 1000  # folders of a copied tree that are searched for a telling file


class Tree(NamedTuple):
    """One hierarchy: its version, its folder as a path of this process, and the path of the cgroup at its top.

    ``top`` is empty but where a container was given a part of the hierarchy.
    """

    version: int
    folder: str
    top: str


class Hierarchies(NamedTuple):
    """Where a host's cgroups are: `v1`, `hybrid` or `v2`, the memory controller's tree, and what stands beside it.

    ``live``: they are the running kernel's, not a copy.
    """

    mode: str
    mount: str
    memory: Tree
    beside: Tuple[Tree, ...]
    live: bool


class _Mount(NamedTuple):
    type: str
    point: str
    top: str
    options: FrozenSet[str]


def _unescape(text: str) -> str:
    """A field of the mount tables: blanks, tabs, newlines and backslashes are octal there (proc(5))."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def _mounts(host: run.Host) -> List[_Mount]:
    """Mounted hierarchies, from mountinfo, or from the shorter tables that a copied tree may have instead."""
    found = []
    for line in (run.read_text(host, "/proc/self/mountinfo") or "").split("\n"):
        left, _dash, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if len(before) > 5 and len(after) > 2:
            top = _unescape(before[3]).rstrip("/")
            # A mount from outside of this cgroup namespace is `/../..`: what is above has no name here.
            found.append(
                _Mount(after[0], _unescape(before[4]), "" if ".." in top.split("/") else top, _words(after[2]))
            )
    if not found:
        tables = (run.read_text(host, path) for path in ("/proc/self/mounts", "/proc/mounts"))
        for fields in (line.split(" ") for line in next(filter(None, tables), "").split("\n")):
            if len(fields) > 3:
                found.append(_Mount(fields[2], _unescape(fields[1]), "", _words(fields[3])))
    return [mount for mount in found if mount.type in ("cgroup", "cgroup2")]


def _words(options: str) -> FrozenSet[str]:
    return frozenset(options.split(","))


def _best(host: run.Host, mounts: Iterable[_Mount]) -> Optional[_Mount]:
    """Of several mounts of one hierarchy the one that is not hidden by another mount and shows the most."""

    def worse(mount: _Mount) -> Tuple[bool, int]:
        return (run.read_bytes(host, mount.point + "/cgroup.procs", 1) is None, len(mount.top))

    return min(mounts, key=worse, default=None)


def find(host: run.Host) -> Hierarchies:
    """The host's own hierarchies. Raises Unreadable where no memory controller is mounted."""
    mounts = _mounts(host)
    unified = _best(host, (mount for mount in mounts if mount.type == "cgroup2"))
    by_controller = {
        name: _best(host, (mount for mount in mounts if mount.type == "cgroup" and name in mount.options))
        for name in ("memory", "pids", "hugetlb")
    }
    memory = by_controller["memory"] or unified
    if memory is None:
        raise Unreadable(
            "no mounted cgroup hierarchy was found in /proc/self/mountinfo",
            "Mount the cgroup hierarchies, or name a copied tree with the option root.",
            exists=False,
        )
    mode = "v2" if memory is unified else "hybrid" if unified else "v1"
    beside = [mount for mount in (by_controller["pids"], by_controller["hugetlb"], unified) if mount]
    others = {_tree(host, mount) for mount in beside} - {_tree(host, memory)}
    return Hierarchies(mode, memory.point, _tree(host, memory), tuple(sorted(others)), run.live(host))


def _tree(host: run.Host, mount: _Mount) -> Tree:
    return Tree(2 if mount.type == "cgroup2" else 1, run.below(host, mount.point), mount.top)


_TELLING = {
    1: ("memory.usage_in_bytes", "memory.limit_in_bytes"),
    2: ("cgroup.controllers", "memory.max", "memory.current"),
}


def find_below(host: run.Host, root: str) -> Hierarchies:
    """The hierarchies of a tree at ``root``: one hierarchy's folder, or the folder that all v1 ones are in.

    Raises Unreadable where there is none.
    """
    folder = os.path.realpath(run.below(host, root))
    try:
        beneath = _folders(folder)
    except OSError as error:
        raise Unreadable(
            "{0} could not be read: {1}".format(root, run.reason(error)),
            "Name a folder in the option root that this user may read.",
            exists=error.errno != errno.ENOENT,
        ) from error
    memory = os.path.join(folder, "memory")
    if "memory" in beneath and not _tells(folder, 2) and _version(memory) == 1:
        parts = {os.path.join(folder, name) for name in beneath if _words(name) & {"pids", "hugetlb"}}
        unified = [Tree(2, os.path.join(folder, name), "") for name in beneath if name == "unified"]
        beside = [Tree(1, part, "") for part in sorted(parts - {memory})] + unified
        mode = "hybrid" if unified else "v1"
        return Hierarchies(mode, os.path.join(root, "memory"), Tree(1, memory, ""), tuple(beside), live=False)
    version = _version(folder)
    if version is None:
        raise Unreadable(
            "{0} holds no files of the memory controller".format(root),
            "Name the folder of a cgroup hierarchy in the option root, such as a copy of /sys/fs/cgroup.",
        )
    return Hierarchies("v{0}".format(version), root, Tree(version, folder, ""), (), live=False)


def _folders(folder: str) -> List[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def _tells(folder: str, version: int) -> bool:
    return any(os.path.lexists(os.path.join(folder, name)) for name in _TELLING[version])


def _version(top: str) -> Optional[int]:
    """The cgroup version of a tree, from the first of its folders that tells."""
    pending = [top]
    for folder in pending:  # grows meanwhile
        for version in _TELLING:
            if _tells(folder, version):
                return version
        if len(pending) < _MOST_PROBED:
            try:
                pending.extend(os.path.join(folder, name) for name in _folders(folder))
            except OSError:
                continue  # the walk will count it
    return None
