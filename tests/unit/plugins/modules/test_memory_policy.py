# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of memory_policy as they are understood, and its result: the same keys always, and small enough."""

import json

import pytest
from ansible_collections.oom.forensics.plugins.module_utils import _policy_result, _policy_spec
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_work import Answer
from ansible_collections.oom.forensics.plugins.module_utils._options import OptionError
from ansible_collections.oom.forensics.plugins.module_utils._policy.model import (
    OUTCOMES,
    SETTINGS,
    Ability,
    Change,
    PolicyError,
    Risk,
    Step,
    Survives,
    Target,
    Usage,
)

MIB = 1 << 20


def params(**given):
    """Options as Ansible hands them over: what was not given is null, below a rule too."""
    found = {name: option.get("default") for name, option in _policy_spec.POLICY_SPEC.items()}
    found.update(given)
    found["rules"] = [rule(**each) for each in found["rules"]]
    return found


def rule(**given):
    options = _policy_spec.POLICY_SPEC["rules"]["options"]
    found = {name: option.get("default") for name, option in options.items()}
    found.update(given, match=dict(dict.fromkeys(options["match"]["options"]), **given.get("match", {})))
    return found


# --- options


def test_what_was_not_given_is_no_part_of_a_rule():
    policy = _policy_spec.request(
        params(rules=[{"name": "web", "match": {"name": "web-*"}, "memory_max": "64M"}]), False
    ).policy
    (web,) = policy.rules
    assert (set(web.settings), web.exempt, set(web.conditions)) == ({"memory_max"}, False, {"name"})
    assert policy.default is None


def test_a_default_alone_is_a_policy():
    settings = dict(dict.fromkeys(SETTINGS), memory_max="peak * 1.5")
    policy = _policy_spec.request(params(default=settings), False).policy
    assert (policy.rules, set(policy.default.settings)) == ((), {"memory_max"})


def test_options_are_handed_on():
    asked = _policy_spec.request(
        params(
            default={"memory_max": "1G"},
            reserve="1G",
            force=["below_peak"],
            refused="skip",
            unsupported="skip",
            lasting=False,
            state_path="/srv/state",
            lock_timeout=3,
        ),
        True,
    )
    assert (asked.reserve, asked.force, asked.refused, asked.unsupported) == ("1G", ["below_peak"], "skip", "skip")
    assert (asked.lasting, asked.store.directory, asked.lock_timeout, asked.check) == (False, "/srv/state", 3, True)


@pytest.mark.parametrize("state", ["verified", "rolled_back"])
def test_what_looks_back_needs_no_rules(state):
    assert _policy_spec.request(params(state=state), False).policy.rules == ()


@pytest.mark.parametrize(
    "given,error,message",
    [
        ({}, OptionError, "rules: there is no rule, and no default; a policy needs one of them."),
        ({"state": "applied", "default": {}}, OptionError, "rules: there is no rule, and no default"),
        ({"state": "applied", "default": dict.fromkeys(SETTINGS)}, OptionError, "rules: there is no rule"),
        ({"rules": [{"name": "web", "memory_max": "1G"}]}, PolicyError, "Rule web has no match"),
        ({"rules": [{"name": "web", "match": {"name": "x"}}]}, PolicyError, "Rule web sets nothing"),
        (
            {"state": "verified", "rules": [{"name": "web", "match": {"name": "x"}}]},
            PolicyError,
            "Rule web sets nothing",
        ),
        ({"window": -1}, OptionError, "window: -1 is out of range; it takes 0 to 86400."),
        ({"max_pressure": 100.5}, OptionError, "max_pressure: 100.5 is out of range; it takes 0 to 100."),
        ({"lock_timeout": -1}, OptionError, "lock_timeout: -1 is out of range"),
        ({"max_result_bytes": 5}, OptionError, "max_result_bytes: 5 is out of range; it takes 16384 to 16777216."),
        ({"state_path": "var/state"}, OptionError, "state_path: 'var/state' is no whole path; begin with a slash."),
    ],
)
def test_options_that_are_refused(given, error, message):
    with pytest.raises(error) as caught:
        _policy_spec.request(params(**given), False)
    assert str(caught.value).startswith(message)


# --- the result


def change(number=0, outcome="applied", label="docker web", wanted=64 * MIB, effective=None, path="/docker/4f"):
    ability = Ability(None, True, "`docker update`", Survives(True, True, True))
    step = Step(
        "memory_max",
        32 * MIB,
        True,
        None,
        effective,
        wanted,
        "64M",
        outcome not in ("unchanged", "exempt"),
        False,
        ability,
    )
    target = Target(
        manager="docker",
        identity="{0:064x}".format(number),
        label=label,
        workload={"kind": "container", "engine": "docker", "name": "web"},
        path=path,
        unit=None,
        cgroup_version=2,
        stored={},
        effective={"memory_max": effective},
        usage=Usage(None, None, None, None),
        abilities={},
        critical=False,
        infrastructure=False,
    )
    risk = Risk("below_peak", "It is below the peak.", True)
    return Change(target, "web", (step,), (risk,), ("memory_min is not to be had.",), outcome, "It is so.")


def shape(*changes, **options):
    answer = Answer(list(changes), changed=options.get("changed", True), failure=options.get("failure"))
    return _policy_result.shape(answer, "applied", options.get("diff", False), options.get("room", 262144))


def test_a_row_has_all_that_is_known_of_a_change():
    (row,) = shape(change())["changes"]
    assert row == {
        "label": "docker web",
        "manager": "docker",
        "identity": "0" * 64,
        "kind": "container",
        "engine": "docker",
        "name": "web",
        "unit": None,
        "path": "/docker/4f",
        "rule": "web",
        "outcome": "applied",
        "message": "It is so.",
        "risks": [{"name": "below_peak", "message": "It is below the peak.", "forced": True}],
        "left_out": ["memory_min is not to be had."],
        "steps": [
            {
                "setting": "memory_max",
                "declared": 32 * MIB,
                "stored": None,
                "effective": None,
                "wanted": 64 * MIB,
                "expression": "64M",
                "changes": True,
                "drifted": False,
                "live": True,
                "how": "`docker update`",
                "survives": {"workload_restart": True, "engine_restart": True, "host_restart": True},
            }
        ],
    }


@pytest.mark.parametrize("state", ["planned", "applied", "verified", "rolled_back"])
def test_the_same_keys_whatever_happened(state):
    failed = _policy_result.shape(Answer([], False, failure="No."), state, False, 262144)
    made = _policy_result.shape(
        Answer(
            [change()],
            True,
            run="000001-20261122T215030Z",
            interrupted={"run": "x", "started": "y", "done": 1, "open": 0},
            limits={"before_bytes": 1, "after_bytes": 2, "memory_total_bytes": 3, "reserve_bytes": 4},
            watched={
                "kills": {"counted": 0, "in_changed": 0, "elsewhere": 0, "unattributed": 0},
                "pressure": {"source": "cgroup", "highest": []},
                "violations": [],
                "ended": [],
                "seconds": 1.0,
            },
        ),
        state,
        False,
        262144,
    )
    assert set(failed) == set(made)
    assert all(set(failed[key]) == set(made[key]) for key in ("counts", "limits", "kills", "pressure"))
    assert set(made["counts"]) == set(OUTCOMES) | {"unmatched"}
    assert failed["msg"] == "No."


def test_the_summary_counts():
    assert shape(change(), change(1), change(2, "unchanged"))["msg"] == "Workloads: 1 unchanged, 2 applied."
    assert (
        _policy_result.shape(Answer([], False), "rolled_back", False, 262144)["msg"] == "There is nothing to roll back."
    )
    assert _policy_result.shape(Answer([], False), "planned", False, 262144)["msg"] == "Workloads: none."


def test_what_does_not_fit_is_left_out_and_unchanged_ones_first():
    changes = [change(number, "unchanged" if number % 2 else "applied") for number in range(100)]
    result = shape(*changes, room=16384)
    assert len(json.dumps(result)) <= 16384
    assert (result["truncated"], {row["outcome"] for row in result["changes"]}) == (True, {"applied"})
    assert [row["identity"] for row in result["changes"]] == sorted(row["identity"] for row in result["changes"])
    assert (result["counts"]["applied"], result["counts"]["unchanged"]) == (50, 50)

    result = shape(*changes, room=60000)
    assert [row["outcome"] for row in result["changes"]].count("applied") == 50
    assert 0 < [row["outcome"] for row in result["changes"]].count("unchanged") < 50
    assert shape(*changes)["truncated"] is False


def test_one_that_is_too_large_does_not_push_the_others_out():
    changes = [change(0, label="x" * 20000)] + [change(number) for number in range(1, 4)]
    result = shape(*changes, room=16384)
    assert ([row["identity"][-1] for row in result["changes"]], result["truncated"]) == (["1", "2", "3"], True)


def test_the_diff_fits_too():
    result = shape(*[change(number) for number in range(100)], diff=True, room=16384)
    assert len(json.dumps(result)) <= 16384
    assert len(result["diff"]) == len(result["changes"]) > 5


def test_a_diff_of_what_changes():
    result = shape(
        change(), change(1, "unchanged"), change(2, "refused"), change(3, wanted=None, effective=7), diff=True
    )
    header = "docker web (/docker/4f)"
    assert result["diff"] == [
        {
            "before_header": header,
            "after_header": header,
            "before": "memory_max: max\n",
            "after": "memory_max: {0}\n".format(64 * MIB),
        },
        {"before_header": header, "after_header": header, "before": "memory_max: 7\n", "after": "memory_max: max\n"},
    ]
    assert "diff" not in shape(change())


def test_a_hostile_name_reaches_no_terminal_and_breaks_no_json():
    name = "docker \x1b[2J\n{{ x }}\udc80"
    result = shape(change(label=name), diff=True)
    json.dumps(result).encode("utf-8")
    result["changes"][0]["label"].encode("utf-8")
    header = result["diff"][0]["before_header"]
    assert header.isprintable() and "[2J" in header
