# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to a host: files below a root, and commands. Private to this collection.

A test hands in another :class:`Host`: a root that is a copied tree, and a ``stream`` that answers from
recorded transcripts.
"""

import errno
import functools
import os
import select
import shutil
import subprocess
import tempfile
import time
from typing import BinaryIO, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

CHUNK = 1024 * 1024
_SMALL_FILE = 1024 * 1024
_STDERR = 64 * 1024
_STDERR_SHOWN = 300
# Programs of the administrator, which the PATH of a task without a login shell may lack.
_PATHS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
# Untranslated output, no pager, no colours, no debug lines on stderr.
ENVIRONMENT = {"LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0", "SYSTEMD_LOG_LEVEL": "info"}


class Ended(NamedTuple):
    """How a command ended: exit status (negative: a signal; 127: not started) and what it said on stderr."""

    status: int
    stderr: str


class Running(NamedTuple):
    """A started command: its stdout in chunks, and what stops it if it still runs and tells how it ended."""

    chunks: Iterator[bytes]
    end: Callable[[], Ended]


class OverdueError(Exception):
    """A command has not printed all in its time."""


def popen(argv: Sequence[str], seconds: Optional[float] = None) -> Running:
    """Start a command and stream its stdout; ``end`` (call it always) ends the child and collects its status.

    A program that cannot be started is status 127, as in a shell. With ``seconds``, reading on after so long a time
    raises OverdueError.
    """
    # Not run_command: it keeps all of the output in memory, and a journal is larger than that.
    complaints: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - open until the command has ended
    try:
        child = subprocess.Popen(  # pylint: disable=ansible-bad-function
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=dict(os.environ, **ENVIRONMENT),
        )
    except OSError as error:
        complaints.close()
        said = "{0}: {1}".format(argv[0], reason(error))
        return Running(iter(()), lambda: Ended(127, said))
    deadline = None if seconds is None else time.monotonic() + seconds
    return Running(_chunks(child, deadline), lambda: _end(child, complaints))


def _chunks(child: "subprocess.Popen[bytes]", deadline: Optional[float]) -> Iterator[bytes]:
    if child.stdout is None:
        return
    while True:
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([child.stdout], [], [], left)[0]:
                raise OverdueError()
        chunk = os.read(child.stdout.fileno(), CHUNK)
        if not chunk:
            return
        yield chunk


def _end(child: "subprocess.Popen[bytes]", complaints: BinaryIO) -> Ended:
    if child.stdout is not None:
        child.stdout.close()  # who still writes gets SIGPIPE
    try:
        status = child.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        child.kill()
        status = child.wait()
    if complaints.closed:
        return Ended(status, "")
    with complaints:
        complaints.seek(0)
        said = complaints.read(_STDERR)
    return Ended(status, said.decode("utf-8", "replace"))


def which(name: str) -> Optional[str]:
    """Path of a program, searched in PATH and the administrator's directories."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""),) + _PATHS))


class Host(NamedTuple):
    """Where to read: the filesystem root, and how commands are found and run (they run here, not below root)."""

    root: str = "/"
    stream: Callable[[Sequence[str]], Running] = popen
    which: Callable[[str], Optional[str]] = which


def hurried(host: Host, seconds: float) -> Host:
    """The same host, where a command has so long a time (see ``popen``). A recorded transcript needs none."""
    return host._replace(stream=functools.partial(popen, seconds=seconds)) if host.stream is popen else host


def below(host: Host, path: str) -> str:
    """``path`` (absolute on the host) as a path of this process."""
    return os.path.join(host.root, path.lstrip("/"))


def live(host: Host) -> bool:
    """Whether the host is the running machine, so that clocks and system calls speak of it."""
    return os.path.realpath(host.root) == "/"


def read_bytes(host: Host, path: str, limit: int = _SMALL_FILE) -> Optional[bytes]:
    """At most ``limit`` bytes of a small file; None if it is not there or cannot be read."""
    try:
        with open(below(host, path), "rb") as stream:
            return stream.read(limit)
    except OSError:
        return None


def descend(host: Host, directory: str, path: str) -> int:
    """Open, to be read, what is at ``path`` below a directory that somebody may change meanwhile; a descriptor.

    No link below the directory is followed, and no pipe is waited for. What it is, and whose, is the caller's to ask
    of the descriptor. Raises OSError.
    """
    found = os.open(below(host, directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    parts = path.split("/")
    for number, part in enumerate(parts, 1):
        kind = os.O_NONBLOCK | os.O_NOCTTY if number == len(parts) else os.O_DIRECTORY
        above = found
        try:
            found = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=above)
        finally:
            os.close(above)
    return found


def read_text(host: Host, path: str) -> Optional[str]:
    """A small file's text without the newline at its end; None if it is not there or cannot be read."""
    data = read_bytes(host, path)
    return None if data is None else data.decode("utf-8", "replace").rstrip("\n")


def names(host: Host, directory: str) -> List[str]:
    """Sorted names in a directory; none if it is not there or cannot be read."""
    try:
        return sorted(os.listdir(below(host, directory)))
    except OSError:
        return []


def pairs(host: Host, path: str) -> Dict[str, int]:
    """A kernel file of ``key value`` or ``key: value kB`` lines as numbers; keys without a number are left out."""
    found = {}
    for line in (read_text(host, path) or "").splitlines():
        words = line.split()
        if len(words) > 1 and words[1].isdigit():
            found[words[0].rstrip(":")] = int(words[1])
    return found


def complaint(ended: Ended) -> str:
    """The first line that a command said on stderr, else its exit status, as the end of a sentence."""
    lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    return lines[0].rstrip(".")[:_STDERR_SHOWN] if lines else "exit status {0}".format(ended.status)


def reason(error: OSError) -> str:
    """An operating system error as the end of a sentence, in English on every host."""
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)


_REASONS = {
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.ENOENT: "no such file",
    errno.EISDIR: "it is a directory",
    errno.EIO: "input/output error",
}
