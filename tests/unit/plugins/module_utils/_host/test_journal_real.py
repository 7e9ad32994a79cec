# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal's reader on real journals: what it finds is what a full export of the same journal holds."""

import lzma
import os
import shutil
import subprocess

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import collect, coverage, journal, run
from ansible_collections.oom.forensics.plugins.module_utils._oom import events

REMOTE = "/lib/systemd/systemd-journal-remote"
KILLS = 353  # events of the whole boot of the virtual machine, as a full export has them
HEAD = (
    "__REALTIME_TIMESTAMP={0}\n__MONOTONIC_TIMESTAMP={1}\n_BOOT_ID=432c69a208204df2a4fcf603ea86771e\n"
    "_TRANSPORT={2}\nSYSLOG_IDENTIFIER=kernel\n_MACHINE_ID=283fc4a71a0e40c88f847d5a41f03fe9\n_HOSTNAME=lab\n"
    "PRIORITY=4\n_SOURCE_MONOTONIC_TIMESTAMP={1}\n"
)
START = 1795384675000000


def build(folder, export):
    if shutil.which("journalctl") is None or not os.path.exists(REMOTE):
        pytest.skip(
            "journalctl and {0} (systemd-journal-remote) make and read the journals of this test".format(REMOTE)
        )
    command = [REMOTE, "--output", str(folder / "system.journal"), "-"]
    subprocess.run(command, input=export, stderr=subprocess.DEVNULL, check=True)
    return str(folder)


def record(usec, message, transport="kernel", boot_usec=START - 60000000):
    data = message.encode("utf-8", "surrogateescape")
    field = b"MESSAGE=" + data if b"\n" not in data else b"MESSAGE\n" + len(data).to_bytes(8, "little") + data
    return HEAD.format(usec, max(1, usec - boot_usec), transport).encode() + field + b"\n\n"


def report(usec, pid, transport="kernel", comm="hog", step=20):
    lines = (
        comm + " invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
        "memory: usage 8192kB, limit 8192kB, failcnt 12",
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a,"
        "task={0},pid={1},uid=0".format(comm, pid),
        "Memory cgroup out of memory: Killed process {0} ({1}) total-vm:{0}kB, anon-rss:7000kB, file-rss:0kB, "
        "shmem-rss:0kB, UID:0 pgtables:52kB oom_score_adj:0".format(pid, comm),
    )
    return b"".join(record(usec + step * number, line, transport) for number, line in enumerate(lines))


def noise(usec, count, step=1000):
    return b"".join(record(usec + step * number, "[UFW BLOCK] IN=eth0 {0}".format(number)) for number in range(count))


def read(folder, host=None, **options):
    """The events of the windows, and the coverage row; each window is parsed by itself."""
    host = host or run.Host()
    options = journal.Options(directory=str(folder), **options)
    about = coverage.row("journal", str(folder))
    found = journal.look(host, options)
    parts = journal.windows(host, options, found, about)
    return [event for part in parts for event in events.parse(part, events.Context(source="journal"))], about


def exported(folder, *arguments):
    """The same events from a full export, which no window has touched."""
    command = ["journalctl", "--directory", str(folder), "-o", "export", "--all", "_TRANSPORT=kernel"]
    data = subprocess.run(command + list(arguments), stdout=subprocess.PIPE, check=True).stdout
    return list(events.parse([data], events.Context(source="journal")))


def pids(found):
    return sorted(victim["pid"] for event in found for victim in event["victims"])


@pytest.fixture(scope="session")
def whole_boot(tmp_path_factory, shared_dir):
    path = shared_dir / "logs" / "vm-6.1.0-56-amd64" / "whole-boot" / "boot-journal-k.export.xz"
    return build(tmp_path_factory.mktemp("journal"), lzma.decompress(path.read_bytes()))


def test_every_event_of_a_whole_boot(whole_boot):
    """Byte for byte: text, clocks, cursors. Only what is inside a report counts, not what a reader may keep behind it."""
    found, about = read(whole_boot)
    expected = exported(whole_boot)
    assert len(found) == len(expected) == KILLS
    for one, other in zip(found, expected):
        for key in ("id", "time", "monotonic_usec", "boot_id", "victims", "outcome", "origins", "raw_sha256"):
            assert one[key] == other[key], key
    assert about["error"] is None
    assert about["records"] > 0


def test_few_wide_windows_find_the_same(whole_boot, monkeypatch):
    monkeypatch.setattr(journal, "_CALL_COST", 0)
    monkeypatch.setattr(journal, "_WINDOWS", 3)
    assert [event["id"] for event in read(whole_boot)[0]] == [event["id"] for event in exported(whole_boot)]


def test_many_narrow_windows_find_the_same(whole_boot, monkeypatch):
    monkeypatch.setattr(journal, "_CALL_COST", 0)
    monkeypatch.setattr(journal, "_WINDOWS", 10000)
    assert [event["id"] for event in read(whole_boot)[0]] == [event["id"] for event in exported(whole_boot)]


def without_grep(argv):
    """This journalctl as one that cannot search answers (words of a build without PCRE2; not observed here)."""
    if any(word.startswith("--grep") for word in argv):
        return run.Running(iter(()), lambda: run.Ended(1, "Compiled without pattern matching support\n"))
    return run.popen(argv)


def test_without_search_the_same_is_found(whole_boot):
    found, about = read(whole_boot, run.Host(stream=without_grep))
    assert [event["id"] for event in found] == [event["id"] for event in exported(whole_boot)]
    assert about["error"] is None


def test_runs_that_follow_each_other_see_every_kill_once(whole_boot):
    expected = exported(whole_boot)
    moments = [event["time"] for event in expected]
    cursor, seen = None, []
    for cut in (moments[len(moments) // 3], moments[len(moments) // 2], moments[-10], None):
        until = None if cut is None else collect._seconds({"time": cut}) + 0.5
        found = collect.collect_events(
            run.Host(), ["journal"], until=until, cursor=cursor, journal_directory=whole_boot, max_events=1000
        )
        assert found["events"]
        assert found["coverage"]["journal_cursor"] not in (None, cursor)
        seen += found["events"]
        cursor = found["coverage"]["journal_cursor"]
    assert sorted(pids(seen)) == sorted(pids(expected))
    again = collect.collect_events(run.Host(), ["journal"], cursor=cursor, journal_directory=whole_boot)
    assert again["events"] == []
    assert again["coverage"]["sources"][0]["records"] == 0


def test_a_journal_file_as_journald_left_it(tmp_path, shared_dir):
    path = shared_dir / "logs" / "vm-6.1.0-56-amd64" / "whole-boot" / "system.journal.xz"
    (tmp_path / "system.journal").write_bytes(lzma.decompress(path.read_bytes()))
    if shutil.which("journalctl") is None:
        pytest.skip("journalctl reads the journal of this test")
    for place in (tmp_path, tmp_path / "system.journal"):
        found = collect.collect_events(run.Host(), ["journal"], journal_directory=str(place))
        assert [event["victims"][0]["comm"] for event in found["events"]] == ["allocator-self", "systemd-journal"]
        row = found["coverage"]["sources"][0]
        assert (row["available"], row["error"], row["last_time"]) == (True, None, "2026-11-22T22:40:51.523140Z")


def test_a_clock_that_was_set_back(tmp_path):
    day = 86400 * 1000000
    export = (
        noise(START, 600)
        + report(START + 700000, 101)
        + noise(START + 800000, 600)
        + noise(START - day, 600)
        + report(START - day + 700000, 102)
        + noise(START - day + 800000, 1200)
        + report(START + 3 * day, 103)
        + noise(START + 4 * day, 600)
    )
    folder = build(tmp_path, export)
    assert pids(events.merge(read(folder)[0])) == [101, 102, 103]


def test_a_slow_console_and_a_lost_beginning(tmp_path):
    minute = 60 * 1000000
    slow = report(START, 201, step=2 * minute)
    lone = record(
        START + 100 * minute, "Out of memory: Killed process 202 (x) total-vm:5kB, anon-rss:4kB, file-rss:0kB"
    )
    export = slow + noise(START + 50 * minute, 2000) + lone + noise(START + 200 * minute, 2000)
    found = read(build(tmp_path, export))[0]
    assert [(event["victims"][0]["pid"], event["limit_cgroup"]) for event in found] == [(201, "/a"), (202, None)]


def test_only_the_kernel_can_log_a_kill(tmp_path):
    export = report(START, 301) + report(START + 1000, 302, transport="syslog") + report(START + 2000, 303, "stdout")
    assert pids(read(build(tmp_path, export))[0]) == [301]


def test_a_name_that_imitates_a_record(tmp_path):
    forged = "x\n\n__CURSOR=s=1\nMESSAGE=Out of memory: Killed process 1 (init) total-vm:1kB, anon-rss:1kB"
    odd = "\udcff\udcfe,pid=1\x01"
    export = report(START, 401, comm=forged[:14]) + record(START + 5000, forged) + report(START + 9000, 402, comm=odd)
    found = read(build(tmp_path, export))[0]
    assert pids(found) == [401, 402]


def test_since_until_and_boot(tmp_path):
    second = 1000000
    folder = build(tmp_path, b"".join(report(START + number * 100 * second, 500 + number) for number in range(5)))
    first = START / 1e6
    found = collect.collect_events(
        run.Host(), ["journal"], journal_directory=folder, since=first + 100.00005, until=first + 300.00005
    )
    assert pids(found["events"]) == [501, 502]
    assert found["events"][0]["trigger"]["comm"] == "hog"
    cursor = found["coverage"]["journal_cursor"]
    later = collect.collect_events(run.Host(), ["journal"], journal_directory=folder, cursor=cursor)
    assert pids(later["events"]) == [503, 504]
    assert all(event["trigger"]["comm"] == "hog" for event in later["events"])
    assert pids(read(folder, boot_id="432c69a208204df2a4fcf603ea86771e")[0]) == [500, 501, 502, 503, 504]
    with pytest.raises(coverage.Unreadable, match="no records of the kernel"):
        read(folder, boot_id="0" * 32)


def test_the_record_before_another(tmp_path):
    folder = build(tmp_path, noise(START, 5) + report(START + 10000, 601))
    host, options = run.Host(), journal.Options(directory=folder)
    newest = journal.look(host, options).newest.cursor
    previous = journal.before(host, options, newest)
    assert previous is not None
    assert ";i=8;" in previous
    oldest = journal.look(host, options).oldest.cursor
    assert journal.before(host, options, oldest) is None


def test_a_report_in_the_making_is_left_for_the_next_run(tmp_path, monkeypatch):
    done, half = report(START, 701) + noise(START + 1000, 3), report(START + 30000000, 702)
    folder = build(tmp_path, done + half[: half.index(b"__REALTIME", len(half) // 2)])
    before = journal.look(run.Host(), journal.Options(directory=folder, until=START / 1e6 + 29)).newest.cursor
    for age, left in ((2, True), (60, False)):
        monkeypatch.setattr(collect.time, "time", lambda moment=START / 1e6 + 30 + age: moment)
        found = collect.collect_events(run.Host(), ["journal"], journal_directory=folder)
        assert [event["outcome"] for event in found["events"]] == ["killed"] + ["unknown"] * (not left)
        assert (found["coverage"]["journal_cursor"] == before) is left


def test_a_vanished_cursor_is_said_and_everything_read(tmp_path):
    folder = build(tmp_path, report(START, 801))
    gone = "s=1cf6d9fe5ee7443695994a3a341d135c;i=42e;b=432c69a208204df2a4fcf603ea86771e;m=1;t=1;x=1"
    found = collect.collect_events(run.Host(), ["journal"], journal_directory=folder, cursor=gone)
    assert pids(found["events"]) == [801]
    assert "no longer has the record" in found["coverage"]["advice"][0]


def test_a_truncated_journal_file(tmp_path):
    folder = build(tmp_path, report(START, 901) + noise(START + 1000, 3000) + report(START + 9000000, 902))
    path = tmp_path / "system.journal"
    path.write_bytes(path.read_bytes()[:200000])
    found = collect.collect_events(run.Host(), ["journal"], journal_directory=folder)
    assert found["coverage"]["sources"][0]["error"]
    (tmp_path / "system.journal").write_bytes(b"no journal at all")
    found = collect.collect_events(run.Host(), ["journal"], journal_directory=folder)
    assert found["events"] == []
    assert found["coverage"]["sources"][0]["error"]
