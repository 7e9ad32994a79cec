# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a trace begins and ends, with programs that behave as tracers do; real kills are traced in tests/system."""

import ctypes
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import textwrap
import time

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import (
    run,
    tracer_cleanup,
    tracer_tools,
    tracer_witness,
    tracers,
)
from ansible_collections.oom.forensics.plugins.module_utils._host.tracer_backends import BACKENDS
from ansible_collections.oom.forensics.plugins.module_utils._oom import traces

FIXTURES = pathlib.Path(__file__).resolve().parents[4] / "fixtures/traces/debian-12-6.1"
COLLECTIONS = pathlib.Path(__file__).resolve().parents[5] / ".collections"
LINE = (
    '20:00:44 Triggered by PID {0} ("apk"), OOM kill of PID {0} ("apk"), 4096 pages, loadavg: 0.44 0.13 0.04 4/199 4242'
)
SAYS = "echo 'Tracing OOM kills... Ctrl-C to stop.'"
STAY = "while :; do sleep 0.05; done"
# Two files called what the kernel calls perf events: bcc's probe and its buffer of one processor.
PROBES = 'exec 8>"${0%/*}/anon_inode:[perf_event]" 9>&8'
READY = SAYS + "\n" + PROBES


@pytest.fixture
def tool(tmp_path):
    """A function that makes a program of shell lines and the host that has it as its only tracer."""

    def make(*lines):
        path = tmp_path / "oomkill-bpfcc"
        # Its number in a file, so that a test can tell whether it is gone.
        path.write_text("#!/bin/sh\necho $$ > {0}/pid\n{1}\n".format(tmp_path, "\n".join(lines)))
        path.chmod(0o755)
        return run.Host(which=lambda name: str(path) if name == path.name else None)

    return make


def pid_of(tmp_path):
    return int((tmp_path / "pid").read_text())


def gone(pid, seconds=15):
    deadline = time.monotonic() + seconds
    while tracer_cleanup.process(pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def traced(host, seconds=1.0, last=0, **options):
    kills, started = [], []

    def seen(kill):
        kills.append(kill)
        return len(kills) == last

    request = tracers.Request(backend="bcc", seconds=seconds, connection=False, **options)
    return tracers.trace(host, request, tracers.Hooks(started.append, seen)), kills, started


def test_trace(tool, tmp_path):
    result, kills, started = traced(tool(READY, "echo '{0}'".format(LINE.format(999999999)), STAY))
    assert started == ["bcc"]
    assert (result["backend"], result["ended_by"], result["lost"], result["left"]) == ("bcc", "duration", 0, [])
    assert 1 <= result["ended_at"] - result["started_at"] < 10
    assert [(each["backend"], each["state"]) for each in result["attempts"]] == [("bcc", "attached")]
    assert [kill.victim_pid for kill in kills] == [999999999]
    assert kills[0].boot_id and abs(kills[0].time - time.time()) < 30
    assert kills[0].victim_cgroup is None  # no such process
    assert gone(pid_of(tmp_path), 0)


def test_victim_that_still_runs_has_its_cgroup(tool):
    _result, kills, _started = traced(tool(READY, "echo '{0}'".format(LINE.format(os.getpid())), STAY), last=1)
    lines = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    memory = [line.split(":", 2)[2] for line in lines if "memory" in line.split(":")[1].split(",")]
    unified = [line.split(":", 2)[2] for line in lines if line.startswith("0::")]
    if tracer_witness.same_numbers(run.Host()):
        assert kills[0].victim_cgroup == (memory + unified)[0]


def test_last_kill_ends_the_trace(tool):
    lines = ["echo '{0}'".format(LINE.format(pid)) for pid in (999999991, 999999992, 999999993)]
    result, kills, _started = traced(
        tool(READY, lines[0], "sleep 0.5", lines[1], "sleep 0.5", lines[2], STAY), 30, last=2
    )
    assert result["ended_by"] == "max_events" and len(kills) == 2


def test_tool_that_fails_says_why(tool):
    with pytest.raises(tracers.TraceError) as caught:
        traced(
            tool(
                "echo 'Traceback (most recent call last):' >&2", "echo 'Exception: Failed to attach BPF' >&2", "exit 1"
            )
        )
    assert "oomkill-bpfcc did not attach: Exception: Failed to attach BPF." in str(caught.value)
    assert caught.value.attempts[0]["state"] == "unavailable"


def test_tool_that_says_nothing(tool, tmp_path):
    with pytest.raises(tracers.TraceError, match="it was not attached after 1 s"):
        traced(tool(STAY), attach_seconds=1.0)
    assert gone(pid_of(tmp_path), 0)


def test_tool_that_opens_its_buffers_late(tool):
    """It is attached only then, however long that takes: what is killed before it would not tell."""
    result, kills, _started = traced(tool(SAYS, "echo '{0}'".format(LINE.format(999999999)), "sleep 3", PROBES, STAY))
    assert result["attach_seconds"] > 3 and [kill.victim_pid for kill in kills] == [999999999]


def test_tool_that_opens_no_buffers(tool, tmp_path):
    with pytest.raises(tracers.TraceError) as caught:
        traced(tool(SAYS, 'exec 8>"${0%/*}/anon_inode:[perf_event]"', STAY), attach_seconds=3.0)
    assert "not attached after 3 s: it said so, but holds 1 of 2 perf events or BPF links." in str(caught.value)
    assert gone(pid_of(tmp_path), 0)


def perf_event():
    """A perf event of this process (perf_event_open(2), PERF_TYPE_SOFTWARE); its descriptor, or -1."""
    number = {"x86_64": 298, "aarch64": 241}.get(os.uname().machine, -1)
    attributes = struct.pack("=IIQ", 1, 112, 0).ljust(40, b"\0") + struct.pack("=Q", 0x61) + bytes(64)
    return ctypes.CDLL(None).syscall(number, attributes, 0, -1, -1, 0)


def test_what_the_kernel_calls_a_perf_event():
    before = tracer_tools.probes(os.getpid())
    descriptor = perf_event()
    if descriptor < 0:
        pytest.skip("this kernel lets this user have no perf events")
    try:
        assert tracer_tools.probes(os.getpid()) == before + 1
    finally:
        os.close(descriptor)


def test_tool_that_is_not_there():
    nothing = run.Host(root="/nonexistent", which=lambda name: None)
    with pytest.raises(tracers.TraceError) as caught:
        tracers.trace(nothing, tracers.Request(backend="auto", connection=False), tracers.Hooks(lambda name: None, len))
    reasons = {each["backend"]: each["reason"] for each in caught.value.attempts}
    assert list(reasons) == list(BACKENDS)
    assert reasons["bpftrace"] == "bpftrace is not installed."
    assert "bpfcc-tools" in reasons["bcc"] and "libbpf-tools" in reasons["libbpf"]
    assert "This kernel has no tracefs" in reasons["tracefs"]


def test_tool_that_ends_early(tool):
    result, kills, _started = traced(tool(READY, "sleep 0.5", "echo 'cannot go on' >&2", "exit 3"), 20)
    assert (result["ended_by"], result["error"], kills) == ("tracer", "cannot go on", [])


def test_tool_that_does_not_want_to_end(tool, tmp_path):
    result, _kills, _started = traced(tool("trap '' INT TERM HUP", READY, STAY), 0.2)
    assert result["left"] == [] and gone(pid_of(tmp_path), 0)


def test_lost_kills_are_counted(tool):
    result, _kills, _started = traced(tool(READY, "sleep 0.2", "echo 'Possibly lost 7 samples' >&2", STAY))
    assert result["lost"] == 7


def test_ready_file(tool, tmp_path):
    ready = tmp_path / "ready"
    seen = []
    request = tracers.Request(backend="bcc", seconds=0.2, connection=False, ready_path=str(ready))
    host = tool(READY, STAY)
    tracers.trace(host, request, tracers.Hooks(lambda name: seen.append(ready.exists()), len))
    assert (seen, ready.exists()) == ([True], False)


@pytest.mark.parametrize(
    "name,why", [("file", "it is there already"), ("link", "it is there already"), ("file/x", "is no folder")]
)
def test_ready_file_that_cannot_be_made_is_told_before_anything_starts(tool, tmp_path, name, why):
    (tmp_path / "file").write_text("somebody's")
    os.symlink("/nowhere", str(tmp_path / "link"))
    with pytest.raises(tracers.TraceError) as caught:
        traced(tool(READY, STAY), ready_path=str(tmp_path / name))
    assert why in str(caught.value) and [each["state"] for each in caught.value.attempts] == ["not_tried"]
    assert (tmp_path / "file").read_text() == "somebody's" and not (tmp_path / "pid").exists()


def test_ready_file_that_somebody_else_makes_meanwhile(tool, tmp_path):
    """Whoever waits for it was told too early: that is no trace to rely on."""
    ready = tmp_path / "ready"
    with pytest.raises(tracers.TraceError, match="cannot be made: File exists"):
        traced(tool("touch '{0}'".format(ready), READY, STAY), 30, ready_path=str(ready))
    assert ready.exists() and gone(pid_of(tmp_path), 0)


def test_nothing_of_the_process_is_changed(tool):
    before = [signal.getsignal(number) for number in tracers._SIGNALS], tracers._score(), os.listdir("/proc/self/fd")
    traced(tool(READY, STAY), 0.2)
    after = [signal.getsignal(number) for number in tracers._SIGNALS], tracers._score(), os.listdir("/proc/self/fd")
    assert before == after
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


# --- what ends a trace from outside ---------------------------------------------------------------------------------

DRIVER = textwrap.dedent(
    """
    import json, sys
    from ansible_collections.oom.forensics.plugins.module_utils._host import run, tracers
    path, connection = sys.argv[1:]
    host = run.Host(which=lambda name: path if name == "oomkill-bpfcc" else None)
    hooks = tracers.Hooks(lambda name: print("started", file=sys.stderr, flush=True), lambda kill: False)
    try:
        result = tracers.trace(host, tracers.Request(backend="bcc", seconds=60, connection=connection == "yes"), hooks)
    except tracers.TraceError as error:
        print("not attached", error, file=sys.stderr, flush=True)
        sys.exit(2)
    print(json.dumps(result), file=sys.stderr, flush=True)
    """
)


def drive(host, connection="no"):
    """A process that traces with the host's tool, started and attached."""
    argv = [sys.executable, "-c", DRIVER, host.which("oomkill-bpfcc"), connection]
    environment = dict(os.environ, PYTHONPATH=str(COLLECTIONS))
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, env=environment, stdout=pipe, stderr=pipe, start_new_session=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal(tool, tmp_path, number):
    driver = drive(tool(READY, STAY))
    assert driver.stderr.readline() == b"started\n"
    driver.send_signal(number)
    result = json.loads(driver.communicate(timeout=30)[1].decode())
    assert (result["ended_by"], result["signal"], result["left"]) == ("signal", number, [])
    assert gone(pid_of(tmp_path), 0)


def test_signal_before_it_is_attached(tool, tmp_path):
    driver = drive(tool(STAY))
    deadline = time.monotonic() + 10
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    driver.send_signal(signal.SIGTERM)
    assert b"ended by a signal" in driver.communicate(timeout=30)[1]
    assert driver.returncode == 2 and gone(pid_of(tmp_path), 0)


def test_killed_trace_leaves_no_tool(tool, tmp_path):
    """SIGKILL, as Ansible sends it to the group of an overdue asynchronous task."""
    driver = drive(tool("trap '' TERM", READY, STAY))
    assert driver.stderr.readline() == b"started\n"
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate(timeout=30)
    assert gone(pid_of(tmp_path))


def test_lost_connection(tool, tmp_path):
    driver = drive(tool(READY, STAY), "yes")
    assert driver.stderr.readline() == b"started\n"
    driver.stdout.close()  # what sshd does
    result = json.loads(driver.stderr.readline().decode())
    driver.wait(timeout=30)
    driver.stderr.close()
    assert (result["ended_by"], result["left"]) == ("connection", [])
    assert gone(pid_of(tmp_path), 0)


# A session whose leader ends when the tool runs, and whose trace has another parent, which stays.
NOHUP = '"$@" & until test -e {0}/pid; do sleep 0.1; done'
PARENT = '"$@"; exit $?'
# What sshd is: the parent of the leader, with a name of its own. Says its number.
SSHD = """
import os, pathlib, subprocess, sys
pathlib.Path("/proc/self/comm").write_text(sys.argv[1])
running = subprocess.Popen(sys.argv[2:], start_new_session=True)
print(os.getpid(), file=sys.stderr, flush=True)
sys.exit(running.wait())
"""


def sh(script, argv):
    return ["sh", "-c", script, "sh"] + argv


def driver_argv(host, seconds):
    return [
        sys.executable,
        "-c",
        DRIVER.replace("seconds=60", "seconds=" + seconds),
        host.which("oomkill-bpfcc"),
        "yes",
    ]


def start(argv):
    environment = dict(os.environ, PYTHONPATH=str(COLLECTIONS))
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, env=environment, stdout=pipe, stderr=pipe, start_new_session=True)


def test_login_shell_that_ends_first(tool, tmp_path):
    """`nohup ansible-playbook ... &`: the session's leader has gone, and everybody still reads."""
    session = start(sh(NOHUP.format(tmp_path), sh(PARENT, driver_argv(tool(READY, STAY), "2"))))
    session.wait(timeout=60)
    out, err = session.communicate(timeout=60)
    assert out == b"" and json.loads(err.decode().splitlines()[1])["ended_by"] == "duration"


@pytest.mark.parametrize("name", ["sshd", "sshd-session"])
def test_sshd_that_ends(tool, tmp_path, name):
    """Somebody else may still hold the other end of the pipe."""
    argv = sh(PARENT, sh(PARENT, driver_argv(tool(READY, STAY), "60")))
    server = start([sys.executable, "-c", SSHD, name] + argv)
    assert int(server.stderr.readline()) == server.pid
    assert server.stderr.readline() == b"started\n"
    server.kill()
    result = json.loads(server.stderr.readline().decode())
    server.communicate(timeout=30)
    assert (result["ended_by"], result["left"]) == ("connection", [])
    assert gone(pid_of(tmp_path), 0)


# --- what is taken away ---------------------------------------------------------------------------------------------


def test_probes_of_a_killed_bcc(tmp_path):
    events = tmp_path / "kprobe_events"
    events.write_text("p:kprobes/p_oom_kill_process_bcc_4711 oom_kill_process\np:kprobes/p_x_bcc_14711 x\np:mine y\n")
    assert tracer_cleanup._probes(str(events), 4711) == ["kprobes/p_oom_kill_process_bcc_4711"]
    assert tracer_cleanup.remove_probes(str(tmp_path), 4711)
    assert events.read_text() == "-:kprobes/p_oom_kill_process_bcc_4711\n"  # what the kernel takes as a command


def test_instances_of_killed_traces(tmp_path):
    own = tracer_cleanup.process(os.getpid())
    names = ["oom-forensics-999999999-1", "oom-forensics-{0}-{1}".format(*own), "somebody-else"]
    names.append("oom-forensics-{0}-{1}".format(own.pid, own.started + 1))
    for name in names:
        (tmp_path / "instances" / name).mkdir(parents=True)
    assert tracer_cleanup.sweep(str(tmp_path)) == 2
    assert sorted(each.name for each in (tmp_path / "instances").iterdir()) == sorted(names[1:3])


def test_instances_of_others_are_not_silenced(tmp_path):
    """The owner may live in another process namespace; the kernel keeps what is read (here: a folder with a file)."""
    switch = tmp_path / "instances/oom-forensics-999999999-1/events/enable"
    switch.parent.mkdir(parents=True)
    switch.write_text("1")
    assert tracer_cleanup.sweep(str(tmp_path)) == 0
    assert switch.read_text() == "1"


def test_what_is_left_is_said(tmp_path):
    (tmp_path / "full" / "inside").mkdir(parents=True)
    keeper = tracer_cleanup.Keeper(None)
    keeper.instance(str(tmp_path / "full"))
    assert keeper.take_away() == [str(tmp_path / "full")]


def test_a_process_of_the_same_number_is_another():
    own = tracer_cleanup.process(os.getpid())
    assert tracer_cleanup.runs(own)
    assert tracer_cleanup.end(own._replace(started=own.started + 1)) is True  # and this test goes on


# --- where tools are ------------------------------------------------------------------------------------------------


def tree(tmp_path, **files):
    for path, data in files.items():
        place = tmp_path / path.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return run.Host(root=str(tmp_path), which=lambda name: None)


def test_bcc_is_a_script_and_libbpf_a_binary(tmp_path):
    script, binary = tmp_path / "script", tmp_path / "binary"
    script.write_bytes(b"#!/usr/bin/python3\n")
    binary.write_bytes(b"\x7fELF\x02")
    for path, works, fails in (
        (script, tracer_tools.bcc, tracer_tools.libbpf),
        (binary, tracer_tools.libbpf, tracer_tools.bcc),
    ):
        host = run.Host(which=lambda name, path=path: str(path) if name == "oomkill" else None)
        assert [way.argv for way in works(host)] == [[str(path)]]
        with pytest.raises(tracer_tools.UnavailableError):
            fails(host)


@pytest.mark.parametrize(
    "cgroups,expected",
    [
        (b"#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t1\t1\ncpu\t0\t1\t1\nmemory\t0\t1\t1\n", 2),
        (b"#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t4\t1\t1\n", 4),  # since 6.14, those of v1 alone
        (b"", 4),
    ],
)
def test_number_of_the_memory_controller(tmp_path, cgroups, expected):
    assert tracer_tools.memory_controller(tree(tmp_path, proc__cgroups=cgroups)) == expected


@pytest.mark.parametrize("names,expected", [(b"\0parent\0", "parent"), (b"\0__parent\0", "__parent"), (b"", "parent")])
def test_what_kernfs_calls_its_parent(tmp_path, names, expected):
    assert tracer_tools.kernfs_parent(tree(tmp_path, sys__kernel__btf__vmlinux=names)) == expected


def test_bpftrace_ways(tmp_path):
    tree(tmp_path, usr__bin__bpftrace=b"\x7fELF", **{"usr__sbin__oomkill.bt": b"BEGIN {}"})
    host = run.Host(root=str(tmp_path), which={"bpftrace": "/usr/bin/bpftrace"}.get)
    assert [list(way.argv)[3:] for way in tracer_tools.bpftrace(host)] == [["/usr/sbin/oomkill.bt"]]
    tree(tmp_path, sys__kernel__btf__vmlinux=b"\0__parent\0")
    first, second = tracer_tools.bpftrace(host)
    assert first.argv[:4] == ["/usr/bin/bpftrace", "-B", "line", "-e"] and "__parent" in first.argv[4]
    assert (first.shape, second.shape) == (traces.PROGRAM, traces.BPFTRACE)


# proc(5): the name in brackets may hold anything; the flags are the ninth field.
STAT = b"12 (x) 1 2 3) R 1 12 12 0 -1 %d 0 0\n"
EXITS = 0x40040C


@pytest.mark.parametrize(
    "lines,flags,expected",
    [
        (b"4:memory:/\n0::/u\n", EXITS, None),
        (b"4:memory:/\n0::/u\n", 0x400000, "/"),
        (b"4:memory:/m\n", EXITS, "/m"),
        (b"1:name=systemd:/\n0::/u\n", EXITS, "/u"),
        (b"0::/\n", EXITS, "/"),
        (b"0::/u (deleted)\n", EXITS, "/u"),
        (b"0::/u (deleted)\n", 0x400000, "/u (deleted)"),  # whoever lives keeps its cgroup: that is its name
    ],
)
def test_cgroup_of_a_victim_that_exits(tmp_path, lines, flags, expected):
    host = tree(tmp_path, proc__12__cgroup=lines, proc__12__stat=STAT % flags)
    assert tracer_witness.witness(host, traces.Kill(backend="bcc", victim_pid=12), "b", True).victim_cgroup == expected


def test_cgroup_of_a_zombie():
    """By the running kernel: on version 1 nobody knows it any more."""
    lines = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    pid = os.fork()
    if not pid:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        seen = tracer_witness.witness(run.Host(), traces.Kill(backend="bcc", victim_pid=pid), "b", True).victim_cgroup
    finally:
        os.waitpid(pid, 0)
    version_1 = any("memory" in line.split(":")[1].split(",") for line in lines)
    assert seen == (None if version_1 else lines[-1].split("::")[1])


def test_what_a_backend_leaves_that_could_not_be_attached_is_told(monkeypatch):
    def fails(host, request, name, ends):
        raise tracers.UnavailableError("{0} does not work.".format(name), ["the probe of {0}".format(name)])

    monkeypatch.setattr(tracers, "_attach", fails)
    with pytest.raises(tracers.TraceError) as caught:
        tracers.trace(run.Host(), tracers.Request(backend="bcc", connection=False), tracers.Hooks(print, bool))
    assert caught.value.left == ["the probe of bcc"]


def test_witness(tmp_path):
    host = tree(
        tmp_path,
        proc__12__cgroup=b"11:memory:/m\n1:name=systemd:/s\n0::/u\n",
        proc__12__status=b"Name:\tx\nTgid:\t10\nPid:\t12\n",
        proc__12__comm=b"x \xff\n",
        proc__12__stat=STAT % 0,
        proc__7__comm=b"seven\n",
        proc__loadavg=b"0.10 0.20 0.30 1/100 12\n",
    )
    kill = traces.Kill(backend="tracefs", victim_pid=12, trigger_pid=7)
    seen = tracer_witness.witness(host, kill, "b", True)
    assert (seen.victim_pid, seen.victim_cgroup, seen.victim_comm) == (10, "/m", "x \udcff")
    assert (seen.trigger_comm, seen.loadavg, seen.boot_id) == ("seven", "0.10 0.20 0.30 1/100 12", "b")
    blind = tracer_witness.witness(host, kill, "b", False)
    assert (blind.victim_pid, blind.victim_cgroup, blind.trigger_comm) == (12, None, None)
    known = tracer_witness.witness(host, kill._replace(victim_cgroup="/known", loadavg="1 1 1 1/1 1"), "b", True)
    assert (known.victim_cgroup, known.loadavg) == ("/known", "1 1 1 1/1 1")


def test_backends_are_all_told_about():
    assert set(tracers.KNOWS) == set(BACKENDS) == set(tracers._TOOLS) | {"tracefs"}
