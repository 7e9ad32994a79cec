# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter: one document and several, options, wrong input, and a run inside a real template."""

import json
import os
import subprocess
import sys

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.oom.forensics.plugins.filter.audit_memory import audit_memory

HERE = os.path.dirname(os.path.abspath(__file__))
COLLECTIONS = os.path.abspath(os.path.join(HERE, "../../../../.collections"))
sys.path.insert(0, os.path.join(HERE, "..", "plugin_utils"))
from audit_documents import MIB, NOW, cgroup, document

WRONG = document(cgroups=[cgroup(name="web", memory_swap_max=100 * MIB, memory_high=None)])


def rules_of(findings):
    return [finding["rule"] for finding in findings]


def test_one_document_and_a_list_of_them():
    one = audit_memory(WRONG, reference_time=NOW)
    assert rules_of(one) == ["implicit-swap", "memory-high-unset"]
    assert set(one[0]) == {"rule", "severity", "title", "host", "subject", "path", "message", "why", "what", "facts"}
    assert (one[0]["host"], one[0]["subject"]) == ("web01", "docker web")
    other = document(host={"inventory_name": "db01"}, cgroups=WRONG["cgroups"])
    assert [finding["host"] for finding in audit_memory([WRONG, other], reference_time=NOW)] == ["web01"] * 2 + [
        "db01"
    ] * 2
    assert audit_memory([]) == []


def test_options():
    assert rules_of(audit_memory(WRONG, min_severity="medium", reference_time=NOW)) == ["implicit-swap"]
    assert rules_of(audit_memory(WRONG, rules={"disable": ["implicit-swap"]}, reference_time=NOW)) == [
        "memory-high-unset"
    ]
    changed = audit_memory(WRONG, rules=[{"id": "memory-high-unset", "severity": "critical"}], reference_time=NOW)
    assert rules_of(changed) == ["memory-high-unset", "implicit-swap"]


@pytest.mark.parametrize("reference", ["2026-11-30T13:00:00Z", 1796043600, 1796043600.0])
def test_the_reference_time_says_how_old_the_evidence_is(reference):
    assert rules_of(audit_memory(document(), reference_time=reference)) == ["evidence-stale"]
    assert audit_memory(document(), reference_time=NOW) == []


@pytest.mark.parametrize(
    ("data", "options", "named"),
    [
        (None, {}, "schema oom.forensics/evidence/1"),
        ("x", {}, "schema"),
        ({}, {}, "schema"),
        ([document(), 5], {}, "schema"),
        (document(events=object()), {}, "object is no JSON value"),
        (WRONG, {"min_severity": "bad"}, "min_severity 'bad'"),
        (WRONG, {"min_severity": None}, "min_severity"),
        (WRONG, {"rules": [{"id": "x"}]}, "x is no shipped rule"),
        (WRONG, {"rules": [{"id": "kill-loop", "offenders": "a["}]}, "rule kill-loop: the expression 'a['"),
        (WRONG, {"reference_time": "soon"}, "reference_time"),
        (WRONG, {"reference_time": []}, "reference_time"),
        (WRONG, {"reference_time": 1e300}, "reference_time"),
        (WRONG, {"reference_time": float("nan")}, "reference_time"),
    ],
)
def test_wrong_arguments_name_the_filter_and_what_is_wrong(data, options, named):
    with pytest.raises(AnsibleFilterError) as refused:
        audit_memory(data, **options)
    assert "oom.forensics.audit_memory" in str(refused.value)
    assert named in str(refused.value)


def test_a_document_that_is_nested_too_deeply_is_refused():
    deep = []
    for _level in range(2000):
        deep = [deep]
    with pytest.raises(AnsibleFilterError, match="nested"):
        audit_memory(document(events=deep))


def test_bytes_that_are_no_text_give_strict_utf8():
    found = audit_memory(document(host={"userspace_oom_killers": ["b\udcffse"]}), reference_time=NOW)
    assert rules_of(found) == ["userspace-killer"]
    json.dumps(found, ensure_ascii=False).encode("utf-8")


def test_in_a_template_with_tagged_values(tmp_path):
    """Play variables are subclasses of str, list and int since ansible-core 2.19, of which jmespath knows none."""
    (tmp_path / "ansible.cfg").write_text("")
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"evidence": WRONG, "now": NOW, "own": {"disable": ["implicit-swap"]}, "number": 7},
        "tasks": [
            {
                "ansible.builtin.assert": {
                    "that": [
                        "(evidence | oom.forensics.audit_memory(reference_time=now)).0.rule == 'implicit-swap'",
                        "(evidence | oom.forensics.audit_memory(reference_time=now)).0.facts.memory_max == 104857600",
                        "([evidence] | oom.forensics.audit_memory(rules=own, reference_time=now)) | length == 1",
                    ]
                }
            },
            {"ansible.builtin.debug": {"msg": "{{ number | oom.forensics.audit_memory }}"}},
        ],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(tmp_path / "play.yml")],
        env=dict(
            os.environ,
            ANSIBLE_COLLECTIONS_PATH=COLLECTIONS,
            ANSIBLE_CONFIG=str(tmp_path / "ansible.cfg"),
            ANSIBLE_NOCOLOR="1",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert "All assertions passed" in done.stdout, done.stdout
    assert "oom.forensics.audit_memory: the input must be a document" in " ".join(done.stdout.split())
