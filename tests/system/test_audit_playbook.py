# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""audit_memory.yml as a user runs it: real containers with real limits, a real kill, hosts that are not there.

Needs root, Docker and Podman. What the playbook says is compared with what the containers were started with.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible_collections.oom.forensics.plugins.plugin_utils import _findings
from kernel import why_not

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
MIB = 1 << 20

WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


class Run:
    """What a playbook run printed and left: exit status, output, findings.json, junit.xml."""

    def __init__(self, done, folder):
        self.status, self.output, self.folder = done.returncode, done.stdout, folder
        self.words = " ".join(done.stdout.split())

    @property
    def hosts(self):
        document = json.loads((self.folder / "findings.json").read_text())
        assert document["schema"] == "oom.forensics/findings/1"
        return {host["inventory_name"]: host for host in document["hosts"]}

    def of(self, subject, host="localhost"):
        """The findings about a subject, by rule."""
        return {one["rule"]: one for one in self.hosts[host]["findings"] if one["subject"] == subject}

    def cases(self, host):
        suites = {suite.get("name"): suite for suite in ElementTree.parse(self.folder / "junit.xml").getroot()}
        return {case.get("name"): case for case in suites[host]}


@pytest.fixture
def play(tmp_path):
    def run(*arguments, **environment):
        (tmp_path / "ansible.cfg").write_text("[connection]\npipelining = true\n[inventory]\n")
        known = {
            "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_HOME": str(tmp_path / "home"),
            "COLUMNS": "200",
        }
        spool = f"oom_evidence_spool={tmp_path}/spool"
        done = subprocess.run(
            [str(BIN / "ansible-playbook"), "oom.forensics.audit_memory", "-e", spool, *arguments],
            cwd=tmp_path,
            env=os.environ | known | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        print(done.stdout)
        return Run(done, tmp_path)

    return run


@pytest.fixture
def hosts(tmp_path):
    """This host, and one that is not there."""
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    gone = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": {"gone": gone, "here": here}}}))
    return str(inventory)


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_what_is_wrong_with_each_of_three_containers_by_name(name, play, request):
    engine = request.getfixturevalue(name)
    identifiers = {
        "nolimit": engine.run("nolimit"),
        "small": engine.run("small", "--memory", "8m"),
        "victim": engine.run("victim", "--memory", "64m", "--memory-swap", "64m"),
    }
    # What a container's own start took is not what is wrong with it.
    assert engine.eat_in_child(identifiers["victim"]) == 1
    assert engine.first_process(identifiers["victim"]) > 0

    # All rows: the machine may have other findings, more than the table shows.
    run = play("-e", "memory_audit_fail_on=high", "-e", "memory_audit_max_rows=100000")

    assert run.status == 2
    assert "the severity high or a worse one" in run.words
    found = {each: run.of(f"{name} {each}") for each in identifiers}
    version_2 = (Path("/sys/fs/cgroup") / "cgroup.controllers").exists()
    throttled = {"memory-high-unset"} if version_2 else set()
    assert set(found["nolimit"]) == {"container-without-limit"}
    assert set(found["small"]) - {"peak-near-limit"} == {"implicit-swap"} | throttled
    assert set(found["victim"]) == {"kills-last-day", "container-survived-kill", "peak-near-limit"} | throttled
    for each, findings in found.items():
        assert {finding["path"] for finding in findings.values()} == {engine.cgroup(identifiers[each])}
    assert found["small"]["implicit-swap"]["facts"]["memory_max"] == 8 * MIB
    assert "8 MiB of memory and as much swap again" in found["small"]["implicit-swap"]["message"]
    kill = found["victim"]["kills-last-day"]
    assert (kill["facts"]["events"], kill["facts"]["victim"], kill["facts"]["limit"]) == (1, "tail", 64 * MIB)
    assert kill["severity"] == "high"
    alike = Counter(finding["rule"] for finding in run.hosts["localhost"]["findings"])
    for each, findings in found.items():  # on a busy machine the table has the first findings of a rule only
        assert f"{name} {each}" in run.output or all(alike[rule] > _findings._MOST_ALIKE for rule in findings)
    case = run.cases("localhost")["container-without-limit"]
    assert f"{name} nolimit: no limit" in case.find("failure").text
    assert f"{name} small" not in case.find("failure").text


def test_a_rule_of_the_user_and_no_fail_on_ends_well(docker, play, tmp_path):
    docker.run("nolimit", "--label", "team=shop")
    rules = tmp_path / "rules.yml"
    rules.write_text(
        """
disable: [container-without-limit]
rules:
  - id: shop-without-limit
    severity: critical
    title: The shop has no limit
    offenders: >-
      cgroups[?workload.labels.team == 'shop' && memory_max == `null`].{subject: label(workload), path: path}
    why: It is the shop.
    what: Give it one.
"""
    )
    run = play("-e", f"memory_audit_rules={rules}")
    assert run.status == 0
    assert set(run.of("docker nolimit")) == {"shop-without-limit"}
    assert "What to do" in run.output
    assert "shop-without-limit  Give it one." in run.words or "Give it one." in run.words


def test_a_wrong_rule_ends_the_run_before_any_host_is_asked(play, tmp_path, hosts):
    rules = tmp_path / "rules.yml"
    rules.write_text("- id: kill-loop\n  offenders: 'events[?outcome = 1]'\n")
    run = play("-i", hosts, "-e", f"memory_audit_rules={rules}")
    assert run.status == 2
    assert f"The rules file {rules}: rule kill-loop: the expression 'events[?outcome = 1]' in offenders" in run.words
    assert "is wrong at character 17 of 20" in run.words
    assert "Collect evidence" not in run.output
    assert not (tmp_path / "spool").exists()


def test_a_host_that_is_not_there_is_a_finding_and_fails_the_run(play, hosts):
    run = play("-i", hosts)
    assert run.status == 2
    assert set(run.of("gone", "gone")) == {"host-not-read"}
    assert run.hosts["gone"]["status"] == "unreachable"
    assert run.hosts["here"]["status"] == "ok"
    assert run.cases("gone")["host-not-read"].find("failure").text.startswith("gone: unreachable: ")
    assert run.cases("gone")["container-without-limit"].find("skipped") is not None
    assert "gone was not read; its finding in the table above says why" in run.words
    assert "here was not read" not in run.words


def test_check_mode_audits_nothing_and_says_so(play, tmp_path):
    """It writes no evidence, so that there is none of this run; what an earlier one left would be told as its own."""
    for _before_and_after_a_run in (1, 2):
        run = play("--check", "-e", "memory_audit_fail_on=info")
        assert run.status == 0
        assert "1 host not audited: check mode wrote no evidence of this run." in run.words
        assert "host-not-read" not in run.output
        assert "SEVERITY" not in run.output
        assert not (tmp_path / "findings.json").exists()
        if not (tmp_path / "spool").exists():
            assert play().status == 0
            (tmp_path / "findings.json").unlink()


def test_check_mode_fails_for_a_host_that_is_not_there(play, hosts):
    run = play("-i", hosts, "--check")
    assert run.status == 2
    assert "2 hosts not audited: check mode wrote no evidence of this run." in run.words
    assert "gone was not read; what it failed with is above." in run.words
    assert "here was not read" not in run.words
