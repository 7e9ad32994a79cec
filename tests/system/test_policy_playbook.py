# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""apply_memory_policy.yml as a user runs it: real containers, real limits, a real kill, and the kernel as judge.

Needs root, Docker and Podman. What was changed is read from the kernel's files and from the engines, not from the
result.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from engines import wait_for
from kernel import why_not

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = ROOT / "tests" / "projects"
BIN = Path(sys.executable).parent
MIB = 1 << 20
# What the policy of the role's page is there to end. The kills of the past remain.
ABOUT_LIMITS = {
    "container-without-limit",
    "implicit-swap",
    "limit-above-memory",
    "limit-out-of-reach",
    "limits-exceed-memory",
    "memory-high-unset",
    "peak-near-limit",
    "usage-near-limit",
}
# Takes 100 MiB whenever somebody touches a file, and is idle until then.
SLEEPER = (
    "sh",
    "-c",
    "while :; do if [ -e /eat ]; then rm /eat; busybox dd if=/dev/zero of=/dev/null bs=100M count=1; fi; sleep 0.1; done",
)

WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


class Run:
    """What a playbook run printed: exit status, output, its words without line breaks, and its last table."""

    def __init__(self, done):
        self.status, self.output = done.returncode, done.stdout
        self.words = " ".join(done.stdout.split())

    def recap(self, host):
        line = re.search(rf"^{re.escape(host)} +: (.*)$", self.output, re.M).group(1)
        return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)}

    def row(self, *words):
        """The columns of the one row of the table that has all these words."""
        lines = [line.strip(' ",') for line in self.output.splitlines() if " -> " in line]
        (row,) = [line for line in lines if all(word in line for word in words)]
        return re.split(r"  +| -> +", row)


@pytest.fixture
def play(tmp_path):
    """Runs a playbook in a folder of its own, with no facts as variables."""
    (tmp_path / "ansible.cfg").write_text("[connection]\npipelining = true\n[inventory]\n")

    def run(playbook, *arguments, collections=ROOT / ".collections", before_path=""):
        known = {
            "PATH": before_path + os.environ["PATH"],
            "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_CONNECTION_PLUGINS": str(PROJECTS / "connection_plugins"),
            "ANSIBLE_HOME": str(tmp_path / "home"),
            "ANSIBLE_INJECT_FACT_VARS": "false",
            "ANSIBLE_NOCOLOR": "1",
            "COLUMNS": "200",
        }
        done = subprocess.run(
            [str(BIN / "ansible-playbook"), str(playbook), *arguments],
            cwd=tmp_path,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | known,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        print(done.stdout)
        return Run(done)

    return run


@pytest.fixture
def policy(play, tmp_path):
    """Runs apply_memory_policy on two names of this host. Each keeps its record in a folder of the test.

    A third one cannot be reached.
    """
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    gone = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    state = f"{tmp_path}/state-of-{{{{ inventory_hostname }}}}"
    known = here | {"container_memory_policy_state_path": state, "container_memory_policy_window": 3}
    inventory = tmp_path / "hosts.json"
    groups = {"here": {"vars": known, "hosts": {"first": {}, "second": {}}}, "away": {"hosts": {"gone": gone}}}
    inventory.write_text(json.dumps({"all": {"children": groups}}))

    def run(*arguments, playbook="oom.forensics.apply_memory_policy", **options):
        return play(playbook, "-i", str(inventory), *arguments, **options)

    return run


def example():
    """The policy file of the role's page."""
    page = (ROOT / "roles" / "container_memory_policy" / "README.md").read_text()
    return re.search(r"```yaml\n(# policy.yml\n.*?)```", page, re.S).group(1)


def limits(engine, container):
    """Memory, and memory with swap or swap alone, as the kernel's files have them."""
    return (
        engine.kernel_file(container, "memory.limit_in_bytes", "memory.max").strip(),
        engine.kernel_file(container, "memory.memsw.limit_in_bytes", "memory.swap.max").strip(),
    )


def same(memory):
    """What `limits` has of a container with so much memory and no swap."""
    version_2 = (Path("/sys/fs/cgroup") / "cgroup.controllers").exists()
    return (str(memory), "0" if version_2 else str(memory))


def variables(tmp_path, **settings):
    file = tmp_path / f"variables-{len(list(tmp_path.glob('variables-*')))}.json"
    file.write_text(json.dumps({f"container_memory_policy_{name}": value for name, value in settings.items()}))
    return f"@{file}"


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_the_policy_of_the_page_ends_every_finding_about_limits(name, play, policy, tmp_path, request):
    engine = request.getfixturevalue(name)
    identifiers = {
        "nolimit": engine.run("nolimit"),
        "small": engine.run("small", "--memory", "8m"),
        "victim": engine.run("victim", "--memory", "64m", "--memory-swap", "64m"),
    }
    assert engine.eat_in_child(identifiers["victim"]) == 1
    processes = {each: engine.first_process(each) for each in identifiers}
    before = {each: limits(engine, each) for each in identifiers}
    (tmp_path / "policy.yml").write_text(example())
    asked = ["-e", "oom_hosts=first", "-e", "@policy.yml"]

    def audit():
        spool = f"oom_evidence_spool={tmp_path}/spool"
        assert play("oom.forensics.audit_memory", "-e", spool).status == 0
        (host,) = json.loads((tmp_path / "findings.json").read_text())["hosts"]
        of_ours = [one for one in host["findings"] if one["subject"] in [f"{name} {each}" for each in identifiers]]
        return {one["rule"] for one in of_ours} & ABOUT_LIMITS

    assert {"container-without-limit", "implicit-swap", "peak-near-limit"} <= audit()

    for arguments in ([], ["-e", "container_memory_policy_mode=apply", "--check", "--diff"]):
        planned = policy(*asked, *arguments)
        assert planned.status == 0
        assert planned.row("nolimit", "memory_max")[-2] == "planned"
        assert {each: limits(engine, each) for each in identifiers} == before
        assert not (tmp_path / "state-of-first").exists()

    applied = policy(*asked, "-e", "container_memory_policy_mode=apply")
    assert applied.status == 0
    assert applied.row("nolimit", "memory_max")[-4:-1] == ["max", "64.0 MiB", "applied"]
    assert {each: limits(engine, each) for each in identifiers} == {
        "nolimit": same(64 * MIB),
        "small": same(64 * MIB),
        "victim": same(128 * MIB),
    }
    assert {each: engine.first_process(each) for each in identifiers} == processes
    inspected = engine.call("inspect", "--format", "{{.Id}}", *identifiers).splitlines()
    assert inspected == list(identifiers.values())

    again = policy(*asked, "-e", "container_memory_policy_mode=apply")
    assert again.status == 0
    assert again.recap("first")["changed"] == 0
    assert audit() == set()

    undone = policy("-e", "oom_hosts=first", "-e", "container_memory_policy_mode=rollback")
    assert undone.status == 0
    assert {each: limits(engine, each) for each in identifiers} == before
    assert {each: engine.first_process(each) for each in identifiers} == processes


def test_a_kill_in_the_window_is_rolled_back_and_no_other_host_is_begun(docker, policy, tmp_path):
    """The workload needs 100 MiB; the policy leaves it 64, and it does so only when nobody looks any more."""
    identifier = docker.run("needy", "--memory", "256m", "--memory-swap", "256m", command=SLEEPER)
    process = docker.first_process(identifier)

    def need_it():
        wait_for(lambda: limits(docker, identifier) == same(64 * MIB), "the new limit", 60)
        docker.exec(identifier, "touch", "/eat")

    needing = threading.Thread(target=need_it)
    needing.start()
    rule = {"name": "too-small", "match": {"name": "needy"}, "memory_max": "64M", "memory_swap_max": 0}
    known = variables(tmp_path, mode="apply", rules=[rule], window=60)
    run = policy("-e", "oom_hosts=here", "-e", known)
    needing.join()

    assert run.status == 2
    assert "1 process of docker needy was killed for want of memory" in run.words
    assert run.row("needy", "memory_max")[-2] == "rolled_back"
    assert limits(docker, identifier) == same(256 * MIB)
    assert docker.first_process(identifier) == process
    assert docker.kills(identifier) == 1
    assert run.recap("first")["failed"] == 1
    assert not re.search("^second ", run.output, re.M)
    assert not (tmp_path / "state-of-second").exists()
    (seen,) = (tmp_path / "oom-evidence" / "policy").iterdir()
    assert str(seen) in run.words
    assert (seen.stat().st_mode & 0o777, seen.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    document = json.loads(seen.read_text())
    assert document["verified"]["violations"][0]["kind"] == "kill"
    assert document["applied"]["counts"]["applied"] == 1
    assert document["rolled_back"]["counts"]["rolled_back"] == 1
    assert list((tmp_path / "oom-evidence" / "spool" / "first").iterdir())


def test_a_host_that_is_lost_while_it_is_watched_gets_back_what_it_had(docker, policy, tmp_path):
    identifier = docker.run("victim", "--memory", "64m", "--memory-swap", "64m")
    (tmp_path / "plan and apply").write_text("2")
    lost = {"ansible_connection": "lossy", "lossy_file": str(tmp_path / "plan and apply")}
    rule = {"name": "more", "match": {"name": "victim"}, "memory_max": "128M", "memory_swap_max": 0}
    known = variables(tmp_path, mode="apply", rules=[rule], evidence="seen")
    run = policy("-e", "oom_hosts=here", "-e", known, "-e", json.dumps(lost))
    assert run.status == 2
    assert "first could not be reached any more while its changed workloads were watched." in run.words
    assert run.row("victim", "memory_max")[-2] == "rolled_back"
    assert limits(docker, identifier) == same(64 * MIB)
    assert not re.search("^second ", run.output, re.M)
    (seen,) = (tmp_path / "seen").iterdir()
    assert json.loads(seen.read_text())["verified"]["unreachable"]


@pytest.mark.parametrize("done", [True, False])
def test_a_host_that_is_lost_while_it_is_changed_gets_back_what_it_had(docker, policy, tmp_path, done):
    """An older run on record stays as it is, whether or not the host has begun another one."""
    identifier = docker.run("victim", "--memory", "256m", "--memory-swap", "256m")
    rule = {"name": "more", "match": {"name": "victim"}, "memory_max": "128M", "memory_swap_max": 0}
    assert policy("-e", "oom_hosts=first", "-e", variables(tmp_path, mode="apply", rules=[rule])).status == 0
    (tmp_path / "plan").write_text("1")
    lost = {"ansible_connection": "lossy", "lossy_file": str(tmp_path / "plan"), "lossy_done": done}
    known = variables(tmp_path, mode="apply", rules=[dict(rule, memory_max="64M")])
    run = policy("-e", "oom_hosts=here", "-e", known, "-e", json.dumps(lost))
    assert run.status == 2
    assert "first could not be reached any more while the policy was applied." in run.words
    assert ("There is nothing to roll back." in run.words) is not done
    assert limits(docker, identifier) == same(128 * MIB)
    assert len(list((tmp_path / "state-of-first" / "runs").iterdir())) == 1 + done
    assert not re.search("^second ", run.output, re.M)
    (seen,) = (tmp_path / "oom-evidence" / "policy").iterdir()
    assert json.loads(seen.read_text())["applied"]["unreachable"]


# The module's own process is who calls docker. Once it is killed, the update that it began goes on.
KILLED_AT_SECOND_UPDATE = """#!/bin/sh
case "$*" in *update*)
    echo >>{0}/updates
    if [ $(wc -l <{0}/updates) = 2 ]; then kill -9 $PPID; fi
esac
exec {1} "$@"
"""


@pytest.fixture
def killed(tmp_path):
    """What to put before PATH, so that the module is killed at its second change, once."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(KILLED_AT_SECOND_UPDATE.format(tmp_path, shutil.which("docker")))
    (folder / "docker").chmod(0o755)
    return f"{folder}{os.pathsep}"


def test_what_a_killed_task_has_changed_is_rolled_back(docker, policy, killed, tmp_path):
    identifiers = [docker.run(name, "--memory", "256m", "--memory-swap", "256m") for name in ("one", "two")]
    rule = {"name": "less", "match": {"name": "*"}, "memory_max": "64M", "memory_swap_max": 0}
    known = variables(tmp_path, mode="apply", rules=[rule])
    run = policy("-e", "oom_hosts=here", "-e", known, before_path=killed)
    assert run.status == 2
    assert [limits(docker, each) for each in identifiers] == [same(256 * MIB)] * 2
    assert run.row("one", "memory_max")[-2] == "rolled_back"
    assert not re.search("^second ", run.output, re.M)


def test_a_kill_in_the_window_of_a_run_that_was_gone_on_with_is_rolled_back(docker, policy, killed, tmp_path):
    """The run was cut off behind its last change, so that nothing is left to be changed."""
    docker.run("idle", "--memory", "256m", "--memory-swap", "256m")
    needy = docker.run("needy", "--memory", "256m", "--memory-swap", "256m")
    rule = {"name": "less", "match": {"name": "*"}, "memory_max": "64M", "memory_swap_max": 0}
    options = {"state": "applied", "rules": [rule], "state_path": f"{tmp_path}/state-of-first"}
    cut = subprocess.run(
        [str(BIN / "ansible"), "localhost", "-m", "oom.forensics.memory_policy", "-a", json.dumps(options)],
        cwd=tmp_path,
        env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".collections"), PATH=killed + os.environ["PATH"]),
        check=False,
    )
    assert cut.returncode != 0
    wait_for(lambda: limits(docker, needy) == same(64 * MIB), "the update that went on alone", 60)
    docker.exec(needy, "busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1", check=False)
    assert docker.kills(needy) == 1

    run = policy("-e", "oom_hosts=first", "-e", variables(tmp_path, mode="apply", rules=[rule]))
    assert run.status == 2
    assert "1 process of docker needy was killed for want of memory" in run.words
    assert limits(docker, needy) == same(256 * MIB)


def test_a_host_that_is_not_there_ends_the_run_behind_its_batch(policy, tmp_path):
    known = variables(tmp_path, rules=[{"name": "web", "match": {"name": "web"}, "memory_max": "64M"}])
    run = policy("-e", "oom_hosts=gone,first,second", "-e", "oom_serial=2", "-e", known)
    assert run.status == 4
    assert "first: Workloads:" in run.words
    assert "Connection refused" in run.words and "Run again when it is back." in run.words
    assert not re.search("^second ", run.output, re.M)


def test_a_refused_change_changes_nothing_and_fails_the_run(docker, policy, tmp_path):
    docker.run("small", "--memory", "8m")
    docker.run("victim", "--memory", "64m", "--memory-swap", "64m")
    assert docker.eat_in_child("victim") == 1
    before = {each: limits(docker, each) for each in ("small", "victim")}
    known = variables(tmp_path, mode="apply", rules=[{"name": "all", "match": {"name": "*"}, "memory_max": "32M"}])
    run = policy("-e", "oom_hosts=first", "-e", known)
    assert run.status == 2
    assert run.row("victim", "memory_max")[-2] == "refused"
    assert "below_peak" in run.words
    assert {each: limits(docker, each) for each in before} == before

    planned = policy("-e", "oom_hosts=first", "-e", known, "-e", "container_memory_policy_mode=plan")
    assert planned.status == 0
    assert planned.row("victim", "memory_max")[-2] == "refused"


def test_without_hosts_nobody_is_touched(policy, tmp_path):
    run = policy("-e", variables(tmp_path, mode="apply", default={"memory_max": "64M"}))
    assert run.status == 2
    assert "No host was touched: nobody said for which hosts the policy is. Set oom_hosts" in run.words
    assert "Plan the changes" not in run.output


def test_without_a_policy_nobody_is_touched(policy):
    run = policy("-e", "oom_hosts=here")
    assert run.status == 2
    assert "first: There is no policy for first" in run.words
    assert "Plan the changes" not in run.output
    assert not re.search("^second ", run.output, re.M)


def test_a_wrong_rule_ends_the_run_at_the_first_host(policy, tmp_path):
    rule = {"name": "web", "match": {"name": "web"}, "memory_max": "much"}
    run = policy("-e", "oom_hosts=here", "-e", variables(tmp_path, mode="apply", rules=[rule]))
    assert run.status == 2
    assert "web" in run.words and "memory_max" in run.words and "much" in run.words
    assert not re.search("^second ", run.output, re.M)
    assert not list(tmp_path.glob("state-of-*"))


@pytest.fixture
def installed(tmp_path):
    """The collection as its archive has it."""
    quiet = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTHONPATH"))}
    quiet["ANSIBLE_HOME"] = str(tmp_path / "home")
    galaxy, built, folder = str(BIN / "ansible-galaxy"), tmp_path / "built", tmp_path / "installed"
    subprocess.run([galaxy, "collection", "build", "--output-path", built], cwd=ROOT, env=quiet, check=True)
    (archive,) = built.glob("oom-forensics-*.tar.gz")
    install = [galaxy, "collection", "install", "--offline", "--collections-path", folder, archive]
    subprocess.run(install, cwd=tmp_path, env=quiet, check=True)
    return folder


def test_the_role_in_another_project_with_a_hostile_parent(docker, policy, installed, tmp_path):
    """No facts, none injected, cleared ones; files, variables and defaults of the same names around it."""
    identifier = docker.run("victim", "--memory", "64m", "--memory-swap", "64m")
    process = docker.first_process(identifier)
    rule = {"name": "more", "match": {"name": "victim"}, "memory_max": "128M", "memory_swap_max": 0}
    known = variables(tmp_path, mode="apply", rules=[rule])
    use = ["--limit", "first", "-e", known]
    project = {"playbook": PROJECTS / "hostile_parent" / "site.yml", "collections": installed}

    applied = policy(*use, **project)
    assert applied.status == 0
    assert "of the parent was taken" not in applied.output
    assert applied.row("victim", "memory_max")[-2] == "applied"
    assert limits(docker, identifier) == same(128 * MIB)
    assert (tmp_path / "state-of-first").is_dir()

    again = policy(*use, **project)
    assert (again.status, again.recap("first")["changed"]) == (0, 0)

    undone = policy(*use, "-e", "container_memory_policy_mode=rollback", **project)
    assert undone.status == 0
    assert limits(docker, identifier) == same(64 * MIB)
    assert docker.first_process(identifier) == process
