# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host answers: every row of the distribution table, and every outcome before anything is installed."""

import errno
import fcntl
import json
import pathlib
import subprocess
import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils import _bcc_answer, _bcc_packages, _bcc_record
from ansible_collections.oom.forensics.plugins.module_utils._host.package_managers import MANAGERS

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import bcc_hosts

DEBIAN = bcc_hosts.load("debian-12")
KERNEL = "6.1.0-56-amd64"
BTF = "/sys/kernel/btf/vmlinux"
EVENT = "/sys/kernel/tracing/events/oom/mark_victim/format"
LISTS = "/var/lib/apt/lists/deb.example.org_Packages"
TOOL = ("/usr/sbin/oomkill-bpfcc", "#!/usr/bin/python3\n")
LIBBPF = ("/usr/sbin/oomkill", "\x7fELF")
BPFTRACE = ("/usr/sbin/bpftrace", "\x7fELF")
RECORD = _bcc_record.RECORD

CASES = [(name, index) for name in bcc_hosts.NAMES for index in range(len(bcc_hosts.load(name)["cases"]))]


def paths(case):
    return [each if isinstance(each, str) else tuple(each) for each in case.get("files", [])]


@pytest.mark.parametrize("name,index", CASES)
def test_rows_of_the_table(name, index, tmp_path):
    sample = bcc_hosts.load(name)
    case = sample["cases"][index]
    bcc_hosts.tree(tmp_path, sample["os_release"], case["kernel"], LISTS, *paths(case))
    player = bcc_hosts.Player(sample["commands"])
    params = dict(bcc_hosts.PARAMS, **case.get("options") or {})
    answer = _bcc_answer.answer(player.host(tmp_path), params, True)
    got = {key: answer[key] for key in ("outcome", "backend", "install_names", "headers_package", "headers_version")}
    got["packages"] = [row["name"] for row in answer["packages_install"]]
    assert got == case["expected"], answer["sentence"]
    assert answer["sentence"].endswith(".") and answer["fails"] == (case["expected"]["backend"] is None)


def test_every_distribution_has_a_transcript():
    covered = {_bcc_packages.distribution(os_release(name)).name for name in bcc_hosts.NAMES}
    assert covered == {row.name for row in _bcc_packages.DISTRIBUTIONS}
    assert all(bcc_hosts.load(name)["source"].startswith(("captured: ", "documentation: ")) for name in bcc_hosts.NAMES)


def os_release(name):
    lines = [line.split("=", 1) for line in bcc_hosts.load(name)["os_release"].splitlines()]
    return {key: value.strip('"') for key, value in lines}


@pytest.mark.parametrize(
    "release,row,expected",
    [
        ("6.12.38+deb13-amd64", "Debian", [("linux-headers-6.12.38+deb13-amd64", None)]),
        ("6.12.38+deb13-cloud-arm64", "Debian", [("linux-headers-6.12.38+deb13-cloud-arm64", None)]),
        ("6.1.0-0.deb11.13-amd64", "Debian", [("linux-headers-6.1.0-0.deb11.13-amd64", None)]),
        ("6.6.31+rpt-rpi-v8", "Debian", [("linux-headers-6.6.31+rpt-rpi-v8", None)]),
        ("6.9.7", "Debian", []),
        ("6.9.7-custom", "Debian", []),
        ("5.15.0-100-generic", "Ubuntu", [("linux-headers-5.15.0-100-generic", None)]),
        ("6.9.7-060907-generic", "Ubuntu", [("linux-headers-6.9.7-060907-generic", None)]),
        ("4.18.0-553.rt7.342.el8_10.x86_64", "Fedora", [("kernel-rt-devel", "4.18.0-553.rt7.342.el8_10")]),
        ("5.15.0-200.131.27.el9uek.x86_64", "Fedora", [("kernel-uek-devel", "5.15.0-200.131.27.el9uek")]),
        (
            "6.9.7-1.el9.elrepo.x86_64",
            "Fedora",
            [("kernel-ml-devel", "6.9.7-1.el9.elrepo"), ("kernel-lt-devel", "6.9.7-1.el9.elrepo")],
        ),
        ("5.14.0-427.el9.aarch64+64k", "Fedora", [("kernel-64k-devel", "5.14.0-427.el9")]),
        ("6.4.0-150600.23.7-azure", "SUSE", [("kernel-azure-devel", "6.4.0-150600.23.7.*")]),
        ("6.15.3-1-default", "SUSE", [("kernel-default-devel", "6.15.3-1.*")]),
        ("6.8.12-hardened1-1-hardened", "Arch", [("linux-hardened-headers", "6.8.12.hardened1-1")]),
        ("6.6.41-0-virt", "Alpine", [("linux-virt-dev", "6.6.41-r0")]),
    ],
)
def test_header_packages(release, row, expected):
    table = {each.name.split()[0].rstrip(","): each for each in _bcc_packages.DISTRIBUTIONS}
    assert [tuple(header) for header in _bcc_packages.header_packages(table[row], release)] == expected


@pytest.mark.parametrize(
    "version,offered,expected",
    [
        (None, ["1", "2"], "2"),
        (None, [], None),
        ("6.4.0-23.7.*", ["6.4.0-23.70.1", "6.4.0-23.7.2", "6.4.0-23.7.3"], "6.4.0-23.7.3"),
        ("6.4.0-23.7.*", ["6.4.0-23.7"], "6.4.0-23.7"),
        ("6.4.0-23.7", ["6.4.0-23.7.1"], None),
    ],
)
def test_fitting_version(version, offered, expected):
    assert _bcc_packages.fitting(_bcc_packages.Header("x", version), offered) == expected


def test_derivatives_are_found_by_what_they_are_like():
    assert _bcc_packages.distribution({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}).name == "Ubuntu"
    assert _bcc_packages.distribution({"ID": "virtuozzo", "ID_LIKE": "rhel centos fedora"}).manager == "dnf"
    assert _bcc_packages.distribution({"ID": "nixos"}) is None and _bcc_packages.distribution({}) is None


# ---- a Debian host in many states ------------------------------------------------------------------------------------


def ask(tmp_path, *files, **options):
    """The answer of a Debian 12 host with these files; ``check`` and ``kernel`` beside the module's options."""
    check, kernel = options.pop("check", True), options.pop("kernel", KERNEL)
    bcc_hosts.tree(tmp_path, options.pop("os_release", DEBIAN["os_release"]), kernel, LISTS, *files)
    player = bcc_hosts.Player(options.pop("commands", DEBIAN["commands"]))
    return _bcc_answer.answer(player.host(tmp_path), dict(bcc_hosts.PARAMS, **options), check)


def test_ready_asks_for_nothing(tmp_path):
    answer = ask(tmp_path, TOOL, *bcc_hosts.headers(KERNEL))
    assert (answer["outcome"], answer["backend"], answer["tool"]) == ("ready", "bcc", TOOL[0])
    assert answer["install_names"] == [] and not answer["stale"] and answer["headers_complete"]


def test_headers_are_there_the_tool_is_not(tmp_path):
    commands = DEBIAN["commands"] + [apt_install(["bpfcc-tools", "python3-apt"], [("bpfcc-tools", "0.26.0+ds-1")])]
    answer = ask(tmp_path, *bcc_hosts.headers(KERNEL), commands=commands)
    assert (answer["outcome"], answer["install_names"]) == ("headers_present", ["bpfcc-tools"])


@pytest.mark.parametrize(
    "path", ["/sys/kernel/kheaders.tar.xz", "/lib/modules/6.1.0-56-amd64/kernel/kernel/kheaders.ko.xz"]
)
def test_kheaders_suffice(tmp_path, path):
    assert ask(tmp_path, TOOL, path)["outcome"] == "ready"
    commands = DEBIAN["commands"] + [apt_install(["bpfcc-tools", "python3-apt"], [("bpfcc-tools", "0.26.0+ds-1")])]
    (tmp_path / TOOL[0].lstrip("/")).unlink()
    answer = ask(tmp_path, path, commands=commands)
    assert answer["outcome"] == "kheaders_suffice" and path in answer["sentence"]


def apt_install(names, new, **changed):
    lines = "".join("   {0} ({1})\n".format(*row) for row in new)
    out = "The following NEW packages will be installed:\n" + lines + "Do you want to continue? [Y/n] N\nAbort.\n"
    argv = list(MANAGERS["apt"].install_argv) + names
    return dict({"argv": argv, "status": 1, "stdout": out, "stderr": ""}, **changed)


def test_incomplete_headers_are_none(tmp_path):
    """As after a removed header package whose directory another one still uses."""
    half = bcc_hosts.headers(KERNEL)[0]
    answer = ask(tmp_path, half)
    assert answer["outcome"] == "installed" and not answer["headers_complete"] and answer["headers_path"] is None


def test_headers_never(tmp_path):
    answer = ask(tmp_path, TOOL, BTF, backend="bcc", headers="never")
    assert answer["outcome"] == "headers_forbidden" and answer["fails"] and KERNEL in answer["sentence"]
    answer = ask(tmp_path, TOOL, BTF, headers="never")
    assert (answer["outcome"], answer["backend"]) == ("btf_makes_headers_needless", "bpftrace")
    assert [row["outcome"] for row in answer["refused"]] == ["headers_forbidden"]


def test_headers_always(tmp_path):
    names = ["libbpf-tools", "linux-headers-" + KERNEL, "python3-apt"]
    commands = DEBIAN["commands"] + [apt_install(names, [("libbpf-tools", "1")])]
    answer = ask(tmp_path, BTF, backend="libbpf", headers="always", commands=commands)
    assert (answer["outcome"], answer["install_names"]) == ("installed", names[:2])


def test_auto_says_why_it_takes_less(tmp_path):
    answer = ask(tmp_path, EVENT, kernel="6.1.0-9-amd64")
    assert answer["backend"] == "tracefs" and answer["tool"] is None and not answer["fails"]
    refused = [(row["backend"], row["outcome"]) for row in answer["refused"]]
    assert refused == [("bcc", "headers_gone_from_repository"), ("bpftrace", "no_btf"), ("libbpf", "no_btf")]
    assert answer["stale"], "newer package lists may have the headers"


@pytest.mark.parametrize(
    "files,expected,refused",
    [
        ([BPFTRACE, LIBBPF, TOOL, BTF], "bpftrace", []),
        ([LIBBPF, TOOL, BTF], "libbpf", []),
        ([LIBBPF, TOOL], "bcc", ["libbpf"]),
        ([BPFTRACE, BTF, EVENT], "bpftrace", []),
    ],
)
def test_auto_takes_what_works_already(tmp_path, files, expected, refused):
    """In the order of oom_trace. Otherwise bcc is installed, although tracefs would work (test_rows_of_the_table)."""
    answer = ask(tmp_path, *(files + bcc_hosts.headers(KERNEL)))
    assert (answer["outcome"], answer["backend"]) == ("ready", expected) and not answer["stale"]
    assert [row["backend"] for row in answer["refused"]] == refused


def test_auto_installs_bcc_where_nothing_that_is_there_works(tmp_path):
    answer = ask(tmp_path, BPFTRACE, EVENT)
    assert (answer["outcome"], answer["backend"]) == ("installed", "bcc")
    assert [(row["backend"], row["outcome"]) for row in answer["refused"]] == [("bpftrace", "no_btf")]


def test_nothing_works(tmp_path):
    answer = ask(tmp_path, kernel="6.1.0-9-amd64")
    assert answer["outcome"] == "headers_gone_from_repository" and answer["fails"] and answer["backend"] is None
    assert [row["outcome"] for row in answer["refused"]][1:] == ["no_btf", "no_btf", "no_tracefs"]


FILESYSTEMS = ("/proc/filesystems", "nodev\tsysfs\nnodev\ttracefs\n\text4\n")
MOUNTED = ("/proc/self/mounts", "tracefs /sys/kernel/tracing tracefs rw,nosuid 0 0\n")


@pytest.mark.parametrize(
    "files,outcome",
    [
        ([EVENT], "tracefs_suffices"),
        ([FILESYSTEMS], "tracefs_suffices"),
        ([FILESYSTEMS, MOUNTED], "no_tracefs"),  # a kernel before 4.15
        ([("/proc/filesystems", "nodev\tsysfs\n\text4\n")], "no_tracefs"),
        ([], "no_tracefs"),
    ],
)
def test_tracefs_that_nobody_has_mounted_is_mounted_by_oom_trace(tmp_path, files, outcome):
    assert ask(tmp_path, *files, backend="tracefs")["outcome"] == outcome


def test_only_lists_that_are_old_are_fetched_again(tmp_path):
    module = ask(tmp_path, lock_timeout=7)["module"]
    assert module["refresh"] == {"update_cache": True, "cache_valid_time": 3600}
    assert module["always"] == {"lock_timeout": 7}
    (tmp_path / LISTS.lstrip("/")).unlink()
    # Their directory is new in a fresh image.
    host = bcc_hosts.Player(DEBIAN["commands"]).host(tmp_path)
    assert _bcc_answer.answer(host, bcc_hosts.PARAMS, True)["module"]["refresh"] == {"update_cache": True}


def test_advice_is_for_a_system_that_has_the_package_manager(tmp_path):
    """Amazon Linux 2 has no dnf, so that nothing is ever looked up there."""
    amazon = bcc_hosts.load("amazon-2023")
    bcc_hosts.tree(tmp_path, amazon["os_release"], "6.12.22-27.96.amzn2023.x86_64", BTF)
    host = bcc_hosts.Player(amazon["commands"]).host(tmp_path)
    answer = _bcc_answer.answer(host, dict(bcc_hosts.PARAMS, backend="libbpf"), True)
    assert answer["outcome"] == "tools_not_in_repository" and "Amazon Linux 2 " not in answer["sentence"]


def test_not_knowing_is_no_reason_to_take_less(tmp_path):
    commands = [row for row in DEBIAN["commands"] if row["argv"][0] != "apt-cache"]
    bcc_hosts.tree(tmp_path, DEBIAN["os_release"], KERNEL, EVENT, BTF)
    host = bcc_hosts.Player(commands).host(tmp_path)
    answer = _bcc_answer.answer(host, bcc_hosts.PARAMS, True)
    assert answer["outcome"] == "package_lists_missing" and answer["stale"] and answer["fails"]


@pytest.mark.parametrize(
    "files,outcome,words",
    [
        ([("/sys/kernel/security/lockdown", "none integrity [confidentiality]\n")], "lockdown", "lockdown=integrity"),
        (
            [("/proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n")],
            "missing_capability",
            "become",
        ),
        (
            [("/proc/self/status", "Uid:\t0\t0\t0\t0\nCapEff:\t00000000a80425fb\n")],
            "missing_capability",
            "let the service",
        ),
        ([("/proc/self/uid_map", "0 100000 65536\n")], "missing_capability", "user namespace"),
        (
            ["/.dockerenv", ("/proc/self/status", "Uid:\t0\t0\t0\t0\nCapEff:\t00000000a80425fb\n")],
            "container_host_denied",
            "(docker)",
        ),
        (
            [("/run/systemd/container", "lxc\n"), ("/proc/self/uid_map", "0 100000 65536\n")],
            "container_host_denied",
            "(lxc)",
        ),
    ],
)
def test_what_no_package_can_help_against(tmp_path, files, outcome, words):
    answer = ask(tmp_path, TOOL, BTF, EVENT, *bcc_hosts.headers(KERNEL), *files)
    assert (answer["outcome"], answer["fails"], answer["install_names"]) == (outcome, True, [])
    assert words in answer["sentence"]


def test_bpf_capabilities_are_enough(tmp_path):
    # Bits 38 and 39 of linux/capability.h, without CAP_SYS_ADMIN.
    status = ("/proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t000000c000000000\n")
    answer = ask(tmp_path, "/.dockerenv", TOOL, status, *bcc_hosts.headers(KERNEL))
    assert answer["outcome"] == "ready" and answer["capabilities"] == ["CAP_PERFMON", "CAP_BPF"]


def test_unknown_distribution(tmp_path):
    nixos = 'ID=nixos\nPRETTY_NAME="NixOS 24.05 (Uakari)"\n'
    answer = ask(tmp_path, BTF, os_release=nixos)
    assert answer["outcome"] == "unsupported_distribution" and "NixOS 24.05" in answer["sentence"]
    assert ask(tmp_path, BTF, EVENT, os_release=nixos)["outcome"] == "tracefs_suffices"


def test_package_manager_that_does_not_answer(tmp_path):
    assert ask(tmp_path, backend="bcc", commands=[])["outcome"] == "package_manager_missing"


def test_installation_that_would_remove_packages(tmp_path):
    row = apt_install(["bpfcc-tools", "linux-headers-" + KERNEL, "python3-apt"], [("bpfcc-tools", "1")])
    row["stdout"] = "The following packages will be REMOVED:\n   precious* (1.0)\n" + row["stdout"]
    answer = ask(tmp_path, commands=without(row))
    assert answer["outcome"] == "would_remove_packages" and "precious" in answer["sentence"] and answer["fails"]


def without(row):
    return [each for each in DEBIAN["commands"] if each["argv"] != row["argv"]] + [row]


def test_package_manager_that_refuses(tmp_path):
    row = apt_install(["bpfcc-tools", "linux-headers-" + KERNEL, "python3-apt"], [])
    row.update(status=100, stdout="", stderr="E: Unmet dependencies. Try 'apt --fix-broken install'.\n")
    answer = ask(tmp_path, commands=without(row))
    assert answer["outcome"] == "package_manager_refused" and "fix-broken" in answer["sentence"]
    row["stderr"] = "E: You don't have enough free space in /var/cache/apt/archives/.\n"
    assert ask(tmp_path, commands=without(row))["outcome"] == "disk_full"


def test_disk_full_is_seen_before(tmp_path):
    row = apt_install(["bpfcc-tools", "linux-headers-" + KERNEL, "python3-apt"], [("bpfcc-tools", "1")])
    row["stdout"] += (
        "Need to get 116 MB of archives.\nAfter this operation, 900 TB of additional disk space will be used.\n"
    )
    answer = ask(tmp_path, commands=without(row))
    assert answer["outcome"] == "disk_full" and answer["fails"]
    assert str(900 * 1024 * 1024 + 116 + 32) in answer["sentence"], "both are on one file system"


HOLDER = """
import fcntl, sys
stream = open(sys.argv[1], "w")
fcntl.lockf(stream, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_package_manager_locked(tmp_path):
    lock = tmp_path / "var/lib/dpkg/lock-frontend"
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert ask(tmp_path, check=False)["outcome"] == "installed"
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        answer = ask(tmp_path, check=False)
        assert answer["outcome"] == "package_manager_locked" and "pid {0}".format(child.pid) in answer["sentence"]
        assert answer["fails"] and answer["install_names"] == answer["packages_install"] == answer["remember"] == []
        assert ask(tmp_path, check=True)["outcome"] == "installed"
        # A question does not take the lock.
        with open(str(lock), "w") as stream:
            with pytest.raises((IOError, OSError)) as caught:
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert caught.value.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        child.communicate()


# ---- the record and the removal --------------------------------------------------------------------------------------


def recorded(tmp_path):
    return [
        (row["name"], row["version"]) for row in json.loads((tmp_path / RECORD.lstrip("/")).read_text())["packages"]
    ]


def test_remembered_before_anything_is_installed(tmp_path):
    ask(tmp_path, check=False, remember=[{"name": "gcc-12"}, {"name": "apt", "version": None}])
    assert recorded(tmp_path) == [("apt", None), ("gcc-12", None)]
    ask(tmp_path, check=False, settle=True)
    assert recorded(tmp_path) == [("apt", None)], "gcc-12 is not installed there"
    ask(tmp_path, check=False, state="absent", settle=True)
    assert not (tmp_path / "var/lib/oom-forensics").exists()


def test_check_mode_writes_nothing(tmp_path):
    ask(tmp_path, remember=[{"name": "apt"}])
    assert not (tmp_path / "var/lib/oom-forensics").exists()


def test_what_came_by_itself_is_remembered(tmp_path):
    names = [line.split("\t")[0] for line in DEBIAN["commands"][0]["stdout"].splitlines()]
    answer = ask(tmp_path, check=False, before=[name for name in names if name != "apt"])
    assert recorded(tmp_path) == [("apt", None)] and [row["name"] for row in answer["packages_since"]] == ["apt"]


def removal(tmp_path, wanted, *outputs, installed=()):
    """The answer to absent where ``wanted`` is recorded; ``outputs``: how apt answers, by command and names."""
    manager = MANAGERS["apt"]
    prefix = {"remove": manager.remove_argv, "autoremove": manager.unneeded_argv}
    have = "".join("{0}\t1\tii \n".format(name) for name in installed)
    commands = [dict(DEBIAN["commands"][0], **({"stdout": have} if installed else {}))]
    for verb, names, goes in outputs:
        out = "The following packages will be REMOVED:\n" + "".join("   {0} (1)\n".format(name) for name in goes)
        out += "Do you want to continue? [Y/n] N\nAbort.\n"
        commands.append({"argv": list(prefix[verb]) + names, "status": 1, "stdout": out, "stderr": ""})
    text = json.dumps({"schema": _bcc_record.SCHEMA, "packages": [{"name": name, "version": None} for name in wanted]})
    return ask(tmp_path, (RECORD, text), state="absent", commands=commands)


def test_absent_removes_what_was_recorded(tmp_path):
    answer = removal(
        tmp_path, ["adduser", "apt", "was-never-there"], ("remove", ["adduser", "apt"], ["adduser", "apt"])
    )
    assert (answer["outcome"], answer["remove_names"]) == ("removed", ["adduser", "apt"])
    assert [row["version"] for row in answer["packages_remove"]] == ["3.134", "2.6.2"]


def test_absent_keeps_what_others_need(tmp_path):
    """gcc-12 came with the headers, and somebody installed gcc since, which needs it."""
    answer = removal(
        tmp_path,
        ["bpfcc-tools", "gcc-12", "python3-bpfcc"],
        ("remove", ["bpfcc-tools", "gcc-12", "python3-bpfcc"], ["bpfcc-tools", "gcc", "gcc-12", "python3-bpfcc"]),
        ("autoremove", ["bpfcc-tools"], ["an-orphan-of-the-host", "bpfcc-tools", "python3-bpfcc"]),
        ("remove", ["bpfcc-tools", "python3-bpfcc"], ["bpfcc-tools", "python3-bpfcc"]),
        installed=["an-orphan-of-the-host", "bpfcc-tools", "gcc", "gcc-12", "python3-bpfcc"],
    )
    assert (answer["outcome"], answer["packages_keep"]) == ("removed", ["gcc-12"])
    assert answer["remove_names"] == ["bpfcc-tools", "python3-bpfcc"]


def test_absent_takes_nothing_of_others_along(tmp_path):
    answer = removal(
        tmp_path,
        ["bpfcc-tools"],
        ("remove", ["bpfcc-tools"], ["bpfcc-tools", "users-own"]),
        ("autoremove", ["bpfcc-tools"], ["bpfcc-tools", "users-own"]),
        installed=["bpfcc-tools", "users-own"],
    )
    assert answer["outcome"] == "still_needed" and "users-own" in answer["sentence"] and answer["remove_names"] == []


def test_absent_without_a_record(tmp_path):
    answer = ask(tmp_path, TOOL, state="absent", commands=DEBIAN["commands"][:1])
    assert answer["outcome"] == "nothing_to_remove" and not answer["fails"]


def test_unreadable_record(tmp_path):
    for text in ("{", "[]", '{"packages": [1]}', "null"):
        answer = ask(tmp_path, (RECORD, text), state="absent")
        assert answer["outcome"] == "record_unreadable" and RECORD in answer["sentence"]


@pytest.mark.parametrize("before", [[], ["apt"]])
def test_record_on_a_full_disk_leaves_nothing(tmp_path, monkeypatch, before):
    """The old record stays as it is, and where there was none there is no directory."""
    if before:
        ask(tmp_path, check=False, remember=[{"name": name} for name in before])

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_bcc_record.os, "fsync", full)
    assert ask(tmp_path, check=False, remember=[{"name": "gcc-12"}])["outcome"] == "disk_full"
    folder = tmp_path / "var/lib/oom-forensics"
    assert ([each.name for each in folder.iterdir()] if folder.exists() else []) == ["bcc_tools.json"] * len(before)
    assert folder.exists() == bool(before) and (not before or recorded(tmp_path) == [("apt", None)])


def test_record_that_cannot_be_written(tmp_path):
    (tmp_path / "var/lib").mkdir(parents=True)
    (tmp_path / "var/lib/oom-forensics").write_text("")
    answer = ask(tmp_path, check=False, remember=[{"name": "gcc-12"}])
    assert answer["outcome"] == "record_not_written" and answer["install_names"] == []
