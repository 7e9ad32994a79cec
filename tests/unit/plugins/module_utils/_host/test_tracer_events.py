# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tracing service alone, its lines in the journal, and what a trace returns."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils import _trace_options
from ansible_collections.oom.forensics.plugins.module_utils._host import (
    collect,
    journal,
    kmsg,
    run,
    tracer_events,
    tracer_journal,
)
from ansible_collections.oom.forensics.plugins.module_utils._oom import traced, traces

CHECKOUT = pathlib.Path(__file__).resolve().parents[5]
BOOT = "b84f02466e78440a8a878ed0a44e5350"
KILL = traces.Kill(
    backend="tracefs",
    victim_pid=1425,
    victim_comm='h"og\n',
    trigger_pid=77,
    trigger_comm="other",
    total_vm=31720,
    anon_rss=7952,
    file_rss=4,
    shmem_rss=0,
    loadavg="0.65 0.97 0.87 2/107 1426",
    victim_cgroup="/lim/own",
    time=1700001000.5,
    monotonic_usec=1000000400,
)


def service_program():
    """The program that the role writes, made without YAML and Jinja, which the targets' Pythons do not have."""
    role = CHECKOUT / "roles/oom_trace"
    names = re.findall("^  - (.+[.]py)$", (role / "vars/main.yml").read_text(), re.MULTILINE)
    files = {name: (CHECKOUT / "plugins/module_utils" / name).read_text() for name in names}
    before, after = re.split(r"\{\{.+\}\}", (role / "templates/oom_trace.py.j2").read_text())
    return before + json.dumps(files) + after


@pytest.fixture
def service(tmp_path):
    alone = tmp_path / "oom_trace.py"
    alone.write_text(service_program())
    program = tmp_path / "bin/oomkill-bpfcc"
    program.parent.mkdir()
    line = '20:00:44 Triggered by PID 7 ("apk"), OOM kill of PID 999999999 ("sh"), 4096 pages, loadavg: 0.44 0.13 0.04 4/199 4242'
    program.write_text(
        # It holds what the kernel calls perf events, as bcc's does.
        "#!/bin/sh\nexec 8>'{0}/anon_inode:[perf_event]' 9>&8\necho 'Tracing OOM kills... Ctrl-C to stop.'\necho '{1}'\n"
        "exec sleep 60\n".format(tmp_path, line)
    )
    program.chmod(0o755)

    def start(script=None, **more):
        if script:
            program.write_text(script)
        path = "{0}:{1}".format(program.parent, os.environ["PATH"])
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.Popen(
            [sys.executable, str(alone), "--backend=bcc"],
            env=dict(environment, PATH=path, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


def test_service(service, tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(30)
        running = service(NOTIFY_SOCKET=address)
        assert systemd.recv(4096) == b"READY=1\nSTATUS=Tracing OOM kills with bcc"
    assert running.stdout.readline() == b"<5>Tracing OOM kills with bcc.\n"
    line = running.stdout.readline().decode()
    kill = traces.load(line[len("<4>") :].rstrip("\n"))
    assert (kill.victim_pid, kill.victim_comm, kill.domain_pages, kill.backend) == (999999999, "sh", 4096, "bcc")
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (0, b"", b"")


def test_service_that_cannot_trace(service):
    running = service("#!/bin/sh\necho 'no kernel headers: failed' >&2\nexit 1\n")
    out, err = running.communicate(timeout=30)
    assert running.returncode == 1 and err == b""
    assert out.startswith(b"<3>Tried to trace OOM kills, and no backend could be attached. bcc: ")
    assert b"did not attach: no kernel headers: failed." in out


def record(**changes):
    fields = {
        "__CURSOR": "s=1;i=2",
        "_BOOT_ID": BOOT,
        "_MACHINE_ID": "m" * 32,
        "_HOSTNAME": "here",
        "_SYSTEMD_UNIT": traces.UNIT,
        "MESSAGE": traces.dump(KILL),
    }
    fields.update(changes)
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode() + b"\n"


def of(*records, **kind):
    """What of_service makes of these records, and the journalctl command that it asked for."""
    asked = []

    def stream(argv):
        asked.extend(argv)
        return run.Running(iter([b"".join(records)]), lambda: run.Ended(0, ""))

    host = run.Host(which=lambda name: "/usr/bin/" + name, stream=stream)
    events, about = tracer_journal.of_service(host, journal.Options(directory="/j", **kind))
    return events, about, asked


def test_service_lines():
    later = traces.dump(KILL._replace(victim_pid=1426, time=1700001001.0))
    events, about, asked = of(record(MESSAGE=later), record())  # journalctl --reverse
    assert [event["victims"][0]["pid"] for event in events] == [1425, 1426]
    event = events[0]
    assert (event["boot_id"], event["hostname"], event["time"]) == (BOOT, "here", "2023-11-14T22:30:00.500000Z")
    assert (event["victims"][0]["comm"], event["victim_cgroup"]) == ('h"og\n', "/lim/own")
    assert event["origins"] == [{"source": "trace", "path": None, "first": "s=1;i=2", "last": "s=1;i=2"}]
    assert (about["available"], about["records"], about["error"]) == (True, 2, None)
    assert (about["first_time"], about["last_time"]) == (events[0]["time"], events[1]["time"])
    assert "_SYSTEMD_UNIT=oom-forensics-trace.service" in asked


def test_service_part():
    asked = of(since=1700000000.0, until=1700000001.0, boot_id=BOOT)[2]
    assert {"--since=@1700000000.000000", "--until=@1700000001.000000", "_BOOT_ID=" + BOOT} <= set(asked)


@pytest.mark.parametrize(
    "changes",
    [
        {"_SYSTEMD_UNIT": "evil.service"},
        {"_SYSTEMD_UNIT": None},
        {"MESSAGE": "Tracing OOM kills with bcc."},
        {"MESSAGE": [79, 79]},
        {"MESSAGE": None},
        {"_BOOT_ID": None},
    ],
)
def test_lines_that_are_no_kills(changes):
    assert of(record(**changes))[0] == []


def test_lines_that_are_no_records():
    assert of(b"{", b"\n[]\n", b"\xff\n", record())[0][0]["victims"][0]["pid"] == 1425


def test_no_journal():
    events, about = tracer_journal.of_service(run.Host(which=lambda name: None), journal.Options())
    assert events == [] and about["available"] is False and about["error"] is None


OUTCOME = {"started_at": 1700000900.0, "ended_at": 1700001100.0, "counter_before": 3, "counter_after": 6, "lost": 1}
NOWHERE = run.Host(root="/nonexistent", which=lambda name: None)


@pytest.mark.parametrize(
    "patterns,expected,filtered,unknown",
    [
        ([], [1425, 1426], 0, 0),
        (["/lim/*"], [1425], 1, 1),
        (["/lim"], [], 2, 1),
        (["/other", "/*/own"], [1425], 1, 1),
    ],
)
def test_cgroups(patterns, expected, filtered, unknown):
    kills = [KILL, KILL._replace(victim_pid=1426, victim_cgroup=None)]
    wanted = tracer_events.Wanted(patterns)
    events, about = tracer_events.of_trace(NOWHERE, kills, OUTCOME, wanted, printed=None)
    assert [event["victims"][0]["pid"] for event in events] == expected
    assert (about["events_total"], about["events_filtered"], about["events_without_cgroup"]) == (2, filtered, unknown)
    assert (about["kills_traced"], about["kills_counted"], about["kills_untraced"], about["kills_lost"]) == (2, 3, 1, 1)


def test_kernel_that_does_not_count():
    outcome = dict(OUTCOME, counter_after=None)
    about = tracer_events.of_trace(NOWHERE, [], outcome, tracer_events.Wanted(), printed=None)[1]
    assert (about["kills_counted"], about["kills_untraced"], about["seconds"]) == (None, None, 200.0)


class Printed:
    """What the kernel printed while it was traced, from second 1000 to second 1200 of the boot."""

    def bounds(self):
        return 1000e6, 1200e6


def report(pid, second, wall):
    kill = b"Killed process %d (hog) total-vm:31720kB, anon-rss:7952kB, file-rss:4kB, shmem-rss:0kB" % pid
    known = collect.Context(boot_id=BOOT, boot_time=wall - second)
    return list(collect.parse([b"3,1,%d,-;Memory cgroup out of memory: %s\n" % (second * 1000000, kill)], known))


def test_reports_of_before_and_behind_the_trace_are_left_out(monkeypatch):
    """Their wall times are within the slack of the clocks; what was traced stays in any case."""
    near = report(1, 999, 1700000900.2) + report(3, 1200, 1700001099.9) + report(1425, 999, 1700001000.5)
    # The tracing service may have seen it, too.
    serviced, _about, _asked = of(record(MESSAGE=traces.dump(KILL._replace(victim_pid=1, time=1700000900.2))))
    near = traced.joined(near + serviced)
    assert [event["trace"] is not None for event in near] == [True, False, False]
    reports = near + report(2, 1100, 1700001000.0) + report(4, 1100, 1700000899.9)
    monkeypatch.setattr(collect, "collect_events", lambda host, **options: {"events": reports})
    monkeypatch.setattr(tracer_events, "known", lambda host: collect.Context(boot_id=BOOT, boot_time_error=1.3))
    events = tracer_events.of_trace(NOWHERE, [KILL], OUTCOME, tracer_events.Wanted(), Printed())[0]
    assert sorted(event["victims"][0]["pid"] for event in events) == [2, 4, 1425]
    blind = tracer_events.of_trace(NOWHERE, [KILL], OUTCOME, tracer_events.Wanted(), kmsg.Span(NOWHERE))[0]
    assert sorted(event["victims"][0]["pid"] for event in blind) == [1, 2, 3, 1425]


def test_the_host_is_asked_once_for_all_kills(monkeypatch):
    asked = []
    monkeypatch.setattr(tracer_events, "known", lambda host: asked.append(host) or collect.Context())
    tracer_events.of_trace(NOWHERE, [KILL] * 100, OUTCOME, tracer_events.Wanted(), None)
    assert asked == [NOWHERE]


def test_collected_events_have_what_the_service_saw():
    """`collect_events` on a host whose journal has the kernel's report, cut to its kill line, and the service's line."""
    kill = "Memory cgroup out of memory: Killed process 1425 (hog) total-vm:31720kB, anon-rss:7952kB, file-rss:4kB, "
    kill += "shmem-rss:0kB, UID:0 pgtables:52kB oom_score_adj:0"
    fields = {"__CURSOR": "s=1;i=1;t=60a1b2c3", "__REALTIME_TIMESTAMP": "1700001000400000", "_BOOT_ID": BOOT}
    fields.update({"__MONOTONIC_TIMESTAMP": "1000000500", "_TRANSPORT": "kernel", "MESSAGE": kill})
    export = "".join("{0}={1}\n".format(*pair) for pair in fields.items()).encode() + b"\n"

    def stream(argv):
        of_service = "_SYSTEMD_UNIT=" + traces.UNIT in argv
        kernel = "_TRANSPORT=kernel" in argv
        data = (
            record(MESSAGE=traces.dump(KILL._replace(victim_comm="hog"))) if of_service else export if kernel else b""
        )
        return run.Running(iter([data]), lambda: run.Ended(0, ""))

    host = run.Host(which=lambda name: "/usr/bin/" + name if name == "journalctl" else None, stream=stream)
    found = collect.collect_events(host, sources=("journal",), journal_directory="/")
    (event,) = found["events"]
    assert event["trace"]["backend"] == "tracefs" and event["trigger"]["comm"] == "other"
    assert event["victim_cgroup"] == "/lim/own" and event["limit_cgroup"] is None
    assert [one["source"] for one in event["origins"]] == ["journal", "trace"]
    assert [about["source"] for about in found["coverage"]["companions"]][-1] == "trace"
    assert found["coverage"]["events_total"] == found["coverage"]["events_returned"] == 1


@pytest.mark.parametrize("matching,last", [(0, 10), (3, 3)])
def test_how_many_kills_end_a_trace(matching, last):
    """Of those that are asked for the number that is, of all the most that are kept."""
    seen = tracer_events.Seen(tracer_events.Wanted(["/asked"]), 3, 10)
    cgroups = ["/asked" if number < matching else "/other" for number in range(20)]
    ends = [seen(KILL._replace(victim_cgroup=cgroup)) for cgroup in cgroups[:last]]
    assert ends == [False] * (last - 1) + [True]
    assert len(seen.kills) == last


def test_the_most_kills_of_a_trace_are_documented():
    page = (CHECKOUT / "plugins/modules/oom_trace.py").read_text(encoding="utf-8")
    assert "After {0} kills it ends in any case".format(_trace_options.MOST_EVENTS) in page
