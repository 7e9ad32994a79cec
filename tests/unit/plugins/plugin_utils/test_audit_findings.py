# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table, findings.json and JUnit XML: what a reader sees of a fleet, and what a hostile name cannot do."""

import json
import os
import sys
from xml.etree import ElementTree

import pytest
from ansible_collections.oom.forensics.plugins.plugin_utils import _evidence, _findings, _rules, _terminal

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from audit_documents import MIB, NOW, cgroup, document, scope

HOSTILE = "\x1b[2J]]>\x00\ud800\uffff\u202e<&\"'{{ 1 }}\n\x85é☃"
OWN = {"severity": "high", "title": "t", "why": "Because.", "what": "Mend it."}
WRONG = cgroup(name="web", memory_swap_max=100 * MIB, memory_high=None)  # implicit-swap, memory-high-unset


@pytest.fixture
def spool(tmp_path):
    return str(tmp_path / "spool")


def put(spool, name, **changed):
    _evidence.write(spool, name, document(**changed), 10)


def asked(spool, hosts=("web01",), rules=None, min_severity="info"):
    return _findings.Asked(spool, hosts, _rules.load(rules), NOW, min_severity)


def audited(spool, *hosts, max_rows=50, **options):
    """Write both files; the table, the JSON document, and the parsed XML."""
    wanted = asked(spool, hosts, **options)
    table = _findings.Table(max_rows)
    paths = [os.path.join(os.path.dirname(spool), name) for name in ("findings.json", "junit.xml")]
    _findings.write(*paths, wanted, table.watch(_findings.entries(wanted)), table)
    with open(paths[0], encoding="utf-8") as stream:
        found = json.load(stream)
    return table, found, ElementTree.parse(paths[1]).getroot()


def suites(root):
    return {suite.get("name"): suite for suite in root}


def case(suite, name):
    (found,) = [one for one in suite if one.get("name") == name]
    return found


# --- files


def test_json_has_rules_hosts_and_counts(spool):
    put(spool, "web01", cgroups=[WRONG])
    put(spool, "web02")
    _table, found, _root = audited(spool, "web01", "web02", "gone")
    assert found["schema"] == "oom.forensics/findings/1"
    assert found["generated_at"] == NOW
    assert [rule["id"] for rule in found["rules"]] == [rule.id for rule in _rules.load()]
    assert set(found["rules"][0]) == {"id", "severity", "title", "why", "what"}
    hosts = {host["inventory_name"]: host for host in found["hosts"]}
    assert [one["rule"] for one in hosts["web01"]["findings"]] == ["implicit-swap", "memory-high-unset"]
    assert {one["host"] for one in hosts["web01"]["findings"]} == {"web01"}
    assert (hosts["web02"]["status"], hosts["web02"]["findings"], hosts["web02"]["not_evaluated"]) == ("ok", [], [])
    assert [(one["rule"], one["message"]) for one in hosts["gone"]["findings"]] == [
        ("host-not-read", f"missing: There is no evidence of this host in {spool}.")
    ]
    assert {"rule": "implicit-swap", "missing": "cgroups"} in hosts["gone"]["not_evaluated"]
    assert found["summary"] == {
        "hosts_total": 3,
        "hosts_with_findings": 2,
        "hosts_unread": 1,
        "hosts_skipped": 0,
        "findings_total": 3,
        "severities": {"critical": 0, "high": 1, "medium": 1, "low": 1, "info": 0},
        "not_evaluated": {rule["id"]: 1 for rule in found["rules"] if rule["id"] != "host-not-read"},
    }


def test_a_host_is_one_line_of_json(spool):
    for host in ("web01", "web02"):
        put(spool, host, cgroups=[WRONG])
    audited(spool, "web01", "web02")
    with open(os.path.join(os.path.dirname(spool), "findings.json"), encoding="ascii") as stream:
        lines = stream.read().splitlines()
    assert len(lines) == 4
    assert [json.loads(line.rstrip(","))["inventory_name"] for line in lines[1:3]] == ["web01", "web02"]


def test_junit_has_a_suite_per_host_and_a_case_per_rule(spool):
    put(spool, "web01", cgroups=[WRONG, cgroup(scope("b2" * 32), name="db", memory_high=None)])
    put(spool, "web02", cgroups=None)
    _table, _found, root = audited(spool, "web01", "web02")
    assert root.tag == "testsuites"
    web01, web02 = suites(root)["web01"], suites(root)["web02"]
    assert [one.get("name") for one in web01] == [rule.id for rule in _rules.load()]
    total = str(len(_rules.load()))
    assert [web01.get(key) for key in ("tests", "failures", "errors", "skipped")] == [total, "2", "0", "0"]
    assert web01.get("timestamp") == "2026-11-23T13:00:00"
    failure = case(web01, "memory-high-unset").find("failure")
    assert failure.get("type") == "low"
    assert failure.get("message").endswith("memory.max is 100 MiB, and memory.high is not set (and 1 more)")
    lines = failure.text.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["docker web", "docker db"]
    assert lines[-2].startswith("Why: ")
    assert lines[-1].startswith("What to do: ")
    assert len(case(web01, "kill-loop")) == 0
    assert case(web02, "implicit-swap").find("skipped").get("message") == "The evidence lacks cgroups"
    assert int(web02.get("skipped")) > 5


def test_junit_of_findings_that_are_for_information_does_not_fail(spool):
    put(spool, "web01", host={"userspace_oom_killers": ["earlyoom"]})
    _table, found, root = audited(spool, "web01")
    assert found["summary"]["findings_total"] == 1
    assert suites(root)["web01"].get("failures") == "0"
    output = case(suites(root)["web01"], "userspace-killer").find("system-out")
    assert output.text.startswith("earlyoom: it may kill")


def test_junit_of_a_rule_that_failed_is_an_error(spool):
    put(spool, "web01")
    _table, found, root = audited(spool, "web01", rules=[dict(OWN, id="own", offenders="sum(host)")])
    assert [one["rule"] for one in found["hosts"][0]["findings"]] == ["rule-failed"]
    web01 = suites(root)["web01"]
    assert (web01.get("failures"), web01.get("errors")) == ("0", "1")
    assert "sum()" in case(web01, "own").find("error").text


def test_hostile_names_leave_the_files_well_formed(spool):
    rules = [
        dict(
            OWN,
            id="own",
            title=HOSTILE,
            why=HOSTILE,
            what=HOSTILE,
            message="{name}",
            offenders="[host][].{subject: hostname, path: hostname, name: hostname}",
        ),
        dict(OWN, id="bad", offenders="sum(host.hostname)"),
    ]
    put(spool, HOSTILE, host={"hostname": HOSTILE})
    table, found, root = audited(spool, HOSTILE, rules=rules)
    finding = next(one for one in found["hosts"][0]["findings"] if one["rule"] == "own")
    assert finding["subject"] == HOSTILE
    (suite,) = list(root)
    assert suite.get("name") == _terminal.visible(HOSTILE)
    failure = case(suite, "own").find("failure")
    assert "\\x1b[2J]]>\\x00" in failure.text
    assert "\\ud800\\uffff\\u202e<&\"'{{ 1 }}\\n\\x85é☃" in failure.text
    printed = "\n".join(table.lines(200))
    assert "\x1b" not in printed
    assert "\u202e" not in printed
    assert "\\x1b[2J" in printed


def test_findings_below_the_least_severity_are_nowhere(spool):
    put(spool, "web01", cgroups=[WRONG])
    table, found, root = audited(spool, "web01", min_severity="medium")
    assert [one["rule"] for one in found["hosts"][0]["findings"]] == ["implicit-swap"]
    assert "memory-high-unset" not in {one.get("name") for one in suites(root)["web01"]}
    assert table.findings == 1


def test_a_document_that_cannot_be_read_is_a_finding(spool):
    put(spool, "web01")
    with open(_evidence.documents(spool, "web01")[0], "wb") as stream:
        stream.write(b"no gzip")
    _table, found, _root = audited(spool, "web01")
    assert found["hosts"][0]["status"] == "unreadable"
    (finding,) = found["hosts"][0]["findings"]
    assert finding["rule"] == "host-not-read"
    assert "is not gzip data" in finding["message"]


def test_an_unreachable_host_keeps_the_findings_of_what_was_known(spool):
    _evidence.write(
        spool, "web01", _evidence.not_read("web01", "unreachable", "no route", document(cgroups=[WRONG])), 10
    )
    table, found, _root = audited(spool, "web01")
    assert [one["rule"] for one in found["hosts"][0]["findings"]] == [
        "host-not-read",
        "implicit-swap",
        "memory-high-unset",
    ]
    assert table.unread == 1
    assert "(as of 2026-11-23 13:00)" in " ".join(" ".join(table.lines(120)).split())


@pytest.mark.parametrize("name", ["findings.json", "junit.xml"])
def test_a_file_that_is_no_output_of_an_audit_is_left_alone(spool, name):
    put(spool, "web01")
    path = os.path.join(os.path.dirname(spool), name)
    with open(path, "w", encoding="utf-8") as stream:
        stream.write("mine")
    with pytest.raises(_evidence.SpoolError) as refused:
        audited(spool, "web01")
    assert path in str(refused.value)
    with open(path, encoding="utf-8") as stream:
        assert stream.read() == "mine"


def test_outputs_of_an_earlier_audit_are_replaced(spool):
    put(spool, "web01", cgroups=[WRONG])
    audited(spool, "web01")
    put(spool, "web01")
    _table, found, root = audited(spool, "web01")
    assert found["summary"]["findings_total"] == 0
    assert suites(root)["web01"].get("failures") == "0"


def test_a_file_that_cannot_be_written_is_an_error(spool, tmp_path):
    put(spool, "web01")
    (tmp_path / "file").write_text("")
    wanted, table = asked(spool), _findings.Table(5)
    with pytest.raises(_evidence.SpoolError) as refused:
        _findings.write(
            str(tmp_path / "file/findings.json"), str(tmp_path / "junit.xml"), wanted, _findings.entries(wanted), table
        )
    assert "findings.json could not be" in str(refused.value)


# --- the table


def lines(spool, *hosts, width=120, max_rows=50, **options):
    wanted = asked(spool, hosts, **options)
    table = _findings.Table(max_rows)
    for entry in _findings.entries(wanted):
        table.add(entry)
    return table.lines(width)


def test_the_table(spool):
    put(spool, "web01", cgroups=[WRONG])
    put(spool, "db01", host={"userspace_oom_killers": ["earlyoom", "nohang"]})
    assert lines(spool, "web01", "db01", width=110) == [
        "SEVERITY  HOST   SUBJECT      RULE                       FINDING",
        "medium    db01   OOM killers  userspace-killers-compete  earlyoom, nohang run at once",
        "medium    web01  docker web   implicit-swap              100 MiB of memory and as much swap again, as --memory",
        "                                                         without --memory-swap means; the host has 2 GiB of",
        "                                                         swap",
        "low       web01  docker web   memory-high-unset          memory.max is 100 MiB, and memory.high is not set",
        "info      db01   earlyoom     userspace-killer           it may kill before the kernel does",
        "info      db01   nohang       userspace-killer           it may kill before the kernel does",
        "",
        "What to do",
        "userspace-killers-compete  Keep one and disable the others.",
        "implicit-swap              Give --memory-swap the same size as --memory, which means no swap, or the sum that",
        "                           is wanted.",
        "memory-high-unset          Set MemoryHigh= of its unit or scope to some 90 % of the limit.",
        "userspace-killer           Nothing, if it is wanted; see which cgroups and thresholds it watches.",
        "",
        "5 findings on 2 of 2 hosts: 2 medium, 1 low, 2 info.",
    ]


def test_the_table_of_nothing(spool):
    put(spool, "web01")
    assert lines(spool, "web01") == ["", "0 findings on 0 of 1 host."]


def test_what_was_not_evaluated_is_said(spool):
    put(spool, "web01", cgroups=None)
    put(spool, "web02", host={"userspace_oom_killers": None})
    text = " ".join(" ".join(lines(spool, "web01", "web02")).split())
    assert "Not evaluated 1 host: container-survived-kill, container-without-limit," in text
    assert "as the evidence lacks cgroups." in text
    assert (
        "1 host: userspace-killer, userspace-killers-compete, as the evidence lacks host.userspace_oom_killers." in text
    )
    assert "rules not evaluated everywhere." in text


def test_the_worst_are_kept_and_the_rest_is_counted(spool):
    for number in range(40):
        put(spool, f"web{number:02}", cgroups=[WRONG])
    put(spool, "web99", status="failed", error="boom")
    table = lines(spool, *(f"web{number:02}" for number in (*range(40), 99)), max_rows=3)
    assert [line.split()[:2] for line in table[1:]][:1] == [["high", "web99"]]
    assert [line.split()[1] for line in table if line.startswith("medium")] == ["web00", "web01"]
    assert "(78 more findings not shown; findings.json has all of them)" in table
    assert table[-1] == "81 findings on 41 of 41 hosts: 1 high, 40 medium, 40 low; 1 host not read."


def test_of_a_host_that_was_not_read_nothing_else_is_said(spool):
    put(spool, "web01")
    text = "\n".join(lines(spool, "web01", "gone"))
    assert "Not evaluated" not in text
    assert "not evaluated everywhere" not in text
    assert "1 host not read." in text


def test_many_findings_of_one_rule_on_one_host_are_folded(spool):
    names = [f"web{number}" for number in range(9)]
    put(spool, "web01", cgroups=[cgroup(scope(f"{i:064x}"), name=n, memory_high=None) for i, n in enumerate(names)])
    put(spool, "web02", cgroups=[cgroup(scope(f"{i:064x}"), name=n, memory_high=None) for i, n in enumerate(names[:5])])
    table = lines(spool, "web01", "web02", width=160)
    assert [line.split()[1:4] for line in table if line.startswith("low")] == [
        [host, "docker", name] for host in ("web01", "web02") for name in names[:5]
    ]
    assert [line.split()[3] for line in table if "(and 4 more of this rule)" in line] == ["web4"]
    assert "(4 more findings not shown; findings.json has all of them)" in table
    assert table[-1] == "14 findings on 2 of 2 hosts: 14 low."


def test_in_a_narrow_terminal_hosts_and_rules_are_whole_and_the_finding_is_below(spool):
    hosts = [f"web-frontend-{number:02}.example.com" for number in (1, 2)]
    for host in hosts:
        put(spool, host, cgroups=[cgroup(name="web", memory_high=None)])
    assert lines(spool, *hosts, width=80)[:5] == [
        "SEVERITY  HOST                         RULE",
        "low       web-frontend-01.example.com  memory-high-unset",
        "    docker web: memory.max is 100 MiB, and memory.high is not set",
        "low       web-frontend-02.example.com  memory-high-unset",
        "    docker web: memory.max is 100 MiB, and memory.high is not set",
    ]
    assert lines(spool, *hosts, width=120)[1].endswith(
        "docker web  memory-high-unset  memory.max is 100 MiB, and memory.high is not set"
    )


def test_hosts_that_check_mode_left_out_are_counted(spool):
    put(spool, "web01")
    table = _findings.Table(5)
    table.skipped = 2
    assert table.lines(120) == ["", "2 hosts not audited: check mode wrote no evidence of this run."]
    for entry in _findings.entries(asked(spool)):
        table.add(entry)
    assert table.lines(120)[-1].startswith("0 findings on 0 of 1 host; 2 hosts not audited: check mode")
    assert table.counts()["hosts_skipped"] == 2


def test_json_has_no_number_that_json_does_not_know():
    with pytest.raises(ValueError, match="JSON"):
        _findings._json({"a": float("nan")})


@pytest.mark.parametrize("width", [74, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(spool, width):
    put(
        spool,
        "a-very-long-host-name.in.a.very.long.domain.example.com",
        cgroups=[WRONG, cgroup("/" + "x" * 300, memory_high=None)],
    )
    put(spool, "☃" * 40, status="failed", error="☃" * 300)
    table = lines(spool, "a-very-long-host-name.in.a.very.long.domain.example.com", "☃" * 40, width=width)
    assert max(map(_terminal.width_of, table)) <= width


def test_counts_by_severity():
    table = _findings.Table(5)
    table.severities.update(critical=1, high=2, medium=3, low=4, info=5)
    assert [table.at_least(name) for name in _rules.SEVERITIES] == [15, 10, 6, 3, 1]
