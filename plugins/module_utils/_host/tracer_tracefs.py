# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's tracepoint ``oom:mark_victim``, in an ftrace instance of its own. Private to this collection.

Needs no package. Whoever else uses ftrace on the host is not disturbed and does not disturb.
"""

import ctypes
import os
from typing import Iterator, Optional, Sequence, Tuple

from .._oom import traces
from . import run
from .tracer_cleanup import INSTANCE, Keeper, process, sweep, write

_PLACE = "/sys/kernel/tracing"
_EVENT = "events/oom/mark_victim"
# What decides how a line looks; an instance inherits it from whoever has changed it for the whole host.
_OPTIONS = (
    ("context-info", "1"),
    ("irq-info", "1"),
    ("record-cmd", "1"),
    ("record-tgid", "0"),
    ("raw", "0"),
    ("hex", "0"),
    ("bin", "0"),
    ("fields", "0"),
    ("verbose", "0"),
    ("latency-format", "0"),
    ("overwrite", "1"),
    # With it a reader is woken all the time, not by an event.
    ("block", "0"),
)
_BUFFER_KB = "64"  # of each processor; by default a megabyte and a half
_CHUNK = 65536

_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8


class UnavailableError(Exception):
    """A backend cannot be used here. The message says why, as a sentence; ``left`` is what could not be taken away."""

    def __init__(self, message: str, left: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.left = list(left)


def mounted(host: run.Host) -> Optional[str]:
    """Where tracefs is mounted (proc(5), /proc/self/mounts); the usual place first."""
    found = []
    for line in (run.read_text(host, "/proc/self/mounts") or "").splitlines():
        words = line.split(" ")
        if len(words) > 2 and words[2] == "tracefs":
            found.append(words[1])
    return min(found, key=lambda path: (path != _PLACE, path)) if found else None


def offered(host: run.Host) -> bool:
    """Whether the kernel has a tracefs to mount."""
    return "\ttracefs\n" in (run.read_text(host, "/proc/filesystems") or "") + "\n"


def require(host: run.Host) -> str:
    """Where tracefs is; where nobody has mounted it, mount it for this process alone.

    Raises UnavailableError.
    """
    place = mounted(host)
    if place is None:
        if not offered(host):
            raise UnavailableError("This kernel has no tracefs (CONFIG_FTRACE).")
        _mount()
        place = _PLACE
    if not os.path.isdir(os.path.join(place, _EVENT)):
        raise UnavailableError(
            "{0} has no {1}: the kernel is older than Linux 4.15, or this user may not see it.".format(place, _EVENT)
        )
    return place


def _mount() -> None:
    """Mount tracefs in a mount namespace that ends with this process: the host never sees it."""
    libc = ctypes.CDLL(None, use_errno=True)
    steps = (
        ("leave the host's mount namespace", lambda: libc.unshare(_CLONE_NEWNS)),
        ("make it private", lambda: libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)),
        (
            "mount tracefs on {0}".format(_PLACE),
            lambda: libc.mount(
                b"tracefs", _PLACE.encode(), b"tracefs", ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC), None
            ),
        ),
    )
    for words, step in steps:
        if step():
            raise UnavailableError(
                "tracefs is not mounted; tried to {0} and got: {1}.".format(words, os.strerror(ctypes.get_errno()))
            )


def shape(place: str) -> traces.Shape:
    """How this kernel prints the event, by its format file. Raises UnavailableError."""
    path = os.path.join(place, _EVENT, "format")
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            found = traces.tracepoint(stream.read(_CHUNK))
    except OSError as error:
        raise UnavailableError("{0} could not be read: {1}.".format(path, run.reason(error))) from error
    if found is None:
        raise UnavailableError("{0} has a shape that this collection does not know.".format(path))
    return found


class Instance:
    """An ftrace instance with the one event switched on."""

    def __init__(self, place: str, keeper: Keeper) -> None:
        """Make and start it. Raises UnavailableError; the keeper knows what to take away."""
        owner = process(os.getpid())
        if owner is None:
            raise UnavailableError("/proc does not show this process itself.")
        sweep(place)
        self.path = os.path.join(place, "instances", INSTANCE.format(owner.pid, owner.started))
        keeper.instance(self.path)
        try:
            os.mkdir(self.path)
        except OSError as error:
            raise UnavailableError(
                "An ftrace instance could not be made in {0}: {1}.".format(place, run.reason(error))
            ) from error
        self._prepare()
        self.fd = self._start()

    def _prepare(self) -> None:
        write(os.path.join(self.path, "buffer_size_kb"), _BUFFER_KB)
        # Since Linux 5.0 readers are woken when so much of the buffer is full: here at the first event.
        write(os.path.join(self.path, "buffer_percent"), "0")
        # That of printk, so that a kill has one time in the trace and in the kernel's log.
        write(os.path.join(self.path, "trace_clock"), "local")
        for name, value in _OPTIONS:
            path = os.path.join(self.path, "options", name)
            if os.path.exists(path):
                write(path, value)

    def _start(self) -> int:
        switch = os.path.join(self.path, _EVENT, "enable")
        error = write(switch, "1")
        if error is not None or not _is_on(switch):
            raise UnavailableError(
                "{0} could not be switched on: {1}.".format(switch, run.reason(error) if error else "it stays off")
            )
        pipe = os.path.join(self.path, "trace_pipe")
        try:
            return os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise UnavailableError("{0} could not be opened: {1}.".format(pipe, run.reason(error))) from error

    def lost(self) -> int:
        """Events that were overwritten before they were read."""
        return sum(count for name, count in self._stats() if name in ("overrun", "dropped events"))

    def _stats(self) -> Iterator[Tuple[str, int]]:
        folder = os.path.join(self.path, "per_cpu")
        for cpu in os.listdir(folder):
            try:
                with open(os.path.join(folder, cpu, "stats"), encoding="ascii") as stream:
                    lines = stream.read().splitlines()
            except OSError:
                continue
            for line in lines:
                name, _colon, value = line.partition(": ")
                if value.isdigit():
                    yield name, int(value)

    def close(self) -> None:
        """Stop reading: an instance that is read cannot be removed."""
        os.close(self.fd)


def _is_on(switch: str) -> bool:
    try:
        with open(switch, encoding="ascii") as stream:
            return stream.read(1) == "1"
    except OSError:
        return False
