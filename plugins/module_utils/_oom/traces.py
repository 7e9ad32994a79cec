# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What live tracers print of OOM kills: their output in, kills out. Private to this collection.

Tools: oomkill of bcc, libbpf-tools and bpftrace, the program of :func:`program` for bpftrace, and the kernel's own
tracepoint ``oom:mark_victim`` as ftrace prints it. A process chooses its name, newlines and quotes included; but a
name has 15 bytes, fewer than what stands around it in every line, so a name cannot imitate a line or a part of it.

Imports nothing of this collection: the tracing service of the role oom_trace carries this file alone.
"""

import json
import re
from typing import Any, Callable, Dict, List, Match, NamedTuple, Optional, Pattern

# The journald identifier and systemd unit of the tracing service.
SERVICE = "oom-forensics-trace"
UNIT = SERVICE + ".service"

_ROOM = 64 * 1024  # of output without a kill in it
_TAIL = 8 * 1024
_LONGEST_TEXT = 4096
_STACK = 64


class Kill(NamedTuple):
    """One kill as traced. Sizes in kB; None: this backend, or this kernel, does not tell.

    ``domain_pages`` is what the tools print as "pages": the size of the OOM domain (oom_control.totalpages: a memcg's
    limit and the swap it may use, or the host's memory and swap), and nothing of the victim.
    """

    backend: str
    victim_pid: int
    victim_comm: Optional[str] = None
    trigger_pid: Optional[int] = None
    trigger_comm: Optional[str] = None
    domain_pages: Optional[int] = None
    loadavg: Optional[str] = None  # /proc/loadavg, whole
    constraint: Optional[str] = None  # the kernel's own word
    order: Optional[int] = None
    uid: Optional[int] = None
    total_vm: Optional[int] = None
    anon_rss: Optional[int] = None
    file_rss: Optional[int] = None
    shmem_rss: Optional[int] = None
    pgtables: Optional[int] = None
    oom_score_adj: Optional[int] = None
    limit_cgroup: Optional[str] = None
    victim_cgroup: Optional[str] = None
    monotonic_usec: Optional[int] = None  # on printk's clock
    time: Optional[float] = None  # epoch seconds when the line was read
    boot_id: Optional[str] = None


class Shape(NamedTuple):
    """How a backend prints: a kill, that it is attached (None: it does not say), and that it lost some.

    ``most_lines``: of one kill. What a backend says that it lost is lines.
    """

    kill: Pattern[bytes]
    ready: Optional[Pattern[bytes]]
    lost: Pattern[bytes]
    most_lines: int = 1


# --- oomkill of bcc, libbpf-tools, bpftrace -------------------------------------------------------------------------


def _tool(name: bytes, load: bytes = b"") -> Pattern[bytes]:
    """A kill as the tools print it; ``name`` matches a process name, greedily: one may look like its own end.

    :arg load: ``?`` where a tool may print no load.
    """
    return re.compile(
        rb"\d\d:\d\d:\d\d +Triggered by PID (?P<trigger_pid>\d{1,10}) \(\"(?P<trigger_comm>" + name + rb")\"\), "
        # bpftrace since September 2025, where a memcg's limit was hit: that cgroup. Greedy: its name may look like what
        # comes behind it, which the victim's, of 15 bytes, cannot.
        rb"(?:CGROUP -?\d{1,20} \(\"(?P<limit_cgroup>[^\n]{0,4200})\"\), )?"
        rb"OOM kill of PID (?P<victim_pid>\d{1,10}) \(\"(?P<victim_comm>" + name + rb")\"\), "
        # Behind the load, libbpf-tools may print rubbish.
        rb"(?P<domain_pages>\d{1,20}) pages(?:, loadavg: (?P<loadavg>" + _LOAD + rb")?[^\n]{0,80})" + load + rb"\r?\n",
        re.DOTALL,
    )


_LOAD = rb"(?:\d{1,6}\.\d\d ){3}\d{1,7}/\d{1,7} \d{1,10}"
_TOOL_READY = re.compile(rb"Tracing (?:OOM kills|oom_kill_process\(\))")
_TOOL_LOST = re.compile(rb"[Ll]ost (?P<count>\d{1,18}) (?:events|samples)")
BPFTRACE = Shape(_tool(rb".{0,15}"), _TOOL_READY, _TOOL_LOST)
LIBBPF = Shape(_tool(rb".{0,15}", rb"?"), _TOOL_READY, _TOOL_LOST)
# bcc prints each byte of a name that is no UTF-8 as U+FFFD, which has three.
BCC = Shape(_tool(rb".{0,45}"), _TOOL_READY, _TOOL_LOST)

# --- the kernel's tracepoint ----------------------------------------------------------------------------------------

# kernel/trace/trace_output.c: task (here the trigger) in 16 columns, its pid, (its tgid) where asked for, [cpu], flags,
# seconds, event.
_FTRACE_HEAD = (
    rb"(?P<trigger_comm>.{16})-(?P<trigger_pid>\d{1,10}) +(?:\([ \d-]{1,12}\) +)?\[\d{3,6}\] +"
    rb"(?:\S{4,6} +)?(?P<seconds>\d{1,12})\.(?P<micro>\d{6}): mark_victim: "
)
_FTRACE_LOST = re.compile(rb"\[LOST (?P<count>\d{1,18}) EVENTS\]")
_PRINT = re.compile(r'^print fmt: "(.{1,1000}?)"(?:,|$)', re.MULTILINE)
_FIELD = re.compile(r"([\w-]{1,40})([=:])%(?:h|l|ll)?([dus])")
# Names of the tracepoint's fields, by what the kernel prints before them.
_FTRACE_FIELDS = {
    "pid": "victim_pid",
    "comm": "victim_comm",
    "total-vm": "total_vm",
    "anon-rss": "anon_rss",
    "file-rss": "file_rss",
    "shmem-rss": "shmem_rss",
    "uid": "uid",
    "pgtables": "pgtables",
    "oom_score_adj": "oom_score_adj",
}
# What the running tasks have no recorded name for.
_NO_NAME = b"<...>"


def tracepoint(event_format: str) -> Optional[Shape]:
    """The shape of ``oom:mark_victim`` by the text of its ``format`` file; None where that has no ``pid``.

    Linux 4.15 prints the pid alone; 6.9 and newer, and the stable trees of distributions, name and sizes too.
    """
    printed = _PRINT.search(event_format)
    if not printed or "pid=%" not in printed.group(1):
        return None
    pattern, end = b"", 0
    text = printed.group(1)
    seen: List[str] = []
    for field in _FIELD.finditer(text):
        name = _FTRACE_FIELDS.get(field.group(1))
        value = rb".{0,15}" if field.group(3) == "s" else rb"-?\d{1,20}"
        group = b"(?P<%s>%s)" % (name.encode("ascii"), value) if name and name not in seen else b"(?:%s)" % value
        seen.append(name or "")
        pattern += re.escape((text[end : field.start()] + field.group(1) + field.group(2)).encode()) + group
        end = field.end()
    pattern += re.escape(text[end:].encode()) + rb"\r?\n"
    return Shape(re.compile(_FTRACE_HEAD + pattern, re.DOTALL), None, _FTRACE_LOST)


# --- our program for bpftrace ---------------------------------------------------------------------------------------

# The path of a cgroup is printed name by name, the last one first, each with its level: a line may be lost. Every line
# begins with the victim: those of one kill come out in their order, those of two processors' kills mixed. A cgroup's
# name has no newline (cgroup_mkdir). What stands between the two processes' names is longer than a name.
_PROGRAM = """\
kprobe:oom_kill_process
{
    $oc = (struct oom_control *)arg0;
    $victim = $oc->chosen;
    if ($oc->memcg != 0) {
        $node = $oc->memcg->css.cgroup->kn;
LIMIT
    }
    $memory = $victim->cgroups->subsys[MEMORY];
    printf("oom-kill %d controller 0 %s\\n", $victim->pid, str(((struct cgroup_subsys *)$memory->ss)->name));
    $node = $memory->cgroup->kn;
VICTIM
    printf("oom-kill %d is %d by %d %d %d %d <%s> oom-kill victim <%s> end\\n", $victim->pid, $victim->tgid, tid,
        $oc->totalpages, $oc->order, $oc->constraint, comm, $victim->comm);
}
interval:ms:200 { if (@said == 0) { @said = 1; printf("oom-kill attached\\n"); } }
END { clear(@said); }
"""
# One level of a path. Written out: unroll(), which old bpftrace takes as well, has no counter.
_PIECE = """\
    if ($node != 0) {{ printf("oom-kill %d {what} {level} %s\\n", $victim->pid, str($node->name));
        $node = $node->{parent}; }}
"""
_LEVELS = 10
_PROGRAM_KILL = re.compile(
    rb"oom-kill (?P<key>\d{1,10}) (?:(?P<what>limit|victim|controller) (?P<level>\d{1,2}) (?P<name>[^\n]{0,255})"
    rb"|is (?P<victim_pid>\d{1,10}) by (?P<trigger_pid>\d{1,10}) (?P<domain_pages>\d{1,20}) (?P<order>-?\d{1,3}) "
    rb"(?P<constraint>-?\d{1,3}) <(?P<trigger_comm>.{0,15})> oom-kill victim <(?P<victim_comm>.{0,15})> end)\r?\n",
    re.DOTALL,
)
# The program prints a path of every level for the limit and for the victim, and two lines more.
PROGRAM = Shape(_PROGRAM_KILL, re.compile(rb"oom-kill attached\r?\n"), _TOOL_LOST, 2 * _LEVELS + 2)
# include/linux/oom.h, enum oom_constraint
_CONSTRAINTS = ("CONSTRAINT_NONE", "CONSTRAINT_CPUSET", "CONSTRAINT_MEMORY_POLICY", "CONSTRAINT_MEMCG")
_OPEN = 256
# Bytes of a string that old bpftrace may have cut: of its 200 (tracer_tools.py) the last one is the end.
_CUT = 199


def program(memory: int, parent: str) -> str:
    """Text for bpftrace, which prints what :data:`PROGRAM` reads.

    :arg memory: the number of the memory controller among the kernel's controllers.
    :arg parent: what struct kernfs_node calls its parent: ``parent``, ``__parent`` since Linux 6.15.
    """
    text = _PROGRAM.replace("MEMORY", str(memory))
    for what in ("limit", "victim"):
        pieces = [_PIECE.format(what=what, level=level, parent=parent) for level in range(_LEVELS)]
        text = text.replace(what.upper() + "\n", "".join(pieces))
    return text


class Reader:
    """Kills out of a backend's output, in any split."""

    def __init__(self, backend: str, shape: Shape) -> None:
        self.backend = backend
        self.shape = shape
        self.ready = False  # the backend has said that it is attached
        self._lost_lines = 0
        self._rest = b""
        self._pieces: Dict[bytes, Dict[str, Dict[int, bytes]]] = {}  # of kills that come in several lines: by level

    @property
    def lost(self) -> int:
        """Kills that it says it lost, at least."""
        return _lost_kills(self._lost_lines, self.shape)

    def feed(self, chunk: bytes) -> List[Kill]:
        """Take the next output; returns the kills that are complete now."""
        data = self._rest + chunk
        if not self.ready and self.shape.ready is not None and self.shape.ready.search(data):
            self.ready = True
        kills, end = [], 0
        for found in self.shape.kill.finditer(data):
            self._count(data[end : found.start()])
            end = found.end()
            kill = self._kill(found)
            if kill is not None:
                kills.append(kill)
        data = data[end:]
        if len(data) > _ROOM:
            self._count(data[:-_TAIL])
            data = data[-_TAIL:]
        self._rest = data
        return kills

    def end(self) -> None:
        """No output will come any more."""
        self._count(self._rest)
        self._rest = b""

    def _count(self, between: bytes) -> None:
        self._lost_lines += _lost_lines(between, self.shape)

    def _kill(self, found: Match[bytes]) -> Optional[Kill]:
        told = found.groupdict()
        if "key" not in told:
            return _kill(self.backend, told)
        if told["what"]:
            self._keep(told["key"], told["what"].decode("ascii"), int(told["level"]), told["name"])
            return None
        names_of = self._pieces.pop(told["key"], {})
        kill = _kill(self.backend, told)
        if names_of.get("controller") == {0: b"memory"}:
            kill = kill._replace(victim_cgroup=_path(names_of.get("victim", {})))
        return kill._replace(limit_cgroup=_path(names_of.get("limit", {})))

    def _keep(self, key: bytes, what: str, level: int, name: bytes) -> None:
        """Note a piece until its kill's last line comes, if it was not lost: the oldest kill makes room."""
        if key not in self._pieces and len(self._pieces) >= _OPEN:
            del self._pieces[next(iter(self._pieces))]
        pieces = self._pieces.setdefault(key, {})
        if level == 0:  # also of another kill of a process with the same number
            pieces[what] = {}
        pieces.setdefault(what, {})[level] = name


def _path(names: Dict[int, bytes]) -> Optional[str]:
    """A cgroup's path from its names by level, the last name at 0; None where one was lost or may be cut.

    The root's is empty; without it the path has more levels.
    """
    whole = [names[level] for level in range(len(names)) if level in names and len(names[level]) < _CUT]
    if not whole or len(whole) < len(names) or whole[-1] not in (b"", b"/"):
        return None
    return "/" + b"/".join(whole[-2::-1]).decode("utf-8", "surrogateescape")


def lost(complaints: bytes, shape: Shape) -> int:
    """How many kills a tool says on stderr that it lost, at least."""
    return _lost_kills(_lost_lines(complaints, shape), shape)


def _lost_lines(text: bytes, shape: Shape) -> int:
    return sum(int(found.group("count")) for found in shape.lost.finditer(text))


def _lost_kills(lines: int, shape: Shape) -> int:
    return -(-lines // shape.most_lines)


def _kill(backend: str, told: Dict[str, Any]) -> Kill:
    values: Dict[str, Any] = {}
    for name, value in told.items():
        if name in Kill._fields and value is not None:
            values[name] = _READERS.get(name, int)(value)
    if told.get("seconds"):
        values["monotonic_usec"] = int(told["seconds"]) * 1000000 + int(told["micro"])
    if values.get("trigger_pid") == values["victim_pid"] and values.get("victim_comm"):
        values["trigger_comm"] = values["victim_comm"]
    return Kill(backend=backend, **values)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _trigger_name(value: bytes) -> Optional[str]:
    name = value.lstrip(b" ") or value
    return None if name == _NO_NAME else _text(name)


def _constraint(value: bytes) -> Optional[str]:
    number = int(value)
    return _CONSTRAINTS[number] if 0 <= number < len(_CONSTRAINTS) else None


_HIERARCHY = re.compile(r"[\w=.,-]{1,80}:(?=/)")


def _cgroup(value: bytes) -> Optional[str]:
    """A path as bpftrace prints it: behind the hierarchy's name; nothing for a cgroup that it does not find."""
    path = value.decode("utf-8", "surrogateescape")
    named = _HIERARCHY.match(path)
    path = path[named.end() :] if named else path
    return path if path.startswith("/") else None


_READERS: Dict[str, Callable[[bytes], Any]] = {
    "victim_comm": _text,
    "trigger_comm": _trigger_name,
    "loadavg": _text,
    "limit_cgroup": _cgroup,
    "victim_cgroup": _cgroup,
    "constraint": _constraint,
}


# --- the line of the tracing service --------------------------------------------------------------------------------

_HEAD = "OOM kill "
_TYPES: Dict[str, Any] = {
    "backend": str,
    "victim_comm": str,
    "trigger_comm": str,
    "loadavg": str,
    "constraint": str,
    "limit_cgroup": str,
    "victim_cgroup": str,
    "boot_id": str,
    "time": (int, float),
}


def dump(kill: Kill) -> str:
    """The kill as one line of ASCII for the journal: what it knows, as JSON behind a word for people."""
    known = {name: value for name, value in kill._asdict().items() if value is not None}
    return _HEAD + json.dumps(known, sort_keys=True)


def load(text: str) -> Optional[Kill]:
    """The kill of a line of :func:`dump`; None for every other text, of any length."""
    if not text.startswith(_HEAD) or len(text) > 4 * _LONGEST_TEXT:
        return None
    try:
        known = json.loads(text[len(_HEAD) :])
    except (ValueError, RecursionError):
        return None
    if (
        not isinstance(known, dict)
        or not {"backend", "victim_pid"} <= set(known)
        or not set(known) <= set(Kill._fields)
    ):
        return None
    for name, value in known.items():
        if isinstance(value, bool) or not isinstance(value, _TYPES.get(name, int)) or len(str(value)) > _LONGEST_TEXT:
            return None
    return Kill(**known)
