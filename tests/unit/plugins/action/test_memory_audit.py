# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action on a prepared spool, in real ansible-playbook runs: exit status, files, and wrong options."""

import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from ansible_collections.oom.forensics.plugins.plugin_utils import _evidence, _rules

HERE = os.path.dirname(os.path.abspath(__file__))
COLLECTIONS = os.path.abspath(os.path.join(HERE, "../../../../.collections"))
sys.path.insert(0, os.path.join(HERE, "..", "plugin_utils"))
from audit_documents import MIB, cgroup, document

WRONG = cgroup(name="web", memory_swap_max=100 * MIB, memory_high=None)  # one of medium, one of low


class Run:
    def __init__(self, done, folder):
        self.status, self.output, self.words = done.returncode, done.stdout, " ".join(done.stdout.split())
        self.folder = folder

    @property
    def findings(self):
        return json.loads((self.folder / "findings.json").read_text())

    @property
    def results(self):
        return json.loads((self.folder / "result.json").read_text())


@pytest.fixture
def play(tmp_path):
    """Run the action on a spool with two hosts, the second of them unreachable; nothing is contacted."""
    now = _evidence.now()
    spool = tmp_path / "spool"
    _evidence.write(str(spool), "web01", document(cgroups=[WRONG], collected_at=now), 5)
    gone = _evidence.not_read("gone", "unreachable", "no route to host", None)
    _evidence.write(str(spool), "gone", gone, 5)

    def run(*arguments, **options):
        (tmp_path / "ansible.cfg").write_text("[inventory]\n")
        tasks = [
            {"oom.forensics.memory_audit": dict({"spool": str(spool)}, **options), "register": "found"},
            {"ansible.builtin.copy": {"content": "{{ found | to_json }}", "dest": str(tmp_path / "result.json")}},
        ]
        (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
        argv = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", *arguments]
        done = subprocess.run(
            [*argv, "-e", f"ansible_python_interpreter={sys.executable}", str(tmp_path / "play.yml")],
            env=dict(
                os.environ,
                ANSIBLE_COLLECTIONS_PATH=COLLECTIONS,
                ANSIBLE_CONFIG=str(tmp_path / "ansible.cfg"),
                ANSIBLE_NOCOLOR="1",
                COLUMNS="160",
            ),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout)
        return Run(done, tmp_path)

    return run


def test_findings_do_not_fail_by_themselves(play):
    run = play()
    assert run.status == 0
    assert "2 hosts: 1 high, 1 medium, 1 low; 1 host not read" in run.words
    assert "unreachable: no route to host" in run.words
    assert {host["inventory_name"]: len(host["findings"]) for host in run.findings["hosts"]} == {"gone": 1, "web01": 2}
    assert len(ElementTree.parse(run.folder / "junit.xml").getroot()) == 2
    result = run.results
    assert result["severities"] == {"critical": 0, "high": 1, "medium": 1, "low": 1, "info": 0}
    assert (result["findings_total"], result["hosts_total"], result["hosts_unread"]) == (3, 2, 1)
    assert result["rules_total"] == len(_rules.load())
    assert result["findings_path"] == str(run.folder / "findings.json")
    assert result["junit_path"] == str(run.folder / "junit.xml")
    assert (result["changed"], result["failed"]) == (False, False)
    assert len(json.dumps(result)) < 4096


@pytest.mark.parametrize(
    ("fail_on", "status", "says"),
    [
        ("critical", 0, "3 findings on 2 of 2 hosts"),
        ("high", 2, "1 finding has the severity high or a worse one"),
        ("low", 2, "3 findings have the severity low or a worse one"),
    ],
)
def test_the_exit_status_is_that_of_the_worst_finding_and_comes_after_the_files(play, fail_on, status, says):
    run = play(fail_on=fail_on)
    assert run.status == status
    assert says in run.words
    assert "implicit-swap" in run.output
    assert run.findings["summary"]["findings_total"] == 3
    assert (run.folder / "junit.xml").is_file()


def test_hosts_and_paths_and_severity(play, tmp_path):
    options = {"findings_path": str(tmp_path / "a/f.json"), "junit_path": "b/j.xml", "min_severity": "medium"}
    run = play(hosts=["web01", "web01", "web02"], fail_on="medium", **options)
    assert run.status == 2
    found = json.loads((tmp_path / "a/f.json").read_text())
    assert [host["inventory_name"] for host in found["hosts"]] == ["web01", "web02"]
    assert [host["status"] for host in found["hosts"]] == ["ok", "missing"]
    assert [one["rule"] for one in found["hosts"][0]["findings"]] == ["implicit-swap"]
    assert ElementTree.parse(tmp_path / "b/j.xml").getroot()[0].get("name") == "web01"
    assert not (tmp_path / "findings.json").exists()


def test_check_mode_prints_and_fails_and_writes_nothing(play):
    run = play("--check", fail_on="high")
    assert run.status == 2
    assert "implicit-swap" in run.output
    assert "not written in check mode" in run.output
    assert not (run.folder / "findings.json").exists()
    assert not (run.folder / "junit.xml").exists()


def test_rules_of_the_user_as_a_file_and_inline(play, tmp_path):
    (tmp_path / "rules.yml").write_text("disable: [host-not-read]\nrules:\n- {id: implicit-swap, severity: critical}\n")
    run = play(rules="rules.yml", fail_on="critical")
    assert run.status == 2
    assert run.findings["summary"]["severities"] == {"critical": 1, "high": 0, "medium": 0, "low": 1, "info": 0}
    assert play(rules={"disable": ["implicit-swap", "memory-high-unset", "host-not-read"]}, fail_on="info").status == 0


def test_hosts_whose_evidence_was_not_written_are_left_out_and_counted(play):
    run = play("--check", hosts=["web01", "gone", "new"], unwritten=["web01", "new"], fail_on="critical")
    assert run.status == 0
    assert "implicit-swap" not in run.output
    assert "There is no evidence of this host" not in run.words
    assert "1 finding on 1 of 1 host: 1 high; 1 host not read; 2 hosts not audited: check mode wrote no" in run.words
    run = play("--check", hosts=["web01", "new"], unwritten=["web01", "new"], fail_on="info")
    assert run.status == 0
    assert "2 hosts not audited: check mode wrote no evidence of this run." in run.words
    assert "finding on" not in run.words


def test_a_wrong_rule_is_told_once(play):
    run = play(rules=[{"id": "kill-loop", "offenders": "events[?"}], rules_only=True)
    assert run.status == 2
    # Ansible itself has it twice at most: as an error, and in the task's result.
    assert run.words.count("in offenders is wrong at its end") in (1, 2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_rows": 0}, "max_rows: 0 is too small; the least is 1."),
        ({"fail_on": "urgent"}, "value of fail_on must be one of"),
        ({"fail_on": "low", "min_severity": "high"}, "fail_on: low is below min_severity, which is high"),
        ({"findings_path": "same", "junit_path": "same"}, "they must differ"),
        (
            {"rules": [{"id": "kill-loop", "offenders": "events[?"}]},
            "rule kill-loop: the expression 'events[?' in offenders is wrong",
        ),
        ({"rules": {"disable": ["nope"]}, "rules_only": True}, "disable names the rule 'nope', which does not exist"),
    ],
)
def test_a_wrong_option_fails_before_anything_is_read_or_written(play, options, says):
    run = play(**options)
    assert run.status == 2
    assert says in run.words
    assert not (run.folder / "findings.json").exists()
    assert not (run.folder / "junit.xml").exists()
    assert "SEVERITY" not in run.output


def test_rules_alone(play):
    run = play(rules_only=True, rules={"disable": ["kill-loop"]})
    assert run.status == 0
    assert run.results["rules_total"] == len(_rules.load()) - 1
    assert "findings_total" not in run.results
    assert not (run.folder / "findings.json").exists()
