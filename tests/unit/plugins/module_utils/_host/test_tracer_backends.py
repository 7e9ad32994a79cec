# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the programs of the backends are found, on copied trees."""

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import run, tracer_backends

SCRIPT, BINARY = b"#!/usr/bin/python3\n", b"\x7fELF\x02"


def host(root, path=None, data=b""):
    """A host with one file more; what is in /usr/bin is in PATH."""
    if path:
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return run.Host(str(root), which=lambda name: "/usr/bin/" + name if (root / "usr/bin" / name).exists() else None)


@pytest.mark.parametrize(
    "backend,path,data",
    [
        ("bpftrace", "/usr/bin/bpftrace", BINARY),
        ("libbpf", "/usr/bin/oomkill-libbpf", BINARY),
        ("libbpf", "/usr/bin/bpf-oomkill", BINARY),
        ("libbpf", "/usr/bin/oomkill", BINARY),
        ("bcc", "/usr/bin/oomkill-bpfcc", SCRIPT),
        ("bcc", "/usr/share/bcc/tools/oomkill", SCRIPT),
        ("bcc", "/usr/bin/oomkill", SCRIPT),
    ],
)
def test_programs(tmp_path, backend, path, data):
    assert tracer_backends.program(host(tmp_path), backend) is None
    machine = host(tmp_path, path, data)
    found = {name: tracer_backends.program(machine, name) for name in tracer_backends.BACKENDS}
    assert found == dict(dict.fromkeys(tracer_backends.BACKENDS), **{backend: path})


def test_what_is_no_file_is_no_program(tmp_path):
    (tmp_path / "usr/bin/bpftrace").mkdir(parents=True)
    assert tracer_backends.program(host(tmp_path), "bpftrace") is None
