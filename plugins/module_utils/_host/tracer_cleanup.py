# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes away what a trace has made on a host, whatever happens to the tracing process. Private to this collection.

A keeper, a forked process in a session of its own, knows what was made. It takes that away when the process that
traces is gone without having said that nothing is left: killed with SIGKILL, as Ansible does with an overdue
asynchronous task, or crashed. Where the keeper is killed as well (a service's cgroup), what is left is an ftrace
instance that fills a small buffer; the next trace removes it, since its name tells that its owner is gone.
"""

import errno
import os
import re
import signal
import time
from typing import List, NamedTuple, Optional

INSTANCE = "oom-forensics-{0}-{1}"
_INSTANCE = re.compile(r"oom-forensics-(\d{1,10})-(\d{1,20})")
_INTERRUPT_SECONDS = 3.0  # a tool that compiles does not notice SIGINT at once
_TERMINATE_SECONDS = 2.0
_REMOVE_SECONDS = 5.0
_POLL_SECONDS = 0.02


class Process(NamedTuple):
    """A process that is known for sure: its number and when it started (clock ticks since boot)."""

    pid: int
    started: int


def process(pid: int) -> Optional[Process]:
    """The running process of this number; None where there is none, or only what its parent has not collected yet."""
    try:
        with open("/proc/{0}/stat".format(pid), "rb") as stream:
            words = stream.read().rpartition(b")")[2].split()
    except OSError:
        return None
    # proc(5): state is the third field, starttime the 22nd; the first two stand before the last bracket.
    return Process(pid, int(words[19])) if len(words) > 19 and words[0] not in (b"Z", b"X") else None


def runs(one: Process) -> bool:
    return process(one.pid) == one


def end(one: Process) -> bool:
    """End a process gently, then not: SIGINT lets a tracer remove its probe itself. True where it is gone."""
    for number, seconds in (
        (signal.SIGINT, _INTERRUPT_SECONDS),
        (signal.SIGTERM, _TERMINATE_SECONDS),
        (signal.SIGKILL, _TERMINATE_SECONDS),
    ):
        if not _send(one, number):
            return not runs(one)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            _collect(one.pid)
            if not runs(one):
                return True
            time.sleep(_POLL_SECONDS)
    return not runs(one)


def _send(one: Process, number: int) -> bool:
    if not runs(one):
        return False
    try:
        os.kill(one.pid, number)
    except OSError:
        return False
    return True


def _collect(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except OSError:
        return


def write(path: str, text: str) -> Optional[OSError]:
    """Write to a kernel file; returns the error instead of raising it."""
    try:
        with open(path, "w", encoding="ascii") as stream:
            stream.write(text)
    except OSError as error:
        return error
    return None


def remove_instance(path: str) -> bool:
    """Switch an ftrace instance off and remove it. True where it is gone. It is busy while somebody reads it."""
    write(os.path.join(path, "events/enable"), "0")
    deadline = time.monotonic() + _REMOVE_SECONDS
    while True:
        error = _rmdir(path)
        if error is None or error.errno == errno.ENOENT:
            return True
        if error.errno not in (errno.EBUSY, errno.EINTR, errno.EAGAIN) or time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)


def sweep(folder: str) -> int:
    """Remove the instances that killed traces have left in a tracefs; returns how many.

    An owner in another process namespace looks as if it were gone. So nothing is written: the kernel refuses to remove
    an instance that somebody reads (kernel/trace/trace.c, __remove_instance), and switches off itself what it removes.
    """
    removed = 0
    try:
        names = os.listdir(os.path.join(folder, "instances"))
    except OSError:
        return 0
    for name in names:
        owner = _INSTANCE.fullmatch(name)
        if owner and not runs(Process(int(owner.group(1)), int(owner.group(2)))):
            removed += _rmdir(os.path.join(folder, "instances", name)) is None
    return removed


def _rmdir(path: str) -> Optional[OSError]:
    try:
        os.rmdir(path)
    except OSError as error:
        return error
    return None


def remove_probes(folder: str, pid: int) -> bool:
    """Remove the kprobe events that a killed bcc has left (its kernel before 4.17); their names have its number."""
    path = os.path.join(folder, "kprobe_events")
    left = True
    for name in _probes(path, pid):
        write(os.path.join(folder, "events", name, "enable"), "0")
        left = write(path, "-:{0}\n".format(name)) is None and left
    return left


def _probes(path: str, pid: int) -> List[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            names = [line.split()[0].partition(":")[2] for line in stream if line.strip()]
    except OSError:
        return []
    return [name for name in names if name.endswith("_bcc_{0}".format(pid))]


class Keeper:
    """What a trace has made, and the process that takes it away should this one be gone."""

    def __init__(self, tracefs: Optional[str]) -> None:
        self._tracefs = tracefs
        self._made: List[str] = []
        reading, self._pipe = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _keep(reading, tracefs)
        os.close(reading)

    def instance(self, path: str) -> None:
        """Note an ftrace instance, before it is made."""
        self._note("instance {0}\n".format(path))

    def tool(self, one: Process) -> None:
        """Note a tracing tool, as soon as it runs."""
        self._note("tool {0} {1}\n".format(one.pid, one.started))

    def file(self, path: str) -> Optional[OSError]:
        """Make an empty file that is to be taken away too; the error where it cannot be made, or is there already."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except OSError as error:
            return error
        self._note("file {0}\n".format(path))
        return None

    def _note(self, line: str) -> None:
        self._made.append(line)
        self._tell(line)

    def _tell(self, line: str) -> None:
        try:
            os.write(self._pipe, line.encode())
        except OSError:  # somebody has killed the keeper
            return

    def take_away(self) -> List[str]:
        """Take everything away and let the keeper go. Returns what is left, as words for people."""
        left = _undo(self._made, self._tracefs)
        if not left:
            self._tell("done\n")
        os.close(self._pipe)
        try:
            os.waitpid(self.pid, 0)  # where something was left, it tries once more
        except OSError:
            return left
        return left


def _keep(reading: int, tracefs: Optional[str]) -> None:
    """The keeper's life. Holds none of the parent's files: an open one would hold the connection."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != reading:
            _close(int(name))
    told = b""
    while True:
        chunk = os.read(reading, 4096)
        if not chunk:
            break
        told += chunk
    lines = told.decode().splitlines(True)
    if "done\n" not in lines:
        _undo(lines, tracefs)
    os._exit(0)


def _close(number: int) -> None:
    try:
        os.close(number)
    except OSError:  # that of the listing itself
        return


def _undo(lines: List[str], tracefs: Optional[str]) -> List[str]:
    left = []
    for line in reversed(lines):
        kind, _space, what = line.rstrip("\n").partition(" ")
        if kind == "tool":
            one = Process(*map(int, what.split()))
            if not end(one):
                left.append("process {0}".format(one.pid))
            elif tracefs and not remove_probes(tracefs, one.pid):
                left.append("probes *_bcc_{0} in {1}/kprobe_events".format(one.pid, tracefs))
        elif kind in _REMOVERS and not _REMOVERS[kind](what):
            left.append(what)
    return left


def _remove_file(path: str) -> bool:
    try:
        os.unlink(path)
    except OSError as error:
        return error.errno == errno.ENOENT
    return True


_REMOVERS = {"instance": remove_instance, "file": _remove_file}
