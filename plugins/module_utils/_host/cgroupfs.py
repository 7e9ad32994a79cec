# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every cgroup of a host, or of a copied tree, in one pass. Private to this collection.

Cgroups come and go while they are read. What is gone is counted, what may not be read is counted, nothing raises.
"""

import errno
import fnmatch
import os
import re
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Pattern,
    Sequence,
    Set,
    Tuple,
)

from .._oom.workload import identify
from . import cgroup_memory, run
from .cgroup_memory import Effective
from .coverage import Unreadable
from .hierarchies import Hierarchies, Tree, find, find_below

Namer = Callable[[Dict[str, Any]], Dict[str, Any]]

_MOST_NAMED = 10  # paths that the coverage lists

# -- One folder

_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW  # a copied tree may hold anything
_FOLDER = _FILE | os.O_DIRECTORY
_SCAN_BY_DESCRIPTOR = os.scandir in os.supports_fd  # since Python 3.7
_STEP = 2048  # bytes of a path that is opened at once where all of it is too long

_CHUNK = 65536
_MOST_CHUNKS = 512  # of a list of processes: the kernel's 4 million pids fit into 32 MiB

_GONE = (errno.ENOENT, errno.ENODEV)  # no such folder any more, or its files have lost their cgroup
_NOT_OFFERED = (errno.EOPNOTSUPP, errno.EINVAL)  # a threaded cgroup's processes; pressure that is switched off


class _Vanished(Exception):
    """The cgroup is gone, or going, or not all there yet."""


class _Notes:
    """What the walk learns on its way, for the coverage."""

    def __init__(self, version: int) -> None:
        self.never_seen: Set[str] = set(cgroup_memory.files(version)) | {cgroup_memory.PRESSURE}
        self.with_memory = 0
        self.without_memory = 0
        self.unreadable = 0
        self.first_unreadable: Optional[str] = None
        self.undelegated: List[str] = []

    def unread(self, path: str, error: OSError) -> None:
        """Count a file or folder that is there and cannot be read."""
        self.unreadable += 1
        if self.first_unreadable is None:
            self.first_unreadable = "{0}: {1}".format(path, run.reason(error))


class _Folder(NamedTuple):
    """What lies in one folder: names of child cgroups and of files, and the contents of the selected files."""

    children: List[str]
    names: List[str]
    raw: Dict[str, bytes]


def _look(folder: str, select: Callable[[List[str]], Iterable[str]], notes: _Notes) -> _Folder:
    """Read one folder. Raises _Vanished, and OSError where it cannot be opened."""
    try:
        descriptor = _open(folder)
        try:
            children, names = _list(descriptor)
            read = ((name, _content(name, descriptor, folder, notes)) for name in select(names))
            return _Folder(children, names, {name: data for name, data in read if data is not None})
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in _GONE:
            raise _Vanished from error
        raise


def _open(folder: str) -> int:
    try:
        return os.open(folder, _FOLDER)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    return _open_in_steps(folder)


def _open_in_steps(folder: str) -> int:
    """Open a folder by a path of more than PATH_MAX bytes: cgroups may be nested deeper than one path can say."""
    steps = ["/"]
    for part in folder.split("/"):
        if len(steps[-1]) > _STEP:
            steps.append(".")
        steps[-1] = os.path.join(steps[-1], part)
    descriptor = os.open(steps[0], _FOLDER)
    for step in steps[1:]:
        above = descriptor
        try:
            descriptor = os.open(step, _FOLDER, dir_fd=above)
        finally:
            os.close(above)
    return descriptor


def _list(descriptor: int) -> Tuple[List[str], List[str]]:
    """Names of the folders and of the other files in a folder."""
    place = descriptor if _SCAN_BY_DESCRIPTOR else "/proc/self/fd/{0}".format(descriptor)
    folders: List[str] = []
    names: List[str] = []
    with os.scandir(place) as entries:
        for entry in entries:
            (folders if entry.is_dir(follow_symlinks=False) else names).append(entry.name)
    return folders, names


def _content(name: str, descriptor: int, folder: str, notes: _Notes) -> Optional[bytes]:
    """What a file holds; None where it cannot be read. Raises OSError where its cgroup is gone."""
    try:
        file = os.open(name, _FILE, dir_fd=descriptor)
        try:
            # The kernel hands each of these out whole at one read, but a list of processes.
            return _everything(file) if name == cgroup_memory.PROCESSES else _whole_lines(os.read(file, _CHUNK))
        finally:
            os.close(file)
    except OSError as error:
        if error.errno in _GONE:
            raise
        if error.errno not in _NOT_OFFERED:
            notes.unread(os.path.join(folder, name), error)
    return None


def _everything(file: int) -> bytes:
    chunks: List[bytes] = []
    while len(chunks) < _MOST_CHUNKS:
        chunk = os.read(file, _CHUNK)
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks)


def _whole_lines(data: bytes) -> bytes:
    """Without the part of a line that was cut; no kernel file is as long, but one of a copied tree may be."""
    return data if len(data) < _CHUNK else data[: data.rfind(b"\n") + 1]


# -- The walk


class _Wish(NamedTuple):
    """Which cgroups are returned, and what of them."""

    patterns: Sequence[Tuple[bool, Pattern[str]]]
    kinds: FrozenSet[str]
    least: int
    with_stat: Sequence[str]
    with_pressure: bool
    name: Optional[Namer]


def read(
    host: run.Host,
    root: Optional[str] = None,
    patterns: Iterable[str] = (),
    kinds: Iterable[str] = (),
    min_usage_bytes: int = 0,
    with_stat: Sequence[str] = (),
    with_pressure: bool = False,
    name: Optional[Namer] = None,
) -> Tuple[Iterator[Dict[str, Any]], Dict[str, Any]]:
    """Stream the cgroups of a host, parents before their children, siblings by name.

    :arg root: a folder on the host to read instead of the host's own hierarchies: a copied tree, either version.
    :arg patterns: shell patterns. One with a slash is matched with the path, another with its last part.
    :arg kinds: kinds of ``_oom/workload.py``. None: all of them.
    :arg min_usage_bytes: leave out cgroups with a lower, or from 1 on an unknown, ``memory_current``.
    :arg with_stat: keys of memory.stat to return.
    :arg name: what fills the names into a workload, such as ``naming.namer``.
    :returns: cgroups with the keys of ``cgroup_memory.KEYS``, and the coverage, which is complete once the
        iterator is exhausted. Effective limits count every ancestor, also one that is not returned.

    Never raises for what a host has or lacks: the coverage says it.
    """
    coverage = _coverage()
    try:
        trees = find(host) if root is None else find_below(host, root)
    except Unreadable as problem:
        coverage["error"] = problem.error
        coverage["advice"] += [problem.advice] if problem.advice else []
        return iter(()), coverage
    pressure = (os.path.join(tree.folder, cgroup_memory.PRESSURE) for tree in trees.beside)
    coverage.update(mode=trees.mode, mount=trees.mount, psi=any(map(os.path.lexists, pressure)))
    if root is None:
        _look_around(host, trees, coverage)
    wish = _Wish(
        [("/" in each, re.compile(fnmatch.translate(each))) for each in patterns],
        frozenset(kinds),
        min_usage_bytes,
        tuple(with_stat),
        with_pressure,
        name,
    )
    return _walk(trees, wish, coverage), coverage


def _coverage() -> Dict[str, Any]:
    return {
        "mode": None,
        "mount": None,
        "namespaced": None,
        "cgroups_total": 0,
        "cgroups_returned": 0,
        "vanished": 0,
        "unreadable": 0,
        "swap_accounting": None,
        "memory_delegated": None,
        "undelegated": [],
        "psi": None,
        "kernel_files_missing": [],
        "error": None,
        "advice": [],
    }


_INITIAL_NAMESPACE = "cgroup:[4026531835]"  # include/linux/proc_ns.h: PROC_CGROUP_INIT_INO


def _look_around(host: run.Host, trees: Hierarchies, coverage: Dict[str, Any]) -> None:
    """What the files beside the hierarchies tell: pressure, and whether all of the host's cgroups can be seen."""
    coverage["psi"] = coverage["psi"] or run.read_bytes(host, "/proc/pressure/memory", 1) is not None
    namespace = None
    if run.live(host):
        try:
            namespace = os.readlink("/proc/self/ns/cgroup")
        except OSError:
            namespace = None  # a kernel before 4.6
    coverage["namespaced"] = bool(trees.memory.top) if namespace is None else namespace != _INITIAL_NAMESPACE
    if coverage["namespaced"]:
        coverage["advice"].append(
            "Only the cgroups of this container can be seen, and no limit above it; run on the host itself to see all."
        )


def _walk(trees: Hierarchies, wish: _Wish, coverage: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    version, folder, top = trees.memory
    notes = _Notes(version)
    everything = _selector(cgroup_memory.wanted(version, wish.with_stat, wish.with_pressure))
    limits = _selector(cgroup_memory.INHERITED[version], hugetlb=False)
    # Parts of paths below the top, the limit from above, and whether the kernel must have given them usage.
    pending = [("", _hidden(trees.memory), False)]
    while pending:
        below, inherited, sure = pending.pop()
        path = top + below or "/"
        workload = identify(path)
        matches = _matches(path, workload, wish)
        try:
            found = _look(folder + below, everything if matches else limits, notes)
            if sure and cgroup_memory.USAGE[version] not in found.names:
                raise _Vanished("it is about to go, or to come: the kernel adds and removes the files one by one")
        except _Vanished:
            coverage["vanished"] += 1
            continue
        except OSError as error:
            notes.unread(folder + below, error)
            continue
        coverage["cgroups_total"] += 1
        bound = cgroup_memory.effective(path, _limit(version, found.raw), inherited)
        handed_down = cgroup_memory.handed_down(found.raw, bound)
        sure = trees.live and cgroup_memory.controls_children(version, found.raw)
        pending.extend((below + "/" + child, handed_down, sure) for child in sorted(found.children, reverse=True))
        _note(path, workload, version, found.names, notes)
        if not matches or _usage(version, found.raw) < wish.least:
            continue
        for tree in trees.beside:
            found.raw.update(_beside(tree, path, wish, notes))
        coverage["cgroups_returned"] += 1
        cgroup = cgroup_memory.describe(version, found.raw, bound, wish.with_stat)
        cgroup.update(
            path=path,
            depth=0 if path == "/" else path.count("/"),
            kind=workload["kind"],
            workload=wish.name(workload) if wish.name else workload,
        )
        yield cgroup
    _conclude(version, notes, coverage)


def _selector(wanted: FrozenSet[str], hugetlb: bool = True) -> Callable[[List[str]], List[str]]:
    """A choice among the names in a folder. Sizes of huge pages differ, so hugetlb's files are known by shape."""

    def select(names: List[str]) -> List[str]:
        return [
            name
            for name in names
            if name in wanted or (hugetlb and name.startswith("hugetlb.") and cgroup_memory.hugetlb_file(name))
        ]

    return select


def _hidden(tree: Tree) -> Effective:
    """The limit that an ancestor out of sight sets for the top: v1's memory.stat tells it, v2 does not."""
    if tree.version == 2:
        return Effective()
    notes = _Notes(tree.version)  # of no interest: the walk will read the top again
    try:
        raw = _look(tree.folder, _selector(frozenset((cgroup_memory.STAT,)), hugetlb=False), notes).raw
    except (_Vanished, OSError):
        return Effective()
    return Effective(cgroup_memory.hidden_limit(raw.get(cgroup_memory.STAT, b"")), None)


def _matches(path: str, workload: Dict[str, Any], wish: _Wish) -> bool:
    if wish.kinds and workload["kind"] not in wish.kinds:
        return False
    last = path.rpartition("/")[2]
    return not wish.patterns or any(pattern.match(path if whole else last) for whole, pattern in wish.patterns)


def _limit(version: int, raw: Dict[str, bytes]) -> Optional[int]:
    return cgroup_memory.limit(raw.get(cgroup_memory.LIMIT[version], b""))


def _usage(version: int, raw: Dict[str, bytes]) -> int:
    return cgroup_memory.number(raw.get(cgroup_memory.USAGE[version], b"")) or 0


def _beside(tree: Tree, path: str, wish: _Wish, notes: _Notes) -> Dict[str, bytes]:
    """What another hierarchy says of the cgroup of the same path; nothing where it has none."""
    if not (path + "/").startswith(tree.top + "/"):
        return {}
    folder = tree.folder + path[len(tree.top) :].rstrip("/")
    try:
        return _look(folder, _selector(cgroup_memory.beside(wish.with_pressure)), notes).raw
    except _Vanished:
        return {}
    except OSError as error:
        notes.unread(folder, error)
        return {}


# -- What was learnt


def _note(path: str, workload: Dict[str, Any], version: int, names: List[str], notes: _Notes) -> None:
    if notes.never_seen:
        notes.never_seen.difference_update(names)
    if path == "/":
        return  # v2's root has no files of the memory controller's limits
    if cgroup_memory.USAGE[version] in names:
        notes.with_memory += 1
        return
    notes.without_memory += 1
    # The cgroups inside of a container need no memory controller of their own.
    parent = path.rpartition("/")[0] or "/"
    if workload["kind"] == "container" and _whose(identify(parent)) != _whose(workload):
        notes.undelegated.append(parent)


def _whose(workload: Dict[str, Any]) -> Tuple[Any, ...]:
    return workload["engine"], workload["id"], workload["name"]


def _conclude(version: int, notes: _Notes, coverage: Dict[str, Any]) -> None:
    """Fill in the part of the coverage that is known only after the walk."""
    never_seen = notes.never_seen
    coverage["unreadable"] = notes.unreadable
    coverage["psi"] = coverage["psi"] or cgroup_memory.PRESSURE not in never_seen
    if notes.with_memory:
        coverage["swap_accounting"] = cgroup_memory.SWAP[version] not in never_seen
        coverage["kernel_files_missing"] = sorted(never_seen - {cgroup_memory.PRESSURE})
    if notes.with_memory or notes.without_memory:
        coverage["memory_delegated"] = bool(notes.with_memory) and not notes.undelegated
    coverage["undelegated"] = sorted(set(notes.undelegated))[:_MOST_NAMED]
    coverage["advice"] += _advice(notes)


def _advice(notes: _Notes) -> Iterator[str]:
    if notes.unreadable:
        yield (
            "{0} files of cgroups could not be read, first {1}; run the task with become: true.".format(
                notes.unreadable, notes.first_unreadable
            )
        )
    if notes.undelegated:
        yield (
            "The memory controller is not enabled for {0} containers, first below {1}, so they have neither usage nor "
            "limit; set Delegate=memory pids in the unit above them.".format(
                len(notes.undelegated), notes.undelegated[0]
            )
        )
    elif notes.without_memory and not notes.with_memory:
        yield (
            "No cgroup has the memory controller; boot without cgroup_disable=memory, on a Raspberry Pi with "
            "cgroup_enable=memory, or write +memory to cgroup.subtree_control of the top cgroup."
        )
