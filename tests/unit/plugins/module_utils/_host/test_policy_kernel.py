# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel files in a policy's words, on either version of the hierarchy."""

import os
import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import policy_kernel
from ansible_collections.oom.forensics.plugins.module_utils._policy.model import Usage

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from container_hosts import MIB, NONE, cgroups_of, make, v1, v2  # noqa: E402

PATH = "/docker/one"


@pytest.mark.parametrize(
    "files, memory, swap, low",
    [
        (v1(), None, None, 0),
        (v1(64 * MIB, 96 * MIB, 32 * MIB), 64 * MIB, 32 * MIB, 32 * MIB),
        (v1(64 * MIB, 64 * MIB), 64 * MIB, 0, 0),
        (v1(64 * MIB, NONE, 64 * MIB), 64 * MIB, None, 0),  # usage cannot get above this soft limit
        (v1(2**62, NONE, NONE), None, None, 0),
    ],
)
def test_version_1(tmp_path, files, memory, swap, low):
    found = policy_kernel.effective(make(tmp_path, 1, {PATH: files}), PATH)
    assert found == {"memory_max": memory, "memory_swap_max": swap, "memory_low": low}


@pytest.mark.parametrize(
    "files, wanted",
    [
        (v2(), {"memory_max": None, "memory_swap_max": None, "memory_low": 0, "memory_high": None, "memory_min": 0}),
        (
            v2(64 * MIB, 0, "max", 60 * MIB, 4 * MIB),
            {
                "memory_max": 64 * MIB,
                "memory_swap_max": 0,
                "memory_low": None,
                "memory_high": 60 * MIB,
                "memory_min": 4 * MIB,
            },
        ),
    ],
)
def test_version_2(tmp_path, files, wanted):
    assert policy_kernel.effective(make(tmp_path, 2, {PATH: files}), PATH) == dict(wanted, oom_group=False)


@pytest.mark.parametrize("version, files", [(1, v1(both=None)), (2, v2(swap=None))])
def test_swap_that_is_not_accounted_is_not_known(tmp_path, version, files):
    assert "memory_swap_max" not in policy_kernel.effective(make(tmp_path, version, {PATH: files}), PATH)


def test_without_the_memory_controller(tmp_path):
    host = make(tmp_path, 2, {"/": {"cgroup.controllers": "cpu"}, PATH: {"cgroup.procs": "1"}})
    cgroup = cgroups_of(host)[-1]
    assert (cgroup["path"], policy_kernel.settings(cgroup)) == (PATH, {})
    assert policy_kernel.usage(cgroup) == Usage(None, None, None, None)


def test_a_cgroup_that_is_gone(tmp_path):
    host = make(tmp_path, 1, {PATH: v1()})
    assert (policy_kernel.effective(host, "/docker/two"), policy_kernel.read(host, "/docker/two")) == (None, None)


def test_the_adjustment_is_of_the_first_process_that_runs(tmp_path):
    files = {"/proc/8/oom_score_adj": -500, "/proc/9/oom_score_adj": 7}
    host = make(tmp_path, 1, {PATH: v1()}, files=files)
    assert policy_kernel.effective(host, PATH, [7, 8, 9])["oom_score_adjust"] == -500
    assert "oom_score_adjust" not in policy_kernel.effective(host, PATH, [7])


@pytest.mark.parametrize(
    "version, files, reclaimable, swap",
    [
        (1, v1(), 12288, None),
        (1, dict(v1(), **{"memory.memsw.usage_in_bytes": 3 * MIB}), 12288, 2 * MIB),
        (1, dict(v1(), **{"memory.memsw.usage_in_bytes": MIB - 4096}), 12288, 0),  # read a moment later
        (2, v2(), 12800, 0),
        (2, dict(v2(), **{"memory.swap.current": 8192}), 12800, 8192),
    ],
)
def test_usage(tmp_path, version, files, reclaimable, swap):
    host = make(tmp_path, version, {PATH: files})
    wanted = Usage(MIB, 2 * MIB, reclaimable, 3, swap)
    assert policy_kernel.usage(policy_kernel.read(host, PATH)) == wanted
    assert policy_kernel.usage(cgroups_of(host)[-1]) == wanted  # as a survey reads it
