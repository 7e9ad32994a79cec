# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the contents of a cgroup's files become: numbers, limits, blocks, and null for everything else."""

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import cgroup_memory
from ansible_collections.oom.forensics.plugins.module_utils._host.cgroup_memory import (
    KEYS,
    Effective,
    describe,
    effective,
    files,
    handed_down,
    hidden_limit,
    hugetlb_file,
    limit,
    number,
    wanted,
)

HOSTILE = [
    b"",
    b"\n",
    b"max\n",
    b"-1\n",
    b"1_000\n",
    b"12 13\n",
    b"0x10\n",
    b"\xff\xfe",
    b"9" * 60000,
    b"\x00" * 9,
    b"1.5",
]


@pytest.mark.parametrize(
    ("data", "value"), [(b"0\n", 0), (b"4096", 4096), (b" 7 \n", 7), (b"18446744073709551615\n", 2**64 - 1)]
)
def test_numbers(data, value):
    assert number(data) == value


@pytest.mark.parametrize("data", HOSTILE)
def test_what_is_no_number_is_null(data):
    assert number(data) is None
    assert limit(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b"max\n",
        b"9223372036854771712\n",  # pages of 4 KiB
        b"9223372036854710272\n",  # of 64 KiB
        b"9223372036854775807\n",  # before 3.19, res_counter
        b"9223372036852678656\n",  # hugetlb.2MB
        b"9223372035781033984\n",  # hugetlb.1GB
        b"8796093018112\n",  # 32 bits
    ],
)
def test_no_limit_in_the_words_of_every_kernel(data):
    assert limit(data) is None


def test_a_limit():
    assert [limit(b"8388608\n"), limit(b"0\n"), limit(b"1125899906842624\n")] == [8388608, 0, 2**50]


@pytest.mark.parametrize("version", [1, 2])
def test_a_cgroup_without_files_has_every_key(version):
    found = describe(version, {})
    assert tuple(found) == KEYS
    assert [key for key in KEYS if found[key] is not None] == ["cgroup_version", "hugetlb"]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "data", HOSTILE + [b"some avg10=x\n", b"low\n", b"low low\n", b"a b c\n", b"some avg10=1.0 avg60=1\n"]
)
def test_hostile_contents_make_no_number(version, data):
    raw = dict.fromkeys(wanted(version, ("anon",), True) | {"hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"}, data)
    found = describe(version, raw, with_stat=("anon", "low"))
    assert tuple(found) == KEYS
    assert found["memory_current"] is found["memory_max"] is found["pids_max"] is None
    assert found["events"]["oom_kill"] is None
    assert set(found["stat"].values()) == {None}
    assert found["hugetlb"] == [{"page_size": 2 << 20, "current": None, "max": None}]


def test_events_have_the_same_keys_and_what_else_the_kernel_counts():
    found = describe(2, {"memory.events": b"low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\nsock_throttled 6\nB@d 7\nx y\n"})
    assert found["events"] == {
        "low": 1,
        "high": 2,
        "max": 3,
        "oom": 4,
        "oom_kill": 5,
        "oom_group_kill": None,
        "sock_throttled": 6,
        "x": None,
    }
    assert found["events_local"] is None


def test_events_of_v1_are_kills_alone():
    found = describe(1, {"memory.oom_control": b"oom_kill_disable 1\nunder_oom 0\noom_kill 3\n"})
    assert (found["oom_kill_disable"], found["under_oom"]) == (True, False)
    assert found["events"] == found["events_local"]
    assert {key: value for key, value in found["events"].items() if value is not None} == {"oom_kill": 3}


def test_kernels_before_4_15_count_no_kills():
    found = describe(1, {"memory.oom_control": b"oom_kill_disable 0\nunder_oom 1\n"})
    assert (found["oom_kill_disable"], found["under_oom"], found["events"]["oom_kill"]) == (False, True, None)


def test_pressure():
    data = b"some avg10=1.50 avg60=0.75 avg300=0.10 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    pressure = describe(2, {"memory.pressure": data})["pressure"]
    assert pressure["some"] == {"avg10": 1.5, "avg60": 0.75, "avg300": 0.1, "total_usec": 123456}
    assert pressure["full"] == {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total_usec": 0}


def test_stat_of_v1_in_the_words_of_v2():
    data = b"cache 1\nrss 2\nshmem 3\nmapped_file 4\nhierarchical_memory_limit 9\ntotal_cache 10\ntotal_rss 20\n"
    data += b"total_rss_huge 25\ntotal_shmem 30\ntotal_mapped_file 40\ntotal_pgfault 50\n"
    keys = ("anon", "anon_thp", "file", "shmem", "file_mapped", "pgfault", "rss", "total_rss", "kernel")
    keys += ("hierarchical_memory_limit",)
    found = describe(1, {"memory.stat": data}, with_stat=keys)["stat"]
    assert [found[key] for key in keys] == [20, 25, 10, 30, 40, 50, 20, 20, None, 9]


def test_stat_of_v2_is_what_was_asked_for():
    assert describe(2, {"memory.stat": b"anon 1\nfile 2\n"}, with_stat=("file", "zswap"))["stat"] == {
        "file": 2,
        "zswap": None,
    }
    assert describe(2, {"memory.stat": b"anon 1\nfile 2\n"})["stat"] is None
    assert describe(2, {}, with_stat=("file",))["stat"] == {"file": None}


def test_blocks_of_v1():
    found = describe(
        1, {"memory.memsw.usage_in_bytes": b"7\n", "memory.memsw.limit_in_bytes": b"9223372036854771712\n"}
    )
    assert found["memsw"] == {"current": 7, "peak": None, "max": None, "failcnt": None}
    assert found["kmem"] is None


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("hugetlb.2MB.max", (2 << 20, "max")),
        ("hugetlb.64KB.current", (64 << 10, "current")),
        ("hugetlb.1GB.limit_in_bytes", (1 << 30, "limit_in_bytes")),
        ("hugetlb.2MB.rsvd.max", None),
        ("hugetlb.2MB.max_usage_in_bytes", None),
        ("hugetlb.2MB.events", None),
        ("hugetlb.2XB.max", None),
        ("hugetlb.%sMB.max" % ("9" * 500), None),
    ],
)
def test_hugetlb_files(name, known):
    assert hugetlb_file(name) == known


def test_huge_pages_the_smallest_first():
    raw = {"hugetlb.1GB.max": b"max\n", "hugetlb.1GB.current": b"0\n", "hugetlb.2MB.max": b"4194304\n"}
    assert describe(2, raw)["hugetlb"] == [
        {"page_size": 2 << 20, "current": None, "max": 4194304},
        {"page_size": 1 << 30, "current": 0, "max": None},
    ]


@pytest.mark.parametrize(
    ("own", "inherited", "bound"),
    [
        (None, Effective(), Effective()),
        (None, Effective(5, "/a"), Effective(5, "/a")),
        (5, Effective(), Effective(5, "/a/b")),
        (5, Effective(6, "/a"), Effective(5, "/a/b")),
        (6, Effective(5, "/a"), Effective(5, "/a")),
        (5, Effective(5, "/a"), Effective(5, "/a/b")),
        (0, Effective(5, "/a"), Effective(0, "/a/b")),
        (5, Effective(0, "/a"), Effective(0, "/a")),
        (9, Effective(5, None), Effective(5, None)),
    ],
)
def test_the_smallest_limit_binds_and_of_equal_ones_the_own(own, inherited, bound):
    assert effective("/a/b", own, inherited) == bound


def test_children_inherit_unless_the_parent_is_flat():
    own = Effective(5, "/a")
    assert handed_down({}, own) == own
    assert handed_down({"memory.use_hierarchy": b"1\n"}, own) == own
    assert handed_down({"memory.use_hierarchy": b"0\n"}, own) == Effective()


def test_a_limit_out_of_sight():
    assert hidden_limit(b"cache 0\nhierarchical_memory_limit 4096\n") == 4096
    assert hidden_limit(b"hierarchical_memory_limit 9223372036854771712\n") is None
    assert hidden_limit(b"anon 5\n") is None


def test_utilisation_is_of_the_effective_limit():
    raw = {"memory.current": b"25\n", "memory.peak": b"75\n", "memory.max": b"1000\n"}
    found = describe(2, raw, Effective(100, "/a"))
    assert (found["utilisation"], found["peak_utilisation"]) == (0.25, 0.75)
    assert (found["memory_effective_max"], found["memory_effective_max_path"]) == (100, "/a")
    assert describe(2, raw)["utilisation"] is None
    assert describe(2, raw, Effective(0, "/a"))["utilisation"] is None
    assert describe(2, {}, Effective(100, "/a"))["peak_utilisation"] is None


def test_an_amount_of_zero_is_a_number():
    assert describe(2, {"memory.current": b"0\n"}, Effective(100, "/a"))["utilisation"] == 0.0


def test_only_what_is_wished_is_read():
    assert "memory.stat" not in wanted(2, (), False)
    assert "memory.stat" in wanted(2, ("anon",), False)
    assert "memory.pressure" not in wanted(2, ("anon",), False)
    assert "memory.pressure" in cgroup_memory.beside(True)
    assert "cgroup.procs" not in cgroup_memory.beside(True)
    assert files(2) < wanted(2, (), False)


def test_who_must_have_the_memory_controller():
    control = "cgroup.subtree_control"
    assert cgroup_memory.controls_children(1, {})
    assert cgroup_memory.controls_children(2, {control: b"cpu memory pids\n"})
    assert not cgroup_memory.controls_children(2, {control: b"cpu pids\n"})
    assert not cgroup_memory.controls_children(2, {})
