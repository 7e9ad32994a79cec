# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""memory_policy as Ansible runs it, on real containers: what the kernel has afterwards, and what is left of a run that
was cut off.

Needs root, Docker and Podman. The engines' files and the kernel's are read without this collection.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import engines as real
import pytest
from kernel import why_not

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
MIB = 1 << 20
WEB = {"name": "web", "match": {"engine": "docker", "name": "policy-web-*"}, "memory_max": "64M", "memory_swap_max": 0}

needs_v1 = pytest.mark.skipif(
    not Path("/sys/fs/cgroup/memory").is_dir(), reason="only cgroup v1, which is not mounted here, has such a switch"
)
needs_kills = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


class Host:
    """This machine, where the module is run, with a record of its own."""

    def __init__(self, folder):
        self.folder, self.state = folder, folder / "state"
        self.path = folder / "bin"
        self.path.mkdir()
        (folder / "ansible.cfg").write_text("[defaults]\ninterpreter_python = auto_silent\n")
        self.variables, self.before = {}, []

    def argv(self, options, *arguments):
        given = json.dumps(dict({"state_path": str(self.state)}, **options))
        module = ["localhost", "-m", "oom.forensics.memory_policy", "-a", given]
        return [*self.before, str(BIN / "ansible"), *module, *arguments]

    def environment(self):
        mine = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTHONPATH"))}
        known = {
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "PATH": "{0}:{1}".format(self.path, os.environ["PATH"]),
        }
        return mine | known | self.variables

    def start(self, options, *arguments):
        return subprocess.Popen(
            self.argv(options, *arguments),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, options, *arguments, status=0):
        """The module's result. Its keys are always the same."""
        done = self.start(options, *arguments)
        output = done.communicate(timeout=300)[0]
        assert done.returncode == status, output
        result = json.loads(output[output.index("=> {") + 3 :])
        assert set(result) >= KEYS, output
        return result

    def applied(self, *rules, status=0, arguments=(), **options):
        return self.run(dict(options, state="applied", rules=list(rules)), *arguments, status=status)

    def wrap(self, program, script):
        """Put a program before the real one, which is ``$real``; its calls are counted."""
        actual = next(
            path for path in (Path(folder) / program for folder in os.environ["PATH"].split(":")) if path.exists()
        )
        place = self.path / program
        calls = self.folder / "calls"
        head = '#!/bin/sh\nreal={0}\necho "$*" >> {1}\n'.format(actual, calls)
        place.write_text(head + textwrap.dedent(script) + 'exec "$real" "$@"\n')
        place.chmod(0o755)
        return calls


KEYS = {
    "changed",
    "changes",
    "counts",
    "ended",
    "idle_rules",
    "interrupted",
    "kills",
    "limits",
    "managers",
    "msg",
    "pressure",
    "run",
    "seconds",
    "truncated",
    "violations",
}


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def webs(engine, count=3, *options, **others):
    return [engine.run("policy-web-{0}".format(number), *options, **others) for number in range(count)]


def limit(engine, container):
    return engine.kernel_file(container, "memory.limit_in_bytes", "memory.max").strip()


def limits(engine, containers):
    return [limit(engine, each) for each in containers]


def processes(engine, containers):
    """Ids and first processes: the containers themselves."""
    return [(engine.call("inspect", "--format", "{{.Id}}", each), engine.first_process(each)) for each in containers]


def outcomes(result):
    return sorted((change["name"], change["outcome"]) for change in result["changes"])


def all_are(outcome, count=3):
    return [("policy-web-{0}".format(number), outcome) for number in range(count)]


SET = [str(64 * MIB)] * 3


# --- the way


def test_plan_check_apply_apply_verify_and_back(docker, host):
    containers = webs(docker)
    before, who = limits(docker, containers), processes(docker, containers)

    plan = host.run({"rules": [WEB]})
    assert (plan["changed"], outcomes(plan), plan["run"]) == (False, all_are("planned"), None)
    foreseen = host.applied(WEB, arguments=("--check", "--diff"))
    assert (foreseen["changed"], outcomes(foreseen)) == (True, all_are("planned"))
    assert not host.state.exists()
    assert limits(docker, containers) == before

    made = host.applied(WEB, arguments=("--diff",))
    assert (made["changed"], outcomes(made)) == (True, all_are("applied"))
    assert [dict(change, outcome="planned") for change in made["changes"]] == foreseen["changes"]
    assert limits(docker, containers) == SET
    assert {
        docker.kernel_file(each, "memory.memsw.limit_in_bytes", "memory.swap.max").strip() for each in containers
    } <= {
        str(64 * MIB),
        "0",
    }
    assert {docker.call("inspect", "--format", "{{.HostConfig.Memory}}", each) for each in containers} == {
        str(64 * MIB)
    }
    assert processes(docker, containers) == who

    again = host.applied(WEB, arguments=("--diff",))
    assert (again["changed"], outcomes(again), again["run"]) == (False, all_are("unchanged"), None)
    assert host.applied(WEB, arguments=("--check",))["changed"] is False

    watched = host.run({"state": "verified", "window": 2})
    assert (watched["changed"], watched["violations"], watched["run"]) == (False, [], made["run"])

    assert host.run({"state": "rolled_back"}, "--check")["changed"] is True
    assert limits(docker, containers) == SET
    back = host.run({"state": "rolled_back"})
    assert (back["changed"], outcomes(back), back["run"]) == (True, all_are("rolled_back"), made["run"])
    assert limits(docker, containers) == before
    assert processes(docker, containers) == who
    assert host.run({"state": "rolled_back"})["changed"] is False


def test_the_diff_says_what_is_different(docker, host):
    docker.run("policy-web-0", "--memory", "96m", "--memory-swap", "96m")
    done = host.start({"state": "applied", "rules": [WEB]}, "--diff", "--check")
    output = done.communicate(timeout=300)[0]
    assert "-memory_max: {0}\n+memory_max: {1}\n".format(96 * MIB, 64 * MIB) in output
    assert "memory_swap_max" not in output[: output.index("=> {")]


def test_podman_and_docker_at_once(docker, podman, host):
    containers = [docker.run("policy-web-0"), podman.run("policy-web-1")]
    both = {"name": "both", "match": {"name": "policy-web-*"}, "memory_max": "64M"}
    before = [limit(docker, containers[0]), limit(podman, containers[1])]
    made = host.applied(both)
    assert outcomes(made) == all_are("applied", 2)
    survives = {change["engine"]: change["steps"][0]["survives"]["workload_restart"] for change in made["changes"]}
    assert survives["docker"] is True
    assert [limit(docker, containers[0]), limit(podman, containers[1])] == SET[:2]
    assert outcomes(host.applied(both)) == all_are("unchanged", 2)
    host.run({"state": "rolled_back"})
    assert [limit(docker, containers[0]), limit(podman, containers[1])] == before


def test_what_is_refused_is_named_and_nothing_is_changed(docker, host):
    containers = webs(docker, 1)
    before = limits(docker, containers)
    group = dict(WEB, oom_group=True)
    failed = host.applied(group, status=2)
    assert failed["msg"].startswith("Nothing was changed. 1 change refused. docker policy-web-0: ")
    assert outcomes(failed) == all_are("refused", 1)
    assert limits(docker, containers) == before
    made = host.applied(group, unsupported="skip")
    assert outcomes(made) == all_are("applied", 1)
    assert "oom_group" in made["changes"][0]["left_out"][0]


def test_somebody_else_sets_it_back(docker, host):
    containers = webs(docker)
    host.applied(WEB)
    docker.call("update", "--memory", "256m", "--memory-swap", "256m", containers[1])
    found = host.run({"rules": [WEB]})
    steps = {change["name"]: change["steps"][0] for change in found["changes"]}
    assert [steps["policy-web-{0}".format(number)]["drifted"] for number in range(3)] == [False, True, False]
    drifted = steps["policy-web-1"]
    assert (drifted["declared"], drifted["stored"], drifted["effective"]) == (64 * MIB, 256 * MIB, 256 * MIB)
    assert host.applied(WEB)["counts"]["applied"] == 1
    assert limits(docker, containers) == SET


# --- how often the engine is called


def test_one_call_lists_and_one_changes(docker, host):
    containers = webs(docker)
    calls = host.wrap("docker", "")
    host.applied(WEB)
    words = [line.split() for line in calls.read_text().splitlines()]
    assert sum("inspect" in line for line in words) == 1
    assert sorted(line[-1] for line in words if "update" in line) == sorted(containers)
    assert len(words) == 4
    calls.unlink()
    host.applied(WEB)
    assert len(calls.read_text().splitlines()) == 1


# --- kills


@needs_kills
def test_a_kill_in_the_window_fails_and_the_old_limit_comes_back(docker, host):
    (container,) = webs(docker, 1, "--memory", "256m", "--memory-swap", "256m")
    who = processes(docker, [container])
    made = host.applied(dict(WEB, memory_max="32M"))
    assert limit(docker, container) == str(32 * MIB)
    watching = host.start({"state": "verified", "window": 120})
    time.sleep(3)
    docker.eat_in_child(container)
    output = watching.communicate(timeout=120)[0]
    assert watching.returncode == 2, output
    result = json.loads(output[output.index("=> {") + 3 :])
    assert result["msg"] == "1 process of docker policy-web-0 was killed for want of memory since the run began."
    assert (result["violations"][0]["identity"], result["kills"]["in_changed"]) == (container, 1)
    assert result["seconds"] < 60
    assert host.run({"state": "rolled_back", "run": made["run"]})["counts"]["rolled_back"] == 1
    assert limit(docker, container) == str(256 * MIB)
    assert processes(docker, [container]) == who


@needs_kills
def test_a_container_that_was_killed_and_started_anew_is_seen(docker, host):
    eater = ("sh", "-c", "while [ ! -e /eat ]; do sleep 0.1; done; rm /eat; exec tail /dev/zero")
    container = docker.run(
        "policy-web-0", "--memory", "64m", "--memory-swap", "64m", "--restart", "always", command=eater
    )
    host.applied(dict(WEB, memory_max="32M"))
    first = docker.first_process(container)
    docker.exec(container, "touch", "/eat")
    real.wait_for(lambda: docker.first_process(container) not in (0, first), "the next start", 30)
    assert docker.kills(container) == 0  # its cgroup is another one, which counts from 0 on
    result = host.run({"state": "verified", "window": 1}, status=2)
    assert [row["label"] for row in result["violations"]] == ["docker policy-web-0"]
    assert limit(docker, container) == str(32 * MIB)  # Docker has kept it, as was promised


@needs_kills
def test_a_kill_of_somebody_else_is_no_violation(docker, host):
    webs(docker, 1)
    host.applied(WEB)
    other = docker.run("policy-other", "--memory", "32m", "--memory-swap", "32m")
    docker.eat_in_child(other)
    result = host.run({"state": "verified", "window": 1})
    assert (result["kills"]["counted"], result["kills"]["elsewhere"], result["violations"]) == (1, 1, [])


@needs_kills
@needs_v1
def test_a_container_that_hangs_because_its_oom_killer_is_off(docker, host):
    # It is the shell that eats: where the kernel itself writes to new memory, a call fails instead, and nobody hangs.
    eater = ("sh", "-c", "while [ ! -e /eat ]; do sleep 0.1; done; rm /eat; x=$(cat /dev/zero | tr '\\0' a)")
    options = ("--memory", "256m", "--memory-swap", "256m", "--oom-kill-disable")
    (container,) = webs(docker, 1, *options, command=eater)
    made = host.applied(dict(WEB, memory_max="32M"))
    watching = host.start({"state": "verified", "window": 60})
    time.sleep(3)
    docker.exec(container, "touch", "/eat")
    output = watching.communicate(timeout=120)[0]
    assert watching.returncode == 2, output
    result = json.loads(output[output.index("=> {") + 3 :])
    assert result["msg"].startswith("Processes of docker policy-web-0 wait for memory that they will not get: ")
    assert [row["kind"] for row in result["violations"]] == ["hang"]
    assert (result["seconds"] < 60, docker.kills(container)) == (True, 0)
    host.run({"state": "rolled_back", "run": made["run"]})  # and it eats on, until it ends by itself
    assert docker.call("inspect", "--format", "{{.HostConfig.Memory}}", container) == str(256 * MIB)


# --- what goes wrong

# The module's own process is who calls docker.
AT_SECOND_UPDATE = """
case "$*" in *update*) echo >> {0}/updates; if [ $(wc -l < {0}/updates) = 2 ]; then {1}; fi;; esac
"""


def test_a_run_that_was_killed_half_way_goes_on_and_can_be_rolled_back(docker, host):
    containers = webs(docker)
    before = limits(docker, containers)
    # A session of its own: Ansible may end those of its workers when it ends.
    alone = """export real; exec setsid sh -c 'kill -9 "$0"; "$real" "$@"; echo $? > {0}/ended' $PPID "$@" """
    host.wrap("docker", AT_SECOND_UPDATE.format(host.folder, alone.format(host.folder)))
    cut = host.start({"state": "applied", "rules": [WEB]})
    output = cut.communicate(timeout=300)[0]
    assert cut.returncode != 0, output
    real.wait_for((host.folder / "ended").exists, "the end of the call that went on alone", 60)
    found = host.run({"rules": [WEB]})
    assert (found["interrupted"]["done"], found["interrupted"]["open"]) == (1, 1)

    made = host.applied(WEB)
    assert (made["run"], made["interrupted"]) == (found["interrupted"]["run"], found["interrupted"])
    assert made["counts"]["applied"] + made["counts"]["unchanged"] == 3
    assert limits(docker, containers) == SET
    assert host.run({"rules": [WEB]})["interrupted"] is None
    back = host.run({"state": "rolled_back"})
    assert (back["run"], back["counts"]["rolled_back"]) == (made["run"], 3)
    assert limits(docker, containers) == before


def test_a_signal_lets_the_change_in_hand_be_done(docker, host):
    containers = webs(docker)
    host.wrap("docker", AT_SECOND_UPDATE.format(host.folder, "kill -TERM $PPID"))
    failed = host.applied(WEB, status=2)
    assert failed["msg"].startswith("SIGTERM ended the run after 2 of 3 changes.")
    assert (failed["changed"], failed["counts"]["applied"], failed["counts"]["planned"]) == (True, 2, 1)
    assert limits(docker, containers).count(str(64 * MIB)) == 2
    assert host.applied(WEB)["counts"]["applied"] == 1


def test_two_runs_at_once(docker, host):
    containers = webs(docker)
    host.wrap("docker", 'case "$*" in *update*) sleep 1;; esac\n')
    first, second = (host.start({"state": "applied", "rules": [WEB], "lock_timeout": 60}) for _number in range(2))
    results = [
        json.loads(text[text.index("=> {") + 3 :])
        for text in (each.communicate(timeout=300)[0] for each in (first, second))
    ]
    assert sorted(result["counts"]["applied"] for result in results) == [0, 3]
    assert sorted(result["changed"] for result in results) == [False, True]
    assert limits(docker, containers) == SET
    assert len(list((host.state / "runs").iterdir())) == 1


def test_a_run_that_does_not_get_the_lock(docker, host):
    containers = webs(docker, 1)
    before = limits(docker, containers)
    host.state.mkdir(mode=0o700)
    with (host.state / "lock").open("w") as lock:
        holder = subprocess.Popen(["flock", str(host.state / "lock"), "sleep", "60"])
        try:
            real.wait_for(
                lambda: subprocess.run(["flock", "-n", str(lock.name), "true"], check=False).returncode, "lock"
            )
            failed = host.applied(WEB, lock_timeout=1, status=2)
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            subprocess.run(["pkill", "-P", str(holder.pid)], check=False)
    assert failed["msg"].startswith("Another run of a memory policy (pid unknown) is changing this host")
    assert limits(docker, containers) == before


def test_a_container_that_goes_between_plan_and_change(docker, host):
    containers = webs(docker)
    host.wrap(
        "docker",
        """
        case "$*" in *update*)
            [ -e {0}/done ] || for id in {1}; do case "$*" in *$id) ;; *) "$real" rm --force $id; break;; esac; done
            touch {0}/done
        esac
        """.format(host.folder, " ".join(containers)),
    )
    made = host.applied(WEB)
    assert (made["counts"]["applied"], made["counts"]["vanished"], made["counts"]["failed"]) == (2, 1, 0)
    assert host.run({"state": "rolled_back"})["counts"]["rolled_back"] == 2


def test_docker_does_not_answer(docker, host):
    containers = webs(docker, 1)
    before = limits(docker, containers)
    host.variables["DOCKER_HOST"] = "unix:///run/oom-forensics-nobody.sock"
    everything = {"name": "web", "match": {"engine": "docker"}, "memory_max": "64M"}
    failed = host.applied(everything, status=2)
    assert "Docker daemon" in failed["msg"]
    row = next(row for row in failed["managers"] if row["manager"] == "docker")
    assert (row["available"], row["error"] is not None, row["advice"] is not None) == (False, True, True)
    assert limits(docker, containers) == before


def test_a_record_on_a_file_system_that_cannot_be_written(docker, host):
    containers = webs(docker, 1)
    before = limits(docker, containers)
    place = host.folder / "place"
    place.mkdir()
    host.before = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o ro none "$0" && exec "$@"', str(place)]
    failed = host.applied(WEB, state_path=str(place / "state"), status=2)
    assert "Read-only file system" in failed["msg"]
    assert "without it nothing is changed" in failed["msg"]
    assert limits(docker, containers) == before
    assert host.applied(WEB, state_path=str(place / "state"), arguments=("--check",))["changed"] is True


def test_a_result_that_fits(docker, host):
    webs(docker, 20)
    made = host.applied(WEB, max_result_bytes=16384)
    assert (made["truncated"], made["counts"]["applied"]) == (True, 20)
    assert 0 < len(made["changes"]) < 20
    assert len(json.dumps(made)) <= 16384


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "rules: there is no rule, and no default; a policy needs one of them."),
        ({"rules": [{"name": "web", "match": {}, "memory_max": "1G"}]}, "Rule web has no match"),
        ({"rules": [dict(WEB, memory_max="much")]}, "'much' is no size"),
        ({"rules": [WEB], "reserve": "200%"}, "reserve: "),
        ({"rules": [WEB], "state_path": "state"}, "state_path: 'state' is no whole path; begin with a slash."),
        ({"state": "verified", "window": -1}, "window: -1 is out of range; it takes 0 to 86400."),
        ({"state": "verified"}, "No policy was applied on this host"),
        ({"state": "rolled_back", "run": "000009-20261122T215030Z"}, "There is no run 000009-20261122T215030Z"),
    ],
)
def test_options_that_are_refused(options, message, host):
    failed = host.run(options, status=2)
    assert message in failed["msg"]
    assert (failed["changed"], failed["changes"]) == (False, [])
    assert not host.state.exists() or options["state"] == "rolled_back"
