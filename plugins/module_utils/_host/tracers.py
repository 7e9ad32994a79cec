# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OOM kills as they happen. Private to this collection.

Order of things: protect this process, attach one backend after the other until one works, read kills until it is
time; whatever happens, take away what was made and look whether it is gone. Nothing here raises out of the middle:
signals only wake the loop that waits for kills, and what a killed process leaves is its keeper's to take away.
"""

import os
import select
import signal
import stat
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from .._oom import traces
from . import counters, run, tracer_witness
from . import tracer_tools as tools
from . import tracer_tracefs as tracefs
from .tracer_backends import AUTO, BACKENDS
from .tracer_cleanup import Keeper
from .tracer_tracefs import UnavailableError

OOM_SCORE_ADJ = -900
_TICK_SECONDS = 0.25
_SOON_SECONDS = 0.05
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# What each backend can tell, for people and for tests. "while it lives": read from /proc when the kill is seen.
KNOWS: Dict[str, Dict[str, str]] = {
    "bpftrace": {"trigger": "yes", "sizes": "no", "group": "no", "cgroup": "yes", "limit": "yes", "pages": "yes"},
    "libbpf": {"trigger": "yes", "sizes": "no", "group": "no", "cgroup": "lives", "limit": "no", "pages": "yes"},
    "bcc": {"trigger": "yes", "sizes": "no", "group": "no", "cgroup": "lives", "limit": "no", "pages": "yes"},
    "tracefs": {"trigger": "yes", "sizes": "newer", "group": "yes", "cgroup": "lives", "limit": "no", "pages": "no"},
}
_TOOLS: Dict[str, Callable[[run.Host], List[tools.Way]]] = {
    "bpftrace": tools.bpftrace,
    "libbpf": tools.libbpf,
    "bcc": tools.bcc,
}


class Request(NamedTuple):
    """What to trace with, and until when."""

    backend: str = AUTO
    seconds: Optional[float] = None  # None: until a signal
    attach_seconds: float = 120.0  # for each backend
    connection: bool = True  # whether to end with whoever started this process
    ready_path: Optional[str] = None  # a file that is there while the tracer is attached


class Hooks(NamedTuple):
    """Whom to tell: that the tracer is attached (its name); each kill, which answers whether that was the last one."""

    started: Callable[[str], None]
    seen: Callable[[traces.Kill], bool]


class TraceError(Exception):
    """Nothing is traced: no backend works here, or ``ready_path`` cannot be made.

    ``attempts`` and ``left`` are what trace() returns under these names.
    """

    def __init__(self, message: str, attempts: List[Dict[str, Any]], left: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.left = list(left)


class _Attached(NamedTuple):
    """A backend at work."""

    name: str
    source: Union[tools.Tool, tracefs.Instance]
    reader: traces.Reader
    keeper: Keeper
    early: Sequence[traces.Kill] = ()  # came together with the word that it is attached


# --- what ends a trace ----------------------------------------------------------------------------------------------


class _Ends:
    """What ends a trace before its time: a signal, a connection that is lost. Nothing raises: ``why`` tells."""

    def __init__(self, connection: bool) -> None:
        self.signal: Optional[int] = None
        self.lost = False
        self._connection = connection
        self._leader = _leader_of_sshd() if connection else None
        self._parent = os.getppid()
        self.wake, self._wake_write = os.pipe()
        for number in (self.wake, self._wake_write):
            os.set_blocking(number, False)
        self._old_wake = signal.set_wakeup_fd(self._wake_write)
        self._before = {number: signal.signal(number, _nothing) for number in _SIGNALS}

    def close(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wake)
        os.close(self.wake)
        os.close(self._wake_write)

    def why(self) -> Optional[str]:
        """``signal`` or ``connection``; None: go on."""
        try:
            numbers = [number for number in os.read(self.wake, 64) if number in _SIGNALS]
        except BlockingIOError:
            numbers = []
        self.signal = self.signal or (numbers[0] if numbers else None)
        if self.signal:
            return "signal"
        if self._connection and not self.lost:
            # sshd gives a command no signal when its connection is lost; but it closes the pipe, and it ends. Any other
            # session's leader may end while the trace is still read: a login shell, of what it runs in the background.
            leader = self._leader is not None and _leader() != self._leader
            self.lost = leader or os.getppid() != self._parent or _hung_up(1)
        return "connection" if self.lost else None


def _nothing(_number: int, _frame: Any) -> None:
    """A signal only wakes the loop, through the wakeup file."""


def _leader_of_sshd() -> Optional[Tuple[int, int]]:
    """The session's leader and its parent where that is sshd (since OpenSSH 9.8 sshd-session), else None."""
    leader = _leader()
    return leader if leader and (tracer_witness.comm(run.Host(), leader[1]) or "").startswith("sshd") else None


def _leader() -> Optional[Tuple[int, int]]:
    """The session's leader and its parent: a command's shell and sshd. None where the leader has gone (a daemon)."""
    leader = os.getsid(0)
    try:
        with open("/proc/{0}/stat".format(leader), "rb") as stream:
            words = stream.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return leader, int(words[1])


def _hung_up(number: int) -> bool:
    """Whether nobody reads a pipe, socket or terminal any more."""
    try:
        kind = os.fstat(number).st_mode
    except OSError:
        return True
    if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) or os.isatty(number)):
        return False
    waiting = select.poll()
    waiting.register(number, 0)
    return any(flags & (select.POLLERR | select.POLLHUP) for _number, flags in waiting.poll(0))


# --- a backend ------------------------------------------------------------------------------------------------------


def _attempt(name: str) -> Dict[str, Any]:
    return {"backend": name, "state": "not_tried", "reason": None, "seconds": None}


def _attach(host: run.Host, request: Request, name: str, ends: _Ends) -> _Attached:
    """Start a backend and wait until it is attached. Raises UnavailableError with what could not be taken away."""
    if name == "tracefs":
        return _attach_tracefs(host)
    reasons: List[str] = []
    left: List[str] = []
    for way in _TOOLS[name](host):
        try:
            return _attach_tool(host, request, name, way, ends)
        except UnavailableError as error:
            reasons.append(str(error))
            left.extend(error.left)
            if ends.why():
                break
    raise UnavailableError(" ".join(dict.fromkeys(reasons)), left)


def _attach_tracefs(host: run.Host) -> _Attached:
    place = tracefs.require(host)
    shape = tracefs.shape(place)
    keeper = Keeper(place)
    try:
        instance = tracefs.Instance(place, keeper)
    except UnavailableError as error:
        raise UnavailableError(str(error), keeper.take_away()) from error
    return _Attached("tracefs", instance, traces.Reader("tracefs", shape), keeper)


def _attach_tool(host: run.Host, request: Request, name: str, way: tools.Way, ends: _Ends) -> _Attached:
    keeper = Keeper(tracefs.mounted(host))
    try:
        tool = tools.Tool(way, keeper)
    except UnavailableError as error:
        raise UnavailableError(str(error), keeper.take_away()) from error
    reader = traces.Reader(name, way.shape)
    early: List[traces.Kill] = []
    attached = _Attached(name, tool, reader, keeper, early)
    deadline = time.monotonic() + request.attach_seconds
    chunk: Optional[bytes] = b""
    works = False
    while chunk is not None and time.monotonic() < deadline and not (works or ends.why()):
        tick = _SOON_SECONDS if reader.ready else _TICK_SECONDS
        _wait(attached, ends, min(tick, max(0.0, deadline - time.monotonic())))
        chunk = tools.read(tool.fd)
        early.extend(reader.feed(chunk or b""))
        works = reader.ready and chunk is not None and tool.attached() and not tool.ended()
    if works:
        return attached
    late = time.monotonic() >= deadline
    left = keeper.take_away()
    why = _too_late(request, reader, tool) if late else tool.why()
    tool.close()
    raise UnavailableError("{0} did not attach: {1}.".format(_shown(way), why), left)


def _too_late(request: Request, reader: traces.Reader, tool: tools.Tool) -> str:
    why = "it was not attached after {0:.0f} s".format(request.attach_seconds)
    return "{0}: {1}".format(why, tool.unattached()) if reader.ready else why


def _shown(way: tools.Way) -> str:
    """A command without a program's text."""
    return " ".join(word if "\n" not in word else "'...'" for word in way.argv)


def _wait(attached: _Attached, ends: _Ends, seconds: float) -> None:
    waiting = select.poll()
    waiting.register(attached.source.fd, select.POLLIN)
    waiting.register(ends.wake, select.POLLIN)
    if isinstance(attached.source, tools.Tool):
        attached.source.hear()
    waiting.poll(int(seconds * 1000) + 1)


def _detach(attached: _Attached) -> Tuple[List[str], int]:
    """Take everything away; returns what is left, and how many kills the backend says it lost."""
    source = attached.source
    attached.reader.end()
    if isinstance(source, tools.Tool):
        left = attached.keeper.take_away()
        lost = source.lost() + attached.reader.lost
        source.close()
    else:
        lost = max(source.lost(), attached.reader.lost)
        source.close()
        left = attached.keeper.take_away()
    return left, lost


# --- the trace ------------------------------------------------------------------------------------------------------


def trace(host: run.Host, request: Request, hooks: Hooks) -> Dict[str, Any]:
    """Trace until the time is over, the last kill is seen, a signal comes, or the connection is lost.

    :returns: ``backend``, ``attempts`` (a row for each backend: backend, state, reason, seconds), ``started_at`` and
        ``ended_at`` (epoch seconds), ``attach_seconds``, ``ended_by`` (``duration``, ``max_events``, ``signal``,
        ``connection``, ``tracer``), ``signal``, ``error`` (why the tracer ended), ``lost`` (kills that the backend says
        it lost), ``counter_before`` and ``counter_after`` (the kernel's), ``oom_score_adj`` (of the tracer),
        ``left`` (what could not be taken away).
    :raises TraceError: no backend could be attached, or ``ready_path`` cannot be made.
    """
    refusal = _refusal(request.ready_path)
    if refusal:
        raise TraceError(refusal, _attempts(request))
    score = _score()
    protected = _protect(score)
    ends = _Ends(request.connection)
    try:
        attached, attempts, left_before = _first_that_works(host, request, ends)
        began = time.monotonic()
        result = {
            "backend": attached.name,
            "attempts": attempts,
            "started_at": time.time(),
            "attach_seconds": next(each["seconds"] for each in attempts if each["state"] == "attached"),
            "counter_before": counters.oom_kill(host),
            "oom_score_adj": protected,
        }
        try:
            _hurry(attached)
            error = attached.keeper.file(request.ready_path) if request.ready_path else None
            if error is None:
                hooks.started(attached.name)
                ended_by = _follow(host, request, hooks, attached, ends, began)
                source = attached.source
                result["error"] = source.why() if ended_by == "tracer" and isinstance(source, tools.Tool) else None
        finally:
            _no_hurry()
            left, lost = _detach(attached)
            left = left_before + left
        if error is not None:
            raise TraceError(_not_made(request.ready_path, run.reason(error)), attempts, left)
        result.update(ended_by=ended_by, signal=ends.signal, ended_at=time.time(), lost=lost, left=left)
        result["counter_after"] = counters.oom_kill(host)
        return result
    finally:
        ends.close()
        _set_score(score)


def _refusal(ready_path: Optional[str]) -> Optional[str]:
    """Why the file cannot be made that tells that the tracer is attached, as far as that can be seen before."""
    if ready_path is None:
        return None
    folder = os.path.dirname(ready_path) or "."
    if os.path.lexists(ready_path):
        return _not_made(ready_path, "it is there already")
    if not os.path.isdir(folder):
        return _not_made(ready_path, "{0} is no folder".format(folder))
    return None if os.access(folder, os.W_OK) else _not_made(ready_path, "{0} cannot be written".format(folder))


def _not_made(ready_path: Optional[str], why: str) -> str:
    return "ready_path: {0} cannot be made: {1}. Nothing was traced; name another file.".format(ready_path, why)


def _attempts(request: Request) -> List[Dict[str, Any]]:
    return [_attempt(name) for name in (BACKENDS if request.backend == AUTO else (request.backend,))]


def _first_that_works(
    host: run.Host, request: Request, ends: _Ends
) -> Tuple[_Attached, List[Dict[str, Any]], List[str]]:
    """The first backend that can be attached, a row for each, and what those that could not have left."""
    attempts = _attempts(request)
    left: List[str] = []
    for attempt in attempts:
        if ends.why():
            raise TraceError(_TOO_EARLY, attempts, left)
        began = time.monotonic()
        try:
            attached = _attach(host, request, attempt["backend"], ends)
        except UnavailableError as error:
            attempt.update(state="unavailable", reason=str(error))
            left.extend(error.left)
        else:
            attempt["state"] = "attached"
            return attached, attempts, left
        finally:
            attempt["seconds"] = round(time.monotonic() - began, 3)
    raise TraceError(_TOO_EARLY if ends.why() else _none_works(attempts), attempts, left)


_TOO_EARLY = "The trace was ended by a signal, or its connection was lost, before a backend was attached."


def _none_works(attempts: Sequence[Dict[str, Any]]) -> str:
    reasons = " ".join("{backend}: {reason}".format(**attempt) for attempt in attempts)
    root = "" if os.geteuid() == 0 else " Tracing needs root: run the task with become: true."
    return "Tried to trace OOM kills, and no backend could be attached. {0}{1}".format(reasons, root)


def _follow(host: run.Host, request: Request, hooks: Hooks, attached: _Attached, ends: _Ends, began: float) -> str:
    """Read kills until the end; returns why it ended."""
    boot_id, numbers = counters.boot_id(host), tracer_witness.same_numbers(host)
    deadline = None if request.seconds is None else began + request.seconds

    def told(kills: Sequence[traces.Kill]) -> bool:
        # All cgroups first: each is there only for a moment.
        return any(
            hooks.seen(kill) for kill in [tracer_witness.witness(host, each, boot_id, numbers) for each in kills]
        )

    if told(attached.early):
        return "max_events"
    while True:
        left = _TICK_SECONDS if deadline is None else min(_TICK_SECONDS, deadline - time.monotonic())
        _wait(attached, ends, max(0.0, left))
        chunk = tools.read(attached.source.fd)
        if chunk and told(attached.reader.feed(chunk)):
            return "max_events"
        over = deadline is not None and time.monotonic() >= deadline
        ended_by = ends.why() or ("duration" if over else None)
        if ended_by:
            return ended_by
        # An ftrace instance never ends.
        if chunk is None and isinstance(attached.source, tools.Tool):
            return "tracer"


# --- priority, and protection from the OOM killer -------------------------------------------------------------------


def _hurry(attached: _Attached) -> None:
    """Run before whoever is killed: what the victim's /proc says is there for less than a millisecond.

    Of 40 kills at once on two slow processors, 38 have their cgroup with this, without it one. Both processes sleep
    but for a kill; the kernel leaves 5 % of the time to others in any case (kernel.sched_rt_runtime_us).
    """
    pids = [0]
    if isinstance(attached.source, tools.Tool) and attached.source.known:
        pids.append(attached.source.known.pid)
    for pid in pids:
        try:
            os.sched_setscheduler(pid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        except OSError:  # a container, or a cgroup v1 without a share of real time
            continue


def _no_hurry() -> None:
    try:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except OSError:
        return


def _score() -> Optional[int]:
    try:
        with open("/proc/self/oom_score_adj", encoding="ascii") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return None


def _set_score(score: Optional[int]) -> None:
    if score is None:
        return
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as stream:
            stream.write(str(score))
    except OSError:  # lowering needs CAP_SYS_RESOURCE
        return


def _protect(score: Optional[int]) -> Optional[int]:
    """Make this process, and what it starts, the last one that the kernel kills; returns what the score is now."""
    if score is not None and score > OOM_SCORE_ADJ:
        _set_score(OOM_SCORE_ADJ)
    return _score()
