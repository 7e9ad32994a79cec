# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cgroups of captured and of written trees: who has which limit, from which file, and what is not known."""

import errno
import os
import shutil
import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import cgroup_memory, cgroupfs, hierarchies, run

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cgroup_trees import escape, expand, fixture, pack, unescape  # noqa: E402

WALK = "/system.slice/docker-3193584578ea07bf5ee503289e7fe7b69f20e60ad236b2b5ce2274419856f8f3.scope"
CONTAINER = "/system.slice/docker-" + "c0ffee00" * 8 + ".scope"
COVERAGE = {
    "mode",
    "mount",
    "namespaced",
    "cgroups_total",
    "cgroups_returned",
    "vanished",
    "unreadable",
    "swap_accounting",
    "memory_delegated",
    "undelegated",
    "psi",
    "kernel_files_missing",
    "error",
    "advice",
}


def read(root, **arguments):
    """Cgroups of a tree by path, in order, and the coverage."""
    cgroups, coverage = cgroupfs.read(run.Host(), root=str(root), **arguments)
    listed = list(cgroups)
    assert set(coverage) == COVERAGE
    assert all(tuple(cgroup) == cgroup_memory.KEYS for cgroup in listed)
    found = {cgroup["path"]: cgroup for cgroup in listed}
    assert len(found) == len(listed) == coverage["cgroups_returned"]
    return found, coverage


def tree(name, tmp_path, **arguments):
    """Read one of the manifests' trees, which all tests of a run share: nobody changes it."""
    place = tmp_path.parent / "shared trees" / name
    if not place.is_dir():
        fixture(name, place)
    return read(place, **arguments)


def known(cgroup):
    """What is not null, but for who it is."""
    left_out = ("path", "depth", "kind", "workload", "cgroup_version", "hugetlb")
    return {key: value for key, value in cgroup.items() if value is not None and key not in left_out}


# -- The walk that the project began with


def test_the_founding_walk(tmp_path):
    found, coverage = tree("founding-walk-5.15-v2", tmp_path)
    scope = found[WALK]
    assert known(scope) == {
        "memory_current": 393216,
        "memory_max": 8388608,
        "memory_effective_max": 8388608,
        "memory_effective_max_path": WALK,
        "utilisation": 0.0469,
        "oom_group": False,
        "events": dict.fromkeys(("low", "high", "max", "oom", "oom_kill", "oom_group_kill")),
        "events_local": dict.fromkeys(("low", "high", "max", "oom", "oom_kill", "oom_group_kill")),
        "swap_events": dict.fromkeys(("high", "max", "fail")),
        "process_count": 0,
    }
    assert [row["page_size"] for row in scope["hugetlb"]] == [64 << 10, 2 << 20, 32 << 20, 1 << 30]
    assert (scope["kind"], scope["workload"]["engine"], scope["workload"]["id"]) == ("container", "docker", WALK[21:-6])
    assert list(found) == ["/", "/system.slice", WALK]
    assert [cgroup["depth"] for cgroup in found.values()] == [0, 1, 2]
    assert coverage["mode"] == "v2"
    assert coverage["kernel_files_missing"] == [
        "memory.peak",
        "memory.swap.peak",
        "memory.zswap.current",
        "memory.zswap.max",
        "memory.zswap.writeback",
    ]


# -- What each kernel has

FILES_MISSING = [
    ("debian-12-6.1-v2", ["memory.swap.peak", "memory.zswap.writeback"], True),
    (
        "written-4.18-v2",
        ["memory.events.local", "memory.oom.group", "memory.peak", "memory.swap.high", "memory.swap.peak"]
        + ["memory.zswap.current", "memory.zswap.max", "memory.zswap.writeback"],
        True,
    ),
    (
        "written-5.4-v2",
        ["memory.peak", "memory.swap.current", "memory.swap.events", "memory.swap.high", "memory.swap.max"]
        + ["memory.swap.peak", "memory.zswap.current", "memory.zswap.max", "memory.zswap.writeback"],
        False,
    ),
    ("debian-13-6.12-v2", [], True),
    ("written-6.12-v2", [], True),
    ("host-6.18-hybrid", [], True),
    (
        "written-4.18-v1",
        ["memory.memsw.failcnt", "memory.memsw.limit_in_bytes", "memory.memsw.max_usage_in_bytes"]
        + ["memory.memsw.usage_in_bytes"],
        False,
    ),
]


@pytest.mark.parametrize(("name", "missing", "swap"), FILES_MISSING)
def test_files_that_a_kernel_lacks_are_listed(name, missing, swap, tmp_path):
    coverage = tree(name, tmp_path)[1]
    assert coverage["kernel_files_missing"] == missing
    assert coverage["swap_accounting"] is swap
    assert (coverage["vanished"], coverage["unreadable"], coverage["error"]) == (0, 0, None)


@pytest.mark.parametrize(
    ("name", "psi"), [("written-4.18-v2", False), ("written-5.4-v2", True), ("host-6.18-hybrid", True)]
)
def test_whether_the_kernel_measures_pressure(name, psi, tmp_path):
    assert tree(name, tmp_path)[1]["psi"] is psi


def test_every_key_of_kernel_6_12(tmp_path):
    found, coverage = tree("written-6.12-v2", tmp_path, with_stat=("anon", "zswap", "rss"), with_pressure=True)
    cgroup = known(found[CONTAINER])
    pressure = cgroup.pop("pressure")
    events = {"low": 0, "high": 0, "max": 12, "oom": 2, "oom_kill": 2, "oom_group_kill": 1}
    assert cgroup == {
        "memory_current": 6291456,
        "memory_peak": 8388608,
        "memory_min": 0,
        "memory_low": 0,
        "memory_max": 8388608,
        "memory_effective_max": 8388608,
        "memory_effective_max_path": CONTAINER,
        "utilisation": 0.75,
        "peak_utilisation": 1.0,
        "memory_swap_current": 4096,
        "memory_swap_peak": 1048576,
        "memory_zswap_current": 2048,
        "memory_zswap_writeback": True,
        "oom_group": True,
        "events": events,
        "events_local": events,
        "swap_events": {"high": 0, "max": 3, "fail": 3},
        "stat": {"anon": 4096, "zswap": 45056, "rss": None},
        "process_count": 2,
        "pids_current": 3,
    }
    assert pressure["some"] == {"avg10": 1.5, "avg60": 0.75, "avg300": 0.1, "total_usec": 123456}
    assert known(found["/"]) == {
        "process_count": 2,
        "pressure": pressure,
        "stat": {"anon": 4096, "zswap": 45056, "rss": None},
    }
    assert coverage["memory_delegated"] is True


def test_pressure_and_stat_only_where_they_are_wished(tmp_path):
    cgroup = tree("written-6.12-v2", tmp_path)[0][CONTAINER]
    assert (cgroup["pressure"], cgroup["stat"]) == (None, None)


# -- A captured host with systemd and engines


def test_settings_of_captured_units(tmp_path):
    found = tree("debian-12-6.1-v2", tmp_path)[0]
    settings = ("memory_min", "memory_low", "memory_high", "memory_max", "memory_swap_max", "oom_group")
    units = {
        name: tuple(found["/system.slice/lab-" + name + ".service"][key] for key in settings)
        for name in ("max", "low", "group")
    }
    # As the units say: MemoryMax=48M MemoryHigh=46M MemorySwapMax=0 and so on.
    assert units == {
        "max": (0, 0, 46 << 20, 48 << 20, 0, False),
        "low": (8 << 20, 32 << 20, None, None, None, False),
        "group": (0, 0, None, 40 << 20, None, True),
    }


def test_the_limit_of_a_captured_slice_binds_its_container(tmp_path):
    found = tree("debian-12-6.1-v2", tmp_path)[0]
    slice_ = "/lab.slice/lab-tenant.slice"
    inside = next(cgroup for path, cgroup in found.items() if path.startswith(slice_ + "/docker-"))
    assert found[slice_]["memory_max"] == 40 << 20
    assert inside["memory_max"] > 40 << 20
    assert (inside["memory_effective_max"], inside["memory_effective_max_path"]) == (40 << 20, slice_)


def test_captured_kills_are_counted_where_they_happened(tmp_path):
    found = tree("debian-12-6.1-v2", tmp_path)[0]
    victim = found["/system.slice/docker-fda29a17ce4b62d2af3a6ccb85b52a11a79dec454ff525bd6d57045c34ff85c5.scope"]
    assert (victim["memory_max"], victim["memory_swap_max"]) == (64 << 20, 0)  # --memory-swap 64m
    assert victim["events"]["oom_kill"] == victim["events_local"]["oom_kill"] == 1
    assert found["/system.slice"]["events"]["oom_kill"] > 1
    assert found["/system.slice"]["events_local"]["oom_kill"] == 0


def test_kinds_of_a_captured_host(tmp_path):
    found, coverage = tree("debian-12-6.1-v2", tmp_path)
    kinds = {(cgroup["kind"], cgroup["workload"]["engine"]) for cgroup in found.values()}
    assert {
        ("root", None),
        ("container", "docker"),
        ("container", "podman"),
        ("container", "containerd"),
        ("container", "lxc"),
        ("container", "nspawn"),
        ("pod", "kubernetes"),
        ("pod", "podman"),
        ("unit", None),
        ("slice", None),
        ("session", None),
    } <= kinds
    assert coverage["memory_delegated"] is True
    assert all(found[path]["workload"]["kind"] == found[path]["kind"] for path in found)


def test_parents_come_before_their_children_and_names_in_order(tmp_path):
    paths = list(tree("debian-12-6.1-v2", tmp_path)[0])
    assert all(path == "/" or (path.rpartition("/")[0] or "/") in paths[: paths.index(path)] for path in paths)
    top = [path for path in paths if path.count("/") == 1]
    assert top == sorted(top)
    assert "/system.slice/system-lab\\x2dinst.slice/lab-inst@a\\x2db.service" in paths


def test_captured_swap_and_zswap(tmp_path):
    tenant = tree("debian-12-6.1-v2", tmp_path)[0]["/lab.slice/lab-tenant.slice"]
    assert tenant["memory_swap_current"] == 12689408
    assert tenant["memory_zswap_current"] == 6675231


def test_a_captured_container_of_crun_is_two_cgroups(tmp_path):
    found = tree("debian-13-6.12-v2", tmp_path, kinds=["container"])[0]
    podman = [cgroup for cgroup in found.values() if cgroup["workload"]["engine"] == "podman"]
    assert [cgroup["path"].rpartition("/")[2] for cgroup in podman][1:] == ["container"]
    assert len({cgroup["workload"]["id"] for cgroup in podman}) == 1
    # The swap limit that crun sets is the inner one's.
    assert [(cgroup["memory_max"], cgroup["memory_swap_max"]) for cgroup in podman] == [
        (32 << 20, 32 << 20),
        (32 << 20, 0),
    ]
    # Of equal limits the own one.
    assert [cgroup["memory_effective_max_path"] for cgroup in podman] == [cgroup["path"] for cgroup in podman]


def test_captured_keys_of_kernel_6_12(tmp_path):
    found = tree("debian-13-6.12-v2", tmp_path)[0]
    small = found["/system.slice/docker-f8a6a14cec3598574c1c0ac49e2e481ca6d258400911babf4fc7965ac393ec1d.scope"]
    # docker update --memory 12m --memory-swap 24m
    assert (small["memory_max"], small["memory_swap_max"]) == (12 << 20, 12 << 20)
    assert (small["memory_peak"], small["memory_swap_peak"]) == (4820992, 0)
    assert small["memory_zswap_writeback"] is True


def test_captured_pressure_at_memory_high(tmp_path):
    unit = tree("debian-12-6.1-v2-pressed", tmp_path, with_pressure=True)[0]["/system.slice/lab-pressed.service"]
    stalled = {"avg10": 47.95, "avg60": 24.85, "avg300": 6.78, "total_usec": 22385556}
    assert unit["pressure"] == {"some": stalled, "full": stalled}
    assert (unit["memory_current"], unit["memory_high"], unit["memory_effective_max"]) == (25001984, 24 << 20, None)
    assert unit["utilisation"] is None  # memory.high is no limit
    assert unit["events"]["high"] == 495


def test_a_captured_tree_of_which_little_is_left(tmp_path):
    found, coverage = tree("debian-12-6.1-v2-partial", tmp_path)
    assert found["/oomparent"]["memory_max"] is not None
    assert found["/oomparent/child"]["memory_effective_max_path"] in ("/oomparent", "/oomparent/child")
    assert found["/system.slice"]["memory_current"] is None  # nobody saved its files
    assert found["/"]["process_count"] is None
    assert coverage["mode"] == "v2"


# -- v1


def test_a_captured_v1_host(tmp_path):
    found, coverage = tree("host-6.18-hybrid", tmp_path, with_stat=("anon", "hierarchical_memory_limit"))
    container = found["/docker/" + "3f5a8c1d" * 8]
    assert coverage["mode"] == "hybrid"
    assert coverage["mount"].endswith("/memory")
    assert (container["kind"], container["cgroup_version"]) == ("container", 1)
    assert (container["memory_max"], container["soft_limit"]) == (64 << 20, 32 << 20)
    assert container["memsw"]["max"] == 128 << 20
    assert container["memory_current"] <= container["memory_peak"] <= container["memory_max"]
    assert container["utilisation"] == round(container["memory_current"] / float(64 << 20), 4)
    assert (container["process_count"], container["pids_max"]) == (1, 100)
    assert container["stat"]["anon"] > 24 << 20
    assert container["memory_swap_max"] is container["memory_high"] is container["oom_group"] is None
    assert found["/outer/frozen"]["oom_kill_disable"] is True
    assert found["/outer/frozen"]["swappiness"] == 0
    assert found["/"]["memory_max"] is found["/"]["kmem"]["max"] is None


def test_pressure_of_a_hybrid_host_comes_from_the_other_hierarchy(tmp_path):
    found = tree("host-6.18-hybrid", tmp_path, with_pressure=True)[0]
    assert found["/outer"]["pressure"]["some"]["total_usec"] >= 0
    assert found["/outer"]["cgroup_version"] == 1


def test_effective_limits_agree_with_the_kernels_own_sum(tmp_path):
    found = tree("host-6.18-hybrid", tmp_path, with_stat=("hierarchical_memory_limit",))[0]
    kernel = {path: cgroup["stat"]["hierarchical_memory_limit"] for path, cgroup in found.items()}
    ours = {path: cgroup["memory_effective_max"] for path, cgroup in found.items()}
    assert ours == {path: None if limit > 2**62 else limit for path, limit in kernel.items()}
    assert found["/outer/inner"]["memory_effective_max_path"] == "/outer"
    assert found["/outer/inner/leaf"]["memory_effective_max_path"] == "/outer/inner/leaf"  # both have 48 MiB
    assert sum(limit is not None for limit in ours.values()) == 5


def test_odd_names_stay_as_they_are(tmp_path):
    paths = [os.fsencode(path) for path in tree("host-6.18-hybrid", tmp_path)[0]]
    assert "/Ünïcode, with blanks".encode("utf-8") in paths
    assert b"/system-lab\\x2dinst.slice" in paths


def test_without_use_hierarchy_an_ancestor_limits_nobody(tmp_path):
    found, coverage = tree("written-4.18-v1", tmp_path)
    limits = {
        path: (cgroup["memory_effective_max"], cgroup["memory_effective_max_path"]) for path, cgroup in found.items()
    }
    assert limits == {
        "/": (None, None),
        "/flat": (32 << 20, "/flat"),
        "/flat/child": (None, None),
        "/tree": (32 << 20, "/tree"),
        "/tree/child": (32 << 20, "/tree"),
    }
    assert coverage["mode"] == "v1"
    assert coverage["memory_delegated"] is True


def test_pids_and_huge_pages_of_their_own_hierarchies(tmp_path):
    found = tree("written-4.18-v1", tmp_path)[0]
    assert (found["/tree"]["pids_current"], found["/tree"]["pids_max"], found["/tree"]["process_count"]) == (5, 100, 1)
    assert found["/tree"]["hugetlb"] == [
        {"page_size": 2 << 20, "current": 2 << 20, "max": 4 << 20},
        {"page_size": 512 << 20, "current": 512 << 20, "max": None},
    ]
    assert (found["/flat"]["pids_current"], found["/flat"]["hugetlb"]) == (None, [])


def test_one_hierarchy_of_v1_alone(tmp_path):
    top = fixture("written-4.18-v1", tmp_path)
    found, coverage = read(os.path.join(top, "memory"))
    assert list(found) == ["/", "/flat", "/flat/child", "/tree", "/tree/child"]
    assert (coverage["mode"], found["/tree"]["pids_current"]) == ("v1", None)


def test_a_limit_from_above_what_can_be_seen(tmp_path):
    top = fixture("host-6.18-hybrid", tmp_path)
    found = read(os.path.join(top, "memory", "outer", "inner"))[0]
    assert (found["/"]["memory_max"], found["/"]["memory_effective_max"]) == (96 << 20, 48 << 20)
    assert found["/"]["memory_effective_max_path"] is None
    assert found["/leaf"]["memory_effective_max_path"] == "/leaf"


# -- Filters


def test_an_ancestor_that_is_not_returned_still_counts(tmp_path):
    found, coverage = tree("host-6.18-hybrid", tmp_path, patterns=["/outer/inner"])
    assert list(found) == ["/outer/inner"]
    assert found["/outer/inner"]["memory_effective_max_path"] == "/outer"
    assert (coverage["cgroups_total"], coverage["cgroups_returned"]) == (10, 1)
    assert coverage["kernel_files_missing"] == []


@pytest.mark.parametrize(
    ("patterns", "paths"),
    [
        (["/outer*"], ["/outer", "/outer/frozen", "/outer/inner", "/outer/inner/leaf"]),
        (["leaf"], ["/outer/inner/leaf"]),
        (["*inner"], ["/outer/inner"]),
        (["/*/inner", "fro?en"], ["/outer/frozen", "/outer/inner"]),
        (["/"], ["/"]),
        (["inner/leaf", "Leaf", "[z]", "out"], []),
    ],
)
def test_patterns(patterns, paths, tmp_path):
    assert list(tree("host-6.18-hybrid", tmp_path, patterns=patterns)[0]) == paths


def test_kinds(tmp_path):
    found = tree("debian-12-6.1-v2", tmp_path, kinds=["pod", "session"])[0]
    assert sorted(cgroup["kind"] for cgroup in found.values()) == ["pod", "pod", "session"]


def test_least_usage(tmp_path):
    everything = tree("debian-12-6.1-v2", tmp_path)[0]
    found = tree("debian-12-6.1-v2", tmp_path, min_usage_bytes=20 << 20)[0]
    assert 0 < len(found) < len(everything)
    assert found == {path: cgroup for path, cgroup in everything.items() if (cgroup["memory_current"] or 0) >= 20 << 20}
    assert "/" not in found


def test_names_are_filled_in(tmp_path):
    top = fixture("written-6.12-v2", tmp_path)
    found = read(top, name=lambda workload: dict(workload, name="shop"))[0]
    assert {cgroup["workload"]["name"] for cgroup in found.values()} == {"shop"}


# -- What cannot be known


def test_containers_without_the_memory_controller(tmp_path):
    found, coverage = tree("written-4.18-v2", tmp_path)
    parent = "/user.slice/user-1000.slice/user@1000.service/user.slice"
    container = found[parent + "/libpod-" + "deadbeef" * 8 + ".scope"]
    assert (container["memory_current"], container["memory_max"], container["process_count"]) == (None, None, 1)
    assert container["memory_effective_max_path"] == "/user.slice/user-1000.slice"
    assert (coverage["memory_delegated"], coverage["undelegated"]) == (False, [parent])
    assert len(coverage["advice"]) == 1
    assert parent in coverage["advice"][0]


def test_inner_cgroups_of_a_container_need_no_controller(tmp_path):
    top = fixture("written-6.12-v2", tmp_path)
    os.mkdir(top + CONTAINER + "/init.scope")
    os.mkdir(top + CONTAINER + "/container")
    found, coverage = read(top)
    assert found[CONTAINER + "/container"]["kind"] == "container"
    assert (coverage["memory_delegated"], coverage["undelegated"]) == (True, [])


def test_a_kernel_without_memory_controller(tmp_path):
    expand("/\tcgroup.controllers\tcpu pids\\n\n/system.slice\tcgroup.procs\t1\\n\n", tmp_path)
    found, coverage = read(tmp_path)
    assert [cgroup["memory_current"] for cgroup in found.values()] == [None, None]
    assert coverage["memory_delegated"] is False
    assert "cgroup_enable=memory" in coverage["advice"][0]


def test_a_root_alone_tells_nothing(tmp_path):
    coverage = read(expand("/\tcgroup.controllers\tcpu memory\\n", tmp_path))[1]
    assert coverage["memory_delegated"] is coverage["swap_accounting"] is None
    assert (coverage["kernel_files_missing"], coverage["advice"]) == ([], [])


@pytest.mark.parametrize("text", ["", "/a\tnotes\tx", "/memory\tcgroup.procs\t"])
def test_no_cgroups_at_all(text, tmp_path):
    found, coverage = read(expand(text, tmp_path))
    assert found == {}
    assert coverage["error"] == "{0} holds no files of the memory controller".format(tmp_path)
    assert len(coverage["advice"]) == 1


def test_a_root_that_is_not_there(tmp_path):
    coverage = read(tmp_path / "none")[1]
    assert coverage["error"] == "{0} could not be read: no such file".format(tmp_path / "none")
    assert (tmp_path / "file").write_text("x")
    assert "file could not be read" in read(tmp_path / "file")[1]["error"]


# -- What happens meanwhile


def test_a_cgroup_that_vanishes_is_counted(tmp_path):
    top = fixture("debian-12-6.1-v2", tmp_path)
    cgroups, coverage = cgroupfs.read(run.Host(), root=top)
    assert next(cgroups)["path"] == "/"
    shutil.rmtree(os.path.join(top, "kubepods.slice"))
    paths = [cgroup["path"] for cgroup in cgroups]
    assert "/system.slice" in paths
    assert not any(path.startswith("/kubepods.slice") for path in paths)
    assert coverage["vanished"] == 1
    assert coverage["unreadable"] == 0
    assert coverage["cgroups_total"] == len(paths) + 1


def test_a_cgroup_that_is_half_there_is_not_taken_for_one_without_limit(monkeypatch, tmp_path):
    machine = host(tmp_path, MOUNTINFO["v2"])
    expand(
        "/\tcgroup.subtree_control\tcpu memory\\n\n"
        "/a\tmemory.current\t5\n"
        "/a/undelegated\tcgroup.procs\t\n"
        "/b\tcgroup.procs\t\n",
        tmp_path / "sys/fs/cgroup",
    )
    monkeypatch.setattr(cgroupfs.run, "live", lambda _host: True)
    cgroups, coverage = cgroupfs.read(machine)
    assert [cgroup["path"] for cgroup in cgroups] == ["/", "/a", "/a/undelegated"]
    assert coverage["vanished"] == 1
    # A copy may lack files for other reasons.
    assert list(read(tmp_path / "sys/fs/cgroup")[0]) == ["/", "/a", "/a/undelegated", "/b"]


def fail(monkeypatch, name, number):
    """Let the kernel refuse to open one file; every other call is the real one."""
    real = os.open

    def call(target, *arguments, **options):
        if target == name:
            raise OSError(number, os.strerror(number))
        return real(target, *arguments, **options)

    monkeypatch.setattr(cgroupfs.os, "open", call)


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENOENT])
def test_a_cgroup_that_vanishes_between_two_files(number, monkeypatch, tmp_path):
    top = expand("/\tcgroup.controllers\tmemory\n/a\tmemory.current\t5\n/b\tmemory.high\t5\n", tmp_path)
    fail(monkeypatch, "memory.current", number)
    found, coverage = read(top)
    assert list(found) == ["/", "/b"]
    assert (coverage["vanished"], coverage["unreadable"], coverage["cgroups_total"]) == (1, 0, 2)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE])
def test_a_file_that_may_not_be_read_is_null_and_counted(number, monkeypatch, tmp_path):
    top = fixture("written-6.12-v2", tmp_path)
    fail(monkeypatch, "memory.max", number)
    found, coverage = read(top)
    assert found[CONTAINER]["memory_max"] is None
    assert found[CONTAINER]["memory_current"] == 6291456
    assert coverage["unreadable"] == 3
    assert len(coverage["advice"]) == 1
    assert coverage["advice"][0].startswith("3 files of cgroups could not be read, first ")
    assert "become: true" in coverage["advice"][0]


def test_what_the_kernel_does_not_offer_is_null(monkeypatch, tmp_path):
    top = fixture("written-6.12-v2", tmp_path)
    fail(monkeypatch, "cgroup.procs", errno.EOPNOTSUPP)
    found, coverage = read(top)
    assert found[CONTAINER]["process_count"] is None
    assert (coverage["unreadable"], coverage["advice"]) == (0, [])


# -- Trees that nobody would make


def test_a_tree_of_a_thousand_levels(tmp_path):
    top = expand("/\tcgroup.controllers\tmemory\n", tmp_path)
    place, name = os.open(top, os.O_RDONLY), "n" * 20
    for level in range(1000):
        os.mkdir(name, dir_fd=place)
        below = os.open(name, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
        if level == 499:
            file = os.open("memory.max", os.O_WRONLY | os.O_CREAT, dir_fd=place)
            os.write(file, b"4096\n")
            os.close(file)
    os.close(place)
    cgroups, coverage = cgroupfs.read(run.Host(), root=top)
    depths = [(cgroup["depth"], cgroup["memory_effective_max"]) for cgroup in cgroups]
    assert depths == [(depth, 4096 if depth >= 500 else None) for depth in range(1001)]
    assert (coverage["vanished"], coverage["unreadable"]) == (0, 0)
    remove(top)


def remove(top):
    """shutil.rmtree of older Pythons recurses, and a path of 20,000 bytes is no path."""
    descriptors, names = [os.open(top, os.O_RDONLY)], []
    while True:
        folders = [name for name in os.listdir(descriptors[-1]) if name.startswith("n")]
        if not folders:
            break
        names.append(folders[0])
        descriptors.append(os.open(folders[0], os.O_RDONLY, dir_fd=descriptors[-1]))
    while names:
        inner = descriptors.pop()
        for name in os.listdir(inner):
            os.unlink(name, dir_fd=inner)
        os.close(inner)
        os.rmdir(names.pop(), dir_fd=descriptors[-1])
    os.close(descriptors.pop())


def test_a_copied_tree_may_hold_anything(tmp_path):
    top = expand("/\tcgroup.controllers\tmemory\n/a\tmemory.high\t5\n", tmp_path)
    os.mkfifo(os.path.join(top, "a", "memory.current"))
    os.symlink("/etc/passwd", os.path.join(top, "a", "memory.max"))
    os.symlink("..", os.path.join(top, "a", "loop"))
    os.mkdir(os.path.join(top, "a", "memory.peak"))
    os.mkdir(os.path.join(top.encode(), b"b\xff\n"))
    with open(os.path.join(top, "a", "memory.events"), "wb") as stream:
        stream.write(b"oom_kill 7\n" * 9000 + b"max 1234")
    found, coverage = read(top)
    assert [os.fsencode(path) for path in found] == [b"/", b"/a", b"/a/memory.peak", b"/b\xff\n"]
    assert found["/a"]["memory_current"] is found["/a"]["memory_max"] is None
    assert found["/a"]["events"]["max"] is None  # cut, so not a number
    assert coverage["unreadable"] == 1


# -- Where the hierarchies are

MOUNTINFO = {
    "v2": "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    "v1": "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
    "40 31 0:37 / /sys/fs/cgroup/hugetlb rw - cgroup cgroup rw,hugetlb\n",
}
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


def host(tmp_path, mountinfo, trees=()):
    place = tmp_path / "proc" / "self"
    place.mkdir(parents=True)
    (place / "mountinfo").write_text(mountinfo)
    for path in trees:
        expand("/\tcgroup.procs\t\n", tmp_path / path)
    return run.Host(str(tmp_path))


@pytest.mark.parametrize(
    ("mountinfo", "mode", "mount", "beside"),
    [
        (MOUNTINFO["v2"], "v2", "/sys/fs/cgroup", []),
        (MOUNTINFO["v1"], "v1", "/sys/fs/cgroup/memory", ["hugetlb", "pids"]),
        (MOUNTINFO["v1"] + UNIFIED, "hybrid", "/sys/fs/cgroup/memory", ["hugetlb", "pids", "unified"]),
        # cgroup_no_v1=memory: the memory controller is in the v2 tree of a hybrid host.
        ("".join(MOUNTINFO["v1"].splitlines(True)[1:]) + UNIFIED, "v2", "/sys/fs/cgroup/unified", ["hugetlb", "pids"]),
        ("35 31 0:32 / /my\\040cgroups rw - cgroup cgroup rw,memory,pids\n", "v1", "/my cgroups", []),
    ],
)
def test_modes(mountinfo, mode, mount, beside, tmp_path):
    found = hierarchies.find(host(tmp_path, mountinfo))
    assert (found.mode, found.mount) == (mode, mount)
    assert found.memory.folder == str(tmp_path) + mount
    assert [os.path.basename(tree.folder) for tree in found.beside] == beside


def test_the_mount_that_shows_most_is_read(tmp_path):
    lines = (
        "50 1 0:32 /docker/abc /in/container rw - cgroup cgroup rw,memory\n"
        "51 1 0:32 / /hidden rw - cgroup cgroup rw,memory\n"
        "52 1 0:32 / /whole rw - cgroup cgroup rw,memory\n"
    )
    found = hierarchies.find(host(tmp_path, lines, ["in/container", "whole"]))
    assert (found.mount, found.memory.top) == ("/whole", "")


def test_paths_of_a_part_of_the_hierarchy_are_the_hosts(tmp_path):
    lines = "50 1 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    lines += "51 1 0:36 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
    machine = host(tmp_path, lines)
    expand("/\tmemory.usage_in_bytes\t5\n/in\tmemory.usage_in_bytes\t4\n", tmp_path / "sys/fs/cgroup/memory")
    expand("/in\tpids.current\t3\n", tmp_path / "sys/fs/cgroup/pids")
    cgroups, coverage = cgroupfs.read(machine)
    found = {cgroup["path"]: cgroup for cgroup in cgroups}
    assert sorted(found) == ["/docker/abc", "/docker/abc/in"]
    assert (found["/docker/abc/in"]["depth"], found["/docker/abc/in"]["pids_current"]) == (3, 3)
    assert coverage["namespaced"] is True
    assert len(coverage["advice"]) == 1


def test_a_copied_host_with_the_short_mount_table(tmp_path):
    expand("/proc\tmounts\tcgroup2 /sys/fs/cgroup cgroup2 rw 0 0\\n\n", tmp_path)
    fixture("written-5.4-v2", tmp_path / "sys" / "fs" / "cgroup")
    cgroups, coverage = cgroupfs.read(run.Host(str(tmp_path)))
    assert len(list(cgroups)) == coverage["cgroups_total"] == 4
    assert (coverage["mode"], coverage["mount"], coverage["namespaced"]) == ("v2", "/sys/fs/cgroup", False)


def test_a_host_without_cgroups(tmp_path):
    cgroups, coverage = cgroupfs.read(host(tmp_path, "garbage\n1 2\n - - -\n"))
    assert list(cgroups) == []
    assert coverage["error"] == "no mounted cgroup hierarchy was found in /proc/self/mountinfo"
    assert coverage["mode"] is None


# -- The fixtures themselves


def test_escapes_of_the_manifests():
    text = "a\tb\\n\n\\x2d\\"
    assert unescape(escape(text)) == text
    assert "\n" not in escape(text)


def test_a_packed_tree_is_the_tree(tmp_path):
    top = fixture("written-6.12-v2", tmp_path / "one")
    again = expand("\n".join(pack(top)), tmp_path / "two")
    assert read(top)[0] == read(again)[0]
