# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What package managers are asked: locks, package lists, commands that are not there or hang."""

from ansible_collections.oom.forensics.plugins.module_utils._host import package_query as query
from ansible_collections.oom.forensics.plugins.module_utils._host import run
from ansible_collections.oom.forensics.plugins.module_utils._host.package_managers import MANAGERS
from ansible_collections.oom.forensics.plugins.module_utils._host.package_readers import NOTHING


def test_locks_of_the_other_kinds(tmp_path):
    host = run.Host(str(tmp_path))
    pacman, zypper = MANAGERS["pacman"], MANAGERS["zypper"]
    assert query.lock_holder(host, pacman) is None and query.lock_holder(host, zypper) is None
    (tmp_path / "var/lib/pacman").mkdir(parents=True)
    (tmp_path / "var/lib/pacman/db.lck").touch()
    assert "db.lck" in query.lock_holder(host, pacman)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/zypp.pid").write_text("4711\n")
    assert query.lock_holder(host, zypper) is None, "of a process that is gone"
    (tmp_path / "proc/4711").mkdir(parents=True)
    (tmp_path / "proc/4711/comm").write_text("zypper\n")
    assert query.lock_holder(host, zypper) == "pid 4711 (zypper)"


def test_lists_that_were_never_fetched(tmp_path):
    host, lists = run.Host(str(tmp_path)), tmp_path / "var/lib/apt/lists"
    (lists / "partial").mkdir(parents=True)
    assert not query.has_lists(host, MANAGERS["apt"]) and query.has_lists(host, MANAGERS["dnf"])
    (lists / "deb.example.org_dists_x_main_binary-amd64_Packages.lz4").touch()
    assert query.has_lists(host, MANAGERS["apt"])


def test_a_command_that_is_not_there():
    got = query.rehearse(run.Host(), MANAGERS["apt"], ["/nowhere/apt-get"], ["x"])
    assert got.error == "/nowhere/apt-get: no such file"
    assert query.rehearse(run.Host(), MANAGERS["apt"], ["/nowhere/apt-get"], []) == NOTHING


def test_a_command_that_hangs(monkeypatch):
    monkeypatch.setattr(query, "SECONDS", 0.3)
    got = query.rehearse(run.Host(), MANAGERS["apt"], ["sleep"], ["60"])
    assert got.error == "it did not answer in 0.3 seconds"
