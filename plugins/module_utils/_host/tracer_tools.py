# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that trace OOM kills with eBPF: where they are, how they are started. Private to this collection."""

import ctypes
import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

from .._oom import traces
from . import run
from .tracer_backends import PROGRAMS, Program, first, program
from .tracer_cleanup import Keeper, Process, process
from .tracer_tracefs import UnavailableError

_COMPLAINTS = 64 * 1024
_COMPLAINT_SHOWN = 300
_CHUNK = 65536
_BTF = "/sys/kernel/btf/vmlinux"
_BTF_BYTES = 64 * 1024 * 1024
_MEMORY_CONTROLLER = 4  # include/linux/cgroup_subsys.h, where a kernel has those before it
_PR_SET_PDEATHSIG = 1
# What bpftrace brings along for itself.
_OOMKILL_BT = Program(("oomkill.bt", "/usr/sbin/oomkill.bt", "/usr/share/bpftrace/tools/oomkill.bt"), b"")
# bpftrace 0.20 and newer and its older name; a cgroup's name has at most 255 bytes, old bpftrace prints 200.
_STRLEN = {"BPFTRACE_STRLEN": "200", "BPFTRACE_MAX_STRLEN": "256"}

ENVIRONMENT = {
    # Its output must come line by line, and it may not die of a name that is no ASCII.
    "PYTHONUNBUFFERED": "1",
    "PYTHONIOENCODING": "utf-8:replace",
    "TERM": "dumb",
}
_NOT_FOR_TOOLS = ("PYTHONPATH", "PYTHONHOME")


class Way(NamedTuple):
    """One way to start a tool: its command, how it prints, and how many of _PROBES it holds open when it is attached.

    bcc's attaches (one perf event), says so, and then opens its buffers (one for each processor); libbpf's attaches,
    opens its buffers, and says so; it is looked at all the same. 0: its word is enough. bpftrace runs BEGIN, which
    says so in oomkill.bt, before it attaches, and prints what BEGIN said behind that.
    """

    argv: Sequence[str]
    shape: traces.Shape
    environment: Dict[str, str]
    probes: int


# What /proc/PID/fd shows of a perf event (kernel/events/core.c) and of a BPF link (kernel/bpf/syscall.c): a kprobe is
# attached by the first, since Linux 5.15 by a link to it; a buffer of perf events has one for each processor.
_PROBES = ("anon_inode:[perf_event]", "anon_inode:bpf_link", "anon_inode:bpf-link")
# A tool is attached if it holds enough of them and has opened no more for so long.
_QUIET_SECONDS = 0.3


def bcc(host: run.Host) -> List[Way]:
    """bcc's oomkill. Raises UnavailableError."""
    path = program(host, "bcc")
    if path is None:
        raise UnavailableError("None of {0} is installed (packages bpfcc-tools, bcc-tools).".format(_words("bcc")))
    return [Way([path], traces.BCC, {}, 2)]


def libbpf(host: run.Host) -> List[Way]:
    """libbpf-tools' oomkill, which needs no compiler, but a kernel with BTF. Raises UnavailableError."""
    path = program(host, "libbpf")
    if path is None:
        raise UnavailableError("None of {0} is installed (package libbpf-tools).".format(_words("libbpf")))
    return [Way([path], traces.LIBBPF, {}, 1)]


def bpftrace(host: run.Host) -> List[Way]:
    """bpftrace with this collection's program, which knows the cgroups, else with its own. Raises UnavailableError."""
    path = program(host, "bpftrace")
    if path is None:
        raise UnavailableError("bpftrace is not installed.")
    start = [path, "-B", "line"]
    ways = []
    if os.path.exists(run.below(host, _BTF)):
        text = traces.program(memory_controller(host), kernfs_parent(host))
        ways.append(Way(start + ["-e", text], traces.PROGRAM, _STRLEN, 0))
    shipped = first(host, _OOMKILL_BT)
    if shipped is not None:
        ways.append(Way(start + [shipped], traces.BPFTRACE, {}, 0))
    if not ways:
        raise UnavailableError(
            "The kernel has no BTF ({0}), and bpftrace came without {1}.".format(_BTF, _OOMKILL_BT.names[0])
        )
    return ways


def _words(backend: str) -> str:
    return ", ".join(PROGRAMS[backend].names)


def memory_controller(host: run.Host) -> int:
    """The number of the memory controller: /proc/cgroups lists all controllers in the order of their numbers.

    Linux 6.14 and newer lists those of cgroup v1 alone; what the program prints tells whether the number is right.
    """
    rows = (run.read_text(host, "/proc/cgroups") or "").splitlines()
    names = [row.split()[0] for row in rows if row and not row.startswith("#")]
    return names.index("memory") if "memory" in names and "cpuset" in names else _MEMORY_CONTROLLER


def kernfs_parent(host: run.Host) -> str:
    """What the running kernel's struct kernfs_node calls its parent, by the names in its BTF."""
    data = run.read_bytes(host, _BTF, _BTF_BYTES) or b""
    return "__parent" if b"\0__parent\0" in data else "parent"


class Tool:
    """A running tool. Its output is a terminal's: a C program buffers whole blocks for anything else."""

    def __init__(self, way: Way, keeper: Keeper) -> None:
        """Start it. Raises UnavailableError."""
        self.fd, terminal = pty.openpty()
        try:
            _raw(terminal)
            self._process = _popen(way, terminal)
        except OSError as error:
            os.close(self.fd)
            raise UnavailableError("{0} could not be started: {1}.".format(way.argv[0], run.reason(error))) from error
        finally:
            os.close(terminal)
        self.known = process(self._process.pid)
        keeper.tool(self.known or Process(self._process.pid, 0))
        self.complaints = self._process.stderr.fileno() if self._process.stderr else -1
        self._way = way
        self._held = 0
        self._quiet_since = time.monotonic()
        self._said = b""
        for number in (self.fd, self.complaints):
            fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) | os.O_NONBLOCK)

    def hear(self) -> None:
        """Read what it has said on stderr."""
        chunk = _read(self.complaints)
        while chunk:
            self._said = (self._said + chunk)[-_COMPLAINTS:]
            chunk = _read(self.complaints)

    def ended(self) -> bool:
        return self._process.poll() is not None

    def why(self) -> str:
        """What it complained of last, else how it ended, as the end of a sentence."""
        self.hear()
        lines = [line.strip() for line in self._said.decode("utf-8", "replace").splitlines() if line.strip()]
        telling = [line for line in lines if any(word in line.lower() for word in _TELLING)] or lines
        if telling:
            return telling[-1].rstrip(".")[:_COMPLAINT_SHOWN]
        status = self._process.poll()
        if status is None:
            return "it said nothing"
        return "signal {0}".format(-status) if status < 0 else "exit status {0}".format(status)

    def lost(self) -> int:
        self.hear()
        return traces.lost(self._said, self._way.shape)

    def attached(self) -> bool:
        """Whether a tool that says that it is attached is. To be asked again and again until it is."""
        if not self._way.probes:
            return True
        held, now = probes(self._process.pid), time.monotonic()
        if held != self._held:
            self._held, self._quiet_since = held, now
        return held >= self._way.probes and now - self._quiet_since >= _QUIET_SECONDS

    def unattached(self) -> str:
        """What a tool lacks that says that it is attached, as the end of a sentence."""
        return "it said so, but holds {0} of {1} perf events or BPF links".format(self._held, self._way.probes)

    def close(self) -> None:
        """Forget the tool, which the keeper has ended."""
        self._process.poll()
        os.close(self.fd)
        if self._process.stderr:
            self._process.stderr.close()


# Lines of a tool's stderr that say why, before those of a traceback that say where.
_TELLING = ("error", "fail", "denied", "not permitted", "unable", "cannot", "no such")


def probes(pid: int) -> int:
    """How many of _PROBES a process holds open."""
    folder = "/proc/{0}/fd".format(pid)
    try:
        links = [os.path.join(folder, number) for number in os.listdir(folder)]
    except OSError:  # it has ended
        return 0
    # By the last part: a file of such a name counts too, which the tools of the tests hold.
    return sum(os.path.basename(_target(link)) in _PROBES for link in links)


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed meanwhile
        return ""


def read(number: int) -> Optional[bytes]:
    """What there is to read now; None at the end: a terminal whose other side is closed, a pipe likewise."""
    try:
        chunk = os.read(number, _CHUNK)
    except BlockingIOError:
        return b""
    except OSError:
        return None
    return chunk or None


def _read(number: int) -> Optional[bytes]:
    return read(number) if select.select([number], [], [], 0)[0] else None


def _raw(terminal: int) -> None:
    """No carriage returns, no echo."""
    attributes = termios.tcgetattr(terminal)
    attributes[1] &= ~termios.OPOST
    attributes[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)


def _popen(way: Way, terminal: int) -> "subprocess.Popen[bytes]":
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_TOOLS}
    environment.update(run.ENVIRONMENT, **ENVIRONMENT)
    environment.update(way.environment)
    # Not run_command, which waits until the end.
    return subprocess.Popen(  # pylint: disable=ansible-bad-function,subprocess-popen-preexec-fn
        list(way.argv),
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",
        start_new_session=True,  # a signal for the module's group is the module's to hand on
        preexec_fn=_born(),
    )


def _born() -> Callable[[], None]:
    """What the tool's process does before it becomes the tool: listen to signals, and die with this process."""
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return prepare
