# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One safe, real OOM kill: a process with a small limit of its own allocates until the kernel kills it.

Order of things: refuse first (nothing touched), make the cgroup, start the process, see in the kernel's own file that
its limit holds, only then let it allocate. Whatever happens after the first step, the last one takes all away again.
"""

import os
import re
import select
import signal
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .._oom import events as _events

COMM = "oom-drill"
MIB = 1 << 20
LEAST_LIMIT = 16 * MIB
LARGEST_LIMIT = 64 * MIB
LONGEST_TIMEOUT = 120
NEEDED_AVAILABLE = 512 * MIB
SOURCES = ("journal", "kmsg", "files")
SEARCH_SECONDS = 5.0
# The process gives up at this multiple of its limit, killed or not.
_GIVE_UP = 4
_START_SECONDS = 20.0
_CLEAN_SECONDS = 5.0
_POLL_SECONDS = 0.05
# The wall time of a ring buffer record drifts by what the host slept since boot. The pid tells the kill, not the time.
_SINCE_MARGIN = 3600.0
_MAX_TASKS = 5
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# Exit status of the process that allocates, where the kernel did not kill it.
EXITS = {
    3: "it reached {0} times its limit".format(_GIVE_UP),
    4: "its time was over",
    5: "it was told to leave before it allocated",
}

# Waits for its parent to look at its cgroup before it allocates; leaves by itself when the parent is gone.
# MAP_PRIVATE: Python's default for anonymous memory is shared, which the kernel accounts as tmpfs.
_ALLOCATE = r"""
import mmap, os, sys, time
procs, limit, times, seconds, comm = sys.argv[1:6]
parent, deadline = os.getppid(), time.monotonic() + float(seconds)
def put(path, text):
    with open(path, 'w') as stream:
        stream.write(text)
if procs:
    put(procs, str(os.getpid()))
put('/proc/self/oom_score_adj', '1000')
put('/proc/self/comm', comm)
sys.stdout.write('ready\n')
sys.stdout.flush()
if sys.stdin.readline() != 'go\n':
    sys.exit(5)
size = int(limit) * int(times)
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for offset in range(0, size, mmap.PAGESIZE):
    memory[offset] = 1
    if time.monotonic() > deadline or os.getppid() != parent:
        sys.exit(4)
sys.exit(3)
"""


class DrillError(Exception):
    """The drill was refused, or could not be done. The message is for the user: what was tried, found, what to do."""


class _InterruptedError(Exception):
    pass


class Hierarchy(NamedTuple):
    """Where the memory controller is. ``prefix`` is the cgroup that stands at the mount's root ('' = the root)."""

    version: int
    mount: str
    prefix: str


class Plan(NamedTuple):
    """A drill that was found safe."""

    hierarchy: Hierarchy
    systemd: bool
    name: str
    limit: int
    timeout: float


class _Files(NamedTuple):
    """The files of one cgroup version: names, the keys of the counters in them.

    ``swap``: files to write, with (times the limit, plus bytes). ``property``: the limit's name in systemd.
    """

    limit: str
    usage: str
    cache: str
    swap: Sequence[Tuple[str, int, int]]
    kills: Tuple[str, Optional[str]]
    hits: Tuple[str, Optional[str]]
    property: str


_FILES = {
    # Swappiness 0 keeps a v1 cgroup off swap altogether. memsw (memory and swap together; absent without swap
    # accounting) bounds it once more, one MiB above, so that memory.failcnt is what counts the hits.
    1: _Files(
        limit="memory.limit_in_bytes",
        usage="memory.usage_in_bytes",
        cache="total_inactive_file",
        swap=(("memory.swappiness", 0, 0), ("memory.memsw.limit_in_bytes", 1, MIB)),
        kills=("memory.oom_control", "oom_kill"),
        hits=("memory.failcnt", None),
        # systemd knows MemoryMax= since 231; MemoryLimit= is what every version maps to cgroup v1.
        property="MemoryLimit",
    ),
    2: _Files(
        limit="memory.max",
        usage="memory.current",
        cache="inactive_file",
        swap=(("memory.swap.max", 0, 0),),
        kills=("memory.events", "oom_kill"),
        hits=("memory.events", "max"),
        property="MemoryMax",
    ),
}  # type: Dict[int, _Files]


def _at(root: str, path: str) -> str:
    return os.path.join(root, path.lstrip("/"))


def _read(path: str) -> Optional[str]:
    """The text of a small kernel file, null where it does not exist or cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError:
        return None


def _number(path: str, key: Optional[str] = None) -> Optional[int]:
    """A number of a kernel file: the whole content, or the second column of the line that starts with ``key``."""
    for line in (_read(path) or "").splitlines():
        words = line.replace(":", " ").split()
        value = words[0] if words and key is None else words[1] if len(words) > 1 and words[0] == key else ""
        if value.isdigit():
            return int(value)
    return None


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)


# -- Refusals: everything in this part only reads


def _unescape_mount(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def _mounts(root: str) -> List[Hierarchy]:
    """Mounted hierarchies that hold the memory controller, as /proc/self/mountinfo (proc(5)) lists them."""
    found = []
    for line in (_read(_at(root, "proc/self/mountinfo")) or "").splitlines():
        left, _dash, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if len(before) < 5 or len(after) < 3:
            continue
        mount, prefix = _unescape_mount(before[4]), _unescape_mount(before[3]).rstrip("/")
        if after[0] == "cgroup" and "memory" in after[2].split(","):
            found.append(Hierarchy(1, mount, prefix))
        controllers = _read(_at(root, mount + "/cgroup.controllers")) if after[0] == "cgroup2" else ""
        if "memory" in (controllers or "").split():
            found.append(Hierarchy(2, mount, prefix))
    return found


def _hierarchy(root: str) -> Hierarchy:
    mounts = _mounts(root)
    if not mounts:
        raise DrillError(
            "Looked in /proc/self/mountinfo for a cgroup hierarchy with the memory controller and found none; "
            "mount one, or boot without cgroup_disable=memory."
        )
    # A mount of the hierarchy's own root, where there is one, shows the names that the kernel logs.
    return min(mounts, key=lambda mount: len(mount.prefix))


def _check_options(limit: int, timeout: float) -> None:
    if not LEAST_LIMIT <= limit <= LARGEST_LIMIT:
        raise DrillError(
            "limit: {0} bytes is out of range; a drill takes 16 MiB ({1}) to 64 MiB ({2}).".format(
                limit, LEAST_LIMIT, LARGEST_LIMIT
            )
        )
    if not 1 <= timeout <= LONGEST_TIMEOUT:
        raise DrillError(
            "timeout: {0} seconds is out of range; a drill takes 1 to {1} seconds.".format(timeout, LONGEST_TIMEOUT)
        )


def _check_host(root: str) -> None:
    if os.geteuid() != 0:
        raise DrillError(
            "A drill makes a cgroup, which only root may do, and this user is uid {0}; run the task with become: "
            "true.".format(os.geteuid())
        )
    available = _number(_at(root, "proc/meminfo"), "MemAvailable")
    if available is None or available * 1024 < NEEDED_AVAILABLE:
        raise DrillError(
            "Read MemAvailable from /proc/meminfo before the drill and found {0}; at least 512 MiB must be available, "
            "try again when the host has more free memory.".format(
                "no number" if available is None else "{0} MiB".format(available // 1024)
            )
        )
    if _number(_at(root, "proc/sys/vm/panic_on_oom")) == 2:
        raise DrillError(
            "Read vm.panic_on_oom before the drill and found 2, with which the kill of a drill would panic the host; "
            "set it to 0 or 1 first."
        )


def _headroom(folder: str, version: int) -> Optional[int]:
    """Bytes below the limit of the cgroup at the mount's root, cache that yields at once not counted; null if none."""
    files = _FILES[version]
    limit, usage = (_number(os.path.join(folder, name)) for name in (files.limit, files.usage))
    cache = _number(os.path.join(folder, "memory.stat"), files.cache) or 0
    return None if limit is None or usage is None else limit - usage + cache


def _check_hierarchy(root: str, hierarchy: Hierarchy, systemd: bool) -> None:
    folder = _at(root, hierarchy.mount)
    if _number(os.path.join(folder, "memory.oom_control"), "oom_kill_disable") == 1:
        raise DrillError(
            "Read {0}/memory.oom_control and found oom_kill_disable 1, with which a process at its limit waits "
            "for ever instead of being killed; write 0 to it first.".format(hierarchy.mount)
        )
    headroom = _headroom(folder, hierarchy.version)
    if headroom is not None and headroom < _GIVE_UP * LARGEST_LIMIT:
        raise DrillError(
            "Compared limit and usage of {0} and found {1} MiB of room; with less than {2} MiB the drill could hit "
            "the limit of others, give the surrounding container more memory.".format(
                hierarchy.mount, headroom // MIB, _GIVE_UP * LARGEST_LIMIT // MIB
            )
        )
    if systemd:
        return
    if not os.access(folder, os.W_OK):
        raise DrillError(
            "A drill needs a cgroup below {0}, which is mounted read-only; run it on the host itself, not in a "
            "container.".format(hierarchy.mount)
        )
    enabled = (_read(os.path.join(folder, "cgroup.subtree_control")) or "").split()
    if hierarchy.version == 2 and "memory" not in enabled:
        raise DrillError(
            "Read {0}/cgroup.subtree_control and found no memory in it, so that a new cgroup has no limit; enable it "
            "with: echo +memory > {0}/cgroup.subtree_control".format(hierarchy.mount)
        )


def plan(root: str, limit: int, timeout: float) -> Plan:
    """Decide where and how the drill runs; nothing is touched.

    :arg root: the filesystem root, ``/`` but in tests.
    :arg limit: bytes, 16 to 64 MiB.
    :arg timeout: seconds that the process has, 1 to 120.
    :raises DrillError: where a drill would not be safe, or could not be made; the message is one sentence.
    """
    _check_options(limit, timeout)
    _check_host(root)
    systemd = os.path.isdir(_at(root, "run/systemd/system"))
    hierarchy = _hierarchy(root)
    _check_hierarchy(root, hierarchy, systemd)
    name = "oom-forensics-drill-{0}".format(os.urandom(4).hex())
    return Plan(hierarchy, systemd, name, limit, timeout)


# -- The drill


def scope_argv(drill: Plan) -> List[str]:
    """The systemd-run command that puts what follows it into a transient scope with the limit."""
    properties = ["{0}={1}".format(_FILES[drill.hierarchy.version].property, drill.limit)]
    if drill.hierarchy.version == 2:
        properties.append("MemorySwapMax=0")
    argv = ["systemd-run", "--scope", "--quiet", "--unit", drill.name + ".scope"]
    for text in properties:
        argv += ["-p", text]
    return argv + ["--"]


def _argv(drill: Plan, procs: str) -> List[str]:
    prefix = scope_argv(drill) if drill.systemd else []
    arguments = [procs, str(drill.limit), str(_GIVE_UP), str(drill.timeout), COMM]
    return prefix + [sys.executable or "/usr/bin/python3", "-I", "-S", "-c", _ALLOCATE] + arguments


def _start(drill: Plan, procs: str) -> "subprocess.Popen[bytes]":
    argv = _argv(drill, procs)
    pipe = subprocess.PIPE
    try:
        # Not run_command, which waits: the drill watches the process while it is killed, and ends it by its pid.
        return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)  # pylint: disable=ansible-bad-function
    except OSError as error:
        raise DrillError("Started {0} for the drill and got: {1}; install it.".format(argv[0], error)) from error


def _wait_ready(process: "subprocess.Popen[bytes]") -> None:
    stream = process.stdout
    if stream is None or process.stderr is None:
        raise DrillError("The drill's process was started without pipes.")
    readable = select.select([stream], [], [], _START_SECONDS)[0]
    if readable and os.read(stream.fileno(), 64) == b"ready\n":
        return
    process.kill()
    process.wait()
    lines = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
    raise DrillError(
        "Started the process of the drill in its cgroup and it did not get ready: {0}.".format(
            lines[-1].rstrip(".") if lines else "no answer within {0:.0f} s".format(_START_SECONDS)
        )
    )


def _cgroup_of(pid: int, version: int) -> Optional[str]:
    """The memory cgroup of a process, as the kernel logs it (cgroups(7): hierarchy-id:controllers:path)."""
    for line in (_read("/proc/{0}/cgroup".format(pid)) or "").splitlines():
        number, _colon, rest = line.partition(":")
        controllers, _colon, path = rest.partition(":")
        if ("memory" in controllers.split(",")) if version == 1 else number == "0":
            return path
    return None


def _folder_of(cgroup: str, hierarchy: Hierarchy) -> str:
    inside = cgroup[len(hierarchy.prefix) :] if cgroup.startswith(hierarchy.prefix + "/") else cgroup
    return hierarchy.mount + inside


def _forbid_swap(folder: str, drill: Plan) -> None:
    """With swap a process at its limit would be slow instead of dead. A kernel without the file accounts no swap."""
    for name, limits, more in _FILES[drill.hierarchy.version].swap:
        try:
            _write(os.path.join(folder, name), str(drill.limit * limits + more))
        except OSError:
            continue


def _make_cgroup(folder: str, drill: Plan) -> None:
    try:
        os.mkdir(folder)
        _write(os.path.join(folder, _FILES[drill.hierarchy.version].limit), str(drill.limit))
    except OSError as error:
        raise DrillError(
            "Made a cgroup with a limit for the drill and got: {0}; run it on the host itself, as root.".format(error)
        ) from error


def _check_limit(folder: str, drill: Plan) -> None:
    """The process may allocate only where the kernel itself says that the limit holds."""
    name = os.path.join(folder, _FILES[drill.hierarchy.version].limit)
    limit = _number(name)
    if limit is None or limit > drill.limit:
        raise DrillError(
            "Set a limit of {0} bytes for the drill, but {1} says {2}; the drill was stopped before it "
            "allocated.".format(drill.limit, name, limit)
        )
    if _number(os.path.join(folder, "memory.oom_control"), "oom_kill_disable") == 1:
        raise DrillError(
            "Made {0} for the drill, and it inherited oom_kill_disable 1; the drill was stopped before it allocated, "
            "write 0 to memory.oom_control of its parent.".format(folder)
        )


def _counters(folder: Optional[str], version: int) -> Dict[str, Optional[int]]:
    files = _FILES[version]
    counters = {"kernel_counter": _number("/proc/vmstat", "oom_kill")}  # type: Dict[str, Optional[int]]
    for key, (name, column) in (("oom_kill", files.kills), ("failcnt", files.hits)):
        counters[key] = _number(os.path.join(folder, name), column) if folder else None
    return counters


def _was_killed(status: Optional[int], before: Dict[str, Optional[int]], after: Dict[str, Optional[int]]) -> bool:
    """SIGKILL and a kernel that counted a kill meanwhile; kernels before 4.13 do not count."""
    counted = [after[key] for key in ("kernel_counter",) if after[key] is not None]
    return status == -signal.SIGKILL and (not counted or (counted[0] or 0) > (before["kernel_counter"] or 0))


def _allocate(drill: Plan, process: "subprocess.Popen[bytes]", result: Dict[str, Any]) -> None:
    """Let the process go, wait for its end, and note what the kernel counted."""
    version = drill.hierarchy.version
    cgroup = _cgroup_of(process.pid, version)
    if cgroup is None:
        raise DrillError("Read /proc/{0}/cgroup and found no memory cgroup in it.".format(process.pid))
    folder = _folder_of(cgroup, drill.hierarchy)
    result.update(pid=process.pid, cgroup=cgroup, folder=folder)
    _forbid_swap(folder, drill)
    _check_limit(folder, drill)
    result["counters_before"] = _counters(folder, version)
    start = time.monotonic()
    try:
        process.communicate(b"go\n", timeout=drill.timeout + 2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        result["timed_out"] = True
    result["ended"] = time.monotonic()
    result["seconds"] = round(result["ended"] - start, 6)
    result["counters_after"] = _counters(folder, version)
    status = process.returncode
    result["signal"] = -status if status < 0 else None
    result["exit_status"] = status if status >= 0 else None
    killed = not result["timed_out"] and _was_killed(status, result["counters_before"], result["counters_after"])
    result["killed"] = killed


def _end_processes(folder: str) -> None:
    """Kill what is in the drill's own cgroup: a signal may have come before the process was known here."""
    for word in (_read(os.path.join(folder, "cgroup.procs")) or "").split():
        try:
            os.kill(int(word), signal.SIGKILL)
        except ProcessLookupError:
            continue


def _remove(folder: str) -> bool:
    """Remove the drill's cgroup; its last process may need a moment to leave it."""
    deadline = time.monotonic() + _CLEAN_SECONDS
    while os.path.isdir(folder):
        _end_processes(folder)
        try:
            os.rmdir(folder)
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
    return True


def _forget_scope(drill: Plan) -> None:
    """A scope that the OOM killer ended stays in the list of failed units until it is reset."""
    for verb in ("stop", "reset-failed"):
        try:
            subprocess.run(  # pylint: disable=ansible-bad-function
                ["systemctl", verb, drill.name + ".scope"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_CLEAN_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue


def _clean(drill: Plan, process: Optional["subprocess.Popen[bytes]"], folder: Optional[str]) -> bool:
    """Take everything away that the drill made. True where nothing of it is left."""
    if process is not None:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    if drill.systemd:
        _forget_scope(drill)
    return folder is None or _remove(folder)


def _hold_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, _frame: Any) -> None:
    # Once is enough: a second signal would interrupt the cleaning up.
    _hold_signals()
    raise _InterruptedError("The drill was interrupted by signal {0}".format(number))


class _Signals:
    """Signals that end a process raise while the drill runs, and are ignored while it cleans up."""

    def __enter__(self) -> "_Signals":
        self._before = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
        return self

    def __exit__(self, *_error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _empty() -> Dict[str, Any]:
    return {
        "pid": None,
        "cgroup": None,
        "folder": None,
        "killed": False,
        "timed_out": False,
        "signal": None,
        "exit_status": None,
        "seconds": None,
        "ended": None,
        "counters_before": None,
        "counters_after": None,
        "cleaned_up": False,
    }


def kill(drill: Plan) -> Dict[str, Any]:
    """Run the drill and clean up. Needs the real root: a kernel has no other.

    :returns: pid, cgroup (as the kernel logs it), folder, killed, timed_out, signal, exit_status, seconds, ended
        (monotonic seconds), counters_before, counters_after, cleaned_up.
    :raises DrillError: also where a signal interrupted it; everything is cleaned up then, or the message says what
        is left.
    """
    result = _empty()
    process = None
    result["folder"] = None if drill.systemd else "{0}/{1}".format(drill.hierarchy.mount, drill.name)
    problem = None
    with _Signals():
        try:
            try:
                if not drill.systemd:
                    _make_cgroup(result["folder"], drill)
                process = _start(drill, result["folder"] + "/cgroup.procs" if result["folder"] else "")
                _wait_ready(process)
                _allocate(drill, process, result)
            finally:
                # Inside the outer try, so that a signal at this very moment still ends in the cleaning up.
                _hold_signals()
        except _InterruptedError as error:
            problem = "{0}; run it again.".format(error)
        except DrillError as error:
            problem = str(error)
        finally:
            result["cleaned_up"] = _clean(drill, process, result["folder"])
    if problem:
        left = "" if result["cleaned_up"] else " The cgroup {0} is left; remove it with rmdir.".format(result["folder"])
        raise DrillError(problem + left)
    return result


# -- Did the host's logs, and this collection, see it?


def _is_kill_of(event: Dict[str, Any], pid: int) -> bool:
    return any(victim.get("pid") == pid and victim.get("comm") == COMM for victim in event.get("victims") or [])


def _row(source: str) -> Dict[str, Any]:
    return {"source": source, "path": None, "found": False, "milliseconds": None, "event_id": None, "error": None}


def _note(row: Dict[str, Any], event: Dict[str, Any], ended: float) -> None:
    paths = [origin.get("path") for origin in event.get("origins") or []]
    row.update(
        found=True,
        path=next((path for path in paths if path), row["path"]),
        milliseconds=int((time.monotonic() - ended) * 1000),
        event_id=event.get("id"),
        error=None,
    )


def _look_again(row: Dict[str, Any], collected: Dict[str, Any]) -> bool:
    """Note what the coverage says about a source where the kill is not; False where looking again is useless."""
    rows = collected["coverage"]["sources"]
    errors = [part["error"] for part in rows if part.get("error")]
    row["path"] = next((part["path"] for part in rows if part.get("path")), None)
    row["error"] = errors[0] if errors else None
    return any(part.get("available") for part in rows)


def search(
    collect: Callable[..., Dict[str, Any]],
    pid: int,
    ended: float,
    sources: Sequence[str] = ("auto",),
    seconds: float = SEARCH_SECONDS,
) -> Dict[str, Any]:
    """Poll every log source until it shows the kill of ``pid`` or ``seconds`` pass.

    :arg collect: ``collect_events`` with its host already given.
    :arg ended: monotonic seconds at the process's end; milliseconds count from there.
    :returns: ``found``, a row for each source, and ``event``, the kill as parsed, its sources merged; null if unseen.
    """
    wanted = [source for source in SOURCES if "auto" in sources or source in sources]
    rows = {source: _row(source) for source in wanted}
    since = time.time() - _SINCE_MARGIN
    seen = []  # type: List[Dict[str, Any]]
    pending = list(wanted)
    while pending:
        for source in list(pending):
            collected = collect(sources=(source,), since=since, boots="current", max_tasks=_MAX_TASKS)
            hit = next((event for event in collected["events"] if _is_kill_of(event, pid)), None)
            if hit is not None:
                _note(rows[source], hit, ended)
                seen.append(hit)
            if hit is not None or not _look_again(rows[source], collected):
                pending.remove(source)
        if time.monotonic() - ended > seconds:
            break
        if pending:
            time.sleep(_POLL_SECONDS)
    merged = _events.merge(seen)
    return {"found": [rows[source] for source in wanted], "event": merged[0] if merged else None}


def summary(result: Dict[str, Any]) -> str:
    """One line for people about a drill and its search."""
    who = "pid {pid} in {cgroup} with a limit of {limit_bytes} bytes".format(**result)
    if not result["killed"]:
        why = EXITS.get(result["exit_status"], "signal {0}".format(result["signal"]))
        return "{0} was not killed by the kernel: {1}".format(who, why)
    seen = ["{source} after {milliseconds} ms".format(**row) for row in result["found"] if row["found"]]
    return "{0} was killed; found in {1}".format(who, ", ".join(seen) or "no log source")
