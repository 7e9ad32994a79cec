# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums of limits of nested cgroups. What each single change risks is in test_plan.py, through the plan."""

import time

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._policy import risks


@pytest.mark.parametrize(
    "limits, expected",
    [
        ({}, 0),
        ({"/a": 1, "/b": 2, "/c": None}, 3),
        ({"/s": 10, "/s/a": 1, "/s/b": 2}, 10),  # whatever is below: all of it may use 10
        ({"/s": None, "/s/a": 1, "/s/b": 2}, 3),
        ({"/s/t/a": 1, "/s/t": None, "/s": None}, 1),  # also below what is no target
        ({"/s": 5, "/s/t/u/a": 1, "/sa": 2}, 7),
        ({"/s": 0, "/s/a": 7}, 0),
        ({"/": None, "/a": 1}, 1),
        ({"/": 4, "/a": 1}, 4),
    ],
)
def test_only_the_topmost_limits_add_up(limits, expected):
    assert risks.sums(limits).total == expected


@pytest.mark.parametrize(
    "before, after, path, expected",
    [
        ({"/a": None}, {"/a": 5}, "/a", True),
        ({"/a": 3}, {"/a": 5}, "/a", True),
        ({"/a": 5}, {"/a": 5}, "/a", False),
        ({"/a": 7}, {"/a": 5}, "/a", False),
        ({"/a": 7}, {"/a": None}, "/a", False),
        ({"/s": 9, "/s/a": None}, {"/s": 9, "/s/a": 5}, "/s/a", False),  # the slice holds it back
        ({"/s": None, "/s/a": 5}, {"/s": 9, "/s/a": 5}, "/s", True),
        ({"/s": None, "/s/a": 5, "/s/b": 5}, {"/s": 9, "/s/a": 5, "/s/b": 5}, "/s", False),
        ({"/s": 6, "/s/a": 5, "/s/b": 5}, {"/s": None, "/s/a": 5, "/s/b": 5}, "/s", True),  # what is below counts again
    ],
)
def test_whether_one_cgroup_may_use_more(before, after, path, expected):
    assert risks.sums(after).exceeds(path, risks.sums(before)) is expected


def test_ten_thousand_cgroups_take_no_time():
    limits = {"/{0}.slice/{1}/{2}".format(number % 7, number % 100, number): number for number in range(1, 10000)}
    start = time.process_time()
    nothing, found = risks.sums(dict.fromkeys(limits)), risks.sums(limits)
    assert all(found.exceeds(path, nothing) for path in limits)
    assert found.total == sum(range(10000))
    assert time.process_time() - start < 2
