# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One safe, real OOM kill: a process with a small limit of its own allocates until the kernel kills it. Private.

Order of things: refuse first (drill_plan, which touches nothing), make the cgroup, start the process, see in the
kernel's own file that its limit holds, only then let it allocate. Whatever happens after the first step, the last one
takes all away again.
"""

import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional

from .drill_files import FILES, number, read
from .drill_plan import GIVE_UP, DrillError, Plan
from .hierarchies import Tree

COMM = "oom-drill"
_START_SECONDS = 20.0
_CLEAN_SECONDS = 5.0
_POLL_SECONDS = 0.05
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# Exit status of the process that allocates, where the kernel did not kill it.
EXITS = {
    3: "it reached {0} times its limit".format(GIVE_UP),
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


class _InterruptedError(Exception):
    pass


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)


def scope_argv(drill: Plan) -> List[str]:
    """The systemd-run command that puts what follows it into a transient scope with the limit."""
    properties = ["{0}={1}".format(FILES[drill.hierarchy.version].property, drill.limit)]
    if drill.hierarchy.version == 2:
        properties.append("MemorySwapMax=0")
    argv = ["systemd-run", "--scope", "--quiet", "--unit", drill.name + ".scope"]
    for text in properties:
        argv += ["-p", text]
    return argv + ["--"]


def _argv(drill: Plan, procs: str) -> List[str]:
    prefix = scope_argv(drill) if drill.systemd else []
    arguments = [procs, str(drill.limit), str(GIVE_UP), str(drill.timeout), COMM]
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
    for line in (read("/proc/{0}/cgroup".format(pid)) or "").splitlines():
        number, _colon, rest = line.partition(":")
        controllers, _colon, path = rest.partition(":")
        if ("memory" in controllers.split(",")) if version == 1 else number == "0":
            return path
    return None


def _folder_of(cgroup: str, hierarchy: Tree) -> str:
    inside = cgroup[len(hierarchy.top) :] if cgroup.startswith(hierarchy.top + "/") else cgroup
    return hierarchy.folder + inside


def _forbid_swap(folder: str, drill: Plan) -> None:
    """With swap a process at its limit would be slow instead of dead. A kernel without the file accounts no swap."""
    for name, limits, more in FILES[drill.hierarchy.version].swap:
        try:
            _write(os.path.join(folder, name), str(drill.limit * limits + more))
        except OSError:
            continue


def _make_cgroup(folder: str, drill: Plan) -> None:
    try:
        os.mkdir(folder)
        _write(os.path.join(folder, FILES[drill.hierarchy.version].limit), str(drill.limit))
    except OSError as error:
        raise DrillError(
            "Made a cgroup with a limit for the drill and got: {0}; run it on the host itself, as root.".format(error)
        ) from error


def _check_limit(folder: str, drill: Plan) -> None:
    """The process may allocate only where the kernel itself says that the limit holds."""
    name = os.path.join(folder, FILES[drill.hierarchy.version].limit)
    limit = number(name)
    if limit is None or limit > drill.limit:
        raise DrillError(
            "Set a limit of {0} bytes for the drill, but {1} says {2}; the drill was stopped before it "
            "allocated.".format(drill.limit, name, limit)
        )
    if number(os.path.join(folder, "memory.oom_control"), "oom_kill_disable") == 1:
        raise DrillError(
            "Made {0} for the drill, and it inherited oom_kill_disable 1; the drill was stopped before it allocated, "
            "write 0 to memory.oom_control of its parent.".format(folder)
        )


def _counters(folder: Optional[str], version: int) -> Dict[str, Optional[int]]:
    files = FILES[version]
    counters: Dict[str, Optional[int]] = {"kernel_counter": number("/proc/vmstat", "oom_kill")}
    for key, (name, column) in (("oom_kill", files.kills), ("failcnt", files.hits)):
        counters[key] = number(os.path.join(folder, name), column) if folder else None
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
    for word in (read(os.path.join(folder, "cgroup.procs")) or "").split():
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
    for signum in _SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def _interrupt(signum: int, _frame: Any) -> None:
    # Once is enough: a second signal would interrupt the cleaning up.
    _hold_signals()
    raise _InterruptedError("The drill was interrupted by signal {0}".format(signum))


class _Signals:
    """Signals that end a process raise while the drill runs, and are ignored while it cleans up."""

    def __enter__(self) -> "_Signals":
        self._before = {signum: signal.signal(signum, _interrupt) for signum in _SIGNALS}
        return self

    def __exit__(self, *_error: Any) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)


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
    result["folder"] = None if drill.systemd else "{0}/{1}".format(drill.hierarchy.folder, drill.name)
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
