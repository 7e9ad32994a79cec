# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drop-ins of systemd units: their names, their order, what they say, and how they are written."""

import os

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import policy_dropins, run
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_calls import ManagerError

FOLDER = "/etc/systemd/system/x.service.d"


def put(root, path, text):
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return path


@pytest.mark.parametrize(
    ("unit", "lasting", "path"),
    [
        ("x.service", True, FOLDER + "/50-oom-forensics.conf"),
        ("x.service", False, "/run/systemd/system/x.service.d/60-oom-forensics.conf"),
        ("a-b@c.service", True, "/etc/systemd/system/a-b@c.service.d/50-oom-forensics.conf"),
        ("docker-.scope", True, "/etc/systemd/system/docker-.scope.d/10-oom-forensics.conf"),
        ("docker-.scope", False, "/run/systemd/system/docker-.scope.d/11-oom-forensics.conf"),
    ],
)
def test_where_a_drop_in_is(unit, lasting, path):
    assert policy_dropins.path(unit, lasting) == path


def test_a_prefix_stands_behind_what_an_engine_says_of_one_container_and_a_unit_before_it():
    """The order in which systemd reads them is that of their names."""
    names = [os.path.basename(policy_dropins.path(unit, True)) for unit in ("docker-.scope", "x.service")]
    assert sorted(names + ["50-MemoryMax.conf", "override.conf"]) == [
        names[0],
        "50-MemoryMax.conf",
        names[1],
        "override.conf",
    ]


def test_what_a_drop_in_sets():
    text = (
        "# MemoryMin=1\n; MemoryLow=1\n[Service]\n MemoryMax = 64M \nMemoryMax=32M\nMemoryHigh=\nDescription=a=b\nx\n"
    )
    found = policy_dropins.assignments(text)
    assert found == {"MemoryMax": "32M", "MemoryHigh": "", "Description": "a=b"}


def test_what_is_set_behind_a_prefix_whoever_set_it(tmp_path):
    folder = "/run/systemd/transient/docker-1.scope.d"
    paths = [
        put(tmp_path, folder + "/05-first.conf", "MemoryMin=1"),
        put(tmp_path, "/etc/systemd/system/docker-.scope.d/10-oom-forensics.conf", "MemoryHigh=2"),
        put(tmp_path, folder + "/50-MemoryMax.conf", "MemoryMax=3"),
        put(tmp_path, "/etc/systemd/system/docker-1.scope.d/50-oom-forensics.conf", "OOMPolicy=kill"),
    ]
    found = policy_dropins.behind(run.Host(str(tmp_path)), "docker-.scope", paths, lasting=True)
    assert found == {"MemoryMax", "OOMPolicy"}


def test_what_is_read_later(tmp_path):
    paths = [
        put(tmp_path, FOLDER + "/40-first.conf", "MemoryMax=1"),
        put(tmp_path, FOLDER + "/50-oom-forensics.conf", "MemoryMax=2"),
        put(tmp_path, "/run/systemd/system/x.service.d/60-oom-forensics.conf", "MemoryMax=3"),
        put(tmp_path, FOLDER + "/override.conf", "[Service]\nMemoryHigh=4"),
        put(tmp_path, "/run/systemd/system/service.d/zz.conf", "MemoryHigh=5\nMemoryLow=6"),
        "/run/systemd/system/x.service.d/zzz-gone.conf",
    ]
    assert policy_dropins.later(run.Host(str(tmp_path)), "x.service", paths, lasting=True) == {
        "MemoryHigh": "/run/systemd/system/service.d/zz.conf",
        "MemoryLow": "/run/systemd/system/service.d/zz.conf",
    }


def test_nothing_is_left_of_a_drop_in_without_assignments(tmp_path):
    host = run.Host(str(tmp_path))
    put(tmp_path, "/run/systemd/system/x.slice.d/60-oom-forensics.conf", "[Slice]\nMemoryMax=1")
    put(tmp_path, "/run/systemd/system/x.slice.d/other.conf", "")
    policy_dropins.write(host, "x.slice", {"MemoryMax": "2"}, lasting=True)
    assert sorted(os.listdir(str(tmp_path / "run/systemd/system/x.slice.d"))) == ["other.conf"]
    assert policy_dropins.read(host, "x.slice") == {
        "/etc/systemd/system/x.slice.d/50-oom-forensics.conf": "# The module oom.forensics.memory_policy wrote this "
        "file, and will rewrite or remove it.\n[Slice]\nMemoryMax=2"
    }


def test_a_folder_that_cannot_be_written(tmp_path):
    host = run.Host(str(tmp_path))
    (tmp_path / "etc/systemd").mkdir(parents=True)
    (tmp_path / "etc/systemd/system").write_text("a file, as a read-only place would not let itself be written")
    with pytest.raises(ManagerError) as refused:
        policy_dropins.write(host, "x.service", {"MemoryMax": "1"}, lasting=True)
    assert str(refused.value).startswith(FOLDER + "/50-oom-forensics.conf could not be written: ")
    assert refused.value.advice == (
        "Make /etc/systemd/system writable, or, where the system keeps it read-only, run the policy with lasting=false."
    )


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    host = run.Host(str(tmp_path))
    put(tmp_path, FOLDER + "/50-oom-forensics.conf", "[Service]\nMemoryMax=1\n")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ManagerError, match="could not be written: No space left on device"):
        policy_dropins.write(host, "x.service", {"MemoryMax": "2"}, lasting=True)
    assert os.listdir(str(tmp_path) + FOLDER) == ["50-oom-forensics.conf"]
    assert policy_dropins.read(host, "x.service")[FOLDER + "/50-oom-forensics.conf"] == "[Service]\nMemoryMax=1"
