# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the process of a drill is started, and how it leaves by itself. The kill is a system test: it takes a kernel."""

import subprocess
import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import drill, drill_plan
from ansible_collections.oom.forensics.plugins.module_utils._host.hierarchies import Tree

MIB = 1 << 20


def test_folder_of_a_cgroup_the_kernel_names():
    container = Tree(1, "/sys/fs/cgroup/memory", "/docker/ab")
    assert drill._folder_of("/docker/ab/x", container) == "/sys/fs/cgroup/memory/x"
    assert drill._folder_of("/docker/abc", container) == "/sys/fs/cgroup/memory/docker/abc"


@pytest.mark.parametrize(
    "version,properties",
    [(1, ["-p", "MemoryLimit=16777216"]), (2, ["-p", "MemoryMax=16777216", "-p", "MemorySwapMax=0"])],
)
def test_scope_argv(version, properties):
    plan = drill_plan.Plan(Tree(version, "/sys/fs/cgroup", ""), True, "oom-forensics-drill-1", 16 * MIB, 30)
    start = ["systemd-run", "--scope", "--quiet", "--unit", "oom-forensics-drill-1.scope"]
    assert drill.scope_argv(plan) == start + properties + ["--"]


@pytest.mark.parametrize("seconds,word,status", [("60", b"go\n", 3), ("-1", b"go\n", 4), ("60", b"", 5)])
def test_the_process_leaves_by_itself(seconds, word, status):
    """No cgroup here: nothing kills it, so every way out is its own."""
    argv = [sys.executable, "-I", "-S", "-c", drill._ALLOCATE, "", str(MIB), "4", seconds, drill.COMM]
    done = subprocess.run(argv, input=word, stdout=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (status, b"ready\n")
    assert status in drill.EXITS
