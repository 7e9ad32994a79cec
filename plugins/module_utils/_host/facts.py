# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of a host that an OOM report alone does not tell. Private to this collection."""

import os
from typing import Any, Dict, List, NamedTuple, Optional, Union

from .._oom import workload
from .._oom.times import iso
from . import counters, journald, run

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
# Daemons without which nobody gets in, no container runs, or no evidence is kept.
_CRITICAL = {
    "sshd": "sshd",
    "dockerd": "dockerd",
    "containerd": "containerd",
    "crio": "crio",
    "kubelet": "kubelet",
    "systemd-journal": "systemd-journald",
    "rsyslogd": "rsyslogd",
    "dbus-daemon": "dbus-daemon",
    "dbus-broker": "dbus-broker",
}


def host_block(host: run.Host) -> Dict[str, Any]:
    """What and how large the host is, and the settings that OOM kills depend on; null where it does not tell.

    ``boot_time`` is the boot's whole second. ``sysctls`` has identifiers as keys (``vm_panic_on_oom``), integers
    as values, and text where a setting has several numbers. ``critical_processes`` are the running daemons that a
    host cannot do without, with the adjustment that protects them (-1000: never chosen) or does not.
    """
    memory = run.pairs(host, "/proc/meminfo")
    processes = _processes(host)
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
        "swaps": swaps(host),
        "zram": zram(host),
        "zswap": zswap(host),
        "commit_limit_bytes": _bytes(memory.get("CommitLimit")),
        "committed_bytes": _bytes(memory.get("Committed_AS")),
        "cgroup_mode": cgroup_mode(host),
        "systemd_version": systemd_version(host),
        "sysctls": {_identifier(path): _setting(run.read_text(host, path)) for path in _SYSCTLS},
        "journald": journald.settings(host),
        "userspace_oom_killers": sorted({_KILLERS[each.name] for each in processes if each.name in _KILLERS}),
        "critical_processes": _critical(host, processes),
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


def swaps(host: run.Host) -> List[Dict[str, Any]]:
    """Swap areas in use: the rows of /proc/swaps (mm/swapfile.c: swap_show), the highest priority first."""
    found = []
    for line in (run.read_text(host, "/proc/swaps") or "").splitlines()[1:]:
        words = line.rsplit(None, 4)
        if len(words) == 5 and words[2].isdigit() and words[3].isdigit() and words[4].lstrip("-").isdigit():
            found.append(
                {
                    "path": words[0],
                    "type": words[1],
                    "size_bytes": int(words[2]) * 1024,
                    "used_bytes": int(words[3]) * 1024,
                    "priority": int(words[4]),
                }
            )
    return sorted(found, key=lambda area: -area["priority"])


def zram(host: run.Host) -> List[Dict[str, Any]]:
    """Compressed RAM disks that were given a size (drivers/block/zram: disksize, comp_algorithm)."""
    found = []
    for name in run.names(host, "/sys/block"):
        size = run.read_text(host, "/sys/block/{0}/disksize".format(name)) if name.startswith("zram") else None
        if size and size.isdigit() and int(size):
            algorithms = run.read_text(host, "/sys/block/{0}/comp_algorithm".format(name)) or ""
            found.append({"name": name, "size_bytes": int(size), "algorithm": _chosen(algorithms)})
    return found


def _chosen(alternatives: str) -> Optional[str]:
    """The one in brackets of `lzo [lz4] zstd`; a kernel with one algorithm prints it without."""
    words = alternatives.split()
    marked = [word[1:-1] for word in words if word.startswith("[") and word.endswith("]")]
    return (marked + words + [None])[0] if len(words) == 1 or marked else None


def zswap(host: run.Host) -> Optional[Dict[str, Any]]:
    """Compressed cache before swap (mm/zswap.c, module parameters); None where the kernel has none."""
    texts = {
        name: run.read_text(host, "/sys/module/zswap/parameters/" + name)
        for name in ("enabled", "compressor", "max_pool_percent")
    }
    if texts["enabled"] is None:
        return None
    percent = texts["max_pool_percent"] or ""
    return {
        "enabled": texts["enabled"] in ("Y", "1"),
        "compressor": texts["compressor"],
        "max_pool_percent": int(percent) if percent.isdigit() else None,
    }


class _Process(NamedTuple):
    pid: int
    name: str
    parent: int


def _processes(host: run.Host) -> List[_Process]:
    """Running processes whose names mean something here, by pid: the host's own, whoever else calls himself so.

    A name is the process's own choice, so a daemon is one only if root or a system user runs it, as a unit of the
    host or outside of all units: not in a container, a machine or a user's session.
    """
    found = []
    for pid in sorted(int(name) for name in run.names(host, "/proc") if name.isdigit()):
        # `pid (name) state parent …`: the name may hold blanks and parentheses.
        text = run.read_text(host, "/proc/{0}/stat".format(pid)) or ""
        name = text[text.find("(") + 1 : text.rfind(")")]
        words = text[text.rfind(")") + 1 :].split()
        known = name in _KILLERS or name in _CRITICAL
        if known and len(words) > 1 and words[1].isdigit() and _of_host(host, pid):
            found.append(_Process(pid, name, int(words[1])))
    return found


_FIRST_USER = 1000  # SYS_UID_MAX of login.defs is 999 everywhere
_OF_HOST = ("unit", "scope", "slice", "root", "cgroup", None)


def _of_host(host: run.Host, pid: int) -> bool:
    for line in (run.read_text(host, "/proc/{0}/status".format(pid)) or "").splitlines():
        words = line.split()
        if len(words) > 2 and words[0] == "Uid:" and words[2].isdigit() and int(words[2]) >= _FIRST_USER:
            return False
    owner = workload.identify(_cgroup_of(host, pid))
    return owner["kind"] in _OF_HOST and owner["engine"] is None and owner["uid"] is None


def critical_processes(host: run.Host) -> List[Dict[str, Any]]:
    """The daemons that run and that a host cannot do without: `name pid unit oom_score_adj`."""
    return _critical(host, _processes(host))


def _critical(host: run.Host, processes: List[_Process]) -> List[Dict[str, Any]]:
    """The daemons themselves: what one of them started under its own name, as sshd does per session, is left out."""
    names = {each.pid: each.name for each in processes}
    return [
        {
            "name": _CRITICAL[each.name],
            "pid": each.pid,
            "unit": workload.identify(_cgroup_of(host, each.pid))["unit"],
            "oom_score_adj": _integer(run.read_text(host, "/proc/{0}/oom_score_adj".format(each.pid))),
        }
        for each in processes
        if each.name in _CRITICAL and names.get(each.parent) != each.name
    ]


def _cgroup_of(host: run.Host, pid: int) -> Optional[str]:
    """Where systemd put a process: its own v1 tree, else the v2 tree (`id:controllers:path`, kernel/cgroup)."""
    unified = None
    for line in (run.read_text(host, "/proc/{0}/cgroup".format(pid)) or "").splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3 and fields[1] == "name=systemd":
            return fields[2]
        if len(fields) == 3 and fields[0] == "0":
            unified = fields[2]
    return unified


def _integer(text: Optional[str]) -> Optional[int]:
    return int(text) if text and text.lstrip("-").isdigit() else None
