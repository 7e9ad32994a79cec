# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real kills, traced with this kernel's own tracepoint. Needs root and a kernel with oom:mark_victim.

Tracers with eBPF are tested on the kernels of the lab.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import kernel
import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import drill, drill_plan
from ansible_collections.oom.forensics.plugins.module_utils._host.run import Host

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PLAYBOOK = str(ROOT / "playbooks/trace_oom.yml")
UNIT = Path("/etc/systemd/system/oom-forensics-trace.service")


def environment():
    paths = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"), "PYTHONPATH": str(ROOT / ".collections")}
    return dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_NOCOLOR="1", **paths)


def in_tracefs(command):
    """Output of a shell command that sees a tracefs of its own at $T; read without this collection."""
    script = f"T=$(mktemp -d) && mount -t tracefs none $T && {{ {command}; }}; umount $T; rmdir $T"
    argv = ["unshare", "-m", "sh", "-c", script]
    done = subprocess.run(argv, env=environment(), cwd=str(ROOT), capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[:-1]


def why_not():
    reason = kernel.why_not()
    if reason:
        return reason
    return None if in_tracefs("ls $T/events/oom/mark_victim") else "this kernel has no tracepoint oom:mark_victim"


WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


def instances():
    return [name for name in in_tracefs("ls $T/instances") if name.startswith("oom-forensics-")]


def nothing_left(seconds=15):
    deadline = time.monotonic() + seconds
    while instances():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def module(tmp_path, **options):
    """The module itself, started as Ansible starts it, when its tracer is attached."""
    ready = tmp_path / "ready"
    parameters = {"backend": "tracefs", "duration": 60, "ready_path": str(ready), **options}
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": parameters})
    argv = [sys.executable, "-m", "ansible_collections.oom.forensics.plugins.modules.oom_trace"]
    pipe = subprocess.PIPE
    run = subprocess.Popen(argv, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    run.stdin.write(arguments)
    run.stdin.close()
    run.stdin = None
    deadline = time.monotonic() + 60
    while not ready.exists():
        if run.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(run.communicate(timeout=5))
        time.sleep(0.05)
    return run


def result_of(run):
    out, err = run.communicate(timeout=90)
    assert out.startswith("{") or "\n{" in out, out + err
    return json.loads(out[out.index("{") :])


def kill():
    made = drill.kill(drill_plan.plan(Host(), drill_plan.LEAST_LIMIT, 30))
    assert made["killed"], made
    return made


def event_of(result, made):
    found = [event for event in result["events"] if made["pid"] in [victim["pid"] for victim in event["victims"]]]
    assert len(found) == 1, result
    return found[0]


def test_kill(tmp_path):
    for _attempt in range(
        4
    ):  # the kernel may have dropped the report: of more than ten kills in 5 seconds, others' too
        run = module(tmp_path, duration=2)
        assert instances()
        made = kill()
        result = result_of(run)
        if f"oom_memcg={made['cgroup']}," in kernel.ring_buffer():
            break
        time.sleep(5.5)
    assert (result["changed"], result["backend"], result["cleaned_up"]) == (False, "tracefs", True)
    assert not (tmp_path / "ready").exists() and nothing_left(0)
    event = event_of(result, made)
    # One event of the trace and of the kernel's report: what only the report says, and what only the trace says.
    assert {origin["source"] for origin in event["origins"]} >= {"kmsg", "trace"}
    assert event["memory"]["limit_bytes"] == drill_plan.LEAST_LIMIT and event["limit_cgroup"] == made["cgroup"]
    assert event["trace"]["backend"] == "tracefs" and event["trace"]["loadavg"].count(" ") == 4
    assert event["trigger"]["pid"] == made["pid"] and event["victims"][0]["comm"] == drill.COMM
    coverage = result["coverage"]
    assert coverage["ended_by"] == "duration" and 2 <= coverage["seconds"] < 10
    assert coverage["kills_traced"] >= 1 and coverage["kills_lost"] == 0
    assert coverage["kills_counted"] >= 1 and coverage["kills_untraced"] == 0


def test_kill_of_a_moment_before(tmp_path):
    """The logs have it, within the slack of the clocks; it is none of the trace's."""
    made = kill()
    result = result_of(module(tmp_path, duration=1))
    assert made["pid"] not in [victim["pid"] for event in result["events"] for victim in event["victims"]]
    assert f"Killed process {made['pid']} ({drill.COMM})" in kernel.ring_buffer()


def test_trace_alone(tmp_path):
    """What the tracepoint tells without the kernel's report."""
    run = module(tmp_path, max_events=1, kernel_log=False)
    made = kill()
    result = result_of(run)
    event = event_of(result, made)
    assert [origin["source"] for origin in event["origins"]] == ["trace"]
    assert (event["trigger"]["pid"], event["trigger"]["comm"]) == (made["pid"], drill.COMM)
    assert event["victims"][0]["uid"] == 0 and event["victims"][0]["oom_score_adj"] == 1000
    assert event["victim_cgroup"] in (made["cgroup"], None)
    assert result["coverage"]["ended_by"] == "max_events" and result["coverage"]["seconds"] < 30
    # Independent: the kernel's kill line has the same number.
    assert f"Killed process {made['pid']} ({drill.COMM}) total-vm:" in kernel.ring_buffer()
    kilobytes = event["victims"][0]["total_vm_bytes"] // 1024
    assert f"Killed process {made['pid']} ({drill.COMM}) total-vm:{kilobytes}kB" in kernel.ring_buffer()
    assert nothing_left(0)


def test_cgroups(tmp_path):
    run = module(tmp_path, duration=2, cgroups=["/somewhere/else/*"])
    made = kill()
    result = result_of(run)
    assert result["events"] == [] and result["coverage"]["events_filtered"] >= 1
    # Where the tracer was too late to see the cgroup, the kernel's report tells it, and the time ends the trace.
    run = module(tmp_path, duration=10, max_events=1, cgroups=["*/oom-forensics-drill-*"])
    made = kill()
    assert event_of(result_of(run), made)["victim_cgroup"] == made["cgroup"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_interrupted(tmp_path, number):
    run = module(tmp_path)
    made = kill()
    time.sleep(0.5)
    run.send_signal(number)
    result = result_of(run)
    assert result["failed"] and f"interrupted by signal {int(number)}" in result["msg"] and result["cleaned_up"]
    assert event_of(result, made)
    assert not (tmp_path / "ready").exists() and nothing_left(0)


def test_killed(tmp_path):
    run = module(tmp_path)
    assert instances()
    run.kill()
    run.communicate(timeout=30)
    assert nothing_left()
    assert not (tmp_path / "ready").exists()


def test_lost_connection(tmp_path):
    run = module(tmp_path)
    run.stdout.close()
    run.stdout = None
    run.communicate(timeout=30)
    assert nothing_left(0) and not (tmp_path / "ready").exists()


def test_trace_of_another_process_namespace(tmp_path):
    """Its owner is not to be seen from here; it must go on all the same."""
    theirs = "$T/instances/oom-forensics-999999999-1"
    switch = f"{theirs}/events/oom/mark_victim/enable"
    # Their reader, then a trace of ours, which looks for what killed ones have left.
    ours = f"{sys.executable} -m ansible_collections.oom.forensics.plugins.modules.oom_trace <{tmp_path}/arguments"
    options = {"backend": "tracefs", "duration": 1, "kernel_log": False}
    (tmp_path / "arguments").write_text(json.dumps({"ANSIBLE_MODULE_ARGS": options}))
    said = in_tracefs(
        f"mkdir {theirs} && echo 1 >{switch} && {{ exec 9<{theirs}/trace_pipe; {ours} >{tmp_path}/result; cat {switch};"
        f" exec 9<&-; rmdir {theirs}; }}"
    )
    assert json.loads((tmp_path / "result").read_text())["backend"] == "tracefs"
    assert said == ["1"] and nothing_left(0)


def test_option_of_the_whole_host_that_would_keep_readers_awake(tmp_path):
    before = in_tracefs("cat $T/options/block; echo 1 >$T/options/block")
    try:
        run = module(tmp_path, duration=1, kernel_log=False)
        assert in_tracefs("cat $T/instances/oom-forensics-*/options/block") == ["0"]
        assert result_of(run)["backend"] == "tracefs"
    finally:
        in_tracefs(f"echo {before[0]} >$T/options/block")


@pytest.mark.parametrize(
    "options,words",
    [
        ("duration=0", "duration: 0 is out of range; it takes 1 to 86400."),
        ("max_events=0", "max_events: 0 is out of range"),
        ("backend=perf", "value of backend must be one of"),
        ("backend=tracefs ready_path=/proc/version", "/proc/version cannot be made: it is there already."),
    ],
)
def test_refusals(options, words):
    argv = [str(BIN / "ansible"), "localhost", "-i", "localhost,", "-c", "local", "-m", "oom.forensics.oom_trace"]
    argv += ["-e", f"ansible_python_interpreter={sys.executable}", "-a", options]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode and words in done.stdout, done.stdout + done.stderr


def play(*arguments):
    argv = [str(BIN / "ansible-playbook"), "-i", "localhost,", *arguments]
    argv += ["-e", f"ansible_connection=local ansible_python_interpreter={sys.executable}"]
    return subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_check_mode_skips():
    run = play("--check", PLAYBOOK)
    out = run.communicate(timeout=120)[0]
    assert run.returncode == 0 and "skipp" in out, out


def test_playbook_shows_a_table():
    run = play(PLAYBOOK, "-e", "oom_trace_backend=tracefs oom_trace_duration=120 oom_trace_max_events=1")
    deadline = time.monotonic() + 60
    while not instances() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    made = kill()
    out = run.communicate(timeout=120)[0]
    assert run.returncode == 0, out
    assert f"{drill.COMM}/{made['pid']}" in out and "localhost: tracefs saw 1 OOM kill in" in out, out
    assert nothing_left(0)


def test_async(tmp_path):
    """The time of `async` is over: Ansible kills the module's whole group, and nothing is left."""
    book = tmp_path / "async.yml"
    task = {"oom.forensics.oom_trace": {"backend": "tracefs", "duration": 300}, "async": 6, "poll": 1}
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    run = play(str(book))
    deadline = time.monotonic() + 60
    seen = False
    while run.poll() is None and time.monotonic() < deadline:
        seen = seen or bool(instances())
        time.sleep(0.1)
    out = run.communicate(timeout=60)[0]
    assert seen and run.returncode, out
    assert nothing_left()


def role(tmp_path, *arguments, apply=None, **variables):
    """Run the role oom_trace here, where it may find no systemd; its folder is in a folder of the test."""
    book = tmp_path / "role.yml"
    name = {"name": "oom.forensics.oom_trace", "apply": apply or {}}
    tasks = [{"ansible.builtin.include_role": name, "vars": variables}]
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    run = play(*arguments, str(book))
    out = run.communicate(timeout=120)[0]
    assert run.returncode == 0, out
    return out


@pytest.mark.skipif(UNIT.exists(), reason="the service is installed here")
def test_role_leaves_what_is_not_its_own(tmp_path):
    folder = tmp_path / "lib"
    folder.mkdir()
    (folder / "oom_trace.py").write_text("")
    (folder / ".somebody's").write_text("precious")
    out = role(tmp_path, "--check", oom_trace_state="absent", oom_trace_folder=str(folder))
    assert "changed=1 " in out and (folder / "oom_trace.py").exists()
    role(tmp_path, oom_trace_state="absent", oom_trace_folder=str(folder))
    assert [each.name for each in folder.iterdir()] == [".somebody's"]
    (folder / ".somebody's").unlink()
    role(tmp_path, oom_trace_state="absent", oom_trace_folder=str(folder))
    assert not folder.exists()
    assert "changed=0 " in role(tmp_path, oom_trace_state="absent", oom_trace_folder=str(folder))


@pytest.mark.skipif(UNIT.exists(), reason="the service is installed here")
def test_role_makes_nothing_in_check_mode(tmp_path):
    folder = tmp_path / "lib"
    for out in (
        role(tmp_path, "--check", "--diff", oom_trace_folder=str(folder)),
        role(tmp_path, "--diff", apply={"check_mode": True}, oom_trace_folder=str(folder)),
    ):
        assert "changed=3 " in out and "Type=notify" in out
    assert not folder.exists() and not UNIT.exists()
