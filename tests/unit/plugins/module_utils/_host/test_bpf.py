# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the running kernel offers: read from copied trees, and once from the kernel that runs the tests."""

import os

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import bpf, run

RELEASE = "6.1.0-56-amd64"
MODULES = "lib/modules/" + RELEASE


def put(root, path, text=""):
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


@pytest.fixture
def tree(tmp_path):
    put(tmp_path, "proc/sys/kernel/osrelease", RELEASE + "\n")
    return tmp_path


def host(root):
    return run.Host(str(root), run.popen, lambda name: None)


def test_a_bare_tree(tree):
    kernel = bpf.read_kernel(host(tree))
    assert kernel.release == RELEASE and kernel.headers == bpf.Headers("/" + MODULES + "/build", False, False)
    assert (kernel.btf, kernel.kheaders, kernel.tracefs, kernel.lockdown, kernel.newer) == (None,) * 5
    rights = bpf.read_rights(host(tree))
    assert rights == bpf.Rights(False, [], False, None, False) and not rights.may_trace


def test_headers_as_debian_splits_them(tree):
    put(tree, MODULES + "/build/include/generated/autoconf.h")
    headers = bpf.read_kernel(host(tree)).headers
    assert headers.found and not headers.complete
    put(tree, MODULES + "/source/include/linux/kconfig.h")
    assert bpf.read_kernel(host(tree)).headers.complete


def test_link_to_headers_that_are_gone(tree):
    (tree / MODULES).mkdir(parents=True)
    os.symlink("/nowhere/linux-headers", str(tree / MODULES / "build"))
    headers = bpf.read_kernel(host(tree)).headers
    assert headers.found and not headers.complete


@pytest.mark.parametrize(
    "running,installed,expected",
    [
        ("6.1.0-56-amd64", ["6.1.0-9-amd64", "6.1.0-56-amd64", "6.1.0-57-amd64"], "6.1.0-57-amd64"),
        ("6.1.0-9-amd64", ["6.1.0-10-amd64", "6.1.0-56-amd64"], "6.1.0-56-amd64"),
        ("6.1.0-56-amd64", ["6.1.0-57-cloud-amd64"], "6.1.0-57-cloud-amd64"),
        ("6.1.0-56-amd64", ["6.1.0-57-amd64", "6.1.0-58-cloud-amd64"], "6.1.0-57-amd64"),
        ("6.1.0-56-amd64", ["6.1.0-9-amd64"], None),
        (
            "5.14.0-427.el9.x86_64",
            ["5.14.0-427.13.1.el9_4.x86_64", "5.14.0-503.11.1.el9_5.x86_64"],
            "5.14.0-503.11.1.el9_5.x86_64",
        ),
        ("6.9.7-arch1-1", ["6.9.8-arch1-1"], "6.9.8-arch1-1"),
    ],
)
def test_newer_kernel(tmp_path, running, installed, expected):
    for release in installed:
        put(tmp_path, "lib/modules/{0}/modules.builtin".format(release))
    # What a package of headers leaves is no kernel.
    put(tmp_path, "lib/modules/9.9.9-99-amd64/build/Makefile")
    assert bpf.newer_kernel(host(tmp_path), running) == expected


@pytest.mark.parametrize(
    "text,expected",
    [("[none] integrity confidentiality\n", "none"), ("none [integrity] confidentiality", "integrity"), ("", None)],
)
def test_lockdown(tree, text, expected):
    put(tree, "sys/kernel/security/lockdown", text)
    assert bpf.read_kernel(host(tree)).lockdown == expected


@pytest.mark.parametrize(
    "mask,uid_map,may",
    [
        ("000001ffffffffff", "         0          0 4294967295", True),
        ("0000000000200000", "0 0 4294967295", True),
        ("000000c000000000", "0 0 4294967295", True),
        ("0000008000000000", "0 0 4294967295", False),
        ("00000000a80425fb", "0 0 4294967295", False),
        ("000001ffffffffff", "0 1000 1", False),
        ("not hexadecimal", "0 0 4294967295", False),
    ],
)
def test_who_may_trace(tree, mask, uid_map, may):
    put(tree, "proc/self/status", "Name:\tx\nUid:\t0\t0\t0\t0\nCapEff:\t{0}\n".format(mask))
    put(tree, "proc/self/uid_map", uid_map + "\n")
    rights = bpf.read_rights(host(tree))
    assert rights.may_trace is may and rights.root


@pytest.mark.parametrize(
    "path,text,kind",
    [
        (".dockerenv", "", "docker"),
        ("run/.containerenv", 'engine="podman-4.3.1"\n', "podman"),
        ("run/systemd/container", "lxc\n", "lxc"),
        ("var/run/secrets/kubernetes.io/serviceaccount/token", "", "kubernetes"),
    ],
)
def test_containers(tree, path, text, kind):
    assert bpf.container(host(tree)) is None
    put(tree, path, text)
    assert bpf.container(host(tree)) == kind


def test_os_release(tree):
    put(tree, "usr/lib/os-release", '# a comment\nID="centos"\nNAME=\'it is\'\nODD\nPRETTY_NAME="Cent\\$OS"\n')
    assert bpf.os_release(host(tree)) == {"ID": "centos", "NAME": "it is", "PRETTY_NAME": "Cent$OS"}
    put(tree, "etc/os-release", "ID=arch\n")
    assert bpf.os_release(host(tree)) == {"ID": "arch"}


def test_this_machine():
    kernel = bpf.read_kernel(run.Host())
    assert kernel.release == os.uname().release
    assert (kernel.btf is not None) == os.path.exists("/sys/kernel/btf/vmlinux")
