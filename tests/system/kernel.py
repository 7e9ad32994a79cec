# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's own words and counts, read without this collection."""

import os
from pathlib import Path

from ansible_collections.oom.forensics.plugins.module_utils._host import drill_plan, run


def why_not():
    """Why real kernel kills cannot be made here, as a sentence; None where they can."""
    if os.geteuid() != 0:
        return "kernel kills need root"
    try:
        drill_plan.plan(run.Host(), drill_plan.LEAST_LIMIT, 30)
    except drill_plan.DrillError as error:
        return str(error)
    if not os.access("/dev/kmsg", os.R_OK):
        return "/dev/kmsg cannot be read here"
    return None if "\noom_kill " in Path("/proc/vmstat").read_text() else "this kernel does not count its OOM kills"


def kernel_counter():
    lines = Path("/proc/vmstat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def ring_buffer():
    """The raw text of /dev/kmsg, read without this collection."""
    records = []
    with open("/dev/kmsg", "rb", buffering=0) as stream:
        os.set_blocking(stream.fileno(), False)
        while True:
            try:
                records.append(os.read(stream.fileno(), 8192))
            except BlockingIOError:
                return b"".join(records).decode(errors="replace")
            except BrokenPipeError:
                continue
