# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only the moment of a kill can tell: a victim's names and numbers, before its parent collects it. Private."""

import os
import time
from typing import Any, Dict, Optional

from .._oom import traces
from . import run

_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # include/linux/proc_ns.h


def same_numbers(host: run.Host) -> bool:
    """Whether /proc numbers processes as the kernel's tracers do: in the first process namespace alone."""
    try:
        return os.stat(run.below(host, "/proc/self/ns/pid")).st_ino == _INITIAL_PID_NAMESPACE
    except OSError:
        return False


def witness(host: run.Host, kill: traces.Kill, boot_id: Optional[str], same: bool) -> traces.Kill:
    """The kill with what the host says at this moment: the victim has its cgroup until its parent collects it.

    :arg same: whether /proc has the numbers that the tracers have (``same_numbers``).

    A backend that names a thread gets its process's number, which is what the kernel logs.
    """
    told: Dict[str, Any] = {"time": time.time(), "boot_id": boot_id}
    if same:
        folder = "/proc/{0}/".format(kill.victim_pid)
        if kill.victim_cgroup is None:
            text = run.read_text(host, folder + "cgroup")  # before the state: who exits never comes back
            told["victim_cgroup"] = _memory_cgroup(text, _exits(run.read_bytes(host, folder + "stat")))
        status = _fields(run.read_text(host, folder + "status"))
        if status.get("Tgid", "").isdigit():
            told["victim_pid"] = int(status["Tgid"])
        if kill.victim_comm is None:
            told["victim_comm"] = comm(host, kill.victim_pid)
        if kill.trigger_comm is None and kill.trigger_pid is not None:
            told["trigger_comm"] = comm(host, kill.trigger_pid)
    if kill.loadavg is None:
        told["loadavg"] = run.read_text(host, "/proc/loadavg")
    return kill._replace(**told)


def _fields(text: Optional[str]) -> Dict[str, str]:
    pairs = (line.partition(":") for line in (text or "").splitlines())
    return {name: value.strip() for name, _colon, value in pairs}


def comm(host: run.Host, pid: int) -> Optional[str]:
    """The name of a process; None where it has gone."""
    data = run.read_bytes(host, "/proc/{0}/comm".format(pid))
    return data[:-1].decode("utf-8", "surrogateescape") if data else None


_PF_EXITING = 0x4  # include/linux/sched.h
_DELETED = " (deleted)"


def _exits(text: Optional[bytes]) -> bool:
    """Whether a process exits or has gone, by its /proc/PID/stat; its flags are the ninth field (proc(5))."""
    words = (text or b"").rpartition(b")")[2].split()
    return len(words) < 7 or bool(int(words[6]) & _PF_EXITING)


def _memory_cgroup(text: Optional[str], exits: bool) -> Optional[str]:
    """The path in the memory controller's hierarchy, else in the unified one (cgroups(7)).

    kernel/cgroup/cgroup.c, proc_cgroup_show: in hierarchies of version 1 whoever exits is shown in the root; the
    unified one shows where it was, and marks a cgroup that was removed since.
    """
    unified = None
    for line in (text or "").splitlines():
        number, _colon, rest = line.partition(":")
        controllers, _colon, path = rest.partition(":")
        if "memory" in controllers.split(","):
            return None if exits and path == "/" else path
        if number == "0":
            unified = path[: -len(_DELETED)] if exits and path.endswith(_DELETED) else path
    return unified
