# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers of package managers' output. What stands here was printed by dnf 4.14, zypper 1.14.42, pacman 6.0.2, apt 2.6."""

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import package_readers as readers
from ansible_collections.oom.forensics.plugins.module_utils._host import run
from ansible_collections.oom.forensics.plugins.module_utils._host.package_managers import MANAGERS

APT_REMOVE = """Reading package lists...
The following packages will be REMOVED:
   bpfcc-tools* (0.26.0+ds-1)
   libgcc-s1:i386* (12.2.0-14)
The following packages will be upgraded:
   linux-libc-dev (6.1.176-1 => 6.1.192-2)
0 upgraded, 0 newly installed, 2 to remove and 124 not upgraded.
After this operation, 21.9 MB disk space will be freed.
Do you want to continue? [Y/n] N
Abort.
"""
APT_UNMET = """The following packages have unmet dependencies:
 python3 : PreDepends: python3-minimal (= 3.11.2-1+b1) but it is not going to be installed
           Depends: python3.11 (>= 3.11.2-1~) but it is not going to be installed
"""
DNF_REMOVE = """Dependencies resolved.
==========================================================================================================
 Package                                                   Arch    Version               Repository   Size
==========================================================================================================
Removing:
 bcc-tools                                                 x86_64  0.30.0-6.el9          @appstream    0 \x20
 kernel-devel                                              x86_64  5.14.0-427.13.1.el9_4 @appstream    0 \x20
Removing dependent packages:
 a-package-with-a-name-that-is-long-enough                 x86_64  1.0-1.el9             @appstream    0 \x20
Removing unused dependencies:
 bcc                                                       x86_64  0.30.0-6.el9          @appstream    0 \x20

Transaction Summary
==========================================================================================================
Remove  4 Packages

Freed space: 0 \x20
"""
ZYPPER_REMOVE = """<?xml version='1.0'?>
<stream>
<message type="info">Reading installed packages...</message>
<install-summary download-size="0" space-usage-diff="-4096" packages-to-change="2">
<to-remove>
<solvable type="package" name="bcc" edition="0.30.0-6.el9" arch="x86_64" summary="x">
<description>x</description></solvable>
<solvable type="package" name="bcc-tools" edition="0.30.0-6.el9" arch="x86_64" summary="x">
<description>x</description></solvable>
</to-remove>
</install-summary>
</stream>
"""
ZYPPER_NONE = """<?xml version='1.0'?>
<stream>
<message type="info">&apos;nope&apos; not found in package names. Trying capabilities.</message>
<message type="error">No provider of &apos;nope&apos; found.</message>
</stream>
"""
APK_KEPT = """World updated, but the following packages are not removed due to:
  gcc: build-base g++

OK: 500 MiB in 90 packages
"""

# command's reader, status, stdout, stderr -> removed names, blockers, unknown, whether it refused
REHEARSALS = [
    ("apt", 1, APT_REMOVE, "", ["bpfcc-tools", "libgcc-s1:i386"], [], [], False),
    ("apt", 100, APT_UNMET, "E: Error, pkgProblemResolver::Resolve generated breaks.\n", [], ["python3"], [], True),
    ("apt", 100, "", "E: Unable to locate package nope\n", [], [], ["nope"], True),
    ("apt", 100, "", "E: Package 'nope' has no installation candidate\n", [], [], ["nope"], True),
    (
        "dnf",
        1,
        DNF_REMOVE,
        "Operation aborted.\n",
        ["bcc-tools", "kernel-devel", "a-package-with-a-name-that-is-long-enough", "bcc"],
        [],
        [],
        False,
    ),
    (
        "dnf",
        1,
        "No match for argument: nope\n",
        "Error: Unable to find a match: nope\n",
        [],
        [],
        ["nope", "nope"],
        True,
    ),
    ("dnf", 0, "Dependencies resolved.\nNothing to do.\n", "", [], [], [], False),
    ("zypper", 0, ZYPPER_REMOVE, "", ["bcc", "bcc-tools"], [], [], False),
    ("zypper", 104, ZYPPER_NONE, "", [], [], ["nope"], True),
    ("pacman", 0, "other 1-1 0 removed\nbcc 0.30.0-3 0 removed\n", "", ["other", "bcc"], [], [], False),
    (
        "pacman",
        1,
        ":: removing bcc-tools breaks dependency 'bcc-tools' required by other\n",
        "error: failed to prepare transaction (could not satisfy dependencies)\n",
        [],
        ["other"],
        [],
        True,
    ),
    ("pacman", 1, "", "error: target not found: nope\n", [], [], ["nope"], True),
    ("apk", 0, "(1/1) Purging bcc-tools (0.30.0-r1)\n" + APK_KEPT, "", ["bcc-tools"], ["build-base", "g++"], [], False),
    (
        "apk",
        1,
        "ERROR: unable to select packages:\n  nope (no such package):\n    required by: world[nope]\n",
        "",
        [],
        [],
        ["nope"],
        True,
    ),
]


@pytest.mark.parametrize("manager,status,out,err,removed,blockers,unknown,refused", REHEARSALS)
def test_rehearsals(manager, status, out, err, removed, blockers, unknown, refused):
    complaint = run.complaint(run.Ended(status, err))
    got = MANAGERS[manager].read_rehearsal(readers.Answer(status, out, complaint, err))
    assert [package.name for package in got.remove] == removed
    assert (got.blockers, got.unknown, got.error is not None) == (blockers, unknown, refused)
    assert got.install == []


def test_upgrade_has_the_new_version():
    got = readers.read_apt_rehearsal(readers.Answer(1, APT_REMOVE, "", ""))
    assert got.upgrade == [readers.Package("linux-libc-dev", "6.1.192-2")] and got.disk is None


@pytest.mark.parametrize(
    "manager,line,download,disk",
    [
        ("apt", "Need to get 3755 kB of archives.\nAfter this operation, 21.9 MB of additional disk space will be used.", 3755 << 10, int(21.9 * 2**20)),
        ("apt", "Need to get 0 B/3755 kB of archives.", 0, None),
        ("apt", "Need to get 1,234 B of archives.", 1234, None),
        ("dnf", "Total download size: 18 M\nInstalled size: 1.5 G", 18 << 20, int(1.5 * 2**30)),
        ("dnf", "Need to download 21 MiB.\nAfter this operation, 85 MiB extra will be used (install 86 MiB, remove 421 KiB).", 21 << 20, 85 << 20),
        ("dnf", "After this operation, 85 MiB will be freed.", None, None),
    ],
)  # fmt: skip
def test_sizes(manager, line, download, disk):
    got = MANAGERS[manager].read_rehearsal(readers.Answer(0, line + "\n", "", ""))
    assert (got.download, got.disk) == (download, disk)


def test_only_what_is_unpacked_is_installed():
    text = "a\t1\tii \nb\t2\trc \nc\t3\tiU \nd\t4\tiF \ne\t5\tun \nf\t6\thi \n"
    assert [package.name for package in readers.read_dpkg(text)] == ["a", "c", "d", "f"]
