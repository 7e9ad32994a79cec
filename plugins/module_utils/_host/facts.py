# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of a host that an OOM report alone does not tell. Private to this collection."""

import os
from typing import Any, Dict, List, Optional, Union

from .._oom.times import iso
from . import counters, run

# What decides who is killed, when, and what of it is logged.
_SYSCTLS = tuple(
    "/proc/sys/" + name
    for name in (
        "vm/overcommit_memory",
        "vm/overcommit_ratio",
        "vm/overcommit_kbytes",
        "vm/panic_on_oom",
        "vm/oom_kill_allocating_task",
        "vm/oom_dump_tasks",
        "vm/min_free_kbytes",
        "vm/swappiness",
        "vm/admin_reserve_kbytes",
        "vm/user_reserve_kbytes",
        "kernel/dmesg_restrict",
        "kernel/printk",
        "kernel/printk_ratelimit",
        "kernel/printk_ratelimit_burst",
    )
)
# Names of processes that kill before the kernel does; the kernel cuts a name at 15 bytes.
_KILLERS = {
    "systemd-oomd": "systemd-oomd",
    "oomd": "oomd",
    "earlyoom": "earlyoom",
    "nohang": "nohang",
    "low-memory-moni": "low-memory-monitor",
}


def host_block(host: run.Host) -> Dict[str, Any]:
    """What and how large the host is, and the settings that OOM kills depend on; null where it does not tell.

    ``boot_time`` is the boot's whole second. ``sysctls`` has identifiers as keys (``vm_panic_on_oom``), integers
    as values, and text where a setting has several numbers.
    """
    memory = run.pairs(host, "/proc/meminfo")
    return {
        "hostname": counters.hostname(host),
        "machine_id": counters.machine_id(host),
        "boot_id": counters.boot_id(host),
        "boot_time": iso(counters.booted_at(host)),
        "kernel": counters.kernel(host),
        "arch": _arch(host),
        "page_size_bytes": counters.page_size(host),
        "memory_total_bytes": _bytes(memory.get("MemTotal")),
        "memory_available_bytes": _bytes(memory.get("MemAvailable")),
        "swap_total_bytes": _bytes(memory.get("SwapTotal")),
        "swap_free_bytes": _bytes(memory.get("SwapFree")),
        "cgroup_mode": cgroup_mode(host),
        "systemd_version": systemd_version(host),
        "sysctls": {_identifier(path): _setting(run.read_text(host, path)) for path in _SYSCTLS},
        "userspace_oom_killers": userspace_oom_killers(host),
    }


def _arch(host: run.Host) -> Optional[str]:
    return os.uname().machine if run.live(host) else run.read_text(host, "/proc/sys/kernel/arch")


def _bytes(kilobytes: Optional[int]) -> Optional[int]:
    return None if kilobytes is None else kilobytes * 1024


def _identifier(path: str) -> str:
    return path[len("/proc/sys/") :].replace("/", "_")


def _setting(text: Optional[str]) -> Union[int, str, None]:
    words = (text or "").split()
    if not words:
        return None
    return int(words[0]) if len(words) == 1 and words[0].lstrip("-").isdigit() else " ".join(words)


def cgroup_mode(host: run.Host) -> Optional[str]:
    """`v2` (one tree), `v1` (the memory controller's own tree), `hybrid` (that beside a v2 tree); None: neither."""
    unified = memory = False
    for line in (run.read_text(host, "/proc/self/mounts") or "").splitlines():
        fields = line.split(" ")
        if len(fields) > 3:
            unified = unified or fields[2] == "cgroup2"
            memory = memory or (fields[2] == "cgroup" and "memory" in fields[3].split(","))
    if memory:
        return "hybrid" if unified else "v1"
    return "v2" if unified else None


def systemd_version(host: run.Host) -> Optional[str]:
    """Version of the installed systemd, such as `252`; None where there is none or the host is a copied tree."""
    program = host.which("systemctl") or host.which("journalctl")
    if program is None or not run.live(host):
        return None
    running = host.stream([program, "--version"])
    words = b"".join(running.chunks).split()
    running.end()
    return words[1].decode("ascii", "replace") if len(words) > 1 and words[0] == b"systemd" else None


def userspace_oom_killers(host: run.Host) -> List[str]:
    """Running daemons that kill before the kernel does."""
    processes = [name for name in run.names(host, "/proc") if name.isdigit()]
    running = {run.read_text(host, "/proc/{0}/comm".format(process)) for process in processes}
    return sorted(_KILLERS[name] for name in running if name in _KILLERS)
