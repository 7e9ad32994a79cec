# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources together: which are read, what is merged, what is counted, and what is said where one cannot be read."""

import errno
import gzip
import json
import os
import time

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import collect, kmsg, run

BOOT = "432c69a208204df2a4fcf603ea86771e"
BOOTED = 1795384000
KILL = (
    "Memory cgroup out of memory: Killed process {0} (hog) total-vm:{0}kB, anon-rss:7000kB, file-rss:0kB, "
    "shmem-rss:0kB, UID:0 pgtables:52kB oom_score_adj:0"
)
ROW = ["source", "path", "available", "first_time", "last_time", "records", "bytes", "error", "overrun", "missed"]
COVERAGE = [
    "sources",
    "boot_id",
    "kernel_counter",
    "kills_parsed",
    "kills_unlogged",
    "journal_persistent",
    "ring_buffer_overrun",
    "journal_missed",
    "journal_cursor",
    "truncated",
    "events_total",
    "events_returned",
    "advice",
    "companions",
]


def kmsg_kill(second, pid, sequence=0):
    return "3,{0},{1},-;{2}\n".format(sequence, second * 1000000, KILL.format(pid))


def syslog_kill(second, pid):
    moment = time.strftime("%b %d %H:%M:%S", time.gmtime(BOOTED + second))
    return "{0} lab kernel: [{1}.000000] {2}\n".format(moment, second, KILL.format(pid))


def tree(folder, **files):
    """A copied host: `dev_kmsg` is dev/kmsg and so on; the log files are as old as their last change should be."""
    texts = {
        "etc/machine-id": "283fc4a71a0e40c88f847d5a41f03fe9\n",
        "proc/stat": "btime {0}\n".format(BOOTED),
        "proc/vmstat": "oom_kill 5\n",
        "proc/sys/kernel/random/boot_id": BOOT + "\n",
        "proc/sys/kernel/osrelease": "6.1.0\n",
    }
    texts.update(files)
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        os.utime(str(path), (BOOTED + 90000, BOOTED + 90000))
    return run.Host(str(folder), which=lambda name: None)


def logs(folder, **more):
    files = {
        "dev/kmsg": kmsg_kill(100, 11) + kmsg_kill(200, 12, 1),
        "var/log/kern.log": syslog_kill(200, 12) + syslog_kill(300, 13),
        "var/log/kern.log.2.gz": gzip.compress((syslog_kill(-5000, 9) + syslog_kill(100, 11)).encode()),
    }
    files.update(more)
    return tree(folder, **files)


def pids(found):
    return [victim["pid"] for event in found["events"] for victim in event["victims"]]


def rows(found):
    return {(row["source"], row["path"]): row for row in found["coverage"]["sources"]}


def test_auto_reads_what_exists_and_merges_duplicates(tmp_path):
    found = collect.collect_events(logs(tmp_path))
    assert pids(found) == [9, 11, 12, 13]
    assert [len(event["origins"]) for event in found["events"]] == [1, 2, 2, 1]
    coverage = found["coverage"]
    assert list(coverage) == COVERAGE
    assert all(list(row) == ROW for row in coverage["sources"])
    assert [(row["source"], row["available"], row["error"]) for row in coverage["sources"]] == [
        ("journal", False, None),
        ("kmsg", True, None),
        ("file", True, None),
        ("file", True, None),
    ]
    assert (coverage["kernel_counter"], coverage["kills_parsed"], coverage["kills_unlogged"]) == (5, 3, 2)
    assert (coverage["events_total"], coverage["events_returned"], coverage["truncated"]) == (4, 4, False)
    assert coverage["boot_id"] == BOOT
    assert coverage["advice"] == []
    json.dumps(found)


def test_the_ends_of_each_source(tmp_path):
    found = rows(collect.collect_events(logs(tmp_path)))
    row = found["file", "/var/log/kern.log"]
    assert (row["first_time"], row["last_time"]) == ("2026-11-22T21:50:00.000000Z", "2026-11-22T21:51:40.000000Z")
    assert (row["records"], row["bytes"]) == (2, len(syslog_kill(200, 12) + syslog_kill(300, 13)))
    assert found["kmsg", "/dev/kmsg"]["first_time"] == "2026-11-22T21:48:20.000000Z"


def test_named_sources_only(tmp_path):
    host = logs(tmp_path)
    assert pids(collect.collect_events(host, ["kmsg"])) == [11, 12]
    assert pids(collect.collect_events(host, ["files"])) == [9, 11, 12, 13]


def test_named_sources_that_are_missing_are_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = collect.collect_events(tree(tmp_path), ["journal", "kmsg", "files"])
    assert [row["error"] for row in found["coverage"]["sources"]] == [
        "This host has no journalctl.",
        "The kernel's ring buffer /dev/kmsg could not be opened: no such file.",
        "/var/log has no log file of the kernel (kern.log, messages, syslog, warn).",
    ]
    assert "run as root" in found["coverage"]["advice"][0]


def test_root_is_not_told_to_be_root(tmp_path, monkeypatch):
    """As in a container: nobody logs there, and /dev/kmsg is not there."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (advice,) = collect.collect_events(tree(tmp_path))["coverage"]["advice"]
    assert "as root" not in advice and "a container has no kernel log of its own, so collect from its host" in advice


def test_a_host_without_logs_knows_nothing_about_kills(tmp_path):
    coverage = collect.collect_events(tree(tmp_path))["coverage"]
    assert [row["error"] for row in coverage["sources"]] == [None, None, None]
    assert (coverage["kernel_counter"], coverage["kills_parsed"], coverage["kills_unlogged"]) == (5, None, None)
    assert "its OOM kills are unknown" in coverage["advice"][0]


def test_an_unreadable_source_is_a_row_with_advice(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError(errno.EPERM, "Operation not permitted")

    host = logs(tmp_path)
    monkeypatch.setattr(kmsg.os, "open", refuse)
    found = collect.collect_events(host, ["kmsg"])
    row = found["coverage"]["sources"][0]
    assert (row["available"], row["error"]) == (
        False,
        "The kernel's ring buffer /dev/kmsg could not be opened: operation not permitted.",
    )
    assert "become: true" in found["coverage"]["advice"][0]
    assert found["coverage"]["kills_unlogged"] is None


@pytest.mark.parametrize("since, until, expected", [(200, None, [12, 13]), (None, 100, [9, 11]), (150, 250, [12])])
def test_since_and_until_are_of_the_kill(tmp_path, since, until, expected):
    limits = [None if limit is None else BOOTED + limit for limit in (since, until)]
    found = collect.collect_events(logs(tmp_path), since=limits[0], until=limits[1])
    assert pids(found) == expected
    assert found["coverage"]["kills_unlogged"] is None  # only a part of the boot was asked for


def test_since_before_the_boot_leaves_nothing_of_it_out(tmp_path):
    coverage = collect.collect_events(logs(tmp_path), since=BOOTED - 10)["coverage"]
    assert (coverage["kills_parsed"], coverage["kills_unlogged"]) == (3, 2)


def test_a_file_that_was_last_written_before_since_is_not_opened(tmp_path):
    host = logs(tmp_path, **{"var/log/messages": "not read"})
    os.utime(str(tmp_path / "var" / "log" / "messages"), (BOOTED - 50, BOOTED - 50))
    row = rows(collect.collect_events(host, since=BOOTED))["file", "/var/log/messages"]
    assert (row["available"], row["bytes"]) == (True, 0)


def test_kills_of_the_running_boot(tmp_path):
    found = collect.collect_events(logs(tmp_path), boots="current")
    assert pids(found) == [11, 12, 13]
    assert found["coverage"]["kills_unlogged"] == 2


def test_more_kills_logged_than_counted(tmp_path):
    host = logs(tmp_path, **{"proc/vmstat": "oom_kill 2\n"})
    assert collect.collect_events(host)["coverage"]["kills_unlogged"] == 0
    host = logs(tmp_path, **{"proc/vmstat": "nr_free_pages 2\n"})
    coverage = collect.collect_events(host)["coverage"]
    assert (coverage["kernel_counter"], coverage["kills_parsed"], coverage["kills_unlogged"]) == (None, 3, None)


def test_given_files_say_nothing_about_the_running_host(tmp_path):
    host = logs(tmp_path, **{"srv/copy.log": syslog_kill(700, 77)})
    found = collect.collect_events(host, paths=["/srv/*.log", "/srv/none", "/srv"])
    assert pids(found) == [77]
    coverage = found["coverage"]
    assert [coverage[key] for key in ("boot_id", "kernel_counter", "kills_parsed", "kills_unlogged")] == [None] * 4
    assert {path: row["error"] for (_source, path), row in rows(found).items()} == {
        "/srv/copy.log": None,
        "/srv/none": "/srv/none could not be read: no such file.",
    }
    assert coverage["advice"] == []


def test_given_files_beside_named_sources(tmp_path):
    host = logs(tmp_path, **{"srv/copy.log": syslog_kill(700, 77)})
    found = collect.collect_events(host, ["kmsg"], paths=["/srv/copy.log"])
    assert pids(found) == [11, 12, 77]
    assert found["coverage"]["kernel_counter"] == 5


def test_damaged_and_hostile_files(tmp_path):
    packed = gzip.compress((syslog_kill(100, 11) + "filler {0}\n".format("x" * 40) * 9000).encode())
    folder = {
        "srv/a-cut.gz": packed[:-30],
        "srv/b-empty": b"",
        "srv/c-noise": os.urandom(100000),
        "srv/d-one-line": b"Killed process " * 500000,
        "srv/e-zeros": bytes(3000000),
    }
    found = collect.collect_events(tree(tmp_path, **folder), paths=["/srv"])
    assert pids(found) == [11]
    errors = {os.path.basename(path): row["error"] for (_source, path), row in rows(found).items()}
    assert "decompressed only in part" in errors.pop("a-cut.gz")
    assert set(errors.values()) == {None}


def test_the_newest_events_are_returned_and_all_are_counted(tmp_path):
    text = "".join(syslog_kill(number, 1000 + number) for number in range(3000))
    host = tree(tmp_path, **{"var/log/kern.log": text, "var/log/messages": text, "proc/vmstat": "oom_kill 3000\n"})
    found = collect.collect_events(host, max_events=5)
    assert pids(found) == [3995, 3996, 3997, 3998, 3999]
    assert [len(event["origins"]) for event in found["events"]] == [2] * 5
    assert "tasks" in found["events"][0]
    coverage = found["coverage"]
    assert (coverage["events_total"], coverage["events_returned"], coverage["truncated"]) == (3000, 5, True)
    assert (coverage["kills_parsed"], coverage["kills_unlogged"]) == (3000, 0)
    assert collect.collect_events(host, max_events=0)["events"] == []


def test_max_tasks_and_raw_reach_the_parser(tmp_path):
    report = (
        "hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n"
        "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name\n"
        "[      5]     0     5      100       50    45056        0             0 hog\n"
        "[      6]     0     6      100       60    45056        0             0 pig\n" + KILL.format(5) + "\n"
    )
    host = tree(tmp_path, **{"srv/log": report})
    event = collect.collect_events(host, paths=["/srv/log"], max_tasks=1, raw=True)["events"][0]
    assert (len(event["tasks"]), event["tasks_total"]) == (1, 2)
    assert event["raw"].startswith("hog invoked")


def test_a_kill_in_local_time_is_placed_by_the_hosts_zone(tmp_path, monkeypatch):
    path = tmp_path / "kern.log"
    path.write_text("Jul 01 12:00:00 lab kernel: " + KILL.format(5) + "\n")
    os.utime(str(path), (1782921600 + 3600, 1782921600 + 3600))  # 2026-07-01T16:00:00Z and an hour
    monkeypatch.setenv("TZ", "EST5EDT")
    time.tzset()
    try:
        found = collect.collect_events(run.Host(), paths=[str(path)])
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found["events"][0]["time"] == "2026-07-01T16:00:00.000000Z"


def test_this_host():
    coverage = collect.collect_events(run.Host())["coverage"]
    assert list(coverage) == COVERAGE
    assert coverage["kernel_counter"] is None or coverage["kernel_counter"] >= 0
