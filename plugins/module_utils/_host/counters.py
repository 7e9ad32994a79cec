# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters, clocks and identifiers of a host. Private to this collection."""

import os
import time
from typing import Optional, Tuple

from . import run

# printk's clock starts with the time stamp counter, CLOCK_MONOTONIC some initialisation later: 21 ms apart in the
# virtual machines of the test logs, more where much memory is set up in between.
_CLOCK_START_SECONDS = 1.0


def oom_kill(host: run.Host) -> Optional[int]:
    """Processes that the kernel's OOM killer killed since boot; None where the kernel does not count (before 4.13)."""
    return run.pairs(host, "/proc/vmstat").get("oom_kill")


def boot_id(host: run.Host) -> Optional[str]:
    """Identifier of the running boot: 32 hex digits, as journald writes it."""
    return _identifier(run.read_text(host, "/proc/sys/kernel/random/boot_id"))


def machine_id(host: run.Host) -> Optional[str]:
    """Identifier of the installation: 32 hex digits; None where there is none (yet)."""
    return _identifier(run.read_text(host, "/etc/machine-id") or run.read_text(host, "/var/lib/dbus/machine-id"))


def _identifier(text: Optional[str]) -> Optional[str]:
    plain = (text or "").strip().replace("-", "").lower()
    return plain if len(plain) == 32 and not plain.strip("0123456789abcdef") else None


def boot_time(host: run.Host) -> Tuple[Optional[float], Optional[float]]:
    """Epoch seconds of monotonic zero, and the bound of the error that it gives a printk time, in seconds.

    The bound is the time spent in suspend (printk's clock stands still there, and nobody knows which
    records came before) + what NTP has slewed CLOCK_MONOTONIC by (printk's clock is not slewed: the
    difference to CLOCK_MONOTONIC_RAW) + the distance of the clocks' starts. The result is in terms of
    today's wall clock: if that was set since, records of before are placed where the corrected clock
    would have had them. Of a copied tree only the boot's whole second is known, without a bound.
    """
    if not run.live(host):
        return _btime(host), None
    monotonic = time.clock_gettime(time.CLOCK_MONOTONIC)
    suspended = max(0.0, time.clock_gettime(_CLOCK_BOOTTIME) - monotonic)
    slewed = abs(monotonic - time.clock_gettime(time.CLOCK_MONOTONIC_RAW))
    return time.time() - monotonic, round(suspended + slewed + _CLOCK_START_SECONDS, 3)


_CLOCK_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", 7)  # the constant has a name since Python 3.7


def _btime(host: run.Host) -> Optional[float]:
    seconds = run.pairs(host, "/proc/stat").get("btime")
    return None if seconds is None else float(seconds)


def booted_at(host: run.Host) -> Optional[float]:
    """Epoch seconds of the boot itself, suspends included, in whole seconds."""
    return _btime(host)


def kernel(host: run.Host) -> Optional[str]:
    """Release of the running kernel, as `uname -r`."""
    return run.read_text(host, "/proc/sys/kernel/osrelease")


def hostname(host: run.Host) -> Optional[str]:
    return run.read_text(host, "/proc/sys/kernel/hostname") or run.read_text(host, "/etc/hostname")


def page_size(host: run.Host) -> Optional[int]:
    """Bytes of a page of the running kernel; None of a copied tree."""
    return os.sysconf("SC_PAGE_SIZE") if run.live(host) else None
