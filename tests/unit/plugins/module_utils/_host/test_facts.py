# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters, clocks, identifiers and host facts, on copied trees."""

import os
import time

from ansible_collections.oom.forensics.plugins.module_utils._host import counters, facts, journald, run

# Observed on Debian 12 (kernel 6.1, cgroup v2) and, the second mount table, on a cgroup v1 host with a v2 tree.
UNIFIED = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate,memory_recursiveprot 0 0\n"
MEMORY = "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
HOST = {
    "proc/vmstat": "nr_free_pages 12\noom_kill 7\n",
    "proc/stat": "cpu 1 2 3\nbtime 1795383616\n",
    "proc/meminfo": "MemTotal:        2014776 kB\nMemAvailable:    1000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"
    "CommitLimit: 1007388 kB\nCommitted_AS: 300 kB\n",
    "proc/self/mounts": "proc /proc proc rw 0 0\n" + UNIFIED,
    "proc/sys/kernel/random/boot_id": "432c69a2-0820-4df2-a4fc-f603ea86771e\n",
    "proc/sys/kernel/osrelease": "6.1.0-56-amd64\n",
    "proc/sys/kernel/hostname": "lab\n",
    "proc/sys/kernel/arch": "x86_64\n",
    "proc/sys/kernel/printk": "4\t4\t1\t7\n",
    "proc/sys/vm/panic_on_oom": "0\n",
    "proc/sys/vm/swappiness": "60\n",
    "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/swap file\tfile\t\t262140\t\t1024\t\t-2\n"
    "/dev/zram0                              partition\t1048572\t\t0\t\t100\n",
    "proc/1/stat": "1 (systemd) S 0 1 1 0\n",
    "proc/77/stat": "77 (earlyoom) S 1 77\n",
    "proc/78/stat": "78 (systemd-oomd) S 1 78\n",
    "proc/79/stat": "79 (low-memory-moni) S 1 79\n",
    "proc/80/stat": "80 (sshd) S 1 80\n",
    "proc/80/oom_score_adj": "-1000\n",
    "proc/80/cgroup": "0::/system.slice/ssh.service\n",
    "proc/81/stat": "81 (sshd) S 80 81\n",
    "proc/81/oom_score_adj": "0\n",
    "proc/82/stat": "82 (x) sshd) S 1 82\n",
    "proc/83/stat": "83 (dockerd) S 1 83\n",
    "proc/83/cgroup": "3:memory:/a\n1:name=systemd:/system.slice/docker.service\n0::/b\n",
    "sys/block/sda/size": "1\n",
    "sys/block/zram0/disksize": "1073741824\n",
    "sys/block/zram0/comp_algorithm": "lzo lzo-rle [zstd] \n",
    "sys/block/zram1/disksize": "0\n",
    "sys/module/zswap/parameters/enabled": "Y\n",
    "sys/module/zswap/parameters/compressor": "lzo\n",
    "sys/module/zswap/parameters/max_pool_percent": "20\n",
    "etc/systemd/journald.conf": "[Journal]\n#Storage=auto\nSystemMaxUse=1G\n",
    "etc/machine-id": "283fc4a71a0e40c88f847d5a41f03fe9\n",
}


def tree(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return run.Host(str(folder))


def test_facts_of_a_copied_host(tmp_path):
    block = facts.host_block(tree(tmp_path, HOST))
    settings = block.pop("sysctls")
    assert block == {
        "hostname": "lab",
        "machine_id": "283fc4a71a0e40c88f847d5a41f03fe9",
        "boot_id": "432c69a208204df2a4fcf603ea86771e",
        "boot_time": "2026-11-22T21:40:16.000000Z",
        "kernel": "6.1.0-56-amd64",
        "arch": "x86_64",
        "page_size_bytes": None,
        "memory_total_bytes": 2014776 * 1024,
        "memory_available_bytes": 1000 * 1024,
        "swap_total_bytes": 0,
        "swap_free_bytes": 0,
        "swaps": [
            {"path": "/dev/zram0", "type": "partition", "size_bytes": 1048572 * 1024, "used_bytes": 0, "priority": 100},
            {
                "path": "/swap file",
                "type": "file",
                "size_bytes": 262140 * 1024,
                "used_bytes": 1024 * 1024,
                "priority": -2,
            },
        ],
        "zram": [{"name": "zram0", "size_bytes": 1073741824, "algorithm": "zstd"}],
        "zswap": {"enabled": True, "compressor": "lzo", "max_pool_percent": 20},
        "commit_limit_bytes": 1007388 * 1024,
        "committed_bytes": 300 * 1024,
        "cgroup_mode": "v2",
        "systemd_version": None,
        "journald": {
            "storage": None,
            "rate_limit_interval": None,
            "rate_limit_burst": None,
            "system_max_use": "1G",
            "runtime_max_use": None,
            "max_retention": None,
            "forward_to_syslog": None,
            "read_kmsg": None,
        },
        "userspace_oom_killers": ["earlyoom", "low-memory-monitor", "systemd-oomd"],
        "critical_processes": [
            {"name": "sshd", "pid": 80, "unit": "ssh.service", "oom_score_adj": -1000},
            {"name": "dockerd", "pid": 83, "unit": "docker.service", "oom_score_adj": None},
        ],
    }
    assert settings["vm_panic_on_oom"] == 0
    assert settings["vm_swappiness"] == 60
    assert settings["kernel_printk"] == "4 4 1 7"
    assert settings["vm_overcommit_kbytes"] is None
    assert len(settings) == 14


def test_facts_of_an_empty_tree_have_the_same_keys(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "empty").mkdir()
    empty = facts.host_block(run.Host(str(tmp_path / "empty")))
    assert sorted(empty) == sorted(facts.host_block(tree(tmp_path / "full", HOST)))
    assert [value for value in empty.values() if value not in (None, [])] == [dict.fromkeys(empty["sysctls"])]


def test_journald_settings_are_the_first_main_file_and_every_drop_in(tmp_path):
    files = {
        "etc/systemd/journald.conf": "[Journal]\nStorage=volatile\nRateLimitBurst=0\n[Other]\nSystemMaxUse=1\n",
        "usr/lib/systemd/journald.conf": "[Journal]\nMaxRetentionSec=1day\n",
        "etc/systemd/journald.conf.d/20-b.conf": "[Journal]\nStorage = persistent \n",
        "usr/lib/systemd/journald.conf.d/20-b.conf": "[Journal]\nStorage=none\n",
        "run/systemd/journald.conf.d/30-c.conf": "[Journal]\nRateLimitBurst=\nForwardToSyslog=yes\nno equals\n",
        "etc/systemd/journald.conf.d/99-d.bak": "[Journal]\nStorage=none\n",
    }
    found = journald.settings(tree(tmp_path, files))
    assert {key: value for key, value in found.items() if value} == {
        "storage": "persistent",
        "forward_to_syslog": "yes",
    }


def test_a_host_without_journald_has_no_settings_of_it(tmp_path):
    assert journald.settings(run.Host(str(tmp_path))) is None


def test_a_kernel_with_one_zram_algorithm_prints_it_without_brackets(tmp_path):
    host = tree(tmp_path, {"sys/block/zram0/disksize": "4096\n", "sys/block/zram0/comp_algorithm": "lzo\n"})
    assert facts.zram(host) == [{"name": "zram0", "size_bytes": 4096, "algorithm": "lzo"}]


def process(pid, name, uid=0, cgroup="/system.slice/x.service"):
    return {
        "proc/{0}/stat".format(pid): "{0} ({1}) S 1 {0}\n".format(pid, name),
        "proc/{0}/status".format(pid): "Name:\t{0}\nUid:\t{1}\t{1}\t{1}\t{1}\n".format(name, uid),
        "proc/{0}/cgroup".format(pid): "0::{0}\n".format(cgroup),
    }


def test_a_name_alone_makes_no_daemon(tmp_path):
    files = {}
    files.update(process(1, "earlyoom"))
    files.update(process(2, "nohang", uid=65534))
    files.update(process(3, "systemd-oomd", uid=995))
    files.update(process(4, "oomd", cgroup="/docker/" + "ab" * 32))
    files.update(process(5, "sshd", cgroup="/machine.slice/machine-mini.scope/payload/system.slice/ssh.service"))
    files.update(process(6, "sshd", cgroup="/user.slice/user-1000.slice/user@1000.service/app.slice/ssh.service"))
    files.update(process(7, "kubelet", cgroup="/"))
    block = facts.host_block(tree(tmp_path, files))
    assert block["userspace_oom_killers"] == ["earlyoom", "systemd-oomd"]
    assert [each["name"] for each in block["critical_processes"]] == ["kubelet"]


def test_cgroup_modes(tmp_path):
    for name, mounts, mode in (("v1", MEMORY, "v1"), ("both", MEMORY + UNIFIED, "hybrid"), ("no", "x", None)):
        (tmp_path / name).mkdir()
        assert facts.cgroup_mode(tree(tmp_path / name, {"proc/self/mounts": mounts})) == mode


def test_the_kill_counter(tmp_path):
    assert counters.oom_kill(tree(tmp_path, HOST)) == 7
    (tmp_path / "proc" / "vmstat").write_text("nr_free_pages 12\n")
    assert counters.oom_kill(run.Host(str(tmp_path))) is None


def test_an_identifier_that_is_none(tmp_path):
    host = tree(tmp_path, {"etc/machine-id": "uninitialized\n", "proc/sys/kernel/random/boot_id": "x" * 32})
    assert counters.machine_id(host) is None
    assert counters.boot_id(host) is None


def test_boot_time_of_this_machine():
    host = run.Host()
    boot_time, error = counters.boot_time(host)
    with open("/proc/uptime") as stream:
        uptime = float(stream.read().split()[0])  # the kernel's word, suspends included
    assert abs(time.time() - uptime - boot_time) <= error + 0.1
    assert error >= 1.0


def test_boot_time_of_a_copied_tree_has_no_bound(tmp_path):
    assert counters.boot_time(tree(tmp_path, HOST)) == (1795383616.0, None)


def test_facts_of_this_machine():
    block = facts.host_block(run.Host())
    assert block["kernel"] == os.uname().release
    assert block["page_size_bytes"] == os.sysconf("SC_PAGE_SIZE")
    assert len(block["boot_id"]) == 32
    assert block["memory_total_bytes"] > block["memory_available_bytes"] > 0
