# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of a user: what they may change, and how a wrong one is refused before any document is read."""

import builtins
import json
import os
import pathlib
import sys

import pytest
from ansible_collections.oom.forensics.plugins.plugin_utils import _audit, _expressions, _rules

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from audit_documents import NOW, cgroup, document, scope

OWN = {
    "id": "own-rule",
    "severity": "high",
    "title": "Kernel is old",
    "offenders": "[host][?kernel == '6.18.44'].{subject: hostname, kernel: kernel}",
    "why": "It is.",
    "what": "Replace it.",
}
SHIPPED = [rule.id for rule in _rules.load()]


def own(**changed):
    return dict(OWN, **changed)


def without(key):
    return {name: value for name, value in OWN.items() if name != key}


def ids(source):
    return [rule.id for rule in _rules.load(source)]


def rule(source, name):
    return next(rule for rule in _rules.load(source) if rule.id == name)


def refused(source):
    with pytest.raises(_rules.RulesError) as error:
        _rules.load(source)
    message = str(error.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


# --- what a user may do


@pytest.mark.parametrize("nothing", [None, "", [], {}, {"rules": None, "disable": None}])
def test_without_changes_the_shipped_rules(nothing):
    assert ids(nothing) == SHIPPED


def test_the_shipped_rules_are_complete_sentences_the_worst_first():
    rules = _rules.load()
    assert [_rules.rank(rule.severity) for rule in rules] == sorted(
        (_rules.rank(rule.severity) for rule in rules), reverse=True
    )
    for each in rules:
        assert each.message, each.id
        assert each.why.endswith("."), each.id
        assert each.what.endswith("."), each.id
        assert not each.title.endswith("."), each.id


@pytest.mark.parametrize("source", [[OWN], {"rules": [OWN]}])
def test_a_rule_is_added(source):
    assert set(ids(source)) == {*SHIPPED, "own-rule"}
    result = _audit.audit(document(), [rule(source, "own-rule")], NOW)
    assert [(one["subject"], one["message"], one["facts"]) for one in result.findings] == [
        ("vm", "kernel 6.18.44", {"kernel": "6.18.44"})
    ]


def test_rules_are_disabled():
    assert ids({"disable": ["kill-loop", "userspace-killer"]}) == [
        name for name in SHIPPED if name not in ("kill-loop", "userspace-killer")
    ]


def test_a_shipped_rule_gets_another_severity_and_place_and_keeps_the_rest():
    before, after = (
        rule(None, "peak-near-limit"),
        rule([{"id": "peak-near-limit", "severity": "critical"}], "peak-near-limit"),
    )
    assert after.severity == "critical"
    assert (after.expression, after.message, after.why) == (before.expression, before.message, before.why)
    assert ids([{"id": "peak-near-limit", "severity": "critical"}]).index("peak-near-limit") < SHIPPED.index(
        "kills-last-day"
    )


def test_a_shipped_rule_gets_another_expression():
    expression = "cgroups[?utilisation > `0.05`].{subject: label(workload)}"
    assert "{memory_current:size} in its message" in refused([{"id": "usage-near-limit", "offenders": expression}])
    stricter = {"id": "usage-near-limit", "offenders": expression, "message": "a lot"}
    result = _audit.audit(document(), [rule([stricter], "usage-near-limit")], NOW)
    assert [one["subject"] for one in result.findings] == ["docker " + "a1" * 6]
    assert rule([stricter], "usage-near-limit").severity == "high"


def test_a_file(tmp_path, monkeypatch):
    (tmp_path / "rules.yml").write_text("disable: [kill-loop]\nrules:\n  - {id: userspace-killer, severity: low}\n")
    monkeypatch.chdir(tmp_path)
    for path in ("rules.yml", str(tmp_path / "rules.yml")):
        assert "kill-loop" not in ids(path)
        assert rule(path, "userspace-killer").severity == "low"
    (tmp_path / "empty.yml").write_text("---\n")
    assert ids("empty.yml") == SHIPPED


def test_the_example_of_the_page_about_the_rules(tmp_path):
    page = (pathlib.Path(__file__).resolve().parents[4] / "docs/audit_rules.md").read_text(encoding="utf-8")
    path = tmp_path / "rules.yml"
    path.write_text(page.partition("```yaml\n")[2].partition("```")[0])
    assert set(ids(str(path))) == {*SHIPPED, "database-limit-small"} - {"memory-high-unset"}
    database = cgroup()
    database["workload"] = dict(database["workload"], compose_service="db")
    (finding,) = _audit.audit(document(cgroups=[database]), [rule(str(path), "database-limit-small")], NOW).findings
    assert finding["message"] == "only 100 MiB"


# --- what is wrong with rules


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        (5, ["rules must be a list, not a number"]),
        ([5], ["rule number 1", "a mapping, not a number"]),
        ({"rulez": []}, ["'rulez' is unknown", "rules and disable"]),
        ({"rules": {}}, ["rules must be a list, not a mapping"]),
        ({"disable": "kill-loop"}, ["disable must be a list, not text"]),
        ({"disable": [1]}, ["disable must be a list of rule ids, and 1"]),
        (
            {"disable": ["kill-lop"]},
            ["disable names the rule 'kill-lop', which does not exist; did you mean kill-loop?"],
        ),
        ([OWN, OWN], ["own-rule is there twice"]),
        ([{"severity": "low"}], ["rule number 1 has no id"]),
        ([own(id="Own Rule")], ["the id 'Own Rule'"]),
        ([own(id=5)], ["the id 5"]),
        ([own(id="rule-failed")], ["rule-failed"]),
        ([own(id="a" * 65)], ["at most 64"]),
        ([own(colour="red")], ["rule own-rule has the unknown key 'colour'"]),
        ([own(severity="urgent")], ["rule own-rule", "'urgent'", "info, low, medium, high and critical"]),
        ([own(severity=3)], ["rule own-rule has a severity that is no text but a number"]),
        ([own(title=" ")], ["rule own-rule has a title"]),
        ([own(offenders=["a"])], ["rule own-rule has a offenders that is no text but a list"]),
        ([own(needs="cgroups")], ["needs of rule own-rule must be a list, not text"]),
        ([own(needs=[5])], ["rule own-rule has needs with a number"]),
        ([own(message=5)], ["rule own-rule has a message that is no text"]),
        ([own(message="{a.b}")], ["{a.b} in its message"]),
        ([own(message="{a:hex}")], ["{a:hex} in its message", "size, percent and time"]),
        ([own(message="{kernl}")], ["{kernl} in its message, which is no fact of its offenders; did you mean kernel?"]),
        ([own(message="{subject}")], ["{subject} in its message"]),
        ([without("why")], ["own-rule is no shipped rule", "must have why"]),
        ([{"id": "own-rule", "severity": "low"}], ["title, offenders, why and what"]),
        ("/nonexistent/rules.yml", ["/nonexistent/rules.yml could not be read: No such file or directory"]),
        ("/", ["could not be read: Is a directory"]),
    ],
)
def test_it_is_refused_with_one_sentence(source, parts):
    message = refused(source)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("rules: ]", "is not YAML at line 1, column 8"),
        ("rules:\n- id: a\n  id: b\n", "the key 'id' is there twice"),
        ("- !!python/object:os.system {}\n", "is not YAML at line 1"),
        ("a: \x00", "is not YAML"),
        ("- 5\n", "rule number 1 must be a mapping"),
        ("rules: !!map [a, b]\n", "has a value that does not suit its tag"),
        ("- {id: x, severity: !!int ''}\n", "has a value that does not suit its tag"),
        ("- {id: x, severity: !!bool foo}\n", "has a value that does not suit its tag"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name(tmp_path, text, part):
    path = tmp_path / "mine.yml"
    path.write_text(text)
    message = refused(str(path))
    assert str(path) in message
    assert part in message


@pytest.mark.parametrize(
    ("expression", "position", "what"),
    [
        ("cgroups[?", None, "ends too early"),
        ("max_by(cgroups, path)", 1, "max_by() takes an expression reference (&key) as argument 2"),
        ("[host][].label(`[1]`)", 10, "label() takes object or null as argument 1, not array"),
        ("length(&host)", 1, "length() takes string or array or object as argument 1, not expref"),
        ("most_within(a, '10')", 1, "most_within() takes number as argument 2, not string"),
        ("cgroups[?a ==== b]", 14, "'=='"),
        ("cgroups]", 8, "']'"),
        ("cgroups[?name == 'a]", 18, "Unclosed"),
        ("cgroups[?a > `1]", 14, "Unclosed"),
        ("cgroups[?a # b]", 12, "#"),
        ("cgroups[?a = b]", 12, "'='"),
        ("host.kernel | lable(@)", 15, "there is no function lable()"),
        ("cgroups[?label(workload) == 'a' && age_hours() > `1`]", 36, "age_hours() takes 1 argument, not 0"),
        ("length(a, b)", 1, "length() takes 1 argument, not 2"),
        ("merge()", 1, "merge() takes at least 1 argument, not 0"),
        ("[length(a), sort_by(a)]", 13, "sort_by() takes 2 arguments, not 1"),
    ],
)
def test_a_bad_expression_is_refused_with_rule_expression_and_position(expression, position, what):
    message = refused([own(offenders=expression)])
    assert "rule own-rule" in message
    assert repr(expression) in message
    place = "its end" if position is None else f"character {position} of {len(expression)}"
    assert f"is wrong at {place}:" in message, message
    assert what in message, message


def test_bad_expressions_without_a_position():
    assert "is nested too deeply" in refused([own(offenders="(" * 5000 + "a" + ")" * 5000)])
    assert "own-rule" in refused([own(offenders="")])


def test_a_bad_expression_in_needs_is_refused():
    assert "in needs is wrong at its end" in refused([own(needs=["a.["])])


def test_a_function_s_name_in_a_literal_or_field_is_no_call():
    assert "own-rule" in ids([own(offenders="[host][?hostname == 'lable(x)' || lable == `1`].{subject: hostname}")])


def test_without_jmespath_it_says_what_to_install(monkeypatch):
    def refuse(name, *arguments, **options):
        if name.startswith("jmespath"):
            raise ImportError(name)
        return imported(name, *arguments, **options)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(_rules.RulesError) as error:
        _rules.load()
    assert "jmespath" in str(error.value)
    assert "install" in str(error.value)


# --- what the functions do


def value(expression, **changed):
    evaluation = _expressions.Evaluation(document(**changed), "2026-11-24T13:00:00Z")
    return evaluation.search(_expressions.compiled(expression))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("label(cgroups[0].workload)", "docker " + "a1" * 6),
        ("label(`null`)", None),
        ('label(`{"kind": null}`)', None),
        ('label(`{"kind": "container", "engine": "podman", "name": "web", "uid": 1000}`)', "podman web uid 1000"),
        ('label(`{"kind": "unit", "unit": "db.service", "uid": 1000}`)', "db.service uid 1000"),
        ('label(`{"kind": "slice", "slice": "user-1000.slice", "uid": 1000}`)', "user-1000.slice"),
        ("limits_total(`null`)", None),
        ("limits_total(`[]`)", 0),
        ("[host][].document().collected_at", [NOW]),
        ("audited_at()", "2026-11-24T13:00:00Z"),
        ("hours_between(collected_at, audited_at())", 24.0),
        ("age_hours('2026-11-23T12:30:00.000000Z')", 0.5),
        ("age_hours('soon')", None),
        ("age_hours(`null`)", None),
        ("add(`1`, `2`)", 3),
        ("subtract(`1`, `2`)", -1),
        ("multiply(`3`, `2`)", 6),
        ("divide(`3`, `2`)", 1.5),
        ("divide(`3`, `0`)", None),
        ("add(`1`, nothing)", None),
        (
            'groups(`[{"a": "x", "b": 1}, {"a": null}, {"a": "y"}, {"a": "x"}]`, &a)[].[key, length(members)]',
            [["x", 2], ["y", 1]],
        ),
        ("groups(`null`, &a)", None),
        ('among(`[{"a": 1}, {"a": 2}, {"a": null}]`, &a, `[2, null]`)[].a', [2]),
        ('not_among(`[{"a": 1}, {"a": 2}, {"a": null}]`, &a, `[2, null]`)[*].a', [1]),
        ('length(not_among(`[{"a": 1}, {"a": 2}, {"a": null}]`, &a, `[2, null]`))', 2),
        ("not_among(`[1]`, &a, `null`)", None),
        ("most_within(`[]`, `10`)", 0),
        ("most_within(`null`, `10`)", None),
        (
            "most_within(['2026-11-23T12:10:01Z', '2026-11-23T12:00:00Z', '2026-11-23T12:20:00Z', 'soon'], `10`)",
            2,
        ),
        ("workloads(`null`)", None),
    ],
)
def test_function(expression, expected):
    assert value(expression) == expected


def test_workloads_leaves_out_what_is_inside_of_one():
    inside = [
        "/",
        "/system.slice",
        scope(),
        scope() + "/inner",
        scope() + "/inner/init.scope",
        "/system.slice/db.service",
        "/system.slice/db.service/worker",
        "/docker",
        "/docker/" + "b2" * 32,
    ]
    paths = value("workloads(cgroups)[].path", cgroups=[cgroup(path) for path in inside])
    assert paths == [
        "/system.slice",
        scope(),
        scope() + "/inner/init.scope",
        "/system.slice/db.service",
        "/docker",
        "/docker/" + "b2" * 32,
    ]


@pytest.mark.parametrize(
    ("limits", "total"),
    [
        ({"/a": (10, 10), "/b": (20, 20)}, 30),
        ({"/s/a": (30, 30), "/s/b": (30, 30), "/s": (40, 40)}, 40),  # the slice lets no more through
        ({"/s/a": (30, 30), "/s/b": (5, 5), "/s": (40, 40)}, 35),
        ({"/s/a": (None, 40), "/s/b": (None, 40), "/s": (40, 40)}, 40),  # both have only the slice's limit
        ({"/s/a": (50, 40), "/s": (40, 40), "/b": (1, 1)}, 41),
        ({"/s/t/a": (50, 40), "/s/t/b": (9, 9), "/s/t": (None, 40), "/s": (40, 40)}, 40),
        ({"/a": (None, None)}, 0),
        ({"/a" * 3000: (10, 10)}, 0),  # no path of a kernel
    ],
)
def test_limits_add_up_as_far_as_the_ones_above_let_them(limits, total):
    def above(path):
        return path if limits[path][0] == limits[path][1] else "/s"

    cgroups = [
        cgroup(path, memory_max=own_limit, memory_effective_max=least, memory_effective_max_path=above(path))
        for path, (own_limit, least) in limits.items()
    ]
    leaves = " || ".join(f"path == '{path}'" for path in limits if path[-1] in "ab")
    assert value(f"limits_total(cgroups[?{leaves}])", cgroups=cgroups) == total


def test_the_limit_of_a_cgroup_that_is_not_in_the_evidence_counts_once_too():
    under = {"memory_max": None, "memory_effective_max": 40, "memory_effective_max_path": "/s"}
    assert value("limits_total(cgroups)", cgroups=[cgroup("/s/a", **under), cgroup("/s/b", **under)]) == 40


# --- a rule that fails on a document


@pytest.mark.parametrize(
    ("offenders", "part"),
    [
        ("sum(host.sysctls)", "sum()"),
        ("cgroups[?path > `5`]", "TypeError"),
        ("`5`", "it returned int where an object"),
        ("[host.kernel, `[1]`]", "it returned list"),
        ("groups(`[1]`, &keys(@))", "keys()"),
        ("workloads(`[1]`)", "TypeError"),
        ("workloads(`[{}]`)", "KeyError"),
        ("sum(host.enormous)", "JMESPathTypeError"),
    ],
)
def test_it_is_a_finding_as_severe_as_the_rule(offenders, part):
    evidence = document(host={"enormous": 10**5000})  # Python refuses to write it, even into an error
    result = _audit.audit(evidence, [rule([own(offenders=offenders)], "own-rule")], NOW)
    ((finding),) = result.findings
    assert (finding["rule"], finding["severity"], finding["subject"]) == ("rule-failed", "high", "own-rule")
    assert part in finding["message"]
    assert finding["facts"]["expression"] == offenders
    assert result.not_evaluated == []


@pytest.mark.parametrize(
    ("offenders", "subjects"),
    [
        ("host.hostname", ["vm"]),
        ("[host.hostname, host.arch]", ["vm", "x86_64"]),
        ("host.{subject: hostname}", ["vm"]),
        ("host.{kernel: kernel}", ["web01"]),
        ("`[]`", []),
        ("`false`", []),
    ],
)
def test_what_an_expression_may_return(offenders, subjects):
    result = _audit.audit(document(), [rule([own(offenders=offenders)], "own-rule")], NOW)
    assert [one["subject"] for one in result.findings] == subjects
    assert result.not_evaluated == []


def test_null_is_not_evaluated():
    result = _audit.audit(document(), [rule([own(offenders="cgruops[?a]")], "own-rule")], NOW)
    assert result.findings == []
    assert [one["rule"] for one in result.not_evaluated] == ["own-rule"]


def test_rules_below_the_severity_asked_for_are_left_out():
    kinds = {
        one["severity"] for one in _audit.audit(document(status="failed"), _rules.load(), NOW, "critical").findings
    }
    assert kinds == set()
    assert _audit.audit(document(status="failed"), _rules.load(), NOW, "high").findings


def test_names_of_a_host_are_bounded_and_no_template():
    hostile = own(offenders="[host][].{subject: hostname, a: kernel, b: arch}", message="{a} and {b}")
    evidence = document(host={"hostname": "h" * 5000, "kernel": "{b}{{ 1 }}", "arch": "x" * 5000})
    (finding,) = _audit.audit(evidence, [rule([hostile], "own-rule")], NOW).findings
    assert finding["message"].startswith("{b}{{ 1 }} and xxx")
    assert len(finding["message"]) < 1100
    assert len(finding["subject"]) == 200


def nested(depth):
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    "hostile", [float("nan"), float("inf"), 10**400, 10**5000, nested(900)], ids=["nan", "inf", "large", "huge", "deep"]
)
@pytest.mark.parametrize("message", [None, "{value}", "{value:size}", "{value:percent}", "{value:time}"])
def test_a_value_that_is_no_value_ends_no_audit(hostile, message):
    mine = rule([own(offenders="[host][].{value: zram}", message=message)], "own-rule")
    (finding,) = _audit.audit(document(host={"zram": hostile}), [mine], NOW).findings
    assert finding["rule"] == "own-rule"
    json.dumps(finding, allow_nan=False)
    assert len(finding["message"]) < 100


def test_hostile_numbers_and_depths_of_a_host_do_not_end_the_audit():
    numbers = {"swap_total_bytes": 10**400, "memory_total_bytes": float("nan"), "inventory_name": 10**5000}
    evidence = document(
        host=dict(numbers, sysctls={"vm_overcommit_memory": 1}, userspace_oom_killers=[nested(900)], swaps=nested(900)),
        cgroups=[cgroup(memory_current=10**400, utilisation=float("inf"), memory_swap_max=100 << 20)],
    )
    found = _audit.audit(evidence, _rules.load(), NOW).findings
    assert {"implicit-swap", "usage-near-limit", "overcommit-always"} <= {one["rule"] for one in found}
    assert {one["host"] for one in found} == {"vm"}
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("fact", "form", "text"),
    [
        (8 << 20, "size", "8 MiB"),
        (1536, "size", "0.0 MiB"),
        ((8 << 20) + (1 << 19), "size", "8.5 MiB"),
        (100 * (1 << 20) + 1, "size", "100 MiB"),
        (24 << 30, "size", "24 GiB"),
        (2 << 30, "size", "2 GiB"),
        (3 << 29, "size", "1536 MiB"),
        (31 << 29, "size", "15.5 GiB"),
        (0, "size", "0 MiB"),
        (None, "size", "?"),
        ("x", "size", "?"),
        (True, "size", "?"),
        (float("nan"), "size", "?"),
        pytest.param(10**400, "size", "?", id="large-size"),
        (float("-inf"), "percent", "?"),
        pytest.param(10**400, "percent", "?", id="large-percent"),
        (0.907, "percent", "91 %"),
        (None, "percent", "?"),
        (NOW, "time", "2026-11-23 13:00:00"),
        (5, "time", "?"),
        (None, None, "?"),
        (True, None, "yes"),
        (["a", 1, None], None, "a, 1, ?"),
        (1.23456, None, "1.23"),
        ("text", None, "text"),
    ],
)
def test_facts_as_text(fact, form, text):
    assert _audit._FORMATS[form](fact) == text
