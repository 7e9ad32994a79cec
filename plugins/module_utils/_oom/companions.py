# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who said what: lines of the programs that kill, or see a kill, from journald records and syslog text. Private.

A journal record counts only if the fields that journald itself writes (``_PID``, ``_SYSTEMD_UNIT``, ``_COMM`` with
``_UID``) name the program: a user's ``logger -t earlyoom`` is nobody, and neither is what a container prints, which
the journald log driver of Docker stores under the daemon's own name. What a user's own manager or Podman says is
marked with that user's number, because it may speak only of the user's own workloads.

A line of syslog text has no such fields. Its tag and process number are all there is, and whoever may write to
/dev/log can forge both; so lines are taken from there only where a host has no journal.
"""

import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .patterns import lazy
from .rows import Stamp, stamp

_LONGEST = 16 * 1024


class Said(NamedTuple):
    """A line, and the program that logged it as far as its transport proves that."""

    program: str  # a name of PROGRAMS
    text: str
    stamp: Stamp
    uid: int = 0  # 0: speaks of the whole host; else of this user's workloads only
    writer: str = ""  # tells processes of one program apart
    unit: Optional[str] = None  # the unit that the line is about
    container_id: Optional[str] = None  # the container that the line is about
    exit_code: Optional[str] = None


class Program(NamedTuple):
    """How to recognise a program: its systemd units, its process name, its syslog tags."""

    name: str
    units: Tuple[str, ...]
    comm: str
    tags: Tuple[str, ...]
    of_users: bool = False  # users run it too, for themselves


PROGRAMS = (
    Program("systemd", ("init.scope",), "systemd", ("systemd",)),
    Program("systemd-oomd", ("systemd-oomd.service",), "systemd-oomd", ("systemd-oomd",)),
    Program("earlyoom", ("earlyoom.service",), "earlyoom", ("earlyoom",)),
    Program("nohang", ("nohang.service", "nohang-desktop.service"), "nohang", ("nohang", "nohang-desktop")),
    Program("oomd", ("oomd.service",), "oomd", ("oomd",)),
    Program("dockerd", ("docker.service", "snap.docker.dockerd.service"), "dockerd", ("dockerd", "docker.dockerd")),
    Program("containerd", ("containerd.service",), "containerd", ("containerd",)),
    Program("kubelet", ("kubelet.service", "snap.kubelet.daemon.service"), "kubelet", ("kubelet",)),
    Program("cri-o", ("crio.service", "cri-o.service"), "crio", ("crio",)),
    Program("podman", (), "podman", ("podman",), of_users=True),
    Program("conmon", (), "conmon", ("conmon",), of_users=True),
)
_BY_UNIT = {unit: each for each in PROGRAMS for unit in each.units}
_BY_COMM = {each.comm: each for each in PROGRAMS if each.name != "systemd"}
_BY_TAG = {tag: each for each in PROGRAMS for tag in each.tags}

# Set by the journald log drivers of Docker and Podman on every line that a container prints.
_OF_CONTAINERS = ("CONTAINER_ID", "CONTAINER_ID_FULL", "CONTAINER_NAME", "CONTAINER_TAG")
_USER_MANAGER = lazy(r"user@([0-9]{1,10})\.service")
# oomd writes its kills to /dev/kmsg; the kernel gives user space's writes a facility that is not its own (0).
OOMD_KMSG = "oomd kill: "
_LATEST_USEC = 600 * 1000000  # journald may read a record so much later than it was sent


def from_journal(record: Dict[str, Any]) -> Optional[Said]:
    """The line of a journald record (as `-o json` gives it, or all strings); None where its fields prove no program."""
    if any(name in record for name in _OF_CONTAINERS):
        return None
    text = _message(record.get("MESSAGE"))
    program, uid = (_speaker(record, text) if text else None) or (None, 0)
    if text is None or program is None:
        return None
    return Said(
        program=program,
        text=text[:_LONGEST],
        stamp=_stamp(record),
        uid=uid,
        writer=_word(record, "_PID") or "",
        unit=(_word(record, "UNIT") if not uid else _word(record, "USER_UNIT")) if program == "systemd" else None,
        container_id=_container_id(record, program),
        exit_code=_word(record, "PODMAN_EXIT_CODE") if program == "podman" else None,
    )


def _speaker(record: Dict[str, Any], text: str) -> Optional[Tuple[str, int]]:
    """The program by what journald itself knows of the sender, and the user whom it speaks for."""
    if _word(record, "_TRANSPORT") == "kernel":
        foreign = _word(record, "SYSLOG_FACILITY") not in (None, "0")
        return ("oomd", 0) if foreign and text.startswith(OOMD_KMSG) else None
    unit, comm = _word(record, "_SYSTEMD_UNIT"), _word(record, "_COMM")
    uid = _number(record, "_UID")
    if _word(record, "_PID") == "1":
        return "systemd", 0
    program = _BY_UNIT.get(unit or "")
    if program and program.name != "systemd":
        return program.name, 0
    if comm == "systemd":
        user = _USER_MANAGER.fullmatch(unit or "")
        own = user is not None and _word(record, "_SYSTEMD_USER_UNIT") in (None, "init.scope")
        return ("systemd", int(user.group(1))) if user and own else None
    program = _BY_COMM.get(comm or "")
    if program is None or uid is None or (uid and not program.of_users):
        return None
    return program.name, uid


def _stamp(record: Dict[str, Any]) -> Stamp:
    """When the program sent the record, else when journald read it: under memory pressure that is seconds later."""
    read = _number(record, "__REALTIME_TIMESTAMP")
    sent = _number(record, "_SOURCE_REALTIME_TIMESTAMP")
    known = read is not None and sent is not None and 0 <= read - sent <= _LATEST_USEC
    return Stamp(
        realtime_usec=sent if known else read,
        lag_usec=0 if known else None,
        boot_id=_word(record, "_BOOT_ID"),
        machine_id=_word(record, "_MACHINE_ID"),
        hostname=_word(record, "_HOSTNAME"),
        position=_word(record, "__CURSOR"),
    )


_CONMON_SCOPE = lazy(r"(?:libpod|crio)-conmon-([0-9a-f]{12,64})\.scope")


def _container_id(record: Dict[str, Any], program: str) -> Optional[str]:
    if program == "podman":
        return _word(record, "PODMAN_ID")
    scope = _CONMON_SCOPE.fullmatch(_word(record, "_SYSTEMD_UNIT") or "") if program == "conmon" else None
    return scope.group(1) if scope else None


def _message(value: Any) -> Optional[str]:
    if isinstance(value, list):  # bytes that are no UTF-8, or have control characters
        if not all(isinstance(number, int) and 0 <= number < 256 for number in value):
            return None
        return bytes(value).decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else None


def _word(record: Dict[str, Any], name: str) -> Optional[str]:
    value = record.get(name)
    return value if isinstance(value, str) else None


def _number(record: Dict[str, Any], name: str) -> Optional[int]:
    value = _word(record, name)
    return int(value) if value is not None and re.match(r"[0-9]{1,18}\Z", value) else None


# `Nov 22 21:50:30 host tag[pid]: text`, the same with an ISO time, and RFC 5424's `<30>1 time host tag pid id - text`.
_CLOCK = (
    r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})?"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)"
)
_LINE = lazy(
    r"(?:<\d{1,3}>)?(?P<clock>" + _CLOCK + r") (?P<host>\S{1,255}) "
    r"(?P<tag>[\w.-]{1,64})(?:\[(?P<pid>\d{1,10})\])?: ?(?P<text>.*)",
    re.DOTALL,
)
_LINE_5424 = lazy(
    r"(?:<\d{1,3}>1 )?(?P<clock>" + _CLOCK + r") (?P<host>\S{1,255}) "
    r"(?P<tag>[\w.-]{1,64}) (?P<pid>\d{1,10}|-) \S{1,64} (?:-|\[[^\]]{0,1024}\]) (?P<text>.*)",
    re.DOTALL,
)
_KMSG_STAMP = lazy(r"\[ *\d{1,12}\.\d{6}\] ?")


def from_text(line: str) -> Optional[Said]:
    """The line of a syslog file, by its tag alone (see above); None for other programs and other shapes."""
    found = _LINE.match(line[:_LONGEST]) or _LINE_5424.match(line[:_LONGEST])
    if not found:
        return None
    tag, text, pid = found.group("tag"), found.group("text"), found.group("pid")
    if tag == "kernel":
        bare = _KMSG_STAMP.match(text)
        text = text[bare.end() :] if bare else text
        program = _BY_TAG["oomd"] if text.startswith(OOMD_KMSG) else None
    else:
        program = _BY_TAG.get(tag)
    # A user's own manager has the same tag, and the text does not tell whose it is.
    if program is None or (program.name == "systemd" and pid != "1"):
        return None
    printed = stamp(found.group("clock") + " ")._replace(
        daemon=True, hostname=found.group("host"), position=found.group("clock")
    )
    return Said(program=program.name, text=text.rstrip("\r\n"), stamp=printed, writer=pid or "")


def needles() -> List[bytes]:
    """Bytes of which every line that matters has one, in a syslog file."""
    return [b"OOM killer", b"oom-kill", b"status=9/KILL", b"oomd", b"earlyoom", b"nohang"] + [
        b"TaskOOM",
        b"{137 ",
        b" container died ",
        b" container oom ",
        b"OOM received",
        b"oom event",
        b"OOMKill",
    ]
