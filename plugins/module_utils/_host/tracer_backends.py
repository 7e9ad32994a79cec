# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can trace OOM kills, the best first, and where the programs for it are. Tables; private to this collection."""

import os
from typing import Dict, NamedTuple, Optional, Sequence

from . import run

AUTO = "auto"
# Best first: what knows most, then what costs least.
BACKENDS = ("bpftrace", "libbpf", "bcc", "tracefs")


class Program(NamedTuple):
    """A backend's program: ``names``, in PATH or absolute, and ``head``, what the file begins with."""

    names: Sequence[str]
    head: bytes


# bcc and libbpf-tools both call their program oomkill; one is a script, the other is not.
PROGRAMS: Dict[str, Program] = {
    "bpftrace": Program(("bpftrace",), b""),
    # libbpf-tools of Fedora and its kin; of Debian, Ubuntu, Alpine.
    "libbpf": Program(("oomkill-libbpf", "bpf-oomkill", "oomkill", "/usr/sbin/oomkill", "libbpf-oomkill"), b"\x7fELF"),
    # bcc of Debian and Ubuntu; of Fedora, RHEL, SUSE, Arch, Alpine, Amazon Linux.
    "bcc": Program(("oomkill-bpfcc", "/usr/share/bcc/tools/oomkill", "oomkill"), b"#!"),
}


def program(host: run.Host, backend: str) -> Optional[str]:
    """The path of a backend's program, None if it is not installed. tracefs needs none."""
    return first(host, PROGRAMS[backend]) if backend in PROGRAMS else None


def first(host: run.Host, wanted: Program) -> Optional[str]:
    """The path of the first file of these names that begins as it has to."""
    for name in wanted.names:
        path = name if name.startswith("/") else host.which(name)
        if path is not None and _begins(host, path, wanted.head):
            return path
    return None


def _begins(host: run.Host, path: str, head: bytes) -> bool:
    return os.path.isfile(run.below(host, path)) and run.read_bytes(host, path, len(head)) == head
