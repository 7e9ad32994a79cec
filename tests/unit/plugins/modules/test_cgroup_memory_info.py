# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of what reads cgroups, and which of them a result keeps."""

import json
import random

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._cgroup_budget import SORTS, largest
from ansible_collections.oom.forensics.plugins.module_utils._cgroup_options import (
    CGROUP_SPEC,
    KINDS,
    cgroup_arguments,
    size_bytes,
)
from ansible_collections.oom.forensics.plugins.module_utils._oom import workload
from ansible_collections.oom.forensics.plugins.module_utils._options import OptionError


def params(**changed):
    return dict({name: spec.get("default") for name, spec in CGROUP_SPEC.items()}, **changed)


# -- Options


def test_defaults_pass():
    assert cgroup_arguments(params()) == {
        "root": None,
        "patterns": [],
        "kinds": [],
        "min_usage_bytes": 0,
        "with_stat": ["anon", "file", "kernel", "kernel_stack", "pagetables", "percpu", "shmem", "slab", "sock"],
        "with_pressure": False,
    }


def test_every_kind_that_a_workload_may_have_can_be_chosen():
    assert {row.kind for row in workload._ROWS} | {"root", "cgroup"} == set(KINDS)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64M", 64 << 20),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("64 MiB", 64 << 20),
        (" 1g ", 1 << 30),
        ("1.5G", 3 << 29),
        ("0.5K", 512),
        ("1.000001K", 1024),
        ("2T", 2 << 40),
        ("10B", 10),
    ],
)
def test_sizes_that_are_understood(text, size):
    assert size_bytes("min_usage", text) == size


@pytest.mark.parametrize(
    "text", ["", "M", "-1", "64X", "64 M M", "1e9", "0x10", "1,5G", ".5G", "5.", "٤M", "9" * 5000, "64Mbit", "half"]
)
def test_sizes_that_are_refused_in_one_sentence(text):
    with pytest.raises(OptionError) as refused:
        size_bytes("min_usage", text)
    message = str(refused.value)
    assert message.startswith("min_usage: ")
    assert message.endswith("write bytes or a size such as 64M.")
    assert len(message) < 200


@pytest.mark.parametrize(
    ("changed", "begins"),
    [
        ({"patterns": [""]}, "patterns: an entry is empty"),
        ({"with_stat": ["anon", "memory.max"]}, "with_stat: 'memory.max' is not a key of memory.stat"),
        ({"with_stat": [""]}, "with_stat: '' is not a key"),
        ({"with_stat": ["x" * 9999]}, "with_stat: 'xxx"),
        ({"min_usage": "much"}, "min_usage: 'much' is not a size"),
        ({"root": ""}, "root: the path is empty"),
    ],
)
def test_options_that_are_refused(changed, begins):
    with pytest.raises(OptionError) as refused:
        cgroup_arguments(params(**changed))
    assert str(refused.value).startswith(begins)
    assert str(refused.value).endswith(".")
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("pattern", ["[", "[!", "[z-a]", "*" * 50, "(", "\\", "{a,b}", "[[:alpha:]]"])
def test_a_pattern_passes_or_is_refused(pattern):
    try:
        assert cgroup_arguments(params(patterns=[pattern]))["patterns"] == [pattern]
    except OptionError as refused:
        assert str(refused).startswith("patterns: ")  # noqa: PT017 - which Pythons refuse it differs


# -- What a result keeps


def cgroups(count=200, seed=1):
    chance = random.Random(seed)
    return [
        {
            "path": "/" + str(number) + "x" * chance.randrange(50),
            "memory_current": chance.choice([None, 0, chance.randrange(1 << 30)]),
            "memory_peak": chance.randrange(10),
            "utilisation": chance.choice([None, chance.random()]),
            "peak_utilisation": None,
        }
        for number in range(count)
    ]


def rank(cgroup, key):
    return -1 if cgroup[key] is None else cgroup[key]


def size(listed):
    return len(json.dumps(listed))


def test_everything_stays_where_it_fits():
    assert largest(cgroups(), "path", 10**6) == (cgroups(), False)
    assert largest([], "path", 0) == ([], False)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("budget", [0, 1000, 5000, 20000, 10**6])
def test_the_largest_stay(sort, budget):
    by = "memory_current" if sort == "path" else sort
    everything = cgroups()
    ordered = sorted(everything, key=lambda cgroup: rank(cgroup, by), reverse=True)  # stable: of equal ones the first
    kept, truncated = largest(iter(everything), sort, budget)
    assert sorted(kept, key=ordered.index) == ordered[: len(kept)]
    assert kept == (sorted(kept, key=everything.index) if sort == "path" else ordered[: len(kept)])
    assert truncated is (len(kept) < 200)
    assert size(kept) <= max(budget, 2)
    if truncated:
        # Nor was more left out than had to be, give or take one that was longer than others.
        assert size(ordered[: len(kept) + 2]) > budget - 200


def test_the_result_can_be_cut_again():
    kept, _truncated = largest(cgroups(), "path", 5000)
    again, truncated = largest(kept, "path", 2000)
    assert truncated
    assert again == largest(cgroups(), "path", 2000)[0]


def test_one_long_name_does_not_hide_all_others():
    everything = cgroups(20)
    everything[1].update(path="x" * 9999, memory_current=2**40)
    kept, truncated = largest(everything, "path", 10000)
    assert truncated
    assert kept == [everything[0]] + everything[2:]
