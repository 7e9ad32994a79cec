# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills by user space: systemd-oomd, earlyoom, nohang and oomd, as events beside the kernel's. Private.

The kernel prints nothing for these and does not count them, so ``kill_lines`` is 0. The scope is ``userspace``;
``killer`` names the program, ``context`` has its own words. A line that announces a kill may be followed by others of
the same process: that it was a dry run, that the victim did not exit, that the same victim is signalled again.

Trust: see :mod:`companions`. A killer prints names that its victim chose. Process names have 15 bytes, too few to
imitate a line; but where a killer prints the command line or working directory of its victim with the newlines in
them (earlyoom 1.8, nohang with ``print_victim_status``), that victim can make it say anything.
"""

import collections
import hashlib
import re
from typing import Any, Callable, Deque, Dict, List, Match, NamedTuple, Optional, Tuple

from . import companions, context, lines, report, workload
from .patterns import lazy
from .rows import Stamp
from .times import Context, iso, when

SCOPE = "userspace"
_AGAIN = 120.0  # seconds in which the same victim is signalled again: one kill
_SAME_ACT = 60.0  # seconds between two programs' words about one kill
_TEXTS = 8
_VICTIMS = 1000
_WRITERS = 64
_MIB = 1024  # in kB


class _Victim(NamedTuple):
    """What a line says of a process; sizes in kB."""

    pid: int
    comm: str
    uid: Optional[int] = None
    score: Optional[int] = None
    oom_score_adj: Optional[int] = None
    total_vm: Optional[int] = None
    anon: Optional[int] = None
    file: Optional[int] = None
    shmem: Optional[int] = None


class _Kill:
    """One kill while its lines come in."""

    def __init__(self, said: companions.Said, identity: Tuple[Any, ...]) -> None:
        self.killer = said.program
        self.identity = identity  # what every transport carries of it
        self.first = self.last = said.stamp
        self.texts: List[Tuple[Stamp, str]] = []
        self.victims: List[_Victim] = []
        self.cgroup: Optional[str] = None
        self.limit: Optional[str] = None
        self.unit: Optional[str] = None
        self.outcome = "killed"
        self.dry = False
        self.tell(said)

    def tell(self, said: companions.Said) -> None:
        self.last = said.stamp
        if len(self.texts) < _TEXTS:
            self.texts.append((said.stamp, said.text))


class _Writer:
    """What one process has said that its next lines refer to."""

    def __init__(self) -> None:
        self.open: Optional[_Kill] = None  # announced, its end not told yet
        self.cut: Optional[companions.Said] = None  # a line cut in two by a newline in a name
        self.notes: Dict[str, Any] = {}


class Killers:
    """Collects the kills of a stream of lines; the newest ``most`` are kept."""

    def __init__(self, known: Context, most: int = 1000) -> None:
        self._context = known
        self._most = most
        self._kills: Deque[_Kill] = collections.deque(maxlen=most)
        self._of_units: Deque[Tuple[companions.Said, Match[str]]] = collections.deque(maxlen=most)
        self._writers: "collections.OrderedDict[Tuple[Any, ...], _Writer]" = collections.OrderedDict()

    def see(self, said: companions.Said) -> None:
        """Take the next line, of any program, in the order of time."""
        reader = _READERS.get(said.program)
        if reader is None:
            return
        key = (said.program, said.writer, said.stamp.boot_id)
        writer = self._writers.setdefault(key, _Writer())
        self._writers.move_to_end(key)
        if len(self._writers) > _WRITERS:
            self._writers.popitem(last=False)
        reader(self, writer, said)

    def events(self) -> List[Dict[str, Any]]:
        """One event for each kill, with every key of the kernel's events; not in the order of time."""
        kills = [each for each in self._kills if not each.dry]
        kills.extend(_of_unit(said, found) for said, found in self._of_units if not self._told(said, found))
        return [_event(each, self._context) for each in kills[: self._most]]

    def _told(self, said: companions.Said, found: Match[str]) -> bool:
        """Whether systemd-oomd's own line tells of the kill that systemd saw in a unit."""
        unit = found.group("unit")
        return any(
            each.killer == "systemd-oomd"
            and unit in (each.cgroup or "").split("/")
            and self._apart(each.first, said.stamp) <= _SAME_ACT
            for each in self._kills
        )

    def _apart(self, one: Stamp, other: Stamp) -> float:
        first, second = when(one, self._context)[0], when(other, self._context)[0]
        return abs(second - first) if first is not None and second is not None else 0.0

    def add(self, kill: _Kill) -> _Kill:
        self._kills.append(kill)
        return kill

    def add_of_unit(self, said: companions.Said, found: Match[str]) -> None:
        if not self._told(said, found):
            self._of_units.append((said, found))

    def again(self, writer: _Writer, victim: _Victim, said: companions.Said) -> Optional[_Kill]:
        """The kill that this line goes on with: the same victim, signalled a moment ago and not seen to exit."""
        kill = writer.open
        if kill is None or not kill.victims or kill.victims[0].pid != victim.pid:
            return None
        return kill if self._apart(kill.last, said.stamp) <= _AGAIN else None

    def of_cgroup(self, killer: str, cgroup: str, said: companions.Said) -> Optional[_Kill]:
        """A kill that the same program has told by another way."""
        for kill in reversed(self._kills):
            if kill.killer == killer and kill.cgroup == cgroup:
                return kill if self._apart(kill.last, said.stamp) <= _SAME_ACT else None
        return None


# --- systemd-oomd: 248 … 257 "Killed", newer "Marked … for killing"; 247 says only that it will try -------------------

_PERCENT = r"[0-9.,]{1,20}%"
# Greedy: a cgroup may have a name like the rest of the line.
_TARGET = r"(?:Killed (?P<killed>/.*)|Marked (?P<marked>/.*) for killing)"
_OOMD_PRESSURE = lazy(
    _TARGET
    + r" due to memory pressure for (?P<limit>/\S*) being "
    + _PERCENT
    + " > "
    + _PERCENT
    + r" for > [^\n]{1,80} with reclaim activity",
    re.DOTALL,
)
_OOMD_SWAP = lazy(
    _TARGET + r" due to memory used \(\d{1,20}\) / total \(\d{1,20}\) and "
    r"swap used \(\d{1,20}\) / total \(\d{1,20}\) being more than " + _PERCENT,
    re.DOTALL,
)
_OOMD_DRY = lazy(r"oomd dry-run: Would have tried to kill (?P<cgroup>/.*) with recurse=\w{1,5}", re.DOTALL)


def _systemd_oomd(killers: Killers, writer: _Writer, said: companions.Said) -> None:
    dry = _OOMD_DRY.fullmatch(said.text)
    if dry:
        writer.notes["dry"] = dry.group("cgroup")
        return
    found = _OOMD_PRESSURE.fullmatch(said.text) or _OOMD_SWAP.fullmatch(said.text)
    if not found:
        return
    kill = _Kill(said, (_one_wording(said.text),))
    kill.cgroup = found.group("killed") or found.group("marked")
    kill.limit = found.groupdict().get("limit")
    kill.dry = writer.notes.pop("dry", None) == kill.cgroup
    killers.add(kill)


def _one_wording(text: str) -> str:
    return text[len("Killed ") :].replace(" for killing due to", " due to")


_OF_UNIT = lazy(r"(?P<unit>\S{1,256}): systemd-oomd killed (?:\d{1,18}|some) process\(es\) in this unit\.")


def _systemd(killers: Killers, _writer: _Writer, said: companions.Said) -> None:
    """systemd sees what systemd-oomd has killed in a unit. A user's manager is no witness."""
    found = _OF_UNIT.fullmatch(said.text) if said.uid == 0 else None
    if found and said.unit in (None, found.group("unit")):
        killers.add_of_unit(said, found)


def _of_unit(said: companions.Said, found: Match[str]) -> _Kill:
    kill = _Kill(said._replace(program="systemd-oomd"), ())
    kill.unit = found.group("unit")
    # No number in this line tells two kills in a unit apart.
    kill.identity = (said.text, (said.stamp.realtime_usec or 0) // 60000000, said.stamp.position)
    return kill


# --- earlyoom: 1.0 … 1.2 "Killing", 1.3 "sending", 1.4 … 1.7 with uid, 1.8 "oom_score" and the command line ---------

_NUMBER = r"-?\d{1,18}"
_EARLYOOM = lazy(
    r'(?:sending SIG(?:TERM|KILL) to|killing) process (?P<pid>\d{1,10})(?: uid (?P<uid>\d{1,10}))? "(?P<comm>.{0,64}?)"'
    r"(?: with signal \d{1,2})?: (?:badness|oom_score) (?P<score>" + _NUMBER + r")"
    r"(?:, oom_score_adj (?P<adj>" + _NUMBER + r"))?(?:, badness " + _NUMBER + r" KiB)?"
    r", VmRSS \d{1,18} MiB(?:, (?:cmdline|ordering) .*)?",
    re.DOTALL,
)
_EARLYOOM_FIRST = lazy(r"Killing process (?P<pid>\d{1,10}) (?P<comm>.{1,64})")
_EARLYOOM_ENDED = lazy(r"process (?:-?\d{1,10} )?exited after ")
_EARLYOOM_FAILED = lazy(r"kill failed: (?P<reason>.{1,80})|process -?\d{1,10} did not exit")
_EARLYOOM_DRY = "dryrun, not actually sending any signal"


def _earlyoom(killers: Killers, writer: _Writer, said: companions.Said) -> None:
    said = _whole(writer, said)
    found = _EARLYOOM.fullmatch(said.text) or _EARLYOOM_FIRST.fullmatch(said.text)
    if found:
        named = found.groupdict()
        victim = _Victim(
            pid=int(named["pid"]),
            comm=named["comm"],
            uid=_integer(named.get("uid")),
            score=_integer(named.get("score")),
            oom_score_adj=_integer(named.get("adj")),
        )
        kill = killers.again(writer, victim, said)
        if kill:
            kill.tell(said)
            kill.outcome = "killed"
        else:
            kill = killers.add(_Kill(said, (said.text.partition(", cmdline ")[0],)))
            kill.victims = [victim]
        writer.open = kill
        writer.cut = None
    elif said.text.startswith(("sending SIGTERM to process ", "sending SIGKILL to process ")):
        writer.cut = said
    elif writer.open:
        _earlyoom_after(writer, writer.open, said)


def _earlyoom_after(writer: _Writer, kill: _Kill, said: companions.Said) -> None:
    failed = _EARLYOOM_FAILED.match(said.text)
    if said.text.startswith(_EARLYOOM_DRY):
        kill.dry = True
        writer.open = None
    elif _EARLYOOM_ENDED.match(said.text):
        kill.tell(said)
        writer.open = None
    elif failed:
        kill.tell(said)
        kill.outcome = "already_exiting" if failed.group("reason") == "No such process" else "unknown"
    elif said.text.startswith("escalating to SIGKILL"):
        kill.tell(said)


def _whole(writer: _Writer, said: companions.Said) -> companions.Said:
    """The line with the part before it, if a newline in a process's name has cut it off (stdout is logged by line)."""
    cut, writer.cut = writer.cut, None
    if cut is None or len(cut.text) > 256:
        return said
    return cut._replace(text=cut.text + "\n" + said.text)


def _integer(digits: Optional[str]) -> Optional[int]:
    return int(digits) if digits else None


# --- nohang 0.1 and 0.2: a round of lines for each action -------------------------------------------------------------

_NOHANG_CHOSEN = lazy(
    r" *PID: *(?P<pid>\d{1,10}), [nN]ame: (?P<comm>.{0,64}), badness: (?P<score>" + _NUMBER + ")", re.DOTALL
)
_NOHANG_CACHED = lazy(r"New victim is cached victim (?P<pid>\d{1,10}) \((?P<comm>.{0,64})\)", re.DOTALL)
_NOHANG_ROUND = lazy(r"[Pp]rocess with highest badness|\A>>=== STARTING ")
_NOHANG_EUID = lazy(r" *PID: *(?P<pid>\d{1,10}), name: .{0,64}, state: .{1,40}, EUID: (?P<uid>\d{1,10}), ")
_NOHANG_ADJ = lazy(r" *badness: .{1,40}, oom_score_adj: *(?P<adj>" + _NUMBER + ")")
_NOHANG_SIZES = lazy(
    r" *Vm, MiB: *Size: (?P<total_vm>\d{1,12}), RSS: \d{1,12}"
    r"(?: \(Anon: (?P<anon>\d{1,12}), File: (?P<file>\d{1,12}), Shmem: (?P<shmem>\d{1,12})\))?, "
)
_NOHANG_CGROUP = lazy(r" *cgroup_v[12]: *(?P<cgroup>/.*)")
_NOHANG_SENT = lazy(r" *Send(?:ing)? SIG(?:TERM|KILL) to the victim")
_NOHANG_COMMAND = lazy(r" *(?:Executing|Run) the command: ")
_NOHANG_ENDED = lazy(r"The victim (?:died in|became a zombie in) ")
_NOHANG_ALIVE = lazy(r"The victim doesn't respond on corrective action")
_NOHANG_FAILED = {
    "Selected process died before corrective action": "already_exiting",
    "Cannot send a signal: PermissionError": "unknown",
}


def _nohang(killers: Killers, writer: _Writer, said: companions.Said) -> None:
    for text in said.text.split("\n"):
        _nohang_line(killers, writer, said._replace(text=text))


def _nohang_line(killers: Killers, writer: _Writer, said: companions.Said) -> None:
    said = _whole(writer, said)
    text, notes = said.text, writer.notes
    chosen = _NOHANG_CHOSEN.fullmatch(text) or _NOHANG_CACHED.fullmatch(text)
    if chosen:
        if "pid" not in notes:
            notes.update(chosen.groupdict(), said=said)
        return
    for pattern in (_NOHANG_EUID, _NOHANG_ADJ, _NOHANG_SIZES, _NOHANG_CGROUP):
        found = pattern.match(text)
        if found and "pid" in notes and found.groupdict().get("pid", notes["pid"]) == notes["pid"]:
            for key, value in found.groupdict().items():
                notes.setdefault(key, value)
            return
    if re.match(r" *PID: *\d{1,10}, [nN]ame: ", text) and "state: " not in text:
        writer.cut = said
    elif _NOHANG_ROUND.search(text):
        notes.clear()
    elif _NOHANG_SENT.match(text) or _NOHANG_COMMAND.match(text):
        _nohang_act(killers, writer, said)
    elif writer.open:
        _nohang_after(writer, writer.open, said)


def _nohang_act(killers: Killers, writer: _Writer, said: companions.Said) -> None:
    notes, writer.notes = writer.notes, {}
    if "pid" not in notes:
        return
    sizes = {key: int(notes[key]) * _MIB for key in ("total_vm", "anon", "file", "shmem") if notes.get(key)}
    victim = _Victim(
        pid=int(notes["pid"]),
        comm=notes["comm"],
        uid=_integer(notes.get("uid")),
        score=_integer(notes.get("score")),
        oom_score_adj=_integer(notes.get("adj")),
        **sizes,
    )
    kill = killers.again(writer, victim, said)
    if kill is None:
        kill = killers.add(_Kill(said, (victim.pid, victim.comm, victim.score)))
        kill.victims = [victim]
        kill.cgroup = notes.get("cgroup")
        kill.texts.insert(0, (notes["said"].stamp, notes["said"].text.strip()))
    else:
        kill.tell(said)
    # A command (systemctl restart, for instance) is no signal: whether the victim died is told afterwards.
    kill.outcome = "killed" if _NOHANG_SENT.match(said.text) else "unknown"
    writer.open = kill


def _nohang_after(writer: _Writer, kill: _Kill, said: companions.Said) -> None:
    if _NOHANG_ENDED.match(said.text):
        kill.tell(said)
        kill.outcome = "killed"
        writer.open = None
    elif _NOHANG_ALIVE.match(said.text):
        kill.tell(said)
        kill.outcome = "unknown"
    elif said.text in _NOHANG_FAILED:
        kill.tell(said)
        kill.outcome = _NOHANG_FAILED[said.text]


# --- oomd: on stdout "Trying to kill", "Killed n: pid(comm) …"; then one line in /dev/kmsg --------------------------

_OOMD_SOURCE = lazy(r"\[[^\]\n]{1,200}:\d{1,6}\] ")
_OOMD_TRYING = lazy(r"Trying to kill (?P<cgroup>/.*?)(?: with cgroup\.freeze and cgroup\.kill)?", re.DOTALL)
_OOMD_KILLED = lazy(r"Killed (?P<count>\d{1,9}): (?P<victims>.+)", re.DOTALL)
_OOMD_VICTIM = lazy(r"(?P<pid>\d{1,10})(?:\((?P<comm>.{0,64}?)\))?(?P<failed>\[E\d{1,4}\])?(?: |$)", re.DOTALL)
_OOMD_NOT = ("OOMD: In dry-run mode", "No processed killed from ", "Failed to kill cgroup ")
_OOMD_RECORD = lazy(
    companions.OOMD_KMSG
    + r"[\d.]{1,20} [\d.]{1,20} [\d.]{1,20} (?P<cgroup>.+) \d{1,20} (?:ruleset:|detector:)(?P<rest>.*)",
    re.DOTALL,
)
_MOUNTS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")


def _oomd(killers: Killers, writer: _Writer, said: companions.Said) -> None:
    place = _OOMD_SOURCE.match(said.text)
    said = said._replace(text=said.text[place.end() :]) if place else said
    record = _OOMD_RECORD.match(said.text)
    trying = _OOMD_TRYING.fullmatch(said.text)
    killed = _OOMD_KILLED.fullmatch(said.text)
    if record:
        _oomd_record(killers, said, record)
    elif trying:
        writer.notes = {"cgroup": _below_mount(trying.group("cgroup"))}
        writer.open = None
    elif killed and int(killed.group("count")):
        kill = writer.open
        if kill is None:
            kill = writer.open = killers.add(_Kill(said, (said.text,)))
            kill.cgroup = writer.notes.get("cgroup")
        else:
            kill.tell(said)
        kill.victims = (kill.victims + _oomd_victims(killed))[:_VICTIMS]
    elif said.text.startswith(_OOMD_NOT):
        writer.notes = {}


def _oomd_record(killers: Killers, said: companions.Said, record: Match[str]) -> None:
    if "killer:(dry)" in record.group("rest"):
        return
    cgroup = "/" + record.group("cgroup").lstrip("/")
    kill = killers.of_cgroup("oomd", cgroup, said)
    if kill:
        kill.tell(said)
    else:
        kill = killers.add(_Kill(said, ()))
        kill.cgroup = cgroup
    kill.identity = (said.text,)  # the one line that syslog files have too


def _oomd_victims(killed: Match[str]) -> List[_Victim]:
    """The processes of a list; none where a name looks like the list itself, so that their number is not the told."""
    found = list(_OOMD_VICTIM.finditer(killed.group("victims")))
    signalled = [each for each in found if not each.group("failed")]
    if len(signalled) != int(killed.group("count")) or sum(map(len, (each.group() for each in found))) != len(
        killed.group("victims")
    ):
        return []
    return [_Victim(int(each.group("pid")), each.group("comm") or "") for each in signalled]


def _below_mount(path: str) -> str:
    for mount in _MOUNTS:
        if path.startswith(mount + "/"):
            return path[len(mount) :]
    return path


_READERS: Dict[str, Callable[[Killers, _Writer, companions.Said], None]] = {
    "systemd": _systemd,
    "systemd-oomd": _systemd_oomd,
    "earlyoom": _earlyoom,
    "nohang": _nohang,
    "oomd": _oomd,
}


# --- the event ------------------------------------------------------------------------------------------------------


def _event(kill: _Kill, known: Context) -> Dict[str, Any]:
    """The event of a kill: that of an empty kernel report, with what the killer has said."""
    blank = report.Report(kill.first)
    blank.last = kill.last
    blank.kills = [(_as_line(victim), kill.first) for victim in kill.victims]
    event = report.event(blank, known)
    for victim, seen in zip(event["victims"], _distinct(kill.victims)):
        victim["score"] = seen.score
        victim["cgroup"] = report.printable(kill.cgroup)
    cgroup, limit = report.printable(kill.cgroup), report.printable(kill.limit)
    texts = "\n".join(text for _stamp, text in kill.texts)
    event.update(
        id=_identity(kill),
        killer=kill.killer,
        scope=SCOPE,
        constraint=None,
        outcome=kill.outcome,
        kill_lines=0,
        victim_cgroup=cgroup,
        limit_cgroup=limit,
        limit_level=_level(kill),
        workload=workload.identify(cgroup or (kill.unit and "/" + kill.unit)),
        limit_workload=workload.identify(limit),
        monotonic_usec=None,
        completeness=dict(event["completeness"], complete=True, missing=[], gaps=0, truncated=False),
        context=[
            {
                "source": kill.killer if kill.unit is None else "systemd",
                "time": iso(when(at, known)[0]),
                "unit": report.printable(kill.unit),
                "container_id": None,
                "message": context.shown(text),
            }
            for at, text in kill.texts
        ],
        raw=report.printable(texts) if known.raw else None,
        raw_sha256=hashlib.sha256(texts.encode("utf-8", "surrogateescape")).hexdigest(),
    )
    return event


def _as_line(victim: _Victim) -> lines.Kill:
    return lines.Kill(
        reason=None,
        pid=victim.pid,
        comm=victim.comm,
        uid=victim.uid,
        total_vm_kb=victim.total_vm,
        anon_rss_kb=victim.anon,
        file_rss_kb=victim.file,
        shmem_rss_kb=victim.shmem,
        pgtables_kb=None,
        oom_score_adj=victim.oom_score_adj,
        whole=True,
    )


def _distinct(victims: List[_Victim]) -> List[_Victim]:
    return list({victim.pid: victim for victim in reversed(victims)}.values())[::-1]


def _level(kill: _Kill) -> Optional[str]:
    """Whose memory the killer judged: systemd-oomd's pressure is a cgroup's, everything else the host's."""
    if kill.limit is None:
        return "host" if kill.unit is None else None
    return "own" if kill.limit == kill.cgroup else "ancestor"


def _identity(kill: _Kill) -> str:
    """16 hex digits over what the journal and a syslog file both have: the words, and the numbers in them."""
    words = "|".join(map(str, (kill.killer,) + kill.identity))
    return hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()[:16]
